"""Where each family of encoders keeps its parts: one declarative entry per `model_type`. Imports no torch."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pruning.planning.family import Family
from pruning.planning.heads import heads, not_recomputed

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
    architectures=heads("Bert"),
)


_RELATIVE = not_recomputed("it recomputes attention, without relative positions")

ENCODERS: Mapping[str, Family] = MappingProxyType(
    {
        "bert": _BERT,
        "roberta": replace(_BERT, architectures=heads("Roberta"), reserved_positions=2),
        "xlm-roberta": replace(_BERT, architectures=heads("XLMRoberta"), reserved_positions=2),
        "electra": replace(_BERT, architectures=heads("Electra")),
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
            architectures=heads("DistilBert"),
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
            architectures=heads("MPNet"),
            reserved_positions=2,
            fewest_heads=None,  # all layers add one tensor of relative positions, which has every head
            unsupported=_RELATIVE,
        ),
        "deberta-v2": replace(
            _BERT,
            query="attention.self.query_proj",
            key="attention.self.key_proj",
            value="attention.self.value_proj",
            architectures=heads("DebertaV2"),
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
            architectures=heads("ModernBert"),
            head_size="head_dim",
            head_count=None,
            head_width=None,
            attention_bias="attention_bias",
            output_bias="attention_bias",
            ffn_bias="mlp_bias",
            norm_first=True,
            unsupported=not_recomputed("it needs norms that come after each sub-layer"),
        ),
    }
)
