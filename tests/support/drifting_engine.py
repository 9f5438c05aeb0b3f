"""The engine on a machine that becomes slow between the table of a latency target and the measurement of the result."""

import sys
from collections.abc import Mapping
from typing import Any

from pruning.events import Event, Events, ShouldStop
from tests.support.workclock import WorkClock
from worker.child import prune_stage
from worker.stage import run_stage


def drifting_stage(parameters: Mapping[str, Any], events: Events, should_stop: ShouldStop) -> dict[str, Any]:
    """Run the engine; from the step `measure` on every forward pass takes a second more."""
    clock = WorkClock()

    def heard(event: Event) -> None:
        if event.type == "phase" and event.data["step"] == "measure":
            clock.overhead = 1.0
        events(event)

    with clock.running():
        return prune_stage(parameters, heard, should_stop)


if __name__ == "__main__":
    sys.exit(run_stage(drifting_stage))
