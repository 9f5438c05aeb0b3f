"""Checking the files of a tokenizer before a job loads them: token ids, and work or text without end."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.db.base import Json
from pruning.errors import InvalidModel

MAX_TOKENS = 2_000_000
"""As many as config.json may say in vocab_size."""
MAX_LINE_BYTES = 10_000
MAX_PATTERN_CHARACTERS = 2_000
"""Published pre-tokenizers have patterns of up to some 400 characters."""
MAX_GROWTH = 64
"""How much longer all replacements together may make a text."""
_REPEATED_GROUP = re.compile(r"(?<!\\)\)[*+{]")
_REMEDY = "Write it again with save_pretrained."


def check_tokenizer(name: str, content: Json) -> None:
    """Raise InvalidModel for a tokenizer.json with ids, patterns or replacements that no tokenizer needs."""
    model, added = content.get("model"), content.get("added_tokens") or []
    if not isinstance(model, dict):
        raise _refused(name, "has no model")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        check_ids(name, vocabulary)
    elif not isinstance(vocabulary, list):  # a Unigram's is a list of texts and scores
        raise _refused(name, "has no vocabulary")
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise _refused(name, "has added_tokens that are not objects")
    check_ids(name, {str(token.get("content")): token.get("id") for token in added})
    growth = 1.0
    for part in _objects([value for key, value in content.items() if key != "model"]):
        if "Regex" in part:
            _check_pattern(name, part["Regex"])
        if part.get("type") == "Replace":
            growth *= _growth(name, part)
    if growth > MAX_GROWTH:
        raise _refused(name, f"replaces texts by others more than {MAX_GROWTH} times as long")


def check_ids(name: str, vocabulary: Json) -> None:
    """Raise InvalidModel unless every token has an id that an embedding can have."""
    for token, number in vocabulary.items():
        if type(number) is not int or not 0 <= number < MAX_TOKENS:
            raise _refused(
                name, f"gives the token {token!r:.60} the id {number!r:.40}, not 0..{MAX_TOKENS - 1}"
            )


def check_lines(path: Path) -> None:
    """Raise InvalidModel unless a file (vocab.txt, merges.txt) is UTF-8 of so many short lines."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
            if len(line) > MAX_LINE_BYTES:
                raise _refused(path.name, f"has a line of more than {MAX_LINE_BYTES:,} bytes ({number})")
            if number > MAX_TOKENS:
                raise _refused(path.name, f"has more than {MAX_TOKENS:,} lines")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                raise _refused(path.name, f"is not UTF-8 in line {number}") from None
            if "\0" in text:
                raise _refused(path.name, f"has a NUL character in line {number}")


def _check_pattern(name: str, pattern: Any) -> None:
    """Refuse patterns whose time grows with the power of a text's length: a repeated group, as in (a+)+."""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_CHARACTERS:
        raise _refused(
            name, f"has a pattern that is not a text of up to {MAX_PATTERN_CHARACTERS:,} characters"
        )
    if _REPEATED_GROUP.search(pattern):
        raise _refused(name, f"has the pattern {pattern!r:.100}, which repeats a group and may never end")


def _growth(name: str, replacement: Json) -> float:
    """How many times as long a text becomes at most."""
    pattern, content = replacement.get("pattern"), replacement.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str):
        raise _refused(name, "has a replacement without pattern or content")
    return max(1.0, len(content) / max(1, len(str(pattern.get("String", "")))))


def _objects(values: list[Any]) -> Iterator[Json]:
    """Every object inside; the depth of the file is bounded."""
    for value in values:
        if isinstance(value, dict):
            yield value
            yield from _objects(list(value.values()))
        elif isinstance(value, list):
            yield from _objects(value)


def _refused(name: str, reason: str) -> InvalidModel:
    return InvalidModel(f"{name} {reason}.", param=f"/files/{name}", remedy=_REMEDY)
