"""Better masks by exchanging one kept weight for a dropped one, as long as that helps (Zimmer et al. 2025)."""

from collections.abc import Callable

import torch
from torch import Tensor

_PAIRS = 2**22
"""Pairs of weights that are looked at together."""


def error(weight: Tensor, kept: Tensor, gram: Tensor) -> Tensor:
    """What zeroing all but `kept` changes of each output, squared and summed over tokens: (outputs,)."""
    dropped = weight * ~kept
    return (dropped @ gram * dropped).sum(1)


def workspace(outputs: int, inputs: int) -> int:
    """Bytes that `swap` needs beside its arguments: the Gram matrix in float64, the pairs, the weight."""
    return 8 * (inputs**2 + 3 * max(_PAIRS, inputs**2) + outputs * inputs)


def swap(
    weight: Tensor,
    kept: Tensor,
    gram: Tensor,
    most: int,
    *,
    group: int | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Tensor:
    """A mask (outputs, inputs) with as many weights in each row as `kept` and no larger `error`.

    In each row the exchange that lowers the error most is made, up to `most` times; with `group` only inside as many
    consecutive inputs. All in float64, so that rounding cannot raise the error. `beat` may raise to stop.
    """
    gram, weight = gram.double(), weight.double()
    inputs = weight.shape[1]
    rows = max(1, _PAIRS // (inputs * (group or inputs)))
    refined = []
    for part, mask in zip(torch.split(weight, rows), torch.split(kept, rows), strict=True):
        beat()
        refined.append(_swap(part, mask, gram, most, group))
    return torch.cat(refined)


def _swap(weight: Tensor, kept: Tensor, gram: Tensor, most: int, group: int | None) -> Tensor:
    """The same for a few rows."""
    rows, inputs = weight.shape
    size = group or inputs
    groups = inputs // size
    every = torch.arange(rows, device=weight.device)
    kept = kept.clone()
    dropped = weight * ~kept
    pull = dropped @ gram
    own = weight.square() * gram.diagonal()
    # The block of the Gram matrix that belongs to each group: (groups, size, size).
    inside = torch.stack([gram[at : at + size, at : at + size] for at in range(0, inputs, size)])
    paired = weight.view(rows, groups, size)
    for _ in range(most):
        now = (dropped * pull).sum(1)
        losing = (own + 2 * weight * pull).masked_fill(~kept, torch.inf).view(rows, groups, size)
        gaining = (own - 2 * weight * pull).masked_fill(kept, torch.inf).view(rows, groups, size)
        change = -2 * paired[..., :, None] * paired[..., None, :] * inside
        change += losing[..., :, None] + gaining[..., None, :]
        best, pair = change.reshape(rows, -1).min(1)
        helps = best < -1e-9 * now
        if not helps.any():
            break
        at, within = pair // (size * size), pair % (size * size)
        out, back = at * size + within // size, at * size + within % size
        kept[every[helps], out[helps]] = False
        kept[every[helps], back[helps]] = True
        step = torch.where(helps, 1.0, 0.0)[:, None].to(weight.dtype)
        outgoing, incoming = weight[every, out][:, None], weight[every, back][:, None]
        pull += step * (outgoing * gram[out] - incoming * gram[back])
        dropped = weight * ~kept
    return kept
