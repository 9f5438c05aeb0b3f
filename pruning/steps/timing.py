"""The steps of a job that take times: the table of a target of the latency, and dense against pruned."""

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel

from pruning.delivery.kernels import PATTERN, offered, try_kernels
from pruning.delivery.measure import latency
from pruning.delivery.timetable import measure_table
from pruning.errors import ArtifactBroken, TargetUnreachable
from pruning.granularity import Granularity
from pruning.methods import METHODS, Outcome
from pruning.planning.families import family_of
from pruning.planning.latency import LatencyTable, SlotKind, layer_costs, predicted_ms
from pruning.report import Kernels, Latency, LatencyResult
from pruning.steps.job import TABLE, Job, json_of
from pruning.training.tasks import load_config

_KERNELS = "kernels"
TOLERANCE = 0.05
"""By how much, of the asked latency, the measured one may exceed it."""


def measure_units(job: Job, dense_dir: Path) -> None:
    """Measure the table that a target of the latency needs; nothing when the target is another.

    Measured once, and kept for a job that is resumed. Raises TargetUnreachable when no cut is as fast as asked.
    """
    if job.plan.target_measure != "latency":
        return
    if not job.steps.done(TABLE):
        with job.progress.step(TABLE, "measuring"):
            table = measure_table(
                lambda: job.load(dense_dir),
                job.plan.shape,
                _fewest(job),
                job.spec.latency_batch or 1,
                job.spec.latency_length or 1,
                job.spec.evaluate.rounds,
                step=job.plan.neuron_step,
                should_stop=job.progress.beat,
                on_progress=job.progress.at,
            )
            job.steps.save(TABLE, json_of(table))
    if job.table is not None:
        _check_reach(job, job.table)


def _kinds(job: Job) -> list[SlotKind]:
    """What the job removes."""
    kind = Granularity.parse(job.spec.granularity).kind
    found: list[SlotKind] = []
    if kind != "neuron" and (job.spec.allocation == "global" or job.plan.shape.free_heads):
        found.append("heads")
    if kind != "head":
        found.append("neurons")
    return found


def _fewest(job: Job) -> dict[SlotKind, int]:
    """The least that a layer may keep of what the job removes."""
    empties = METHODS[job.plan.method].empties_sublayers and job.spec.allocation == "global"
    family = family_of(load_config(job.model_dir).to_dict())
    least: dict[SlotKind, int] = {
        "heads": (family.fewest_heads or 0) if empties else 1,
        "neurons": family.fewest_neurons if empties else job.plan.neuron_step,
    }
    return {kind: least[kind] for kind in _kinds(job)}


def _check_reach(job: Job, table: LatencyTable) -> None:
    saved = 0.0
    for kind in _kinds(job):
        costs = layer_costs(table, job.plan.shape, kind)
        first = 1 if kind == "heads" else job.plan.neuron_step
        saved += job.plan.shape.layers * (costs[-1] - costs[first])
    reach = saved / table.dense_ms
    if job.ratio > reach:
        nearest = max(0.0, int(reach * 1e4) / 1e4)
        raise TargetUnreachable(
            f"target_ratio {job.ratio} of the latency is out of reach on this device: of {table.dense_ms:.3g} ms "
            f"at most {saved:.3g} ms can be removed.",
            nearest=nearest,
            remedy=f"The nearest reachable target_ratio is {nearest}.",
        )


def check_promise(job: Job, outcome: Outcome) -> None:
    """Raise ArtifactBroken when what is kept is slower by the table than asked."""
    table = job.table
    if table is None or outcome.kept is None:
        return
    asked = (1 - job.ratio) * table.dense_ms
    found = predicted_ms(table, job.plan.shape, outcome.kept)
    if found > asked * (1 + 1e-6):
        raise ArtifactBroken(f"By its table the result takes {found:.6g} ms, asked were {asked:.6g}.")


def measure_latency(
    job: Job, dense_dir: Path, load_pruned: Callable[[], PreTrainedModel]
) -> tuple[Latency, ...]:
    """Time dense against pruned: what `evaluate` asks for, and what the target is about."""
    wanted = job.spec.evaluate
    points = [(size, wanted.sequence_length) for size in wanted.batch_sizes] if wanted.latency else []
    table = job.table
    if table is not None:
        target = (table.batch_size, table.sequence_length)
        points += [target] if target not in points else []
    if not points:
        return ()
    if not job.steps.done("measure"):
        with job.progress.step("measure", "measuring"):
            dense, pruned = job.load(dense_dir), load_pruned()
            measured = [
                entry
                for size, length in points
                for entry in latency(
                    dense, pruned, [size], length, wanted.rounds, should_stop=job.progress.beat
                )
            ]
            job.steps.save("measure", {"latency": [json_of(entry) for entry in measured]})
    return tuple(Latency.model_validate(entry) for entry in job.steps.load("measure")["latency"])


def tries_kernels(job: Job) -> bool:
    """Whether the result has zeros that the device has kernels for, and times are wanted."""
    return job.spec.granularity == PATTERN and job.spec.evaluate.latency and offered(job.device)


def measure_kernels(job: Job, dense_dir: Path, load_pruned: Callable[[], PreTrainedModel]) -> Kernels | None:
    """Time the result on the device's 2:4 kernels, where both are there; raises Canceled."""
    if not tries_kernels(job):
        return None
    if not job.steps.done(_KERNELS):
        with job.progress.step(_KERNELS, "measuring"):
            wanted = job.spec.evaluate
            found = try_kernels(
                job.load(dense_dir),
                load_pruned(),
                wanted.batch_sizes,
                wanted.sequence_length,
                wanted.rounds,
                should_stop=job.progress.beat,
            )
            job.steps.save(_KERNELS, json_of(found))
    return Kernels.model_validate(job.steps.load(_KERNELS))


def latency_result(job: Job, outcome: Outcome, measured: tuple[Latency, ...]) -> LatencyResult | None:
    """How the target was met; None when it is no latency."""
    table = job.table
    if table is None or outcome.kept is None:
        return None
    point = (table.batch_size, table.sequence_length)
    (entry,) = (entry for entry in measured if (entry.batch_size, entry.sequence_length) == point)
    predicted = predicted_ms(table, job.plan.shape, outcome.kept)
    left = 1 / entry.speedup
    return LatencyResult(
        table=table,
        asked=job.ratio,
        predicted=1 - predicted / table.dense_ms,
        measured=1 - left,
        asked_ms=(1 - job.ratio) * table.dense_ms,
        predicted_ms=predicted,
        dense_ms=entry.dense_ms,
        measured_ms=entry.pruned_ms,
        tolerance=TOLERANCE,
        missed=left > (1 + TOLERANCE) * (1 - job.ratio),
    )
