"""One answer for a text or a pair of texts: sequence classification and regression."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as scores
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pruning.data.examples import Example
from pruning.spec import PruneSpec
from pruning.training.tasks.base import Task
from pruning.training.tasks.encoded import Batch, Encoded, Rows, chunks


class _Text(Task):
    """What both share: a row is an example, and its answer one row of logits."""

    reads_first_token = True

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        request: PruneSpec,
        beat: Callable[[], object] = lambda: None,
    ) -> Encoded:
        """Tokenise texts; of a pair that is too long the longer text is cut first."""
        rows = Rows()
        for chunk in chunks(examples, beat):
            texts = [example.text for example in chunk]
            pairs = None if chunk[0].text_pair is None else [example.text_pair for example in chunk]
            encoding = tokenizer(texts, pairs, truncation=True, max_length=request.max_length)
            for row in range(len(chunk)):
                rows.add(encoding, row)
        labels = np.array([self._target(example.label) for example in examples])
        return Encoded(**rows.flat(), labels=labels, pad_token=tokenizer.pad_token_id)

    def _target(self, label: str | float | None) -> float:
        return self.label_id(label)

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """One row of logits for each row, (rows, outputs)."""
        logits: Tensor = outputs.logits
        return logits

    def rows_of(self, batch: Batch) -> Tensor:
        """The rows in order."""
        ids = batch["input_ids"]
        return torch.arange(len(ids), device=ids.device)

    def answers(self, outputs: Any, rows: Encoded, indices: Sequence[int]) -> list[Tensor]:
        """The logits of each row, (outputs,) in fp32."""
        return list(outputs.logits.float().cpu())


class Classification(_Text):
    """One of `labels.names`."""

    kind = "sequence-classification"

    @property
    def primary(self) -> str:
        """Accuracy."""
        return "accuracy"

    @property
    def head_config(self) -> dict[str, Any]:
        """One output for each class."""
        return self._named_outputs() | {"problem_type": "single_label_classification"}

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy; `labels` is (rows,)."""
        return F.cross_entropy(logits.float(), labels)

    def metrics(self, answers: Sequence[Tensor], rows: Encoded) -> dict[str, float]:
        """Accuracy, F1 (of class 1 when there are two classes, else the mean over classes), Matthews correlation."""
        guess = torch.stack(list(answers)).argmax(dim=-1).numpy()
        average = "binary" if len(self.labels.names) == 2 else "macro"
        return {
            "accuracy": float(scores.accuracy_score(rows.labels, guess)),
            "f1": float(scores.f1_score(rows.labels, guess, average=average, zero_division=0.0)),
            "mcc": float(scores.matthews_corrcoef(rows.labels, guess)),
        }


class Regression(_Text):
    """A number."""

    kind = "regression"

    @property
    def primary(self) -> str:
        """Spearman correlation."""
        return "spearman"

    @property
    def head_config(self) -> dict[str, Any]:
        """One output."""
        one = {"num_labels": 1, "id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        return one | {"problem_type": "regression"}

    def _target(self, label: str | float | None) -> float:
        return float(label) if label is not None else self.label_id(label)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error; `labels` is (rows,)."""
        return F.mse_loss(logits.float().squeeze(-1), labels.float())

    def metrics(self, answers: Sequence[Tensor], rows: Encoded) -> dict[str, float]:
        """Pearson and Spearman correlation, 0 when either side is constant."""
        guess = torch.stack(list(answers)).double().numpy().reshape(-1)
        return {
            "pearson": _correlation(stats.pearsonr, guess, rows.labels),
            "spearman": _correlation(stats.spearmanr, guess, rows.labels),
        }


def _correlation(measure: Any, guess: NDArray[np.float64], truth: NDArray[Any]) -> float:
    if len(truth) < 2 or np.ptp(guess) == 0 or np.ptp(truth) == 0:
        return 0.0
    return float(measure(guess, truth).statistic)
