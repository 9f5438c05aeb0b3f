"""What a search for `max_quality_drop` saves by measuring once: its seconds of pruning against those of single jobs.

PRUNERY_DATA=FOLDER python -m benchmarks.measure_once --methods fisher kcm kprune

Each method searches with `--candidates` cuts, then a job of its own makes the first of these cuts anew; the time of that
many such jobs is what the search would have taken. Seconds are processor time of cutting alone, without evaluation.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cells import MODEL, data_folder
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


def timed(run: Callable[[Stopwatch], object]) -> float:
    """Seconds of cutting in a job."""
    watch = Stopwatch()
    try:
        run(watch)
    except _CutError:
        return watch.seconds
    raise AssertionError("the job has no step behind its cut")


def main() -> None:
    """Print one line per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--rows", type=int, default=256, help="rows (fisher, kcm) or 25 tokens each (kprune)")
    options = parser.parse_args()
    root = data_folder()
    print(HEADER)
    print("|---" * 5 + "|")
    for name in options.methods:
        fields = dict(METHODS[name])
        rows = {"calibration_rows": options.rows}
        tokens = {"calibration_tokens": 25 * options.rows}
        size = tokens if fields["method"] == "kprune" else rows
        fields["settings"] = fields.get("settings", {}) | size
        fields |= {"max_length": 64, "evaluate": Evaluation(latency=False, max_rows=64), "device": "cpu"}
        inputs = root / MODEL, root / "datasets" / "sst2"
        with tempfile.TemporaryDirectory() as folder:
            whole = PruneSpec(max_quality_drop=100, quality_candidates=options.candidates, **fields)
            search = timed(lambda watch, spec=whole, out=folder: prune(spec, *inputs, Path(out, "a"), watch))
            one = PruneSpec(target_ratio=0.5, **fields)
            single = timed(lambda watch, spec=one, out=folder: prune(spec, *inputs, Path(out, "b"), watch))
        alone = options.candidates * single
        saved = f"{100 * (1 - search / alone):.0f} %"
        print(f"| {name} | {options.candidates} | {search:.1f} | {alone:.1f} | {saved} |", flush=True)


if __name__ == "__main__":
    main()
