"""What it costs to drop a weight and leave the others as they are."""

import torch
from torch import Tensor


def wanda(weight: Tensor, squares: Tensor) -> Tensor:
    """|W| |x| (Sun et al. 2024, equation 1): (outputs, inputs) of a weight and the (inputs,) squares of its inputs."""
    return weight.abs().float() * squares.sqrt()


def ria(weight: Tensor, squares: Tensor, power: float = 0.5) -> Tensor:
    """Relative importance times |x|^power (Zhang et al. 2024, equations 3 and 5): (outputs, inputs).

    A weight is compared with all that its input feeds and with all that its output reads. A row or column of zeros
    has no importance.
    """
    size = weight.abs().float()
    tiny = torch.finfo(torch.float32).tiny
    relative = size / size.sum(0).clamp_min(tiny) + size / size.sum(1, keepdim=True).clamp_min(tiny)
    return relative * squares.pow(power / 2)
