"""The sub-layers of a model whose heads or neurons may be dropped, for methods that know them by what modules read."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.knowledge.steps import Step
from pruning.knowledge.sublayers import Affine
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units
from pruning.model.layers import layers


@dataclass(frozen=True)
class Slot:
    """One sub-layer: what `residual` reads plus what `reader` says is what goes on.

    `units` is None where nothing may be dropped.
    """

    name: str
    residual: nn.Module
    reader: nn.Linear
    units: SlotUnits | None

    @property
    def count(self) -> int:
        """How many units it has, 1 where they are not told apart."""
        return 1 if self.units is None else self.units.count

    def columns(self, kept: Tensor) -> Tensor:
        """The inputs of the reader that the kept units (units,) write: (inputs,) bool."""
        if self.units is None:
            return kept.expand(self.reader.in_features)
        return self.units.widen(kept)

    def bake(self, step: Step) -> None:
        """Write a step into the model, full-size, with zeros where units were dropped."""
        kept = step.kept.to(self.reader.weight.device)
        with torch.no_grad():
            self.reader.weight[:, self.columns(kept)] = step.output.weight.to(self.reader.weight)
        if self.units is not None:
            self.units.clear(kept)

    def output(self, kept: Tensor) -> Affine:
        """The reader with only the columns of the kept units, copied."""
        return Affine.of(self.reader).columns(self.columns(kept))


def slots(model: PreTrainedModel, groups: Mapping[str, Units]) -> list[tuple[Slot, Slot]]:
    """The attention and the FFN of every layer, bottom to top."""
    known = {name: group for name, group in groups.items() if isinstance(group, SlotUnits)}

    def slot(name: str, residual: nn.Module, reader: nn.Linear) -> Slot:
        return Slot(name, residual, reader, known.get(name))

    found = []
    for layer in layers(model):
        attention, ffn = layer.residuals
        found.append(
            (
                slot(f"{layer.index}.heads", attention, layer.attention_out),
                slot(f"{layer.index}.neurons", ffn, layer.ffn_out),
            )
        )
    return found
