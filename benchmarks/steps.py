"""Single training steps, timed: of dense fine-tuning, and of every method that learns its masks."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, BertConfig, PretrainedConfig, PreTrainedModel

from benchmarks.cells import DATASET, MAX_LENGTH, MODEL, data_folder
from pruning.data.rows import DataSummary, examples, summarise
from pruning.errors import Canceled
from pruning.events import StopReason
from pruning.masking import thresholds
from pruning.methods import METHODS, Context, create, leap
from pruning.options import Training
from pruning.planning.plan import resolve
from pruning.spec import Precision, PruneSpec
from pruning.training.tasks import Encoded, Task, load_config, load_model, load_tokenizer
from pruning.training.train import fit

WARM = 3
"""Steps before the clock starts: the first ones pay for what is made late."""

_LONG = 10_000
"""Steps of the run whose first learning steps are timed."""


@dataclass(frozen=True)
class Row:
    """One kind of step. `method` None is dense fine-tuning; `sorting`: as LEAP's released code finds its masks."""

    method: str | None = None
    granularity: str = "unstructured"
    sorting: bool = False

    def __str__(self) -> str:
        if self.method is None:
            return "dense fine-tuning"
        plain = f"{self.method} {self.granularity}"
        return f"{plain}, full sort and one wait a matrix" if self.sorting else plain


@dataclass(frozen=True)
class Mode:
    """How steps are computed: fp32, bf16 or fp16, compiled or not."""

    precision: Precision
    compile: bool

    def __str__(self) -> str:
        return f"{self.precision}-compiled" if self.compile else self.precision


@dataclass(frozen=True)
class Subject:
    """A model of known size with rows to train on; `folder` None: of random weights."""

    config: PretrainedConfig
    data: DataSummary
    task: Task
    train: Encoded
    folder: Path | None

    def model(self) -> PreTrainedModel:
        """A fresh copy."""
        if self.folder is not None:
            return load_model(self.folder, self.task)
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(self.config)
        return model


def shared() -> Subject:
    """The shared encoder and SST-2."""
    root = data_folder()
    folder, data = root / MODEL, summarise(root / DATASET)
    config = load_config(folder)
    task = Task.of("sequence-classification", data, config)
    request = PruneSpec(target_ratio=0, max_length=MAX_LENGTH)
    rows = list(examples(root / DATASET / "train.parquet", data))
    return Subject(config, data, task, task.encode(rows, load_tokenizer(folder, config), request), folder)


def bert_base(length: int) -> Subject:
    """A model of BERT-base's shapes, of random weights, and rows of `length` random tokens: nothing is downloaded."""
    rows, config = 4096, BertConfig(architectures=["BertForSequenceClassification"])
    chance = np.random.default_rng(0)
    data = DataSummary(
        text="text",
        label="label",
        splits={"train": rows, "validation": rows},
        columns={"text": "text", "label": "integer"},
        classes=("0", "1"),
        numeric_label=True,
        mean_characters=4.0 * length,
        sha256={},
    )
    train = Encoded(
        tokens=chance.integers(1000, config.vocab_size, rows * length, dtype=np.int32),
        segments=None,
        offsets=np.arange(rows + 1, dtype=np.int64) * length,
        labels=chance.integers(0, 2, rows),
        pad_token=0,
    )
    return Subject(config, data, Task.of("sequence-classification", data, config), train, None)


class Clock:
    """Asked after every step whether to stop; measures `steps` steps behind the first WARM, then stops.

    CPU time of this process, which other processes disturb least; wall time where a GPU does the work.
    """

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device = device
        self.steps = steps
        self.seconds = 0.0
        self._asked = 0

    def __call__(self) -> StopReason | None:
        """Start the clock, or stop it and the run."""
        self._asked += 1
        if self._asked == WARM:
            self.seconds = -self._now()
        if self._asked == WARM + self.steps:
            self.seconds += self._now()
            return "cancel"
        return None

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Bench:
    """Times steps of one subject on one device. `learning`: only steps in which masks learn, not whole runs."""

    def __init__(
        self, subject: Subject, device: torch.device, steps: int, batch_size: int, *, learning: bool
    ) -> None:
        self.subject = subject
        self.device = device
        self.steps = steps
        self.batch_size = batch_size
        self.learning = learning

    def seconds(self, row: Row, mode: Mode) -> float:
        """The mean time of a step."""
        clock = Clock(self.device, self.steps)
        sorting = _sorting() if row.sorting else nullcontext()
        with tempfile.TemporaryDirectory() as work, sorting, suppress(Canceled):
            if row.method is None:
                self._dense(Path(work), mode, clock)
            else:
                self._prune(row.method, row.granularity, Path(work), mode, clock)
        return clock.seconds / self.steps

    def _recipe(self, method: str | None) -> dict[str, Any]:
        """Settings of a run that lasts longer than its clock."""
        whole = {"max_steps": WARM + self.steps + 1, "batch_size": self.batch_size}
        if method is None or not self.learning:
            return whole
        # LEAP measures in the steps before, so that its scores are all different; the others have nothing to wait for.
        asked = {"max_steps": _LONG, "prune_from": (WARM - 0.5) / _LONG, "prune_until": 1.0, "freeze_at": 1.0}
        known = METHODS[method].Settings.model_fields
        return whole | {name: value for name, value in asked.items() if name in known}

    def _dense(self, work: Path, mode: Mode, clock: Clock) -> None:
        fit(
            self.subject.model(),
            self.subject.task,
            self.subject.train,
            Training.model_validate(self._recipe(None)),
            seed=0,
            precision=mode.precision,
            device=self.device,
            work=work,
            events=lambda event: None,
            should_stop=clock,
            phase="finetuning",
            span=(0.0, 1.0),
            compile=mode.compile,
        )

    def _prune(self, method: str, granularity: str, work: Path, mode: Mode, clock: Clock) -> None:
        """80 % of the weights, without distillation."""
        subject = self.subject
        asked = PruneSpec(
            method=method,
            target_ratio=0.8,
            granularity=granularity,
            target_measure="weights",
            settings={"max_steps": _LONG},  # what is planned is a whole run, which the timed one stands for
            distill=False,
            precision=mode.precision,
            compile=mode.compile,
            device=self.device.type,
        )
        plan = resolve(asked, subject.config.to_dict(), subject.data, subject.train.mean_length)
        context = Context(
            spec=plan.spec,
            plan=plan,
            shape=plan.shape,
            model=subject.model().to(self.device),
            task=subject.task,
            train=subject.train,
            teacher_dir=None,
            device=self.device,
            work=work,
            events=lambda event: None,
            should_stop=clock,
            span=(0.0, 1.0),
            mean_length=subject.train.mean_length,
        )
        create(method, self._recipe(method)).prune(context)


@contextmanager
def _sorting() -> Iterator[None]:
    """Let LEAP find its masks at every step by a full sort of every score tensor, each count read from the device."""

    def sort_top(scores: Tensor, count: int) -> Tensor:
        kept = torch.zeros_like(scores, dtype=torch.bool)
        best = int(torch.tensor(count, device=scores.device).item())
        kept[torch.sort(scores.detach(), descending=True).indices[:best]] = True
        return kept

    with patch.object(thresholds, "keep_top", sort_top), patch.object(leap, "_REFRESH_EVERY", 1):
        yield
