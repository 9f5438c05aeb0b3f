"""What the engine says while it works, and how it is asked to stop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Phase = Literal[
    "loading", "finetuning", "calibrating", "pruning", "recovering", "evaluating", "exporting", "measuring"
]
EventType = Literal["phase", "progress", "metric", "warning", "checkpoint"]


@dataclass(frozen=True)
class Event:
    """One thing the engine says while it works. All data is JSON.

    phase {"phase"}; progress {"phase", "fraction" 0..1 of the whole job, "message", ...current metrics};
    metric {"name", "value", "step"}; warning {"code", "message"}; checkpoint {"step", "bytes"}.
    """

    type: EventType
    data: dict[str, Any] = field(default_factory=dict)


StopReason = Literal["cancel", "preempt"]

Events = Callable[[Event], None]
ShouldStop = Callable[[], StopReason | None]
"""None: go on. "cancel": leave at once. "preempt": save a checkpoint first, somebody continues it later."""
