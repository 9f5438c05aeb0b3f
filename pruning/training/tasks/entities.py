"""Entities in tagged sentences, and how many of them were found (Tjong Kim Sang and Buchholz, CoNLL-2000)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Entity = tuple[str, int, int]
"""Type, first token, token behind the last."""

_BEGINS = frozenset("BSU")
_ENDS = frozenset("ESLU")
_PREFIXES = frozenset("BIESLU")


@dataclass(frozen=True)
class Scheme:
    """How tags say which tokens are one entity: `prefixed` as B-PER, I-PER, or plain, as PER PER.

    `outside` are the tags of no entity; empty when every token has a tag of its own, as a part of speech.
    """

    prefixed: bool
    outside: frozenset[str]

    @classmethod
    def of(cls, names: Sequence[str]) -> "Scheme":
        """The scheme of a tag set: prefixed when any tag has one, where whatever has none is outside.

        Of plain tags O is outside, and so is the first of nameless ones (0, 1, ... or LABEL_0, LABEL_1, ...).
        """
        bare = frozenset(name for name in names if not _has_prefix(name))
        if len(bare) < len(names):
            return cls(prefixed=True, outside=bare)
        nameless = all(name.removeprefix("LABEL_").isdecimal() for name in names)
        return cls(prefixed=False, outside=bare & ({"O", names[0]} if nameless else {"O"}))

    def entities(self, tags: Iterable[str]) -> set[Entity]:
        """The entities of one sentence.

        An entity ends before a tag of another type or outside, before a prefix that begins one (B, S, U) and
        after one that ends one (E, S, L, U). So an I that follows nothing of its type begins an entity: IOB1 and
        IOB2 are read alike, as the conlleval script and seqeval do.
        """
        found: set[Entity] = set()
        kind, start, closed = "", 0, True
        position = -1
        for position, tag in enumerate(tags):
            prefix, now = self._split(tag)
            if kind and (closed or now != kind or prefix in _BEGINS):
                found.add((kind, start, position))
                kind = ""
            if now and not kind:
                kind, start = now, position
            closed = prefix in _ENDS
        if kind:
            found.add((kind, start, position + 1))
        return found

    def _split(self, tag: str) -> tuple[str, str]:
        """Prefix and type; the type is empty outside."""
        if tag in self.outside:
            return "", ""
        return (tag[0], tag[2:]) if self.prefixed else ("", tag)


def _has_prefix(name: str) -> bool:
    return len(name) > 2 and name[0] in _PREFIXES and name[1] == "-"


def entity_scores(
    scheme: Scheme, truth: Sequence[Sequence[str]], guess: Sequence[Sequence[str]]
) -> dict[str, float]:
    """`precision`, `recall` and `f1` over the entities of all sentences (micro average); 0 where nothing is.

    An entity counts when type, first and last token are right.
    """
    right = said = there = 0
    for wanted, given in zip(truth, guess, strict=True):
        real, found = scheme.entities(wanted), scheme.entities(given)
        right, said, there = right + len(real & found), said + len(found), there + len(real)
    return {
        "precision": right / max(said, 1),
        "recall": right / max(there, 1),
        "f1": 2 * right / max(said + there, 1),
    }
