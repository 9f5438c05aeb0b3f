"""Sequence classification and regression: encoded rows, metrics, and models with a head for the task."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy import stats
from sklearn import metrics as scores
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pruning import spec
from pruning.data.labels import Labels, labels_for
from pruning.data.rows import DataSummary, Example
from pruning.errors import InvalidData, InvalidModel

Batch = dict[str, Tensor]
_CHUNK = 1000


@dataclass(frozen=True)
class Task:
    """What the model must answer: one of `labels.names`, or a number."""

    kind: spec.Task
    labels: Labels

    @classmethod
    def of(cls, kind: spec.Task, data: DataSummary, config: PretrainedConfig) -> Self:
        """The task of a dataset for a model whose configuration is `config`; raises InvalidData."""
        return cls(kind, labels_for(kind, data, config.to_dict()))

    @property
    def outputs(self) -> int:
        """Width of the logits."""
        return len(self.labels.names) or 1

    @property
    def primary(self) -> str:
        """The metric that stands for quality."""
        return "spearman" if self.kind == "regression" else "accuracy"

    def label_id(self, label: str | float | None) -> float:
        """The number that the model is trained on: a class index, or the value itself."""
        if self.kind == "regression" and label is not None:
            return float(label)
        if str(label) not in self.labels.ids:
            known = ", ".join(self.labels.ids)
            raise InvalidData(f"The label {label!r} is not one of {known}.", param="/columns/label")
        return self.labels.ids[str(label)]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, or mean squared error of a regression, in fp32: 0-d.

        `logits` is (rows, outputs), `labels` (rows,).
        """
        if self.kind == "regression":
            return F.mse_loss(logits.float().squeeze(-1), labels.float())
        return F.cross_entropy(logits.float(), labels)

    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Quality of `logits` (rows, outputs) against `labels` (rows,).

        Accuracy, F1 (of class 1 when there are two classes, else the mean over classes) and Matthews
        correlation; or Pearson and Spearman correlation, 0 when either side is constant.
        """
        truth = labels.double().cpu().numpy()
        if self.kind == "regression":
            guess = logits.double().cpu().numpy().reshape(-1)
            return {
                "pearson": _correlation(stats.pearsonr, guess, truth),
                "spearman": _correlation(stats.spearmanr, guess, truth),
            }
        guess = logits.argmax(dim=-1).cpu().numpy()
        average = "binary" if self.outputs == 2 else "macro"
        return {
            "accuracy": float(scores.accuracy_score(truth, guess)),
            "f1": float(scores.f1_score(truth, guess, average=average, zero_division=0.0)),
            "mcc": float(scores.matthews_corrcoef(truth, guess)),
        }


def _correlation(measure: Any, guess: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    if len(truth) < 2 or np.ptp(guess) == 0 or np.ptp(truth) == 0:
        return 0.0
    return float(measure(guess, truth).statistic)


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows without padding. Row i is tokens `offsets[i]` to `offsets[i + 1]` of the flat arrays.

    A torch map-style dataset: `self[i]` is a dict of lists (`input_ids`, `attention_mask`, `token_type_ids`
    when the model reads them) and `labels`, a number.
    """

    tokens: NDArray[np.int32]
    segments: NDArray[np.int8] | None
    offsets: NDArray[np.int64]
    labels: NDArray[np.float64]
    pad_token: int
    integral: bool

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, end = self.offsets[index], self.offsets[index + 1]
        tokens = self.tokens[start:end].tolist()
        row: dict[str, Any] = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
        if self.segments is not None:
            row["token_type_ids"] = self.segments[start:end].tolist()
        label = float(self.labels[index])
        row["labels"] = int(label) if self.integral else label
        return row

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, (rows,)."""
        return np.diff(self.offsets)

    @property
    def mean_length(self) -> float:
        """Mean number of tokens in a row."""
        return float(self.lengths.mean())

    def batch(self, indices: Sequence[int], pad_to_multiple: int = 1) -> Batch:
        """Rows padded on the right to the longest: int64 (rows, length), and labels (rows,)."""
        return self.collate([self[index] for index in indices], pad_to_multiple)

    def collate(self, rows: Sequence[Mapping[str, Any]], pad_to_multiple: int = 1) -> Batch:
        """Stack rows of this dataset into one padded batch."""
        longest = max(len(row["input_ids"]) for row in rows)
        length = -(-longest // pad_to_multiple) * pad_to_multiple
        padding = {"input_ids": self.pad_token, "attention_mask": 0, "token_type_ids": 0}
        batch = {
            name: torch.tensor([row[name] + [value] * (length - len(row[name])) for row in rows])
            for name, value in padding.items()
            if name in rows[0]
        }
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch


def encode(
    examples: Iterable[Example],
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    beat: Callable[[], object] = lambda: None,
) -> Encoded:
    """Tokenise examples, cut to `max_length` tokens (the longer text of a pair is cut first).

    `beat` is called between chunks of rows and may raise to stop.
    """
    examples = list(examples)
    tokens: list[NDArray[np.int32]] = []
    segments: list[NDArray[np.int8]] = []
    for start in range(0, len(examples), _CHUNK):
        beat()
        chunk = examples[start : start + _CHUNK]
        pairs = None if chunk[0].text_pair is None else [example.text_pair for example in chunk]
        rows = tokenizer([example.text for example in chunk], pairs, truncation=True, max_length=max_length)
        tokens += [np.array(row, dtype=np.int32) for row in rows["input_ids"]]
        segments += [np.array(row, dtype=np.int8) for row in rows.get("token_type_ids", ())]
    return Encoded(
        tokens=np.concatenate(tokens),
        segments=np.concatenate(segments) if segments else None,
        offsets=np.cumsum([0, *map(len, tokens)]),
        labels=np.array([task.label_id(example.label) for example in examples]),
        pad_token=tokenizer.pad_token_id,
        integral=task.kind != "regression",
    )


def load_config(model_dir: Path) -> PretrainedConfig:
    """Read config.json; raises InvalidModel when transformers cannot."""
    try:
        return AutoConfig.from_pretrained(model_dir, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"The model's config.json cannot be read: {error}", param="/model") from error


def load_tokenizer(model_dir: Path, config: PretrainedConfig) -> PreTrainedTokenizerBase:
    """Read the model's tokenizer, set to give exactly the inputs the model takes; raises InvalidModel."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a broken tokenizer.json raises a bare Exception from the Rust parser
        raise InvalidModel(f"The model's tokenizer cannot be read: {error}", param="/model") from error
    if tokenizer.pad_token_id is None:
        raise InvalidModel("The tokenizer has no padding token.", param="/model", remedy="Set pad_token.")
    if len(tokenizer) > config.vocab_size:
        problem = f"The tokenizer has {len(tokenizer)} tokens, the model only {config.vocab_size}."
        raise InvalidModel(problem, param="/model", remedy="Send the tokenizer that belongs to the model.")
    if getattr(config, "type_vocab_size", 1) < 2:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.padding_side = "right"
    return tokenizer


