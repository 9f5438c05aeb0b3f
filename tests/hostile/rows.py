"""Datasets that are broken, that lie, or that are larger in memory than on disk."""

import gzip
import io
import json
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.hostile.case import Case, Make, of_dataset
from tests.hostile.weights import FOREIGN

GOOD = b'{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n'


def third(line: bytes) -> Make:
    """A JSONL file whose third line is this one."""
    return lambda: GOOD + line + b"\n"


def every(**row: Any) -> Make:
    """A JSONL file of this row twice, with other labels unless it has one."""
    return lambda: b"".join(json.dumps({"text": "a", "label": i} | row).encode() + b"\n" for i in (0, 1))


def long_labels() -> bytes:
    """Labels that take much room when all are kept."""
    return b"".join(b'{"text": "a", "label": "%d%s"}\n' % (i, b"x" * 100_000) for i in range(40))


JSONL: dict[str, Make] = {
    "empty": lambda: b"",
    "newlines": lambda: b"\n" * 100_000,
    "NULs": lambda: bytes(100_000),
    "list": third(b"[1]"),
    "number": third(b"1"),
    "null": third(b"null"),
    "cut": third(b'{"text": "a", "lab'),
    "two on a line": third(b'{"text": "a", "label": 0}{"text": "a", "label": 0}'),
    "single quotes": third(b"{'text': 'a', 'label': 1}"),
    "one array over lines": lambda: b"[\n" + GOOD + b"]",
    "blank": third(b"  "),
    "not UTF-8": third(b'{"text": "\xff", "label": 1}'),
    "UTF-16": lambda: GOOD.decode().encode("utf-16"),
    "UTF-32": lambda: GOOD.decode().encode("utf-32"),
    "gzip": lambda: gzip.compress(GOOD * 100_000),
    "BOM in the middle": third(b'\xef\xbb\xbf{"text": "a", "label": 1}'),
    "NaN": third(b'{"text": "a", "label": NaN}'),
    "Infinity": third(b'{"text": "a", "label": -Infinity}'),
    "1e999": third(b'{"text": "a", "label": 1e999}'),
    "label of 400 digits": third(b'{"text": "a", "label": ' + b"9" * 400 + b"}"),
    "label of 4,000 digits": third(b'{"text": "a", "label": ' + b"9" * 4000 + b"}"),
    "label of 5,000 digits": third(b'{"text": "a", "label": ' + b"9" * 5000 + b"}"),
    "half a surrogate pair": third(b'{"text": "\\ud800", "label": 1}'),
    "label of half a surrogate pair": every(label="\ud800"),
    "column of half a surrogate pair": every(**{"\udfff": 1}),
    "NUL escaped": third(b'{"text": "\\u0000", "label": 1}'),
    "NUL in a label": every(label="\0"),
    "NUL in a column": every(**{"a\0": 1}),
    "raw NUL": third(b'{"text": "\x00", "label": 1}'),
    "deep lists": third(b'{"text": ' + b"[" * 400_000),
    "deep objects": third(b'{"text": ' + b'{"a":' * 100_000),
    "nine levels": third(b'{"text": "a", "label": 1, "x": ' + b"[" * 9 + b"]" * 9 + b"}"),
    "10,000 columns": lambda: json.dumps({f"c{i}": 1 for i in range(10_000)}).encode(),
    "new columns in every row": lambda: b"".join(
        json.dumps({"text": "a", "label": i % 2, f"c{i}": 1}).encode() + b"\n" for i in range(300)
    ),
    "column named by a megabyte": lambda: b'{"text": "a", "label": 1, "' + b"x" * 900_000 + b'": 1}\n',
    "250 columns of long names": lambda: json.dumps({f"{i}" + "x" * 3000: 1 for i in range(250)}).encode(),
    "line of two megabytes": third(b'{"text": "' + b"x" * 2_000_000 + b'", "label": 1}'),
    "long labels": long_labels,
    "long tags": lambda: b"".join(
        b'{"tokens": ["a"], "ner_tags": ["%d%s"]}\n' % (i, b"x" * 100_000) for i in range(20)
    ),
    "1,200 classes": lambda: b"".join(b'{"text": "a", "label": "c%d"}\n' % i for i in range(1200)),
    "one class": lambda: b'{"text": "a", "label": 0}\n' * 2,
    "text is a number": every(text=1),
    "text is a list": every(text=["a"]),
    "text is an object": every(text={"$ref": "#"}),
    "label is an object": every(label={}),
    "label is null": every(label=None),
    "label is true and text": lambda: b'{"text": "a", "label": true}\n{"text": "a", "label": "b"}\n',
    "tags of another length": lambda: b'{"tokens": ["a", "b"], "ner_tags": [0]}\n',
    "answer outside": lambda: (
        b'{"context": "a", "question": "b", "answers": {"text": ["a"], "answer_start": [9]}}\n'
    ),
    "answer at 10**30": lambda: (
        b'{"context": "a", "question": "b", "answers": {"text": ["a"], "answer_start": [%d]}}\n' % 10**30
    ),
    "answer before the start": lambda: (
        b'{"context": "ab", "question": "b", "answers": {"text": ["b"], "answer_start": [-1]}}\n'
    ),
    "answers are text": lambda: b'{"context": "a", "question": "b", "answers": "a"}\n',
    "XML of a billion laughs": lambda: b'<!DOCTYPE a [<!ENTITY b "ha">]><a>&b;</a>\n',
    "YAML of a billion laughs": lambda: b"a: &a [lol]\nb: &b [*a,*a,*a]\n",
}
CSV: dict[str, Make] = {
    "empty": lambda: b"",
    "header alone": lambda: b"text,label\n",
    "NULs": lambda: bytes(100_000),
    "NUL in a field": lambda: b"text,label\na\x00,1\nb,0\n",
    "NUL in a label": lambda: b"text,label\na,\x001\nb,0\n",
    "not UTF-8": lambda: b"text,label\n\xff,1\n",
    "UTF-16": lambda: "text,label\na,1\n".encode("utf-16"),
    "columns named alike": lambda: b"text,text\na,1\n",
    "column without a name": lambda: b"text,\na,1\n",
    "column named by 100,000": lambda: b"text,label," + b"x" * 100_000 + b"\na,0,1\nb,1,1\n",
    "400,000 columns": lambda: b"a," * 400_000 + b"a\n",
    "row of 400,000 fields": lambda: b"text,label\n" + b"a," * 400_000 + b"a\n",
    "row of many lines": lambda: b"text,label\n" + b'"\n",' * 600_000 + b'"\n"\n',
    "quote never closed": lambda: b'text,label\n"' + b"word " * 100_000,
    "quote never closed, short lines": lambda: b'text,label\n"' + b"word\n" * 100_000,
    "text behind a quote": lambda: b'text,label\n"a"x,1\n',
    "too few fields": lambda: b"text,label\na\n",
    "too many fields": lambda: b"text,label\na,1,2\n",
    "line of two megabytes": lambda: b"text,label\n" + b"x" * 2_000_000 + b",1\n",
    "field of 200,000": lambda: b"text,label\n" + b"x" * 200_000 + b",1\n",
    "blank line": lambda: b"text,label\na,1\n\nb,0\n",
    "lists": lambda: b'tokens,ner_tags\n"[""a""]","[0]"\n',
    "long labels": lambda: b"text,label\n" + b"".join(b"a,%d%s\n" % (i, b"x" * 100_000) for i in range(40)),
}


