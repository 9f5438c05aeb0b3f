"""Masks at work: gates on heads and neurons, masks on weights, and baking them into the model.

A `MaskSource` says which units are kept; a `Gate` or `WeightMask` applies it in the forward pass. All sources
of a model live in one `MaskSet`, registered as `model.pruning`, so that checkpoints carry them; gates and
weight masks hold plain references and add no keys of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Transform, Units
from pruning.masking.weight_units import WeightUnits
from pruning.planning.costs import Kept
from pruning.planning.shape import ModelShape

ATTRIBUTE = "pruning"
"""The attribute of the model under which its MaskSet is registered."""


class MaskSource(nn.Module, ABC):
    """Says which units of one group are kept."""

    kept: Tensor
    """(count,), bool: the mask as it is now, a buffer."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept.clone())  # a view could not be saved

    @abstractmethod
    def forward(self) -> Tensor:
        """The mask (count,) in fp32; a learned one lets gradients through."""

    def cover(self, values: Tensor, mask: Tensor) -> Tensor:
        """Mask values by what was spread to their shape; a learned source may let more of their gradient through."""
        return values * mask


class FixedMask(MaskSource):
    """A mask that does not change."""

    def forward(self) -> Tensor:
        """The mask (count,) in fp32."""
        return self.kept.float()


class Gate:
    """Forward pre-hook on a reader: masks its input features, which equals zeroing the columns they feed."""

    def __init__(self, units: SlotUnits, source: MaskSource) -> None:
        self.units = units
        self.source = source

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Mask the features (..., inputs) of the first argument; only the mask is cast."""
        features, *rest = inputs
        mask = self.units.widen(self.source()).to(features.dtype)
        return (self.source.cover(features, mask), *rest)


class WeightMask(nn.Module):
    """Parametrization of a weight or bias: itself times the mask (count,), which `spread` gives its shape."""

    def __init__(self, spread: Transform, source: MaskSource) -> None:
        super().__init__()
        self.spread = spread
        self._source = (source,)  # in a tuple, which hides it from the module's own parameters

    def forward(self, parameter: Tensor) -> Tensor:
        """Mask a weight (outputs, inputs) or bias (outputs,); only the mask is cast."""
        (source,) = self._source
        return source.cover(parameter, self.spread(source()).to(parameter.dtype))


class MaskSet(nn.Module):
    """Every mask of one model, by group. Made by `attach`, ended by `bake`."""

    def __init__(self, groups: Mapping[str, Units], sources: Mapping[str, MaskSource]) -> None:
        super().__init__()
        self.groups = dict(groups)
        # A module's name may not hold dots, a group's name does.
        self.sources = nn.ModuleDict({_key(name): sources[name] for name in groups})
        self._handles: list[RemovableHandle] = []

    def source(self, name: str) -> MaskSource:
        """The source of the group called `name`."""
        return cast(MaskSource, self.sources[_key(name)])

    def kept(self) -> dict[str, Tensor]:
        """The mask (count,) of every group, bool."""
        return {name: self.source(name).kept for name in self.groups}

    def density(self) -> float:
        """The kept fraction of the groups' cost, as the masks are now; one host sync for all."""
        counts = torch.stack([self.source(name).kept.sum() for name in self.groups]).tolist()
        kept = sum(count * group.cost for count, group in zip(counts, self.groups.values(), strict=True))
        return kept / sum(group.count * group.cost for group in self.groups.values())

    def densities(self) -> dict[str, float]:
        """The kept fraction of each group's units."""
        return {name: float(kept.float().mean()) for name, kept in self.kept().items()}

    def attach(self, model: PreTrainedModel) -> None:
        """Register as `model.pruning` on the model's device and let every mask act."""
        model.add_module(ATTRIBUTE, self.to(model.device))
        for name, group in self.groups.items():
            if isinstance(group, SlotUnits):
                gate = Gate(group, self.source(name))
                self._handles.append(group.reader.register_forward_pre_hook(gate))
            elif isinstance(group, WeightUnits):
                for parameter, spread in group.owned.items():
                    mask = WeightMask(spread, self.source(name))
                    parametrize.register_parametrization(group.linear, parameter, mask)

    def bake(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Remove hooks, parametrizations and the set itself, and zero what is dropped; returns the masks."""
        for handle in self._handles:
            handle.remove()
        masks = self.kept()
        for name, group in self.groups.items():
            if isinstance(group, WeightUnits):
                for parameter in group.owned:
                    parametrize.remove_parametrizations(group.linear, parameter, leave_parametrized=False)
            group.clear(masks[name])
        delattr(model, ATTRIBUTE)
        return masks


def _key(name: str) -> str:
    return name.replace(".", "/")


def attach_fixed(model: PreTrainedModel, groups: Mapping[str, Units], masks: Mapping[str, Tensor]) -> MaskSet:
    """Attach masks that do not change, for training that must not bring dropped units back."""
    mask_set = MaskSet(groups, {name: FixedMask(mask) for name, mask in masks.items()})
    mask_set.attach(model)
    return mask_set


def attach_weight_masks(model: PreTrainedModel, weight_masks: Mapping[str, Tensor]) -> MaskSet:
    """Attach fixed masks given by parameter name, each in the shape of its parameter (as in `Outcome`).

    A masked bias says that whole rows are dropped.
    """
    groups, masks = {}, {}
    for name in dict.fromkeys(parameter.rpartition(".")[0] for parameter in weight_masks):
        linear, parameter = cast(nn.Linear, model.get_submodule(name)), f"{name}.weight"
        rows = weight_masks.get(f"{name}.bias")
        if rows is None:
            groups[name], masks[name] = WeightUnits(linear, parameter), weight_masks[parameter].reshape(-1)
        else:
            groups[name], masks[name] = WeightUnits(linear, parameter, (1, linear.in_features), True), rows
    return attach_fixed(model, groups, masks)


def weight_masks(groups: Mapping[str, Units], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks on weights and biases by parameter name: bool, in the shape of the parameter, on the CPU."""
    return {
        group.parameter.removesuffix("weight") + owned: spread(masks[name]).cpu()
        for name, group in groups.items()
        if isinstance(group, WeightUnits)
        for owned, spread in group.owned.items()
    }


def kept_units(shape: ModelShape, groups: Mapping[str, Units], masks: Mapping[str, Tensor]) -> Kept:
    """Masks on heads and neurons as the indices of those kept; a layer without a group for one keeps all."""
    everything = Kept.everything(shape)
    kept = {"heads": list(everything.heads), "neurons": list(everything.neurons)}
    for name, group in groups.items():
        if isinstance(group, SlotUnits):
            kept[group.kind][group.layer] = tuple(masks[name].nonzero().flatten().tolist())
    return Kept(heads=tuple(kept["heads"]), neurons=tuple(kept["neurons"]))


def save_masks(path: Path, masks: Mapping[str, Tensor]) -> None:
    """Write masks by name to a safetensors file, replacing it in one step."""
    partial = path.with_suffix(".partial")
    save_file({name: mask.contiguous().cpu() for name, mask in masks.items()}, partial)
    partial.replace(path)


def load_masks(path: Path) -> dict[str, Tensor]:
    """Read what `save_masks` wrote."""
    return dict(load_file(path))
