"""A manifest that was tampered with is never believed, whatever was changed."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import DownloadBroken, Manifest, NotVerified
from tests.support.manifests import FILES, lay, signed


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A signed manifest of `FILES`."""
    return signed(tmp_path_factory.mktemp("keys") / "key.pem")


def read(document: Any) -> Manifest:
    return Manifest.read(json.dumps(document).encode())


def test_a_manifest_that_was_laid_out_anew_is_the_same(document: dict[str, Any], tmp_path: Path) -> None:
    manifest = Manifest.read(json.dumps(document, indent=4, sort_keys=True).encode())
    assert manifest.key_id == document["key"]["kid"]
    assert list(manifest.faults(lay(tmp_path))) == []


def test_another_owner_of_a_key_cannot_pass_for_the_first(document: dict[str, Any], tmp_path: Path) -> None:
    other = signed(tmp_path / "other.pem")
    assert read(other).key_id != read(document).key_id
    for mixed in (
        other | {"signature": document["signature"]},
        other | {"key": document["key"]},
        document | {"key": other["key"]},
        document | {"key": document["key"] | {"kid": other["key"]["kid"]}},
    ):
        with pytest.raises(NotVerified):
            read(mixed)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_changed_member_is_noticed(document: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(document)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii"))
    changed = text[:place] + other + text[place + 1 :]
    try:
        same = json.loads(changed) == document
    except ValueError:
        same = False
    if same:
        assert Manifest.read(changed.encode()).key_id
    else:
        with pytest.raises(NotVerified):
            Manifest.read(changed.encode())


@given(st.binary(max_size=200))
def test_anything_is_a_manifest_or_refused(content: bytes) -> None:
    with pytest.raises(NotVerified):
        Manifest.read(content)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "prunery-manifest/2"}, "known is"),
        ({"files": [{"name": "a", "bytes": 1, "sha256": "0"}] * 2}, "twice"),
        ({"signature": None}, "half|without"),
        ({"key": None}, "half|without"),
        ({"signature": "§"}, "does not fit"),
    ],
)
def test_what_is_no_whole_manifest(document: dict[str, Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(NotVerified, match=says):
        read(document | change)


def test_every_fault_of_the_files_is_one_line(document: dict[str, Any], tmp_path: Path) -> None:
    lay(tmp_path)
    (tmp_path / "model" / "config.json").write_bytes(b"[]")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"short")
    (tmp_path / "model" / "adapter_config.json").write_bytes(b"added")
    (tmp_path / "report.json").unlink()
    (tmp_path / "report.json").symlink_to(tmp_path / "model" / "config.json")
    faults = list(read(document).faults(tmp_path))
    assert [fault.partition(": ")[0] for fault in faults] == [*FILES, "model/adapter_config.json"]
    for fault, says in zip(faults, ("sha256", "5 bytes, not 7", "no regular file", "not in"), strict=True):
        assert says in fault
    (tmp_path / "report.json").unlink()
    assert "report.json: is missing" in list(read(document).faults(tmp_path))


def test_a_name_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    manifest = read(signed(tmp_path / "key.pem", {"../secret": b""}))
    with pytest.raises(DownloadBroken, match="not a path inside"):
        list(manifest.faults(tmp_path))


def test_an_archive_is_the_models_folder_and_nothing_else(document: dict[str, Any], tmp_path: Path) -> None:
    def tar(files: dict[str, bytes]) -> Path:
        with tarfile.open(tmp_path / "model.tar", "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return tmp_path / "model.tar"

    model = {name: content for name, content in FILES.items() if name.startswith("model/")}
    manifest = read(document)
    manifest.require_archive(tar(model))
    for wrong in (model | {"model/x": b""}, model | {"model/config.json": b"[]"}, {}):
        with pytest.raises(DownloadBroken):
            manifest.require_archive(tar(wrong))
    (tmp_path / "model.tar").write_bytes(b"no tar")
    with pytest.raises(DownloadBroken, match="no tar"):
        manifest.require_archive(tmp_path / "model.tar")
