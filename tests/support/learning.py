"""One run of a method that prunes while it trains, on a tiny model, without the job around it."""

from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from pruning.events import Event, StopReason
from pruning.methods import METHODS, Context, Outcome, create
from pruning.planning.costs import ModelShape
from pruning.spec import PruneSpec
from pruning.training.group import ALONE, Group
from tests.support.training import Classroom

STEPS = 12
SETTINGS = {"max_steps": STEPS, "batch_size": 8, "learning_rate": 1e-3}

LEARNED = sorted(name for name, method in METHODS.items() if method.needs_training)
"""Every method that prunes while it trains."""


class Run:
    """A model and a request; `stop_after` asks the run to be preempted after so many steps."""

    def __init__(
        self,
        method: str,
        room: Classroom,
        work: Path,
        *,
        stop_after: int | None = None,
        group: Group = ALONE,
        dropout: float = 0.1,
        **request: Any,
    ) -> None:
        self.room = room
        self.work = work
        self.stop_after = stop_after
        self.spec = PruneSpec(method=method, **{"target_ratio": 0.6, "distill": False} | request)
        self.model: PreTrainedModel = room.model(dropout=dropout)
        self.group = group
        self.shape = ModelShape.from_config(self.model.config.to_dict())
        self.events: list[Event] = []
        self._asked = 0

    def prune(self, **settings: Any) -> Outcome:
        method = create(self.spec.method, SETTINGS | settings)
        return method.prune(self.context())

    def prune_once(self, **settings: Any) -> Outcome:
        """By a method that does not train."""
        return create(self.spec.method, settings).prune(self.context())

    def context(self) -> Context:
        return Context(
            spec=self.spec,
            plan=cast(Any, None),
            shape=self.shape,
            model=self.model,
            task=self.room.task,
            train=self.room.rows,
            teacher_dir=None,
            device=torch.device("cpu"),
            work=self.work,
            events=self.events.append,
            should_stop=self._should_stop,
            span=(0.0, 1.0),
            mean_length=self.room.rows.mean_length,
            group=self.group,
        )

    def _should_stop(self) -> StopReason | None:
        self._asked += 1
        return "preempt" if self._asked == self.stop_after else None
