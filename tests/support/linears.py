"""A single linear layer with masks on it: small enough to say by hand what must happen."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pruning.masking.learned import LearnedMask, LearnedMasks
from pruning.masking.masks import WeightMask
from pruning.masking.units import Units
from pruning.masking.weight_units import WeightUnits


def masked_linear(
    block: tuple[int, int],
    source: Callable[[Units], LearnedMask],
    masks: Callable[[dict[str, Units], dict[str, LearnedMask]], Any],
    *,
    outputs: int = 4,
    inputs: int = 6,
) -> tuple[nn.Linear, Any]:
    """A linear without bias, in whose forward pass the masks act, and its mask set."""
    torch.manual_seed(0)
    linear = nn.Linear(inputs, outputs, bias=False)
    groups: dict[str, Units] = {"only": WeightUnits(linear, "weight", block)}
    mask_set: LearnedMasks = masks(groups, {"only": source(groups["only"])})
    mask = WeightMask(WeightUnits(linear, "weight", block).expand, mask_set.source("only"))
    nn.utils.parametrize.register_parametrization(linear, "weight", mask)
    return linear, mask_set


def task(seed: int = 0, *, rows: int = 5, outputs: int = 4, inputs: int = 6) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a least-squares problem."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, inputs, generator=generator), torch.randn(rows, outputs, generator=generator)
