"""How the processes of a group divide a batch, and what their parts weigh in the means over the whole.

Losses are means: over answers, over tokens, over pairs of tokens. A process takes the mean over its own part, times
the share that its part has of the whole; summed over the processes this is the mean over the whole batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pruning.training.group import Group
from pruning.training.tasks import Batch, Encoded, Task

_KEY = "shares"

Collate = Callable[[Sequence[Mapping[str, Any]]], Batch]


class Shares(NamedTuple):
    """This process's part of the answers, the real tokens, and the pairs of tokens that see each other of a batch."""

    answers: Tensor | float
    tokens: Tensor | float
    pairs: Tensor | float

    @classmethod
    def taken_from(cls, batch: Batch) -> "Shares":
        """Remove the shares from a batch and return them; all of it where the batch was not divided."""
        return cls(*batch.pop(_KEY)) if _KEY in batch else WHOLE


WHOLE = Shares(1.0, 1.0, 1.0)


def divided(rows: Encoded, task: Task, group: Group) -> Collate:
    """A function that gives the process its part of a batch, padded as the whole, and what the part weighs.

    Every `size`-th row is its own. A last batch may have fewer rows than there are processes: those without a row
    compute one that weighs nothing, because all must take part in every sum.
    """
    if group.size == 1:
        return rows.collate

    def collate(items: Sequence[Mapping[str, Any]]) -> Batch:
        whole = rows.collate(items)
        tokens = whole["attention_mask"].sum(1)
        answers = torch.bincount(task.rows_of(whole), minlength=len(items))
        counts = torch.stack([answers, tokens, tokens.square()]).double()
        own = torch.arange(len(items))[group.rank :: group.size]
        shares = (counts[:, own].sum(1) / counts.sum(1)).float()
        if not len(own):
            own = torch.tensor([0])
        return {name: value[own] for name, value in whole.items()} | {_KEY: shares}

    return collate
