"""The part of a context that answers a question: extractive question answering (Devlin et al. 2019, section 4.2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pruning.data.examples import Question
from pruning.data.labels import Labels
from pruning.data.rows import DataSummary
from pruning.spec import PruneSpec
from pruning.training.tasks.base import Task
from pruning.training.tasks.encoded import Batch, Encoded, Rows, chunks
from pruning.training.tasks.squad import squad_scores

_QUESTION_TOKENS = 64
_SPECIAL_TOKENS = 4
_LONGEST_ANSWER = 30
_NOWHERE = -1e4
"""A logit whose probability is 0 in fp32, and that a difference of two stays finite with."""


@dataclass(frozen=True)
class Windows(Encoded):
    """Windows of contexts, each after its question. `labels` is (windows, 2): the answer's first and last token.

    Both are 0, the first special token, where a window does not hold the answer. `spans` (tokens, 2) are the
    characters of each token of a context, `inside` (windows, 2) the first token of the context and the one behind
    its last, `question_of` (windows,) the place of the question in `questions`.
    """

    spans: NDArray[np.int32]
    inside: NDArray[np.int64]
    question_of: NDArray[np.int64]
    questions: tuple[Question, ...]

    @property
    def examples(self) -> int:
        """How many questions there are."""
        return len(self.questions)


class Span(NamedTuple):
    """The best answer of a window: its score, its characters `start` to `end`, and the score of no answer."""

    score: float
    start: int
    end: int
    nothing: float


@dataclass(frozen=True)
class QuestionAnswering(Task):
    """A start and an end in the context. The answers of a batch are all starts, then all ends: classes are tokens.

    With `unanswerable`, a question whose first special token scores higher than every span has no answer.
    """

    unanswerable: bool = False

    kind = "question-answering"

    @classmethod
    def build(cls, labels: Labels, data: DataSummary) -> "QuestionAnswering":
        """The task on that dataset."""
        return cls(labels, data.unanswerable)

    @property
    def primary(self) -> str:
        """F1 of the answers' words."""
        return "f1"

    @property
    def head_config(self) -> dict[str, Any]:
        """Two outputs for each token: is it the start, is it the end."""
        names = ("LABEL_0", "LABEL_1")
        ids = {name: index for index, name in enumerate(names)}
        return {"num_labels": 2, "id2label": dict(enumerate(names)), "label2id": ids, "problem_type": None}

    def encode(
        self,
        examples: Sequence[Question],
        tokenizer: PreTrainedTokenizerBase,
        request: PruneSpec,
        beat: Callable[[], object] = lambda: None,
    ) -> Windows:
        """Tokenise questions with their contexts; a context that is too long becomes several windows.

        Neighbouring windows share `request.doc_stride` tokens. A question is cut to 64 tokens, or half a row, so
        that windows get on. Trained is the first of the right answers.
        """
        rows, labels, spans, inside, question_of = Rows(), [], [], [], []
        asked = 0
        longest = min(_QUESTION_TOKENS, (request.max_length - _SPECIAL_TOKENS) // 2)
        for chunk in chunks(examples, beat):
            encoding = tokenizer(
                _cut([example.question for example in chunk], tokenizer, longest),
                [example.context for example in chunk],
                truncation="only_second",
                max_length=request.max_length,
                stride=request.doc_stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            for row, place in enumerate(encoding["overflow_to_sample_mapping"]):
                rows.add(encoding, row)
                context = np.array([part == 1 for part in encoding.sequence_ids(row)])
                spans.append(np.array(encoding["offset_mapping"][row], dtype=np.int32) * context[:, None])
                bounds = (int(context.argmax()), int(context.argmax() + context.sum()))
                inside.append(bounds)
                labels.append(_target(chunk[place], spans[-1], bounds))
                question_of.append(asked + place)
            asked += len(chunk)
        return Windows(
            **rows.flat(),
            labels=np.array(labels),
            pad_token=tokenizer.pad_token_id,
            spans=np.concatenate(spans),
            inside=np.array(inside),
            question_of=np.array(question_of),
            questions=tuple(examples),
        )

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """Start and end logits of all windows, (2 * windows, tokens) in fp32; padding is never an answer."""
        real = batch["attention_mask"].bool().repeat(2, 1)
        both = torch.cat([outputs.start_logits, outputs.end_logits]).float()
        return both.masked_fill(~real, _NOWHERE)

    def rows_of(self, batch: Batch) -> Tensor:
        """The window of each start, then of each end."""
        ids = batch["input_ids"]
        return torch.arange(len(ids), device=ids.device).repeat(2)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean of the cross-entropies of start and end; `labels` is (windows, 2)."""
        return F.cross_entropy(logits.float(), labels.T.reshape(-1))

    def answers(self, outputs: Any, rows: Encoded, indices: Sequence[int]) -> list[Span]:
        """The best span of each window."""
        rows = _windows(rows)
        start, end = outputs.start_logits.float().cpu(), outputs.end_logits.float().cpu()
        bounds = torch.from_numpy(rows.inside[list(indices)])
        places = torch.arange(start.shape[1])
        allowed = (places >= bounds[:, :1]) & (places < bounds[:, 1:])
        score, first, last = best_spans(start, end, allowed)
        nothing = start[:, 0] + end[:, 0]
        found = []
        for row, index in enumerate(indices):
            spans = rows.spans[rows.offsets[index] : rows.offsets[index + 1]]
            characters = int(spans[first[row]][0]), int(spans[last[row]][1])
            found.append(Span(float(score[row]), *characters, float(nothing[row])))
        return found

    def metrics(self, answers: Sequence[Span], rows: Encoded) -> dict[str, float]:
        """Exact match and F1 of the best span over all windows of each question, as the SQuAD script counts them."""
        rows = _windows(rows)
        spans: list[list[Span]] = [[] for _ in rows.questions]
        for place, span in zip(rows.question_of, answers, strict=True):
            spans[place].append(span)
        guesses = [self._guess(asked, found) for asked, found in zip(rows.questions, spans, strict=True)]
        truths = [[answer.text for answer in asked.answers or ()] for asked in rows.questions]
        return squad_scores(guesses, truths)

    def _guess(self, asked: Question, spans: Sequence[Span]) -> str:
        best = max(spans, key=lambda span: span.score)
        if self.unanswerable and min(span.nothing for span in spans) > best.score:
            return ""
        return asked.context[best.start : best.end].strip()


def best_spans(start: Tensor, end: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The span with the largest sum of start and end logit, of at most 30 tokens that are all `allowed`.

    All of (windows, tokens), the allowed ones in a row; returns score, first and last token, each (windows,).
    Every span is looked at, not only those of the n best starts and ends.
    """
    start, end = (side.masked_fill(~allowed, -torch.inf) for side in (start, end))
    score = torch.full((len(start),), -torch.inf)
    first = last = torch.zeros(len(start), dtype=torch.int64)
    for more in range(min(_LONGEST_ANSWER, start.shape[1])):
        best, place = (start[:, : start.shape[1] - more] + end[:, more:]).max(dim=1)
        better = best > score
        score = torch.where(better, best, score)
        first, last = torch.where(better, place, first), torch.where(better, place + more, last)
    return score, first, last


def _cut(questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, longest: int) -> list[str]:
    encoding = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)
    return [
        question[: spans[longest - 1][1]] if len(spans) > longest else question
        for question, spans in zip(questions, encoding["offset_mapping"], strict=True)
    ]


def _target(asked: Question, spans: NDArray[np.int32], bounds: tuple[int, int]) -> tuple[int, int]:
    """First and last token of the answer, (0, 0) where there is none or the window does not hold all of it."""
    first, behind = bounds
    if not asked.answers or first == behind:
        return 0, 0
    text = asked.answers[0].text
    start = asked.answers[0].start + len(text) - len(text.lstrip())
    end = start + len(text.strip())
    starts, ends = spans[first:behind].T
    if start < starts[0] or end > ends[-1]:
        return 0, 0
    return first + int((ends <= start).sum()), first + int((starts < end).sum()) - 1


def _windows(rows: Encoded) -> Windows:
    assert isinstance(rows, Windows)  # noqa: S101 - made by this task
    return rows
