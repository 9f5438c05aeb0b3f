"""The Lagrangian alone: its gradients by finite differences, its unit, and that it brings scores to their target."""

import math

import pytest
import torch
from torch import nn

from pruning.masking.lagrangian import Lagrangian


def _lagrangian(first: float, second: float, target: float, unit: float) -> Lagrangian:
    found = Lagrangian()
    with torch.no_grad():
        found.first.fill_(first)
        found.second.fill_(second)
        found.target.fill_(target)
        found.unit.fill_(unit)
    return found


def test_the_model_descends_on_the_formula_and_the_multipliers_see_the_gap() -> None:
    first, second, target, unit = -0.7, 3.0, 0.4, 0.02
    lagrangian = _lagrangian(first, second, target, unit)
    removed = torch.tensor(0.25, requires_grad=True)
    lagrangian(removed).backward()

    def formula(s: float) -> float:
        return unit * (first * (s - target) + second * (s - target) ** 2)

    slope = (formula(0.25 + 1e-4) - formula(0.25 - 1e-4)) / 2e-4
    assert removed.grad is not None
    assert float(removed.grad) == pytest.approx(slope, rel=1e-5)
    gap = 0.25 - target
    assert float(lagrangian.first.grad) == pytest.approx(gap)
    assert float(lagrangian.second.grad) == pytest.approx(gap**2)


def test_its_unit_is_the_gradient_of_the_task_alone() -> None:
    """The own push is taken out of the gradients before they are measured."""
    lagrangian = _lagrangian(-1.0, 50.0, 0.5, 7.0)
    scores = [nn.Parameter(torch.linspace(-1, 1, size)) for size in (5, 8)]
    removed = lambda: 1 - torch.cat(scores).sigmoid().mean()  # noqa: E731
    task = [torch.randn(score.shape, generator=torch.Generator().manual_seed(0)) for score in scores]
    loss = sum((score * gradient).sum() for score, gradient in zip(scores, task, strict=True))
    (loss + lagrangian(removed())).backward()
    ours = torch.autograd.grad(removed(), scores)
    lagrangian.observe(removed(), scores)
    energy = torch.cat(task).square().mean()
    assert float(lagrangian.energy) == pytest.approx(float(energy), rel=1e-4)
    assert float(lagrangian.unit) == pytest.approx(
        float((energy / torch.cat(ours).square().mean()).sqrt()), rel=1e-4
    )


def test_gradients_that_overflowed_are_passed_over() -> None:
    lagrangian = _lagrangian(0.0, 0.0, 0.5, 1.0)
    lagrangian.energy.fill_(4.0)
    score = nn.Parameter(torch.zeros(3))
    score.grad = torch.tensor([math.inf, 0.0, 1.0])
    lagrangian.observe(1 - score.sigmoid().mean(), [score])
    assert float(lagrangian.energy) == 4.0
    assert lagrangian.unit.isfinite()


@pytest.mark.parametrize(("steps", "target"), [(300, 0.5), (300, 0.9), (2000, 0.8)])
@pytest.mark.parametrize("scale", [1e-5, 100.0])
def test_it_reaches_its_target_whatever_the_scale_of_the_task(
    steps: int, target: float, scale: float
) -> None:
    """No model: gates whose task wants them open, by noise with a mean, while the target rises over half the run."""
    generator = torch.Generator().manual_seed(0)
    scores, lagrangian = nn.Parameter(torch.full((200,), 4.0)), Lagrangian()
    wanted = torch.rand(200, generator=generator)
    multipliers = {"params": lagrangian.parameters(), "lr": 0.1, "maximize": True}
    optimizer = torch.optim.AdamW([{"params": [scores], "lr": 20 / steps}, multipliers], weight_decay=0.0)
    shot = 0.0
    for step in range(steps):
        lagrangian.target.fill_(target * min(1.0, 2 * step / steps))
        removed = 1 - scores.sigmoid().mean()
        shot = max(shot, float(removed.detach() - lagrangian.target))
        task = scale * (torch.randn(200, generator=generator) - wanted)
        optimizer.zero_grad()
        ((scores * task).sum() + lagrangian(removed)).backward()
        lagrangian.observe(1 - scores.sigmoid().mean(), [scores])
        optimizer.step()
    assert float(1 - scores.detach().sigmoid().mean()) == pytest.approx(target, abs=0.03)
    assert shot < 0.15
