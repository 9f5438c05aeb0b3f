"""Who can help with what went wrong."""

import errno

import pytest

from core.errors import NotFound, StorageFull, StoreUnavailable
from pruning.errors import InvalidData
from worker.failures import classify


class AcceleratorError(RuntimeError):
    """What torch raises, which is not installed with a worker's parent."""


@pytest.mark.parametrize(
    ("error", "code", "error_class"),
    [
        (StorageFull("full"), "storage_full", "infrastructure"),
        (StoreUnavailable("away"), "store_unavailable", "infrastructure"),
        (OSError(errno.ENOSPC, "full"), "disk_full", "infrastructure"),
        (OSError(errno.EIO, "broken"), "disk_failing", "infrastructure"),
        (PermissionError(errno.EACCES, "not yours"), "internal_error", "bug"),
        (AcceleratorError("gone"), "device_lost", "infrastructure"),
        (RuntimeError("uncorrectable ECC error"), "device_lost", "infrastructure"),
        (MemoryError(), "out_of_memory", "capacity"),
        (NotFound("gone"), "not_found", "user"),
        (InvalidData("no label"), "invalid_data", "user"),
    ],
)
def test_every_failure_is_known_by_who_can_help(error: Exception, code: str, error_class: str) -> None:
    outcome = classify(error)
    assert (outcome.status, outcome.code, outcome.error_class) == ("failed", code, error_class)
