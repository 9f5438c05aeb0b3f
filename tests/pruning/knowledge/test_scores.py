import contextlib
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.data.labels import Labels
from pruning.knowledge.draw import Draw
from pruning.knowledge.ends import Ends
from pruning.knowledge.predictive import Curvature, drawn_batches
from pruning.knowledge.scores import (
    BatchGradients,
    RepresentationalKnowledge,
    RowGradients,
    divergence,
    per_unit,
    squared_error,
)
from pruning.knowledge.signals import mismatch, mistake
from pruning.knowledge.stream import Stream
from pruning.knowledge.sublayers import sublayers
from pruning.model.layers import layers
from pruning.training.tasks import Classification, Regression
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


def test_gradients_are_squared_by_batch_or_by_row():
    inner = torch.ones(3, 2, 1)
    gradient = torch.tensor([[1.0, 2.0], [-1.0, 0.0], [5.0, 1.0]])[..., None]
    batches, rows = BatchGradients(torch.tensor([0, 0, 1]), columns=1), RowGradients(columns=1)
    for known in (batches, rows):
        known.add(inner[1:], gradient[1:], torch.tensor([1, 2]))
        known.add(inner[:1], gradient[:1], torch.tensor([0]))
    assert batches.value(rows=3).tolist() == [(1.0**2 + 6.0**2) / 2 / 3]
    assert rows.value(rows=3).tolist() == [(3.0**2 + 1.0**2 + 6.0**2) / 2 / 3]


def test_the_gate_of_a_head_has_the_gradient_of_all_its_columns():
    known = BatchGradients(torch.tensor([0]), columns=4, size=2)
    known.add(torch.ones(1, 1, 4), torch.tensor([[[1.0, 2.0, 3.0, -4.0]]]), torch.tensor([0]))
    assert known.values.tolist() == [[3.0, -1.0]]


def test_a_unit_is_worth_the_mean_of_its_columns():
    assert per_unit(torch.tensor([1.0, 3.0, 5.0, 9.0]), 2).tolist() == [2.0, 7.0]


def to_the_teacher(teacher: Tensor):
    """The mean loss of rows from `start` against a teacher's logits (rows, classes)."""

    def loss(logits, start):
        aim = teacher[start : start + len(logits)]
        found = F.kl_div(
            (logits / TEMPERATURE).log_softmax(1), (aim / TEMPERATURE).softmax(1), reduction="batchmean"
        )
        return TEMPERATURE**2 * found

    return loss


def gated_gradients(model, rows, loss, batch: int) -> list[Tensor]:
    """The slow reference: real gates on the real model, one padded batch after the other in drawn order.

    The gradient of every batch, (batches, columns), of `loss(logits, start)` by each gate.
    """
    stack = [reader for layer in layers(model) for reader in (layer.attention_out, layer.ffn_out)]
    found = [[] for _ in stack]
    for start in range(0, len(rows), batch):
        gates = [torch.ones(reader.in_features, requires_grad=True) for reader in stack]
        hooks = [
            reader.register_forward_pre_hook(lambda _, inputs, gate=gate: (inputs[0] * gate,))
            for reader, gate in zip(stack, gates, strict=True)
        ]
        inputs = rows.batch(list(range(start, min(start + batch, len(rows)))))
        del inputs["labels"]
        total = loss(model(**inputs).logits, start)
        for gradients, gradient in zip(found, torch.autograd.grad(total, gates), strict=True):
            gradients.append(gradient)
        for hook in hooks:
            hook.remove()
    return [torch.stack(gradients) for gradients in found]


def knowledge_of(gradients: Tensor, rows: int) -> Tensor:
    return gradients.square().sum(0) / 2 / rows


def measured(
    model, teacher: Tensor | None, skip: int = 0, rows: int = 40, batch: int = 16, bf16: bool = False
):
    """Knowledge, and the logits in drawn order; `teacher` (rows, classes) is in drawn order."""
    draw = Draw(random_rows(model, rows), torch.arange(rows))
    stack = [part for layer in layers(model) for part in sublayers(layer)]
    with Ends.of(model, TASK) as ends:
        batches = draw.batches(torch.device("cpu"), weights=2**27)  # 128 tokens each: several batches
        assert len(batches) > 2
        stream = Stream(ends, batches, lambda: None, bf16=bf16)
        for sublayer in stack[:skip]:
            stream.lift_student(sublayer)
        signal = None
        if teacher is not None:
            aims = [teacher[each.rows] for each in batches]
            signal = mismatch(lambda student, aim: divergence(student, aim, TEMPERATURE), aims)
        batch_of_row = drawn_batches(rows, batch)
        knowledge, logits, _ = stream.measure(
            stack[skip:], signal, lambda part: BatchGradients(batch_of_row, part.output.weight.shape[1])
        )
        drawn = torch.cat([each.rows for each in batches]).argsort()
        return knowledge, torch.cat(logits)[drawn]


