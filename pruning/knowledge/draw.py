"""Which training rows are looked at, and in what groups they are computed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.training.tasks import Encoded

_BATCH_WORK = 2**34
"""Multiply-adds of one forward pass over a batch: large enough for fast matrix products, small enough that a stop
between two batches is heeded within 2 seconds on one core."""
_BATCH_TOKENS = {"cpu": 800, "cuda": 16_384}


@dataclass(frozen=True)
class Batch:
    """Rows that are computed together: their positions in the draw (rows,), and all that is known of them."""

    rows: Tensor
    whole: dict[str, Tensor]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the model reads."""
        return {name: value for name, value in self.whole.items() if name != "labels"}

    @property
    def real(self) -> Tensor:
        """What is not padding, (rows, tokens) bool."""
        return self.whole["attention_mask"].bool()


@dataclass(frozen=True)
class Draw:
    """Training rows in drawn order; `indices` (rows,) int64 are their places in the training set."""

    train: Encoded
    indices: Tensor

    @classmethod
    def of(cls, train: Encoded, tokens: int, seed: int, *, replacement: bool = False) -> "Draw":
        """Rows with about `tokens` tokens in all; with `replacement` one may come twice, as in the released codes."""
        return cls.rows(train, int(tokens / train.mean_length), seed, replacement=replacement)

    @classmethod
    def rows(cls, train: Encoded, count: int, seed: int, *, replacement: bool = False) -> "Draw":
        """`count` rows, or all when there are fewer."""
        generator = torch.Generator().manual_seed(seed)
        count = max(1, min(count, len(train)))
        if replacement:
            return cls(train, torch.randint(len(train), (count,), generator=generator))
        return cls(train, torch.randperm(len(train), generator=generator)[:count])

    def part(self, part: float) -> "Draw":
        """The first of these rows, that part of them."""
        return Draw(self.train, self.indices[: max(1, int(part * len(self)))])

    def split(self, part: float, seed: int) -> tuple["Draw", "Draw"]:
        """These rows and, to judge by, that part of as many others; a part of these where there are no others."""
        held = max(1, int(part * len(self)))
        unseen = torch.ones(len(self.train), dtype=torch.bool)
        unseen[self.indices] = False
        others = unseen.nonzero().flatten()
        if len(others) >= held:
            chosen = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:held]
            return self, Draw(self.train, others[chosen])
        if len(self) == 1:
            return self, self
        return Draw(self.train, self.indices[held:]), Draw(self.train, self.indices[:held])

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
