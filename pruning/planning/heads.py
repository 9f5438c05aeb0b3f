"""The classes of transformers that a family has for each task, and methods that it cannot have. Imports no torch."""

from collections.abc import Mapping
from types import MappingProxyType

from pruning.spec import Task

_HEADS: Mapping[Task, str] = MappingProxyType(
    {
        "sequence-classification": "SequenceClassification",
        "regression": "SequenceClassification",
        "token-classification": "TokenClassification",
        "question-answering": "QuestionAnswering",
    }
)


def heads(prefix: str) -> Mapping[Task, str]:
    """The class of an encoder, or of transformers' `prefix` "AutoModel", by task."""
    return MappingProxyType({task: f"{prefix}For{head}" for task, head in _HEADS.items()})


def causal(architecture: str) -> Mapping[Task, str]:
    """The class of a decoder, which has one task."""
    return MappingProxyType({"causal-lm": architecture})


def not_recomputed(reason: str) -> Mapping[str, str]:
    """The methods that compute sub-layers themselves, and why they cannot here."""
    return MappingProxyType(dict.fromkeys(("fisher", "kcm", "kprune"), reason))
