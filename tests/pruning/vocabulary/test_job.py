"""Jobs that cut a vocabulary: the same answers bit by bit, fewer parameters, loaded by anybody."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pruning import prune
from pruning.errors import InvalidModel
from pruning.report import Report
from pruning.spec import Evaluation, PruneSpec
from pruning.steps import vocabulary
from pruning.vocabulary.embeddings import cut_embeddings
from tests.support.data import write_jsonl
from tests.support.models import FAMILIES, save_tiny, tiny_inputs, tiny_model


def request(**changes):
    fields = {
        "granularity": "vocabulary",
        "max_length": 32,
        "evaluate": Evaluation(latency=False),
        "device": "cpu",
    }
    return PruneSpec(**fields | changes)


def dataset(folder):
    """Few of the words that the tokenizer knows, and one that it does not."""
    rows = [
        {"text": f"the film is {word} \u2603", "label": index % 2}
        for index, word in enumerate(["good", "bad", "great", "poorly"] * 5)
    ]
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "validation.jsonl", rows[:8])
    return folder


def texts():
    return ["the film is good \u2603", "the film is poorly"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(model folder, out folder, report) of one job."""
    folder = tmp_path_factory.mktemp("vocabulary")
    model = save_tiny(folder / "model", "xlm-roberta")
    return model, folder / "out", prune(request(), model, dataset(folder / "data"), folder / "out")


class TestWholeJob:
    def test_a_stranger_gets_the_same_answers(self, done):
        answers = []
        for folder in (done[0], done[1] / "model"):
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
            with torch.inference_mode():
                answers.append(model(**tokenizer(texts(), padding=True, return_tensors="pt")).logits)
        assert torch.equal(*answers)

    def test_the_report_counts_what_is_gone(self, done):
        _, out, report = done
        kept = report.vocabulary
        assert (kept.texts, kept.of_tokens) == (28, 82)
        gone = (kept.of_tokens - kept.tokens) * 32
        assert 0 < gone == report.before.parameters - report.after.parameters
        assert (
            report.delivered["parameters"] == report.asked == pytest.approx(gone / report.before.parameters)
        )
        assert report.delivered["weights"] == report.delivered["flops"] == 0
        assert report.equality == 0.0
        assert report.quality.before == report.quality.after
        assert (report.kind, report.method, report.measure) == ("shrunk", "none", "parameters")
        assert Report.model_validate_json((out / "report.json").read_text()) == report
        mask = load_file(out / "masks.safetensors")["vocabulary"]
        assert (len(mask), int(mask.sum())) == (kept.of_tokens, kept.tokens)
        card = (out / "README.md").read_text()
        assert f"{kept.of_tokens - kept.tokens} of 82 tokens" in card
        assert "All 28 texts" in card


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_tokens_have_the_same_logits_in_every_family(family):
    dense, small = tiny_model(family), tiny_model(family)
    inputs = tiny_inputs(dense)
    padding = dense.config.pad_token_id or 0
    kept = sorted({*range(5), *inputs["input_ids"].flatten().tolist()})
    cut_embeddings(small, kept)
    new = {old: place for place, old in enumerate(kept)}
    renumbered = inputs | {"input_ids": inputs["input_ids"].clone().apply_(new.__getitem__)}
    with torch.inference_mode():
        assert torch.equal(small(**renumbered).logits, dense(**inputs).logits)
    assert small.config.vocab_size == len(kept) < dense.config.vocab_size
    assert small.config.pad_token_id == padding


def test_a_text_that_would_become_other_tokens_is_refused(tmp_path, monkeypatch):
    """A tokenizer that says something else each time it is asked."""
    asked = []

    def fickle(*_):
        asked.append(None)
        return iter([([5], [str(len(asked))])])

    monkeypatch.setattr(vocabulary, "tokens", fickle)
    with pytest.raises(InvalidModel, match="Text 1") as caught:
        prune(request(), save_tiny(tmp_path / "model"), dataset(tmp_path / "data"), tmp_path / "out")
    assert caught.value.param == "/granularity"
