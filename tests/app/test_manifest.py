"""Signed manifests: made once, by the API, over what was published."""

import logging
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from app.main import create_app
from client import Manifest, NotVerified
from core.artifacts.tables import Artifact
from core.settings import Settings
from core.signing.keys import UnusableKey
from core.signing.signer import Signer
from core.signing.tables import Signature
from tests.app.conftest import Service, problem

RESULT = {"model/config.json": b"{}", "model/model.safetensors": b"weights", "report.json": b"{}"}


def read(service: Service, job_id: str) -> Manifest:
    reply = service.client.get(f"/v1/jobs/{job_id}/manifest")
    assert reply.status_code == 200, reply.text
    return Manifest.read(reply.content)


def key_ids(service: Service) -> list[str]:
    keys = service.client.get("/v1/signing-keys", headers={"Authorization": ""}).json()["keys"]
    return [key["kid"] for key in keys]


def test_a_result_is_signed_once_by_a_key_that_is_published(service: Service) -> None:
    job_id = service.finished(RESULT)
    first, second = read(service, job_id), read(service, job_id)
    assert first == second
    assert (first.job, list(first.files)) == (job_id, sorted(RESULT))
    assert {name: file.bytes for name, file in first.files.items()} == {
        name: len(content) for name, content in RESULT.items()
    }
    assert key_ids(service) == [first.key_id]
    assert service.client.get(f"/v1/jobs/{job_id}").json()["urls"]["manifest"].endswith(f"{job_id}/manifest")


def test_results_are_signed_without_being_asked_for(service: Service) -> None:
    finished = [service.finished(RESULT) for _ in range(2)]
    assert service.services.signer.sign_new() == 2
    assert service.services.signer.sign_new() == 0
    assert all(read(service, job_id).key_id for job_id in finished)


def test_what_was_changed_after_its_signature_does_not_fit_it(service: Service) -> None:
    job_id = service.finished(RESULT)
    read(service, job_id)
    with service.services.database.write() as session:
        session.execute(update(Artifact).where(Artifact.name == "report.json").values(sha256="0" * 64))
    with pytest.raises(NotVerified, match="one of them was changed"):
        read(service, job_id)


def test_another_key_signs_what_comes_and_the_earlier_one_still_checks(
    service: Service, settings: Settings
) -> None:
    earlier = read(service, service.finished(RESULT))
    settings.signing_key_file.unlink()
    later = service.finished(RESULT)
    Signer(service.services.database, settings.signing_key_file).sign_new()
    assert read(service, later).key_id != earlier.key_id
    assert read(service, earlier.job) == earlier
    assert set(key_ids(service)) == {earlier.key_id, read(service, later).key_id}


def test_a_result_older_than_signing_says_so(service: Service) -> None:
    job_id = service.finished(RESULT)
    with service.services.database.write() as session:
        session.execute(delete(Signature))
    document = service.client.get(f"/v1/jobs/{job_id}/manifest").json()
    assert (document["key"], document["signature"]) == (None, None)
    assert read(service, job_id).key_id is None


def test_the_signature_goes_with_its_job(service: Service) -> None:
    job_id = service.finished(RESULT)
    read(service, job_id)
    assert service.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    problem(service.client.get(f"/v1/jobs/{job_id}/manifest"), 404, "not_found")


def test_a_job_without_a_result_has_no_manifest(service: Service) -> None:
    job_id = service.job()["id"]
    problem(service.client.get(f"/v1/jobs/{job_id}/manifest"), 409, "not_ready")
    service.client.post(f"/v1/jobs/{job_id}/cancel")
    problem(service.client.get(f"/v1/jobs/{job_id}/manifest"), 409, "no_result")


def test_the_key_is_for_its_owner_only_and_never_shown(
    settings: Settings, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    read(service, service.finished(RESULT))
    path = settings.signing_key_file
    assert path.stat().st_mode & 0o777 == 0o600
    secret = path.read_text().splitlines()[1]
    assert [file.name for file in path.parent.glob("*signing*")] == [path.name]
    shown = caplog.text + service.client.get("/v1/signing-keys").text + repr(service.services)
    assert secret not in shown
    assert secret not in repr(vars(service.services.signer.key))


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_key_is_said_at_the_start(
    settings: Settings, tmp_path: Path, content: bytes
) -> None:
    bad = settings.model_copy(update={"signing_key_file": tmp_path / "key.pem"})
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(UnusableKey, match="holds no Ed25519 private key"):
        _ = create_app(bad).state.services.signer.key
    assert (tmp_path / "key.pem").read_bytes() == content
