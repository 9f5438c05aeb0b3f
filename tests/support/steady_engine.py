"""The slow engine for jobs that came over HTTP, whose requests cannot tell it what to do: ten steps each."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pruning.events import Events, ShouldStop
from tests.support.slow_engine import slow_stage
from worker.stage import run_stage

STEPS = 10


def steady_stage(parameters: Mapping[str, Any], events: Events, should_stop: ShouldStop) -> dict[str, Any]:
    """A job called by its id; the trace is beside the folders of all jobs."""
    job = Path(parameters["out"]).parents[2]
    settings = {"name": job.name, "steps": STEPS, "step_seconds": 0.1, "trace": str(job.parents[1] / "trace")}
    return slow_stage(dict(parameters) | {"spec": {"settings": settings}}, events, should_stop)


if __name__ == "__main__":
    sys.exit(run_stage(steady_stage))
