"""Which tokens a vocabulary must keep, so that the texts of a dataset become the tokens that they were."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pruning.errors import InvalidModel

Json = dict[str, Any]

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def needed(content: Json, seen: Iterable[str]) -> set[str]:
    """The tokens to keep of a tokenizer.json whose dataset shows `seen`.

    Beside these: what the algorithm needs on its way to them, all special and added tokens, and every single character
    and byte, so that any other text still becomes tokens. Raises InvalidModel for an algorithm that cannot be cut.
    """
    model = content["model"]
    kept = set(seen) | {token["content"] for token in content.get("added_tokens") or ()}
    match model["type"]:
        case "WordPiece":
            kept |= {model["unk_token"]} | _characters(model["vocab"], model["continuing_subword_prefix"])
        case "Unigram":
            kept |= _unigram(model)
        case "BPE":
            kept |= _characters(model["vocab"]) | _byte_pairs(model, kept)
        case kind:
            raise InvalidModel(
                f"The tokenizer is a {kind}, whose vocabulary cannot be cut.",
                param="/granularity",
                remedy="Use a WordPiece, Unigram or BPE tokenizer, or another granularity.",
            )
    return kept


def merges(model: Json) -> list[tuple[str, str]]:
    """The pairs that a BPE merges, the first first."""
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    return [(left, right) for left, right in pairs]


def _characters(vocabulary: Iterable[str], prefix: str = "") -> set[str]:
    """Tokens of one character, also behind a prefix, and tokens that are bytes."""
    return {
        token
        for token in vocabulary
        if len(token) == 1 or _BYTE.fullmatch(token) or (prefix and len(token.removeprefix(prefix)) == 1)
    }


def _unigram(model: Json) -> set[str]:
    """The worst piece stays: what is unknown costs a fixed amount more than that one."""
    scores = dict(model["vocab"])
    kept = _characters(scores) | {min(scores, key=lambda piece: scores[piece])}
    return kept if model.get("unk_id") is None else kept | {model["vocab"][model["unk_id"]][0]}


def _byte_pairs(model: Json, kept: set[str]) -> set[str]:
    """What is merged on the way to the kept tokens.

    A token's own merges are those of its characters alone: nothing outside took part, and nothing undoes a merge.
    """
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise InvalidModel(
            "The tokenizer's BPE marks parts of words with a prefix or a suffix, and such a vocabulary cannot be cut.",
            param="/granularity",
            remedy="Use another granularity.",
        )
    ranks = {pair: rank for rank, pair in enumerate(merges(model))}
    needed = {part for token in kept & model["vocab"].keys() for part in _parts(token, ranks)}
    return needed if model.get("unk_token") is None else needed | {model["unk_token"]}


def _parts(token: str, ranks: Mapping[tuple[str, str], int]) -> set[str]:
    """All that lies between a token's characters and what its merges make of them."""
    symbols = list(token)
    found = set(symbols)
    while len(symbols) > 1:
        places = range(len(symbols) - 1)
        ranked = [(ranks.get((symbols[at], symbols[at + 1]), len(ranks)), at) for at in places]
        rank, at = min(ranked)
        if rank == len(ranks):
            break
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        found.add(symbols[at])
    return found
