"""`prunery verify`, which needs no service."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Prunery
from tests.support.manifests import FILES, lay, signed


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return signed(tmp_path / "key.pem")


@pytest.fixture
def result(tmp_path: Path, document: dict[str, Any]) -> Path:
    return lay(tmp_path / "result", document)


def test_what_was_signed_is_named_with_its_key(
    prunery: Prunery, result: Path, document: dict[str, Any]
) -> None:
    key_id = document["key"]["kid"]
    for path in (result, result / "manifest.json"):
        code, out, _ = prunery("verify", str(path))
        assert code == 0
        assert out.startswith(f"3 files of job_1 are those that key {key_id} signed\n")
        assert "--key" in out
    keys = result.parent / "keys.json"
    keys.write_text(json.dumps({"keys": [document["key"]]}))
    for trusted in (key_id, str(keys)):
        code, out, _ = prunery("verify", str(result), "--key", trusted)
        assert (code, out.count("\n")) == (0, 1)


def test_every_fault_is_one_line(prunery: Prunery, result: Path, tmp_path: Path) -> None:
    (result / "report.json").unlink()
    (result / "model" / "config.json").write_bytes(b"[]")
    (result / "model" / "more.json").write_bytes(b"{}")
    stranger = signed(tmp_path / "stranger.pem")["key"]["kid"]
    code, out, err = prunery("verify", str(result), "--key", stranger)
    assert (code, err) == (1, "")
    assert [line.partition(": ")[0] for line in out.splitlines()] == [
        "manifest.json",
        "model/config.json",
        "report.json",
        "model/more.json",
    ]


def test_a_manifest_that_was_changed(prunery: Prunery, result: Path, document: dict[str, Any]) -> None:
    for files in (document["files"][:-1], []):
        lay(result, document | {"files": files})
        code, out, _ = prunery("verify", str(result))
        assert code == 1
        assert out == "manifest.json: the signature does not fit the manifest: one of them was changed\n"


def test_a_result_older_than_signing_is_no_success(
    prunery: Prunery, result: Path, document: dict[str, Any]
) -> None:
    lay(result, document | {"key": None, "signature": None})
    code, out, _ = prunery("verify", str(result))
    assert (code, out.count("\n")) == (1, 1)
    assert "job_1 is not signed: it is older than signing" in out


@pytest.mark.parametrize("key", ["short", "/no/such/file", "result/report.json"])
def test_wrong_use_is_one_line(prunery: Prunery, result: Path, key: str) -> None:
    code, out, err = prunery("verify", str(result), "--key", key)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: --key: {key} is neither")
    (result / "manifest.json").unlink()
    code, _, err = prunery("verify", str(result))
    assert code == 2
    assert "prunery download" in err
    assert set(FILES) == {path.relative_to(result).as_posix() for path in result.rglob("*.*")}
