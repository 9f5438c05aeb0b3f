"""How good an extracted answer is: exact match and F1 of words (Rajpurkar et al., SQuAD 2016, official script)."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(guess: str, truth: str) -> float:
    """1 when both are the same once normalised."""
    return float(normalise(guess) == normalise(truth))


def word_f1(guess: str, truth: str) -> float:
    """F1 of the words that both have in common; where either has none, 1 when neither has any."""
    said, wanted = normalise(guess).split(), normalise(truth).split()
    if not said or not wanted:
        return float(said == wanted)
    common = (Counter(said) & Counter(wanted)).total()
    return 2 * common / (len(said) + len(wanted))


def squad_scores(guesses: Sequence[str], truths: Sequence[Sequence[str]]) -> dict[str, float]:
    """`exact_match` and `f1`, means over questions of the best right answer; no right answer means "" is right."""
    return {
        name: sum(_best(score, guess, truth) for guess, truth in zip(guesses, truths, strict=True))
        / max(len(guesses), 1)
        for name, score in (("exact_match", exact_match), ("f1", word_f1))
    }


def _best(score: Callable[[str, str], float], guess: str, truths: Sequence[str]) -> float:
    """The official script leaves out right answers of which normalising leaves nothing."""
    return max(score(guess, truth) for truth in [truth for truth in truths if normalise(truth)] or [""])
