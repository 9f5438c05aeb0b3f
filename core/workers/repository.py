"""Which workers there are: each keeps one row of its own; whoever asks sees what it does."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core.clock import now
from core.db.writes import rows_changed
from core.jobs.states import HELD
from core.jobs.tables import Job
from core.queues import Kind, taken_by
from core.workers.tables import Worker

STALE_SECONDS = 60.0
"""A worker that gave no sign of life for this long is dead, hangs, or cannot reach the database."""


@dataclass(frozen=True)
class WorkerRecord:
    """What a worker says of itself; `gpu_memory_gib` is that of the smallest of its devices, 0 when unknown."""

    id: str
    queue: Kind
    slots: int
    devices: Sequence[str]
    gpu_memory_gib: float = 0.0

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it takes jobs from."""
        return taken_by(self.queue, self.gpu_memory_gib)

    @property
    def gpus_per_slot(self) -> int | None:
        """How many GPUs each of its jobs can have; None where there are none to count."""
        return None if self.queue == "cpu" else len(self.devices) // self.slots

    def can_run(self, job: Job) -> bool:
        """Whether it has what the job needs; `leases.claim` asks the same of the ledger."""
        if job.queue not in self.queues or self.gpus_per_slot is None:
            return job.queue in self.queues
        return job.gpus <= self.gpus_per_slot and job.gpu_memory_gib <= self.gpu_memory_gib


@dataclass(frozen=True, kw_only=True)
class WorkerState(WorkerRecord):
    """A worker as the ledger knows it.

    `running` counts the jobs that it holds under a lease; `own_jobs` names those of whoever asks.
    """

    running: int
    own_jobs: list[str]
    started_at: datetime
    heartbeat_at: datetime
    stale: bool


def beat(session: Session, record: WorkerRecord) -> None:
    """Give a sign of life; the first one, and one after the sweep forgot the worker, writes the row."""
    at = now(session)
    if rows_changed(session, update(Worker).where(Worker.id == record.id).values(heartbeat_at=at)) == 0:
        session.add(
            Worker(
                id=record.id,
                queue=record.queue,
                slots=record.slots,
                devices=list(record.devices),
                gpu_memory_gib=record.gpu_memory_gib,
                started_at=at,
                heartbeat_at=at,
            )
        )


def leave(session: Session, worker_id: str) -> None:
    """Take a worker's row away; no row is no error."""
    rows_changed(session, delete(Worker).where(Worker.id == worker_id))


def forget_silent(session: Session, *, seconds: float) -> int:
    """Delete the rows of workers that gave no sign for `seconds`; returns how many."""
    before = now(session) - timedelta(seconds=seconds)
    return rows_changed(session, delete(Worker).where(Worker.heartbeat_at < before))


def queues_heard(session: Session) -> set[str]:
    """The queues that a living worker takes jobs from."""
    living = select(Worker).where(Worker.heartbeat_at >= now(session) - timedelta(seconds=STALE_SECONDS))
    return {queue for each in session.scalars(living) for queue in taken_by(each.queue, each.gpu_memory_gib)}


def list_workers(session: Session, owner_id: str | None = None) -> list[WorkerState]:
    """Every worker, oldest first, in two reads; `owner_id` is whose jobs are named."""
    held: dict[str | None, list[tuple[str, str]]] = defaultdict(list)
    # A job that is not over has no finished_at, and that an index knows: the jobs of the past are not read.
    running = select(Job.worker_id, Job.id, Job.owner_id).where(
        Job.finished_at.is_(None), Job.status.in_(HELD)
    )
    for worker_id, job_id, owner in session.execute(running.order_by(Job.id)):
        held[worker_id].append((job_id, owner))
    silent_since = now(session) - timedelta(seconds=STALE_SECONDS)
    return [
        WorkerState(
            id=worker.id,
            queue=worker.queue,
            slots=worker.slots,
            devices=worker.devices,
            gpu_memory_gib=worker.gpu_memory_gib,
            running=len(held[worker.id]),
            own_jobs=[job_id for job_id, owner in held[worker.id] if owner == owner_id],
            started_at=worker.started_at,
            heartbeat_at=worker.heartbeat_at,
            stale=worker.heartbeat_at < silent_since,
        )
        for worker in session.scalars(select(Worker).order_by(Worker.started_at, Worker.id))
    ]
