"""Runs of the library on the shared model and data, one process per cell so that its peak memory is its own."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MODEL = Path("models/minilm-l6-sst2")
DATASET = Path("datasets/sst2")
MAX_LENGTH = 64
ROWS = 1192
"""Training rows of the released code's runs that the results are compared with: about 15,700 tokens."""


@dataclass(frozen=True)
class Cell:
    """One K-prune run: the fraction of FLOPs removed, the seed of the drawn rows, and what differs from default."""

    ratio: float
    seed: int = 0
    allocation: str = "global"
    settings: dict[str, Any] = field(default_factory=dict)
    save: str | None = None
    """A folder to leave the pruned model in, full-size with zeros, with what is kept in `kept.json`."""


def data_folder() -> Path:
    """The folder that PRUNERY_DATA names; leaves with a message where it is absent."""
    folder = Path(os.environ.get("PRUNERY_DATA", ""))
    if not (folder / MODEL).is_dir():
        raise SystemExit(
            "skipped: PRUNERY_DATA must name a folder with models/minilm-l6-sst2 and datasets/sst2"
        )
    return folder


def run(cells: Iterable[Cell]) -> Iterable[dict[str, Any]]:
    """The result of each cell, each from a fresh process with one thread."""
    for cell in cells:
        command = [sys.executable, "-m", "benchmarks.cells", json.dumps(asdict(cell))]
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True
        )
        yield json.loads(done.stdout)


def prune_cell(cell: Cell) -> dict[str, Any]:
    """Prune and evaluate in this process: CPU seconds and peak memory are those of pruning, model loading included."""
    import torch

    from pruning.data.rows import examples, summarise
    from pruning.methods import Context, create
    from pruning.model.shrink import shrink
    from pruning.planning.costs import removed_ratio
    from pruning.planning.plan import resolve
    from pruning.spec import PruneSpec
    from pruning.training.evaluate import evaluate
    from pruning.training.tasks import Task, load_config, load_model, load_tokenizer

    torch.set_num_threads(1)
    root = data_folder()
    config = load_config(root / MODEL)
    tokenizer = load_tokenizer(root / MODEL, config)
    summary = summarise(root / DATASET)
    task = Task.of("sequence-classification", summary, config)
    request = PruneSpec(target_ratio=0, max_length=MAX_LENGTH)
    encoded = {
        split: task.encode(list(examples(root / DATASET / name, summary)), tokenizer, request)
        for split, name in {"train": "train.parquet", "validation": "validation.jsonl"}.items()
    }
    train = encoded["train"]
    device = torch.device("cpu")
    model = load_model(root / MODEL, task)

    def accuracy() -> float:
        return evaluate(
            model,
            encoded["validation"],
            task,
            device=device,
            should_stop=lambda: None,
            on_progress=lambda _: None,
        ).metrics["accuracy"]

    dense = accuracy()
    settings = {"calibration_tokens": round((ROWS + 0.5) * train.mean_length), **cell.settings}
    asked = PruneSpec.model_validate(
        {
            "method": "kprune",
            "target_ratio": cell.ratio,
            "target_measure": "flops",
            "round_to": 1,
            "allocation": cell.allocation,
            "settings": settings,
            "seed": cell.seed,
            "max_length": MAX_LENGTH,
        }
    )
    plan = resolve(asked, config.to_dict(), summary, train.mean_length)
    shape = plan.shape
    before, wall = time.process_time(), time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        context = Context(
            spec=plan.spec,
            plan=plan,
            shape=shape,
            model=model,
            task=task,
            train=train,
            teacher_dir=None,
            device=device,
            work=Path(work),
            events=lambda event: None,
            should_stop=lambda: None,
            span=(0.0, 1.0),
            mean_length=train.mean_length,
        )
        outcome = create(plan.method, settings).prune(context)
    assert outcome.kept is not None
    result = {
        **asdict(cell),
        "cpu_seconds": round(time.process_time() - before, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3),
        "removed": removed_ratio(shape, outcome.kept, "flops", train.mean_length),
        "rows": outcome.details["rows"],
        "tokens": outcome.details["tokens"],
        "heads": [len(heads) for heads in outcome.kept.heads],
        "neurons": [len(neurons) for neurons in outcome.kept.neurons],
        "dense": dense,
        "accuracy": accuracy(),
    }
    if cell.save:
        model.save_pretrained(cell.save)
        tokenizer.save_pretrained(cell.save)
        (Path(cell.save) / "kept.json").write_text(outcome.kept.model_dump_json())
    shrink(model, outcome.kept)
    return {**result, "shrunk_accuracy": accuracy()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(prune_cell(Cell(**json.loads(sys.argv[1])))))
