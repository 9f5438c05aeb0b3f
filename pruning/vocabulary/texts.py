"""The texts of a dataset as a tokenizer without limits reads them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from pruning.data.examples import AnyExample, Example, Question, Tagged
from pruning.data.readers import find_splits
from pruning.data.rows import DataSummary, examples

Text = str | list[str]
"""A text, or one that is split into words."""
_AT_ONCE = 1000


def texts(folder: Path, summary: DataSummary) -> Iterator[Text]:
    """Every text of every split, whole."""
    for path in find_splits(folder).values():
        for example in examples(path, summary):
            yield from _texts_of(example)


def _texts_of(example: AnyExample) -> Iterable[Text]:
    match example:
        case Example(text, pair):
            return [text] if pair is None else [text, pair]
        case Tagged(tokens):
            return [list(tokens)]
        case Question():
            return [example.question, example.context]
    return [example.text]


def tokens(
    tokenizer: PreTrainedTokenizerBase, read: Iterable[Text], beat: Callable[[], object]
) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
    """Ids and tokens of each text, without special tokens; `beat` is called now and then and may raise to stop."""
    backend, remaining = tokenizer.backend_tokenizer, iter(read)
    while part := list(islice(remaining, _AT_ONCE)):
        beat()
        split = isinstance(part[0], list)
        for found in backend.encode_batch(part, add_special_tokens=False, is_pretokenized=split):
            yield found.ids, found.tokens