@pytest.mark.parametrize("family", KPRUNE_FAMILIES)
def test_predictive_knowledge_equals_gates_on_the_real_model(family):
    model = tiny_model(family)
    teacher = 3 * torch.randn(40, 2, generator=torch.Generator().manual_seed(5))
    expected = gated_gradients(model, random_rows(model, 40), to_the_teacher(teacher), batch=16)
    for skip in range(4):
        knowledge, _ = measured(model, teacher, skip)
        for known, reference in zip(knowledge, expected[skip:], strict=True):
            found = known.predictive.value(40).float()
            torch.testing.assert_close(found, knowledge_of(reference, 40), rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize(("family", "labels"), [("bert", 2), ("distilbert", 3), ("roberta", 1)])
def test_gradients_by_labels_equal_gates_on_the_real_model(family, labels):
    regression = labels == 1
    model = tiny_model(family, "regression" if regression else "sequence-classification", num_labels=labels)
    rows = random_rows(model, 20)
    generator = torch.Generator().manual_seed(3)
    truth = (
        torch.rand(20, generator=generator)
        if regression
        else torch.randint(labels, (20,), generator=generator)
    )
    rows = replace(rows, labels=truth.numpy())
    task = (Regression if regression else Classification)(Labels(tuple("abc"[:labels]), {}, trained=True))
    draw = Draw(rows, torch.arange(20))
    stack = [part for layer in layers(model) for part in sublayers(layer)]
    with Ends.of(model, task) as ends:
        stream = Stream(ends, draw.batches(torch.device("cpu"), weights=2**27), lambda: None)
        knowledge, *_ = stream.measure(
            stack,
            mistake(task),
            lambda part: BatchGradients(torch.arange(20), part.output.weight.shape[1], part.size),
        )
    expected = gated_gradients(
        model, rows, lambda out, start: task.loss(out, truth[start : start + len(out)]), batch=1
    )
    for known, sublayer, reference in zip(knowledge, stack, expected, strict=True):
        gates = reference.unflatten(1, (-1, sublayer.size)).sum(2)
        torch.testing.assert_close(known.predictive.values, gates, rtol=2e-3, atol=1e-5)


def test_curvature_is_the_true_fisher_information_of_every_row_by_every_class():
    """By the definition: for each row and class p(class) (dlog p / dgate)^2. Signs are random, so many are averaged."""
    model = tiny_model("bert", num_labels=3)
    rows, count = random_rows(model, 6), 400
    expected = 0.0
    for label in range(3):

        def likelihood(logits, _, label=label):
            return (logits / TEMPERATURE).log_softmax(1)[0, label]

        gradients = gated_gradients(model, rows, likelihood, batch=1)
        with torch.no_grad():
            inputs = [{name: v for name, v in rows.batch([i]).items() if name != "labels"} for i in range(6)]
            p = torch.cat([(model(**each).logits / TEMPERATURE).softmax(1) for each in inputs])[:, label]
        # The loss is T^2 KL, whose curvature by the logits is that of the likelihood times T^2.
        expected = expected + TEMPERATURE**2 * torch.cat([(p @ each.square()) for each in gradients]) / 2 / 6
    draw = Draw(rows, torch.arange(6))
    stack = [part for layer in layers(model) for part in sublayers(layer)]
    found = 0.0
    with Ends.of(model, TASK) as ends:
        stream = Stream(ends, draw.batches(torch.device("cpu"), weights=2**20), lambda: None)
        for seed in range(count):
            curvature = Curvature(TASK, TEMPERATURE, seed)
            knowledge, *_ = stream.measure(stack, curvature.signal(None), curvature.gradients)
            found = found + torch.cat([known.predictive.value(6) for known in knowledge]) * 32**2 / count
    ratio = found.sum() / expected.sum()
    assert ratio == pytest.approx(1, abs=0.1)
    big = expected > expected.median()
    assert torch.corrcoef(torch.stack([found[big].float().log(), expected[big].log()]))[0, 1] > 0.95


def test_curvature_is_there_while_student_and_teacher_agree_and_is_the_same_again():
    model = tiny_model("bert")
    draw = Draw(random_rows(model, 12), torch.arange(12))
    stack = [part for layer in layers(model) for part in sublayers(layer)]
    curvature = Curvature(TASK, TEMPERATURE, seed=1)
    with Ends.of(model, TASK) as ends:
        stream = Stream(ends, draw.batches(torch.device("cpu"), weights=2**27), lambda: None)
        one, again = (
            [
                known.predictive.value(12)
                for known in stream.measure(stack, curvature.signal(None), curvature.gradients)[0]
            ]
            for _ in range(2)
        )
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert min(float(each.max()) for each in one) > 0


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
        expected, found = exact.columns(40).sum(0), known.columns(40).sum(0)
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


@pytest.mark.parametrize("place", [0, 1, 3])
def test_the_pull_is_the_squared_gradient_by_what_a_sublayer_says_of_each_token(place):
    model = tiny_model("bert")
    rows = random_rows(model, 20)
    reader = [part for layer in layers(model) for part in (layer.attention_out, layer.ffn_out)][place]
    expected = []
    for row in range(20):
        said: list[Tensor] = []
        hook = reader.register_forward_hook(lambda *call, said=said: said.append(call[2]))
        inputs = {name: value for name, value in rows.batch([row]).items() if name != "labels"}
        (gradient,) = torch.autograd.grad(model(**inputs).logits.sum(), said)
        hook.remove()
        expected.append(gradient[0].square().sum(-1))
    draw = Draw(rows, torch.arange(20))
    stack = [part for layer in layers(model) for part in sublayers(layer)]
    with Ends.of(model, TASK) as ends:
        batches = draw.batches(torch.device("cpu"), weights=2**27)
        stream = Stream(ends, batches, lambda: None)
        for sublayer in stack[:place]:
            stream.lift_student(sublayer)
        *_, pull = stream.measure(
            stack[place:],
            lambda _, __, logits: torch.ones_like(logits),
            lambda part: RowGradients(part.output.weight.shape[1]),
        )
        counts = stream._by_pull(pull)
    for batch, found, counted in zip(batches, pull, counts, strict=True):
        for row, tokens, real, count in zip(batch.rows.tolist(), found, batch.real, counted, strict=True):
            torch.testing.assert_close(tokens[real], expected[row], rtol=1e-3, atol=1e-9)
            assert not tokens[~real].any()
            assert count[real].mean() == pytest.approx(1)
            torch.testing.assert_close(count[real] - 0.3, 0.7 * tokens[real] / tokens[real].mean())
