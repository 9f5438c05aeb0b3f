"""The sub-layers in their model: where tensors, the modules that hold them and units of the request meet."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.knowledge.steps import Step
from pruning.knowledge.sublayers import Affine, Sublayer, sublayers
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units
from pruning.model.layers import layers


@dataclass(frozen=True)
class Site:
    """One sub-layer in its model: its tensors, the module that holds its output projection, and its units.

    `units` is None where nothing may be dropped.
    """

    name: str
    sublayer: Sublayer
    reader: nn.Linear
    units: SlotUnits | None

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.reader.weight.device

    def cut(self, kept: Tensor) -> Sublayer:
        """The sub-layer with only the units where `kept` (units,) is true."""
        return self.sublayer.keep(kept.to(self.device))

    def after(self, step: Step) -> Sublayer:
        """The sub-layer that a step made."""
        output = Affine(step.output.weight.to(self.device), step.output.bias.to(self.device))
        return replace(self.cut(step.kept), output=output)

    def bake(self, step: Step) -> None:
        """Write a step into the model, full-size, with zeros where units were dropped."""
        weight, kept = self.reader.weight, step.kept.to(self.device)
        with torch.no_grad():
            weight[:, self.sublayer.columns(kept)] = step.output.weight.to(self.device)
            if self.reader.bias is not None:
                self.reader.bias.copy_(step.output.bias)
        if self.units:
            self.units.clear(kept)


def sites_of(model: PreTrainedModel, groups: Mapping[str, Units]) -> list[Site]:
    """Every sub-layer, bottom to top; those without heads or neurons in `groups` keep all they have."""
    slots = {name: group for name, group in groups.items() if isinstance(group, SlotUnits)}
    sites = []
    for layer in layers(model):
        attention, ffn = sublayers(layer)
        heads, neurons = f"{layer.index}.heads", f"{layer.index}.neurons"
        sites.append(Site(heads, attention, layer.attention_out, slots.get(heads)))
        sites.append(Site(neurons, ffn, layer.ffn_out, slots.get(neurons)))
    return sites
