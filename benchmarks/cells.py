"""Runs of the library on the shared models and data, one process per cell so that its peak memory is its own."""

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
"""Tokens that rows of SST-2 are cut at, as in the published runs; those of other sets are cut at 128."""
ROWS = 1192
"""Training rows of the released code's runs that K-prune is compared with: about 15,700 tokens of SST-2."""


@dataclass(frozen=True)
class Cell:
    """One run without retraining: the fraction of FLOPs removed, the seed of the drawn rows, what differs from default.

    `dataset` is a folder under `datasets`, `model` a folder; left out, it is the shared model of SST-2.
    """

    ratio: float
    seed: int = 0
    allocation: str = "global"
    settings: dict[str, Any] = field(default_factory=dict)
    save: str | None = None
    """A folder to leave the pruned model in, full-size with zeros, with what is kept in `kept.json`."""
    method: str = "kprune"
    granularity: str = "structured"
    dataset: str = DATASET.name
    model: str | None = None


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
    """Prune and evaluate in this process: CPU seconds are those of pruning, peak memory that of all.

    A ratio out of the method's reach gives the refusal.
    """
    from pruning.errors import TargetUnreachable
    from pruning.model.shrink import shrink
    from pruning.planning.costs import removed_ratio

    try:
        setting = Setting.of(cell)
    except TargetUnreachable as error:
        return {**asdict(cell), "refused": f"out of reach: {error.nearest:.4f} at most"}
    dense = setting.quality()
    before, wall = time.process_time(), time.monotonic()
    outcome = setting.prune()
    assert outcome.kept is not None
    result = {
        **asdict(cell),
        "cpu_seconds": round(time.process_time() - before, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3),
        "removed": removed_ratio(setting.plan.shape, outcome.kept, "flops", setting.train.mean_length),
        "heads": [len(heads) for heads in outcome.kept.heads],
        "neurons": [len(neurons) for neurons in outcome.kept.neurons],
        **{name: value for name, value in outcome.details.items() if name != "sublayers"},
        "metric": setting.task.primary,
        "dense": dense,
        "quality": setting.quality(),
    }
    if cell.save:
        setting.model.save_pretrained(cell.save)
        setting.tokenizer.save_pretrained(cell.save)
        (Path(cell.save) / "kept.json").write_text(outcome.kept.model_dump_json())
    shrink(setting.model, outcome.kept)
    return {**result, "shrunk_quality": setting.quality()}


@dataclass(frozen=True)
class Setting:
    """All that a cell needs, loaded: the model, its rows, and the plan."""

    cell: Cell
    model: Any
    tokenizer: Any
    task: Any
    train: Any
    judged: Any
    plan: Any

    @classmethod
    def of(cls, cell: Cell) -> "Setting":
        """Load model and rows and plan the cell, in one thread; raises TargetUnreachable."""
        import torch

        from pruning.data.rows import examples, summarise
        from pruning.planning.plan import resolve
        from pruning.spec import PruneSpec
        from pruning.training.tasks import Task, load_config, load_model, load_tokenizer

        torch.set_num_threads(1)
        root = data_folder()
        source, folder = Path(cell.model or root / MODEL), root / "datasets" / cell.dataset
        config, summary = load_config(source), summarise(folder)
        tokenizer = load_tokenizer(source, config)
        request = PruneSpec(target_ratio=0, max_length=MAX_LENGTH if cell.dataset == DATASET.name else 128)
        task = Task.of(resolve(request, config.to_dict(), summary).task, summary, config)
        train, judged = (
            task.encode(list(examples(folder / name, summary)), tokenizer, request)
            for name in ("train.parquet", "validation.jsonl")
        )
        settings = dict(cell.settings)
        if cell.method == "kprune" and cell.dataset == DATASET.name:
            settings.setdefault("calibration_tokens", round((ROWS + 0.5) * train.mean_length))
        asked = PruneSpec.model_validate(
            {
                "method": cell.method,
                "granularity": cell.granularity,
                "target_ratio": cell.ratio,
                "target_measure": "flops",
                "round_to": 1,
                "allocation": cell.allocation,
                "settings": settings,
                "seed": cell.seed,
                "max_length": request.max_length,
            }
        )
        plan = resolve(asked, config.to_dict(), summary, train.mean_length)
        return cls(cell, load_model(source, task), tokenizer, task, train, judged, plan)

    def quality(self) -> float:
        """The task's own metric on the judged rows."""
        import torch

        from pruning.training.evaluate import evaluate

        found = evaluate(
            self.model,
            self.judged,
            self.task,
            device=torch.device("cpu"),
            should_stop=lambda: None,
            on_progress=lambda _: None,
        )
        return found.metrics[self.task.primary]

    def prune(self) -> Any:
        """Prune the model in place; returns the method's outcome."""
        import torch

        from pruning.methods import Context, create

        spec = self.plan.spec
        with tempfile.TemporaryDirectory() as work:
            context = Context(
                spec=spec,
                plan=self.plan,
                shape=self.plan.shape,
                model=self.model,
                task=self.task,
                train=self.train,
                teacher_dir=None,
                device=torch.device("cpu"),
                work=Path(work),
                events=lambda event: None,
                should_stop=lambda: None,
                span=(0.0, 1.0),
                mean_length=self.train.mean_length,
            )
            return create(self.plan.method, spec.settings).prune(context)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(prune_cell(Cell(**json.loads(sys.argv[1])))))
