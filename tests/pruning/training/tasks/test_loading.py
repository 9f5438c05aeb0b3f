import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.data.labels import Labels
from pruning.data.rows import summarise
from pruning.errors import InvalidModel
from pruning.training.tasks import (
    Classification,
    QuestionAnswering,
    Task,
    TokenClassification,
    load_config,
    load_model,
    load_tokenizer,
)
from tests.support.data import write_dataset
from tests.support.models import FAMILIES, save_tiny, save_untrained

TWO = Classification(Labels(("no", "yes"), {"0": 0, "1": 1}, trained=True))
NEW = {
    "TokenClassification": TokenClassification(Labels(("O", "B-X", "I-X"), {}, trained=False)),
    "QuestionAnswering": QuestionAnswering(Labels((), {}, trained=False)),
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "bert")


def test_a_trained_head_is_kept(model_dir):
    model = load_model(model_dir, TWO)
    stored = load_file(model_dir / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert model.config.id2label == {0: "no", 1: "yes"}


def test_half_precision_is_read_as_fp32(model_dir, tmp_path):
    folder = save_tiny(tmp_path / "half")
    stored = load_file(folder / "model.safetensors")
    half = {name: value.half() for name, value in stored.items()}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    assert load_model(folder, TWO).dtype == torch.float32


def test_a_new_head_depends_on_the_seed_only(tmp_path):
    folder = save_untrained(tmp_path)
    data = summarise(write_dataset(tmp_path / "data"))
    task = Task.of("sequence-classification", data, load_config(folder))
    assert not task.labels.trained
    heads = [load_model(folder, task, seed=seed).classifier.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_head_of_another_width_is_replaced_the_body_is_not(model_dir):
    task = Classification(Labels(("a", "b", "c"), {}, trained=False))
    model = load_model(model_dir, task)
    assert model.classifier.out_features == 3
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(model.state_dict()[query], load_file(model_dir / "model.safetensors")[query])


@pytest.mark.parametrize("fault", ["missing", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path, fault):
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


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    folder = save_tiny(tmp_path)
    torch.save({}, folder / "model.safetensors")
    with pytest.raises(InvalidModel):
        load_model(folder, TWO)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path):
    folder = save_tiny(tmp_path)
    config = load_config(folder)
    config.vocab_size = 20
    with pytest.raises(InvalidModel, match="only 20"):
        load_tokenizer(folder, config)


def test_an_unreadable_config_or_tokenizer_is_refused(tmp_path):
    folder = save_tiny(tmp_path)
    config = load_config(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InvalidModel, match="tokenizer"):
        load_tokenizer(folder, config)
    (folder / "config.json").write_text("{")
    with pytest.raises(InvalidModel, match=r"config\.json"):
        load_config(folder)


@pytest.mark.parametrize(
    ("family", "field"), [("bert", "hidden_dropout_prob"), ("modernbert", "layer_types")]
)
def test_a_field_of_another_type_is_refused_by_name(tmp_path, family, field):
    path = save_tiny(tmp_path, family) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: ["full_attention"]}))
    with pytest.raises(InvalidModel, match=field):
        load_config(tmp_path)


@pytest.mark.parametrize("head", NEW)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_for_tags_or_answers_on_a_classifier_of_five(tmp_path, family, head):
    folder = save_tiny(tmp_path, family, num_labels=5)
    model = load_model(folder, NEW[head])
    assert type(model).__name__.endswith(f"For{head}")
    outputs = model(torch.tensor([[5, 6, 7]]))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    if head == "QuestionAnswering":
        assert shapes == {"start_logits": (1, 3), "end_logits": (1, 3)}
    else:
        assert shapes == {"logits": (1, 3, 3)}
        assert model.config.id2label == {0: "O", 1: "B-X", 2: "I-X"}
    assert getattr(model.config, "problem_type", None) is None
