"""Runs that are too short for a method's schedule are refused before they run, and the minimum is said."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.errors import InvalidSpec
from pruning.methods import METHODS
from pruning.options import Training
from pruning.planning.catalogue import MethodInfo, method
from pruning.planning.length import check_length, shortest_run, training_rows, training_steps
from pruning.spec import PruneSpec
from tests.pruning.planning.test_plan import CONFIG, data, plan

LEARNED = sorted(name for name, cls in METHODS.items() if cls.needs_training)


def _info(name: str) -> MethodInfo:
    """What the catalogue says of the class."""
    cls = METHODS[name]
    info = replace(method("leap"), name=name, schedule_steps=cls.schedule_steps)
    return replace(info, schema=cls.Settings.model_json_schema())


def _check(name: str, rows: int = 100, **settings: Any) -> None:
    spec = PruneSpec(target_ratio=0.5, method=name, settings=settings)
    check_length(spec, _info(name), data(splits={"train": rows, "validation": 20}))


def test_steps_and_rows() -> None:
    assert training_steps(Training(epochs=2.5, batch_size=32), 100) == 10
    assert training_steps(Training(max_steps=7), 100) == 7
    spec = PruneSpec(target_ratio=0.5)
    assert training_rows(spec, data()) == 100
    assert training_rows(spec, data(splits={"train": 100})) == 90
    assert training_rows(spec, data(splits={"train": 3})) == 2


@given(st.floats(0, 0.89), st.floats(0.05, 1), st.integers(1, 60))
def test_the_shortest_run_has_the_steps_and_no_shorter_one_has(
    start: float, width: float, needed: int
) -> None:
    end = min(1.0, start + width)

    def inside(steps: int) -> int:
        return sum(1 for step in range(steps) if step >= start * steps and step + 1 <= end * steps)

    least = shortest_run(start, end, needed)
    assert inside(least) >= needed
    assert all(inside(steps) < needed for steps in range(needed, least))


@pytest.mark.parametrize("name", LEARNED)
def test_the_minimum_that_is_said_is_enough_and_one_less_is_not(name: str) -> None:
    with pytest.raises(InvalidSpec, match="too short a run") as caught:
        _check(name, max_steps=1)
    assert caught.value.param == "/method/max_steps"
    least = int(re.search(r"at least (\d+) steps", str(caught.value))[1])
    _check(name, max_steps=least)
    with pytest.raises(InvalidSpec):
        _check(name, max_steps=least - 1)


def test_epochs_and_batch_size_count_like_steps() -> None:
    _check("movement", rows=1000, epochs=2, batch_size=32)
    with pytest.raises(InvalidSpec, match="32 optimizer steps"):
        _check("movement", rows=1000, epochs=1, batch_size=32)


def test_a_schedule_that_contradicts_itself_is_refused() -> None:
    for settings, param in (
        ({"prune_from": 0.6}, "/method/prune_until"),
        ({"prune_until": 0.8}, "/method/freeze_at"),
        ({"freeze_at": 0.4}, "/method/freeze_at"),
    ):
        with pytest.raises(InvalidSpec) as caught:
            _check("movement", max_steps=1000, **settings)
        assert caught.value.param == param


def test_planning_refuses_and_leaves_other_methods_alone() -> None:
    with pytest.raises(InvalidSpec, match="too short a run"):
        plan(CONFIG, method="leap", settings={"max_steps": 1})
    assert plan(CONFIG, method="leap", settings={"max_steps": 8}).method == "leap"
    assert plan(CONFIG, method="magnitude").method == "magnitude"
