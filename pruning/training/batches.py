"""The order of training rows: rows of like length share a batch, so that little padding is computed."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_WINDOW = 50


class LengthGroupedSampler(Sampler[int]):
    """Row indices of one epoch: a pure function of seed and epoch, so a resumed run sees the same batches.

    Rows are shuffled, sorted by length within windows of 50 batches, and the batches are shuffled again; the
    last batch may be short.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        # Two seeds must not share an epoch's order: mix them by a large odd number.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        order = torch.randperm(len(self), generator=generator)
        windows = torch.split(order, self.batch_size * _WINDOW)
        order = torch.cat([window[self.lengths[window].argsort(stable=True)] for window in windows])
        batches = torch.split(order, self.batch_size)
        full = [batch for batch in batches if len(batch) == self.batch_size]
        short = [batch for batch in batches if len(batch) < self.batch_size]
        shuffled = [full[index] for index in torch.randperm(len(full), generator=generator).tolist()]
        return iter(torch.cat(shuffled + short).tolist())
