import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pruning.data.limits import Limits
from pruning.data.readers import find_splits, read
from pruning.errors import InvalidData

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ROW = '{"text": "a", "label": 1}\n'


def refusal(path, limits=None):
    with pytest.raises(InvalidData) as caught:
        list(read(path, limits or Limits()))
    assert path.name in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class TestJsonl:
    def test_yields_rows_with_their_line_numbers(self, tmp_path):
        path = written(tmp_path, "train.jsonl", ROW + '{"text": "b", "label": null}')
        assert list(read(path)) == [(1, {"text": "a", "label": 1}), (2, {"text": "b", "label": None})]

    def test_a_byte_order_mark_is_no_part_of_the_first_line(self, tmp_path):
        path = written(tmp_path, "train.jsonl", b"\xef\xbb\xbf" + ROW.encode())
        assert next(read(path))[1]["text"] == "a"

    @pytest.mark.parametrize(
        ("broken", "problem"),
        [
            ('{"text": "a", ', "not valid JSON"),
            ("\n", "empty"),
            ("[1, 2]\n", "not a JSON object"),
            ('{"text": NaN}\n', "NaN"),
            (b'{"text": "\xff"}\n', "not UTF-8"),
            ('{"text": ' + "[" * 20 + "]" * 20 + "}\n", "nested deeper"),
            ('{"text": ' + "[" * 100_000 + "\n", "nested too deeply"),
            ('{"text": ' + "9" * 5000 + "}\n", "integer"),
        ],
        ids=["cut", "blank", "list", "nan", "latin1", "nested", "recursion", "digits"],
    )
    def test_a_broken_line_is_named(self, tmp_path, broken, problem):
        content = ROW.encode() * 2 + (broken if isinstance(broken, bytes) else broken.encode())
        message = refusal(written(tmp_path, "train.jsonl", content))
        assert "line 3" in message
        assert problem in message

    def test_limits(self, tmp_path):
        path = written(tmp_path, "train.jsonl", ROW * 3)
        assert "line 3" in refusal(path, Limits(rows=2))
        assert "longer than 10 bytes" in refusal(path, Limits(line_bytes=10))
        assert "more than 1 columns" in refusal(path, Limits(columns=1))

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.dictionaries(TEXTS.filter(bool), TEXTS | st.integers() | st.booleans())))
    def test_reads_back_what_json_writes(self, tmp_path, rows):
        path = tmp_path / "train.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert [row for _, row in read(path)] == rows


class TestCsv:
    def test_a_quoted_field_may_span_lines(self, tmp_path):
        path = written(tmp_path, "train.csv", 'text,label\n"a\n""b""",0\nc,1\n')
        assert list(read(path)) == [(2, {"text": 'a\n"b"', "label": "0"}), (4, {"text": "c", "label": "1"})]

    @pytest.mark.parametrize(
        ("rest", "line", "problem"),
        [
            ("b\n", 3, "1 fields where the header has 2"),
            ("b,1,2\n", 3, "3 fields where the header has 2"),
            ('"b,1\nc,0\n', 3, "not valid CSV"),
            ('"b"x,1\n', 3, "not valid CSV"),
            ("\n", 3, "empty"),
        ],
        ids=["few", "many", "open quote", "stray text", "blank"],
    )
    def test_a_broken_line_is_named(self, tmp_path, rest, line, problem):
        message = refusal(written(tmp_path, "train.csv", "text,label\na,0\n" + rest))
        assert f"line {line}" in message
        assert problem in message

    def test_a_header_names_every_column_once(self, tmp_path):
        assert "not unique" in refusal(written(tmp_path, "train.csv", "text,text\na,b\n"))

    def test_a_quote_never_closed_is_not_read_into_memory_whole(self, tmp_path):
        path = written(tmp_path, "train.csv", 'text,label\n"' + "word " * 100_000 + "\n")
        assert "field limit" in refusal(path)


class TestParquet:
    def test_yields_rows_by_number(self, tmp_path):
        path = tmp_path / "train.parquet"
        pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), path)
        assert list(read(path)) == [(1, {"text": "a", "label": 0}), (2, {"text": "b", "label": 1})]

    def test_lists_and_structs_of_texts_and_numbers_are_read_images_and_maps_are_not(self, tmp_path):
        path = tmp_path / "train.parquet"
        answers = {"text": ["a"], "answer_start": [3]}
        image = pa.array(
            [{"bytes": b"x", "path": "p"}], pa.struct({"bytes": pa.binary(), "path": pa.string()})
        )
        counts = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))
        columns = {"tags": [[1, 2]], "answers": [answers], "image": image, "counts": counts}
        pq.write_table(pa.table(columns | {"blobs": pa.array([[b"x"]])}), path)
        assert list(read(path)) == [(1, {"tags": [1, 2], "answers": answers})]

    def test_a_file_that_is_none_is_refused(self, tmp_path):
        assert "not valid Parquet" in refusal(written(tmp_path, "train.parquet", b"PAR1" + b"\0" * 50))

    def test_a_cut_file_is_refused(self, tmp_path):
        path = tmp_path / "train.parquet"
        pq.write_table(pa.table({"text": ["a"] * 1000}), path)
        path.write_bytes(path.read_bytes()[:-20])
        refusal(path)

    def test_limits(self, tmp_path):
        path = tmp_path / "train.parquet"
        pq.write_table(pa.table({"text": ["a"] * 10, "label": [1] * 10}), path)
        assert "more than 5 rows" in refusal(path, Limits(rows=5))
        assert "more than 1 columns" in refusal(path, Limits(columns=1))
        assert "row group" in refusal(path, Limits(row_group_bytes=10))


def test_another_kind_of_file_is_refused(tmp_path):
    assert ".jsonl" in refusal(written(tmp_path, "train.txt", "a"))


def test_splits_need_training_rows_and_one_file_each(tmp_path):
    with pytest.raises(InvalidData, match="no training file"):
        find_splits(tmp_path)
    written(tmp_path, "train.jsonl", ROW)
    written(tmp_path, "test.csv", "text\na\n")
    assert list(find_splits(tmp_path)) == ["train", "test"]
    written(tmp_path, "train.csv", "text,label\na,1\n")
    with pytest.raises(InvalidData, match=r"train\.jsonl and train\.csv"):
        find_splits(tmp_path)
