"""Magnitude: the exact ratio for every granularity, measure and scope, and what it prefers."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import PreTrainedModel

from pruning.methods import Context, Outcome, create
from pruning.model.layers import layers, prunable_linears
from pruning.planning.costs import ModelShape, head_cost, neuron_cost, removed_ratio
from pruning.spec import PruneSpec
from tests.support.models import tiny_inputs, tiny_model

LENGTH = 12.5


def _prune(model: PreTrainedModel, settings: dict[str, Any] | None = None, **request: Any) -> Outcome:
    spec = PruneSpec(method="magnitude", **request)
    context = Context(
        spec=spec,
        plan=cast(Any, None),
        shape=ModelShape.from_config(model.config.to_dict()),
        model=model,
        task=cast(Any, None),
        train=cast(Any, None),
        teacher_dir=None,
        device=torch.device("cpu"),
        work=Path(),
        events=lambda event: None,
        should_stop=lambda: None,
        span=(0.0, 1.0),
        mean_length=LENGTH,
    )
    return create("magnitude", settings or {}).prune(context)


@pytest.mark.parametrize("measure", ["weights", "flops"])
@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("ratio", [0.3, 0.71])
def test_structured_removes_the_ratio_within_one_unit(ratio: float, scope: str, measure: Any) -> None:
    model = tiny_model("roberta", layers=3)
    shape = ModelShape.from_config(model.config.to_dict())
    outcome = _prune(
        model, {"scope": scope}, target_ratio=ratio, granularity="structured", target_measure=measure
    )
    assert outcome.kept is not None
    removed = removed_ratio(shape, outcome.kept, measure, LENGTH)
    neuron = neuron_cost(shape, measure, LENGTH)
    unit = neuron / (shape.layers * (shape.heads * head_cost(shape, measure, LENGTH) + shape.ffn * neuron))
    assert ratio - 1e-9 <= removed < ratio + unit
    if scope == "local":
        counts = [len(neurons) for neurons in outcome.kept.neurons]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize(("granularity", "unit"), [("unstructured", 1), ("block:8x4", 32)])
def test_weights_removed_are_exact_and_zero_in_the_model(granularity: str, unit: int, scope: str) -> None:
    model = tiny_model("bert")
    outcome = _prune(model, {"scope": scope}, target_ratio=0.613, granularity=granularity)
    assert outcome.weight_masks is not None
    total = sum(linear.weight.numel() for linear in prunable_linears(model).values())
    zeros = 0
    for name, linear in prunable_linears(model).items():
        mask = outcome.weight_masks[f"{name}.weight"]
        assert mask.shape == linear.weight.shape
        assert torch.equal(linear.weight == 0, ~mask)
        zeros += int((~mask).sum())
    assert 0.613 * total <= zeros < 0.613 * total + unit


def test_native_keeps_one_width_and_all_heads() -> None:
    model = tiny_model("bert")
    outcome = _prune(model, target_ratio=0.3, granularity="structured", allocation="native")
    assert outcome.kept is not None
    assert {len(heads) for heads in outcome.kept.heads} == {4}
    # 0.3 of 14336 weights are 68 neurons of 64 weights: 34 of 48 in each layer.
    assert {len(neurons) for neurons in outcome.kept.neurons} == {14}


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_smallest_units_go_first(norm: str) -> None:
    model = tiny_model("bert")
    weakest = layers(model)[1]
    with torch.no_grad():
        weakest.ffn_in[0].weight[7] *= 0.01
        weakest.ffn_out.weight[:, 7] *= 0.01
        weakest.attention_out.weight[:, 8:16] *= 0.01
        for linear in (weakest.query, weakest.key, weakest.value):
            linear.weight[8:16] *= 0.01
    outcome = _prune(model, {"norm": norm}, target_ratio=0.075, granularity="structured")
    assert outcome.kept is not None
    assert outcome.kept.heads == ((0, 1, 2, 3), (0, 2, 3))
    assert 7 not in outcome.kept.neurons[1]


def test_baked_heads_and_neurons_contribute_nothing() -> None:
    model = tiny_model("electra")
    outcome = _prune(model, target_ratio=0.5, granularity="structured")
    assert outcome.kept is not None
    inputs = tiny_inputs(model)
    with torch.no_grad():
        before = model(**inputs).logits
        for layer, kept in zip(layers(model), outcome.kept.neurons, strict=True):
            dropped = [index for index in range(48) if index not in kept]
            layer.ffn_in[0].weight[dropped] = 7.0  # what is behind a zero column cannot matter
        torch.testing.assert_close(model(**inputs).logits, before)
