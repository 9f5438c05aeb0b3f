"""Speed of the shrunk model against the dense one, and how much of the saved FLOPs becomes saved time.

PRUNERY_DATA=FOLDER python -m benchmarks.latency --ratios 0.5 0.7

K-prune makes the models. Dense and pruned take turns in one process on one thread; the ratio is the median over
rounds, by the wall and by processor time (which other work on the machine disturbs less).
"""

import argparse
import tempfile
from pathlib import Path

from transformers import AutoModelForSequenceClassification, PreTrainedModel

from benchmarks.cells import MODEL, Cell, data_folder, run
from pruning.delivery.measure import latency
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, kept_cost, total_cost
from pruning.planning.shape import ModelShape
from pruning.report import Latency

LENGTH = 128
HEADER = "| removed | batch | dense ms | shrunk ms | speed-up (wall) | speed-up (CPU) | FLOPs ratio | CPU / FLOPs |"


def load(folder: Path) -> PreTrainedModel:
    """The model in fp32."""
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", local_files_only=True)


def saved(folder: Path) -> tuple[PreTrainedModel, Kept]:
    """The full-size model of a cell that was saved to `folder`, and what it keeps."""
    return load(folder), Kept.model_validate_json((folder / "kept.json").read_text())


def row(ratio: float, timed: Latency, flops: float) -> str:
    """One line of the table."""
    columns = [
        f"{100 * ratio:.0f} %",
        str(timed.batch_size),
        f"{timed.dense_ms:.1f}",
        f"{timed.pruned_ms:.1f}",
        f"{timed.speedup:.2f}x",
        f"{timed.cpu_speedup:.2f}x",
        f"{flops:.2f}x",
        f"{100 * timed.cpu_speedup / flops:.0f} %",
    ]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    """Print one line per ratio and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.5, 0.7])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    root = data_folder()
    dense = load(root / MODEL)
    shape = ModelShape.from_config(dense.config.to_dict())
    print(HEADER)
    print("|---" * 8 + "|")
    for ratio in options.ratios:
        with tempfile.TemporaryDirectory() as folder:
            list(run([Cell(ratio, save=folder)]))
            pruned, kept = saved(Path(folder))
        shrink(pruned, kept)
        flops = total_cost(shape, "flops", LENGTH) / kept_cost(shape, kept, "flops", LENGTH)
        for timed in latency(dense, pruned, (1, 8), LENGTH, options.rounds):
            print(row(ratio, timed, flops), flush=True)


if __name__ == "__main__":
    main()
