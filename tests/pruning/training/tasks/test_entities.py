import random

import pytest

from pruning.training.tasks.entities import Scheme, entity_scores

NER = Scheme.of(("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-PER I-PER O", {("PER", 0, 2)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("I-PER I-PER O I-PER", {("PER", 0, 2), ("PER", 3, 4)}),  # IOB1
        ("I-PER B-PER I-PER", {("PER", 0, 1), ("PER", 1, 3)}),  # IOB1: B only between neighbours
        ("B-PER I-LOC I-LOC", {("PER", 0, 1), ("LOC", 1, 3)}),  # another type begins another entity
        ("O B-LOC", {("LOC", 1, 2)}),
        ("", set()),
    ],
)
def test_hand_worked_entities(tags, expected):
    assert NER.entities(tags.split()) == expected


def test_prefixes_that_end_an_entity():
    scheme = Scheme.of(("O", "B-A", "I-A", "E-A", "S-A", "B-B", "E-B", "L-A", "U-A"))
    assert scheme.entities(["B-A", "E-A", "I-A"]) == {("A", 0, 2), ("A", 2, 3)}
    assert scheme.entities(["S-A", "S-A", "B-B", "E-B"]) == {("A", 0, 1), ("A", 1, 2), ("B", 2, 4)}
    assert scheme.entities(["B-A", "I-A", "L-A", "U-A", "U-A"]) == {("A", 0, 3), ("A", 3, 4), ("A", 4, 5)}


@pytest.mark.parametrize(
    ("names", "prefixed", "outside"),
    [
        (("O", "B-PER"), True, {"O"}),
        (("_", "I-PER"), True, {"_"}),
        (("LOC", "O", "PER"), False, {"O"}),
        (("0", "1", "2"), False, {"0"}),
        (("LABEL_0", "LABEL_1"), False, {"LABEL_0"}),
        (("NN", "VB"), False, set()),
    ],
)
def test_the_tag_set_says_how_to_read_it(names, prefixed, outside):
    assert Scheme.of(names) == Scheme(prefixed, frozenset(outside))


def test_plain_tags_that_follow_one_another_are_one_entity():
    assert Scheme.of(("0", "1", "2")).entities(["1", "1", "0", "1", "2"]) == {
        ("1", 0, 2),
        ("1", 3, 4),
        ("2", 4, 5),
    }


def test_scores_count_whole_entities_over_all_sentences():
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O"]]
    guess = [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-PER"]]
    # Of 3 entities one is found; 3 are said.
    assert entity_scores(NER, truth, guess) == pytest.approx(
        {"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3}
    )
    guess = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"]]
    assert entity_scores(NER, truth, guess) == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 0.8})
    nothing = [["O"] * 4, ["O"] * 2]
    assert entity_scores(NER, truth, nothing) == {"precision": 0, "recall": 0, "f1": 0}
    assert entity_scores(NER, nothing, nothing) == {"precision": 0, "recall": 0, "f1": 0}


def conlleval(tags):
    """The published rules, one question for each pair of neighbours: does a chunk end here, does one begin?"""

    def split(tag):
        return ("O", "") if tag == "O" else tuple(tag.split("-"))

    def ends(before, kind_before, now, kind):
        if before in ("E", "S") or (before in ("B", "I") and now in ("B", "S", "O")):
            return True
        return before != "O" and kind_before != kind

    def begins(before, kind_before, now, kind):
        if now in ("B", "S") or (before in ("E", "S", "O") and now in ("E", "I")):
            return True
        return now != "O" and kind_before != kind

    found, start = set(), 0
    before, kind_before = "O", ""
    for position, tag in enumerate([*tags, "O"]):
        now, kind = split(tag)
        if ends(before, kind_before, now, kind):
            found.add((kind_before, start, position))
        if begins(before, kind_before, now, kind):
            start = position
        before, kind_before = now, kind
    return found


def test_random_tags_give_the_entities_of_the_published_rules():
    chance = random.Random(0)
    names = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("X", "Y"))]
    scheme = Scheme.of(names)
    for _ in range(2000):
        tags = chance.choices(names, k=chance.randint(1, 9))
        assert scheme.entities(tags) == conlleval(tags), tags
