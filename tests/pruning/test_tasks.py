"""Tags and answers from the request to a measured model on disk."""

import ast
import re

import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

from pruning import prune
from pruning.errors import InvalidData
from pruning.options import Finetune, Recover
from pruning.spec import Evaluation, PruneSpec
from tests.support.data import questions, tagged_sentences, write_jsonl
from tests.support.models import save_untrained

EVALUATION = Evaluation(latency=False)


def request(**changes):
    short = {"finetune": Finetune(max_steps=6, batch_size=8), "recover": Recover(max_steps=4, batch_size=8)}
    fields = {"target_ratio": 0.5, "method": "magnitude", "max_length": 32, "device": "cpu"} | short
    return PruneSpec(**fields | {"evaluate": EVALUATION} | changes)


def dataset(folder, make, **options):
    write_jsonl(folder / "train.jsonl", make(40, **options))
    write_jsonl(folder / "validation.jsonl", make(12, seed=1, **options))
    return folder


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """A job that fine-tuned, pruned and recovered a model for tags: (folder, report)."""
    folder = tmp_path_factory.mktemp("tagged")
    model = save_untrained(folder / "model")
    out = folder / "out"
    return out, prune(request(), model, dataset(folder / "data", tagged_sentences), out)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """The same for questions, some without an answer, with contexts longer than a window."""
    folder = tmp_path_factory.mktemp("answered")
    model = save_untrained(folder / "model", "distilbert")
    out = folder / "out"
    return out, prune(request(), model, dataset(folder / "data", questions, unanswered=4), out)


def code_of_card(folder):
    """The code of the model card, run beside the model."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(ast.parse(code.replace('"model"', repr(str(folder / "model")))), "card", "exec"), names)
    return names


def test_tags_from_the_request_to_the_model(tagged):
    out, report = tagged
    assert report.plan["task"] == "token-classification"
    assert (report.kind, report.quality.primary, report.quality.rows) == ("shrunk", "f1", 13)
    assert report.quality.after.keys() == {"accuracy", "precision", "recall", "f1"}
    assert report.load_check.differences.keys() == {"plain", "remote_code"}
    assert 0.5 <= report.delivered["flops"] < 0.57
    assert report.equality < 1e-4
    model = AutoModelForTokenClassification.from_pretrained(out / "model")
    assert model.config.id2label == {0: "B-X", 1: "I-X", 2: "O"}
    assert model(torch.tensor([[2, 5, 3]])).logits.shape == (1, 3, 3)
    assert type(code_of_card(out)["model"]).__name__ == "BertForTokenClassification"
    assert "pipeline_tag: token-classification" in (out / "README.md").read_text()


def test_answers_from_the_request_to_the_model(answered):
    out, report = answered
    assert report.plan["task"] == "question-answering"
    assert report.spec.doc_stride == 10
    assert (report.kind, report.quality.primary, report.quality.rows) == ("shrunk", "f1", 12)
    assert report.quality.after.keys() == {"exact_match", "f1"}
    assert report.load_check.differences.keys() == {"plain", "remote_code"}
    assert report.equality < 1e-4
    model = AutoModelForQuestionAnswering.from_pretrained(out / "model")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    assert model(**tokenizer("good", "a good film", return_tensors="pt")).start_logits.shape[0] == 1
    assert type(code_of_card(out)["model"]).__name__ == "DistilBertForQuestionAnswering"
    assert "pipeline_tag: question-answering" in (out / "README.md").read_text()


def test_a_pipeline_of_transformers_takes_the_tagger(tagged):
    ask = pipeline("token-classification", model=str(tagged[0] / "model"), device="cpu")
    assert {found["word"] for found in ask("the good film")} <= {"the", "good", "film"}


def test_a_task_that_does_not_fit_the_rows_is_refused(tmp_path):
    model = save_untrained(tmp_path / "model")
    folder = dataset(tmp_path / "data", tagged_sentences)
    with pytest.raises(InvalidData, match="Use task token-classification") as caught:
        prune(request(task="question-answering"), model, folder, tmp_path / "out")
    assert caught.value.param == "/task"
