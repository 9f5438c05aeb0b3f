"""Evaluation of a task: rows sorted by length, batches of a fixed number of tokens, order restored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pruning.errors import Canceled
from pruning.events import ShouldStop
from pruning.training.tasks import Encoded, Task


@dataclass(frozen=True)
class Evaluated:
    """Quality by metric, and what the model said of each row, as the task keeps it, in the order of the rows."""

    metrics: dict[str, float]
    answers: list[Any]


def evaluate(
    model: nn.Module,
    rows: Encoded,
    task: Task,
    *,
    device: torch.device,
    should_stop: ShouldStop,
    on_progress: Callable[[float], None],
    batch_tokens: int | None = None,
) -> Evaluated:
    """Run the model over all rows in eval mode; the batches depend on the rows only, so results compare.

    `batch_tokens` bounds rows times length of a batch, by default as the task says; `on_progress` gets the done
    fraction after every batch. Raises Canceled when `should_stop` says so.
    """
    model.eval()
    answers: dict[int, Any] = {}
    with torch.inference_mode():
        for indices in batches(rows, batch_tokens or task.batch_tokens):
            if should_stop() is not None:
                raise Canceled("Stopped while evaluating.")
            batch = rows.batch(indices)
            inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
            answers.update(zip(indices, task.answers(model(**inputs), rows, indices), strict=True))
            on_progress(len(answers) / len(rows))
    ordered = [answers[index] for index in range(len(rows))]
    return Evaluated(task.metrics(ordered, rows), ordered)


def batches(rows: Encoded, batch_tokens: int) -> Iterator[list[int]]:
    """Row indices by falling length, in batches of at most `batch_tokens` padded tokens (at least one row).

    The longest batch comes first: when memory does not suffice, it shows at once.
    """
    order = np.argsort(-rows.lengths, kind="stable").tolist()
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // int(rows.lengths[order[start]]))
        yield order[start : start + count]
        start += count
