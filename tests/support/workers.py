"""A workplace for tests: a database, a store, jobs for the slow engine, and real worker processes."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.artifacts.configured import configured_store
from core.assets import repository as assets
from core.assets.files import FileRecord
from core.db import Database
from core.errors import DatabaseUnavailable
from core.jobs.states import TERMINAL, Status
from core.jobs.tables import Job, JobEvent
from core.settings import Settings
from tests.support.ledger import make_job, make_owner
from tests.support.measured import few_variables
from tests.support.slow_engine import expected_weights

ROOT = Path(__file__).resolve().parents[2]
SLOW = "tests.support.slow_worker"
FAST = {
    "lease_seconds": 3.0,
    "heartbeat_seconds": 0.4,
    "poll_seconds": 0.2,
    "cancel_grace_seconds": 1.0,
    "retry_backoff_seconds": 0.1,
}


class FlickeringDatabase(Database):
    """A real database that a test can take away."""

    away = False

    @contextmanager
    def write(self) -> Iterator[Session]:
        if self.away:
            raise DatabaseUnavailable("The database does not answer.")
        with super().write() as session:
            yield session


class Workplace:
    """One service without its API: whoever writes the jobs is the test."""

    def __init__(self, folder: Path, database_url: str, **settings: Any) -> None:
        values = FAST | {"data_dir": folder / "data", "database_url": database_url} | settings
        self.settings = Settings(**values)
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.database = Database(database_url)
        self.store = configured_store(self.settings)
        self.trace = folder / "trace"
        with self.database.write() as session:
            self.owner_id = make_owner(session)
            self.model_id = self._model(session)
            self.dataset_id = self._dataset(session)

    def submit(self, name: str = "one", *, steps: int = 3, step_seconds: float = 0.05, **options: Any) -> str:
        """Queue a job for the slow engine; returns its id. `job` holds fields of the row."""
        fields = options.pop("job", {})
        engine = {
            "name": name,
            "steps": steps,
            "step_seconds": step_seconds,
            "trace": str(self.trace),
        } | options
        fields = {
            "spec": {"settings": engine},
            "model_id": self.model_id,
            "dataset_id": self.dataset_id,
        } | fields
        with self.database.write() as session:
            return make_job(session, self.owner_id, **fields).id

    def job(self, job_id: str) -> Job:
        """The row as it is now."""
        with self.database.read() as session:
            return session.scalars(select(Job).where(Job.id == job_id)).one()

    def jobs(self) -> list[Job]:
        """Every row."""
        with self.database.read() as session:
            return list(session.scalars(select(Job)))

    def events(self, job_id: str, kind: str) -> list[dict[str, Any]]:
        """The data of a job's events of one type, in order."""
        query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.type == kind)
        with self.database.read() as session:
            return [event.data for event in session.scalars(query.order_by(JobEvent.seq))]

    def statuses(self, job_id: str) -> list[str]:
        """The states the job went through."""
        return [data["status"] for data in self.events(job_id, "status")]

    def steps(self, name: str) -> list[int]:
        """The steps of the job called `name`, in the order in which they were done."""
        lines = self.trace.read_text().splitlines() if self.trace.exists() else []
        return [int(line.split()[2]) for line in lines if line.split()[0] == name]

    def child_pids(self, name: str) -> set[int]:
        """The processes that worked on the job called `name`."""
        lines = self.trace.read_text().splitlines() if self.trace.exists() else []
        return {int(line.split()[3]) for line in lines if line.split()[0] == name}

    def wait(self, job_id: str, *statuses: Status, seconds: float = 30) -> Job:
        """The job once it is in one of `statuses` (any terminal one by default)."""
        wanted = statuses or tuple(TERMINAL)
        until(
            lambda: self.job(job_id).status in wanted, seconds, lambda: f"{job_id} {self.job(job_id).status}"
        )
        return self.job(job_id)

    def wait_for_step(self, name: str, step: int = 0, seconds: float = 30) -> None:
        """Return when the job called `name` has done a step."""
        until(lambda: step in self.steps(name), seconds, lambda: f"step {step} of {name}")

    @contextmanager
    def worker(
        self, log: Path | None = None, *, module: str = SLOW, **environment: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker process; killed at the end if it is still there."""
        process = self.start_worker(log, module=module, **environment)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def start_worker(
        self, log: Path | None = None, *, module: str = SLOW, **environment: str
    ) -> subprocess.Popen[bytes]:
        """A worker process, configured by its environment as everywhere; `module` says which engine it has."""
        own = {
            f"PRUNERY_{name.upper()}": value.get_secret_value()
            if isinstance(value, SecretStr)
            else str(value)
            for name, value in self.settings.model_dump(exclude_defaults=True).items()
        }
        path = log or self.settings.data_dir / "worker.log"
        with path.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env=few_variables() | own | {"OMP_NUM_THREADS": "1"} | environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def weights(self, name: str, steps: int) -> bytes:
        """What the model of a finished job must hold."""
        return expected_weights({"name": name, "steps": steps}).encode()

    def close(self) -> None:
        """Let go of the database."""
        self.database.dispose()

    def _model(self, session: Any) -> str:
        model = assets.create_model(session, owner_id=self.owner_id, name="model")
        file = self._file("config.json", b"{}")
        assets.add_file(session, assets.Model, self.owner_id, model.id, file, max_bytes=1000)
        found = {"config": {}, "model_type": "bert", "parameters": 1, "digest": "d" * 64}
        assets.complete_model(session, self.owner_id, model.id, files=[file], **found)
        return str(model.id)

    def _dataset(self, session: Any) -> str:
        dataset = assets.create_dataset(session, owner_id=self.owner_id, name="dataset")
        file = self._file("train.jsonl", b"{}\n")
        assets.add_file(session, assets.Dataset, self.owner_id, dataset.id, file, max_bytes=1000)
        assets.complete_dataset(session, self.owner_id, dataset.id, files=[file], summary={}, digest="e" * 64)
        return str(dataset.id)

    def _file(self, name: str, content: bytes) -> FileRecord:
        stored = self.store.put([content])
        return FileRecord(name, stored.bytes, stored.sha256)


def until(true: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Wait for something to become true; fails with its name after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what()}"
        time.sleep(0.02)


def figure(text: str) -> None:
    """Note something measured: `pytest -rP` shows it, docs/reliability.md quotes it."""
    sys.stdout.write(f"figure: {text}\n")


def terminate(process: subprocess.Popen[bytes], seconds: float = 30) -> int:
    """End a worker politely and return its exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(seconds)
