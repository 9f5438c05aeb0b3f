"""One row of a dataset: a labelled text, tagged tokens, a question or a line. Imports no torch."""

from dataclasses import dataclass, replace
from typing import Self

Label = str | float
"""A class name, or a number; what a file says first, and after `named` what the task knows."""


@dataclass(frozen=True)
class Example:
    """One text or pair of texts with its label: a class name, or a number when it is not a whole one.

    Rows of a `test` split may have no label.
    """

    text: str
    text_pair: str | None
    label: Label | None

    @property
    def characters(self) -> int:
        """Characters of both texts."""
        return len(self.text) + len(self.text_pair or "")

    @property
    def labels(self) -> tuple[Label, ...]:
        """The label, if there is one."""
        return () if self.label is None else (self.label,)

    def named(self, *, numeric: bool) -> Self:
        """The same with the label's class name."""
        return self if self.label is None else replace(self, label=class_name(self.label, numeric=numeric))


@dataclass(frozen=True)
class Tagged:
    """The tokens (words) of a sentence and the tag of each; rows of a `test` split may have no tags."""

    tokens: tuple[str, ...]
    tags: tuple[Label, ...] | None

    @property
    def characters(self) -> int:
        """Characters of the tokens with a blank between them."""
        return sum(map(len, self.tokens)) + len(self.tokens) - 1

    @property
    def labels(self) -> tuple[Label, ...]:
        """The tags."""
        return self.tags or ()

    def named(self, *, numeric: bool) -> Self:
        """The same with the tags' class names."""
        return replace(self, tags=self.tags and tuple(class_name(tag, numeric=numeric) for tag in self.tags))


@dataclass(frozen=True)
class Answer:
    """A part of a context: its text, and the character at which it starts, from 0."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """A question about a context and its right answers: none when the context has no answer.

    Rows of a `test` split may have `answers` None: not known.
    """

    question: str
    context: str
    answers: tuple[Answer, ...] | None

    @property
    def characters(self) -> int:
        """Characters of question and context."""
        return len(self.question) + len(self.context)

    @property
    def labels(self) -> tuple[Label, ...]:
        """A question has no label."""
        return ()

    def named(self, *, numeric: bool) -> Self:
        """The same."""
        return self


@dataclass(frozen=True)
class Line:
    """A line of plain text, which may be empty; the lines of a file are one text."""

    text: str

    @property
    def characters(self) -> int:
        """Characters of the line and of the newline behind it."""
        return len(self.text) + 1

    @property
    def labels(self) -> tuple[Label, ...]:
        """A line has no label."""
        return ()

    def named(self, *, numeric: bool) -> Self:
        """The same."""
        return self


AnyExample = Example | Tagged | Question | Line


def class_name(value: Label, *, numeric: bool) -> Label:
    """The class name of a label: "1" for 1, 1.0 and "1" when labels are numeric; 1.5 stays a number."""
    if not numeric:
        return str(value)
    number = float(value)
    return str(int(number)) if number.is_integer() else number
