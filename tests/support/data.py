"""Small labelled datasets, written as files."""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support.models import WORDS


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def sentences(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of random words; the label says whether "good" is among them, so a tiny model can learn it."""
    chance = random.Random(seed)
    others = [word for word in WORDS if word != "good"]
    rows = []
    for index in range(count):
        words = chance.choices(others, k=chance.randint(3, 14))
        if index % 2:
            words[chance.randrange(len(words))] = "good"
        rows.append({"text": " ".join(words), "label": index % 2})
    return rows


def write_dataset(folder: Path, *, train: int = 64, validation: int = 0) -> Path:
    """A folder with train.jsonl and, if asked, validation.jsonl."""
    write_jsonl(folder / "train.jsonl", sentences(train))
    if validation:
        write_jsonl(folder / "validation.jsonl", sentences(validation, seed=1))
    return folder


def tagged_sentences(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sentences of random words; "good" and what follows it are an entity, so a tiny model can learn it."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        words = chance.choices([*WORDS, *["good"] * 9], k=chance.randint(3, 9))
        before = ["", *words[:-1]]
        tags = [
            "B-X" if word == "good" else "I-X" if last == "good" else "O"
            for word, last in zip(words, before, strict=True)
        ]
        rows.append({"tokens": words, "ner_tags": tags})
    return [*rows, {"tokens": ["good", "film"], "ner_tags": ["B-X", "I-X"]}]


def questions(count: int, *, words: int = 30, unanswered: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Contexts of random words, and what follows the word that is asked about; every so many have no answer."""
    chance = random.Random(seed)
    rows = []
    for index in range(count):
        context = chance.sample(WORDS, min(words, len(WORDS)))
        place = chance.randrange(len(context) - 1)
        start = len(" ".join(context[: place + 1])) + 1
        answers: dict[str, list[Any]] = {"text": [context[place + 1]], "answer_start": [start]}
        if unanswered and index % unanswered == 0:
            answers = {"text": [], "answer_start": []}
        rows.append({"context": " ".join(context), "question": context[place], "answers": answers})
    return rows


def lines(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Lines of text in which every word says which comes next, most of the time; some lines are empty."""
    chance = random.Random(seed)
    rows = []
    for index in range(count):
        place = chance.randrange(len(WORDS))
        length = 0 if index % 7 == 3 else chance.randint(4, 14)
        words = [WORDS[(place + step) % len(WORDS)] for step in range(length)]
        rows.append({"text": " ".join(words)})
    return rows
