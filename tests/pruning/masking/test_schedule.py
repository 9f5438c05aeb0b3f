"""Schedules: their ends are exact, and between them they are the published curves."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruning.masking.schedule import between, cubic_ramp, linear_decay, linear_ramp, logit

_unit = st.floats(0, 1)


def test_linear_decay_and_logit() -> None:
    assert [linear_decay(step, 10, 5) for step in (0, 1, 5, 10)] == [0, 0.2, 1, 0]
    assert logit(0.5) == 0
    assert float(torch.sigmoid(torch.tensor(logit(0.07)))) == pytest.approx(0.07)


@given(_unit, st.floats(0, 0.9), st.floats(0.01, 1))
def test_ramps_are_flat_outside_and_rise_inside(progress: float, start: float, width: float) -> None:
    end = start + width
    for ramp in (linear_ramp, cubic_ramp):
        assert ramp(start, start, end) == 0
        assert ramp(end, start, end) == 1
        assert 0 <= ramp(progress, start, end) <= ramp(progress + 0.01, start, end) <= 1


@pytest.mark.parametrize("step", range(0, 101, 7))
def test_the_cubic_is_that_of_movement_pruning(step: int) -> None:
    """Steps as in the released code: keep = final + (initial - final) * (1 - (t - t_i) / (T - t_i - t_f))^3."""
    total, first, last, final = 100, 20, 30, 0.1
    if step <= first:
        expected = 1.0
    elif step > total - last:
        expected = final
    else:
        expected = final + (1 - final) * (1 - (step - first) / (total - first - last)) ** 3
    kept = between(1.0, final, cubic_ramp(step / total, first / total, 1 - last / total))
    assert kept == pytest.approx(expected, rel=1e-12)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_both_ends_of_a_way_are_exact(first: float, last: float) -> None:
    assert (between(first, last, 0.0), between(first, last, 1.0)) == (first, last)
    assert math.isclose(between(first, last, 0.25), first + (last - first) / 4, abs_tol=1e-6)
