"""How long texts are cut into windows. Imports no torch."""

from pruning.errors import InvalidSpec
from pruning.spec import PruneSpec, Task

_SHORTEST_WINDOW = 32
_USUAL_STRIDE = 128


def doc_stride(spec: PruneSpec, task: Task) -> int | None:
    """How many tokens neighbouring windows share, so few that every window gets on; None for none.

    Raises InvalidSpec for more, and where a task has no windows.
    """
    if task == "causal-lm":
        return _overlap(spec)
    if task != "question-answering":
        if spec.doc_stride is not None:
            raise InvalidSpec(
                f"doc_stride has no meaning for {task}, whose rows are cut at max_length.",
                param="/doc_stride",
                remedy="Leave it out.",
            )
        return None
    if spec.max_length < _SHORTEST_WINDOW:
        raise InvalidSpec(
            f"{spec.max_length} tokens do not hold a question and a part of its context.",
            param="/max_length",
            remedy=f"Use at least {_SHORTEST_WINDOW}; 384 is usual.",
        )
    most = spec.max_length // 3
    if spec.doc_stride is not None and spec.doc_stride > most:
        raise InvalidSpec(
            f"Windows of {spec.max_length} tokens that share {spec.doc_stride} hardly get on.",
            param="/doc_stride",
            remedy=f"Use at most {most}, a third of max_length.",
        )
    return spec.doc_stride or min(_USUAL_STRIDE, most)


def _overlap(spec: PruneSpec) -> int | None:
    """How many tokens of the window before a window of text begins with, None for none."""
    most = spec.max_length // 2
    if spec.doc_stride is not None and spec.doc_stride > most:
        raise InvalidSpec(
            f"Windows of {spec.max_length} tokens that share {spec.doc_stride} hardly get on.",
            param="/doc_stride",
            remedy=f"Use at most {most}, half of max_length.",
        )
    return spec.doc_stride
