"""The table of transitions, by its properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.jobs.states import (
    ACTIVE,
    HELD,
    TERMINAL,
    TRANSITIONS,
    Action,
    IllegalTransition,
    RetryPolicy,
    Status,
    Verdict,
    judge,
    transition,
)
from pruning.errors import ErrorClass

CLASSES: tuple[ErrorClass, ...] = ("user", "capacity", "infrastructure", "bug", "canceled")


def test_the_table_is_the_documented_one() -> None:
    text = {(str(status), str(action)): str(after) for (status, action), after in TRANSITIONS.items()}
    assert text == {
        ("queued", "claim"): "running",
        ("queued", "pause"): "paused",
        ("queued", "cancel"): "canceled",
        ("queued", "queue_timeout"): "failed",
        ("running", "pause"): "pausing",
        ("running", "cancel"): "canceling",
        ("running", "finish"): "succeeded",
        ("running", "fail"): "failed",
        ("running", "requeue"): "queued",
        ("pausing", "resume"): "running",
        ("pausing", "cancel"): "canceling",
        ("pausing", "finish"): "succeeded",
        ("pausing", "fail"): "failed",
        ("pausing", "requeue"): "paused",
        ("paused", "resume"): "queued",
        ("paused", "cancel"): "canceled",
        ("canceling", "cancel"): "canceling",
        ("canceling", "confirm_cancel"): "canceled",
        ("canceling", "finish"): "succeeded",
        ("canceling", "fail"): "canceled",
        ("canceling", "requeue"): "canceled",
    }
    assert set(Status) == ACTIVE | TERMINAL
    assert {Status.RUNNING, Status.PAUSING, Status.CANCELING} == HELD
    assert {Status.SUCCEEDED, Status.FAILED, Status.CANCELED} == TERMINAL


def test_a_refusal_names_state_and_action() -> None:
    with pytest.raises(IllegalTransition) as refused:
        transition(Status.SUCCEEDED, Action.CONFIRM_CANCEL)
    assert str(refused.value) == "A job that is succeeded cannot confirm cancel."


@pytest.mark.parametrize(
    ("error_class", "failures", "retries", "expected"),
    [
        ("infrastructure", 0, 1, Verdict(Action.REQUEUE, 1, 1, 10)),
        ("infrastructure", 1, 0, Verdict(Action.REQUEUE, 2, 0, 20)),
        ("infrastructure", 2, 0, Verdict(Action.FAIL, 3, 0, 40)),
        ("capacity", 2, 0, Verdict(Action.REQUEUE, 2, 1)),
        ("capacity", 2, 1, Verdict(Action.FAIL, 2, 1)),
        ("canceled", 2, 1, Verdict(Action.CONFIRM_CANCEL, 2, 1)),
        ("user", 2, 1, Verdict(Action.FAIL, 2, 1)),
        ("bug", 2, 1, Verdict(Action.FAIL, 2, 1)),
    ],
)
def test_verdicts(error_class: ErrorClass, failures: int, retries: int, expected: Verdict) -> None:
    assert judge(error_class, failures=failures, capacity_retries=retries, policy=RetryPolicy()) == expected
    assert Verdict(Action.FAIL, 0, 0).wait_seconds == 0


@given(status=st.sampled_from(sorted(TERMINAL)), action=st.sampled_from(Action))
def test_there_is_no_way_out_of_a_terminal_state(status: Status, action: Action) -> None:
    with pytest.raises(IllegalTransition, match=status):
        transition(status, action)


@given(actions=st.lists(st.sampled_from(Action), max_size=30))
def test_any_sequence_of_actions_keeps_the_rules(actions: list[Action]) -> None:
    status, canceling = Status.QUEUED, False
    for action in actions:
        try:
            after = transition(status, action)
        except IllegalTransition:
            continue
        assert after == Status.RUNNING or action != Action.CLAIM
        assert (after in HELD) <= (status in HELD or action == Action.CLAIM), "only a claim gives a lease"
        assert (after == Status.PAUSED) == (status == Status.PAUSING and action == Action.REQUEUE) or (
            action == Action.PAUSE
        )
        assert (after == Status.SUCCEEDED) == (action == Action.FINISH)
        if canceling:
            assert after in {Status.CANCELING, Status.CANCELED, Status.SUCCEEDED}
        status, canceling = after, canceling or after == Status.CANCELING


@pytest.mark.parametrize("status", sorted(HELD))
@pytest.mark.parametrize("error_class", CLASSES)
def test_every_verdict_can_be_carried_out(status: Status, error_class: ErrorClass) -> None:
    verdict = judge(error_class, failures=0, capacity_retries=0, policy=RetryPolicy())
    if status is not Status.CANCELING and verdict.action is Action.CONFIRM_CANCEL:
        return  # leases.end_attempt turns it into a failure: nobody asked to cancel
    assert transition(status, verdict.action)


@given(
    error_class=st.sampled_from(CLASSES),
    failures=st.integers(0, 20),
    capacity_retries=st.integers(0, 1),
    max_failures=st.integers(1, 10),
)
def test_counters_only_grow_and_retries_end(
    error_class: ErrorClass, failures: int, capacity_retries: int, max_failures: int
) -> None:
    policy = RetryPolicy(max_failures, backoff_seconds=10)
    verdict = judge(error_class, failures=failures, capacity_retries=capacity_retries, policy=policy)
    assert (verdict.failures, verdict.capacity_retries) >= (failures, capacity_retries)
    if verdict.action is Action.REQUEUE:
        assert (verdict.failures, verdict.capacity_retries) != (failures, capacity_retries)
        assert verdict.failures < max_failures or error_class == "capacity"
        assert verdict.capacity_retries <= 1
    if error_class in ("user", "bug"):
        assert verdict.action is Action.FAIL


def test_the_wait_doubles() -> None:
    policy = RetryPolicy(max_failures=10, backoff_seconds=10)
    waits = [
        judge("infrastructure", failures=n, capacity_retries=0, policy=policy).wait_seconds for n in range(4)
    ]
    assert waits == [10, 20, 40, 80]
