"""Weights again where there were zeros: hybrid filled (Lagunas et al. 2021, arXiv 2109.04838, released code)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

_NOISE = 0.01


def fill(model: PreTrainedModel, masks: Mapping[str, Tensor], seed: int) -> int:
    """Give every dropped weight a small random value, in place; returns how many there were.

    `masks` are by parameter name, True = kept, in the shapes of the model. In a matrix W, its zeros included, the
    values are drawn from N(mean(W), (0.01 std(W))^2), so that whole rows and columns of zeros get gradients again.
    They depend on `seed`, model and masks alone.
    """
    generator = torch.Generator().manual_seed(seed)
    filled = 0
    for name in sorted(masks):
        weight = model.get_parameter(name).detach()
        noise = torch.randn(weight.shape, generator=generator).to(weight.device)
        std, mean = torch.std_mean(weight)
        dropped = ~masks[name].to(weight.device)
        weight.copy_(torch.where(dropped, mean + _NOISE * std * noise, weight))
        filled += int(dropped.sum())
    return filled
