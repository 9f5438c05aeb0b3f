import pytest

from pruning.training.tasks.squad import exact_match, normalise, squad_scores, word_f1


def test_case_punctuation_articles_and_blanks_do_not_count():
    assert normalise("The  Cat's a-bed, an Owl!") == "cats abed owl"
    assert exact_match("the cat.", "Cat") == 1
    assert exact_match("cats", "cat") == 0


@pytest.mark.parametrize(
    ("guess", "truth", "expected"),
    [
        ("in the month of May", "May", 2 * (1 / 4) * 1 / (1 / 4 + 1)),
        ("a b c d", "b d e", 4 / 6),  # the article goes; b and d are common to 3 and 3
        ("no no yes", "no yes yes", 4 / 6),
        ("rain", "sun", 0),
        ("", "sun", 0),
        ("the", "a", 1),  # nothing is left of either
    ],
)
def test_f1_of_words_worked_by_hand(guess, truth, expected):
    assert word_f1(guess, truth) == pytest.approx(expected)


def test_the_best_right_answer_counts():
    found = squad_scores(["in May", "rain", ""], [["May", "in May"], ["sun", "rain fell"], ["snow"]])
    assert found == pytest.approx({"exact_match": 1 / 3, "f1": (1 + 2 / 3 + 0) / 3})


def test_no_right_answer_means_that_nothing_is_right():
    assert squad_scores(["", "rain"], [[], []]) == {"exact_match": 0.5, "f1": 0.5}
    assert squad_scores(["rain"], [["the", "rain"]]) == {"exact_match": 1, "f1": 1}
