"""From a claim to the one commit that says how it went."""

import logging
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from core.accounts.quotas import Quotas
from core.errors import DatabaseUnavailable, LeaseLost
from core.jobs import leases, logs
from core.jobs.attempts import Claim, JobError, Token
from core.jobs.states import TERMINAL, RetryPolicy, Status
from core.logs import log_about
from core.tracing import span
from core.workers.repository import WorkerRecord
from pruning.events import Event
from worker.attempt import Attempt, Finished, Workplace
from worker.devices import Devices
from worker.failures import classify
from worker.folder import AttemptFolder
from worker.heartbeat import Heartbeat, renew_with
from worker.watch import Ending, Failed, Fenced, Stopped

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5


class Supervisor:
    """Claims jobs and stays with each to its end, in the caller's thread, which the child's life hangs on."""

    def __init__(self, workplace: Workplace, *, worker_id: str) -> None:
        self._workplace = workplace
        self._worker_id = worker_id
        self._devices = Devices(workplace.settings)
        settings = workplace.settings
        self._policy = RetryPolicy(settings.max_failures, settings.retry_backoff_seconds)

    @property
    def record(self) -> WorkerRecord:
        """What this worker says of itself."""
        settings = self._workplace.settings
        kind, slots, devices = settings.worker_queue, settings.worker_slots, self._devices
        return WorkerRecord(self._worker_id, kind, slots, devices.ids, devices.memory_gib)

    def work(self, preempted: Callable[[], bool]) -> bool:
        """Claim one job and supervise it; False when there is none, or the database does not answer.

        `preempted` says whether this worker is leaving and the job is to be handed back.
        """
        claimed_at = time.monotonic()
        try:
            claim = self._claim()
        except DatabaseUnavailable as error:
            log.warning("%s Nothing is claimed.", error.message)
            return False
        if claim is None:
            return False
        with log_about(job_id=claim.token.job_id, attempt=claim.token.attempt):
            self._supervise(claim, preempted, claimed_at)
        return True

    def _supervise(self, claim: Claim, preempted: Callable[[], bool], claimed_at: float) -> None:
        token = claim.token
        log.info("%s: attempt %d begins", token.job_id, token.attempt)
        heartbeat = Heartbeat(
            self._workplace.database, token, self._workplace.settings, claimed_at=claimed_at
        )
        with span(
            "job attempt", parent=claim.traceparent, job_id=token.job_id, attempt=token.attempt
        ) as traced:
            ending = self._run(claim, heartbeat, preempted)
            status = self._settle(token, heartbeat, ending)
            traced.note(status=status or "lost")
            if isinstance(ending, Failed):
                traced.fail(ending.error.code)
        log.info("%s: attempt %d ends: %s", token.job_id, token.attempt, status or "it was lost")
        self._clean(token, status)

    def _claim(self) -> Claim | None:
        offer = self.record
        with self._workplace.database.write() as session:
            return leases.claim(
                session,
                worker_id=offer.id,
                queues=offer.queues,
                lease_seconds=self._workplace.settings.lease_seconds,
                gpus=offer.gpus_per_slot,
                gpu_memory_gib=offer.gpu_memory_gib,
                quotas=Quotas.from_settings(self._workplace.settings),
            )

    def _run(self, claim: Claim, heartbeat: Heartbeat, preempted: Callable[[], bool]) -> Ending | Finished:
        try:
            folder = self._folder(claim.token)
            folder.create()
            with self._devices.lend(claim.spec.get("devices", 1)) as accelerators:
                attempt = Attempt(
                    self._workplace,
                    claim,
                    folder,
                    heartbeat,
                    accelerators=accelerators,
                    preempted=preempted,
                )
                return attempt.run()
        except Exception as error:
            outcome = classify(error)
            return Failed(JobError(outcome.code, outcome.error_class, outcome.message, outcome.param))

    def _settle(self, token: Token, heartbeat: Heartbeat, ending: Ending | Finished) -> Status | None:
        """Commit how the attempt ended, together with the child's last news and lines.

        Tries again while the database does not answer and the lease holds. None: the job is no longer ours.
        """
        news = heartbeat.close()
        heartbeat.log.close()
        while not isinstance(ending, Fenced) and not heartbeat.lost:
            try:
                with self._workplace.database.write() as session:
                    self._write_news(session, token, news)
                    status = self._write_ending(session, token, ending)
                    if (tail := heartbeat.log.news()) is not None:
                        logs.write(session, token.job_id, token.attempt, tail)
                    return status
            except LeaseLost:
                return None
            except DatabaseUnavailable as error:
                log.warning("%s: %s The end is not written yet.", token.job_id, error.message)
                if heartbeat.age > self._workplace.settings.lease_seconds:
                    return None
                time.sleep(_RETRY_SECONDS)
        return None

    def _write_news(self, session: Session, token: Token, news: list[Event]) -> None:
        if news:
            renew_with(session, token, news, self._workplace.settings)

    def _write_ending(self, session: Session, token: Token, ending: Ending | Finished) -> Status:
        if isinstance(ending, Finished):
            leases.finish(session, token, artifacts=ending.artifacts, report=ending.report)
            return Status.SUCCEEDED
        if isinstance(ending, Failed):
            return leases.fail(session, token, ending.error, self._policy)
        if isinstance(ending, Stopped) and ending.reason == "cancel":
            leases.confirm_cancel(session, token)
            return Status.CANCELED
        return leases.release(session, token, "preempted")

    def _clean(self, token: Token, status: Status | None) -> None:
        """Free the disk: all attempts of a job that is over, else only what the next attempt makes anew."""
        folder = self._folder(token)
        if status in TERMINAL:
            folder.discard_job()
        else:
            folder.discard_inputs()

    def _folder(self, token: Token) -> AttemptFolder:
        """The job's id is the server's own, never a client's text."""
        return AttemptFolder(self._workplace.settings.work_dir / "jobs" / token.job_id, token.attempt)
