"""The distillation loss against the formula, written out, and a teacher at work on real models."""

import pytest
import torch

from pruning.data.labels import Labels
from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.masks import attach_fixed
from pruning.model.shrink import shrink
from pruning.options import Distill
from pruning.planning.costs import Kept, ModelShape
from pruning.training.distill import Distillation, _head_masks, distillation_loss
from pruning.training.tasks import Classification
from tests.support.models import tiny_inputs, tiny_model

TASK = Classification(Labels(("0", "1"), {"0": 0, "1": 1}, trained=True))
KEPT = ((0, 2), ())


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


def loss_of(student, teacher, settings, batch, *, kept=None):
    distillation = Distillation(student, teacher, settings, seed=5, kept=kept)
    with distillation.attached():
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        outputs = student(**inputs, **distillation.wanted)
        logits = TASK.logits(outputs, batch)
        return distillation.loss(outputs, batch, TASK, logits, TASK.loss(logits, batch["labels"]))


def batch_for(model):
    return tiny_inputs(model) | {"labels": torch.tensor([0, 1, 1])}


def masked_heads(model, kept):
    """Gates that leave only the heads `kept` of each layer."""
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity.parse("head"), "weights", 1.0, "global")
    masks = {
        name: torch.isin(torch.arange(4), torch.tensor(kept[group.layer])) for name, group in groups.items()
    }
    return attach_fixed(model, groups, masks)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_the_parts_of_the_loss_add_up(family):
    student, teacher = tiny_model(family, seed=0), tiny_model(family, seed=1)
    batch = batch_for(student)
    parts = {
        name: loss_of(student, teacher, Distill(**settings), batch).item()
        for name, settings in {
            "logits": {},
            "hidden": {"hidden": 3},
            "attention": {"attention": 50},
            "all": {"hidden": 3, "attention": 50},
        }.items()
    }
    hidden, attention = parts["hidden"] - parts["logits"], parts["attention"] - parts["logits"]
    assert min(hidden, attention) > 0
    assert parts["all"] == pytest.approx(parts["logits"] + hidden + attention, rel=1e-4)


def test_a_student_without_a_head_in_a_layer_does_not_match_there():
    """Of two layers the second alone is compared with both of the teacher, whether the first is masked or shrunk."""
    teacher, student = tiny_model("bert", seed=1), tiny_model("bert", seed=0)
    settings = Distill(weight=0.0, hidden=1.0, layers="nearest")
    distillation = Distillation(student, teacher, settings, seed=0, kept=((), (0, 1)))
    assert distillation._alive(2, {}).tolist() == [False, True]
    masked_heads(student, ((), (0, 1)))
    masks = _head_masks(student)
    assert Distillation(student, teacher, settings, seed=0)._alive(2, masks).tolist() == [False, True]
    batch = batch_for(student)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    outputs = student(**inputs, output_hidden_states=True)
    only, states = outputs.hidden_states[2], teacher(**inputs, output_hidden_states=True).hidden_states
    real = batch["attention_mask"].float()[..., None]
    hidden = sum(((only - states[index]).square() * real).sum() / (real.sum() * 32) for index in (1, 2)) / 2
    expected = TASK.loss(outputs.logits, batch["labels"]) + hidden
    assert loss_of(student, teacher, settings, batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_has_nothing_to_teach_its_copy():
    student, teacher = tiny_model("bert"), tiny_model("bert")
    settings = Distill(weight=1.0, hidden=10.0, attention=10.0, projection=True)
    assert loss_of(student, teacher, settings, batch_for(student)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("layers", ["equal", "nearest"])
def test_more_padding_changes_nothing(layers):
    student, teacher = tiny_model("bert", seed=0), tiny_model("bert", seed=1, hidden=48)
    settings = Distill(hidden=1.0, attention=20.0, layers=layers)
    batch = batch_for(student)
    wider = {
        name: value if name == "labels" else torch.nn.functional.pad(value, (0, 3))
        for name, value in batch.items()
    }
    losses = [loss_of(student, teacher, settings, each).item() for each in (batch, wider)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_masked_and_a_shrunk_student_learn_the_same_attention():
    """What is gated is left out like what is gone: both compare the same heads."""
    teacher = tiny_model("bert", seed=1)
    settings = Distill(weight=0.0, attention=1000.0)
    masked, shrunk = tiny_model("bert", seed=0), tiny_model("bert", seed=0)
    masked_heads(masked, KEPT)
    zeroed = tiny_model("bert", seed=0)
    masked_heads(zeroed, KEPT).bake(zeroed)
    shrunk.load_state_dict(zeroed.state_dict())
    shrink(shrunk, Kept(heads=KEPT, neurons=(tuple(range(48)),) * 2))
    batch = batch_for(teacher)
    expected = loss_of(masked, teacher, settings, batch)
    assert loss_of(shrunk, teacher, settings, batch, kept=KEPT).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    assert loss_of(zeroed, teacher, settings, batch).item() != pytest.approx(expected.item(), rel=1e-3)


def test_a_projection_starts_as_the_identity_or_keeps_lengths():
    student = tiny_model("bert", seed=0)
    same = Distillation(student, tiny_model("bert"), Distill(hidden=1.0, projection=True), seed=0)
    assert torch.equal(same.projection.weight, torch.eye(32))
    wider = Distillation(student, tiny_model("bert", hidden=48), Distill(hidden=1.0), seed=0)
    weight = wider.projection.weight
    assert torch.allclose(weight.T @ weight, torch.eye(32), atol=1e-5)
    assert Distillation(student, tiny_model("bert"), Distill(), seed=0).projection is None
