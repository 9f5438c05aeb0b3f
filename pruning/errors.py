"""The engine's errors, classified so that a caller knows whether trying again can help. Imports no torch."""

from typing import ClassVar, Literal

ErrorClass = Literal["user", "capacity", "infrastructure", "bug", "canceled"]


class PruningError(Exception):
    """Base of every error the engine raises on purpose.

    `code` is stable and machine-readable, `param` is a JSON pointer into the request ("" when the request as a
    whole is meant), and `remedy` says what to do; `str()` gives message and remedy in one line.
    """

    error_class: ClassVar[ErrorClass] = "user"
    code: str = "pruning_error"

    def __init__(self, message: str, *, param: str = "", remedy: str = "", code: str | None = None) -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.param = param
        self.remedy = remedy
        if code is not None:
            self.code = code


class InvalidSpec(PruningError):
    """The request contradicts itself, the model or the dataset."""

    code = "invalid_spec"


class InvalidModel(PruningError):
    """The model cannot be read, or is not of a supported family."""

    code = "invalid_model"


class InvalidData(PruningError):
    """The dataset cannot be read, or does not fit the task."""

    code = "invalid_data"


class TargetUnreachable(PruningError):
    """No model of the legal grid meets the target; `nearest` is the closest ratio that can be met."""

    code = "target_unreachable"

    def __init__(
        self, message: str, *, nearest: float, param: str = "/target_ratio", remedy: str = ""
    ) -> None:
        super().__init__(
            message, param=param, remedy=remedy or f"The nearest reachable target_ratio is {nearest:.4g}."
        )
        self.nearest = nearest


class OutOfMemory(PruningError):
    """The device ran out of memory."""

    error_class = "capacity"
    code = "out_of_memory"


class PeerLost(PruningError):
    """One of the processes that train a model together ended by itself."""

    error_class = "infrastructure"
    code = "peer_lost"


class ArtifactBroken(PruningError):
    """An exported model failed its own load or equality check: a fault of the engine, never of the request."""

    error_class = "bug"
    code = "artifact_broken"


class Canceled(PruningError):
    """`should_stop` asked the engine to stop; nothing was published."""

    error_class = "canceled"
    code = "canceled"
