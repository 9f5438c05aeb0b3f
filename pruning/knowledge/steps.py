"""What became of one sub-layer, and keeping it on disk so that a killed job goes on where it was."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pruning.knowledge.sublayers import Affine


@dataclass(frozen=True)
class Step:
    """The units that stay (units,), the output projection they got, and numbers for the report."""

    kept: Tensor
    output: Affine
    notes: Mapping[str, float]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, float]) -> None:
    """Write a safetensors file that is either whole or not there."""
    partial = path.with_suffix(".partial")
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contents, partial, metadata={"notes": json.dumps(dict(notes))})
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Read what `save_tensors` wrote."""
    with safe_open(path, "pt") as opened:
        notes = json.loads(opened.metadata()["notes"])
        return {name: opened.get_tensor(name) for name in opened.keys()}, notes  # noqa: SIM118 - not a mapping


def measured(path: Path, measure: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What the file holds, on the CPU; what `measure` gives is written to it when there is none yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, measure(), {})
    return load_tensors(path)[0]


class Steps:
    """A folder with one file for each finished sub-layer and one for the dense model's answers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, index: int) -> Path:
        return self._folder / f"sublayer-{index:03}.safetensors"

    def load(self, index: int) -> Step | None:
        """The step of that sub-layer, None when it is not finished."""
        if not self._path(index).exists():
            return None
        tensors, notes = load_tensors(self._path(index))
        return Step(tensors["kept"], Affine(tensors["weight"], tensors["bias"]), notes)

    def save(self, index: int, step: Step) -> None:
        """Remember a finished sub-layer."""
        tensors = {"kept": step.kept, "weight": step.output.weight, "bias": step.output.bias}
        save_tensors(self._path(index), tensors, step.notes)

    def all(self, count: int) -> list[Step] | None:
        """The steps of all `count` sub-layers, None while one is not finished."""
        found = [self.load(index) for index in range(count)]
        whole = [step for step in found if step is not None]
        return whole if len(whole) == count else None

    @property
    def chosen(self) -> dict[str, Tensor]:
        """The units (units,) bool of every sub-layer by name where all were chosen at once, else nothing."""
        path = self._folder / "chosen.safetensors"
        return load_tensors(path)[0] if path.exists() else {}

    @chosen.setter
    def chosen(self, masks: Mapping[str, Tensor]) -> None:
        save_tensors(self._folder / "chosen.safetensors", masks, {})

    @property
    def answers(self) -> list[Tensor] | None:
        """The dense model's logits (answers, classes) of every batch, None before they are known."""
        path = self._folder / "answers.safetensors"
        if not path.exists():
            return None
        tensors, _ = load_tensors(path)
        return [tensors[str(index)] for index in range(len(tensors))]

    @answers.setter
    def answers(self, logits: Sequence[Tensor]) -> None:
        tensors = {str(index): each for index, each in enumerate(logits)}
        save_tensors(self._folder / "answers.safetensors", tensors, {})
