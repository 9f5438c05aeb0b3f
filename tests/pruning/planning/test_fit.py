"""What a family cannot have done to it is refused before the job runs, with what can."""

from dataclasses import replace

import pytest

from pruning.data.rows import DataSummary
from pruning.errors import InvalidModel, InvalidSpec
from pruning.planning.catalogue import method
from pruning.planning.families import FAMILIES
from pruning.planning.fit import check_fit
from pruning.planning.plan import Plan, resolve
from pruning.spec import PruneSpec
from tests.support.models import KPRUNE_FAMILIES, tiny_config

DATA = DataSummary(
    splits={"train": 100, "validation": 20},
    columns={"text": "text", "label": "integer"},
    text="text",
    label="label",
    classes=("0", "1"),
    numeric_label=True,
    mean_characters=90.0,
    sha256={"train.jsonl": "0" * 64},
)


def plan(family: str, ratio: float = 0.5, length: float | None = None, **request: object) -> Plan:
    config = tiny_config(family).to_dict()
    config["architectures"] = [next(iter(FAMILIES[family].architectures.values()))]
    text = {"label": None, "classes": None, "mean_characters": 9000.0}
    data = DATA.model_copy(update=text) if FAMILIES[family].decoder else DATA
    spec = PruneSpec(target_ratio=ratio, **{"evaluate": {"latency": False}, **request})
    return resolve(spec, config, data, length)


@pytest.mark.parametrize("family", FAMILIES)
def test_auto_takes_what_does_not_train_where_it_fits(family):
    allocation = "native" if FAMILIES[family].fewest_heads is None else "global"
    found = plan(family, 0.1, allocation=allocation)
    beside = "flap" if FAMILIES[family].decoder else "leap"
    assert found.method == ("kprune" if family in KPRUNE_FAMILIES else beside)


@pytest.mark.parametrize("method", ["fisher", "kcm", "kprune"])
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - set(KPRUNE_FAMILIES)))
def test_methods_that_compute_sublayers_are_refused_where_they_cannot(family, method):
    with pytest.raises(InvalidSpec) as caught:
        plan(family, method=method, granularity="neuron")
    assert caught.value.param == "/method"
    assert FAMILIES[family].unsupported[method] in caught.value.message
    able = set(caught.value.remedy.strip(".").split())
    assert {"leap", "magnitude"} <= able
    assert not {"fisher", "kcm", "kprune"} & able


@pytest.mark.parametrize("granularity", ["structured", "head"])
def test_heads_that_share_positions_are_not_removed(granularity):
    with pytest.raises(InvalidSpec, match="column per head") as caught:
        plan("mpnet", method="magnitude", granularity=granularity)
    assert caught.value.param == "/granularity"
    assert "neuron" in caught.value.remedy


def test_nor_are_they_before_blocks():
    with pytest.raises(InvalidSpec, match="column per head") as caught:
        plan("mpnet", method="leap", granularity="multilevel:4x4")
    assert caught.value.param == "/granularity"
    assert "hybrid or block" in caught.value.remedy
    assert plan("mpnet", method="leap", granularity="hybrid:4x4").method == "leap"


@pytest.mark.parametrize(
    "request_",
    [
        {"granularity": "neuron"},
        {"allocation": "native"},
        {"granularity": "unstructured"},
        {"granularity": "row"},
    ],
)
def test_all_else_of_such_a_family_can_be_pruned(request_):
    assert plan("mpnet", 0.3, method="magnitude", **request_).method == "magnitude"


def test_a_method_that_may_remove_every_head_is_refused_where_one_must_stay():
    greedy = replace(method("magnitude"), name="greedy", empties_sublayers=True)
    check_fit(PruneSpec(target_ratio=0.5), greedy, FAMILIES["modernbert"])
    check_fit(PruneSpec(target_ratio=0.5, granularity="neuron"), greedy, FAMILIES["deberta-v2"])
    with pytest.raises(InvalidSpec, match="every head") as caught:
        check_fit(PruneSpec(target_ratio=0.5), greedy, FAMILIES["deberta-v2"])
    assert caught.value.param == "/method"
    assert "magnitude" in caught.value.remedy


@pytest.mark.parametrize(
    "change", [{"share_att_key": False}, {"pos_att_type": ["c2p"], "share_att_key": None}]
)
def test_positions_with_projections_of_their_own_are_refused(change):
    config = tiny_config("deberta-v2").to_dict() | change
    with pytest.raises(InvalidModel, match="share_att_key") as caught:
        resolve(PruneSpec(target_ratio=0.5), config, DATA)
    assert caught.value.param == "/model"


def test_the_reach_at_unknown_length_holds_at_every_length():
    """A head's share of the FLOPs is least at a middle length where relative positions are projected."""
    spec = {"method": "magnitude", "max_length": 64, "granularity": "head"}
    promised = plan("deberta-v2", 0.1, **spec).largest_ratio
    reached = [plan("deberta-v2", 0.1, float(length), **spec).largest_ratio for length in range(1, 65)]
    assert min(reached) < min(reached[0], reached[-1])
    assert min(reached) == pytest.approx(promised, abs=1e-3)
    assert promised <= min(reached) + 1e-4
