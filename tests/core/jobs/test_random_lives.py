"""Random sequences of what API, workers and reconciler do to one job, against a real database."""

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update
from sqlalchemy.orm import Session

from core.artifacts.repository import ArtifactRecord
from core.db import Database
from core.errors import Conflict, LeaseLost
from core.jobs import leases, repository
from core.jobs.attempts import JobError, Token
from core.jobs.reconcile import reconcile
from core.jobs.states import HELD, TERMINAL, RetryPolicy, Status
from core.jobs.tables import Job
from core.settings import Settings
from pruning.errors import ErrorClass
from tests.support.ledger import make_job

CLASSES: tuple[ErrorClass, ...] = ("user", "capacity", "infrastructure", "bug", "canceled")


class OneJob(RuleBasedStateMachine):
    """A job, every token that was ever given out for it, and how often it was seen to end."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.settings = Settings(max_failures=3)
        with self.database.write() as session:
            self.before = make_job(session)
        self.tokens: list[Token] = []
        self.finished = 0

    def teardown(self) -> None:
        with self.database.write() as session:
            session.execute(update(Job).values(queue="past examples"))

    def row(self) -> Job:
        with self.database.read() as session:
            return repository.get(session, self.before.owner_id, self.before.id)

    @rule()
    def claim(self) -> None:
        with self.database.write() as session:
            session.execute(update(Job).where(Job.id == self.before.id).values(next_attempt_at=None))
            claim = leases.claim(session, worker_id=f"w{len(self.tokens)}", queues=["cpu"], lease_seconds=60)
        if claim is not None:
            self.tokens.append(claim.token)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), action=st.sampled_from(["renew", "finish", "fail", "release", "confirm"]))
    def write(self, data: st.DataObject, action: str) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        before = self.row()
        good = before.status in HELD and token == self.tokens[-1] and before.worker_id == token.worker_id
        repeated = action == "finish" and before.status == "succeeded" and token == self.tokens[-1]
        error_class = data.draw(st.sampled_from(CLASSES)) if action == "fail" else "bug"
        try:
            with self.database.write() as session:
                if action == "renew":
                    leases.renew(session, token, lease_seconds=60)
                elif action == "finish":
                    record = ArtifactRecord("report.json", 1, "a" * 64, "application/json")
                    leases.finish(session, token, artifacts=[record], report={})
                elif action == "fail":
                    leases.fail(session, token, JobError("x", error_class, "x"), RetryPolicy(3, 0))
                elif action == "release":
                    leases.release(session, token, "preempted")
                else:
                    leases.confirm_cancel(session, token)
        except LeaseLost:
            assert not good or action == "confirm"
            assert self.row().version == before.version
        else:
            assert good or repeated
            self.finished += action == "finish" and not repeated

    @rule()
    def cancel(self) -> None:
        with self.database.write() as session:
            repository.cancel(session, self.before.owner_id, self.before.id)

    @rule(action=st.sampled_from([repository.pause, repository.resume]))
    def pause_or_resume(self, action: Callable[[Session, str, str], Job]) -> None:
        before = self.row()
        try:
            with self.database.write() as session:
                action(session, self.before.owner_id, self.before.id)
        except Conflict:
            assert before.status in TERMINAL | {Status.CANCELING}
            assert self.row().version == before.version

    @rule()
    def lose_the_lease(self) -> None:
        with self.database.write() as session:
            session.execute(
                update(Job)
                .where(Job.id == self.before.id, Job.lease_until.is_not(None))
                .values(lease_until=self.before.created_at)
            )
        reconcile(self.database, self.settings)

    @invariant()
    def rules_hold(self) -> None:
        after = self.row()
        if self.before.status in TERMINAL:
            assert (after.status, after.attempt, after.version) == (
                self.before.status,
                self.before.attempt,
                self.before.version,
            )
        assert after.attempt >= self.before.attempt
        assert after.attempt == len(self.tokens)
        assert after.failures <= 3
        assert (after.finished_at is not None) == (after.status in TERMINAL)
        assert (after.lease_until is not None) == (after.charged_at is not None) == (after.status in HELD)
        assert after.device_seconds >= self.before.device_seconds
        assert self.finished == (after.status == Status.SUCCEEDED)
        self.before = after


def test_one_job_keeps_the_rules_whatever_happens(database: Database) -> None:
    effort = settings(
        max_examples=10, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(lambda: OneJob(database), settings=effort)
