"""The generated list of methods agrees with the classes, and is read without torch."""

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from pruning import publish_catalogue
from pruning.errors import InvalidSpec
from pruning.methods import METHODS, create
from pruning.planning import catalogue


def test_the_file_is_what_the_classes_say() -> None:
    assert publish_catalogue.main([]) == 0, "run make generate"


def test_a_stale_file_is_told_and_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publish_catalogue, "PATH", tmp_path / "catalogue.json")
    (tmp_path / "catalogue.json").write_text("[]", "utf-8")
    assert publish_catalogue.main([]) == 1
    assert "--write" in capsys.readouterr().err
    assert publish_catalogue.main(["--write"]) == 0
    assert publish_catalogue.main([]) == 0


def test_every_method_is_listed_with_a_valid_schema() -> None:
    assert [entry.name for entry in catalogue.methods()] == sorted(METHODS)
    for entry in catalogue.methods():
        jsonschema.Draft202012Validator.check_schema(entry.schema)
        assert entry.granularities
        assert entry.measures
        assert entry.schema["additionalProperties"] is False


def test_reading_it_imports_no_torch() -> None:
    program = "import sys; from pruning.planning.catalogue import methods; methods(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="leap, magnitude") as unknown:
        catalogue.method("nothing")
    assert unknown.value.param == "/method"
    with pytest.raises(InvalidSpec, match="Use one of"):
        create("nothing", {})
    with pytest.raises(InvalidSpec, match="Extra inputs") as extra:
        create("leap", {"tempo": 1})
    assert extra.value.param == "/settings/tempo"
