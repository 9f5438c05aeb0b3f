"""A cut tokenizer gives the tokens it gave: for the texts it was cut for, and something sensible for all others."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pruning.errors import InvalidModel
from pruning.vocabulary.needed import needed
from pruning.vocabulary.texts import tokens
from pruning.vocabulary.tokenizer import cut_tokenizer
from tests.support.models import WORDS, tiny_tokenizer

ALGORITHMS = {"bert": "WordPiece", "xlm-roberta": "Unigram", "roberta": "BPE", "mpnet": "WordPiece"}
TEXTS = ["the film was great !", "a goodly plot, warmth", "Zebra9 \u2603 unknown"]


def read(tokenizer, texts):
    return [found for _, found in tokens(tokenizer, texts, lambda: None)]


def seen(tokenizer, texts):
    return sorted({number for ids, _ in tokens(tokenizer, texts, lambda: None) for number in ids})


def cut(family, texts, folder):
    tokenizer = tiny_tokenizer(family)
    return tokenizer, cut_tokenizer(tokenizer, seen(tokenizer, texts), 0, folder)


@pytest.mark.parametrize("family", ALGORITHMS)
class TestEveryAlgorithm:
    def test_texts_are_the_same_tokens_under_increasing_ids(self, family, tmp_path):
        before, after = cut(family, TEXTS, tmp_path)
        assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["type"] == ALGORITHMS[family]
        assert len(after.tokenizer) == len(after.kept) < len(before)
        assert list(after.kept) == sorted(after.kept)
        assert read(after.tokenizer, TEXTS) == read(before, TEXTS)
        pairs = [(text, TEXTS[0]) for text in TEXTS]
        for old, new in zip(before(pairs)["input_ids"], after.tokenizer(pairs)["input_ids"], strict=True):
            assert [after.kept[number] for number in new] == old

    def test_it_is_loaded_plainly(self, family, tmp_path):
        before, after = cut(family, TEXTS, tmp_path / "one")
        after.tokenizer.save_pretrained(tmp_path / "two")
        loaded = AutoTokenizer.from_pretrained(tmp_path / "two")
        assert read(loaded, TEXTS) == read(before, TEXTS)
        assert loaded.special_tokens_map == before.special_tokens_map
        assert loaded.pad_token_id == before.pad_token_id
        assert loaded.get_vocab() == after.tokenizer.get_vocab()

    def test_other_words_become_smaller_tokens_and_nothing_more_is_unknown(self, family, tmp_path):
        before, after = cut(family, TEXTS[:1], tmp_path)
        (old,), (new,) = read(before, ["bright actor"]), read(after.tokenizer, ["bright actor"])
        assert len(new) > len(old)
        assert "".join(new).replace("##", "") == "".join(old).replace("##", "")
        assert before.unk_token not in new


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "roberta"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.lists(st.sampled_from([*WORDS, "goodfilm", "plots", "x", "9", "\u00e9", "!!"]), min_size=1).map(
            " ".join
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_texts_stay_the_same_tokens(family, texts, tmp_path):
    before, after = cut(family, texts, tmp_path)
    assert read(after.tokenizer, texts) == read(before, texts)


def test_bpe_keeps_every_merge_on_the_way():
    content = {
        "model": {
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5, "cab": 6},
            "merges": ["a b", "b c", "ab c", "c ab"],
        }
    }
    assert needed(content, {"abc"}) == {"a", "b", "c", "ab", "abc"}


def test_unigram_keeps_its_worst_piece_which_says_what_the_unknown_costs():
    content = {
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["?", 0.0], ["rare", -20.0], ["fine", -2.0]]}
    }
    assert needed(content, ()) == {"?", "rare"}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "is a WordLevel"),
        (
            {"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"},
            "prefix or a suffix",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(model, reason):
    with pytest.raises(InvalidModel, match=reason) as caught:
        needed({"model": model}, ())
    assert caught.value.param == "/granularity"
    assert "another granularity" in caught.value.remedy


class Slow:
    """A tokenizer that writes no tokenizer.json."""

    def save_pretrained(self, folder):
        folder.mkdir()


def test_a_tokenizer_without_its_file_is_refused(tmp_path):
    with pytest.raises(InvalidModel, match="has no tokenizer") as caught:
        cut_tokenizer(Slow(), [5], 0, tmp_path / "cut")
    assert caught.value.param == "/granularity"


def test_a_tokenizer_that_numbers_its_tokens_otherwise_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tiny_tokenizer("bert"))
    with pytest.raises(InvalidModel, match="a way of its own") as caught:
        cut_tokenizer(tiny_tokenizer("bert"), [5], 0, tmp_path / "cut")
    assert caught.value.param == "/granularity"
