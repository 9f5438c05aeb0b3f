"""JSON of a stranger: what is just within each limit is read, what is just beyond it is refused by name."""

import json
from pathlib import Path

import pytest

from core.assets.jsonfiles import MAX_DEPTH, MAX_VALUES, parse_object, read_object
from pruning.errors import InvalidModel


def refusal(content: bytes, **limits: int) -> str:
    with pytest.raises(InvalidModel) as refused:
        parse_object(content, "config.json", **limits)
    assert refused.value.param == "/files/config.json"
    assert refused.value.remedy == "Write it again with save_pretrained."
    return refused.value.message


def nested(depth: int) -> bytes:
    """An object that many levels deep, by lists and objects in turn."""
    text = "1"
    for level in range(depth - 1):
        text = f"[{text}]" if level % 2 else f'{{"b": {text}}}'
    return f'{{"a": {text}}}'.encode()


def test_any_value_that_a_database_can_hold_is_read() -> None:
    value = {"a": [1, 2.5, None, True, "é\\u0041\u4e2d"], "b": {"a": {}}, "c": "\U0001f600", "d": -1e300}
    for ascii_only in (True, False):
        assert parse_object(json.dumps(value, ensure_ascii=ascii_only).encode(), "config.json") == value


def test_a_file_is_read_up_to_its_limit_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b'{"a": [1, 2]}'.ljust(1500))
    assert read_object(path, max_bytes=1500) == {"a": [1, 2]}
    assert read_object(path, max_bytes=1500, max_values=3) == {"a": [1, 2]}
    with pytest.raises(InvalidModel, match=r"^tokenizer\.json is larger than 1,499 bytes\. ") as refused:
        read_object(path, max_bytes=1499)
    assert refused.value.param == "/files/tokenizer.json"
    with pytest.raises(InvalidModel, match=r"^tokenizer\.json has more than 2 values\. "):
        read_object(path, max_bytes=1500, max_values=2)


def test_values_are_counted_before_they_are_made() -> None:
    content = b'{"a": [1, 2], "b": {}}'  # two objects, a list and two commas
    assert parse_object(content, "config.json", max_values=5) == {"a": [1, 2], "b": {}}
    assert refusal(content, max_values=4) == "config.json has more than 4 values."
    assert refusal(b"[" * 1001, max_values=1000) == "config.json has more than 1,000 values."
    many = b'{"a": [' + b"1," * (MAX_VALUES - 2) + b"1]}"
    assert len(parse_object(many, "config.json")["a"]) == MAX_VALUES - 1
    assert refusal(many + b",") == "config.json has more than 100,000 values."


def test_objects_nest_as_deep_as_the_limit() -> None:
    assert parse_object(nested(MAX_DEPTH), "config.json")
    assert refusal(nested(MAX_DEPTH + 1)) == "config.json is nested deeper than 32."
    assert refusal(b'{"a":' * 5000) == "config.json is not valid JSON: it is nested too deeply."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON value"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": 1' + b"0" * 400 + b".5}", f"1{'0' * 39} is too large"),
        (b'{"a": 1, "a": 1}', "a key appears twice in one object"),
        (b'{"b": {"a": 1, "a": 2}}', "a key appears twice in one object"),
        (b'{"a": "\\u0000"}', "u0000 stands for no character"),
        (b'{"a": "\\ud800"}', "ud800 stands for no character"),
        (b'{"a": "\\uDFFF"}', "uDFFF stands for no character"),
        (b'{"a": "\\udc00\\ud800"}', "udc00 stands for no character"),
        (b'{"a": "\\ud83d\\ude00\\ud83d"}', "ud83d stands for no character"),
        (b'{"a": "\xff"}', "'utf-8' codec can't decode byte 0xff in position 7: invalid start byte"),
    ],
)
def test_what_parsers_or_databases_read_differently_is_refused(content: bytes, reason: str) -> None:
    assert refusal(content) == f"config.json is not valid JSON: {reason}."


def test_a_backslash_before_an_escape_makes_it_text() -> None:
    assert parse_object(b'{"a": "\\\\u0000", "b": "\\n"}', "config.json") == {"a": "\\u0000", "b": "\n"}
    assert refusal(b'{"a": "\\\\\\u0000"}').endswith("u0000 stands for no character.")


@pytest.mark.parametrize("content", [b"[]", b"1", b'"a"', b"null"])
def test_only_an_object_is_taken(content: bytes) -> None:
    assert refusal(content) == "config.json is not a JSON object."


def test_a_reason_repeats_little_of_what_was_sent() -> None:
    message = refusal(b"{" + b"x" * 10_000)
    assert message.startswith("config.json is not valid JSON: Expecting property name")
    assert len(message) < 300
