"""The stage that prunes: the only module of the service that imports the engine, and with it torch."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pruning.events import Events, ShouldStop
from pruning.spec import PruneSpec
from worker.stage import run_stage


def prune_stage(parameters: Mapping[str, Any], events: Events, should_stop: ShouldStop) -> dict[str, Any]:
    """Run the engine with `parameters` (spec, and the folders model, dataset, teacher, out); returns its report."""
    from pruning.run import prune

    teacher = parameters["teacher"]
    report = prune(
        PruneSpec.model_validate(parameters["spec"]),
        Path(parameters["model"]),
        Path(parameters["dataset"]),
        Path(parameters["out"]),
        events,
        should_stop,
        teacher_dir=None if teacher is None else Path(teacher),
    )
    return report.model_dump(mode="json")


if __name__ == "__main__":
    sys.exit(run_stage(prune_stage))
