"""One attempt at a job: fetch what is missing, lay out the inputs, run the engine, store the results."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.artifacts.repository import ArtifactRecord
from core.artifacts.store import Store
from core.assets.fetch import keep
from core.db.database import Database
from core.inputs import Inputs, find_inputs, materialise
from core.jobs.attempts import Claim
from core.settings import Settings
from worker.channel import Order
from worker.environment import child_environment
from worker.fetch import fetch_parameters
from worker.folder import AttemptFolder
from worker.heartbeat import Heartbeat
from worker.process import ChildProcess
from worker.publish import publish
from worker.watch import Done, Ending, Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stages:
    """The modules that run in child processes: fixed by who builds the worker, never by a request."""

    fetch: str = "worker.fetch"
    prune: str = "worker.child"


@dataclass(frozen=True)
class Workplace:
    """What the attempts of one worker have in common."""

    database: Database
    store: Store
    settings: Settings
    stages: Stages


@dataclass(frozen=True)
class Finished:
    """The results are in the store; only the commit that names them is missing."""

    artifacts: list[ArtifactRecord]
    report: dict[str, Any]


class Attempt:
    """The work between a claim and its settlement; it writes to `folder` and adds unnamed objects to the store."""

    def __init__(
        self,
        workplace: Workplace,
        claim: Claim,
        folder: AttemptFolder,
        heartbeat: Heartbeat,
        *,
        accelerators: str,
        preempted: Callable[[], bool],
    ) -> None:
        self._workplace = workplace
        self._claim = claim
        self._folder = folder
        self._heartbeat = heartbeat
        self._accelerators = accelerators
        self._preempted = preempted
        self._deadline = time.monotonic() + claim.run_timeout_seconds

    def run(self) -> Ending | Finished:
        """Do the whole attempt. Raises what the disk, the store and the database raise."""
        for ending in self._fetches():
            if not isinstance(ending, Done):
                return ending
        inputs = self._lay_out()
        parameters = self._prune_parameters(inputs)
        ending = self._stage(self._workplace.stages.prune, parameters, offline=True)
        if not isinstance(ending, Done):
            return ending
        return Finished(publish(self._folder.out, self._workplace.store), ending.result)

    def _fetches(self) -> Iterator[Ending]:
        """Bring the hub's files of each input that lacks them into the store; one ending for each."""
        inputs, workplace = self._inputs(), self._workplace
        for asset in inputs:
            if asset.hub is not None:
                folder = self._folder.fetched(asset.asset_id)
                parameters = fetch_parameters(asset, folder, self._claim.spec, workplace.settings)
                ending = self._stage(workplace.stages.fetch, parameters, offline=False)
                if isinstance(ending, Done):
                    keep(workplace.database, workplace.store, asset.asset_id, folder, ending.result)
                yield ending

    def _lay_out(self) -> Inputs:
        inputs, store = self._inputs(), self._workplace.store
        materialise(store, inputs.model.files, self._folder.model)
        materialise(store, inputs.dataset.files, self._folder.dataset)
        if inputs.teacher is not None:
            materialise(store, inputs.teacher.files, self._folder.teacher)
        earlier = self._folder.resume()
        if earlier is not None:
            log.info("%s: goes on from attempt %d", self._claim.token.job_id, earlier)
        return inputs

    def _inputs(self) -> Inputs:
        with self._workplace.database.read() as session:
            return find_inputs(session, self._claim)

    def _prune_parameters(self, inputs: Inputs) -> Mapping[str, Any]:
        return {
            "spec": smaller_batches(self._claim.spec, self._claim.capacity_retries),
            "model": str(self._folder.model),
            "dataset": str(self._folder.dataset),
            "teacher": None if inputs.teacher is None else str(self._folder.teacher),
            "out": str(self._folder.out),
        }

    def _stage(self, module: str, parameters: Mapping[str, Any], *, offline: bool) -> Ending:
        settings = self._workplace.settings
        environment = child_environment(
            self._folder.scratch,
            threads=settings.threads_per_slot,
            accelerators=self._accelerators,
            offline=offline,
        )
        child = ChildProcess(
            module, environment=environment, folder=self._folder.scratch, hear=self._heartbeat.log.hear
        )
        watch = Watch(child, self._heartbeat, settings, preempted=self._preempted, deadline=self._deadline)
        return watch.run(Order(parameters, settings.child_memory_bytes))


def smaller_batches(spec: Mapping[str, Any], halvings: int) -> dict[str, Any]:
    """The spec with every batch size that it names halved: what ran out of memory is tried smaller.

    Each device of the job keeps at least a row of every batch, and all keep the same number.
    """
    devices = spec.get("devices", 1)
    return {name: _smaller(name, value, halvings, devices) for name, value in spec.items()}


def _smaller(name: str, value: Any, halvings: int, devices: int) -> Any:
    if isinstance(value, Mapping):
        return {inner: _smaller(inner, part, halvings, devices) for inner, part in value.items()}
    if name == "batch_size" and isinstance(value, int):
        return max(1, (value >> halvings) // devices) * devices
    return value
