"""Where a layer is pruned: linears that read the same inputs share what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from pruning.masking.weight_units import WeightUnits
from pruning.model.layers import layers


@dataclass(frozen=True)
class Site:
    """The groups of those linears of one layer, by name, that read the same inputs."""

    groups: Mapping[str, WeightUnits]

    @property
    def reader(self) -> nn.Module:
        """One of the linears: what it reads, all read.

        The last, as query and key of DeBERTa also project relative positions, which count for none of the three.
        """
        return list(self.groups.values())[-1].linear

    @property
    def inputs(self) -> int:
        """How many inputs they have."""
        return next(iter(self.groups.values())).linear.in_features


def sites(model: PreTrainedModel, groups: Mapping[str, WeightUnits]) -> list[list[Site]]:
    """The sites of every layer that have groups, in the order in which they compute."""
    names = {group.linear: name for name, group in groups.items()}
    found = []
    for layer in layers(model):
        together = (
            (layer.query, layer.key, layer.value),
            (layer.attention_out,),
            layer.ffn_in,
            (layer.ffn_out,),
        )
        named = [[names[linear] for linear in dict.fromkeys(each) if linear in names] for each in together]
        found.append([Site({name: groups[name] for name in each}) for each in named if each])
    return found
