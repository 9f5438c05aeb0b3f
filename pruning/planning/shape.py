"""The sizes of a model that costs depend on, read from config.json. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pruning.errors import InvalidModel
from pruning.planning.families import family_of
from pruning.planning.family import Family

_LIMITS = {"hidden": 8192, "heads": 256, "layers": 128, "ffn": 65_536}
_POSITIONS = 1_048_576
_TABLES = {
    "vocab_size": 2_000_000,
    "max_position_embeddings": _POSITIONS,
    "n_positions": _POSITIONS,
    "embedding_size": 8192,
    "type_vocab_size": 1024,
    "num_labels": 100_000,
}
_REMEDY = "Send a config.json as save_pretrained writes it."
_SPANS = ("position_buckets", "max_relative_positions")


@dataclass(frozen=True)
class ModelShape:
    """The sizes that costs depend on: `heads` and `ffn` are per layer.

    Where `queries` query heads share one key and one value (grouped queries), a head is one of the keys and values with
    all its queries. A head's features are `queries` * `head_size`; a layer's are `hidden` unless config.json says how
    wide a head is. `causal` says that a token sees only itself and those before it, `free_heads` that config.json can
    say that all layers have fewer heads.

    A neuron has `ffn_inputs` rows of FFN in, 2 where one gates the other; `fused` says that one matrix holds query,
    key and value, and one all FFN inputs. Of disentangled attention (He et al. 2021, equation 4), `positions` is how
    many relative positions every layer projects, `position_terms` how many products with them its scores add up.

    `attention_bias` says whether query, key and value have biases, `output_bias` and `ffn_bias` whether the attention's
    output and the FFN have; `parameters` is how many the whole model has, 0 where that is not known.
    """

    layers: int
    hidden: int
    heads: int
    head_size: int
    ffn: int
    ffn_inputs: int = 1
    fused: bool = False
    positions: int = 0
    position_terms: int = 0
    queries: int = 1
    causal: bool = False
    free_heads: bool = False
    attention_bias: bool = True
    output_bias: bool = True
    ffn_bias: bool = True
    parameters: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read config.json; raises InvalidModel that names the missing, malformed or absurd field."""
        family = family_of(config)
        layers = _size(config, family.layers_config, _LIMITS["layers"])
        hidden = _size(config, family.hidden_config, _LIMITS["hidden"])
        heads = _size(config, family.heads_config, _LIMITS["heads"])
        if family.ffn_multiple and config.get(family.ffn_config) is None:
            ffn = family.ffn_multiple * hidden
        else:
            ffn = _size(config, family.ffn_config, _LIMITS["ffn"])
        for name in _TABLES.keys() & config.keys():
            _size(config, name, _TABLES[name], least=0 if name == "type_vocab_size" else 1)
        queries = _queries(config, family, heads)
        shape = cls(
            layers=layers,
            hidden=hidden,
            heads=heads // queries,
            head_size=_head_size(config, family, hidden, heads),
            ffn=ffn,
            ffn_inputs=len(family.ffn_in),
            fused=family.fused,
            queries=queries,
            causal=family.decoder,
            free_heads=family.free_heads,
            attention_bias=_has_bias(config, family, family.attention_bias),
            output_bias=_has_bias(config, family, family.output_bias),
            ffn_bias=_has_bias(config, family, family.ffn_bias),
        )
        return shape._disentangled(config) if family.disentangled else shape

    def _disentangled(self, config: Mapping[str, Any]) -> Self:
        """With what a DeBERTa's config.json says of relative positions."""
        if config.get("attention_head_size", self.head_size) != self.head_size:
            raise InvalidModel(
                f"attention_head_size in config.json must be {self.head_size}, the part of hidden_size that a "
                "head has.",
                param="/model",
                remedy=_REMEDY,
            )
        if not (config.get("relative_attention") and config.get("share_att_key")):
            return self
        given = [name for name in _SPANS if config.get(name, -1) not in (-1, 0)]
        span = _size(config, [*given, "max_position_embeddings"][0], _TABLES["max_position_embeddings"])
        kinds = str(config.get("pos_att_type")).lower()  # "p2c|c2p" or a list
        return replace(self, positions=2 * span, position_terms=sum(kind in kinds for kind in ("c2p", "p2c")))

    @property
    def turning_length(self) -> float:
        """Tokens of the sequence in which a head costs fewest neurons' FLOPs; 0 when every token adds to the ratio."""
        return math.sqrt(self.positions * self.hidden)

    @property
    def width(self) -> int:
        """Features of all heads of a layer, which the attention's output reads."""
        return self.heads * self.queries * self.head_size

    @property
    def query_key_value(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of the matrices that heads are written by."""
        if self.fused:
            return ((3 * self.width, self.hidden),)
        shared = (self.heads * self.head_size, self.hidden)
        return ((self.width, self.hidden), shared, shared)

    @property
    def attention(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of the attention's matrices: query, key, value, output."""
        return (*self.query_key_value, (self.hidden, self.width))

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of one layer's matrices: those of the attention, FFN in, FFN out."""
        gates = 1 if self.fused else self.ffn_inputs
        inputs = ((self.ffn_inputs // gates * self.ffn, self.hidden),) * gates
        return (*self.attention, *inputs, (self.hidden, self.ffn))


def _queries(config: Mapping[str, Any], family: Family, heads: int) -> int:
    """How many query heads share one key and one value; a config that does not say it shares none."""
    name = family.key_heads_config
    if name is None or config.get(name) is None:
        return 1
    shared = _size(config, name, heads)
    if heads % shared:
        raise InvalidModel(
            f"{family.heads_config} = {heads} in config.json is not a multiple of {name} = {shared}.",
            param="/model",
            remedy=_REMEDY,
        )
    return heads // shared


def _has_bias(config: Mapping[str, Any], family: Family, said: bool | str) -> bool:
    """Whether matrices have biases, when `said` is the answer or the field that has it."""
    return said if isinstance(said, bool) else bool(config.get(said, family.usual_bias))


def _head_size(config: Mapping[str, Any], family: Family, hidden: int, heads: int) -> int:
    name = family.head_size_config
    if name is not None and config.get(name) is not None:
        return _size(config, name, _LIMITS["hidden"])
    if hidden % heads:
        raise InvalidModel(
            f"{family.hidden_config} = {hidden} in config.json is not a multiple of {family.heads_config} = {heads}.",
            param="/model",
            remedy=_REMEDY,
        )
    return hidden // heads


def _size(config: Mapping[str, Any], name: str, limit: int, least: int = 1) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        problem = f"{name} must be a whole number in config.json, not {value!r:.100}."
        raise InvalidModel(problem, param="/model", remedy=_REMEDY)
    if not least <= value <= limit:
        problem = f"{name} = {value!r:.40} in config.json is outside {least}..{limit}."
        raise InvalidModel(problem, param="/model", remedy=_REMEDY)
    return value
