"""What became of each layer, and keeping it on disk so that a killed job goes on where it was."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from pruning.knowledge.steps import load_tensors, save_tensors
from pruning.layerwise.obs import Compressed
from pruning.layerwise.sites import Site
from pruning.masking.weight_units import WeightUnits


class Finished:
    """The groups that are pruned: masks (count,) and numbers for the report by group, and a file for each layer."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.masks: dict[str, Tensor] = {}
        self.notes: dict[str, dict[str, float]] = {}
        self._folder = folder

    def add(self, name: str, group: WeightUnits, found: Compressed, more: Mapping[str, float]) -> None:
        """Put what was found into the model."""
        group.linear.weight.data.copy_(found.weight)
        mask = group.collapse(found.kept)
        group.clear(mask)
        self.masks[name] = mask
        self.notes[name] = {"kept": float(mask.float().mean()), **found.notes, **more}

    def save(self, index: int, layer: Sequence[Site]) -> None:
        """Remember a layer all of whose sites were added."""
        tensors: dict[str, Tensor] = {}
        notes: dict[str, float] = {}
        for name, group in _groups(layer):
            tensors |= {f"{name}:weight": group.linear.weight, f"{name}:kept": self.masks[name]}
            notes |= {f"{name}:{note}": value for note, value in self.notes[name].items()}
        save_tensors(self._path(index), tensors, notes)

    def restore(self, index: int, layer: Sequence[Site]) -> bool:
        """Put a layer that an earlier attempt has pruned back into the model; False when there is none."""
        if not self._path(index).exists():
            return False
        tensors, notes = load_tensors(self._path(index))
        for name, group in _groups(layer):
            told = {
                note.removeprefix(f"{name}:"): value
                for note, value in notes.items()
                if note.startswith(f"{name}:")
            }
            mask = tensors[f"{name}:kept"].to(group.linear.weight.device)
            self.add(name, group, Compressed(tensors[f"{name}:weight"], group.expand(mask)), told)
        return True

    def fractions(self) -> list[float] | None:
        """What every layer keeps, as an earlier attempt has found; None when it has not."""
        path = self._folder / "fractions.safetensors"
        if not path.exists():
            return None
        _, notes = load_tensors(path)
        return [notes[str(index)] for index in range(len(notes))]

    def save_fractions(self, fractions: Sequence[float]) -> None:
        """Remember what every layer keeps."""
        notes = {str(index): fraction for index, fraction in enumerate(fractions)}
        save_tensors(self._folder / "fractions.safetensors", {}, notes)

    def _path(self, index: int) -> Path:
        return self._folder / f"layer-{index:03}.safetensors"


def _groups(layer: Sequence[Site]) -> list[tuple[str, WeightUnits]]:
    return [(name, group) for site in layer for name, group in site.groups.items()]
