"""Refusals in full: what is wrong, where, and what to do; and that what is just within a limit is taken."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from core.assets import inspect
from core.assets.inspect import INDEX, MAX_LABELS, check_config, check_file_names, model_complete
from core.assets.names import check_dataset_name, check_model_name
from core.errors import InvalidRequest
from pruning.errors import InvalidModel
from tests.core.assets.test_inspect import PARTS, laid, parts, without
from tests.support.modelfiles import CONFIG, model_files, safetensors

NO_CODE = "Send a model of a supported family without custom code."
AGAIN = "Save the model again."
EVERY_PART = "Send every part."
ONE_TENSOR = ("F32", [2], [0, 8])


def code(name: str, key: str) -> tuple[str, str, str]:
    return (f"{name} asks for code of its own ({key}), which is never run.", f"/files/{name}", NO_CODE)


def unclear_index() -> tuple[str, str, str]:
    return (f"{INDEX} does not say which part holds which tensor.", f"/files/{INDEX}", AGAIN)


def in_both() -> dict[str, bytes]:
    """Parts that hold one tensor twice, with an index that names it once."""
    files = parts({"a": PARTS[1]})
    return files | {name: safetensors({"a": ONE_TENSOR}, bytes(8)) for name in PARTS}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (without(model_files(), "config.json"), ("The model has no config.json.", "/files", "Add it.")),
        (
            without(model_files(), "vocab.txt") | {"vocab.json": b"{}"},
            (
                "The model has no tokenizer.",
                "/files",
                "Add tokenizer.json, or vocab.txt, or vocab.json with merges.txt.",
            ),
        ),
        *(
            (
                model_files() | {name: b"{}"},
                ("The model has model.safetensors and parts.", "/files", "Send one or the other."),
            )
            for name in (INDEX, PARTS[0])
        ),
        (
            without(model_files(), "model.safetensors"),
            (
                "The model has no safetensors weights.",
                "/files",
                "Add model.safetensors; weights in other formats can be converted by save_pretrained.",
            ),
        ),
        (
            without(parts(), PARTS[0]),
            (f"The parts of the weights are not whole: {PARTS[0]} is missing.", "/files", EVERY_PART),
        ),
        (
            parts() | {"model-00001-of-00003.safetensors": b""},
            (
                "The parts of the weights are not whole: they do not count up to their number.",
                "/files",
                EVERY_PART,
            ),
        ),
        (in_both(), unclear_index()),
        (parts({"a": PARTS[0]}), unclear_index()),
        (parts() | {INDEX: b"{}"}, unclear_index()),
        (model_files(auto_map={}), code("config.json", "auto_map")),
        (model_files(inner=[{"custom_pipelines": {}}]), code("config.json", "custom_pipelines")),
        (model_files(attn_implementation="evil/kernel"), code("config.json", "attn_implementation")),
        (model_files(a={"_attn_implementation": {"": "e/k"}}), code("config.json", "_attn_implementation")),
        (
            model_files() | {"tokenizer_config.json": b'{"auto_map": {}}'},
            code("tokenizer_config.json", "auto_map"),
        ),
        (
            model_files() | {"tokenizer.json": b'{"model": {"vocab": {}}, "auto_map": {}}'},
            code("tokenizer.json", "auto_map"),
        ),
        (
            model_files(architectures=["EvilModel"]),
            (
                "The architecture ['EvilModel'] in config.json is not one of bert.",
                "/files/config.json",
                "Send one that transformers saved, such as BertModel.",
            ),
        ),
        (
            model_files(id2label={str(number): "x" for number in range(MAX_LABELS + 1)}),
            (
                "id2label in config.json is not a map of at most 10,000 names.",
                "/files/config.json",
                "Send a config.json as save_pretrained writes it.",
            ),
        ),
        (
            model_files() | {"model.safetensors": safetensors({"a": ("I64", [1], [0, 8])}, bytes(8))},
            ("The weight files, model.safetensors or its parts, hold no weights.", "/files", AGAIN),
        ),
    ],
)
def test_what_is_wrong_with_a_model(
    tmp_path: Path, files: dict[str, bytes], expected: tuple[str, str, str]
) -> None:
    with pytest.raises(InvalidModel) as refused:
        model_complete(laid(tmp_path, files))
    assert (refused.value.message, refused.value.param, refused.value.remedy) == expected


def test_a_config_alone_is_checked_for_code_too() -> None:
    assert check_config(CONFIG) == "bert"
    with pytest.raises(InvalidModel) as refused:
        check_config(CONFIG | {"auto_map": {}})
    assert (refused.value.message, refused.value.param, refused.value.remedy) == code(
        "config.json", "auto_map"
    )


@pytest.mark.parametrize("count", [1, 999, 1000])
def test_up_to_999_parts_are_counted(count: int) -> None:
    names = {f"model-{part:05}-of-{count:05}.safetensors" for part in range(1, count + 1)}
    whole = dict.fromkeys([*sorted(names), INDEX, "config.json", "vocab.txt"])
    if count < 1000:
        check_file_names(whole)
    else:
        with pytest.raises(InvalidModel, match="do not count up to their number"):
            check_file_names(whole)


def test_what_is_just_within_the_limits_is_taken(tmp_path: Path) -> None:
    labels = {str(number): "x" for number in range(MAX_LABELS)}
    words = {"model": {"vocab": {"auto_map": 0}}, "added_tokens": []}
    files = model_files(id2label=labels) | {"tokenizer.json": json.dumps(words).encode()}
    assert model_complete(laid(tmp_path, files)).config["id2label"] == labels


@pytest.mark.parametrize(("vocab_size", "stated"), [(5, 1064), (0, 1024)])
def test_a_config_describes_no_more_than_the_files_and_a_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocab_size: int, stated: int
) -> None:
    """Two layers of 4 * 8 * 8 + 2 * 8 * 16 weights, and the embedding; the files hold 10."""
    config = {name: value for name, value in CONFIG.items() if name != "vocab_size"}
    config |= {"vocab_size": vocab_size} if vocab_size else {}
    files = laid(tmp_path, model_files() | {"config.json": json.dumps(config).encode()})
    monkeypatch.setattr(inspect, "UNSTATED_WEIGHTS", stated - 10)
    assert model_complete(files).parameters == 10
    monkeypatch.setattr(inspect, "UNSTATED_WEIGHTS", stated - 11)
    with pytest.raises(InvalidModel) as refused:
        model_complete(files)
    assert refused.value.message == f"config.json describes {stated:,} weights, but the files hold 10."
    assert refused.value.param == "/files/config.json"
    assert refused.value.remedy == "Send the config.json that was saved with these weights."


@pytest.mark.parametrize("name", ["vocab.json", "added_tokens.json", "tokenizer.json"])
def test_token_files_are_read_within_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refusal(vocabulary: dict[str, Any]) -> str:
        content = {"model": {"vocab": vocabulary}} if name == "tokenizer.json" else vocabulary
        with pytest.raises(InvalidModel) as refused:
            model_complete(laid(tmp_path, model_files() | {name: json.dumps(content).encode()}))
        assert refused.value.param == f"/files/{name}"
        return refused.value.message

    assert refusal({"a": -1}) == f"{name} gives the token 'a' the id -1, not 0..1999999."
    monkeypatch.setattr(inspect, "VOCABULARY_VALUES", 5)
    assert refusal({str(number): number for number in range(10)}) == f"{name} has more than 5 values."
    monkeypatch.setattr(inspect, "VOCABULARY_BYTES", 20)
    assert refusal({"a" * 20: 0}) == f"{name} is larger than 20 bytes."


def test_lines_of_a_vocabulary_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"vocab\.txt has a NUL character in line 1"):
        model_complete(laid(tmp_path, model_files() | {"vocab.txt": b"\0"}))


def codes(names: Iterable[str], check: Any) -> dict[str, tuple[str, str]]:
    found = {}
    for name in names:
        with pytest.raises(InvalidRequest) as refused:
            check(name)
        found[name] = (refused.value.code, refused.value.message)
    return found


def test_what_is_wrong_with_a_name() -> None:
    unsafe = [f"x{suffix}" for suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")]
    must = "weights must be safetensors, which hold no code. Convert them first."
    assert codes(unsafe, check_model_name) == {
        name: ("unsafe_file", f"{name!r} is not accepted: {must}") for name in unsafe
    }
    assert codes(["spm.model"], check_model_name)["spm.model"] == (
        "unknown_file",
        "'spm.model' is not read: send the tokenizer.json that the tokenizer's save_pretrained writes.",
    )
    assert codes(["x.zip"], check_model_name)["x.zip"] == (
        "unknown_file",
        "A model has no file 'x.zip'; it may have config.json, model.safetensors (or its numbered parts and"
        " index), tokenizer files.",
    )
    assert codes(["x.zip"], check_dataset_name)["x.zip"] == (
        "unknown_file",
        "A dataset has no file 'x.zip'; it may have train, validation and test as .jsonl, .csv or .parquet.",
    )
