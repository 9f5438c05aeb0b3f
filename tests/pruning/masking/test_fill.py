"""Weights where zeros were: from the named distribution, by the seed alone, and nowhere else."""

import pytest
import torch

from pruning.masking.fill import fill
from pruning.model.layers import prunable_linears
from tests.support.models import tiny_model
from tests.support.training import same_weights


def _zeroed() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    model = tiny_model("bert")
    generator = torch.Generator().manual_seed(2)
    masks = {}
    for name, linear in prunable_linears(model).items():
        masks[f"{name}.weight"] = torch.rand(linear.weight.shape, generator=generator) < 0.4
        with torch.no_grad():
            linear.weight.mul_(masks[f"{name}.weight"])
            linear.weight[0].add_(0.5)  # so that the mean is far from 0
            linear.weight.mul_(masks[f"{name}.weight"])
    return model, masks


def test_only_dropped_weights_change_and_none_is_left_at_zero() -> None:
    model, masks = _zeroed()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert fill(model, masks, 0) == sum(int((~mask).sum()) for mask in masks.values())
    for name, after in model.state_dict().items():
        kept = masks.get(name, torch.ones_like(after, dtype=torch.bool))
        assert torch.equal(after[kept], before[name][kept])
        assert after[~kept].all()


def test_they_are_drawn_around_the_mean_of_the_matrix_with_a_hundredth_of_its_spread() -> None:
    model, masks = _zeroed()
    name = max(masks, key=lambda each: masks[each].numel())
    weight = model.get_parameter(name).detach()
    values = weight.flatten().tolist()
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    fill(model, masks, 0)
    drawn = weight[~masks[name]]
    assert len(drawn) > 500
    assert float(drawn.mean()) == pytest.approx(mean, abs=5 * 0.01 * spread / len(drawn) ** 0.5)
    assert float(drawn.std()) == pytest.approx(0.01 * spread, rel=0.15)


def test_the_same_seed_fills_alike_and_another_one_does_not() -> None:
    models = []
    for seed in (3, 3, 4):
        model, masks = _zeroed()
        fill(model, dict(reversed(masks.items())) if len(models) == 1 else masks, seed)
        models.append(model)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])
