"""What a search for `max_quality_drop` saves by measuring once: its seconds of pruning against those of single jobs.

PRUNERY_DATA=FOLDER python -m benchmarks.measure_once --methods fisher kcm kprune

Each method searches with `--candidates` cuts, then a job of its own makes one cut at 0.5; the time of that many such
jobs is what the search would have taken. Seconds are processor time of cutting alone, without evaluation.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cells import DATASET, MODEL, data_folder
from pruning import prune
from pruning.events import Event
from pruning.spec import Evaluation, PruneSpec

METHODS: dict[str, dict[str, Any]] = {
    "fisher": {"method": "fisher"},
    "kcm": {"method": "kcm", "granularity": "neuron"},
    "kprune": {"method": "kprune", "settings": {"selection": "once", "representation_weight": 1.0}},
    "kprune-each": {"method": "kprune"},
}
HEADER = "| method | cuts | search, CPU s of cutting | single cuts, CPU s | saved |"


class Stopwatch:
    """Adds up the processor time between a step of cutting and the step after it, and ends the job behind the last."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def __call__(self, event: Event) -> None:
        """Hear an event of a job."""
        if event.type != "phase":
            return
        now, step = time.process_time(), event.data["step"]
        if self._since is not None:
            self.seconds += now - self._since
        self._since = now if step == "prune" or step.startswith("cut-") else None
        if step == "pruned":
            raise _CutError


class _CutError(Exception):
    """The model is cut, which is all that is timed."""


def timed(spec: PruneSpec) -> float:
    """Seconds of cutting in a job."""
    watch, root = Stopwatch(), data_folder()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_CutError):
        prune(spec, root / MODEL, root / DATASET, Path(folder), watch)
    return watch.seconds


def main() -> None:
    """Print one line per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--rows", type=int, default=256, help="rows (fisher, kcm) or 25 tokens each (kprune)")
    options = parser.parse_args()
    print(HEADER)
    print("|---" * 5 + "|")
    for name in options.methods:
        fields = dict(METHODS[name])
        rows = {"calibration_rows": options.rows}
        tokens = {"calibration_tokens": 25 * options.rows}
        size = tokens if fields["method"] == "kprune" else rows
        fields["settings"] = fields.get("settings", {}) | size
        fields |= {"max_length": 64, "evaluate": Evaluation(latency=False, max_rows=64), "device": "cpu"}
        search = timed(PruneSpec(max_quality_drop=100, quality_candidates=options.candidates, **fields))
        single = timed(PruneSpec(target_ratio=0.5, **fields))
        alone = options.candidates * single
        saved = f"{100 * (1 - search / alone):.0f} %"
        print(f"| {name} | {options.candidates} | {search:.1f} | {alone:.1f} | {saved} |", flush=True)


if __name__ == "__main__":
    main()
