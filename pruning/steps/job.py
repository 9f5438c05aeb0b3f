"""A job made ready: everything that its steps read, and nothing that they change."""

import os
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

from pruning.data.rows import summarise
from pruning.delivery.onnx_file import require_onnx
from pruning.errors import InvalidModel, InvalidSpec, OutOfMemory
from pruning.planning.latency import LatencyTable
from pruning.planning.plan import Plan, resolve
from pruning.planning.teacher import check_vocabulary
from pruning.spec import PruneSpec
from pruning.steps.checkpoint import Steps, file_sha256, key_of
from pruning.steps.progress import Progress
from pruning.training.compiled import require_compiler
from pruning.training.data import Data, load_data
from pruning.training.tasks import Task, count_parameters, load_config, load_model, load_tokenizer

TABLE = "table"
"""The step that measures what units cost in time."""

_PACKAGES = ("prunery", "torch", "transformers", "accelerate", "safetensors", "numpy")


@dataclass(frozen=True)
class Job:
    """`task` is the task of the given model, whose head may be new; `trained_task` that of all later ones.

    `found` is the ratio that a search for `max_quality_drop` tries, and in the end has found.
    """

    plan: Plan
    task: Task
    tokenizer: PreTrainedTokenizerBase
    data: Data
    device: torch.device
    model_dir: Path
    teacher_dir: Path | None
    out: Path
    steps: Steps
    progress: Progress
    hashes: dict[str, str]
    versions: dict[str, str]
    found: float | None = None

    @property
    def spec(self) -> PruneSpec:
        """The request with nothing left open."""
        return self.plan.spec

    @property
    def ratio(self) -> float:
        """The fraction of the target measure that is to be removed."""
        return self.spec.ratio if self.found is None else self.found

    @property
    def table(self) -> LatencyTable | None:
        """What units cost, once it is measured, for a target of the latency; the same in all processes of the job."""
        if self.plan.target_measure != "latency" or not self.steps.done(TABLE):
            return None
        return LatencyTable.model_validate(self.steps.load(TABLE))

    @property
    def trained_task(self) -> Task:
        """The task of a model whose head is trained."""
        return replace(self.task, labels=replace(self.task.labels, trained=True))

    def teacher(self, dense_dir: Path) -> Path | None:
        """The folder of the teacher: the one that was given, else the dense model; None without distillation."""
        return (self.teacher_dir or dense_dir) if self.spec.distill else None

    def load(self, folder: Path) -> PreTrainedModel:
        """A model of this job, on the device."""
        task = self.task if folder == self.model_dir else self.trained_task
        return load_model(folder, task, seed=self.spec.seed).to(self.device)

    def scratch(self, name: str) -> Path:
        """A step's folder for its own checkpoints."""
        return self.steps.folder / f"{name}.work"


def open_job(
    spec: PruneSpec,
    model_dir: Path,
    dataset_dir: Path,
    out: Path,
    progress: Progress,
    teacher_dir: Path | None = None,
) -> Job:
    """Read models and dataset, settle the plan, and find what earlier calls on `out` have finished.

    Raises what `summarise` and `resolve` raise, InvalidModel, and InvalidSpec when the device or its compiler is
    not there or the teacher does not fit.
    """
    device = _device(spec)
    config = load_config(model_dir)
    data = summarise(dataset_dir, spec.columns, beat=progress.check)
    teacher = None if teacher_dir is None else _teacher_config(teacher_dir)
    plan = resolve(spec, config.to_dict(), data, teacher=teacher)
    hashes = {f"dataset/{name}": digest for name, digest in data.sha256.items()}
    hashes |= _hashes("model", model_dir, progress)
    if teacher_dir is not None:
        check_vocabulary(load_tokenizer(model_dir, config).get_vocab(), _teacher_vocabulary(teacher_dir))
        hashes |= _hashes("teacher", teacher_dir, progress)
    versions = _versions()
    task = Task.of(plan.task, data, config, plan.spec.label_names)
    rows = load_data(dataset_dir, data, plan.spec, task, load_tokenizer(model_dir, config), progress.check)
    # Tokenising leaves its truncation in a tokenizer; the one that is exported must be as it was.
    tokenizer = load_tokenizer(model_dir, config)
    parameters = count_parameters(config, task)
    plan = resolve(plan.spec, config.to_dict(), data, rows.train.mean_length, teacher, parameters)
    key = key_of(plan.spec.model_dump(mode="json"), hashes, versions, device.type)
    steps = Steps(out / "work" / key[:16], key)
    return Job(
        plan, task, tokenizer, rows, device, model_dir, teacher_dir, out, steps, progress, hashes, versions
    )


def _device(spec: PruneSpec) -> torch.device:
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise InvalidSpec("This machine has no CUDA device.", param="/device", remedy="Use auto or cpu.")
    gpu = spec.device == "cuda" or (spec.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if gpu else "cpu")
    if spec.compile:
        require_compiler(device)
    if spec.exports:
        require_onnx()
    offered = torch.cuda.device_count() if gpu else os.cpu_count() or 1
    if spec.devices > offered:
        kind = "CUDA devices" if gpu else "cores"
        raise InvalidSpec(
            f"The job asks for {spec.devices} devices, and {offered} {kind} are there for it.",
            param="/devices",
            remedy=f"Use at most {offered}.",
        )
    return device


def _teacher_config(folder: Path) -> dict[str, Any]:
    with _of_the_teacher():
        config: dict[str, Any] = load_config(folder).to_dict()
        return config


def _teacher_vocabulary(folder: Path) -> dict[str, int]:
    with _of_the_teacher():
        vocabulary: dict[str, int] = load_tokenizer(folder, load_config(folder)).get_vocab()
        return vocabulary


@contextmanager
def _of_the_teacher() -> Iterator[None]:
    """What is wrong with this model is wrong with the teacher."""
    try:
        yield
    except InvalidModel as error:
        error.param = "/teacher"
        raise


def _hashes(role: str, folder: Path, progress: Progress) -> dict[str, str]:
    """The sha256 of every file of a model, by "role/FILE"."""
    if not any(folder.glob("*.safetensors")):
        raise InvalidModel(
            f"The {role} has no .safetensors file.", param=f"/{role}", remedy="Convert its weights."
        )
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.is_file():
            progress.check()
            hashes[f"{role}/{path.name}"] = file_sha256(path)
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
def memory_errors() -> Iterator[None]:
    """Turn every way of running out of memory into OutOfMemory while the block runs."""
    remedy = "Lower batch_size or max_length, or use a machine with more memory."
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory("The device ran out of memory.", remedy=remedy) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory("The machine ran out of memory.", remedy=remedy) from error


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
