"""Where each family of decoders keeps its parts: one declarative entry per `model_type`. Imports no torch."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pruning.planning.family import Family
from pruning.planning.heads import causal, not_recomputed

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
    architectures=causal("LlamaForCausalLM"),
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
    unsupported=not_recomputed("it needs norms that come after each sub-layer"),
)

DECODERS: Mapping[str, Family] = MappingProxyType(
    {
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
            architectures=causal("GPT2LMHeadModel"),
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
            architectures=causal("OPTForCausalLM"),
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
            architectures=causal("MistralForCausalLM"),
            attention_bias=False,
            output_bias=False,
            ffn_bias=False,
        ),
        "qwen2": replace(
            _LLAMA,
            architectures=causal("Qwen2ForCausalLM"),
            attention_bias=True,
            output_bias=False,
            ffn_bias=False,
        ),
        "qwen3": replace(_LLAMA, architectures=causal("Qwen3ForCausalLM"), ffn_bias=False),
        "gemma": replace(_LLAMA, architectures=causal("GemmaForCausalLM"), ffn_bias=False),
    }
)
