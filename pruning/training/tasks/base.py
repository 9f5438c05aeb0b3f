"""The task of a model: everything that training, distillation, evaluation and loading must know about it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from pruning import spec
from pruning.data.labels import Labels, labels_for
from pruning.data.rows import DataSummary
from pruning.errors import InvalidData
from pruning.spec import PruneSpec
from pruning.training.tasks.encoded import Batch, Encoded

_KINDS: "dict[spec.Task, type[Task]]" = {}


@dataclass(frozen=True)
class Task(ABC):
    """What the model must answer, with the outputs in `labels`.

    `logits` picks those of a model's outputs that count, flattened to (answers, classes), in an order that `loss`
    and `rows_of` share: with it, losses and distillation need not know what a row is.
    """

    labels: Labels

    kind: ClassVar[spec.Task]
    reads_first_token: ClassVar[bool] = False
    """Whether the head reads the first token only."""
    batch_tokens: ClassVar[int] = 4096
    """Rows times length that evaluation computes at once."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "kind" in cls.__dict__:
            _KINDS[cls.kind] = cls

    @staticmethod
    def of(
        kind: spec.Task, data: DataSummary, config: PretrainedConfig, names: Sequence[str] | None = None
    ) -> "Task":
        """The task of a dataset for a model whose configuration is `config`; raises what `labels_for` raises."""
        return _KINDS[kind].build(labels_for(kind, data, config.to_dict(), names), data)

    @classmethod
    def build(cls, labels: Labels, data: DataSummary) -> "Task":
        """The task with these outputs on that dataset."""
        return cls(labels)

    @property
    @abstractmethod
    def primary(self) -> str:
        """The metric that stands for quality."""

    @property
    def lower_is_better(self) -> bool:
        """Whether quality is better where the metric is lower."""
        return False

    @property
    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """The fields of config.json that describe the head."""

    @abstractmethod
    def encode(
        self,
        examples: Sequence[Any],
        tokenizer: PreTrainedTokenizerBase,
        request: PruneSpec,
        beat: Callable[[], object] = lambda: None,
    ) -> Encoded:
        """Tokenise examples to rows of at most `request.max_length` tokens.

        `beat` is called between chunks of examples and may raise to stop. Raises InvalidData for an unknown label.
        """

    @abstractmethod
    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """The logits that count, (answers, classes); `batch` is what the model read, with its labels.

        Labels only say which positions count, so that the outputs of any model of the task can be asked for.
        """

    @abstractmethod
    def rows_of(self, batch: Batch) -> Tensor:
        """The row that each of the answers of `logits` belongs to, int64 (answers,)."""

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of the answers, in fp32: 0-d. `logits` is what `logits` gives, `labels` the batch's."""

    @abstractmethod
    def answers(self, outputs: Any, rows: Encoded, indices: Sequence[int]) -> list[Any]:
        """What the model says of each of the rows, on the CPU, as small as `metrics` allows."""

    @abstractmethod
    def metrics(self, answers: Sequence[Any], rows: Encoded) -> dict[str, float]:
        """Quality of the answers to all rows, in their order."""

    def label_id(self, label: str | float | None) -> int:
        """The index of a class name; raises InvalidData for a class that the head does not have."""
        if str(label) not in self.labels.ids:
            known = ", ".join(self.labels.ids)
            raise InvalidData(f"The label {label!r} is not one of {known}.", param="/columns/label")
        return self.labels.ids[str(label)]

    def _named_outputs(self) -> dict[str, Any]:
        names = self.labels.names
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }
