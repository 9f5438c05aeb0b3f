"""Where each model family keeps its parts: one declarative entry per `model_type`. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pruning.errors import InvalidModel
from pruning.spec import Task


@dataclass(frozen=True)
class Family:
    """The names of one family's modules and config fields, and what cannot be done with it.

    `layers` is a path under `model.base_model`; the other module names are paths under one layer. Where one matrix
    holds several projections, one after the other, they have one name: query, key and value, or the inputs of a
    gated FFN. `attention_norm` and `ffn_norm` read the residual sum of their sub-layer, in ModernBERT its input.
    `head_owner` is the module whose attribute `head_size` holds the width of one head; `head_count` and
    `head_width` are the attributes there that state the number of heads and their total width, None where the
    module reads them off its tensors.
    """

    layers: str
    query: str
    key: str
    value: str
    attention_out: str
    attention_norm: str
    ffn_in: tuple[str, ...]
    activation: str
    ffn_out: str
    ffn_norm: str
    head_owner: str
    architectures: Mapping[Task, str]
    head_size: str = "attention_head_size"
    head_count: str | None = "num_attention_heads"
    head_width: str | None = "all_head_size"
    hidden_config: str = "hidden_size"
    heads_config: str = "num_attention_heads"
    layers_config: str = "num_hidden_layers"
    ffn_config: str = "intermediate_size"
    reserved_positions: int = 0
    """How many rows of the position table no token can use (RoBERTa counts from its padding index + 1)."""
    disentangled: bool = False
    """Whether heads also score relative positions, projected by their own query and key (DeBERTa)."""
    fewest_heads: int | None = 0
    """How few heads the code of transformers lets a layer have; None when it must have all."""
    biases: Mapping[str, str] = field(default_factory=dict)
    """Config fields that say whether `attention_bias` and `ffn_bias` are there, where they can be left out."""
    unsupported: Mapping[str, str] = field(default_factory=dict)
    """Methods that cannot prune the family, and why."""

    @property
    def fused(self) -> bool:
        """Whether one matrix holds query, key and value."""
        return self.query == self.key


def _heads(prefix: str) -> Mapping[Task, str]:
    return MappingProxyType({task: f"{prefix}For{head}" for task, head in _HEADS.items()})


_HEADS: Mapping[Task, str] = MappingProxyType(
    {
        "sequence-classification": "SequenceClassification",
        "regression": "SequenceClassification",
        "token-classification": "TokenClassification",
        "question-answering": "QuestionAnswering",
    }
)


_BERT = Family(
    layers="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    ffn_in=("intermediate.dense",),
    activation="intermediate.intermediate_act_fn",
    ffn_out="output.dense",
    ffn_norm="output.LayerNorm",
    head_owner="attention.self",
    architectures=_heads("Bert"),
)

_RELATIVE = MappingProxyType({"kprune": "it recomputes attention, without relative positions"})

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "bert": _BERT,
        "roberta": replace(_BERT, architectures=_heads("Roberta"), reserved_positions=2),
        "xlm-roberta": replace(_BERT, architectures=_heads("XLMRoberta"), reserved_positions=2),
        "electra": replace(_BERT, architectures=_heads("Electra")),
        "distilbert": Family(
            layers="transformer.layer",
            query="attention.q_lin",
            key="attention.k_lin",
            value="attention.v_lin",
            attention_out="attention.out_lin",
            attention_norm="sa_layer_norm",
            ffn_in=("ffn.lin1",),
            activation="ffn.activation",
            ffn_out="ffn.lin2",
            ffn_norm="output_layer_norm",
            head_owner="attention",
            architectures=_heads("DistilBert"),
            head_count="n_heads",
            head_width="dim",
            hidden_config="dim",
            heads_config="n_heads",
            layers_config="n_layers",
            ffn_config="hidden_dim",
        ),
        "mpnet": replace(
            _BERT,
            query="attention.attn.q",
            key="attention.attn.k",
            value="attention.attn.v",
            attention_out="attention.attn.o",
            attention_norm="attention.LayerNorm",
            head_owner="attention.attn",
            architectures=_heads("MPNet"),
            reserved_positions=2,
            fewest_heads=None,  # all layers add one tensor of relative positions, which has every head
            unsupported=_RELATIVE,
        ),
        "deberta-v2": replace(
            _BERT,
            query="attention.self.query_proj",
            key="attention.self.key_proj",
            value="attention.self.value_proj",
            architectures=_heads("DebertaV2"),
            disentangled=True,
            fewest_heads=1,  # its reshaping cannot infer the width of no head
            unsupported=_RELATIVE,
        ),
        "modernbert": Family(
            layers="layers",
            query="attn.Wqkv",
            key="attn.Wqkv",
            value="attn.Wqkv",
            attention_out="attn.Wo",
            attention_norm="attn_norm",
            ffn_in=("mlp.Wi", "mlp.Wi"),
            activation="mlp.act",
            ffn_out="mlp.Wo",
            ffn_norm="mlp_norm",
            head_owner="attn",
            architectures=_heads("ModernBert"),
            head_size="head_dim",
            head_count=None,
            head_width=None,
            biases=MappingProxyType({"attention_bias": "attention_bias", "ffn_bias": "mlp_bias"}),
            unsupported=MappingProxyType({"kprune": "it needs norms that come after each sub-layer"}),
        ),
    }
)

AUTO_CLASSES: Mapping[Task, str] = _heads("AutoModel")
"""The transformers class that loads a model for each task."""

_FOREIGN: Mapping[str, str] = MappingProxyType(
    {
        "auto_map": "it asks for code of its own",
        "layer_sizes": "its layers are already uneven",
        "quantization_config": "its weights are quantized",
        "is_decoder": "it is a decoder",
        "add_cross_attention": "it attends to a second model",
    }
)


def family_of(config: Mapping[str, Any]) -> Family:
    """The entry for a config.json; raises InvalidModel for an unsupported family or variant of a family."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise InvalidModel(
            f"model_type {model_type!r} in config.json is not supported.",
            param="/model",
            remedy=f"Supported are {', '.join(sorted(FAMILIES))}.",
        )
    family = FAMILIES[model_type]
    foreign = [(name, reason) for name, reason in _FOREIGN.items() if config.get(name)]
    if family.disentangled and _projects_positions(config):
        foreign.append(("share_att_key", "its positions have projections of their own"))
    for name, reason in foreign:
        raise InvalidModel(
            f"The model cannot be pruned because {reason} ({name} in config.json).",
            param="/model",
            remedy="Send a plain encoder, as save_pretrained writes it.",
        )
    return family


def _projects_positions(config: Mapping[str, Any]) -> bool:
    """Whether a disentangled attention has matrices for positions alone, as the first DeBERTa had."""
    return bool(
        config.get("relative_attention") and config.get("pos_att_type") and not config.get("share_att_key")
    )
