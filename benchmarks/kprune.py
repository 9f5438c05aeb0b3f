"""K-prune at several ratios and seeds: accuracy, CPU seconds, peak memory.

PRUNERY_DATA=FOLDER python -m benchmarks.kprune --ratios 0.4 0.5 0.6 0.7 0.8 --seeds 0 1 2 --head-weight 64
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.cells import Cell, data_folder, run

HEADER = "| removed | accuracy, mean | each seed | CPU s | peak GB | delivered |"


def row(ratio: float, results: Sequence[dict[str, Any]]) -> str:
    """One line of the table: the mean over seeds, and every seed's accuracy."""
    accuracies = [100 * result["accuracy"] for result in results]
    columns = [
        f"{100 * ratio:.0f} %",
        f"{mean(accuracies):.2f} %",
        ", ".join(f"{accuracy:.1f}" for accuracy in accuracies),
        f"{mean(result['cpu_seconds'] for result in results):.0f}",
        f"{max(result['peak_gb'] for result in results):.2f}",
        f"{100 * mean(result['removed'] for result in results):.3f} %",
    ]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    """Print the table, one line when a ratio is done; `--out` keeps every cell as a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.4, 0.5, 0.6, 0.7, 0.8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--head-weight", type=float, help="mu; left out: the width of one head")
    parser.add_argument("--representation-weight", type=float, help="lambda")
    parser.add_argument("--allocation", choices=("global", "native"), default="global")
    parser.add_argument("--out", type=Path, help="append every cell as one JSON line")
    options = parser.parse_args()
    data_folder()
    settings = {
        name: value
        for name in ("head_weight", "representation_weight")
        if (value := getattr(options, name)) is not None
    }
    print(HEADER)
    print("|---" * HEADER.count(" | ") + "|---|")
    for ratio in options.ratios:
        results = []
        for result in run(Cell(ratio, seed, options.allocation, settings) for seed in options.seeds):
            results.append(result)
            if options.out:
                with options.out.open("a") as lines:
                    lines.write(json.dumps(result) + "\n")
        print(row(ratio, results), flush=True)


if __name__ == "__main__":
    main()
