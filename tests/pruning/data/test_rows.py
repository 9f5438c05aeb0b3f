import hashlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pruning.data.examples import Example
from pruning.data.rows import examples, summarise
from pruning.errors import InvalidData
from pruning.spec import Columns
from tests.support.data import write_jsonl

ROWS = [{"sentence": "good film", "label": 1}, {"sentence": "bad", "label": 0}]


def dataset(folder, train=ROWS, **others):
    for split, rows in {"train": train, **others}.items():
        write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


def refusal(folder, columns=None):
    with pytest.raises(InvalidData) as caught:
        summarise(folder, columns)
    assert caught.value.remedy
    return caught.value


def test_says_what_a_folder_holds(tmp_path):
    folder = dataset(tmp_path, validation=ROWS, test=[{"sentence": "no label here"}])
    found = summarise(folder)
    assert found.splits == {"train": 2, "validation": 2, "test": 1}
    assert found.columns == {"sentence": "text", "label": "integer"}
    assert (found.text, found.text_pair, found.label) == ("sentence", None, "label")
    assert found.classes == ("0", "1")
    assert found.numeric_label
    assert found.mean_characters == pytest.approx((9 + 3) * 2 / 5 + 13 / 5, abs=1e-3)
    digest = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    assert found.sha256["train.jsonl"] == digest


def test_classes_are_ordered_by_value_or_name(tmp_path):
    numbers = [{"text": "a", "label": label} for label in (10, 2, 1.0, 2)]
    assert summarise(dataset(tmp_path / "numbers", numbers)).classes == ("1", "2", "10")
    names = [{"text": "a", "label": label} for label in ("spam", "ham")]
    found = summarise(dataset(tmp_path / "names", names))
    assert found.classes == ("ham", "spam")
    assert not found.numeric_label


def test_real_numbers_are_no_classes(tmp_path):
    rows = [{"text": "a", "score": score} for score in (1, 2.5, 3)]
    found = summarise(dataset(tmp_path, rows))
    assert found.classes is None
    assert found.numeric_label
    labels = [example.label for example in examples(tmp_path / "train.jsonl", found)]
    assert [float(label) for label in labels] == [1.0, 2.5, 3.0]


def test_csv_numbers_are_numbers_only_when_all_are(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,1\nb,0\n")
    assert summarise(tmp_path).numeric_label
    (tmp_path / "train.csv").write_text("text,label\na,1\nb,none\n")
    found = summarise(tmp_path)
    assert found.classes == ("1", "none")
    assert not found.numeric_label


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("premise", "hypothesis", "label"), ("premise", "hypothesis")),
        (("question", "sentence", "label"), ("question", "sentence")),
        (("Sentence1", "Sentence2", "Label"), ("Sentence1", "Sentence2")),
        (("text", "idx", "class"), ("text", None)),
        (("words", "label"), ("words", None)),
    ],
)
def test_usual_names_are_known(tmp_path, names, expected):
    rows = [dict.fromkeys(names[:-1], "some words") | {names[-1]: label} for label in (0, 1)]
    rows = [row | {"idx": 7} if "idx" in row else row for row in rows]
    found = summarise(dataset(tmp_path, rows))
    assert (found.text, found.text_pair) == expected
    assert found.label == names[-1]


def test_named_columns_win(tmp_path):
    rows = [{"text": "x", "title": "y", "label": 0, "kind": label} for label in ("p", "q")]
    found = summarise(dataset(tmp_path, rows), Columns(text="title", label="kind"))
    assert (found.text, found.text_pair, found.label) == ("title", None, "kind")
    assert list(examples(tmp_path / "train.jsonl", found))[1] == Example("y", None, "q")


@pytest.mark.parametrize(
    ("rows", "columns", "param"),
    [
        ([{"premise": "a", "hypothesis": "b"}], None, "/columns/label"),
        ([{"first": "a", "second": "b", "label": 1}], None, "/columns/text"),
        (ROWS, Columns(label="mood"), "/columns/label"),
        (ROWS, Columns(text="body"), "/columns/text"),
        (ROWS, Columns(text="sentence", text_pair="other"), "/columns/text_pair"),
    ],
)
def test_a_missing_column_is_named_with_those_there_are(tmp_path, rows, columns, param):
    error = refusal(dataset(tmp_path, rows), columns)
    assert error.param == param
    assert all(name in str(error) for name in rows[0])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"sentence": "  ", "label": 1}, "empty"),
        ({"sentence": None, "label": 1}, "empty"),
        ({"label": 1}, "empty"),
        ({"sentence": 5, "label": 1}, "not a text"),
        ({"sentence": "a", "label": None}, "empty"),
        ({"sentence": "a", "label": ""}, "empty"),
        ({"sentence": "a", "label": [1]}, "neither text nor number"),
        ({"sentence": "a", "label": "good"}, "mixes"),
    ],
)
def test_an_unusable_row_is_named_by_line(tmp_path, row, problem):
    error = refusal(dataset(tmp_path, [*ROWS, row]))
    assert "train.jsonl, line 3" in str(error)
    assert problem in str(error)


def test_an_empty_row_of_parquet_is_named_by_row(tmp_path):
    pq.write_table(pa.table({"text": ["a", ""], "label": [0, 1]}), tmp_path / "train.parquet")
    assert "train.parquet, row 2" in str(refusal(tmp_path))


def test_one_class_is_refused(tmp_path):
    error = refusal(dataset(tmp_path, [ROWS[0], ROWS[0]]))
    assert "train.jsonl" in str(error)
    assert error.param == "/columns/label"


def test_a_class_that_only_validation_has_is_named_by_line(tmp_path):
    train = [{"text": "a", "label": label} for label in ("x", "y")]
    folder = dataset(tmp_path, train, validation=[*train, {"text": "a", "label": "z"}])
    assert "validation.jsonl, line 3" in str(refusal(folder))


def test_too_many_classes_are_no_classes(tmp_path):
    rows = [{"text": "a", "label": f"free text {index}"} for index in range(1200)]
    assert "1000 classes" in str(refusal(dataset(tmp_path, rows)))


def test_an_empty_file_is_refused(tmp_path):
    assert "no rows" in str(refusal(dataset(tmp_path, validation=[])))


def test_a_beat_may_stop_it(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        summarise(dataset(tmp_path), beat=stop)


def test_no_torch_is_imported():
    modules = "pruning, pruning.data.rows, pruning.report, pruning.data.labels"
    program = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
