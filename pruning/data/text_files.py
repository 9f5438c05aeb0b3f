"""Reading JSONL and CSV files line by line. Imports no torch."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pruning.data.limits import KEEP_PLAIN, Limits, Row, broken


def read_jsonl(path: Path, limits: Limits) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a file with one JSON object a line; raises InvalidData."""
    for number, text in _lines(path, limits):
        if not text.strip():
            raise broken(path, number, "the line is empty", "Remove it.")
        row = _parse_json(path, number, text)
        if not isinstance(row, dict):
            remedy = 'Write one object per line: {"text": ..., "label": ...}.'
            raise broken(path, number, "the line is not a JSON object", remedy)
        _check_size(path, number, row, limits)
        yield number, row


def read_csv(path: Path, limits: Limits) -> Iterator[tuple[int, Row]]:
    """Yield (line on which it starts, row) of a file with a header, values as text; raises InvalidData."""
    record = 0  # characters of the record so far, which quotes may carry over many lines

    def lines() -> Iterator[str]:
        nonlocal record
        for line, text in _lines(path, limits):
            record += len(text)
            if record > limits.line_bytes:
                problem = f"the row is longer than {limits.line_bytes:,} characters"
                raise broken(path, line, problem, "Close its quotes, shorten or split it.")
            yield text

    reader = csv.reader(lines(), strict=True)
    header: list[str] | None = None
    while True:
        number, record = reader.line_num + 1, 0
        try:
            fields = next(reader, None)
        except csv.Error as error:
            remedy = 'Quote fields as "..." and double inner quotes.'
            raise broken(path, number, f"not valid CSV ({error})", remedy) from None
        if fields is None:
            return
        if not fields:
            raise broken(path, number, "the line is empty", "Remove it.")
        if header is None:
            header = _check_header(path, fields, limits)
        elif len(fields) != len(header):
            problem = f"{len(fields)} fields where the header has {len(header)}"
            raise broken(path, number, problem, "Give every line as many fields as the header.")
        else:
            yield number, dict(zip(header, fields, strict=True))


def _lines(path: Path, limits: Limits) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(limits.line_bytes + 1):
            number += 1
            if len(line) > limits.line_bytes:
                problem = f"the line is longer than {limits.line_bytes:,} bytes"
                raise broken(path, number, problem, "Shorten or split it.")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise broken(path, number, "the text is not UTF-8", "Save the file as UTF-8.") from None
            yield number, text


def _parse_json(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"not valid JSON ({error.msg} at column {error.colno})"
        raise broken(path, number, problem, "Write one JSON object per line.") from None
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise broken(path, number, problem, "Write one plain JSON object per line.") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON value")


def _check_size(path: Path, number: int, row: Row, limits: Limits) -> None:
    if len(row) > limits.columns:
        raise broken(path, number, f"the row has more than {limits.columns} columns", KEEP_PLAIN)
    values, depth = list(row.values()), 1
    while values := [inner for value in values for inner in _children(value)]:
        depth += 1
        if depth > limits.nesting:
            raise broken(path, number, f"values are nested deeper than {limits.nesting}", KEEP_PLAIN)


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_header(path: Path, names: list[str], limits: Limits) -> list[str]:
    if len(names) > limits.columns:
        raise broken(path, 1, f"the header has more than {limits.columns} columns", KEEP_PLAIN)
    if len(set(names)) != len(names) or not all(names):
        raise broken(path, 1, "the header's column names are empty or not unique", "Name every column once.")
    return names