def load_model(model_dir: Path, task: Task, *, seed: int = 0) -> PreTrainedModel:
    """The model in fp32 on the CPU with a head for `task`; a head that is not there is initialised by `seed`.

    Reads safetensors only and runs no code of the model. Raises InvalidModel when weights are missing or have
    other shapes than config.json says, except those of a head that is new.
    """
    names = task.labels.names or ("LABEL_0",)
    torch.manual_seed(seed)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            model_dir,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
            problem_type="regression" if task.kind == "regression" else "single_label_classification",
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InvalidModel(f"The model cannot be loaded: {error}", param="/model") from error
    _check_loaded(model, info, task)
    for name in ("auto_map", "layer_sizes"):  # of an earlier export; what is loaded here is the padded model
        vars(model.config).pop(name, None)
    return model


def _check_loaded(model: PreTrainedModel, info: Mapping[str, Any], task: Task) -> None:
    faults = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if not task.labels.trained:
        body = f"{model.base_model_prefix}."
        faults = {key for key in faults if key.startswith(body) and ".pooler." not in key}
    if faults:
        listed = ", ".join(sorted(faults)[:5])
        raise InvalidModel(
            f"{len(faults)} weights are missing or do not have the shape that config.json says: {listed}.",
            param="/model",
            remedy="Send the weights that belong to this config.json.",
        )
