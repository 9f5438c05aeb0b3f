"""What a key may do: a scope per kind of object, for reading and for writing, and `admin` for everything."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """A right that a key can have. To write does not include to read; `admin` includes every other one.

    All of them end where the owner's objects end: no scope reaches what belongs to somebody else.
    """

    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    ARTIFACTS_READ = "artifacts:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    OPERATIONS_READ = "operations:read"
    ADMIN = "admin"


Scopes = frozenset[Scope]

EVERYTHING: Scopes = frozenset({Scope.ADMIN})
"""The scopes of a key that is not restricted."""


def grants(granted: Scopes, scope: Scope) -> bool:
    """Whether a key with these scopes may do what needs `scope`."""
    return scope in granted or Scope.ADMIN in granted


def to_text(scopes: Iterable[Scope]) -> str:
    """Scopes as they are stored: words in the order of `Scope`; `admin` stands for all."""
    found = set(scopes)
    return " ".join(EVERYTHING if Scope.ADMIN in found else (scope for scope in Scope if scope in found))


def from_text(text: str) -> Scopes:
    """The scopes of a stored text; a word of another version grants nothing."""
    return frozenset(scope for scope in Scope if scope in text.split())
