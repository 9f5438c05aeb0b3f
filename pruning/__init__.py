"""Prune transformer models. `from pruning import prune` loads torch; `import pruning` alone does not."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruning.run import prune

__all__ = ["prune"]


def __getattr__(name: str) -> Any:
    if name == "prune":
        from pruning.run import prune

        return prune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
