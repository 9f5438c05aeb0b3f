"""How workers are shown."""

from datetime import datetime

from pydantic import BaseModel, Field

from core.workers.repository import WorkerState


class WorkerView(BaseModel):
    """A worker process."""

    id: str = Field(description="Its host, its process id and a random part.")
    queues: list[str] = Field(description="The queues that it takes jobs from, its own kind first.")
    slots: int = Field(description="Jobs that it runs at the same time.")
    devices: list[str] = Field(description="Ids of the GPUs that its slots share; empty on a CPU worker.")
    gpu_memory_gib: float = Field(description="Memory of the smallest of them; 0 when it is not known.")
    running: int = Field(description="Jobs that it holds now, of all owners.")
    jobs: list[str] = Field(description="Those of them that are yours.")
    started_at: datetime
    heartbeat_at: datetime = Field(description="Its last sign of life.")
    stale: bool = Field(description="Whether that is more than a minute ago.")

    @classmethod
    def of(cls, worker: WorkerState) -> "WorkerView":
        """The view of a worker that the ledger knows."""
        return cls(
            id=worker.id,
            queues=list(worker.queues),
            slots=worker.slots,
            devices=list(worker.devices),
            gpu_memory_gib=round(worker.gpu_memory_gib, 1),
            running=worker.running,
            jobs=worker.own_jobs,
            started_at=worker.started_at,
            heartbeat_at=worker.heartbeat_at,
            stale=worker.stale,
        )


class WorkerList(BaseModel):
    """Every worker."""

    data: list[WorkerView]
    has_more: bool = False
    next_cursor: None = None
