"""Scopes are kept as words; unknown ones grant nothing, and `admin` grants everything."""

from hypothesis import given
from hypothesis import strategies as st

from core.accounts.scopes import EVERYTHING, Scope, from_text, grants, to_text

scopes = st.frozensets(st.sampled_from(Scope))


@given(scopes)
def test_what_is_stored_grants_the_same(granted: frozenset[Scope]) -> None:
    again = from_text(to_text(granted))
    assert {scope for scope in Scope if grants(again, scope)} == {
        scope for scope in Scope if scope in granted or Scope.ADMIN in granted
    }


@given(st.text())
def test_other_words_grant_nothing(text: str) -> None:
    assert {*from_text(text)} <= {word for word in text.split() if word in [*Scope]}


def test_every_set_of_scopes_fits_its_column() -> None:
    assert len(" ".join(Scope)) <= 255
    assert to_text(Scope) == to_text(EVERYTHING) == "admin"
