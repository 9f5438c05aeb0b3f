"""Which training rows are looked at, and in what groups they are computed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.knowledge.stream import Batch
from pruning.training.tasks import Encoded

_BATCH_WORK = 2**34
"""Multiply-adds of one forward pass over a batch: large enough for fast matrix products, small enough that a stop
between two batches is heeded within 2 seconds on one core."""
_BATCH_TOKENS = {"cpu": 800, "cuda": 16_384}


@dataclass(frozen=True)
class Draw:
    """Training rows in drawn order; `indices` (rows,) int64 are their places in the training set."""

    train: Encoded
    indices: Tensor

    @classmethod
    def of(cls, train: Encoded, tokens: int, seed: int) -> "Draw":
        """Rows with about `tokens` tokens in all, without replacement (the released code repeats rows)."""
        count = max(1, min(int(tokens / train.mean_length), len(train)))
        generator = torch.Generator().manual_seed(seed)
        return cls(train, torch.randperm(len(train), generator=generator)[:count])

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, (rows,) int64."""
        return torch.from_numpy(self.train.lengths)[self.indices]

    def batches(self, device: torch.device, weights: int) -> list[Batch]:
        """The rows sorted by length, so that almost nothing is padding; `weights` is what each token meets."""
        limit = min(_BATCH_WORK // weights, _BATCH_TOKENS[device.type])
        lengths = self.lengths
        order = torch.argsort(lengths, stable=True)
        groups: list[list[int]] = [[]]
        for position in order.tolist():
            if groups[-1] and (len(groups[-1]) + 1) * int(lengths[position]) > limit:
                groups.append([])
            groups[-1].append(position)
        return [self._batch(torch.tensor(group), device) for group in groups]

    def _batch(self, rows: Tensor, device: torch.device) -> Batch:
        whole = self.train.batch(self.indices[rows].tolist())
        return Batch(rows, {name: value.to(device) for name, value in whole.items()})
