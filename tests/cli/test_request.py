import json
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from cli.request import dataset_reference, merge, model_reference


def refuse(path: Path) -> Any:
    raise AssertionError(f"{path} is not local and must not be uploaded")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("mdl_01", "mdl_01"),
        ("job_01", {"job": "job_01"}),
        ("bert-base-uncased", {"hub": "bert-base-uncased"}),
        ("org/name", {"hub": "org/name"}),
        ("org/name@refs/pr/1", {"hub": "org/name", "revision": "refs/pr/1"}),
    ],
)
def test_a_model_is_named_in_every_way(text: str, reference: object) -> None:
    assert model_reference(text, refuse) == reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("dst_01", "dst_01"),
        ("glue:sst2", {"hub": "glue", "config": "sst2"}),
        ("org/name:c@v1", {"hub": "org/name", "config": "c", "revision": "v1"}),
    ],
)
def test_a_dataset_is_named_in_every_way(text: str, reference: object) -> None:
    assert dataset_reference(text, refuse) == reference


@pytest.mark.parametrize("text", ["./absent", "/absent/model", "org/name:config", "a b", ""])
def test_what_names_no_model_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="hub name"):
        model_reference(text, refuse)


def test_settings_go_where_their_path_says() -> None:
    fields = {"method": {"name": "leap"}, "seed": 0}
    words = [
        "finetune.epochs=2",
        "finetune.learning_rate=1e-4",
        "method.max_steps=150",
        "recover=false",
        "metadata.team=a=b",
    ]
    assert merge(fields, words) == {
        "method": {"name": "leap", "max_steps": 150},
        "seed": 0,
        "finetune": {"epochs": 2, "learning_rate": 1e-4},
        "recover": False,
        "metadata": {"team": "a=b"},
    }


@pytest.mark.parametrize("word", ["epochs", "=2", "a..b=1", ".a=1", "seed.x=1"])
def test_a_setting_that_cannot_be_placed_is_refused(word: str) -> None:
    with pytest.raises(typer.BadParameter):
        merge({"seed": 0}, [word])


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.text(max_size=20) | st.integers() | st.booleans()
    )
)
def test_plain_settings_are_read_back(values: dict[str, Any]) -> None:
    words = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    assert merge({}, words) == values
