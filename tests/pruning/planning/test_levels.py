"""How the two stages of `multilevel` share target and steps, and what is refused before they run."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.planning.costs import ModelShape, head_cost, largest_ratio, total_cost
from pruning.planning.length import shortest_stages
from pruning.planning.levels import stage_steps, structured_ratio, unit_multiple
from pruning.spec import PruneSpec
from tests.pruning.planning.test_plan import CONFIG, data, plan

BASE = ModelShape(layers=12, hidden=768, heads=12, head_size=64, ffn=3072)


def _spec(ratio: float, granularity: str = "multilevel") -> PruneSpec:
    return PruneSpec(target_ratio=ratio, granularity=granularity)


def test_the_published_target_is_shared_as_published() -> None:
    assert structured_ratio(None, _spec(0.85), BASE) == pytest.approx(0.5)
    first = 1 - structured_ratio(None, _spec(0.7), BASE)
    assert math.log(first) / math.log(0.3) == pytest.approx(math.log(0.5) / math.log(0.15))


@given(st.floats(0.1, 0.9999), st.sampled_from([(4, 4), (16, 32), (32, 32), (128, 64)]))
def test_both_stages_have_something_to_drop(ratio: float, block: tuple[int, int]) -> None:
    """The first one after rounding up, the second one when the first drops up to a head more than it should."""
    first = structured_ratio(None, _spec(ratio, "multilevel:{}x{}".format(*block)), BASE)
    assert first <= largest_ratio(BASE, Granularity("structured"), "weights", 1.0)
    total = total_cost(BASE, "weights", 1.0)
    side = math.lcm(*block)
    heads = next(count for count in range(1, 13) if count * 64 % side == 0)
    back = 12 * ((heads - 1) * 4 * 768 * 64 + (side - 1) * 2 * 768)
    assert first * total - back > 0
    left = total * (1 - first) - head_cost(BASE, "weights", 1.0)
    assert left - total * (1 - ratio) >= math.prod(block) * (1 - 1e-6)


@given(st.integers(1, 96), st.integers(1, 96), st.integers(1, 96))
def test_multiples_are_the_fewest_units_that_blocks_divide(rows: int, columns: int, size: int) -> None:
    found = unit_multiple((rows, columns), size)
    fits = [count * size % rows == 0 and count * size % columns == 0 for count in range(1, found + 1)]
    assert fits == [False] * (found - 1) + [True]


@given(st.integers(2, 10_000), st.one_of(st.none(), st.floats(0.1, 0.9)))
def test_both_stages_have_steps_and_together_all(steps: int, part: float | None) -> None:
    first, second = stage_steps(steps, part)
    assert first + second == steps
    assert min(first, second) >= 1
    assert abs(first - steps * (part or 0.5)) <= 1


@given(st.integers(1, 60), st.one_of(st.none(), st.floats(0.1, 0.9)))
def test_the_shortest_run_is_long_enough_for_both_stages_and_no_shorter_one_is(
    least: int, part: float | None
) -> None:
    steps = shortest_stages(least, part)
    assert min(stage_steps(steps, part)) >= least
    assert all(min(stage_steps(fewer, part)) < least for fewer in range(2, steps))


def _refused(**request: Any) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        plan(**{"granularity": "multilevel", "target_ratio": 0.8} | request)
    return caught.value


def _leap(**settings: Any) -> dict[str, Any]:
    return {"method": "leap", "settings": settings}


def test_leap_alone_can_and_a_plan_says_what_will_be() -> None:
    found = plan(granularity="multilevel:16x16", target_ratio=0.8)
    assert (found.method, found.kind, found.target_measure) == ("leap", "mixed", "weights")
    assert {"zeros_left", "remote_code"} <= {notice.code for notice in found.warnings}
    block = plan(granularity="block:16x16", target_ratio=0.8)
    assert found.largest_ratio == block.largest_ratio
    for method in ("magnitude", "movement", "soft_movement", "cofi", "kprune"):
        error = _refused(method=method)
        assert error.param == "/granularity"
        assert "For multilevel use leap." in str(error)


@pytest.mark.parametrize("ratio", [0.8, 0.9])
def test_a_first_stage_that_leaves_nothing_to_the_second_is_refused(ratio: float) -> None:
    error = _refused(**_leap(structured_ratio=ratio))
    assert error.param == "/method/structured_ratio"
    most = float(re.search(r" to ([0-9.]+),", str(error))[1])
    found = plan(granularity="multilevel", target_ratio=0.8, **_leap(structured_ratio=most))
    assert found.spec.settings == {"structured_ratio": most}
    assert _refused(**_leap(structured_ratio=most + 2e-4)).param == "/method/structured_ratio"


def test_a_first_stage_out_of_reach_of_heads_and_neurons_is_refused() -> None:
    request = {"granularity": "multilevel:4x4", "target_ratio": 0.99}
    error = _refused(**request, **_leap(structured_ratio=0.95))
    assert error.param == "/method/structured_ratio"
    assert plan(**request).method == "leap"


@pytest.mark.parametrize("granularity", ["multilevel:4x4", "multilevel:32x32", "multilevel:128x128"])
def test_a_target_too_small_for_two_stages_is_refused_with_one_that_is_not(granularity: str) -> None:
    error = _refused(granularity=granularity, target_ratio=0.01)
    assert error.param == "/target_ratio"
    assert "granularity block" in str(error)
    least = float(re.search(r"at least ([0-9.]+),", str(error))[1])
    assert plan(granularity=granularity, target_ratio=least).method == "leap"
    assert _refused(granularity=granularity, target_ratio=least - 2e-4).param == "/target_ratio"


def test_blocks_too_large_for_two_stages_are_refused() -> None:
    large = CONFIG | {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 128}
    with pytest.raises(InvalidSpec, match="smaller blocks") as caught:
        plan(large, granularity="multilevel:128x128", target_ratio=0.5)
    assert caught.value.param == "/granularity"


def test_a_first_stage_that_would_be_rounded_away_is_refused() -> None:
    error = _refused(**_leap(structured_ratio=0.01))
    assert error.param == "/method/structured_ratio"
    least = float(re.search(r"Use ([0-9.]+) to", str(error))[1])
    assert plan(granularity="multilevel", target_ratio=0.8, **_leap(structured_ratio=least))
    assert _refused(**_leap(structured_ratio=least - 2e-4)).param == "/method/structured_ratio"


@pytest.mark.parametrize("name", ["structured_ratio", "structured_steps"])
def test_how_to_share_means_nothing_with_one_stage(name: str) -> None:
    error = _refused(granularity="structured", **_leap(**{name: 0.5}))
    assert error.param == f"/method/{name}"
    assert "granularity multilevel" in str(error)
    assert plan(granularity="structured", **_leap(**{name: None})).method == "leap"


def test_blocks_that_do_not_divide_are_refused_with_those_that_do() -> None:
    error = _refused(granularity="multilevel:48x32")
    assert error.param == "/granularity"
    assert "Rows can be 1, 2, 4, 8, 16, 32, 64 or 128" in str(error)


def test_no_width_for_all_layers() -> None:
    assert _refused(allocation="native").param == "/allocation"


def test_a_run_too_short_for_either_stage_is_refused_with_the_fewest_steps() -> None:
    for part in (None, 0.1, 0.8):
        error = _refused(**_leap(max_steps=3, structured_steps=part))
        assert error.param == "/method/max_steps"
        least = int(re.search(r"at least (\d+) steps", str(error))[1])
        settings = {"structured_steps": part}
        assert plan(granularity="multilevel", target_ratio=0.8, **_leap(max_steps=least, **settings))
        assert _refused(**_leap(max_steps=least - 1, **settings)).param == "/method/max_steps"


def test_epochs_are_shared_as_steps_are() -> None:
    assert plan(
        CONFIG, data(), granularity="multilevel", target_ratio=0.8, **_leap(epochs=3.0, batch_size=25)
    )
    assert _refused(**_leap(epochs=1.0, batch_size=25)).param == "/method/max_steps"
