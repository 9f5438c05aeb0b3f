"""Methods without retraining on one fine-tuned encoder, at several ratios and seeds: quality, CPU seconds, memory.

PRUNERY_DATA=FOLDER python -m benchmarks.retraining_free --ratios 0.5 0.6 0.7 0.8 --seeds 0 1 2 --out cells.jsonl

Without --model it is the shared model of SST-2; for mrpc and stsb give the folder of a model fine-tuned on them, such
as the `model` of a job with target_ratio 0. Cells that `--out` already holds are not run again.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.cells import Cell, data_folder, run

VARIANTS: dict[str, dict[str, Any]] = {
    "kprune": {"method": "kprune"},
    "kprune-faithful": {"method": "kprune", "settings": {"mode": "faithful"}},
    "kprune-no-refit": {"method": "kprune", "settings": {"representation_weight": 2.5e-4, "refit": False}},
    "kprune-once": {"method": "kprune", "settings": {"representation_weight": 2.5e-4, "selection": "once"}},
    "fisher": {"method": "fisher"},
    "fisher-batches": {"method": "fisher", "settings": {"gradient_batch": 32}},
    "kcm": {"method": "kcm", "granularity": "neuron"},
    "magnitude": {"method": "magnitude"},
    "random": {"method": "random"},
}
"""The rows of the table; those with a second part in their name are modes or ablations."""
USUAL = ("kprune", "kprune-faithful", "fisher", "kcm", "magnitude", "random")
HEADER = "| removed | method | quality, mean | each seed | CPU s | peak GB | delivered |"


def row(ratio: float, name: str, results: Sequence[dict[str, Any]]) -> str:
    """One line of the table: the mean over seeds, and every seed's quality; why not where it was refused."""
    refused = [result["refused"] for result in results if "refused" in result]
    if refused:
        return f"| {100 * ratio:.0f} % | {name} | {refused[0]} | | | | |"
    qualities = [100 * result["quality"] for result in results]
    columns = [
        f"{100 * ratio:.0f} %",
        name,
        f"{mean(qualities):.2f}",
        ", ".join(f"{quality:.1f}" for quality in qualities),
        f"{mean(result['cpu_seconds'] for result in results):.0f}",
        f"{max(result['peak_gb'] for result in results):.2f}",
        f"{100 * mean(result['removed'] for result in results):.3f} %",
    ]
    return f"| {' | '.join(columns)} |"


def results(cells: Sequence[Cell], out: Path | None) -> Iterator[dict[str, Any]]:
    """The result of each cell, from the lines of `out` where it was run before, else run and added there."""
    lines = out.read_text("utf-8").splitlines() if out and out.exists() else []
    known = [json.loads(line) for line in lines]
    for cell in cells:
        fields = asdict(cell)
        found = next((each for each in known if fields.items() <= each.items()), None)
        if found is None:
            (found,) = run([cell])
            if out:
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
        yield found


def main() -> None:
    """Print the table, one line when a method is done at a ratio; `--out` keeps every cell as a JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=list(VARIANTS), default=USUAL)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.5, 0.6, 0.7, 0.8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dataset", choices=("sst2", "mrpc", "stsb"), default="sst2")
    parser.add_argument("--model", help="a fine-tuned model's folder; needed for mrpc and stsb")
    parser.add_argument("--allocation", choices=("global", "native"), default="global")
    parser.add_argument("--out", type=Path, help="one JSON line a cell; what it holds is not run again")
    options = parser.parse_args()
    if options.dataset != "sst2" and not options.model:
        parser.error(f"--dataset {options.dataset} needs --model")
    data_folder()
    print(HEADER)
    print("|---" * HEADER.count(" | ") + "|---|")
    for ratio in options.ratios:
        for name in options.methods:
            cells = [
                Cell(
                    ratio,
                    seed,
                    options.allocation,
                    dataset=options.dataset,
                    model=options.model,
                    **VARIANTS[name],
                )
                for seed in options.seeds
            ]
            print(row(ratio, name, list(results(cells, options.out))), flush=True)


if __name__ == "__main__":
    main()
