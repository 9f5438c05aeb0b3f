import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.data.labels import Labels
from pruning.data.rows import Example, examples, summarise
from pruning.errors import InvalidData, InvalidModel
from pruning.training.tasks import Task, encode, load_config, load_model, load_tokenizer
from tests.support.data import write_dataset
from tests.support.models import FAMILIES, save_tiny, save_untrained

TWO = Task("sequence-classification", Labels(("no", "yes"), {"0": 0, "1": 1}, trained=True))
THREE = Task("sequence-classification", Labels(("a", "b", "c"), {"a": 0, "b": 1, "c": 2}, trained=True))
NUMBER = Task("regression", Labels((), {}, trained=True))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "bert")


def encoded(model_dir, texts, task=TWO, **options):
    config = load_config(model_dir)
    rows = [text if isinstance(text, Example) else Example(text, None, "1") for text in texts]
    return encode(rows, task, load_tokenizer(model_dir, config), options.get("max_length", 32))


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
        found = TWO.metrics(logits, torch.tensor([0, 1, 0, 1]))
        assert found == {"accuracy": 0.5, "f1": 0.5, "mcc": 0.0}
        assert TWO.primary == "accuracy"

    def test_more_classes_are_averaged(self):
        found = THREE.metrics(torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, 1, 2, 1]))
        assert found["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)

    def test_one_guess_for_all_is_no_error(self):
        found = TWO.metrics(torch.tensor([[1.0, 0]] * 4), torch.tensor([0, 1, 0, 1]))
        assert found == {"accuracy": 0.5, "f1": 0.0, "mcc": 0.0}

    def test_regression(self):
        found = NUMBER.metrics(torch.tensor([[1.0], [2], [4]]), torch.tensor([1.0, 2, 3]))
        assert found["spearman"] == pytest.approx(1.0)
        assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])
        assert NUMBER.metrics(torch.ones(3, 1), torch.tensor([1.0, 2, 3]))["spearman"] == 0.0

    def test_losses(self):
        logits, labels = torch.tensor([[1.0, 3.0]]), torch.tensor([0])
        assert TWO.loss(logits, labels).item() == pytest.approx(np.log(1 + np.exp(2)))
        assert NUMBER.loss(torch.tensor([[2.0]]), torch.tensor([5.0])).item() == 9.0


class TestLoading:
    def test_a_trained_head_is_kept(self, model_dir):
        model = load_model(model_dir, TWO)
        stored = load_file(model_dir / "model.safetensors")
        assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
        assert model.config.id2label == {0: "no", 1: "yes"}

    def test_half_precision_is_read_as_fp32(self, model_dir, tmp_path):
        folder = save_tiny(tmp_path / "half")
        stored = load_file(folder / "model.safetensors")
        half = {name: value.half() for name, value in stored.items()}
        save_file(half, folder / "model.safetensors", {"format": "pt"})
        assert load_model(folder, TWO).dtype == torch.float32

    def test_a_new_head_depends_on_the_seed_only(self, tmp_path):
        folder = save_untrained(tmp_path)
        data = summarise(write_dataset(tmp_path / "data"))
        task = Task.of("sequence-classification", data, load_config(folder))
        assert not task.labels.trained
        heads = [load_model(folder, task, seed=seed).classifier.weight for seed in (1, 1, 2)]
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])

    def test_a_head_of_another_width_is_replaced_the_body_is_not(self, model_dir):
        task = Task("sequence-classification", Labels(("a", "b", "c"), {}, trained=False))
        model = load_model(model_dir, task)
        assert model.classifier.out_features == 3
        query = "bert.encoder.layer.0.attention.self.query.weight"
        assert torch.equal(model.state_dict()[query], load_file(model_dir / "model.safetensors")[query])

    @pytest.mark.parametrize("fault", ["missing", "shape"])
    def test_weights_that_do_not_fit_are_refused(self, tmp_path, fault):
        folder = save_tiny(tmp_path)
        stored = load_file(folder / "model.safetensors")
        name = "bert.encoder.layer.1.output.dense.weight"
        if fault == "missing":
            del stored[name]
        else:
            stored[name] = stored[name][:, :-1].contiguous()
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(InvalidModel, match=r"layer\.1\.output\.dense\.weight"):
            load_model(folder, TWO)

    def test_a_file_that_is_no_safetensors_is_refused(self, tmp_path):
        folder = save_tiny(tmp_path)
        torch.save({}, folder / "model.safetensors")
        with pytest.raises(InvalidModel):
            load_model(folder, TWO)

    def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(self, tmp_path):
        folder = save_tiny(tmp_path)
        config = load_config(folder)
        config.vocab_size = 20
        with pytest.raises(InvalidModel, match="only 20"):
            load_tokenizer(folder, config)

    def test_an_unreadable_config_or_tokenizer_is_refused(self, tmp_path):
        folder = save_tiny(tmp_path)
        config = load_config(folder)
        (folder / "tokenizer.json").write_text("{")
        with pytest.raises(InvalidModel, match="tokenizer"):
            load_tokenizer(folder, config)
        (folder / "config.json").write_text("{")
        with pytest.raises(InvalidModel, match=r"config\.json"):
            load_config(folder)


def test_task_of_a_dataset(tmp_path, model_dir):
    data = summarise(write_dataset(tmp_path))
    task = Task.of("sequence-classification", data, load_config(model_dir))
    assert task.outputs == 2
    assert [task.label_id(row.label) for row in examples(tmp_path / "train.jsonl", data)][:3] == [0, 1, 0]
