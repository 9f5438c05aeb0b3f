"""Every granularity: the asked ratio within one unit, counted on the zeros of the model, and once it is shrunk."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from pruning.delivery.count import count
from pruning.delivery.export import export
from pruning.granularity import Granularity
from pruning.masking.hybrid import shrink_masks
from pruning.methods import METHODS, Context, Outcome, create
from pruning.model.layers import prunable_linears
from pruning.model.shrink import shrink
from pruning.planning.costs import ModelShape, largest_ratio, total_cost, unit_costs
from pruning.planning.plan import Plan
from pruning.spec import Measure, PruneSpec
from tests.support.models import tiny_inputs, tiny_model, tiny_tokenizer
from tests.support.training import Classroom, classroom

GRANULARITIES = ("unstructured", "block:4x8", "row", "neuron", "head", "structured", "hybrid:4x8")


def _prune(
    model: PreTrainedModel, method: str, work: Path, options: dict[str, Any], **request: Any
) -> tuple[Outcome, Context]:
    room: Classroom | None = request.pop("room", None)
    spec = PruneSpec(method=method, **{"target_measure": "weights", "distill": False} | request)
    context = Context(
        spec=spec,
        plan=cast(Any, None),
        shape=replace(ModelShape.from_config(model.config.to_dict()), parameters=model.num_parameters()),
        model=model,
        task=cast(Any, room and room.task),
        train=cast(Any, room and room.rows),
        teacher_dir=None,
        device=torch.device("cpu"),
        work=work,
        events=lambda event: None,
        should_stop=lambda: None,
        span=(0.0, 1.0),
        mean_length=9.5,
    )
    return create(method, options).prune(context), context


def _left(model: PreTrainedModel) -> int:
    return sum(int((linear.weight != 0).sum()) for linear in prunable_linears(model).values())


def _check_exact(model: PreTrainedModel, outcome: Outcome, context: Context) -> None:
    """Random weights are never 0 by chance, so that zeros are what was dropped."""
    granularity, ratio = context.granularity, context.spec.target_ratio
    dense = total_cost(context.shape, "weights", 1.0)
    unit = max(unit_costs(context.shape, granularity, "weights", 1.0))
    left = _left(model)
    assert ratio * dense - 1e-6 <= dense - left < ratio * dense + unit
    assert (outcome.kept is not None) == granularity.removes
    assert (outcome.weight_masks is not None) == (not granularity.removable)
    for name, mask in (outcome.weight_masks or {}).items():
        assert torch.equal(model.get_parameter(name) != 0, mask)
    if outcome.kept is not None:
        inputs = tiny_inputs(model)
        with torch.no_grad():
            zeroed = model(**inputs).logits
            shrink(model, outcome.kept)
            torch.testing.assert_close(model(**inputs).logits, zeroed)
        assert _left(model) == left
        if granularity.removable:
            assert left == sum(linear.weight.numel() for linear in prunable_linears(model).values())


@pytest.mark.parametrize("granularity", GRANULARITIES)
@given(data=st.data())
@settings(deadline=None, max_examples=6)
def test_magnitude_delivers_the_ratio_for_any_shape(granularity: str, data: st.DataObject) -> None:
    heads = data.draw(st.integers(1, 3))
    sizes = {
        "layers": data.draw(st.integers(1, 3)),
        "hidden": heads * data.draw(st.sampled_from([8, 16])),
        "ffn": 8 * data.draw(st.integers(1, 6)),
    }
    model = tiny_model("bert", heads=heads, seed=data.draw(st.integers(0, 99)), **sizes)
    shape = ModelShape.from_config(model.config.to_dict())
    most = largest_ratio(shape, Granularity.parse(granularity), "weights", 1.0)
    ratio = data.draw(st.floats(0.01, 1)) * most
    if ratio <= 0:  # one unit in every matrix, and that is all there is
        return
    options = {"scope": data.draw(st.sampled_from(["global", "local"]))}
    request = {"target_ratio": ratio, "granularity": granularity}
    _check_exact(model, *_prune(model, "magnitude", Path(), options, **request))


@pytest.mark.parametrize(
    ("granularity", "measure"),
    [
        *((granularity, "weights") for granularity in GRANULARITIES),
        *((granularity, "parameters") for granularity in GRANULARITIES),
        ("neuron", "flops"),
        ("head", "flops"),
    ],
)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_export_holds_what_was_asked(
    tmp_path: Path, family: str, granularity: str, measure: Measure
) -> None:
    model = tiny_model(family)
    stored = model.num_parameters()
    request = {"target_ratio": 0.2, "granularity": granularity, "target_measure": measure}
    outcome, context = _prune(model, "magnitude", Path(), {}, **request)
    masks = outcome.weight_masks
    if outcome.kept is not None:
        shrink(model, outcome.kept)
        masks = masks and shrink_masks(model, masks, outcome.kept)
    tokenizer = tiny_tokenizer(family)
    export(model, tokenizer, context.shape, outcome.kept, "global", tmp_path / "model")
    shape, length = context.shape, context.mean_length
    dense = total_cost(shape, measure, length)
    plan = Plan.model_construct(
        spec=context.spec,
        task="sequence-classification",
        target_measure=measure,
        shape=shape,
        length=length,
        neuron_step=1,
    )
    found = count(tmp_path / "model", plan, outcome.kept, masks, 0.2).removed
    zeros = sum(int((~mask).sum()) for mask in (masks or {}).values())
    assert found["parameters"] == pytest.approx(1 - (model.num_parameters() - zeros) / stored, abs=1e-12)
    unit = max(unit_costs(shape, Granularity.parse(granularity), measure, length))
    if granularity == "hybrid:4x8" and measure == "parameters" and outcome.kept is not None:
        biases = 3 * shape.head_size * shape.attention_bias
        unit += biases * sum(shape.heads - len(heads) for heads in outcome.kept.heads)
    assert 0.2 - 1e-9 <= found[measure] < 0.2 + unit / dense


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return classroom(tmp_path_factory.mktemp("room"))


@pytest.mark.parametrize(("granularity", "ratio"), [("row", 0.4), ("hybrid:4x8", 0.7)])
def test_leap_delivers_the_ratio(room: Classroom, tmp_path: Path, granularity: str, ratio: float) -> None:
    model = room.model()
    options = {"max_steps": 6, "batch_size": 8, "learning_rate": 1e-3}
    request = {"target_ratio": ratio, "granularity": granularity, "room": room}
    outcome, context = _prune(model, "leap", tmp_path, options, **request)
    _check_exact(model, outcome, context)
    assert all(0 < density <= 1 for density in outcome.details["density"].values())


def test_native_neurons_have_one_width(room: Classroom, tmp_path: Path) -> None:
    for method, options in (("magnitude", {}), ("leap", {"max_steps": 4, "batch_size": 8})):
        request = {"target_ratio": 0.2, "granularity": "neuron", "allocation": "native", "room": room}
        outcome, context = _prune(room.model(), method, tmp_path / method, options, **request)
        assert outcome.kept is not None
        assert {len(heads) for heads in outcome.kept.heads} == {context.shape.heads}
        assert len({len(neurons) for neurons in outcome.kept.neurons}) == 1


def test_units_of_every_granularity_can_be_pruned_by_some_method() -> None:
    for granularity in GRANULARITIES:
        kind = Granularity.parse(granularity).kind
        assert {"magnitude", "leap"} <= {
            name for name, method in METHODS.items() if kind in method.granularities
        }
