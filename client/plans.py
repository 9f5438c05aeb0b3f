"""What the service foresees of a job."""

from typing import Any

from client.replies import Proposal, Reply


class Span(Reply):
    """A number between two; the same two where it is known exactly."""

    least: float
    most: float


class UnitGroup(Reply):
    """One kind of unit: how many there are in each layer, what one costs, and how many of all will go."""

    unit: str
    of: str
    layers: int
    per_layer: int
    stay_per_layer: int
    step: int
    may_keep: tuple[int, ...] | None
    weights: int
    parameters: int
    flops: float
    removed: Span | None


class Sizes(Reply):
    """Sizes of a model; `bytes` are those of its stored tensors."""

    parameters: Span
    weights: Span
    flops: Span
    bytes: Span


class Memory(Reply):
    """Peak bytes, right within `factor`: on a CPU `libraries` and `job`, on a GPU `job`."""

    libraries: int
    job: int
    stage: str
    factor: float


class Forecast(Reply):
    """What a job will remove and need. `after` is None where the job itself finds out."""

    units: tuple[UnitGroup, ...]
    grid: dict[str, tuple[int, ...]]
    before: Sizes
    after: Sizes | None
    memory: Memory
    work: dict[str, Any]


class Duration(Reply):
    """Seconds of the run; `basis` is earlier_jobs, assumed_rate or none."""

    seconds: float | None
    least: float | None
    most: float | None
    basis: str
    jobs: int
    flops_per_second: float | None


class Target(Reply):
    """Whether the asked ratio can be reached; if not the plan is that of the `nearest`, and `message` says why."""

    asked: float | None
    reachable: bool
    nearest: float | None
    message: str | None


class JobPlan(Proposal):
    """What a job would do and need; `forecast` and `duration` are None while the dataset is still on the hub."""

    target: Target
    forecast: Forecast | None
    duration: Duration | None
