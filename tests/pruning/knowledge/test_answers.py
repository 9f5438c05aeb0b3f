"""Knowledge where a row has many answers: tags of words, starts and ends of spans."""

import copy

import pytest
import torch

from pruning.data.examples import Answer, Question, Tagged
from pruning.data.labels import Labels
from pruning.knowledge.draw import Draw
from pruning.knowledge.ends import Ends
from pruning.knowledge.predictive import drawn_batches
from pruning.knowledge.scores import BatchGradients, divergence
from pruning.knowledge.signals import mismatch
from pruning.knowledge.stream import Stream
from pruning.knowledge.sublayers import sublayers
from pruning.methods import create
from pruning.model.layers import layers
from pruning.model.shrink import shrink
from pruning.spec import PruneSpec
from pruning.training.tasks import QuestionAnswering, TokenClassification
from tests.support.data import questions, tagged_sentences
from tests.support.kprune import context
from tests.support.models import KPRUNE_FAMILIES, tiny_model, tiny_tokenizer

TEMPERATURE, ROWS, BATCH = 2.0, 40, 16
TAGS = ("O", "B-X", "I-X")
TASKS = {
    "token-classification": TokenClassification(
        Labels(TAGS, {t: i for i, t in enumerate(TAGS)}, trained=True)
    ),
    "question-answering": QuestionAnswering(Labels((), {}, trained=True)),
}


def model_of(kind, family, seed=0):
    return tiny_model(family, kind, seed=seed, num_labels=3 if kind == "token-classification" else 2)


def rows_of(kind, family, count=ROWS):
    if kind == "token-classification":
        found = [Tagged(tuple(row["tokens"]), tuple(row["ner_tags"])) for row in tagged_sentences(count - 1)]
    else:
        found = [
            Question(row["question"], row["context"], (Answer(row["answers"]["text"][0], 0),))
            for row in questions(count, words=6)
        ]
    return TASKS[kind].encode(
        found, tiny_tokenizer(family), PruneSpec(target_ratio=0, max_length=32, doc_stride=8)
    )


def parts(batch):
    return {name: value for name, value in batch.items() if name != "labels"}


def gated_gradients(model, teacher, task, rows):
    """The slow reference: real gates on the real model, one padded batch after the other in drawn order."""
    stack = [reader for layer in layers(model) for reader in (layer.attention_out, layer.ffn_out)]
    sums = [torch.zeros(reader.in_features) for reader in stack]
    for start in range(0, len(rows), BATCH):
        batch = rows.batch(range(start, min(start + BATCH, len(rows))))
        with torch.no_grad():
            aim = task.logits(teacher(**parts(batch)), batch)
        gates = [torch.ones(reader.in_features, requires_grad=True) for reader in stack]
        hooks = [
            reader.register_forward_pre_hook(lambda _, inputs, gate=gate: (inputs[0] * gate,))
            for reader, gate in zip(stack, gates, strict=True)
        ]
        losses = divergence(task.logits(model(**parts(batch)), batch), aim, TEMPERATURE)
        owners = task.rows_of(batch)
        means = [losses[owners == row].mean() for row in range(len(batch["input_ids"]))]
        for index, gradient in enumerate(torch.autograd.grad(torch.stack(means).mean(), gates)):
            sums[index] += gradient.square()
        for hook in hooks:
            hook.remove()
    return [total / 2 / len(rows) for total in sums]


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_predictive_knowledge_equals_gates_on_the_real_model(kind, family):
    task, rows = TASKS[kind], rows_of(kind, family)
    model, teacher = model_of(kind, family), model_of(kind, family, seed=1)
    expected = gated_gradients(model, teacher, task, rows)
    draw = Draw(rows, torch.arange(len(rows)))
    stack = [part for layer in layers(model) for part in sublayers(layer)]
    batches = draw.batches(torch.device("cpu"), weights=2**27)  # 128 tokens each: several batches
    assert len(batches) > 2
    with torch.no_grad():
        aims = [task.logits(teacher(**batch.inputs), batch.whole) for batch in batches]
        own = [task.logits(model(**batch.inputs), batch.whole) for batch in batches]
    with Ends.of(model, task) as ends:
        stream = Stream(ends, batches, lambda: None)
        signal = mismatch(lambda said, aim: divergence(said, aim, TEMPERATURE), aims)
        batch_of_row = drawn_batches(len(rows), BATCH)
        knowledge, logits, _ = stream.measure(
            stack, signal, lambda part: BatchGradients(batch_of_row, part.output.weight.shape[1])
        )
    for found, reference in zip(logits, own, strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-5)
    for known, reference in zip(knowledge, expected, strict=True):
        torch.testing.assert_close(known.predictive.value(len(rows)).float(), reference, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize(
    ("method", "family"), [*(("kprune", family) for family in KPRUNE_FAMILIES), ("fisher", "bert")]
)
def test_pruned_and_shrunk_agree_and_a_killed_run_goes_on(kind, method, family, tmp_path):
    rows, task = rows_of(kind, family), TASKS[kind]
    model, again = model_of(kind, family), model_of(kind, family)
    outcome = create(method, {}).prune(context(model, tmp_path, rows=rows, task=task))
    for path in sorted(tmp_path.rglob("sublayer-*"))[2:]:
        path.unlink()
    assert create(method, {}).prune(context(again, tmp_path, rows=rows, task=task)) == outcome
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    small = copy.deepcopy(model)
    shrink(small, outcome.kept)
    batch = rows.batch(range(4))
    with torch.no_grad():
        one, other = (task.logits(each(**parts(batch)), batch) for each in (model, small))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert small.num_parameters() < model.num_parameters()
