"""Where each model family keeps its parts: one declarative entry per `model_type`. Imports no torch."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pruning.errors import InvalidModel
from pruning.planning.family import Family
from pruning.spec import Task


def _heads(prefix: str) -> Mapping[Task, str]:
    return MappingProxyType({task: f"{prefix}For{head}" for task, head in _HEADS.items()})


def _not_recomputed(reason: str) -> Mapping[str, str]:
    """The methods that compute sub-layers themselves, and why they cannot here."""
    return MappingProxyType(dict.fromkeys(("fisher", "kcm", "kprune"), reason))


_HEADS: Mapping[Task, str] = MappingProxyType(
    {
        "sequence-classification": "SequenceClassification",
        "regression": "SequenceClassification",
        "token-classification": "TokenClassification",
        "question-answering": "QuestionAnswering",
    }
)


def _causal(architecture: str) -> Mapping[Task, str]:
    return MappingProxyType({"causal-lm": architecture})


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


_LLAMA = Family(
    layers="layers",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_out="self_attn.o_proj",
    attention_norm="input_layernorm",
    ffn_in=("mlp.gate_proj", "mlp.up_proj"),
    activation="mlp.act_fn",
    ffn_out="mlp.down_proj",
    ffn_norm="post_attention_layernorm",
    head_owner="self_attn",
    architectures=_causal("LlamaForCausalLM"),
    head_size="head_dim",
    head_count=None,
    head_width=None,
    head_queries="num_key_value_groups",
    key_heads_config="num_key_value_heads",
    head_size_config="head_dim",
    attention_bias="attention_bias",
    output_bias="attention_bias",
    ffn_bias="mlp_bias",
    fewest_heads=1,  # a cache without keys in the first layer forgets how many tokens it has seen
    norm_first=True,
    unsupported=_not_recomputed("it needs norms that come after each sub-layer"),
)

_RELATIVE = _not_recomputed("it recomputes attention, without relative positions")

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
            attention_bias="attention_bias",
            output_bias="attention_bias",
            ffn_bias="mlp_bias",
            norm_first=True,
            unsupported=_not_recomputed("it needs norms that come after each sub-layer"),
        ),
        "gpt2": replace(
            _LLAMA,
            layers="h",
            query="attn.c_attn",
            key="attn.c_attn",
            value="attn.c_attn",
            attention_out="attn.c_proj",
            attention_norm="ln_1",
            ffn_in=("mlp.c_fc",),
            activation="mlp.act",
            ffn_out="mlp.c_proj",
            ffn_norm="ln_2",
            head_owner="attn",
            architectures=_causal("GPT2LMHeadModel"),
            head_count="num_heads",
            head_width="split_size",
            head_queries=None,
            hidden_config="n_embd",
            heads_config="n_head",
            layers_config="n_layer",
            ffn_config="n_inner",
            ffn_multiple=4,
            positions_config="n_positions",
            fewest_neurons=1,  # its matrices cannot read nothing
            key_heads_config=None,
            head_size_config=None,
            attention_bias=True,
            output_bias=True,
            ffn_bias=True,
        ),
        "opt": replace(
            _LLAMA,
            layers="decoder.layers",
            attention_out="self_attn.out_proj",
            attention_norm="self_attn_layer_norm",
            ffn_in=("fc1",),
            activation="activation_fn",
            ffn_out="fc2",
            ffn_norm="final_layer_norm",
            architectures=_causal("OPTForCausalLM"),
            head_count="num_heads",
            head_queries=None,
            ffn_config="ffn_dim",
            key_heads_config=None,
            head_size_config=None,
            attention_bias="enable_bias",
            output_bias="enable_bias",
            ffn_bias="enable_bias",
            usual_bias=True,
            norm_first="do_layer_norm_before",
        ),
        "llama": _LLAMA,
        "mistral": replace(
            _LLAMA,
            architectures=_causal("MistralForCausalLM"),
            attention_bias=False,
            output_bias=False,
            ffn_bias=False,
        ),
        "qwen2": replace(
            _LLAMA,
            architectures=_causal("Qwen2ForCausalLM"),
            attention_bias=True,
            output_bias=False,
            ffn_bias=False,
        ),
        "qwen3": replace(_LLAMA, architectures=_causal("Qwen3ForCausalLM"), ffn_bias=False),
        "gemma": replace(_LLAMA, architectures=_causal("GemmaForCausalLM"), ffn_bias=False),
    }
)

AUTO_CLASSES: Mapping[Task, str] = MappingProxyType(
    {**_heads("AutoModel"), **_causal("AutoModelForCausalLM")}
)
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
            f"model_type {model_type!r:.100} in config.json is not supported.",
            param="/model",
            remedy=f"Supported are the encoders {_names(decoder=False)}, and the decoders {_names(decoder=True)}.",
        )
    family = FAMILIES[model_type]
    foreign = [(name, reason) for name, reason in _FOREIGN.items() if config.get(name)]
    if family.disentangled and _projects_positions(config):
        foreign.append(("share_att_key", "its positions have projections of their own"))
    for name, reason in foreign:
        raise InvalidModel(
            f"The model cannot be pruned because {reason} ({name} in config.json).",
            param="/model",
            remedy="Send a plain encoder or decoder, as save_pretrained writes it.",
        )
    return family


def _names(*, decoder: bool) -> str:
    return ", ".join(sorted(name for name, family in FAMILIES.items() if family.decoder is decoder))


def _projects_positions(config: Mapping[str, Any]) -> bool:
    """Whether a disentangled attention has matrices for positions alone, as the first DeBERTa had."""
    return bool(
        config.get("relative_attention") and config.get("pos_att_type") and not config.get("share_att_key")
    )
