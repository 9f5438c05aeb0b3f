"""The distillation loss against the formula, written out."""

import pytest
import torch

from pruning.spec import Distill
from pruning.training.distill import distillation_loss


def test_classes_mix_divergence_and_task_loss() -> None:
    student = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    teacher = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    p, q = torch.softmax(teacher / 2, -1), torch.softmax(student / 2, -1)
    divergence = (p * (p.log() - q.log())).sum(-1).mean()
    loss = distillation_loss(student, teacher, torch.tensor(0.7), Distill(temperature=2.0, weight=0.9))
    assert loss.item() == pytest.approx((0.9 * 4 * divergence + 0.1 * 0.7).item(), rel=1e-5)
    loss.backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_equal_answers_leave_the_task_loss() -> None:
    logits = torch.randn(4, 2)
    loss = distillation_loss(logits, logits, torch.tensor(2.0), Distill(temperature=3.0, weight=0.75))
    assert loss.item() == pytest.approx(0.5, abs=1e-6)


def test_regression_is_the_squared_difference() -> None:
    student, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    loss = distillation_loss(student, teacher, torch.tensor(1.0), Distill(weight=0.5))
    assert loss.item() == pytest.approx(0.5 * 2.5 + 0.5)
