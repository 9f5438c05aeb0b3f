"""Random rows for a tiny model, and the context in which methods without retraining work on them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from pruning.data.labels import Labels
from pruning.events import Event, StopReason
from pruning.methods import Context
from pruning.planning.costs import ModelShape
from pruning.planning.plan import Plan
from pruning.spec import PruneSpec
from pruning.training.tasks import Classification, Encoded, Regression, Task


def random_rows(model: PreTrainedModel, rows: int = 96, longest: int = 12, seed: int = 0) -> Encoded:
    """Rows of random tokens and different lengths; the labels are NaN, so whoever reads them is found out."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, longest + 1, rows)
    tokens = generator.integers(5, model.config.vocab_size, lengths.sum()).astype(np.int32)
    return Encoded(
        tokens=tokens,
        segments=None,
        offsets=np.concatenate([[0], lengths.cumsum()]),
        labels=np.full(rows, np.nan),
        pad_token=model.config.pad_token_id or 0,
    )


def labelled_rows(model: PreTrainedModel, rows: int = 96, *, flip: bool = False) -> Encoded:
    """The same rows with labels that depend on their first token: a class, or a value where there is one output."""
    found = random_rows(model, rows)
    first = found.tokens[found.offsets[:-1]].astype(np.int64)
    outputs = model.config.num_labels
    labels = first / model.config.vocab_size if outputs == 1 else (first + flip) % outputs
    return replace(found, labels=labels)


def context(
    model: PreTrainedModel,
    work: Path,
    *,
    rows: Encoded | None = None,
    ratio: float = 0.5,
    measure: str = "flops",
    granularity: str = "structured",
    allocation: str = "global",
    seed: int = 0,
    events: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], StopReason | None] = lambda: None,
    task: Task | None = None,
) -> Context:
    """The context of a run on `model`, by default one with one output (regression) or more for a row."""
    train = rows or random_rows(model)
    regression = model.config.num_labels == 1
    names = () if regression else tuple(map(str, range(model.config.num_labels)))
    labels = Labels(names, {name: int(name) for name in names}, trained=True)
    return Context(
        spec=PruneSpec(
            target_ratio=ratio,
            target_measure=measure,
            granularity=granularity,
            allocation=allocation,
            seed=seed,
        ),
        plan=Plan.model_construct(),
        shape=ModelShape.from_config(model.config.to_dict()),
        model=model,
        task=task or (Regression(labels) if regression else Classification(labels)),
        train=train,
        teacher_dir=None,
        device=torch.device("cpu"),
        work=work,
        events=events,
        should_stop=should_stop,
        span=(0.0, 1.0),
        mean_length=train.mean_length,
    )
