"""What the engine must know of a model family. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pruning.spec import Task


@dataclass(frozen=True)
class Family:
    """The names of one family's modules and config fields, and what cannot be done with it.

    `layers` is a path under `model.base_model`; the other module names are paths under one layer. Where one matrix
    holds several projections, one after the other, they have one name: query, key and value, or the inputs of a
    gated FFN. `attention_norm` and `ffn_norm` read the residual sum of their sub-layer, in ModernBERT and in decoders
    its input. `head_owner` is the module whose attribute `head_size` holds the width of one head; `head_count` and
    `head_width` are the attributes there that state the number of heads and their total width, None where the
    module reads them off its tensors, and `head_queries` the one that says how many query heads share a key and a
    value, None where none do.
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
    head_queries: str | None = None
    hidden_config: str = "hidden_size"
    heads_config: str = "num_attention_heads"
    layers_config: str = "num_hidden_layers"
    ffn_config: str = "intermediate_size"
    ffn_multiple: int | None = None
    """The FFN's width as a multiple of the hidden size, where config.json does not say it."""
    positions_config: str = "max_position_embeddings"
    key_heads_config: str | None = None
    """The field that says how many heads keys and values have, None where as many as queries."""
    head_size_config: str | None = None
    """The field that says how wide a head is, None where always the hidden size over the heads."""
    reserved_positions: int = 0
    """How many rows of the position table no token can use (RoBERTa counts from its padding index + 1)."""
    disentangled: bool = False
    """Whether heads also score relative positions, projected by their own query and key (DeBERTa)."""
    fewest_heads: int | None = 0
    """How few heads the code of transformers lets a layer have; None when it must have all."""
    fewest_neurons: int = 0
    """How few neurons the code of transformers lets a layer have."""
    attention_bias: bool | str = True
    """Whether query, key and value have biases, or the config field that says so."""
    output_bias: bool | str = True
    """The same of the attention's output."""
    ffn_bias: bool | str = True
    """The same of the FFN's matrices."""
    usual_bias: bool = False
    """Whether there are biases where config.json does not say so."""
    norm_first: bool | str = False
    """Whether norms read what a sub-layer reads, not what it says; or the config field that says so."""
    unsupported: Mapping[str, str] = field(default_factory=dict)
    """Methods that cannot prune the family, and why."""

    @property
    def decoder(self) -> bool:
        """Whether a token sees only itself and those before it."""
        return "causal-lm" in self.architectures

    @property
    def free_heads(self) -> bool:
        """Whether config.json can say that all layers have fewer heads."""
        return self.head_size_config is not None

    @property
    def fused(self) -> bool:
        """Whether one matrix holds query, key and value."""
        return self.query == self.key
