"""Rows that tests of every room need: an owner, a ready model and dataset, a queued job."""

from typing import Any

from sqlalchemy.orm import Session

from core.accounts.repository import create_owner
from core.assets import repository as assets
from core.assets.files import FileRecord
from core.ids import new_id
from core.jobs import repository as jobs
from core.jobs.repository import NewJob
from core.jobs.tables import Job

CONFIG = {"model_type": "bert", "architectures": ["BertModel"]}
FILE = FileRecord("model.safetensors", 10, "a" * 64)


def make_owner(session: Session) -> str:
    """A new owner's id."""
    return create_owner(session, new_id("own")).id


def make_model(session: Session, owner_id: str) -> str:
    """A ready model's id."""
    model = assets.create_model(session, owner_id=owner_id, name="model")
    assets.add_file(session, assets.Model, owner_id, model.id, FILE, max_bytes=1000)
    assets.complete_model(
        session,
        owner_id,
        model.id,
        files=[FILE],
        config=CONFIG,
        model_type="bert",
        parameters=1,
        digest="d" * 64,
    )
    return model.id


def make_dataset(session: Session, owner_id: str) -> str:
    """A ready dataset's id."""
    dataset = assets.create_dataset(session, owner_id=owner_id, name="dataset")
    assets.complete_dataset(session, owner_id, dataset.id, files=[], summary={"splits": {}}, digest="e" * 64)
    return dataset.id


def make_job(session: Session, owner_id: str | None = None, **fields: Any) -> Job:
    """A queued job with a model and dataset of its own."""
    owner_id = owner_id or make_owner(session)
    values: dict[str, Any] = {
        "request": {"target_ratio": 0.5},
        "spec": {"target_ratio": 0.5},
        "plan": {},
        "queue": "cpu",
        "run_timeout_seconds": 60.0,
    } | fields
    if "model_job_id" not in values:
        values.setdefault("model_id", make_model(session, owner_id))
    values.setdefault("dataset_id", make_dataset(session, owner_id))
    return jobs.create(session, owner_id, NewJob(**values))
