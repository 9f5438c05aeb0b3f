"""A tiny model, its task and tokenised rows, ready to train."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from pruning.data.rows import examples, summarise
from pruning.spec import PruneSpec
from pruning.training.tasks import Encoded, Task, load_config, load_model, load_tokenizer
from tests.support.data import lines, write_dataset, write_jsonl
from tests.support.models import save_tiny


@dataclass(frozen=True)
class Classroom:
    model_dir: Path
    task: Task
    rows: Encoded

    def model(self, *, dropout: float = 0.1) -> PreTrainedModel:
        """A fresh copy; with dropout, so that training needs random numbers."""
        model = load_model(self.model_dir, self.task)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        return model


def classroom(folder: Path, *, rows: int = 50, family: str = "bert", **sizes: int) -> Classroom:
    model_dir = save_tiny(folder / "model", family, **sizes)
    data_dir = write_dataset(folder / "data", train=rows)
    config, data = load_config(model_dir), summarise(data_dir)
    task = Task.of("sequence-classification", data, config)
    request = PruneSpec(target_ratio=0, max_length=32)
    found = task.encode(
        list(examples(data_dir / "train.jsonl", data)), load_tokenizer(model_dir, config), request
    )
    return Classroom(model_dir, task, found)


def reading_room(folder: Path, *, family: str = "llama", rows: int = 60, **sizes: int) -> Classroom:
    """The same for a decoder and plain text."""
    model_dir = save_tiny(folder / "model", family, **sizes)
    write_jsonl(folder / "data" / "train.jsonl", lines(rows))
    config, data = load_config(model_dir), summarise(folder / "data")
    task = Task.of("causal-lm", data, config)
    text = list(examples(folder / "data" / "train.jsonl", data))
    tokenizer = load_tokenizer(model_dir, config)
    return Classroom(model_dir, task, task.encode(text, tokenizer, PruneSpec(target_ratio=0, max_length=16)))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all tensors are equal bit for bit."""
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