def parquet(table: pa.Table | dict[str, Any], **options: Any) -> bytes:
    """A Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), buffer, **options)
    return buffer.getvalue()


def plain() -> bytes:
    """A good Parquet file."""
    return parquet({"text": ["a", "b"] * 500, "label": [0, 1] * 500})


def footer(change: bytes, at: int = -8) -> bytes:
    """A good Parquet file with bytes written over from `at` on."""
    content = bytearray(plain())
    position = at % len(content)
    content[position : position + len(change)] = change
    return bytes(content)


def repeated(kind: str, rows: int) -> pa.Array:
    """One text of a megabyte so many times, as Arrow's dictionary keeps it."""
    indices = pa.array([0] * rows, pa.int32())
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 2**20]))
    if kind == "flat":
        return texts
    return pa.ListArray.from_arrays(pa.array([0, rows], pa.int32()), texts)


def large_page(megabytes: int) -> bytes:
    """A text of zeros that is small when it is compressed."""
    options = {"use_dictionary": False, "compression": "zstd", "write_statistics": False}
    return parquet({"text": ["0" * (megabytes << 20)], "label": ["a"]}, **options)


def in_page_header(before: int, after: int) -> bytes:
    """A Parquet file whose first page says another uncompressed size (Thrift's zigzag varint)."""
    content = parquet(
        {"text": ["x" * 1000], "label": [0]}, use_dictionary=False, compression="none", write_statistics=False
    )
    old, new = (_varint(number << 1) for number in (before, after))
    position = content.index(b"\x15\x00\x15" + old) + 3
    return content[:position] + new + content[position + len(old) :]


