"""Tagged tokens and questions: their layouts, and every way in which a row may be wrong."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pruning.data.examples import Answer, Question, Tagged
from pruning.data.rows import examples, summarise
from pruning.errors import InvalidData
from pruning.spec import Columns
from tests.support.data import write_jsonl

SENTENCES = [
    {"tokens": ["Ann", "met", "Bob"], "ner_tags": ["B-PER", "O", "B-PER"]},
    {"tokens": ["rain"], "ner_tags": ["O"]},
]
CONTEXT = "Rain fell on Ann in May."
ASKED = {
    "context": CONTEXT,
    "question": "When?",
    "answers": {"text": ["in May", "May"], "answer_start": [17, 20]},
}
ANSWERS = (Answer("in May", 17), Answer("May", 20))


def dataset(folder, train, **others):
    for split, rows in {"train": train, **others}.items():
        write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


def refusal(folder, columns=None):
    with pytest.raises(InvalidData) as caught:
        summarise(folder, columns)
    assert caught.value.remedy
    return caught.value


class TestTagged:
    def test_a_folder_of_tags(self, tmp_path):
        found = summarise(dataset(tmp_path, SENTENCES, test=[{"tokens": ["who", "knows"]}]))
        assert (found.layout, found.tokens, found.tags, found.text) == ("tokens", "tokens", "ner_tags", None)
        assert (found.classes, found.numeric_label) == (("B-PER", "O"), False)
        assert found.columns == {"tokens": "list", "ner_tags": "list"}
        assert found.mean_characters == (11 + 4 + 9) / 3
        rows = list(examples(tmp_path / "train.jsonl", found))
        assert rows[0] == Tagged(("Ann", "met", "Bob"), ("B-PER", "O", "B-PER"))
        assert next(examples(tmp_path / "test.jsonl", found)) == Tagged(("who", "knows"), None)

    def test_numbers_are_tags(self, tmp_path):
        found = summarise(dataset(tmp_path, [{"words": ["a", "b"], "labels": [10, 2]}]))
        assert (found.tokens, found.tags, found.classes) == ("words", "labels", ("2", "10"))
        assert next(examples(tmp_path / "train.jsonl", found)).tags == ("10", "2")

    def test_parquet_holds_lists(self, tmp_path):
        pq.write_table(pa.Table.from_pylist(SENTENCES), tmp_path / "train.parquet")
        found = summarise(tmp_path)
        assert next(examples(tmp_path / "train.parquet", found)).tags == ("B-PER", "O", "B-PER")

    def test_a_list_of_words_makes_the_layout_not_the_name(self, tmp_path):
        rows = [{"words": "a text", "labels": "x"}, {"words": "a text", "labels": "y"}]
        assert summarise(dataset(tmp_path, rows)).layout == "text"

    def test_named_columns_win(self, tmp_path):
        rows = [
            SENTENCES[0] | {"pos": ["NN", "VB", "NN"], "text": "Ann met Bob", "label": side} for side in "ab"
        ]
        found = summarise(dataset(tmp_path, rows), Columns(tags="pos"))
        assert (found.tokens, found.tags, found.classes) == ("tokens", "pos", ("NN", "VB"))
        assert summarise(tmp_path, Columns(label="label")).layout == "text"
        error = refusal(tmp_path, Columns(tags="pos", label="label"))
        assert error.param == "/columns"
        assert "label and tags" in str(error)

    @pytest.mark.parametrize(
        ("row", "param", "problem"),
        [
            ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "tags", "1 tags for 2 tokens"),
            ({"tokens": [], "ner_tags": []}, "tokens", "is empty"),
            ({"tokens": None, "ner_tags": ["O"]}, "tokens", "is empty"),
            ({"tokens": "a b", "ner_tags": ["O"]}, "tokens", "not a list"),
            (
                {"tokens": ["a", 3], "ner_tags": ["O", "O"]},
                "tokens",
                "token 1 of column 'tokens' is not a text",
            ),
            ({"tokens": ["a"], "ner_tags": [None]}, "tags", "tag 0 is neither"),
            ({"tokens": ["a"], "ner_tags": [1.5]}, "tags", "tag 0 is neither"),
            ({"tokens": ["a"], "ner_tags": [True]}, "tags", "tag 0 is neither"),
            ({"tokens": ["a"], "ner_tags": [" "]}, "tags", "tag 0 is neither"),
            ({"tokens": ["a"], "ner_tags": [7]}, "tags", "mixes texts and numbers"),
            ({"tokens": ["a"]}, "tags", "is empty"),
        ],
    )
    def test_an_unusable_row_is_named_by_line(self, tmp_path, row, param, problem):
        error = refusal(dataset(tmp_path, [*SENTENCES, row]))
        assert "train.jsonl, line 3" in str(error)
        assert problem in str(error)
        assert error.param == f"/columns/{param}"

    def test_one_tag_is_refused(self, tmp_path):
        error = refusal(dataset(tmp_path, SENTENCES[1:]))
        assert "Every token of train.jsonl has the tag 'O'" in str(error)
        assert error.param == "/columns/tags"

    def test_validation_may_have_a_new_prefix_but_no_new_type(self, tmp_path):
        more = [{"tokens": ["Ann", "Lee"], "ner_tags": ["B-PER", "I-PER"]}]
        assert summarise(dataset(tmp_path, SENTENCES, validation=more)).classes == ("B-PER", "I-PER", "O")
        dataset(tmp_path, SENTENCES, validation=[*more, {"tokens": ["Rome"], "ner_tags": ["B-LOC"]}])
        assert "validation.jsonl, line 2: no training row has the tag 'B-LOC'" in str(refusal(tmp_path))

    def test_csv_cannot_hold_lists(self, tmp_path):
        (tmp_path / "train.csv").write_text('tokens,ner_tags\n"[\'a\']","[1]"\n')
        error = refusal(tmp_path)
        assert "send JSONL or Parquet" in str(error)
        assert error.param == "/columns/tokens"


class TestQuestions:
    @pytest.mark.parametrize(
        "answers",
        [
            {"answers": {"text": ["in May", "May"], "answer_start": [17, 20]}},
            {"answers": ["in May", "May"], "answer_starts": [17, 20]},
            {"answers": [{"text": "in May", "answer_start": 17}, {"text": "May", "answer_start": 20}]},
        ],
        ids=["squad", "two columns", "list of objects"],
    )
    @pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
    def test_a_folder_of_questions_in_any_layout(self, tmp_path, answers, suffix):
        row = {"id": "1", "context": CONTEXT, "question": "When?"} | answers
        if suffix == "jsonl":
            write_jsonl(tmp_path / "train.jsonl", [row])
        else:
            pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
        found = summarise(tmp_path)
        assert (found.layout, found.context, found.question, found.answers) == (
            "questions",
            "context",
            "question",
            "answers",
        )
        assert (found.classes, found.numeric_label, found.unanswerable) == (None, False, False)
        assert found.mean_characters == len(CONTEXT) + 5
        assert list(examples(tmp_path / f"train.{suffix}", found)) == [Question("When?", CONTEXT, ANSWERS)]

    def test_a_question_may_have_no_answer(self, tmp_path):
        nothing = ASKED | {"answers": {"text": [], "answer_start": []}}
        found = summarise(dataset(tmp_path, [ASKED, nothing], test=[ASKED | {"answers": None}]))
        assert found.unanswerable
        assert [row.answers for row in examples(tmp_path / "train.jsonl", found)] == [ANSWERS, ()]
        assert next(examples(tmp_path / "test.jsonl", found)).answers is None
        error = refusal(dataset(tmp_path, [nothing]))
        assert "No question of train.jsonl has an answer" in str(error)

    @pytest.mark.parametrize(
        ("change", "param", "problem"),
        [
            ({"context": " "}, "context", "the context column 'context' is empty"),
            ({"question": None}, "question", "the question column 'question' is empty"),
            (
                {"answers": {"text": ["May"], "answer_start": [19]}},
                "answers",
                "does not stand in the context at",
            ),
            (
                {"answers": {"text": ["May"], "answer_start": [-4]}},
                "answers",
                "does not stand in the context at",
            ),
            ({"answers": {"text": ["May"], "answer_start": ["20"]}}, "answers", "no place in the context"),
            ({"answers": {"text": ["May"], "answer_start": [True]}}, "answers", "no place in the context"),
            ({"answers": {"text": ["May"], "answer_start": []}}, "answers", "no place in the context"),
            ({"answers": {"text": ["", "May"], "answer_start": [0, 20]}}, "answers", "empty or not a text"),
            ({"answers": {"text": [], "answer_start": [3]}}, "answers", "each answer's text and start"),
            ({"answers": {"text": "May", "answer_start": 20}}, "answers", "each answer's text and start"),
            ({"answers": ["May"]}, "answers", "no place in the context"),
            ({"answers": [{"text": "May"}]}, "answers", "no place in the context"),
            ({"answers": "May"}, "answers", "not a list"),
            ({"answers": None}, "answers", "is empty"),
        ],
    )
    def test_an_unusable_row_is_named_by_line(self, tmp_path, change, param, problem):
        error = refusal(dataset(tmp_path, [ASKED, ASKED | change]))
        assert "train.jsonl, line 2" in str(error)
        assert problem in str(error)
        assert error.param == f"/columns/{param}"

    def test_csv_cannot_hold_lists(self, tmp_path):
        (tmp_path / "train.csv").write_text("context,question,answers\nRain.,What?,['Rain']\n")
        assert "send JSONL or Parquet" in str(refusal(tmp_path))

    def test_a_missing_column_is_named(self, tmp_path):
        rows = [{"passage": "Rain.", "question": "What?", "answers": []}]
        error = refusal(dataset(tmp_path, rows), Columns(answers="answers"))
        assert error.param == "/columns/context"
        assert "passage" in error.remedy
        assert refusal(tmp_path, Columns(answers="reply")).param == "/columns/answers"
