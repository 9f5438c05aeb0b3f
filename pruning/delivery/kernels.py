"""What 2:4 zeros bring where kernels use them: the device's own, tried on the result itself, in half precision."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.sparse import to_sparse_semi_structured
from transformers import PreTrainedModel

from pruning.delivery.measure import latency
from pruning.events import ShouldStop
from pruning.model.layers import prunable_linears
from pruning.report import Kernels

PATTERN = "2:4"
_CAPABILITY = (8, 0)
"""The first compute capability of CUDA devices with such kernels (Ampere)."""


def offered(device: torch.device) -> bool:
    """Whether the device has kernels for 2:4."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _CAPABILITY


def try_kernels(
    dense: PreTrainedModel,
    pruned: PreTrainedModel,
    batch_sizes: Sequence[int],
    sequence_length: int,
    rounds: int,
    *,
    should_stop: ShouldStop,
) -> Kernels:
    """Time the dense model against the pruned one on 2:4 kernels, in turns. Both are in half precision afterwards.

    Matrices of sizes that the kernels do not have stay as they are. Raises Canceled.
    """
    dense, pruned = dense.half(), pruned.half()
    linears = prunable_linears(pruned)
    compressed = sum(_compress(linear) for linear in linears.values())
    timed = latency(dense, pruned, batch_sizes, sequence_length, rounds, should_stop=should_stop)
    return Kernels(linears=compressed, of_linears=len(linears), latency=tuple(timed))


def _compress(linear: nn.Linear) -> bool:
    try:
        weight = to_sparse_semi_structured(linear.weight.detach())
    except (RuntimeError, ValueError):  # what torch says of sizes that it has no kernel for
        return False
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return True