def _varint(number: int) -> bytes:
    spelled = bytearray()
    while number >= 128:
        spelled.append(number & 127 | 128)
        number >>= 7
    return bytes([*spelled, number])


PARQUET: dict[str, Make] = {
    "empty": lambda: b"",
    "magic alone": lambda: b"PAR1",
    "magic twice": lambda: b"PAR1PAR1",
    "zeros between": lambda: b"PAR1" + bytes(1000) + b"PAR1",
    "wrong magic": lambda: b"PAR2" + plain()[4:-4] + b"PAR2",
    "encrypted": lambda: b"PARE" + plain()[4:-4] + b"PARE",
    "cut at the end": lambda: plain()[:-20],
    "cut at the start": lambda: plain()[20:],
    "cut in the middle": lambda: plain()[:200] + plain()[400:],
    "JSONL": lambda: GOOD,
    "Arrow": lambda: b"ARROW1\0\0" + bytes(1000),
    "footer of 2**31": lambda: footer(struct.pack("<I", 2**31)),
    "footer of 2**32-1": lambda: footer(b"\xff" * 4),
    "footer of zero": lambda: footer(bytes(4)),
    "footer of noise": lambda: footer(b"\xf5" * 64, -120),
    "pages of noise": lambda: footer(b"\xf5" * 64, 4),
    "page of zero": lambda: footer(bytes(64), 4),
    "no rows": lambda: parquet({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}),
    "no columns": lambda: parquet(pa.table({})),
    "1,000 columns": lambda: parquet({f"c{i}": [1] for i in range(1000)}),
    "columns named alike": lambda: parquet(pa.table([["a"], ["b"]], ["text", "text"])),
    "column named by a megabyte": lambda: parquet({"text": ["a", "b"], "label": [0, 1], "x" * 10**6: [1, 1]}),
    "column of a NUL": lambda: parquet({"text": ["a", "b"], "label": [0, 1], "x\0": [1, 1]}),
    "NUL in a text": lambda: parquet({"text": ["a", "\0"], "label": [0, 1]}),
    "NUL in a label": lambda: parquet({"text": ["a", "b"], "label": ["c", "\0"]}),
    "text is binary": lambda: parquet({"text": [b"\xff", b"\xfe"], "label": [0, 1]}),
    "text not UTF-8": lambda: plain().replace(b"\x01\x00\x00\x00a", b"\x01\x00\x00\x00\xff"),
    "label is a date": lambda: parquet({"text": ["a", "b"], "label": pa.array([0, 1], pa.timestamp("s"))}),
    "label is NaN": lambda: parquet({"text": ["a", "b"], "label": [0.0, float("nan")]}),
    "deep lists": lambda: parquet({"text": ["a"], "label": pa.array([[[[[[[[[[1]]]]]]]]]])}),
    "text of 64 megabytes": partial(large_page, 64),
    "a megabyte 400 times": lambda: parquet({"text": repeated("flat", 400), "label": ["a"] * 400}),
    "a megabyte 400 times in a list": lambda: parquet(
        {"tokens": repeated("list", 400), "ner_tags": pa.array([[0] * 400])}
    ),
    "prefixes that grow": lambda: parquet(
        {"text": ["x" * 2**20] * 40, "label": [0, 1] * 20},
        use_dictionary=False,
        column_encoding={"text": "DELTA_BYTE_ARRAY", "label": "PLAIN"},
    ),
    "a list of 20 million": lambda: parquet(
        {
            "x": pa.ListArray.from_arrays(
                pa.array([0, 20_000_000], pa.int32()), pa.nulls(20_000_000, pa.int8())
            )
        }
    ),
    "page that says 2 GB": lambda: in_page_header(1010, 2**31 - 1),
    "page that says less": lambda: in_page_header(1010, 10),
    "page that says a negative size": lambda: in_page_header(1010, 2**31 + 5),
}


def cases() -> Iterator[Case]:
    """Every hostile data file."""
    for name, makers in (("train.jsonl", JSONL), ("train.csv", CSV), ("train.parquet", PARQUET)):
        yield from of_dataset(name, makers)
        yield from of_dataset(name, FOREIGN)
    for name in ("validation.jsonl", "test.csv", "validation.parquet"):
        yield from of_dataset(name, FOREIGN)
