from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pruning.data.examples import Tagged
from pruning.data.labels import Labels
from pruning.errors import InvalidData
from pruning.options import Distill
from pruning.spec import PruneSpec
from pruning.training.distill import distillation_loss
from pruning.training.tasks import IGNORED, TokenClassification, load_config, load_model, load_tokenizer
from tests.support.models import FAMILIES, save_tiny

NAMES = ("O", "B-PER", "I-PER")
TASK = TokenClassification(Labels(NAMES, {name: index for index, name in enumerate(NAMES)}, trained=True))
# "zq" is no word that the tiny tokenizers know: it becomes two tokens.
SENTENCES = [
    Tagged(("the", "zq", "good", "film"), ("O", "B-PER", "I-PER", "O")),
    Tagged(("zq", "zq"), ("B-PER", "O")),
    Tagged(("good",), ("O",)),
]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models"), request.param, "token-classification", num_labels=3)


def encoded(folder, sentences=SENTENCES, max_length=32):
    tokenizer = load_tokenizer(folder, load_config(folder))
    return TASK.encode(sentences, tokenizer, PruneSpec(target_ratio=0, max_length=max_length))


def test_the_first_token_of_a_word_carries_its_tag(folder):
    rows = encoded(folder)
    tokenizer = load_tokenizer(folder, load_config(folder))
    for index, sentence in enumerate(SENTENCES):
        row = rows[index]
        expected = tokenizer(" ".join(sentence.tokens))
        assert {name: row[name] for name in expected} == dict(expected)
        # Slowly: for every word, the first token that has one of its characters.
        text = " ".join(sentence.tokens)
        spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        labels, start = [IGNORED] * len(spans), 0
        for word, tag in zip(sentence.tokens, sentence.tags, strict=True):
            own = set(range(start, start + len(word)))
            labels[next(place for place, span in enumerate(spans) if own & set(range(*span)))] = NAMES.index(
                tag
            )
            start += len(word) + 1
        assert row["labels"] == labels


def test_blanks_in_words_and_words_of_nothing_do_not_shift_the_tags(folder):
    strange = Tagged(("the good", "", "zq", "\u200b", "film"), ("B-PER", "O", "I-PER", "O", "B-PER"))
    row = encoded(folder, [strange])[0]
    tagged = [
        (token, tag) for token, tag in zip(row["input_ids"], row["labels"], strict=True) if tag != IGNORED
    ]
    tokenizer = load_tokenizer(folder, load_config(folder))
    words = {tokenizer.decode([token]).strip(): NAMES[tag] for token, tag in tagged}
    assert words["the"] == "B-PER"
    assert "good" not in words
    assert words["film"] == "B-PER"


def test_words_that_are_cut_off_are_not_asked_about(folder):
    rows = encoded(folder, [Tagged(("good",) * 40, ("O",) * 40)], max_length=12)
    labels = rows[0]["labels"]
    assert len(labels) == 12
    assert sum(label != IGNORED for label in labels) == 10


def test_a_sentence_without_a_token_is_left_out():
    # A tokenizer that drops control characters leaves nothing of this word.
    class Tokenizer:
        pad_token_id = 0

        def __call__(self, texts, **_):
            known = {"\x00": ([2, 3], [(0, 0), (0, 0)]), "a": ([2, 9, 3], [(0, 0), (0, 1), (0, 0)])}
            ids, spans = zip(*(known[text] for text in texts), strict=True)
            return {"input_ids": list(ids), "offset_mapping": list(spans)}

    rows = TASK.encode(
        [Tagged(("\x00",), ("O",)), Tagged(("a",), ("O",))], Tokenizer(), PruneSpec(target_ratio=0)
    )
    with pytest.raises(InvalidData, match="no token for any word"):
        TASK.encode([Tagged(("\x00",), ("O",))], Tokenizer(), PruneSpec(target_ratio=0))
    assert [row["input_ids"] for row in (rows[index] for index in range(len(rows)))] == [[2, 9, 3]]


def test_an_unknown_tag_is_refused(folder):
    with pytest.raises(InvalidData, match="'B-LOC' is not one of O, B-PER, I-PER"):
        encoded(folder, [Tagged(("a",), ("B-LOC",))])


def test_loss_and_distillation_count_words_only_however_much_padding_there_is(folder):
    rows = encoded(folder)
    model = load_model(folder, TASK).eval()
    batch, padded = rows.batch([0, 1, 2]), rows.batch([0, 1, 2], pad_to_multiple=16)
    found = []
    for each in (batch, padded):
        inputs = {name: value for name, value in each.items() if name != "labels"}
        logits = TASK.logits(model(**inputs), each)
        assert logits.shape == (7, 3)
        loss = TASK.loss(logits, each["labels"])
        found.append((logits, loss, distillation_loss(logits, logits.flip(-1), loss, Distill())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    # Slowly: row by row, token by token.
    expected = []
    for index in range(3):
        single = rows.batch([index])
        labels = single.pop("labels")[0]
        logits = model(**single).logits[0]
        expected += [
            F.cross_entropy(logits[place], label) for place, label in enumerate(labels) if label != IGNORED
        ]
    torch.testing.assert_close(found[0][1], torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)
    assert TASK.rows_of(batch).tolist() == [0, 0, 0, 0, 1, 1, 2]


def test_quality_is_of_words_in_their_order(folder):
    rows = encoded(folder)
    said = [["O", "B-PER", "O", "O"], ["B-PER", "O"], ["B-PER"]]
    logits = torch.zeros(3, int(rows.lengths.max()), 3)
    for row, names in enumerate(said):
        places = np.flatnonzero(np.array(rows[row]["labels"]) != IGNORED)
        logits[row, places, [NAMES.index(name) for name in names]] = 1.0
    answers = TASK.answers(SimpleNamespace(logits=logits), rows, [0, 1, 2])
    assert [row.tolist() for row in answers] == [[0, 1, 0, 0], [1, 0], [1]]
    # Of two entities one is found, three are said; of seven words two are wrong.
    found = TASK.metrics(answers, rows)
    assert found == pytest.approx({"precision": 1 / 3, "recall": 1 / 2, "f1": 2 / 5, "accuracy": 5 / 7})


def test_what_stands_for_quality():
    assert TASK.primary == "f1"
    assert TokenClassification(Labels(("NN", "VB"), {}, trained=True)).primary == "accuracy"
