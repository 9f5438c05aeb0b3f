"""Who may teach: refused are other families, vocabularies, labels and shorter memories, each with its remedy."""

import json

import pytest

from pruning.errors import InvalidSpec
from pruning.planning.plan import resolve
from pruning.planning.teacher import check_teacher, check_vocabulary, vocabulary
from pruning.spec import PruneSpec
from tests.pruning.planning.test_plan import CONFIG, PRETRAINED, data
from tests.support.models import FAMILIES, tiny_tokenizer

STUDENT = CONFIG | {"vocab_size": 100, "type_vocab_size": 2}
LARGE = STUDENT | {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
NAMED = data(classes=("bad", "good"), numeric_label=False)


def labelled(config, *names):
    return config | {"id2label": {str(index): name for index, name in enumerate(names)}}


def plan(teacher, student=STUDENT, summary=None, **request):
    fields = {"target_ratio": 0.5, "method": "leap", "settings": {"max_steps": 100}} | request
    return resolve(PruneSpec(**fields), student, summary or data(), teacher=teacher)


def refusal(teacher, student=STUDENT, summary=None, **request):
    with pytest.raises(InvalidSpec) as caught:
        plan(teacher, student, summary, **request)
    assert caught.value.param == "/teacher"
    assert caught.value.remedy
    return str(caught.value)


def test_a_larger_model_of_the_family_may_teach():
    assert plan(LARGE) == plan(None)
    assert plan(LARGE, PRETRAINED | STUDENT | {"architectures": ["BertModel"]}).spec.finetune


def test_the_same_labels_in_the_same_order():
    student = labelled(STUDENT, "bad", "good")
    assert plan(labelled(LARGE, "Bad", "Good"), student, NAMED)
    assert "0: bad, 1: good" in refusal(labelled(LARGE, "good", "bad"), student, NAMED)
    assert "another order" in refusal(labelled(LARGE, "bad", "good", "so so"), student, NAMED)
    assert "no trained head" in refusal(labelled(LARGE, "happy", "sad"), student, NAMED)
    assert "no trained head" in refusal(LARGE | {"architectures": ["BertModel"]}, student, NAMED)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta'"),
        ({"model_type": "t5"}, "cannot be used"),
        ({"hidden_size": 0}, "cannot be used"),
        ({"vocab_size": 101}, "vocab_size 101"),
        ({"max_position_embeddings": 64}, "at most 64"),
        ({"type_vocab_size": 1}, "segments"),
    ],
)
def test_a_teacher_that_cannot_read_the_rows_is_refused(change, problem):
    assert problem in refusal(LARGE | change)


def test_attention_is_taught_only_by_as_many_heads():
    assert plan(LARGE, distill={"hidden": 1.0})
    assert "4 in a layer, the model 2" in refusal(LARGE, distill={"attention": 1.0})
    assert plan(LARGE | {"num_attention_heads": 2}, distill={"attention": 1.0})


def test_layers_that_have_no_counterpart_are_refused():
    """The student has 2 layers, the teacher 6, 4 or 3."""
    assert plan(LARGE, distill={"hidden": 1.0}).spec.distill
    odd = LARGE | {"num_hidden_layers": 3}
    assert "3 is no multiple of 2" in refusal(odd, distill={"hidden": 1.0})
    assert 'layers to "nearest"' in refusal(odd, distill={"hidden": 1.0})
    heads = odd | {"num_attention_heads": STUDENT["num_attention_heads"]}
    assert "distill.attention to 0" in refusal(heads, distill={"attention": 1.0})
    assert plan(odd, distill={"hidden": 1.0, "layers": "nearest"}).spec.distill
    assert plan(odd, distill={"temperature": 3.0}).spec.distill
    ordered = {"hidden": 1.0, "layers": "nearest_in_order"}
    assert "3 layers of the teacher need a layer each" in refusal(odd, distill=ordered)
    assert "4 layers of the teacher" in refusal(LARGE, distill=ordered)
    assert plan(LARGE | {"num_hidden_layers": 2}, distill=ordered).spec.distill


@pytest.mark.parametrize(
    "request_",
    [
        {"distill": False},
        {"method": "magnitude", "settings": {}},
        {"target_ratio": 0, "method": "auto", "settings": {}},
    ],
)
def test_a_job_without_distillation_needs_no_teacher(request_):
    assert "needs no teacher" in refusal(LARGE, **request_)


def test_what_the_configs_say_is_known_without_data():
    check_teacher(PruneSpec(target_ratio=0.5), STUDENT, LARGE)
    with pytest.raises(InvalidSpec, match="vocab_size"):
        check_teacher(PruneSpec(target_ratio=0.5), STUDENT, LARGE | {"vocab_size": 7})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vocabulary_is_read_from_the_files_of_a_tokenizer(family, tmp_path):
    tokenizer = tiny_tokenizer(family)
    tokenizer.save_pretrained(tmp_path)
    found = vocabulary("tokenizer.json", (tmp_path / "tokenizer.json").read_bytes())
    assert found == tokenizer.get_vocab()


def test_vocabularies_come_in_several_files():
    words = {"[PAD]": 0, "good": 1, "film": 2}
    assert vocabulary("vocab.txt", b"[PAD]\ngood\nfilm\n") == words
    assert vocabulary("vocab.json", json.dumps(words).encode()) == words
    pieces = {
        "model": {"vocab": [["[PAD]", 0.0], ["good", -1.5]]},
        "added_tokens": [{"id": 2, "content": "film"}],
    }
    assert vocabulary("tokenizer.json", json.dumps(pieces).encode()) == words
    assert vocabulary("tokenizer.json", b"{}") is None


def test_another_vocabulary_is_refused_by_its_words():
    check_vocabulary({"a": 0, "b": 1}, {"b": 1, "a": 0})
    with pytest.raises(InvalidSpec, match="2 tokens differ, such as 'b', 'c'") as caught:
        check_vocabulary({"a": 0, "b": 1}, {"a": 0, "c": 1})
    assert caught.value.param == "/teacher"
