"""Results that are part removed, part zero: what masks on weights say of whole units, and masks of a shrunk model."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.model.layers import Writer, family, layers, prunable_linears
from pruning.model.shrink import Cut, cuts
from pruning.planning.costs import Kept


def units_left(model: PreTrainedModel, masks: Mapping[str, Tensor], kept: Kept) -> Kept:
    """`kept` without the heads and neurons of which masks on weights leave nothing, by the dense `model`.

    A unit without a weight adds nothing to the answers and nothing to the count: it can be removed, if the family
    can miss one. A head that only lost its columns in the attention output adds nothing to the answers either, but
    what is left of its rows counts as kept: removing it would remove more than was asked. So with neurons. Units
    of sub-layers that have no masks stay.
    """
    names = _weight_names(model)
    heads, neurons = list(kept.heads), list(kept.neurons)
    for layer in layers(model):
        if names[layer.attention_out] in masks and family(model).fewest_heads is not None:
            left = _left(names, masks, layer.head_writers, layer.attention_out, layer.heads)
            heads[layer.index] = _both(heads[layer.index], left)
        if names[layer.ffn_out] in masks:
            left = _left(names, masks, layer.neuron_writers, layer.ffn_out, layer.neurons)
            neurons[layer.index] = _both(neurons[layer.index], left)
    return Kept(heads=tuple(heads), neurons=tuple(neurons))


def _left(
    names: Mapping[nn.Linear, str],
    masks: Mapping[str, Tensor],
    writers: tuple[Writer, ...],
    reader: nn.Linear,
    units: int,
) -> Tensor:
    """Whether anything is left of each unit in its writers and its reader: (units,), bool."""
    mask = masks[names[reader]]
    left = mask.reshape(len(mask), units, -1).any(dim=(0, 2))
    for writer in writers:
        left = left | writer.split(masks[names[writer.linear]]).any(dim=(0, 2, 3))
    return left


def _both(kept: tuple[int, ...], left: Tensor) -> tuple[int, ...]:
    return tuple(index for index in kept if left[index])


def shrink_masks(model: PreTrainedModel, masks: Mapping[str, Tensor], kept: Kept) -> dict[str, Tensor]:
    """Masks by parameter name, cut to what is left of their matrices when only `kept` units stay.

    `masks` have the shapes of the dense model; `model` may be dense or shrunk already.
    """
    smaller: dict[str, Tensor] = {}
    for name, mask, writer, cut in _masked(model, masks, kept):
        if writer is None:
            smaller[name] = mask[:, cut.features]
        else:
            smaller[name] = writer.split(mask)[:, cut.units].flatten(0, 2)
    return smaller


def restore_masks(model: PreTrainedModel, masks: Mapping[str, Tensor], kept: Kept) -> dict[str, Tensor]:
    """Masks of a model shrunk to `kept`, in the shapes of the dense `model`: what was removed is not kept."""
    whole: dict[str, Tensor] = {}
    for name, mask, writer, cut in _masked(model, masks, kept):
        whole[name] = mask.new_zeros(model.get_parameter(name).shape)
        if writer is None:
            whole[name][:, cut.features] = mask
        else:
            writer.split(whole[name])[:, cut.units] = writer.split(mask)
    return whole


def _masked(
    model: PreTrainedModel, masks: Mapping[str, Tensor], kept: Kept
) -> Iterator[tuple[str, Tensor, Writer | None, Cut]]:
    """Every masked weight: name, mask, the writer that it belongs to or None for a reader, the cut it belongs to."""
    names = _weight_names(model)
    for layer, heads, neurons in zip(layers(model), kept.heads, kept.neurons, strict=True):
        for cut in cuts(layer, heads, neurons):
            owners: dict[str, Writer | None] = {names[writer.linear]: writer for writer in cut.writers}
            owners[names[cut.reader]] = None
            for name, owner in owners.items():
                if name in masks:
                    yield name, masks[name], owner, cut


def _weight_names(model: PreTrainedModel) -> dict[nn.Linear, str]:
    """The full name of the weight of every prunable linear."""
    return {linear: f"{name}.weight" for name, linear in prunable_linears(model).items()}
