"""One tag for every token of a sentence: token classification."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pruning.data.examples import Tagged
from pruning.errors import InvalidData
from pruning.spec import PruneSpec
from pruning.training.tasks.base import Task
from pruning.training.tasks.encoded import IGNORED, Batch, Encoded, Rows, TokenRows, chunks
from pruning.training.tasks.entities import Scheme, entity_scores


class TokenClassification(Task):
    """One of `labels.names` for every word. The answers of a batch are its words, row by row."""

    kind = "token-classification"

    @property
    def primary(self) -> str:
        """F1 of the entities; accuracy where every word has a tag of its own."""
        return "f1" if Scheme.of(self.labels.names).outside else "accuracy"

    @property
    def head_config(self) -> dict[str, Any]:
        """One output for each tag."""
        return self._named_outputs() | {"problem_type": None}

    def encode(
        self,
        examples: Sequence[Tagged],
        tokenizer: PreTrainedTokenizerBase,
        request: PruneSpec,
        beat: Callable[[], object] = lambda: None,
    ) -> TokenRows:
        """Tokenise sentences, their words joined by blanks as a user's text would be; what is too long is cut.

        A word that is cut off, or that the tokenizer drops, is neither trained on nor judged; a sentence without
        any other word is left out. Raises InvalidData where that leaves nothing, and for an unknown tag.
        """
        rows, labels = Rows(), []
        for chunk in chunks(examples, beat):
            encoding = tokenizer(
                [" ".join(example.tokens) for example in chunk],
                truncation=True,
                max_length=request.max_length,
                return_offsets_mapping=True,
            )
            for row, example in enumerate(chunk):
                found = self._labels(example, np.array(encoding["offset_mapping"][row]))
                if (found != IGNORED).any():
                    rows.add(encoding, row)
                    labels.append(found)
        if not labels:
            raise InvalidData(
                "The model's tokenizer gives no token for any word of a split.",
                param="/columns/tokens",
                remedy="Check that the model is made for this language.",
            )
        return TokenRows(**rows.flat(), labels=np.concatenate(labels), pad_token=tokenizer.pad_token_id)

    def _labels(self, example: Tagged, spans: NDArray[np.int64]) -> NDArray[np.int64]:
        """The label of each token, (tokens,), by the characters (tokens, 2) that it stands for."""
        tags = np.array([self.label_id(tag) for tag in example.tags or ()])
        behind = np.cumsum([len(word) + 1 for word in example.tokens])
        starts, ends = spans.T
        real = ends > starts  # special tokens stand for nothing
        # The last character, because a token may begin with the blank before its word.
        words = np.where(real, np.searchsorted(behind, ends - 1, side="right"), -1)
        first = real & (words != np.concatenate([[-1], words[:-1]]))
        return np.where(first, tags[words], IGNORED)

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """The logits at the first token of each word, (words, tags)."""
        logits: Tensor = outputs.logits[batch["labels"] != IGNORED]
        return logits

    def rows_of(self, batch: Batch) -> Tensor:
        """The row of each word."""
        return (batch["labels"] != IGNORED).nonzero()[:, 0]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, mean over words; `labels` is (rows, tokens)."""
        return F.cross_entropy(logits.float(), labels[labels != IGNORED])

    def answers(self, outputs: Any, rows: Encoded, indices: Sequence[int]) -> list[NDArray[Any]]:
        """The index of the most likely tag of each word, by row."""
        guess = outputs.logits.argmax(dim=-1).cpu().numpy()
        tags = [_tags(rows, index) for index in indices]
        return [said[: len(tag)][tag != IGNORED] for said, tag in zip(guess, tags, strict=True)]

    def metrics(self, answers: Sequence[NDArray[Any]], rows: Encoded) -> dict[str, float]:
        """Precision, recall and F1 of whole entities (micro average), and the accuracy of single tags."""
        truth = [tags[tags != IGNORED] for tags in (_tags(rows, index) for index in range(len(rows)))]
        names = np.array(self.labels.names)
        scheme = Scheme.of(self.labels.names)
        found = entity_scores(scheme, *([names[row].tolist() for row in side] for side in (truth, answers)))
        return found | {"accuracy": float((np.concatenate(truth) == np.concatenate(answers)).mean())}


def _tags(rows: Encoded, index: int) -> NDArray[Any]:
    assert isinstance(rows, TokenRows)  # noqa: S101 - made by this task
    return rows.labels_of(index)
