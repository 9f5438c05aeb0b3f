import pytest

from pruning.data.labels import labels_for
from pruning.data.rows import DataSummary
from pruning.errors import InvalidData, InvalidSpec

HEAD = {"architectures": ["BertForSequenceClassification"]}


def data(classes, *, numeric):
    fields = {"splits": {"train": 9}, "columns": {}, "text": "text", "label": "label", "sha256": {}}
    return DataSummary(**fields, classes=classes, numeric_label=numeric, mean_characters=1.0)


def config(*names, **fields):
    return HEAD | {"id2label": {str(index): name for index, name in enumerate(names)}} | fields


def test_a_trained_head_keeps_its_order_when_names_match():
    found = labels_for("sequence-classification", data(("ham", "spam"), numeric=False), config("SPAM", "HAM"))
    assert found.trained
    assert found.names == ("SPAM", "HAM")
    assert found.ids == {"ham": 1, "spam": 0}


def test_integers_are_indices_of_a_trained_head():
    found = labels_for("sequence-classification", data(("0", "2"), numeric=True), config("a", "b", "c"))
    assert found.trained
    assert found.names == ("a", "b", "c")
    assert found.ids == {"0": 0, "2": 2}


def test_a_head_without_names_has_the_usual_two():
    found = labels_for("sequence-classification", data(("0", "1"), numeric=True), HEAD)
    assert found.trained
    assert found.names == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("classes", "numeric", "head"),
    [
        (("0", "1"), True, {"architectures": ["BertModel"]}),
        (("0", "5"), True, config("a", "b")),
        (("-1", "1"), True, config("a", "b")),
        (("ham", "spam"), False, config("negative", "positive")),
        (("0", "1"), True, config("LABEL_0")),
    ],
    ids=["no head", "too large", "negative", "other names", "regression head"],
)
def test_a_head_that_does_not_fit_is_replaced(classes, numeric, head):
    found = labels_for("sequence-classification", data(classes, numeric=numeric), head)
    assert not found.trained
    assert found.names == classes
    assert found.ids == {name: index for index, name in enumerate(classes)}


def test_a_regression_needs_numbers_and_one_output():
    numbers = data(None, numeric=True)
    assert labels_for("regression", numbers, config("LABEL_0")).trained
    assert not labels_for("regression", numbers, config("a", "b")).trained
    with pytest.raises(InvalidData) as caught:
        labels_for("regression", data(("ham", "spam"), numeric=False), HEAD)
    assert caught.value.param == "/task"


def test_real_numbers_are_no_classes():
    with pytest.raises(InvalidData, match="not classes"):
        labels_for("sequence-classification", data(None, numeric=True), HEAD)


TAGGER = {"architectures": ["BertForTokenClassification"]}


def rows(**columns):
    fields = {"splits": {"train": 9}, "columns": {}, "sha256": {}, "mean_characters": 1.0}
    return DataSummary(**fields | columns)


TAGS = rows(tokens="tokens", tags="tags", classes=("0", "1", "2"), numeric_label=True)
ANSWERS = rows(context="context", question="question", answers="answers")


def test_a_head_is_trained_for_its_own_task_only():
    names = {"id2label": {"0": "O", "1": "B-X", "2": "I-X"}}
    assert labels_for("token-classification", TAGS, TAGGER | names).trained
    assert labels_for("token-classification", TAGS, TAGGER | names).names == ("O", "B-X", "I-X")
    assert not labels_for("token-classification", TAGS, HEAD | names).trained
    numbers = data(("0", "1", "2"), numeric=True)
    assert not labels_for("sequence-classification", numbers, TAGGER | names).trained
    reader = {"architectures": ["RobertaForQuestionAnswering"]}
    assert labels_for("question-answering", ANSWERS, reader).trained
    assert not labels_for("question-answering", ANSWERS, HEAD).trained


@pytest.mark.parametrize(
    ("task", "found", "remedy"),
    [
        ("sequence-classification", TAGS, "token-classification"),
        ("regression", ANSWERS, "question-answering"),
        ("question-answering", TAGS, "token-classification"),
        ("token-classification", data(("0", "1"), numeric=True), "sequence-classification"),
    ],
)
def test_rows_that_do_not_fit_the_task_are_refused(task, found, remedy):
    with pytest.raises(InvalidData) as caught:
        labels_for(task, found, HEAD)
    assert caught.value.param == "/task"
    assert f"Use task {remedy}" in caught.value.remedy


class TestNames:
    def test_integers_take_the_names_given(self):
        found = labels_for("token-classification", TAGS, HEAD, ["O", "B-X", "I-X", "B-Y"])
        assert found.names == ("O", "B-X", "I-X", "B-Y")
        assert found.ids == {"0": 0, "1": 1, "2": 2, "3": 3}
        assert not found.trained

    def test_a_trained_head_keeps_its_own_order(self):
        head = TAGGER | {"id2label": {"0": "B-X", "1": "I-X", "2": "O"}}
        found = labels_for("token-classification", TAGS, head, ["O", "B-X", "I-X"])
        assert found.trained
        assert found.names == ("B-X", "I-X", "O")
        assert found.ids == {"0": 2, "1": 0, "2": 1}

    def test_a_trained_head_without_names_takes_them(self):
        head = TAGGER | {"id2label": {str(index): f"LABEL_{index}" for index in range(3)}}
        found = labels_for("token-classification", TAGS, head, ["O", "B-X", "I-X"])
        assert (found.trained, found.names) == (True, ("O", "B-X", "I-X"))

    @pytest.mark.parametrize(
        ("task", "found", "names", "problem"),
        [
            ("regression", data(("0", "1"), numeric=True), ["a", "b"], "no meaning for regression"),
            ("question-answering", ANSWERS, ["a", "b"], "no meaning for question-answering"),
            ("sequence-classification", data(("x", "y"), numeric=False), ["a", "b"], "whole numbers"),
            ("sequence-classification", data(None, numeric=True), ["a", "b"], "whole numbers"),
            ("token-classification", TAGS, ["a", "A", "b"], "different names"),
            ("token-classification", TAGS, ["a"], "different names"),
            ("token-classification", TAGS, ["a", "b"], "has the label 2"),
            ("sequence-classification", data(("-1", "1"), numeric=True), ["a", "b"], "has the label -1"),
        ],
    )
    def test_names_that_do_not_fit_are_refused(self, task, found, names, problem):
        with pytest.raises(InvalidSpec, match=problem) as caught:
            labels_for(task, found, HEAD, names)
        assert caught.value.param == "/label_names"
        assert caught.value.remedy


@pytest.mark.parametrize("where", ["classes", "names"])
def test_a_tag_set_may_not_mix_tags_with_and_without_prefixes(where):
    def found(*tags):
        summary = DataSummary(
            tokens="tokens",
            tags="tags",
            splits={"train": 9},
            columns={},
            sha256={},
            mean_characters=1.0,
            classes=tags if where == "classes" else tuple(map(str, range(len(tags)))),
            numeric_label=where == "names",
        )
        return labels_for("token-classification", summary, {}, tags if where == "names" else None).names

    assert found("B-X", "I-X", "O") == ("B-X", "I-X", "O")
    assert found("ADJ", "NOUN", "O") == ("ADJ", "NOUN", "O")
    for tags, shown in ((("B-X", "O", "Y"), "'O', 'Y'"), (("B-", "I-X", "O"), "'B-', 'O'")):
        with pytest.raises(InvalidData, match=shown) as caught:
            found(*tags)
        assert caught.value.param == ("/columns/tags" if where == "classes" else "/label_names")
        assert "B-" in caught.value.remedy
