import pytest

from pruning.data.labels import labels_for
from pruning.data.rows import DataSummary
from pruning.errors import InvalidData

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
