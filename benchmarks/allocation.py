"""`native` against `global` at equal FLOPs: accuracy, the speed of a plain load, and the speed of the small model.

PRUNERY_DATA=FOLDER python -m benchmarks.allocation --ratio 0.5 --seeds 0 1 2

A plain load is `from_pretrained` of the exported directory without any flag: small for `native`, padded for `global`.
The small model of `global` is what `trust_remote_code=True` gives; here it is shrunk by the library, which is equal.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from transformers import AutoTokenizer

from benchmarks.cells import MODEL, Cell, data_folder, run
from benchmarks.latency import LENGTH, load, saved
from pruning.delivery.export import export
from pruning.delivery.measure import latency
from pruning.model.shrink import shrink
from pruning.planning.shape import ModelShape
from pruning.report import Latency
from pruning.spec import Allocation

HEADER = (
    "| allocation | accuracy, mean | each seed | exported MB "
    "| plain, batch 1 | plain, batch 8 | full, batch 1 | full, batch 8 |"
)


def row(
    allocation: str,
    results: Sequence[dict[str, Any]],
    megabytes: float,
    plain: Sequence[Latency],
    full: Sequence[Latency],
) -> str:
    """One line of the table; speed-ups by processor time."""
    accuracies = [100 * result["quality"] for result in results]
    columns = [
        allocation,
        f"{mean(accuracies):.2f} %",
        ", ".join(f"{accuracy:.1f}" for accuracy in accuracies),
        f"{megabytes:.1f}",
        *(f"{timed.cpu_speedup:.2f}x" for timed in (*plain, *full)),
    ]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    """Print one line per allocation; speeds are those of the first seed's model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    root = data_folder()
    dense = load(root / MODEL)
    tokenizer = AutoTokenizer.from_pretrained(root / MODEL, local_files_only=True)
    shape = ModelShape.from_config(dense.config.to_dict())
    print(HEADER)
    print("|---" * 8 + "|")
    allocations: tuple[Allocation, ...] = ("native", "global")
    for allocation in allocations:
        with tempfile.TemporaryDirectory() as folder:
            zeroed, out = Path(folder, "zeroed"), Path(folder, "exported")
            results = list(
                run(
                    Cell(options.ratio, seed, allocation, save=None if index else str(zeroed))
                    for index, seed in enumerate(options.seeds)
                )
            )
            pruned, kept = saved(zeroed)
            shrink(pruned, kept)
            bundle = export(pruned, tokenizer, shape, kept, allocation, out)
            plain = latency(dense, load(out), (1, 8), LENGTH, options.rounds)
            full = latency(dense, pruned, (1, 8), LENGTH, options.rounds)
        print(row(allocation, results, bundle.bytes / 1e6, plain, full), flush=True)


if __name__ == "__main__":
    main()
