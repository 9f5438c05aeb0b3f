"""Every method keeps neurons in whole steps within the target, also when a table says what they cost."""

from dataclasses import replace
from itertools import pairwise

import pytest

from pruning.methods import METHODS, create
from pruning.planning.costs import removed_ratio, unit_costs
from pruning.planning.latency import LatencyPoint, LatencyTable, layer_costs, predicted_ms
from pruning.spec import PruneSpec
from tests.support.kprune import context
from tests.support.training import classroom

RATIO = 0.4
UNTRAINED = sorted(
    name
    for name, method in METHODS.items()
    if "structured" in method.granularities and not method.needs_training
)
LEARNED = ("cofi", "leap")
"""Gates of units and sub-layers, and thresholds; all others choose by `LearnedMasks.keep`."""


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return classroom(tmp_path_factory.mktemp("room"), ffn=64)


def prune(room, method, work, ratio=RATIO, allocation="global", table=None):
    steps = max(8, METHODS[method].schedule_steps)
    settings = {"max_steps": steps, "batch_size": 4} if METHODS[method].needs_training else {}
    given = replace(
        context(room.model(), work, rows=room.rows, task=room.task),
        spec=PruneSpec(
            method=method,
            target_ratio=ratio,
            target_measure="latency" if table else "weights",
            allocation=allocation,
            granularity="structured",
            round_to=16,
            distill=False,
        ),
        table=table,
    )
    outcome = create(method, settings).prune(given)
    assert outcome.kept is not None
    assert {len(neurons) % 16 for neurons in outcome.kept.neurons} == {0}
    return given, outcome.kept


@pytest.mark.parametrize("method", [*UNTRAINED, *LEARNED])
def test_within_the_ratio_by_less_than_a_step(room, tmp_path, method):
    given, kept = prune(room, method, tmp_path)
    removed = removed_ratio(given.shape, kept, "weights", 1.0)
    step = max(unit_costs(given.shape, given.granularity, "weights", 1.0, 16))
    assert RATIO - 1e-9 <= removed < RATIO + step / given.total_cost


@pytest.mark.parametrize("method", [*UNTRAINED, "leap"])
def test_within_a_latency_that_a_table_tells(room, tmp_path, method):
    heads = tuple(LatencyPoint(count=count, ms=ms) for count, ms in ((0, 6.0), (1, 7.5), (2, 7.6)))
    neurons = tuple(LatencyPoint(count=count, ms=ms) for count, ms in ((0, 5.0), (16, 6.0), (32, 6.1)))
    table = LatencyTable(
        batch_size=1,
        sequence_length=8,
        rounds=3,
        threads=1,
        dense_ms=10.0,
        heads=heads,
        neurons=neurons,
    )
    given, kept = prune(room, method, tmp_path, table=table)
    found = predicted_ms(table, given.shape, kept)
    costs = [*layer_costs(table, given.shape, "heads"), *layer_costs(table, given.shape, "neurons")[::16]]
    rung = max(after - before for before, after in pairwise(costs))
    assert (1 - RATIO) * 10 - rung < found <= (1 - RATIO) * 10 + 1e-6


@pytest.mark.parametrize("method", [*UNTRAINED, "leap"])
def test_layers_of_one_width_have_a_round_one(room, tmp_path, method):
    given, kept = prune(room, method, tmp_path, ratio=0.3, allocation="native")
    assert len({len(neurons) for neurons in kept.neurons}) == 1
    assert removed_ratio(given.shape, kept, "weights", 1.0) >= 0.3 - 1e-9
