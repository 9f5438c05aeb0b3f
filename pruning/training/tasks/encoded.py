"""Tokenised rows, flat in memory, and how they become batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Batch = dict[str, Tensor]
Item = TypeVar("Item")

IGNORED = -100
"""The label of a token that nothing is asked about."""
_CHUNK = 1000


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows without padding. Row i is tokens `offsets[i]` to `offsets[i + 1]` of the flat arrays.

    A torch map-style dataset: `self[i]` is a dict of lists (`input_ids`, `attention_mask`, `token_type_ids`
    when the model reads them) and `labels`. `labels` are class indices (int64) or values (float64), (rows,).
    """

    tokens: NDArray[np.int32]
    segments: NDArray[np.int8] | None
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64] | NDArray[np.float64]
    pad_token: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, end = self.offsets[index], self.offsets[index + 1]
        tokens = self.tokens[start:end].tolist()
        row: dict[str, Any] = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
        if self.segments is not None:
            row["token_type_ids"] = self.segments[start:end].tolist()
        row["labels"] = self._label(index)
        return row

    def _label(self, index: int) -> Any:
        return self.labels[index].tolist()

    @property
    def examples(self) -> int:
        """How many examples of the dataset the rows come from."""
        return len(self)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, (rows,)."""
        return np.diff(self.offsets)

    @property
    def mean_length(self) -> float:
        """Mean number of tokens in a row."""
        return float(self.lengths.mean())

    def batch(self, indices: Sequence[int], pad_to_multiple: int = 1) -> Batch:
        """Rows padded on the right to the longest: int64 (rows, length), and their labels."""
        return self.collate([self[index] for index in indices], pad_to_multiple)

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_to_multiple: int = 1) -> Batch:
        """Stack rows of this dataset into one padded batch."""
        longest = max(len(row["input_ids"]) for row in rows)
        length = -(-longest // pad_to_multiple) * pad_to_multiple
        batch = {
            name: torch.tensor([row[name] + [value] * (length - len(row[name])) for row in rows])
            for name, value in self._padding().items()
            if name in rows[0]
        }
        if "labels" not in batch:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    def _padding(self) -> dict[str, int]:
        """What fills up the columns that have one number per token."""
        return {"input_ids": self.pad_token, "attention_mask": 0, "token_type_ids": 0}


@dataclass(frozen=True)
class TokenRows(Encoded):
    """Rows with a label for every token: `labels` is flat like `tokens`, `IGNORED` where nothing is asked."""

    def _label(self, index: int) -> list[int]:
        labels: list[int] = self.labels_of(index).tolist()
        return labels

    def _padding(self) -> dict[str, int]:
        return super()._padding() | {"labels": IGNORED}

    def labels_of(self, index: int) -> NDArray[Any]:
        """The labels of one row, (tokens,)."""
        return self.labels[self.offsets[index] : self.offsets[index + 1]]

    def first(self, count: int) -> Self:
        """The first rows only."""
        offsets = self.offsets[: count + 1]
        end = offsets[-1]
        return replace(self, tokens=self.tokens[:end], labels=self.labels[:end], offsets=offsets)


def chunks(items: Sequence[Item], beat: Callable[[], object]) -> Iterator[Sequence[Item]]:
    """The items in parts small enough to tokenise between two signs of life."""
    for start in range(0, len(items), _CHUNK):
        beat()
        yield items[start : start + _CHUNK]


class Rows:
    """Collects what a tokenizer gives, row by row, into the flat arrays of `Encoded`."""

    def __init__(self) -> None:
        self._tokens: list[NDArray[np.int32]] = []
        self._segments: list[NDArray[np.int8]] = []

    def add(self, encoding: Mapping[str, Any], row: int) -> None:
        """Take one row of a tokenizer's output."""
        self._tokens.append(np.array(encoding["input_ids"][row], dtype=np.int32))
        if "token_type_ids" in encoding:
            self._segments.append(np.array(encoding["token_type_ids"][row], dtype=np.int8))

    def flat(self) -> dict[str, Any]:
        """`tokens`, `segments` and `offsets` of an `Encoded`."""
        return {
            "tokens": np.concatenate(self._tokens),
            "segments": np.concatenate(self._segments) if self._segments else None,
            "offsets": np.cumsum([0, *map(len, self._tokens)]),
        }
