"""Distillation of what lies inside the models: hidden states and attention probabilities, matched by layer."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pruning.options import LAYERS_MATCHED, LayerMap

States = Sequence[Tensor]
"""Hidden states (rows, tokens, hidden): the embeddings, then the output of each layer."""

Maps = Sequence[Tensor]
"""Attention probabilities (rows, heads, tokens, tokens) of each layer."""


def matched_layers(student: int, teacher: int) -> list[tuple[int, int]]:
    """Pairs of (student's, teacher's) layers, counted from 1: equal ones, or every k-th of the deeper model.

    The last pair is that of both last layers. Depths that do not divide are refused at planning.
    """
    depth = min(student, teacher)
    return [(index * student // depth, index * teacher // depth) for index in range(1, depth + 1)]


def hidden_difference(
    student: States,
    teacher: States,
    real: Tensor,
    layer_map: LayerMap,
    project: Callable[[Tensor], Tensor] = lambda states: states,
    alive: Tensor | None = None,
    total: Callable[[Tensor], Tensor] = torch.detach,
) -> Tensor:
    """The mean squared difference of the hidden states, mean over the matched layers: 0-d, fp32.

    `real` (rows, tokens) is 1 at tokens and 0 at padding, which counts nowhere; `project` brings the student's
    states to the teacher's size. "equal" matches the embeddings and `matched_layers`. The others take four layers of
    the teacher, evenly spread up to the last (all when there are fewer), and `nearest_layers` of the student, of those
    that are `alive` (layers,). Where the rows are a part of a batch, `total` makes their differences those of the
    whole, without gradients.
    """
    own = [project(states).float() for states in student]
    targets = [states.detach().float() for states in teacher]
    weight = real.float()[..., None] / (real.sum() * targets[0].shape[-1])

    def difference(mine: int, theirs: int) -> Tensor:
        return ((own[mine] - targets[theirs]).square() * weight).sum()

    layers, depth = len(own) - 1, len(targets) - 1
    if layer_map == "equal":
        pairs = [(0, 0), *matched_layers(layers, depth)]
        return torch.stack([difference(mine, theirs) for mine, theirs in pairs]).mean()
    count = min(LAYERS_MATCHED, depth)
    chosen = [index * depth // count for index in range(1, count + 1)]
    rows = [torch.stack([difference(mine, theirs) for mine in range(1, layers + 1)]) for theirs in chosen]
    rivals = torch.stack(rows)
    matched = nearest_layers(total(rivals), alive, in_order=layer_map == "nearest_in_order")
    return rivals.gather(1, matched[:, None]).mean()


def nearest_layers(rivals: Tensor, alive: Tensor | None, *, in_order: bool) -> Tensor:
    """The student's layer, from 0, for each row of `rivals` (teacher's layers, student's layers): int64.

    The one with the least difference, of those that are `alive` (student's layers,), all when none is. With `in_order`
    rows choose from the last to the first, each among the layers below the one before; where none is left that one is
    taken again (CoFi, Xia, Zhong and Chen 2022, section 3.3 and released code). Nothing waits for the device.
    """
    if alive is not None:
        rivals = rivals.masked_fill(~(alive | ~alive.any()), torch.inf)
    if not in_order:
        return rivals.argmin(1)
    index = torch.arange(rivals.shape[1], device=rivals.device)
    found, last = [], torch.full((), rivals.shape[1], device=rivals.device)
    for row in rivals.flip(0):
        below = torch.where(index < last, row, torch.inf)
        last = torch.where(below.isfinite().any(), below.argmin(), last.clamp(max=rivals.shape[1] - 1))
        found.append(last)
    return torch.stack(found[::-1])


def attention_difference(
    student: Maps,
    teacher: Maps,
    real: Tensor,
    kept: Sequence[Sequence[int]] | None = None,
    masks: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """The mean squared difference of the attention probabilities, mean over the matched layers: 0-d, fp32.

    `real` (rows, tokens) is 1 at tokens and 0 at padding: queries and keys of padding count nowhere. Heads that
    are pruned are left out: `kept` are the indices of those that each layer of a shrunk student has left, and
    `masks` (heads,), by layer from 0, say which of its heads a masked student keeps.
    """
    pairs = real.float()[:, None, :, None] * real.float()[:, None, None, :]
    whole = real.float().sum(1).square().sum()
    terms = []
    for index, theirs in matched_layers(len(student), len(teacher)):
        layer = index - 1
        target = teacher[theirs - 1].detach().float()
        if kept is not None:
            target = target[:, list(kept[layer])]
        squares = ((student[layer].float() - target).square() * pairs).sum(dim=(0, 2, 3))
        alive = torch.ones_like(squares) if masks is None or layer not in masks else masks[layer].float()
        terms.append((squares * alive).sum() / (alive.sum().clamp(min=1) * whole))
    return torch.stack(terms).mean()
