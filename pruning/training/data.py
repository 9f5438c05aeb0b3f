"""The rows of a job: training rows and evaluation rows, tokenised."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from pruning.data.examples import AnyExample, Line, Question
from pruning.data.readers import find_splits
from pruning.data.rows import DataSummary, examples
from pruning.errors import InvalidData
from pruning.spec import PruneSpec
from pruning.training.tasks import Encoded, Task
from pruning.training.tasks.encoded import TokenRows

_ROWS_BETWEEN_BEATS = 1000


@dataclass(frozen=True)
class Data:
    """`evaluation` comes from the split named `split`; when that is "train", its rows are not in `train`."""

    train: Encoded
    evaluation: Encoded
    split: str


def load_data(
    folder: Path,
    summary: DataSummary,
    spec: PruneSpec,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    beat: Callable[[], object],
) -> Data:
    """Read and tokenise a summarised dataset. `beat` is called between chunks and may raise to stop.

    Without a validation file, `evaluate.validation_fraction` of the training rows are set apart, chosen by
    the seed; beyond `evaluate.max_rows`, so are the evaluation rows. Lines of text go on from one to the next: of
    them the last are set apart, and the first windows are evaluated.
    """
    paths = find_splits(folder)
    train = _beating(examples(paths["train"], summary), beat)
    if "validation" in paths:
        split = "validation"
        held_out = _beating(examples(paths["validation"], summary), beat)
    else:
        split = "train"
        train, held_out = _carve(train, spec)
    lines, most = summary.layout == "lines", spec.evaluate.max_rows
    if most is not None and not lines:
        held_out = _sample(held_out, most, spec.seed)
    evaluation = task.encode(held_out, tokenizer, spec, beat)
    if most is not None and lines and isinstance(evaluation, TokenRows):
        evaluation = evaluation.first(most)
    return Data(train=task.encode(train, tokenizer, spec, beat), evaluation=evaluation, split=split)


def _beating(rows: Iterable[AnyExample], beat: Callable[[], object]) -> list[AnyExample]:
    read: list[AnyExample] = []
    for row in rows:
        if len(read) % _ROWS_BETWEEN_BEATS == 0:
            beat()
        read.append(row)
    return read


def _carve(rows: list[AnyExample], spec: PruneSpec) -> tuple[list[AnyExample], list[AnyExample]]:
    count = max(1, round(len(rows) * spec.evaluate.validation_fraction))
    order = np.random.default_rng(spec.seed).permutation(len(rows))
    if any(isinstance(row, Line) for row in rows):
        order = np.arange(len(rows))[::-1]
    kept = [rows[index] for index in sorted(order[count:])]
    if not _trainable(kept):
        raise InvalidData(
            f"{len(rows)} training rows are too few to set {count} apart for evaluation.",
            remedy="Add a validation file or more rows.",
        )
    return kept, [rows[index] for index in sorted(order[:count])]


def _trainable(rows: list[AnyExample]) -> bool:
    """Whether something can be learnt: two different labels, a question with an answer, or text."""
    if any(isinstance(row, Line) for row in rows):
        return any(isinstance(row, Line) and row.text for row in rows)
    if any(isinstance(row, Question) for row in rows):
        return any(isinstance(row, Question) and row.answers for row in rows)
    return len({label for row in rows for label in row.labels}) >= 2


def _sample(rows: list[AnyExample], count: int, seed: int) -> list[AnyExample]:
    if len(rows) <= count:
        return rows
    return [rows[index] for index in sorted(np.random.default_rng(seed).permutation(len(rows))[:count])]
