"""What an exception means for a job: its code, its class (who can help), and words for the owner."""

import errno
import logging
from collections.abc import Mapping

from core.artifacts.local import FAILING
from core.errors import (
    DatabaseUnavailable,
    HubUnavailable,
    LedgerError,
    StorageFull,
    StoreUnavailable,
)
from pruning.errors import Canceled, ErrorClass, PruningError
from worker.channel import Outcome

log = logging.getLogger(__name__)

_LEDGER_CLASSES: Mapping[type[LedgerError], ErrorClass] = {
    StorageFull: "infrastructure",
    StoreUnavailable: "infrastructure",
    HubUnavailable: "infrastructure",
    DatabaseUnavailable: "infrastructure",
}
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_MESSAGE_LIMIT = 500


def classify(error: Exception) -> Outcome:
    """The outcome of a stage that ended by `error`.

    Torch's errors are known by name: the worker imports no torch. A fault of our own is logged with its
    traceback; the owner gets one line.
    """
    name, text = type(error).__name__, str(error)
    if isinstance(error, Canceled):
        return Outcome("stopped")
    if isinstance(error, PruningError):
        return _failed(error.code, error.error_class, text, error.param)
    if isinstance(error, LedgerError):
        return _failed(error.code, _LEDGER_CLASSES.get(type(error), "user"), text, error.param)
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text:
        return _failed("out_of_memory", "capacity", f"The machine ran out of memory. {text}".strip())
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return _failed("disk_full", "infrastructure", "The worker's disk is full.")
    if isinstance(error, OSError) and error.errno in FAILING:
        return _failed("disk_failing", "infrastructure", f"The worker's disk fails: {error.strerror}.")
    if name == "AcceleratorError" or "uncorrectable ECC" in text:
        return _failed("device_lost", "infrastructure", f"The accelerator failed: {text}")
    log.error("unexpected %s", name, exc_info=error)
    return _failed("internal_error", "bug", f"Unexpected {name}: {text}")


def _failed(code: str, error_class: ErrorClass, message: str, param: str = "") -> Outcome:
    return Outcome("failed", None, code, error_class, message[:_MESSAGE_LIMIT], param)
