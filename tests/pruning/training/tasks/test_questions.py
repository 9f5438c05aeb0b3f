from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from pruning.data.examples import Answer, Question
from pruning.data.labels import Labels
from pruning.options import Distill
from pruning.spec import PruneSpec
from pruning.training.distill import distillation_loss
from pruning.training.tasks import QuestionAnswering, load_config, load_model, load_tokenizer
from pruning.training.tasks.questions import best_spans
from tests.support.models import FAMILIES, WORDS, save_tiny

TASK = QuestionAnswering(Labels((), {}, trained=True))
CONTEXT = "the film was great and the actor was not very good but we liked it"


def question(answer, context=CONTEXT, asked="was it good"):
    answers = () if answer is None else (Answer(answer, context.index(answer)),)
    return Question(asked, context, answers)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models"), request.param, "question-answering")


def encoded(folder, questions, max_length=64, doc_stride=20):
    tokenizer = load_tokenizer(folder, load_config(folder))
    request = PruneSpec(target_ratio=0, max_length=max_length, doc_stride=doc_stride)
    return TASK.encode(questions, tokenizer, request)


def text_of(rows, window, first, last):
    """What the characters of these tokens say."""
    spans = rows.spans[rows.offsets[window] : rows.offsets[window + 1]]
    return rows.questions[rows.question_of[window]].context[spans[first][0] : spans[last][1]].strip()


@pytest.mark.parametrize(
    "answer", ["the film", "not very good", "it", "was great and the actor", " actor ", "ctor"]
)
def test_the_answers_tokens_say_the_answer(folder, answer):
    rows = encoded(folder, [question(answer)])
    assert len(rows) == rows.examples == 1
    first, last = rows[0]["labels"]
    whole = {"ctor": "actor"}.get(answer, answer.strip())  # half a word: the tokens that hold it
    assert text_of(rows, 0, first, last) in (whole, answer.strip())


def test_an_unanswered_question_points_at_the_first_token(folder):
    assert encoded(folder, [question(None)])[0]["labels"] == [0, 0]


def test_a_long_context_becomes_windows_that_share_tokens(folder):
    context = " ".join(WORDS[:34] * 4)
    answer = " ".join(WORDS[20:24])
    rows = encoded(folder, [question(answer, context), question("the film")], max_length=48, doc_stride=16)
    tokenizer = load_tokenizer(folder, load_config(folder))
    windows = rows.question_of.tolist().count(0)
    assert windows > 3
    assert (len(rows), rows.examples) == (windows + 1, 2)
    whole = tokenizer(context, add_special_tokens=False)["input_ids"]
    start = 0
    for window in range(windows):
        first, behind = rows.inside[window]
        said = rows[window]["input_ids"][first:behind]
        assert len(rows[window]["input_ids"]) <= 48
        assert said == whole[start : start + len(said)]
        start += len(said) - 16
        begin, end = rows[window]["labels"]
        if begin:  # an answer counts only where all of it is inside
            assert text_of(rows, window, begin, end) == answer
    assert start + 16 == len(whole)
    assert any(rows[window]["labels"] != [0, 0] for window in range(windows))


def test_a_long_question_is_cut_so_that_windows_get_on(folder):
    asked = question("liked it", asked=" ".join(WORDS * 3))
    rows = encoded(folder, [asked], max_length=32, doc_stride=10)
    assert all(len(rows[window]["input_ids"]) <= 32 for window in range(len(rows)))
    assert any(rows[window]["labels"] != [0, 0] for window in range(len(rows)))
    first, _ = rows.inside[0]
    assert first <= 14 + 3


def test_loss_and_distillation_do_not_depend_on_padding(folder):
    rows = encoded(
        folder, [question("the film"), question("great", "the film was great"), question(None, "bad")]
    )
    model = load_model(folder, TASK).eval()
    found = []
    for each in (rows.batch([0, 1, 2]), rows.batch([0, 1, 2], pad_to_multiple=64)):
        inputs = {name: value for name, value in each.items() if name != "labels"}
        logits = TASK.logits(model(**inputs), each)
        assert logits.shape == (6, each["input_ids"].shape[1])
        loss = TASK.loss(logits, each["labels"])
        teacher = TASK.logits(SimpleNamespace(**{k: v * 2 for k, v in model(**inputs).items()}), each)
        found.append((loss, distillation_loss(logits, teacher, loss, Distill())))
    for one, other in zip(*found, strict=True):
        assert torch.isfinite(one)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    # Slowly: window by window, start and end by themselves.
    expected = []
    for index in range(3):
        single = rows.batch([index])
        labels = single.pop("labels")[0]
        outputs = model(**single)
        expected += [
            F.cross_entropy(outputs.start_logits[0], labels[0]),
            F.cross_entropy(outputs.end_logits[0], labels[1]),
        ]
    torch.testing.assert_close(found[0][0], torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)
    assert TASK.rows_of(rows.batch([0, 1, 2])).tolist() == [0, 1, 2, 0, 1, 2]


def test_the_best_span_is_the_best_of_all_spans():
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 20, 50, generator=generator)
    allowed = (torch.arange(50) >= 5) & (
        torch.arange(50) < torch.randint(6, 51, (20, 1), generator=generator)
    )
    score, first, last = best_spans(start, end, allowed)
    for row in range(20):
        spans = [
            (float(start[row, i] + end[row, j]), i, j)
            for i in range(50)
            for j in range(i, min(i + 30, 50))
            if allowed[row, i] and allowed[row, j]
        ]
        best = max(spans)
        assert (int(first[row]), int(last[row])) == best[1:]
        assert float(score[row]) == pytest.approx(best[0])


def said(rows, *peaks):
    """Logits that peak, for each window, at (start, end, height); the height of no answer is 0."""
    length = int(rows.lengths.max())
    outputs = {name: torch.full((len(rows), length), -9.0) for name in ("start_logits", "end_logits")}
    for row, (start, end, height) in enumerate(peaks):
        outputs["start_logits"][row, [0, start]] = torch.tensor([0.0, height])
        outputs["end_logits"][row, [0, end]] = torch.tensor([0.0, height])
    return SimpleNamespace(**outputs)


def test_quality_is_of_the_best_window_of_each_question(folder):
    context = " ".join(WORDS[:30])
    questions = [question(" ".join(WORDS[3:5]), context), question(None, "the film")]
    rows = encoded(folder, questions, max_length=32, doc_stride=10)
    windows = rows.question_of.tolist().count(0)
    assert windows > 1
    right = rows[0]["labels"]
    other = [int(rows.inside[1][0])] * 2
    peaks = [
        (*right, 5.0),
        (*other, 4.0),
        *[(*other, 1.0)] * (windows - 2),
        (*map(int, rows.inside[-1] - [0, 1]), -1.0),
    ]
    answers = TASK.answers(said(rows, *peaks), rows, range(len(rows)))
    assert TASK.metrics(answers, rows) == {"exact_match": 0.5, "f1": 0.5}
    # Only data with unanswered questions has a score of no answer.
    both = replace(TASK, unanswerable=True)
    assert both.metrics(answers, rows) == {"exact_match": 1.0, "f1": 1.0}
    peaks[0], peaks[1] = (*right, 4.0), (*other, 5.0)
    worse = TASK.metrics(TASK.answers(said(rows, *peaks), rows, range(len(rows))), rows)
    assert worse["exact_match"] == 0.0
