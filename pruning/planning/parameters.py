"""How many parameters a model has, as near as its config.json says. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from pruning.planning.costs import cost
from pruning.planning.shape import ModelShape

LAYER_VECTORS = 6
"""Vectors of the hidden size in one layer, at most: four in its two norms, and the biases of its two outputs."""


def bounds(config: Mapping[str, Any], shape: ModelShape) -> list[int]:
    """How many parameters, at least and at most.

    Certain are the layers and the table of tokens. What families have or not, and what heads of tasks are made of, is
    between the two: tables of positions and segments, a projection of the embeddings, two dense layers of a head, and
    of a decoder a second table of tokens, which says the answers.
    """
    hidden = shape.hidden
    width = _size(config, "embedding_size") or _size(config, "word_embed_proj_dim") or hidden
    tokens = _size(config, "vocab_size") * width
    units = cost(shape, shape.layers * shape.heads, shape.layers * shape.ffn, "parameters", 1.0)
    least = int(units) + tokens
    vectors = LAYER_VECTORS * shape.layers + 2 * 512
    positions = max(_size(config, "max_position_embeddings"), _size(config, "n_positions"))
    tables = (positions + _size(config, "type_vocab_size") + 2) * max(width, hidden)
    if shape.causal and config.get("tie_word_embeddings") is not True:
        tables += tokens
    heads = (2 * hidden + width + shape.positions) * hidden
    return [least, least + tables + heads + vectors * hidden]


def _size(config: Mapping[str, Any], name: str) -> int:
    """A size of config.json, 0 where there is none."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
