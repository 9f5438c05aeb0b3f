"""Signs results once, in processes of the API; a job's process and its worker never see the key."""

from contextlib import suppress
from functools import cached_property
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.artifacts.repository import list_artifacts
from core.clock import now
from core.db import Database
from core.db.base import Json
from core.jobs.tables import Job
from core.signing.keys import PrivateKey, load_or_make
from core.signing.manifest import manifest, signed_bytes
from core.signing.tables import Signature, SigningKey

_BATCH = 100


class Signer:
    """A key in a file, and the results of a database."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path

    @cached_property
    def key(self) -> PrivateKey:
        """The key, made when there is no file; raises UnusableKey and OSError."""
        return load_or_make(self._path)

    def sign_new(self) -> int:
        """Sign the results that were published since; the number of them."""
        with self._database.read() as session:
            unsigned = select(Signature.job_id).where(Signature.signature.is_(None)).limit(_BATCH)
            found = session.scalars(unsigned).all()
        for job_id in found:
            with self._database.write() as session:
                self._sign(session, job_id)
        return len(found)

    def signed_manifest(self, job: Job) -> Json:
        """The manifest of a succeeded job with its signature, both None of a result older than signing.

        What was signed once is not signed again: rows that were changed since do not fit their signature.
        """
        with self._database.read() as session:
            signature = session.get(Signature, job.id)
        if signature is not None and signature.signature is None:
            with self._database.write() as session:
                self._sign(session, job.id)
        with self._database.read() as session:
            signature = session.get(Signature, job.id)
            key = None if signature is None else session.get(SigningKey, signature.key_id)
            public_key = None if key is None else key.public_key
            document = manifest(job, list_artifacts(session, job), public_key)
        return document | {"signature": None if signature is None else signature.signature}

    def public_keys(self) -> list[str]:
        """The key that signs now, and every one that has signed, oldest last."""
        with self._database.read() as session:
            query = select(SigningKey.public_key).order_by(SigningKey.created_at.desc())
            earlier = session.scalars(query).all()
        return [self.key.public_key, *(key for key in earlier if key != self.key.public_key)]

    def _sign(self, session: Session, job_id: str) -> None:
        query = select(Signature).where(Signature.job_id == job_id, Signature.signature.is_(None))
        signature = session.scalars(query.with_for_update()).one_or_none()
        if signature is None:  # another process has signed it, or the job is gone
            return
        job = session.get_one(Job, job_id)
        at = now(session)
        if session.get(SigningKey, self.key.id) is None:
            with suppress(IntegrityError), session.begin_nested():  # another process may add the same row
                session.add(SigningKey(id=self.key.id, public_key=self.key.public_key, created_at=at))
        document = manifest(job, list_artifacts(session, job), self.key.public_key)
        signature.key_id, signature.signed_at = self.key.id, at
        signature.signature = self.key.sign(signed_bytes(document))
