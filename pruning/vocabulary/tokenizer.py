"""A tokenizer with fewer tokens, made by editing its tokenizer.json: no code of a model is run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pruning.errors import InvalidModel
from pruning.vocabulary.needed import Json, merges, needed

_FILE = "tokenizer.json"
_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class CutTokenizer:
    """A tokenizer that knows fewer tokens; `kept[i]` was the id of its token i, increasing."""

    tokenizer: PreTrainedTokenizerBase
    kept: tuple[int, ...]


def cut_tokenizer(
    tokenizer: PreTrainedTokenizerBase, seen: Sequence[int], first: int, folder: Path
) -> CutTokenizer:
    """Keep what the ids in `seen` need and the `first` ids, in their order; the files are written to the folder.

    Raises InvalidModel for a tokenizer without tokenizer.json, and for one that cannot be cut.
    """
    tokenizer.save_pretrained(folder)
    path = folder / _FILE
    if not path.is_file():
        raise InvalidModel(
            "The tokenizer has no tokenizer.json, and only that can be cut.",
            param="/granularity",
            remedy="Send a fast tokenizer, or use another granularity.",
        )
    content = json.loads(path.read_text("utf-8"))
    ids: dict[str, int] = tokenizer.get_vocab()
    names = {number: token for token, number in ids.items()}
    wanted = needed(content, (names[number] for number in {*seen, *range(first)} if number in names))
    kept = sorted(ids[token] for token in wanted & ids.keys())
    new = {names[number]: place for place, number in enumerate(kept)}
    _edit(content, new)
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    _edit_config(folder / _CONFIG, names, new)
    smaller = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if smaller.get_vocab() != new:
        raise InvalidModel(
            "The tokenizer numbers its tokens in a way of its own, so that none can be taken out.",
            param="/granularity",
            remedy="Use another granularity.",
        )
    smaller.model_input_names = tokenizer.model_input_names
    smaller.padding_side = tokenizer.padding_side
    return CutTokenizer(smaller, tuple(kept))


def _edit(content: Json, new: Mapping[str, int]) -> None:
    """Take the tokens out that have no `new` id and give the others theirs, wherever tokenizer.json has ids."""
    model = content["model"]
    if model["type"] == "Unigram":
        unknown = None if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0]
        model["vocab"] = [piece for piece in model["vocab"] if piece[0] in new]
        model["unk_id"] = None if unknown is None else new[unknown]
    else:
        in_order = sorted(new.keys() & model["vocab"].keys(), key=lambda token: new[token])
        model["vocab"] = {token: new[token] for token in in_order}
    if model["type"] == "BPE":
        known = model["vocab"]
        model["merges"] = [list(pair) for pair in merges(model) if {*pair, "".join(pair)} <= known.keys()]
    for token in content.get("added_tokens") or ():
        token["id"] = new[token["content"]]
    content["truncation"] = content["padding"] = None
    _edit_processor(content.get("post_processor"), new)


def _edit_processor(processor: Json | None, new: Mapping[str, int]) -> None:
    """The special tokens that are put around a text."""
    if processor is None:
        return
    for each in processor.get("processors", ()):
        _edit_processor(each, new)
    for name in ("cls", "sep"):
        if isinstance(processor.get(name), list):
            processor[name][1] = new[processor[name][0]]
    templates = processor.get("special_tokens")
    for special in templates.values() if isinstance(templates, dict) else ():
        special["ids"] = [new[token] for token in special["tokens"]]


def _edit_config(path: Path, names: Mapping[int, str], new: Mapping[str, int]) -> None:
    """Ids in tokenizer_config.json: of the unknown token, and of added tokens as older versions wrote them."""
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if isinstance(config.get("unk_id"), int):
        config["unk_id"] = new[names[config["unk_id"]]]
    if "added_tokens_decoder" in config:
        added = config["added_tokens_decoder"].values()
        config["added_tokens_decoder"] = {str(new[token["content"]]): token for token in added}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
