"""A step of LEAP as a ratio to a dense fine-tuning step of the same model and batches, without distillation.

PRUNERY_DATA=FOLDER python -m benchmarks.training_step --steps 60 --rounds 3

Whole runs, in turns in one process: measuring, learning and recovering in the parts that a job has. CPU time of
training only. The last row sorts every score tensor and asks the device for every count at every step instead.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.cells import DATASET, MAX_LENGTH, MODEL, data_folder
from pruning.data.rows import examples, summarise
from pruning.masking import thresholds
from pruning.methods import Context, create, leap
from pruning.planning.plan import resolve
from pruning.spec import PruneSpec, Training
from pruning.training.tasks import Encoded, Task, load_config, load_model, load_tokenizer
from pruning.training.train import fit

BATCH_SIZE = 32
DENSE = "dense fine-tuning"
SORTED = "unstructured, full sort and one wait a matrix"
GRANULARITIES = {
    "structured": "structured",
    "block:32x32": "block:32x32",
    "unstructured": "unstructured",
    SORTED: "unstructured",
}


class Bench:
    """The model, its rows, and one run of each kind."""

    def __init__(self, steps: int) -> None:
        root = data_folder()
        self.folder = root / MODEL
        self.config = load_config(self.folder)
        self.summary = summarise(root / DATASET)
        self.task = Task.of("sequence-classification", self.summary, self.config)
        request = PruneSpec(target_ratio=0, max_length=MAX_LENGTH)
        rows = list(examples(root / DATASET / "train.parquet", self.summary))
        self.train: Encoded = self.task.encode(rows, load_tokenizer(self.folder, self.config), request)
        self.recipe = {"max_steps": steps, "batch_size": BATCH_SIZE}

    def dense(self, work: Path) -> None:
        """Fine-tune the model."""
        fit(
            load_model(self.folder, self.task),
            self.task,
            self.train,
            Training.model_validate(self.recipe),
            seed=0,
            precision="fp32",
            device=torch.device("cpu"),
            work=work,
            events=lambda event: None,
            should_stop=lambda: None,
            phase="finetuning",
            span=(0.0, 1.0),
        )

    def leap(self, work: Path, granularity: str) -> None:
        """Prune the model by LEAP, 80 % of its weights."""
        asked = PruneSpec(
            method="leap",
            target_ratio=0.8,
            granularity=granularity,
            target_measure="weights",
            settings=self.recipe,
            distill=False,
            max_length=MAX_LENGTH,
        )
        plan = resolve(asked, self.config.to_dict(), self.summary, self.train.mean_length)
        context = Context(
            spec=plan.spec,
            plan=plan,
            shape=plan.shape,
            model=load_model(self.folder, self.task),
            task=self.task,
            train=self.train,
            teacher_dir=None,
            device=torch.device("cpu"),
            work=work,
            events=lambda event: None,
            should_stop=lambda: None,
            span=(0.0, 1.0),
            mean_length=self.train.mean_length,
        )
        create("leap", self.recipe).prune(context)


def sort_top(scores: Tensor, count: int) -> Tensor:
    """`keep_top` as the released code does it: all scores sorted, the count read from the device."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[torch.sort(scores.detach(), descending=True).indices[: int(torch.tensor(count).item())]] = True
    return kept


@contextmanager
def sorting() -> Iterator[None]:
    """Let LEAP refresh its masks at every step by a full sort."""
    with patch.object(thresholds, "keep_top", sort_top), patch.object(leap, "_REFRESH_EVERY", 1):
        yield


def seconds(run: Callable[[Path], None]) -> float:
    """CPU seconds of one run."""
    with tempfile.TemporaryDirectory() as work:
        started = time.process_time()
        run(Path(work))
        return time.process_time() - started


def main() -> None:
    """Print one line per kind of step: milliseconds, and the median of the rounds' ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options.steps)
    times: dict[str, list[float]] = {name: [] for name in (DENSE, *GRANULARITIES)}
    seconds(bench.dense)  # the first run pays for what is loaded late
    for _ in range(options.rounds):
        times[DENSE].append(seconds(bench.dense))
        for name, granularity in GRANULARITIES.items():
            with sorting() if name == SORTED else nullcontext():
                times[name].append(seconds(partial(bench.leap, granularity=granularity)))
    print("| step | CPU ms | ratio to dense |\n|---|---|---|")
    for name, spent in times.items():
        ratio = median(one / dense for one, dense in zip(spent, times[DENSE], strict=True))
        print(f"| {name} | {1000 * median(spent) / options.steps:.0f} | {ratio:.2f}x |")


if __name__ == "__main__":
    main()
