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
_MPNET = (
    "encoder.layer",
    ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    "attention.attn.o",
    ("intermediate.dense",),
    "output.dense",
)
_DEBERTA = (
    "encoder.layer",
    ("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
    "attention.output.dense",
    ("intermediate.dense",),
    "output.dense",
)
_MODERNBERT = (
    "layers",
    ("attn.Wqkv",) * 3,
    "attn.Wo",
    ("mlp.Wi",) * 2,
    "mlp.Wo",
)
_GPT2 = ("h", ("attn.c_attn",) * 3, "attn.c_proj", ("mlp.c_fc",), "mlp.c_proj")
_OPT = (
    "decoder.layers",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.out_proj",
    ("fc1",),
    "fc2",
)
_LLAMA = (
    "layers",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj",
    ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj",
)
PARTS = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "distilbert": _DISTILBERT,
    "mpnet": _MPNET,
    "deberta-v2": _DEBERTA,
    "modernbert": _MODERNBERT,
    "gpt2": _GPT2,
    "opt": _OPT,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
}
"""Where layers, head writers and readers, neuron writers and readers are; one matrix may hold several writers."""


_TASKS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForCausalLM",
    "LMHeadModel",
)


class _Pruned:
    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        loaded = super().from_pretrained(*args, **kwargs)  # type: ignore[misc]
        _narrow(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded


def __getattr__(name: str) -> type:
    """The model of transformers that has this name, with layers of unequal size; made when first asked for."""
    if not name.endswith(_TASKS):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made = type(name, (_Pruned, getattr(transformers, name)), {"__module__": __name__})
    return made


def _narrow(model: transformers.PreTrainedModel) -> None:
    config = model.config
    hidden, queries = config.hidden_size, config.num_attention_heads
    size = getattr(config, "head_dim", None) or hidden // queries
    shared = queries // (getattr(config, "num_key_value_heads", None) or queries)
    path, head_writers, head_reader, neuron_writers, neuron_reader = PARTS[config.model_type]
    stack = model.base_model.get_submodule(path)
    for layer, (heads, neurons) in zip(stack, config.layer_sizes, strict=True):
        width = heads * shared * size
        rows = (width, heads * size, heads * size)  # queries that share a key go with it
        for writers, written, reader, read in (
            (head_writers, rows, head_reader, width),
            (neuron_writers, (neurons,) * len(neuron_writers), neuron_reader, neurons),
        ):
            for name, outputs in dict(zip(writers, written, strict=True)).items():
                _cut(layer.get_submodule(name), outputs, hidden, parts=writers.count(name))
            _cut(layer.get_submodule(reader), hidden, read)
        attention = layer.get_submodule(head_writers[0].rpartition(".")[0])
        for name, value in (("num_attention_heads", heads), ("num_heads", heads), ("split_size", width)):
            if hasattr(attention, name):
                setattr(attention, name, value)


def _cut(linear: Any, outputs: int, inputs: int, parts: int = 1) -> None:
    """Keep the first `outputs` rows of each of the `parts` that follow one another in the matrix."""
    linear.parts, linear.padded_shape = parts, tuple(_turned(linear, linear.weight).shape)
    linear.out_features, linear.in_features = parts * outputs, inputs
    linear.nf, linear.nx = parts * outputs, inputs  # what a Conv1D calls them
    for name, values in tuple(linear.named_parameters()):
        setattr(linear, name, nn.Parameter(_narrowed(linear, values.detach()).clone()))
    linear.register_state_dict_post_hook(_widen_state)
    linear.register_load_state_dict_pre_hook(_narrow_state)


def _turned(linear: Any, values: Tensor) -> Tensor:
    """A weight as (outputs, inputs), or back: GPT-2's are (inputs, outputs)."""
    return values.T if values.dim() == 2 and type(linear).__name__ == "Conv1D" else values


def _widen_state(linear: Any, state: dict[str, Tensor], prefix: str, _metadata: Any) -> None:
    full, inputs = linear.padded_shape
    rows, columns = (full - linear.out_features) // linear.parts, inputs - linear.in_features
    for name, _ in linear.named_parameters():
        ends = (0, rows) if name == "bias" else (0, columns, 0, rows)
        values = pad(_split(linear, _turned(linear, state[prefix + name])), ends).flatten(0, 1)
        state[prefix + name] = _turned(linear, values).contiguous()


def _narrow_state(linear: Any, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name in ("weight", "bias"):
        if prefix + name in state:
            state[prefix + name] = _narrowed(linear, state[prefix + name])


def _narrowed(linear: Any, values: Tensor) -> Tensor:
    rows = _split(linear, _turned(linear, values))[:, : linear.out_features // linear.parts].flatten(0, 1)
    return _turned(linear, rows if rows.dim() == 1 else rows[:, : linear.in_features])


def _split(linear: Any, values: Tensor) -> Tensor:
    """(outputs, ...) as (parts, outputs of each, ...)."""
    return values.reshape(linear.parts, len(values) // linear.parts, *values.shape[1:])
