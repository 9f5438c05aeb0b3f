"""The next token of a text: causal language modelling, judged by perplexity."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pruning.data.examples import Line
from pruning.errors import InvalidData
from pruning.spec import PruneSpec
from pruning.training.tasks.base import Task
from pruning.training.tasks.encoded import IGNORED, Batch, Encoded, TokenRows, chunks

_LARGEST = 700.0
"""The largest mean loss whose exponential is a number; a model without sense may have a larger one, or none."""


class CausalLM(Task):
    """The next token, whichever of the vocabulary. The answers of a batch are its scored tokens, row by row.

    A row is a window of the text of a whole file. A label says that a token is scored, given those before it.
    """

    kind = "causal-lm"
    batch_tokens = 1024  # logits of a vocabulary are large

    @property
    def primary(self) -> str:
        """Perplexity."""
        return "perplexity"

    @property
    def lower_is_better(self) -> bool:
        """Of perplexity it is."""
        return True

    @property
    def head_config(self) -> dict[str, Any]:
        """The head is the vocabulary's."""
        return {}

    def encode(
        self,
        examples: Sequence[Line],
        tokenizer: PreTrainedTokenizerBase,
        request: PruneSpec,
        beat: Callable[[], object] = lambda: None,
    ) -> TokenRows:
        """Join lines by newlines, tokenise (a thousand lines at a time) and cut into windows of `max_length` tokens.

        A window begins with the special tokens that the tokenizer puts before a text, if any. Neighbours share
        `request.doc_stride` tokens, which only the first of them is scored on; by default none. The last window
        may be shorter. Raises InvalidData for a text of fewer than two tokens.
        """
        found = [*_tokens(examples, tokenizer, beat)]
        stream = np.concatenate(found) if found else np.zeros(0, dtype=np.int32)
        before = np.array(_prefix(tokenizer), dtype=np.int32)
        size, shared = request.max_length - len(before), request.doc_stride or 0
        if size - shared < 1 or len(stream) < 2:
            raise InvalidData("The text of a split has fewer than two tokens.", remedy="Add more text.")
        rows, labels = [], []
        for start in range(0, max(1, len(stream) - max(shared, 1)), size - shared):
            window = stream[start : start + size]
            known = len(before) + (shared if start else 0)
            rows.append(np.concatenate([before, window]))
            labels.append(rows[-1].astype(np.int64))
            labels[-1][:known] = IGNORED
        return TokenRows(
            tokens=np.concatenate(rows),
            segments=None,
            offsets=np.cumsum([0, *map(len, rows)]),
            labels=np.concatenate(labels),
            pad_token=tokenizer.pad_token_id or 0,
        )

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """What the model says before each scored token, (scored tokens, vocabulary)."""
        logits: Tensor = outputs.logits[:, :-1][_scored(batch)]
        return logits

    def rows_of(self, batch: Batch) -> Tensor:
        """The row of each scored token."""
        return _scored(batch).nonzero()[:, 0]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, mean over scored tokens; `labels` is (rows, tokens)."""
        targets = labels[:, 1:]
        return F.cross_entropy(logits.float(), targets[targets != IGNORED])

    def answers(self, outputs: Any, rows: Encoded, indices: Sequence[int]) -> list[NDArray[np.float64]]:
        """The summed cross-entropy of each window's scored tokens, and how many they are: (2,) each."""
        return [
            _surprise(said, torch.from_numpy(_labels(rows, index)).to(said.device))
            for said, index in zip(outputs.logits, indices, strict=True)
        ]

    def metrics(self, answers: Sequence[NDArray[np.float64]], rows: Encoded) -> dict[str, float]:
        """Perplexity: the exponential of the mean cross-entropy of all scored tokens."""
        total, count = np.sum(list(answers), axis=0)
        mean = float(total / count)
        return {"perplexity": math.exp(mean if mean < _LARGEST else _LARGEST)}


def _tokens(
    lines: Sequence[Line], tokenizer: PreTrainedTokenizerBase, beat: Callable[[], object]
) -> Sequence[NDArray[np.int32]]:
    found = []
    read = 0
    for chunk in chunks(lines, beat):
        read += len(chunk)
        text = "\n".join(line.text for line in chunk) + ("\n" if read < len(lines) else "")
        tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        found.append(np.array(tokens, dtype=np.int32))
    return found


def _prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts before a text."""
    encoding = tokenizer("a", return_special_tokens_mask=True)
    special = [*encoding["special_tokens_mask"], 0]
    tokens: list[int] = encoding["input_ids"][: special.index(0)]
    return tokens


def _scored(batch: Batch) -> Tensor:
    """Which tokens but the first of each row are scored, (rows, tokens - 1)."""
    return batch["labels"][:, 1:] != IGNORED


def _surprise(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    targets = labels[1:]
    losses = F.cross_entropy(logits[: len(targets)].float(), targets, ignore_index=IGNORED, reduction="none")
    return np.array([losses.double().sum().item(), (targets != IGNORED).sum().item()])


def _labels(rows: Encoded, index: int) -> NDArray[Any]:
    assert isinstance(rows, TokenRows)  # noqa: S101 - made by this task
    return rows.labels_of(index)
