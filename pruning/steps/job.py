"""A job made ready: everything that its steps read, and nothing that they change."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.utils import logging

from pruning.data.rows import DataSummary, summarise
from pruning.errors import InvalidModel, InvalidSpec
from pruning.planning.plan import Plan, resolve
from pruning.spec import PruneSpec
from pruning.steps.checkpoint import Steps, file_sha256, key_of
from pruning.steps.progress import Progress
from pruning.training.data import Data, load_data
from pruning.training.tasks import Task, load_config, load_model, load_tokenizer

_PACKAGES = ("prunery", "torch", "transformers", "accelerate", "safetensors", "numpy")


@dataclass(frozen=True)
class Job:
    """`task` is the task of the given model, whose head may be new; `trained_task` that of all later ones."""

    plan: Plan
    task: Task
    tokenizer: PreTrainedTokenizerBase
    data: Data
    device: torch.device
    model_dir: Path
    out: Path
    steps: Steps
    progress: Progress
    hashes: dict[str, str]
    versions: dict[str, str]

    @property
    def spec(self) -> PruneSpec:
        """The request with nothing left open."""
        return self.plan.spec

    @property
    def trained_task(self) -> Task:
        """The task of a model whose head is trained."""
        return replace(self.task, labels=replace(self.task.labels, trained=True))

    def load(self, folder: Path) -> PreTrainedModel:
        """A model of this job, on the device."""
        task = self.task if folder == self.model_dir else self.trained_task
        return load_model(folder, task, seed=self.spec.seed).to(self.device)

    def scratch(self, name: str) -> Path:
        """A step's folder for its own checkpoints."""
        return self.steps.folder / f"{name}.work"


def open_job(spec: PruneSpec, model_dir: Path, dataset_dir: Path, out: Path, progress: Progress) -> Job:
    """Read model and dataset, settle the plan, and find what earlier calls on `out` have finished.

    Raises what `summarise` and `resolve` raise, InvalidModel, and InvalidSpec when the device is not there.
    """
    device = _device(spec)
    config = load_config(model_dir)
    data = summarise(dataset_dir, spec.columns, beat=progress.check)
    plan = resolve(spec, config.to_dict(), data)
    hashes = _hashes(model_dir, data, progress)
    versions = _versions()
    task = Task.of(plan.task, data, config)
    rows = load_data(dataset_dir, data, plan.spec, task, load_tokenizer(model_dir, config), progress.check)
    # Tokenising leaves its truncation in a tokenizer; the one that is exported must be as it was.
    tokenizer = load_tokenizer(model_dir, config)
    plan = resolve(plan.spec, config.to_dict(), data, rows.train.mean_length)
    key = key_of(plan.spec.model_dump(mode="json"), hashes, versions, device.type)
    steps = Steps(out / "work" / key[:16], key)
    return Job(plan, task, tokenizer, rows, device, model_dir, out, steps, progress, hashes, versions)


def _device(spec: PruneSpec) -> torch.device:
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise InvalidSpec("This machine has no CUDA device.", param="/device", remedy="Use auto or cpu.")
    gpu = spec.device == "cuda" or (spec.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu else "cpu")


def _hashes(model_dir: Path, data: DataSummary, progress: Progress) -> dict[str, str]:
    if not any(model_dir.glob("*.safetensors")):
        raise InvalidModel(
            "The model has no .safetensors file.", param="/model", remedy="Convert its weights."
        )
    hashes = {f"dataset/{name}": digest for name, digest in data.sha256.items()}
    for path in sorted(model_dir.iterdir()):
        if path.is_file():
            progress.check()
            hashes[f"model/{path.name}"] = file_sha256(path)
    return hashes


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a checkout used as a library
            found[package] = "not installed"
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no log lines of transformers while a job runs."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def deterministic(seed: int, device: torch.device) -> Iterator[None]:
    """The same numbers on every run: seeds, and on a GPU only kernels that sum in a fixed order."""
    set_seed(seed)
    if device.type == "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        # The fused attention kernels add up their gradients in any order.
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(before)


def json_of(value: Any) -> dict[str, Any]:
    """A pydantic model as JSON values."""
    dumped: dict[str, Any] = value.model_dump(mode="json")
    return dumped
