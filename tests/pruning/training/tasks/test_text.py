import numpy as np
import pytest
import torch

from pruning.data.examples import Example
from pruning.data.labels import Labels
from pruning.data.rows import examples, summarise
from pruning.errors import InvalidData
from pruning.spec import PruneSpec
from pruning.training.tasks import (
    Classification,
    Encoded,
    Regression,
    Task,
    load_config,
    load_model,
    load_tokenizer,
)
from tests.support.data import write_dataset
from tests.support.models import FAMILIES, save_tiny

TWO = Classification(Labels(("no", "yes"), {"0": 0, "1": 1}, trained=True))
THREE = Classification(Labels(("a", "b", "c"), {"a": 0, "b": 1, "c": 2}, trained=True))
NUMBER = Regression(Labels((), {}, trained=True))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "bert")


def encoded(model_dir, texts, task=TWO, **options):
    request = PruneSpec(target_ratio=0, max_length=options.get("max_length", 32))
    rows = [text if isinstance(text, Example) else Example(text, None, "1") for text in texts]
    return task.encode(rows, load_tokenizer(model_dir, load_config(model_dir)), request)


def quality(task, logits, labels):
    """Metrics of logits (rows, outputs); the tokens do not matter."""
    count = len(labels)
    tokens = {"tokens": np.ones(count, np.int32), "segments": None, "offsets": np.arange(count + 1)}
    return task.metrics(list(logits), Encoded(**tokens, labels=np.array(labels), pad_token=0))


class TestEncoded:
    def test_rows_are_what_the_tokenizer_gives(self, model_dir):
        rows = encoded(model_dir, ["the film", "a good good story"])
        tokenizer = load_tokenizer(model_dir, load_config(model_dir))
        expected = tokenizer("a good good story")
        assert len(rows) == 2
        assert {name: rows[1][name] for name in expected} == dict(expected)
        assert rows[1]["labels"] == 1
        assert rows.lengths.tolist() == [4, 6]
        assert rows.mean_length == 5

    def test_a_batch_is_padded_right_to_the_longest(self, model_dir):
        rows = encoded(model_dir, ["the film", "a good good story"])
        batch = rows.batch([1, 0])
        assert batch["input_ids"].shape == (2, 6)
        assert batch["input_ids"][1, 4:].tolist() == [0, 0]
        assert batch["attention_mask"].tolist() == [[1] * 6, [1] * 4 + [0] * 2]
        assert batch["labels"].dtype == torch.int64
        assert rows.batch([0], pad_to_multiple=8)["input_ids"].shape == (1, 8)

    def test_a_pair_has_segments_and_is_cut(self, model_dir):
        rows = encoded(model_dir, [Example("a good film", "the story " * 30, "0")], max_length=12)
        assert len(rows[0]["input_ids"]) == 12
        assert rows[0]["token_type_ids"] == [0] * 5 + [1] * 7

    def test_a_regression_has_real_labels(self, model_dir):
        rows = encoded(model_dir, [Example("a", None, "3"), Example("a", None, 2.5)], NUMBER)
        assert rows.batch([0, 1])["labels"].tolist() == [3.0, 2.5]

    def test_an_unknown_class_is_refused(self, model_dir):
        with pytest.raises(InvalidData, match="'7' is not one of 0, 1"):
            encoded(model_dir, [Example("a", None, "7")])

    @pytest.mark.parametrize("family", FAMILIES)
    def test_the_inputs_are_what_the_model_takes(self, family, tmp_path):
        folder = save_tiny(tmp_path, family)
        batch = encoded(folder, ["the film"]).batch([0])
        assert ("token_type_ids" in batch) == (family in ("bert", "electra"))
        del batch["labels"]
        assert load_model(folder, TWO).eval()(**batch).logits.shape == (1, 2)


class TestMetrics:
    def test_two_classes(self):
        logits = torch.tensor([[2.0, 1], [0, 1], [0, 1], [3, 1]])
        found = quality(TWO, logits, [0, 1, 0, 1])
        assert found == {"accuracy": 0.5, "f1": 0.5, "mcc": 0.0}
        assert TWO.primary == "accuracy"

    def test_more_classes_are_averaged(self):
        found = quality(THREE, torch.eye(3)[[0, 1, 2, 2]], [0, 1, 2, 1])
        assert found["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)

    def test_one_guess_for_all_is_no_error(self):
        found = quality(TWO, torch.tensor([[1.0, 0]] * 4), [0, 1, 0, 1])
        assert found == {"accuracy": 0.5, "f1": 0.0, "mcc": 0.0}

    def test_regression(self):
        found = quality(NUMBER, torch.tensor([[1.0], [2], [4]]), [1.0, 2, 3])
        assert found["spearman"] == pytest.approx(1.0)
        assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])
        assert quality(NUMBER, torch.ones(3, 1), [1.0, 2, 3])["spearman"] == 0.0

    def test_losses(self):
        logits, labels = torch.tensor([[1.0, 3.0]]), torch.tensor([0])
        assert TWO.loss(logits, labels).item() == pytest.approx(np.log(1 + np.exp(2)))
        assert NUMBER.loss(torch.tensor([[2.0]]), torch.tensor([5.0])).item() == 9.0


def test_task_of_a_dataset(tmp_path, model_dir):
    data = summarise(write_dataset(tmp_path))
    task = Task.of("sequence-classification", data, load_config(model_dir))
    assert task.labels.names == ("LABEL_0", "LABEL_1")
    assert [task.label_id(row.label) for row in examples(tmp_path / "train.jsonl", data)][:3] == [0, 1, 0]
