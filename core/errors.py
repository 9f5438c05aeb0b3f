"""The ledger's errors. Each has a stable `code`; the JSON pointer `param` names a field of the request."""

from datetime import datetime


class LedgerError(Exception):
    """Base of every error that the ledger raises on purpose."""

    code: str = "error"

    def __init__(self, message: str, *, param: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class NotFound(LedgerError):
    """There is no such object, or it belongs to somebody else."""

    code = "not_found"


class Conflict(LedgerError):
    """The object's state does not allow this."""

    code = "conflict"


class NotReady(LedgerError):
    """The object will exist, but does not yet."""

    code = "not_ready"


class InvalidRequest(LedgerError):
    """The request cannot be carried out as it stands."""

    code = "invalid_request"


class Unauthorized(LedgerError):
    """No key, or a key that is not (or no longer) valid."""

    code = "unauthorized"


class Forbidden(LedgerError):
    """The key is valid, and may not do this; `scope` names what it would need."""

    code = "insufficient_scope"

    def __init__(self, message: str, *, scope: str) -> None:
        super().__init__(message)
        self.scope = scope


class QuotaExceeded(LedgerError):
    """The owner has or uses as much as allowed; `frees_at` is when that changes by itself, where it does."""

    code = "quota_exceeded"

    def __init__(
        self, message: str, *, quota: str, limit: int, used: int, frees_at: datetime | None = None
    ) -> None:
        super().__init__(message)
        self.quota = quota
        self.limit = limit
        self.used = used
        self.frees_at = frees_at


class RateLimited(LedgerError):
    """Too many requests with one key; the next one may come after `retry_seconds`."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class IdempotencyMismatch(LedgerError):
    """The idempotency key was used before for a different request."""

    code = "idempotency_mismatch"


class IdempotencyInFlight(LedgerError):
    """Another request with the same idempotency key is being answered at this moment; try again shortly."""

    code = "idempotency_in_flight"


class LeaseLost(LedgerError):
    """The attempt's token is no longer valid: whoever holds it must stop and discard its work."""

    code = "lease_lost"


class StorageFull(LedgerError):
    """The disk has no room; nothing of the object was kept."""

    code = "storage_full"


class StoreUnavailable(LedgerError):
    """The store does not answer, or refuses; nothing of the object was kept. Trying again later can help."""

    code = "store_unavailable"


class TooLarge(LedgerError):
    """More bytes than a limit allows."""

    code = "too_large"


class HubUnavailable(LedgerError):
    """The hub did not answer, or failed; trying again later can help."""

    code = "hub_unavailable"


class DatabaseUnavailable(LedgerError):
    """The database did not answer; whether a write in progress was kept is unknown."""

    code = "database_unavailable"
