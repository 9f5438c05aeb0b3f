"""The inputs of a claimed job: an upload, a reference of the hub, the result of another job."""

from pathlib import Path

import pytest
from sqlalchemy import delete

from core.artifacts.local import LocalStore
from core.artifacts.repository import ArtifactRecord
from core.artifacts.tables import Artifact
from core.assets import repository as assets
from core.assets.files import FileRecord, HubModelInfo, HubReference
from core.db import Database
from core.errors import NotFound
from core.inputs import Inputs, find_inputs, materialise
from core.jobs import leases
from tests.support.ledger import CONFIG, FILE, make_job, make_model, make_owner


def claim_inputs(database: Database) -> Inputs:
    with database.write() as session:
        claim = leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
    assert claim is not None
    with database.read() as session:
        return find_inputs(session, claim)


def test_an_uploaded_model_has_its_files(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
    inputs = claim_inputs(database)
    assert (inputs.model.asset_id, inputs.model.files, inputs.model.hub) == (job.model_id, (FILE,), None)
    assert inputs.dataset.asset_id == job.dataset_id


def test_a_model_of_the_hub_says_what_to_fetch(database: Database) -> None:
    file = FileRecord("config.json", 5, None, "config.json")
    with database.write() as session:
        owner = make_owner(session)
        model = assets.hub_model(session, owner, HubModelInfo("org/m", "c" * 40, CONFIG, "bert", (file,)))
        make_job(session, owner, model_id=model.id)
    inputs = claim_inputs(database)
    assert inputs.model.hub == HubReference("model", "org/m", "c" * 40)
    assert inputs.model.files == (file,)


def test_the_result_of_a_job_is_a_model_without_its_code(database: Database) -> None:
    names = (
        "model/config.json",
        "model/model.safetensors",
        "model/modeling.py",
        "model/small/config.json",
        "report.json",
    )
    with database.write() as session:
        first = make_job(session)
        claim = leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
        assert claim is not None
        records = [ArtifactRecord(name, 1, "a" * 64, "text/plain") for name in names]
        leases.finish(session, claim.token, artifacts=records, report={})
        make_job(session, first.owner_id, model_job_id=first.id)
    inputs = claim_inputs(database)
    assert inputs.model.asset_id == first.id
    assert {file.name for file in inputs.model.files} == {"config.json", "model.safetensors"}
    with database.write() as session:
        session.execute(delete(Artifact))
        make_job(session, first.owner_id, model_job_id=first.id)
    with pytest.raises(NotFound):
        claim_inputs(database)


def test_a_teacher_is_an_input_of_its_own(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        teacher = make_model(session, owner)
        job = make_job(session, owner, teacher_id=teacher)
    inputs = claim_inputs(database)
    assert inputs.teacher is not None
    assert (inputs.teacher.asset_id, inputs.teacher.files) == (teacher, (FILE,))
    assert [one.asset_id for one in inputs] == [job.model_id, job.dataset_id, teacher]


def test_a_model_that_teaches_itself_is_fetched_once(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        model = make_model(session, owner)
        job = make_job(session, owner, model_id=model, teacher_id=model)
    inputs = claim_inputs(database)
    assert inputs.teacher == inputs.model
    assert [one.asset_id for one in inputs] == [model, job.dataset_id]


def test_files_are_laid_out_as_links_or_copies(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    stored = store.put([b"content"])
    file = FileRecord("config.json", stored.bytes, stored.sha256)
    materialise(store, [file], tmp_path / "inputs" / "model")
    laid = tmp_path / "inputs" / "model" / "config.json"
    assert laid.read_bytes() == b"content"
    source = store.path(stored.sha256)
    assert source is not None
    assert laid.samefile(source)


def test_files_are_copied_where_links_are_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = LocalStore(tmp_path / "store")
    stored = store.put([b"content"])
    materialise(store, [FileRecord("a.json", stored.bytes, stored.sha256)], tmp_path / "inputs")
    laid, source = tmp_path / "inputs" / "a.json", store.path(stored.sha256)
    assert source is not None
    assert laid.read_bytes() == b"content"
    assert not laid.samefile(source)


def test_files_that_are_not_there_are_not_laid_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for number, sha256 in enumerate((None, "0" * 64)):
        with pytest.raises(NotFound):
            materialise(store, [FileRecord("a.json", 1, sha256)], tmp_path / f"inputs-{number}")
