import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.planning.costs import Kept, ModelShape
from pruning.planning.latency import LatencyPoint, LatencyTable, counts, layer_costs, monotone, predicted_ms

SHAPE = ModelShape(layers=2, hidden=32, heads=4, head_size=8, ffn=48)


def table(heads=(), neurons=(), dense_ms=10.0):
    def points(pairs):
        return tuple(LatencyPoint(count=count, ms=ms) for count, ms in pairs)

    return LatencyTable(
        batch_size=1,
        sequence_length=16,
        rounds=3,
        threads=1,
        dense_ms=dense_ms,
        heads=points(heads),
        neurons=points(neurons),
    )


TABLE = table(heads=((0, 6.0), (2, 9.0)), neurons=((8, 7.0), (24, 8.0)))


def test_costs_are_straight_lines_between_the_points_by_layer():
    heads = np.interp(range(5), [0, 2, 4], [6.0, 9.0, 10.0])
    assert layer_costs(TABLE, SHAPE, "heads") == pytest.approx((heads - 6.0) / 2)
    neurons = np.interp(range(49), [8, 24, 48], [7.0, 8.0, 10.0])
    assert layer_costs(TABLE, SHAPE, "neurons") == pytest.approx((neurons - 7.0) / 2)


def test_what_is_not_removed_costs_nothing():
    assert set(layer_costs(table(neurons=((8, 7.0),)), SHAPE, "heads")) == {0.0}


def test_the_promise_is_the_dense_latency_without_what_every_layer_saves():
    kept = Kept(heads=((0, 1), (0, 1, 2, 3)), neurons=(tuple(range(24)), tuple(range(8))))
    assert predicted_ms(TABLE, SHAPE, kept) == pytest.approx(10 - 1 / 2 - 2 / 2 - 3 / 2)
    assert predicted_ms(TABLE, SHAPE, Kept.everything(SHAPE)) == pytest.approx(10)


def test_noise_never_makes_more_units_cheaper():
    noisy = table(neurons=((8, 7.0), (16, 9.0), (24, 8.0), (40, 11.0)))
    costs = layer_costs(noisy, SHAPE, "neurons")
    assert list(costs) == sorted(costs)
    assert costs[16] == costs[24] == pytest.approx((8.5 - 7.0) / 2)
    assert costs[40] == costs[48] == pytest.approx(3.0 / 2)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_monotone_is_the_best_fit_that_never_falls(values):
    fitted = monotone(values)
    # Min-max formula of isotonic regression (Robertson, Wright, Dykstra 1988, theorem 1.4.4).
    size = len(values)
    expected = [
        max(min(np.mean(values[low : high + 1]) for high in range(place, size)) for low in range(place + 1))
        for place in range(size)
    ]
    assert fitted == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("dense", "least", "step", "expected"),
    [
        (3072, 8, 8, [8, 384, 768, 1536, 2304]),
        (12, 0, 1, [0, 1, 3, 6, 9]),
        (12, 1, 1, [1, 3, 6, 9]),
        (2, 1, 1, [1]),
        (1, 1, 1, [1]),
        (48, 8, 8, [8, 24, 32]),
        (48, 0, 16, [0, 16, 32]),
    ],
)
def test_a_few_sizes_are_timed(dense, least, step, expected):
    assert counts(dense, least, step) == expected
