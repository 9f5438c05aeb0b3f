"""N:M and the options of layer-wise methods, at planning."""

from typing import Any

import pytest

from pruning.data.rows import DataSummary, summarise
from pruning.errors import InvalidSpec, TargetUnreachable
from pruning.granularity import Granularity
from pruning.planning.catalogue import methods
from pruning.planning.costs import largest_ratio, unit_costs
from pruning.planning.plan import Plan, resolve
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec
from tests.support.data import write_dataset
from tests.support.models import tiny_config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSummary:
    return summarise(write_dataset(tmp_path_factory.mktemp("data")))


def plan(data: DataSummary, ffn: int = 48, **request: Any) -> Plan:
    fields = {"target_ratio": 0.5, "granularity": "2:4", "method": "wanda", "max_length": 32}
    fields |= {"evaluate": {"latency": False}}
    return resolve(PruneSpec.model_validate(fields | request), tiny_config("bert", ffn=ffn).to_dict(), data)


@pytest.mark.parametrize("method", [entry.name for entry in methods() if "n_m" in entry.granularities])
def test_n_m_is_planned_with_its_own_ratio(data: DataSummary, method: str) -> None:
    found = plan(data, method=method)
    assert (found.kind, found.target_measure, found.largest_ratio) == ("zeros", "weights", 0.5)
    assert found.cost_after == found.cost_before / 2
    assert resolve(found.spec, tiny_config("bert").to_dict(), data, found.length).spec == found.spec


def test_a_third_may_be_written_with_four_digits(data: DataSummary) -> None:
    config = tiny_config("bert", hidden=48).to_dict()
    asked = PruneSpec.model_validate(
        {"target_ratio": 0.3333, "granularity": "1:3", "method": "ria", "evaluate": {"latency": False}}
    )
    assert resolve(asked, config, data).spec.target_ratio == 1 / 3


@pytest.mark.parametrize(("granularity", "ratio", "exact"), [("2:4", 0.6, 0.5), ("1:4", 0.5, 0.25)])
def test_another_ratio_is_refused_with_the_right_one(
    data: DataSummary, granularity: str, ratio: float, exact: float
) -> None:
    with pytest.raises(TargetUnreachable, match=f"removes exactly {exact}") as caught:
        plan(data, granularity=granularity, target_ratio=ratio)
    assert caught.value.nearest == exact
    assert caught.value.param == "/target_ratio"
    assert f"Set target_ratio to {exact}" in caught.value.remedy


def test_groups_must_divide_the_inputs(data: DataSummary) -> None:
    with pytest.raises(InvalidSpec, match="Groups of 3 weights do not divide the 32 inputs") as caught:
        plan(data, granularity="1:3", target_ratio=0.3333)
    assert caught.value.param == "/granularity"


def test_n_m_costs_single_weights() -> None:
    shape = ModelShape.from_config(tiny_config("bert").to_dict())
    assert unit_costs(shape, Granularity("n_m", (2, 4)), "weights", 1) == (1,)
    assert largest_ratio(shape, Granularity("n_m", (1, 4)), "weights", 1) == 0.25


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"settings": {"layer_ratios": "owl"}}, "/method/layer_ratios"),
        ({"settings": {"comparison_group": "row"}}, "/method/comparison_group"),
        ({"settings": {"swaps": 3}, "granularity": "block:4x8"}, "/method/swaps"),
        ({"settings": {"outlier_times": 7.0}, "granularity": "unstructured"}, "/method/outlier_times"),
        ({"settings": {"swaps": -1}}, "/method/swaps"),
        ({"granularity": "row", "method": "sparsegpt"}, "/granularity"),
        ({"granularity": "structured"}, "/granularity"),
        ({"method": "leap"}, "/granularity"),
    ],
)
def test_what_contradicts_itself_is_refused_by_field(
    data: DataSummary, request_: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        plan(data, **request_)
    assert caught.value.param == param
    assert caught.value.remedy or "swaps" in param


def test_options_that_fit_are_planned(data: DataSummary) -> None:
    owl = {"layer_ratios": "owl", "outlier_times": 7.0, "comparison_group": "matrix", "swaps": 2}
    assert plan(data, granularity="unstructured", target_ratio=0.7, settings=owl).spec.settings == owl
    assert plan(data, settings={"swaps": 2}).spec.settings == {"swaps": 2}
