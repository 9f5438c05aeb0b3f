"""The processes that train one model together, each on a device of its own; one process alone is such a group, too.

Every process holds the whole model and optimizer, computes its part of each batch, and takes the step that the sum of
all gradients asks for: the same bits everywhere, so that masks that learn from them stay the same as well.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from pruning.errors import InvalidSpec

_BUCKET = 2**24
"""Numbers that are summed in one message: enough for the full speed of a link, little beside a model."""


class GroupBroken(RuntimeError):
    """Another process of the group is gone, so that nothing can be summed any more."""


@dataclass(frozen=True)
class Group:
    """The process with number `rank` of `size`; with more than one there is a process group of torch.distributed.

    `whole` says whether all are still there, as far as this process knows. Whatever is summed has the same shape in
    all processes, which sum in the same order; GroupBroken is raised where one of them is gone.
    """

    rank: int = 0
    size: int = 1
    whole: Callable[[], bool] = lambda: True

    def seed(self, seed: int, step: int) -> None:
        """Give each process random numbers of its own for a step: a pure function, so that there is no state to keep.

        One process alone goes on with the numbers that it has, which its checkpoints hold.
        """
        if self.size > 1:
            torch.manual_seed(((seed * 1_000_003 + step) * 1009 + self.rank) % 2**63)

    def total(self, value: Tensor) -> Tensor:
        """The sum of a small tensor over all processes, without gradients."""
        value = value.detach()
        if self.size > 1:
            value = value.clone()
            _reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradient of each parameter, in place, by its sum over all processes."""
        if self.size == 1:
            return
        for bucket in _buckets([each.grad for each in parameters if each.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            _reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def check(self) -> None:
        """Raise GroupBroken when a process is known to be gone: what was summed since may be no sum."""
        if not self.whole():
            raise GroupBroken("A process of the group is gone.")

    def check_alike(self, tensors: Iterable[Tensor]) -> None:
        """Raise RuntimeError when the processes do not hold the same numbers, which would be a fault of ours."""
        if self.size == 1:
            return
        sums = torch.stack([tensor.detach().double().sum() for tensor in tensors])
        largest = torch.cat([sums, -sums])
        _reduce(largest, dist.ReduceOp.MAX)
        if not torch.equal(largest, torch.cat([sums, -sums])):
            raise RuntimeError("The processes that train together hold different weights.")


ALONE = Group()


def _reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
    try:
        dist.all_reduce(tensor, operation)
    except RuntimeError as error:
        raise GroupBroken(f"A process of the group is gone: {error}") from error


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in order, of one dtype, in lists of about `_BUCKET` numbers."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        full = sum(other.numel() for other in bucket) + gradient.numel() > _BUCKET
        if bucket and (full or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def join(rank: int, size: int, device: torch.device, folder: Path) -> None:
    """Become a process of the one process group that this process can have; waits until all have come to `folder`.

    NCCL between GPUs, gloo between cores. Raises InvalidSpec where the process has such a group already.
    """
    if dist.is_initialized():
        raise InvalidSpec(
            "This process trains together with others already.",
            param="/devices",
            remedy="Leave devices out, or call prune outside of torch.distributed.",
        )
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _on_this_machine():
        dist.init_process_group(backend, f"file://{folder / 'store'}", rank=rank, world_size=size)


def abort(device: torch.device) -> None:
    """End what waits on a GPU for a process that is gone. May be called by any thread."""
    if device.type == "cuda" and dist.group.WORLD is not None:
        dist.group.WORLD.abort()


def leave(device: torch.device) -> None:
    """Give up the process group without waiting for the others."""
    abort(device)
    dist.destroy_process_group()


@contextmanager
def _on_this_machine() -> Iterator[None]:
    """While the block runs, gloo listens on the loopback interface, not on the one that the host's name leads to."""
    name = "GLOO_SOCKET_IFNAME"
    before = os.environ.get(name)
    os.environ[name] = next(found for _, found in socket.if_nameindex() if found.startswith("lo"))
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
