"""Loads this directory at its pruned size: `from_pretrained(directory, trust_remote_code=True)`.

The weight file pads every layer to one size, so that a plain `from_pretrained` gives the same answers
without this code: the kept heads and neurons come first, zeros follow. `layer_sizes` in config.json says how
many heads and neurons each layer keeps. A state dict has the padded form, so that `save_pretrained` writes
such a directory again.
"""

from typing import Any

import transformers
from torch import Tensor, nn
from torch.nn.functional import pad

_BERT = (
    "encoder.layer",
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output.dense",
    ("intermediate.dense",),
    "output.dense",
)
_DISTILBERT = (
    "transformer.layer",
    ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention.out_lin",
    ("ffn.lin1",),
    "ffn.lin2",
)
PARTS = {"bert": _BERT, "roberta": _BERT, "electra": _BERT, "distilbert": _DISTILBERT}


class _Pruned:
    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        loaded = super().from_pretrained(*args, **kwargs)  # type: ignore[misc]
        _narrow(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded


class BertForSequenceClassification(_Pruned, transformers.BertForSequenceClassification):
    """BERT with layers of unequal size."""


class RobertaForSequenceClassification(_Pruned, transformers.RobertaForSequenceClassification):
    """RoBERTa with layers of unequal size."""


class ElectraForSequenceClassification(_Pruned, transformers.ElectraForSequenceClassification):
    """ELECTRA with layers of unequal size."""


class DistilBertForSequenceClassification(_Pruned, transformers.DistilBertForSequenceClassification):
    """DistilBERT with layers of unequal size."""


def _narrow(model: transformers.PreTrainedModel) -> None:
    config = model.config
    head_size = config.hidden_size // config.num_attention_heads
    path, head_writers, head_reader, neuron_writers, neuron_reader = PARTS[config.model_type]
    stack = model.base_model.get_submodule(path)
    for layer, (heads, neurons) in zip(stack, config.layer_sizes, strict=True):
        for name in head_writers:
            _cut(layer.get_submodule(name), heads * head_size, config.hidden_size)
        _cut(layer.get_submodule(head_reader), config.hidden_size, heads * head_size)
        for name in neuron_writers:
            _cut(layer.get_submodule(name), neurons, config.hidden_size)
        _cut(layer.get_submodule(neuron_reader), config.hidden_size, neurons)


def _cut(linear: Any, outputs: int, inputs: int) -> None:
    linear.padded_shape = tuple(linear.weight.shape)
    linear.weight = nn.Parameter(linear.weight.detach()[:outputs, :inputs].clone())
    linear.bias = nn.Parameter(linear.bias.detach()[:outputs].clone())
    linear.out_features, linear.in_features = outputs, inputs
    linear.register_state_dict_post_hook(_widen_state)
    linear.register_load_state_dict_pre_hook(_narrow_state)


def _widen_state(linear: Any, state: dict[str, Tensor], prefix: str, _metadata: Any) -> None:
    rows, columns = (full - now for full, now in zip(linear.padded_shape, linear.weight.shape, strict=True))
    state[prefix + "weight"] = pad(state[prefix + "weight"], (0, columns, 0, rows))
    state[prefix + "bias"] = pad(state[prefix + "bias"], (0, rows))


def _narrow_state(linear: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name in ("weight", "bias"):
        if prefix + name in state:
            now = getattr(linear, name).shape
            state[prefix + name] = state[prefix + name][tuple(slice(size) for size in now)]
