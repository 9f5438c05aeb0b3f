"""The request: what its words mean, and which do not go together."""

import pytest
from pydantic import ValidationError

from pruning.granularity import Granularity
from pruning.spec import PruneSpec


@pytest.mark.parametrize(
    ("text", "granularity"),
    [
        ("structured", Granularity("structured")),
        ("row", Granularity("row")),
        ("neuron", Granularity("neuron")),
        ("head", Granularity("head")),
        ("block", Granularity("block", (32, 32))),
        ("block:8x4", Granularity("block", (8, 4))),
        ("hybrid", Granularity("hybrid", (32, 32))),
        ("hybrid:1x768", Granularity("hybrid", (1, 768))),
        ("multilevel", Granularity("multilevel", (32, 32))),
        ("multilevel:16x16", Granularity("multilevel", (16, 16))),
        ("2:4", Granularity("n_m", (2, 4))),
    ],
)
def test_granularities_are_read(text: str, granularity: Granularity) -> None:
    assert Granularity.parse(text) == granularity


@pytest.mark.parametrize(
    "text", ["", "rows", "block:", "block:0x4", "hybrid:32", "hybrid:32x", "head:2x2", "4:2"]
)
def test_other_words_are_refused_with_the_legal_forms(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"unstructured, row, neuron, head, structured, layer, .*hybrid:ROWSxCOLUMNS"
    ):
        Granularity.parse(text)


@pytest.mark.parametrize(
    ("text", "removable", "removes"),
    [
        ("structured", True, True),
        ("neuron", True, True),
        ("head", True, True),
        ("hybrid", False, True),
        ("multilevel", False, True),
        ("row", False, False),
        ("block", False, False),
        ("unstructured", False, False),
    ],
)
def test_units_leave_the_model_all_in_part_or_not_at_all(text: str, removable: bool, removes: bool) -> None:
    found = Granularity.parse(text)
    assert (found.removable, found.removes) == (removable, removes)
    assert found.mixed == (removes and not removable)


@pytest.mark.parametrize("text", ["hybrid", "multilevel", "row", "block", "unstructured"])
def test_flops_are_no_target_where_zeros_are_left(text: str) -> None:
    with pytest.raises(ValidationError, match="leaves zeros: use 'weights'"):
        PruneSpec(target_ratio=0.5, granularity=text, target_measure="flops")
    for granularity in ("neuron", "head"):
        assert PruneSpec(target_ratio=0.5, granularity=granularity, target_measure="flops")
