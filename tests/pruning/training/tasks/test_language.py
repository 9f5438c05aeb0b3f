"""Causal language modelling: windows of a joined text, and perplexity against a loop over tokens."""

import math

import numpy as np
import pytest
import torch

from pruning.data.examples import Line
from pruning.data.labels import Labels
from pruning.errors import InvalidData
from pruning.spec import PruneSpec
from pruning.training.evaluate import evaluate
from pruning.training.tasks import IGNORED, CausalLM
from tests.support.data import lines
from tests.support.models import tiny_model, tiny_tokenizer

TASK = CausalLM(Labels((), {}, trained=True))
TEXT = [Line(row["text"]) for row in lines(40)]


def encode(found=TEXT, family="gpt2", **request):
    return TASK.encode(found, tiny_tokenizer(family), PruneSpec(target_ratio=0, **request))


def slow_perplexity(model, rows):
    """One forward pass for every scored token, with what stands before it in its window."""
    losses = []
    for index in range(len(rows)):
        row = rows[index]
        for place in range(1, len(row["input_ids"])):
            if row["labels"][place] != IGNORED:
                with torch.no_grad():
                    said = model(torch.tensor([row["input_ids"][:place]])).logits[0, -1].double()
                losses.append(-said.log_softmax(0)[row["input_ids"][place]].item())
    return math.exp(sum(losses) / len(losses)), len(losses)


def test_windows_are_the_whole_text_in_order():
    rows = encode(max_length=16)
    whole = tiny_tokenizer("gpt2")("\n".join(line.text for line in TEXT))["input_ids"]
    assert rows.tokens.tolist() == whole
    assert rows.labels.tolist() == whole
    assert set(rows.lengths[:-1].tolist()) == {16}
    assert 1 <= rows.lengths[-1] <= 16


@pytest.mark.parametrize("shared", [1, 5, 8])
def test_neighbours_share_tokens_that_are_scored_once(shared):
    rows = encode(max_length=16, doc_stride=shared)
    whole = tiny_tokenizer("gpt2")("\n".join(line.text for line in TEXT))["input_ids"]
    scored = [token for index in range(len(rows)) for token in rows[index]["labels"] if token != IGNORED]
    assert scored == whole
    for index in range(1, len(rows)):
        assert rows[index]["input_ids"][:shared] == rows[index - 1]["input_ids"][-shared:]
        assert rows[index]["labels"][:shared] == [IGNORED] * shared


def test_a_window_begins_with_what_the_tokenizer_puts_before_a_text():
    rows = encode(family="roberta", max_length=16)
    assert {rows[index]["input_ids"][0] for index in range(len(rows))} == {0}
    assert {rows[index]["labels"][0] for index in range(len(rows))} == {IGNORED}
    assert 2 not in rows.tokens  # nothing behind it
    plain = tiny_tokenizer("roberta")("\n".join(line.text for line in TEXT), add_special_tokens=False)
    assert rows.labels[rows.labels != IGNORED].tolist() == plain["input_ids"]


def test_long_texts_are_tokenised_in_parts_without_losing_a_newline():
    many = [Line("good film")] * 2001
    rows = encode(many, max_length=64)
    assert (rows.tokens == tiny_tokenizer("gpt2")("\n")["input_ids"][0]).sum() == 2000


@pytest.mark.parametrize("text", [[], [Line("")], [Line("a")]])
def test_a_text_without_a_token_to_guess_is_refused(text):
    with pytest.raises(InvalidData, match="fewer than two tokens"):
        encode(text)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("shared", [None, 4])
def test_perplexity_is_that_of_a_loop_over_tokens(family, shared):
    model, rows = tiny_model(family), encode(TEXT[:9], max_length=13, doc_stride=shared)
    found = evaluate(
        model, rows, TASK, device=torch.device("cpu"), should_stop=lambda: None, on_progress=lambda part: None
    )
    expected, count = slow_perplexity(model, rows)
    assert found.metrics == {"perplexity": pytest.approx(expected, rel=1e-5)}
    assert np.sum(found.answers, axis=0)[1] == count
    assert TASK.lower_is_better


def test_the_loss_is_the_mean_over_scored_tokens():
    model, rows = tiny_model("llama"), encode(TEXT[:9], max_length=13, doc_stride=4)
    batch = rows.batch(range(len(rows)))
    outputs = model(batch["input_ids"], attention_mask=batch["attention_mask"])
    logits = TASK.logits(outputs, batch)
    expected, count = slow_perplexity(model, rows)
    assert len(logits) == len(TASK.rows_of(batch)) == count
    assert TASK.loss(logits, batch["labels"]).item() == pytest.approx(math.log(expected), rel=1e-5)


def test_a_model_without_sense_has_a_finite_perplexity():
    answers = [np.array([np.nan, 3.0]), np.array([1e9, 2.0])]
    assert all(math.isfinite(TASK.metrics([answer], encode())["perplexity"]) for answer in answers)


def test_the_first_windows_are_those_of_the_text():
    rows = encode(max_length=16)
    first = rows.first(3)
    assert [first[index] for index in range(3)] == [rows[index] for index in range(3)]
    assert (len(first), first.examples) == (3, 3)
