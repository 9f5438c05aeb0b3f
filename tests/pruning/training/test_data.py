import numpy as np
import pytest

from pruning.data.rows import summarise
from pruning.errors import InvalidData
from pruning.spec import Evaluation, PruneSpec
from pruning.training.data import load_data
from pruning.training.tasks import Task, load_config, load_tokenizer
from tests.support.data import lines, questions, tagged_sentences, write_dataset, write_jsonl
from tests.support.models import save_tiny


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"))


def load(folder, model_dir, *, seed=0, kind="sequence-classification", **evaluation):
    spec = PruneSpec(
        target_ratio=0.5, seed=seed, max_length=32, doc_stride=10, evaluate=Evaluation(**evaluation)
    )
    config, summary = load_config(model_dir), summarise(folder)
    task = Task.of(kind, summary, config)
    return load_data(folder, summary, spec, task, load_tokenizer(model_dir, config), lambda: None)


def rows(encoded):
    return [tuple(encoded[index]["input_ids"]) for index in range(len(encoded))]


def test_the_validation_file_is_for_evaluation(tmp_path, model_dir):
    found = load(write_dataset(tmp_path, train=40, validation=10), model_dir)
    assert (len(found.train), len(found.evaluation), found.split) == (40, 10, "validation")


def test_without_one_a_part_of_the_training_rows_is_set_apart(tmp_path, model_dir):
    write_dataset(tmp_path, train=40)
    found = load(tmp_path, model_dir, validation_fraction=0.25)
    assert (len(found.train), len(found.evaluation), found.split) == (30, 10, "train")
    assert not set(rows(found.train)) & set(rows(found.evaluation))
    again, other = (load(tmp_path, model_dir, validation_fraction=0.25, seed=seed) for seed in (0, 1))
    assert rows(again.evaluation) == rows(found.evaluation)
    assert rows(other.evaluation) != rows(found.evaluation)


def test_evaluation_rows_are_capped_without_bias(tmp_path, model_dir):
    found = load(write_dataset(tmp_path, train=10, validation=60), model_dir, max_rows=20)
    assert len(found.evaluation) == 20
    assert 0 < np.mean(found.evaluation.labels) < 1
    everything = load(tmp_path, model_dir)
    assert set(rows(found.evaluation)) < set(rows(everything.evaluation))


def test_too_few_rows_to_set_some_apart(tmp_path, model_dir):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "good", "label": 1}, {"text": "bad", "label": 0}])
    with pytest.raises(InvalidData, match="too few"):
        load(tmp_path, model_dir)


def test_tags_and_answers_are_set_apart_alike(tmp_path, model_dir):
    for kind, rows in (("token-classification", tagged_sentences(19)), ("question-answering", questions(20))):
        write_jsonl(tmp_path / "train.jsonl", rows)
        found = load(tmp_path, model_dir, kind=kind, validation_fraction=0.25)
        assert (found.train.examples, found.evaluation.examples) == (15, 5)


def test_questions_without_any_answer_are_too_few(tmp_path, model_dir):
    write_jsonl(tmp_path / "train.jsonl", questions(2, unanswered=2))
    kept = []
    for seed in range(6):
        try:
            kept.append(load(tmp_path, model_dir, kind="question-answering", seed=seed).train.examples)
        except InvalidData:
            kept.append(0)
    assert set(kept) == {0, 1}


def test_of_a_text_the_last_lines_are_set_apart_and_the_first_windows_evaluated(tmp_path):
    model = save_tiny(tmp_path / "model", "gpt2")
    write_jsonl(tmp_path / "data" / "train.jsonl", lines(40))
    tokenizer = load_tokenizer(model, load_config(model))
    whole = tokenizer("\n".join(row["text"] for row in lines(40)))["input_ids"]
    found = load(tmp_path / "data", model, kind="causal-lm", validation_fraction=0.25)
    last = tokenizer("\n".join(row["text"] for row in lines(40)[30:]))["input_ids"]
    assert found.split == "train"
    assert found.evaluation[0]["input_ids"] == last[:32]
    assert found.train[0]["input_ids"] == whole[:32]
    capped = load(tmp_path / "data", model, kind="causal-lm", validation_fraction=0.25, max_rows=1)
    assert rows(capped.evaluation) == rows(found.evaluation)[:1]


def test_a_text_that_is_one_line_is_too_short_to_set_some_apart(tmp_path):
    model = save_tiny(tmp_path / "model", "gpt2")
    write_jsonl(tmp_path / "data" / "train.jsonl", [{"text": "good film"}])
    with pytest.raises(InvalidData, match="too few"):
        load(tmp_path / "data", model, kind="causal-lm")
