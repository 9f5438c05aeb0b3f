"""Units chosen in rungs, against a reference that takes one rung after the other."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.masking.rungs import cost_of, from_rungs, keep_units, to_rungs
from pruning.masking.slot_units import SlotUnits, slot_units
from pruning.planning.costs import ModelShape
from tests.support.models import tiny_model

MODEL = tiny_model("bert")
GROUPS = slot_units(MODEL, ModelShape.from_config(MODEL.config.to_dict()), "weights", 1.0, "global")


def ladder(name: str, step: int, table: tuple[float, ...] | None = None) -> SlotUnits:
    return replace(GROUPS[name], step=step if name.endswith("neurons") else 1, table=table)


def staircase(count: int, tile: int, price: float) -> tuple[float, ...]:
    return tuple(price * (-(-kept // tile)) for kept in range(count + 1))


def reference(groups, scores, budget):
    """Every rung by falling mean score, the best of each group first, while it fits and the one below it is kept."""
    ranked = {name: sorted(values.tolist(), reverse=True) for name, values in scores.items()}
    rungs = []
    for place, (name, group) in enumerate(groups.items()):
        for rung in range(group.count // group.step):
            values = ranked[name][rung * group.step : (rung + 1) * group.step]
            first = -1 if rung == 0 else 0
            rungs.append((first, -sum(values) / group.step, place, rung, name))
    counts = dict.fromkeys(groups, 0)
    for _, _, _, rung, name in sorted(rungs):
        group = groups[name]
        if counts[name] != rung * group.step:
            continue
        more = {**counts, name: counts[name] + group.step}
        if sum(spent(groups[each], kept) for each, kept in more.items()) <= budget + 1e-9:
            counts = more
    return counts


def spent(group: SlotUnits, kept: int) -> float:
    return kept * group.cost if group.table is None else group.table[kept]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_best_rungs_within_the_budget(data):
    step = data.draw(st.sampled_from([1, 2, 8, 16]))
    tables = data.draw(st.booleans())
    groups = {}
    for name, group in GROUPS.items():
        table = None
        if tables:
            tile = data.draw(st.sampled_from([8, 12, 16])) if name.endswith("neurons") else 1
            table = staircase(group.count, tile, data.draw(st.floats(0.5, 4)))
        groups[name] = ladder(name, step, table)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9999)))
    scores = {name: torch.rand(group.count, generator=generator) for name, group in groups.items()}
    least = sum(spent(group, group.step) for group in groups.values())
    most = sum(spent(group, group.count) for group in groups.values())
    budget = least + data.draw(st.floats(0, 1)) * (most - least)
    masks = keep_units(groups, scores, budget, "global")
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    total = sum(spent(groups[name], count) for name, count in counts.items())
    assert total <= budget * (1 + 1e-6)
    rungs = [
        spent(group, kept + group.step) - spent(group, kept)
        for group in groups.values()
        for kept in range(0, group.count, group.step)
    ]
    assert total == pytest.approx(most) or budget - total < max(rungs) + 1e-6
    for name, mask in masks.items():
        assert counts[name] % groups[name].step == 0
        assert counts[name] >= groups[name].step
        assert torch.equal(
            mask.nonzero().flatten().sort().values, scores[name].topk(counts[name]).indices.sort().values
        )
        assert cost_of(groups[name], mask) == pytest.approx(spent(groups[name], counts[name]))
    if not tables:  # where a dear rung does not fit, a table may have cheaper ones behind it
        assert counts == reference(groups, scores, budget * (1 + 1e-9))


@pytest.mark.parametrize("table", [None, staircase(48, 16, 2.0)])
def test_layers_of_one_width_keep_whole_rungs(table):
    groups = {name: ladder(name, 8, table) for name in ("0.neurons", "1.neurons")}
    scores = {name: torch.rand(48) for name in groups}
    budget = sum(spent(group, 40) for group in groups.values())
    masks = keep_units(groups, scores, budget, "global", even=True)
    widest = 48 if table else 40  # the last 16 of a tile are free
    assert [int(mask.sum()) for mask in masks.values()] == [widest, widest]


@pytest.mark.parametrize("table", [None, staircase(48, 12, 3.0)])
def test_local_scope_keeps_about_one_fraction_in_whole_rungs(table):
    groups = {name: ladder(name, 8, table) for name in ("0.neurons", "1.neurons")}
    scores = {name: torch.rand(48) for name in groups}
    budget = 0.6 * sum(spent(group, 48) for group in groups.values())
    counts = [int(mask.sum()) for mask in keep_units(groups, scores, budget, "local").values()]
    assert all(count % 8 == 0 for count in counts)
    assert abs(counts[0] - counts[1]) <= 16
    total = sum(spent(group, count) for group, count in zip(groups.values(), counts, strict=True))
    assert total <= budget


def test_too_little_for_one_rung_of_each_is_refused():
    groups = {name: ladder(name, 8) for name in ("0.neurons", "1.neurons")}
    scores = {name: torch.rand(48) for name in groups}
    with pytest.raises(ValueError, match="one unit of every group"):
        keep_units(groups, scores, 15 * groups["0.neurons"].cost, "global")


def test_rungs_are_the_mean_of_the_best_and_a_gap_ends_them():
    group = ladder("0.neurons", 16)
    scores = torch.arange(48.0)
    assert to_rungs(scores, group).tolist() == [39.5, 23.5, 7.5]
    kept = from_rungs(scores, torch.tensor([True, False, True]), group)
    assert kept.tolist() == [False] * 32 + [True] * 16
