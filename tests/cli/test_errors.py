"""Every error is one line that names what to change, and a status that says whose turn it is."""

from pathlib import Path

import pytest

from tests.cli.conftest import Prunery

ASK = ("--ratio", "0.5")


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (("prune",), 2, "No such command 'prune'"),
        (("submit",), 2, "Missing option '--model'"),
        (("submit", "--model", "a", "--dataset", "b", "--ratio", "half"), 2, "--ratio"),
        (("list", "--limit", "0"), 2, "--limit"),
        (("list",), 1, "PRUNERY_API_KEY is not set"),
        (("worker", "--check"), 1, "no worker of this machine"),
        (("keys", "revoke", "key_1", "--owner", "nobody"), 1, "there is no owner 'nobody'"),
    ],
)
def test_a_wrong_command_is_one_line(
    prunery: Prunery, words: tuple[str, ...], status: int, line: str
) -> None:
    prunery("migrate")
    code, out, err = prunery(*words)
    assert (code, out) == (status, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert line in err


def test_a_wrong_setting_is_named_as_its_variable(prunery: Prunery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNERY_PORT", "http")
    code, _, err = prunery("list")
    assert code == 2
    assert err.startswith("error: PRUNERY_PORT: ")
    assert err.count("\n") == 1


def test_a_service_that_is_not_there_is_named(prunery: Prunery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNERY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PRUNERY_API_KEY", "prn_live_x")
    code, _, err = prunery("list")
    assert code == 1
    assert err.startswith("error: no answer from http://127.0.0.1:9")
    assert err.count("\n") == 1


def test_a_refusal_names_the_field(online: Prunery, model_folder: Path, dataset_file: Path) -> None:
    given = ("--model", str(model_folder), "--dataset", str(dataset_file))
    code, out, err = online("submit", *given, "--ratio", "1.5")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: /target_ratio: ")


def test_a_folder_that_is_no_model_is_refused_before_anything_is_sent(
    online: Prunery, tmp_path: Path
) -> None:
    code, _, err = online("submit", "--model", str(tmp_path), "--dataset", "dst_x", *ASK)
    assert code == 2
    assert err.startswith("error: model: ")
