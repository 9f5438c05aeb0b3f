import contextlib

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.data.labels import Labels
from pruning.knowledge.draw import Draw
from pruning.knowledge.scores import (
    PredictiveKnowledge,
    RepresentationalKnowledge,
    divergence,
    per_unit,
    squared_error,
)
from pruning.knowledge.stream import Ends, Stream
from pruning.knowledge.sublayers import sublayers
from pruning.model.layers import layers
from pruning.training.tasks import Classification
from tests.support.kprune import random_rows
from tests.support.models import KPRUNE_FAMILIES, tiny_model

TEMPERATURE = 2.0
TASK = Classification(Labels(("0", "1"), {}, trained=True))


def test_divergence_is_from_teacher_to_student_and_scaled_by_the_temperature():
    student, teacher = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, -1.0]])
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    expected = 4 * (p * (p / q).log()).sum(1)
    torch.testing.assert_close(divergence(student, teacher, TEMPERATURE), expected)
    assert divergence(teacher, student, TEMPERATURE) != pytest.approx(expected.item(), rel=1e-3)


def test_squared_error_compares_row_with_row():
    student, teacher = torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([[1.0], [4.0], [4.0]])
    assert squared_error(student, teacher).tolist() == [0.0, 4.0, 1.0]


def test_representational_knowledge_is_the_norm_of_what_a_column_says():
    generator = torch.Generator().manual_seed(0)
    inner, weight = torch.randn(3, 4, 5, generator=generator), torch.randn(7, 5, generator=generator)
    real = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    known = RepresentationalKnowledge(5)
    known.add(inner[:1], real[:1])
    known.add(inner[1:], real[1:])
    tokens = inner[real]
    expected = [torch.outer(tokens[:, c], weight[:, c]).square().sum() / (7 * 7) for c in range(5)]
    torch.testing.assert_close(known.value(weight), torch.stack(expected).double())


def test_predictive_knowledge_squares_the_gradient_of_each_batch_not_of_each_row():
    known = PredictiveKnowledge(batches=2, columns=1)
    inner = torch.ones(3, 2, 1)
    gradient = torch.tensor([[1.0, 2.0], [-1.0, 0.0], [5.0, 1.0]])[..., None]
    known.add(inner, gradient, torch.tensor([0, 0, 1]))
    assert known.value(rows=3).tolist() == [(2.0**2 + 6.0**2) / 2 / 3]


def test_a_unit_is_worth_the_mean_of_its_columns():
    assert per_unit(torch.tensor([1.0, 3.0, 5.0, 9.0]), 2).tolist() == [2.0, 7.0]


def gated_gradients(model, rows, teacher: Tensor, batch: int) -> list[Tensor]:
    """The slow reference: real gates on the real model, one padded batch after the other in drawn order."""
    stack = [reader for layer in layers(model) for reader in (layer.attention_out, layer.ffn_out)]
    sums = [torch.zeros(reader.in_features) for reader in stack]
    for start in range(0, len(rows), batch):
        gates = [torch.ones(reader.in_features, requires_grad=True) for reader in stack]
        hooks = [
            reader.register_forward_pre_hook(lambda _, inputs, gate=gate: (inputs[0] * gate,))
            for reader, gate in zip(stack, gates, strict=True)
        ]
        inputs = rows.batch(list(range(start, min(start + batch, len(rows)))))
        del inputs["labels"]
        logits = model(**inputs).logits
        aim = teacher[start : start + batch]
        loss = F.kl_div(
            (logits / TEMPERATURE).log_softmax(1), (aim / TEMPERATURE).softmax(1), reduction="batchmean"
        )
        for index, gradient in enumerate(torch.autograd.grad(TEMPERATURE**2 * loss, gates)):
            sums[index] += gradient.square()
        for hook in hooks:
            hook.remove()
    return [total / 2 / len(rows) for total in sums]


def measured(
    model, teacher: Tensor | None, skip: int = 0, rows: int = 40, batch: int = 16, bf16: bool = False
):
    """Knowledge, and the logits in drawn order; `teacher` (rows, classes) is in drawn order."""
    draw = Draw(random_rows(model, rows), torch.arange(rows))
    stack = [part for layer in layers(model) for part in sublayers(layer)]
    with Ends.of(model, TASK) as ends:
        batches = draw.batches(torch.device("cpu"), weights=2**27)  # 128 tokens each: several batches
        assert len(batches) > 2
        stream = Stream(ends, batches, torch.arange(rows) // batch, lambda: None, bf16=bf16)
        for sublayer in stack[:skip]:
            stream.lift_student(sublayer)
        aims = None if teacher is None else [teacher[each.rows] for each in batches]
        knowledge, logits = stream.measure(
            stack[skip:], lambda student, aim: divergence(student, aim, TEMPERATURE), aims
        )
        drawn = torch.cat([each.rows for each in batches]).argsort()
        return knowledge, torch.cat(logits)[drawn]


@pytest.mark.parametrize("family", KPRUNE_FAMILIES)
def test_predictive_knowledge_equals_gates_on_the_real_model(family):
    model = tiny_model(family)
    teacher = 3 * torch.randn(40, 2, generator=torch.Generator().manual_seed(5))
    expected = gated_gradients(model, random_rows(model, 40), teacher, batch=16)
    for skip in range(4):
        knowledge, _ = measured(model, teacher, skip)
        for known, reference in zip(knowledge, expected[skip:], strict=True):
            torch.testing.assert_close(known.predictive.value(40).float(), reference, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("family", KPRUNE_FAMILIES)
def test_the_stream_gives_the_logits_of_the_model(family):
    model = tiny_model(family, num_labels=3)
    rows = random_rows(model, 40)
    inputs = rows.batch(list(range(40)))
    del inputs["labels"]
    with torch.no_grad():
        expected = model(**inputs).logits
    knowledge, logits = measured(model, None, skip=1)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert all(float(known.predictive.value(40).sum()) == 0 for known in knowledge)


def test_while_student_and_teacher_agree_there_is_no_predictive_knowledge():
    model = tiny_model("bert")
    _, logits = measured(model, None)
    knowledge, _ = measured(model, logits)
    assert max(float(known.predictive.value(40).max()) for known in knowledge) < 1e-12


def test_bfloat16_measures_nearly_the_same():
    model = tiny_model("bert")
    teacher = 3 * torch.randn(40, 2, generator=torch.Generator().manual_seed(5))
    precise, rough = (measured(model, teacher, bf16=bf16)[0] for bf16 in (False, True))
    for exact, known in zip(precise, rough, strict=True):
        expected, found = exact.units(1.0), known.units(1.0)
        assert not torch.equal(expected, found)
        assert (found - expected).abs().sum() < 0.05 * expected.abs().sum()


def test_the_model_is_whole_again_after_an_error():
    model = tiny_model("roberta")
    stack = model.roberta.encoder.layer
    inside = 0
    with contextlib.suppress(ZeroDivisionError), Ends.of(model, TASK):
        inside = len(model.roberta.encoder.layer)
        raise ZeroDivisionError
    assert inside == 1
    assert model.roberta.encoder.layer is stack
    assert all(parameter.requires_grad for parameter in model.parameters())
