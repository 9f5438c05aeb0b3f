"""What a training stage says and obeys while it runs: progress, checkpoints by time, and stopping."""

import time
from typing import Any, Protocol

from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pruning.errors import Canceled
from pruning.events import Event, Events, Phase, ShouldStop

_SECONDS_BETWEEN_EVENTS = 1.0
_SMOOTHING = 0.05


class _Metrics(Protocol):
    def metrics(self) -> dict[str, float]: ...

    def advance(self, step: int, total: int) -> None: ...

    def observe(self) -> None: ...


class Watch(TrainerCallback):
    """Looks at the clock after every step; never counts steps, whose length is unknown."""

    def __init__(
        self,
        events: Events,
        should_stop: ShouldStop,
        phase: Phase,
        span: tuple[float, float],
        extension: _Metrics | None,
        checkpoint_seconds: float,
    ) -> None:
        self.events = events
        self.should_stop = should_stop
        self.phase = phase
        self.span = span
        self.extension = extension
        self.checkpoint_seconds = checkpoint_seconds
        self.preempted = False
        self._mean: Tensor | None = None
        self._told = self._saved = time.monotonic()

    @property
    def loss(self) -> float:
        """Running mean of the loss over about the last 20 steps."""
        return 0.0 if self._mean is None else float(self._mean)

    def seen(self, loss: Tensor) -> None:
        """Take one step's loss; stays on the device, so that nothing waits for it."""
        self._mean = loss if self._mean is None else self._mean.lerp(loss, _SMOOTHING)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say that the stage began, or where it goes on."""
        self._tell(state, 0.0)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Set the extension's schedules for the step that comes."""
        if self.extension is not None:
            self.extension.advance(state.global_step, state.max_steps)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the extension the gradients of the step."""
        if self.extension is not None:
            self.extension.observe()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        lr_scheduler: Any = None,
        **_: Any,
    ) -> None:
        """Stop, save or tell, whatever is due."""
        if state.global_step >= state.max_steps:
            self._tell(state, 0.0)
            return
        reason = self.should_stop()
        if reason == "cancel":
            raise Canceled(f"Canceled while {self.phase} at step {state.global_step}.")
        self.preempted = reason == "preempt"
        now = time.monotonic()
        if self.preempted or now - self._saved >= self.checkpoint_seconds:
            control.should_save = True
            control.should_training_stop = self.preempted
        if now - self._told >= _SECONDS_BETWEEN_EVENTS:
            self._tell(state, lr_scheduler.get_last_lr()[0])

    def saved(self, step: int, size: int) -> None:
        """Note a checkpoint of `size` bytes."""
        self._saved = time.monotonic()
        self.events(Event("checkpoint", {"step": step, "bytes": size}))

    def _tell(self, state: TrainerState, rate: float) -> None:
        self._told = time.monotonic()
        start, end = self.span
        data: dict[str, Any] = {
            "phase": self.phase,
            "fraction": start + (end - start) * state.global_step / max(state.max_steps, 1),
            "message": f"step {state.global_step} of {state.max_steps}",
            "step": state.global_step,
            "learning_rate": rate,
        }
        if self._mean is not None:
            data["loss"] = self.loss
        self.events(Event("progress", data | (self.extension.metrics() if self.extension else {})))
