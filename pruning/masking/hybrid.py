"""Results that are part removed, part zero: what block masks say of whole heads, and masks of a shrunk attention."""

from collections.abc import Mapping

from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.model.layers import family, layers, prunable_linears
from pruning.model.shrink import features
from pruning.planning.costs import Kept


def heads_left(model: PreTrainedModel, masks: Mapping[str, Tensor]) -> tuple[tuple[int, ...], ...]:
    """The heads of each layer that must stay, by masks on query, key, value and attention output.

    A head without a weight adds nothing to the answers and nothing to the count: it can be removed, if the family
    can miss one. A head that only lost its columns in the attention output adds nothing to the answers either, but
    what is left of its rows counts as kept: removing it would remove more than was asked.
    """
    names = _weight_names(model)
    found: list[tuple[int, ...]] = []
    for layer in layers(model):
        if family(model).fewest_heads is None:
            found.append(tuple(range(layer.heads)))
            continue
        left = masks[names[layer.attention_out]].reshape(-1, layer.heads, layer.head_width).any(dim=(0, 2))
        for writer in layer.head_writers:
            left = left | writer.split(masks[names[writer.linear]]).any(dim=(0, 2, 3))
        found.append(tuple(left.nonzero().flatten().tolist()))
    return tuple(found)


def shrink_masks(model: PreTrainedModel, masks: Mapping[str, Tensor], kept: Kept) -> dict[str, Tensor]:
    """Masks by parameter name, on the attention alone, cut to what is left of it when only `kept` heads stay.

    `masks` have the shapes of the dense model; `model` may be dense or shrunk already.
    """
    names = _weight_names(model)
    cut: dict[str, Tensor] = {}
    for layer, heads in zip(layers(model), kept.heads, strict=True):
        reader = names[layer.attention_out]
        cut[reader] = masks[reader][:, features(heads, layer.head_width)]
        for writer in layer.head_writers:
            name = names[writer.linear]
            cut[name] = writer.split(masks[name])[:, list(heads)].flatten(0, 2)
    return cut


def _weight_names(model: PreTrainedModel) -> dict[nn.Linear, str]:
    """The full name of the weight of every prunable linear."""
    return {linear: f"{name}.weight" for name, linear in prunable_linears(model).items()}
