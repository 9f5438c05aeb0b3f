"""Every error of the rooms below as a problem document: one table, one place."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from app.http.allow import allowed_methods
from app.http.envelope import request_id
from app.http.pointers import field_error
from app.http.problem import FieldError, Problem
from core import errors as ledger
from core.clock import rfc3339
from pruning.errors import PruningError, TargetUnreachable

E = TypeVar("E", bound=Exception)

_STATUS: dict[type[ledger.LedgerError], int] = {
    ledger.NotFound: 404,
    ledger.Conflict: 409,
    ledger.NotReady: 409,
    ledger.InvalidRequest: 422,
    ledger.Unauthorized: 401,
    ledger.Forbidden: 403,
    ledger.QuotaExceeded: 429,
    ledger.RateLimited: 429,
    ledger.IdempotencyMismatch: 422,
    ledger.IdempotencyInFlight: 409,
    ledger.StorageFull: 507,
    ledger.StoreUnavailable: 503,
    ledger.TooLarge: 413,
    ledger.HubUnavailable: 502,
    ledger.DatabaseUnavailable: 503,
}
_HEADERS: dict[type[ledger.LedgerError], dict[str, str]] = {
    ledger.Unauthorized: {"WWW-Authenticate": 'Bearer realm="prunery"'},
    ledger.NotReady: {"Retry-After": "5"},
    ledger.IdempotencyInFlight: {"Retry-After": "1"},
    ledger.HubUnavailable: {"Retry-After": "30"},
    ledger.StoreUnavailable: {"Retry-After": "5"},
    ledger.DatabaseUnavailable: {"Retry-After": "5"},
}
_HTTP_CODES = {
    400: ("malformed_body", "The body is not JSON that can be read."),
    404: ("not_found", "There is nothing at this address."),
    405: (
        "method_not_allowed",
        "This address does not answer this method; see the Allow header.",
    ),
    413: ("body_too_large", ""),
}


def install(app: FastAPI) -> None:
    """Let `app` answer every error with a problem document."""
    translations: dict[type[Exception], Callable[[Request, Exception], Problem]] = {
        Problem: lambda _request, error: _as(Problem, error),
        ledger.LedgerError: lambda _request, error: from_ledger(_as(ledger.LedgerError, error)),
        PruningError: lambda _request, error: from_engine(_as(PruningError, error)),
        RequestValidationError: lambda _request, error: from_validation(_as(RequestValidationError, error)),
        HTTPException: lambda request, error: from_http(request, _as(HTTPException, error)),
    }
    for kind, translate in translations.items():
        app.add_exception_handler(kind, _handler(translate))


def _handler(translate: Callable[[Request, Exception], Problem]) -> Callable[[Request, Exception], Response]:
    def respond(request: Request, error: Exception) -> Response:
        return translate(request, error).response(request_id(request.scope))

    return respond


def _as(kind: type[E], error: Exception) -> E:
    assert isinstance(error, kind)  # noqa: S101 - Starlette chose the handler by this type
    return error


def from_ledger(error: ledger.LedgerError) -> Problem:
    """An error of the ledger; one that has no status is a fault of ours and stays unhandled."""
    for kind, status in _STATUS.items():
        if isinstance(error, kind):
            return Problem(
                status,
                error.code,
                error.message,
                errors=_at(error.param, error.code, error.message),
                headers=_headers(error) or _HEADERS.get(kind),
                extra=_figures(error),
            )
    raise error


def _figures(error: ledger.LedgerError) -> dict[str, Any]:
    """Members of the document beside the text, for a program to act on."""
    if isinstance(error, ledger.Forbidden):
        return {"scope": error.scope}
    if isinstance(error, ledger.QuotaExceeded):
        frees_at = None if error.frees_at is None else rfc3339(error.frees_at)
        return {"quota": error.quota, "limit": error.limit, "used": error.used, "frees_at": frees_at}
    return {}


def _headers(error: ledger.LedgerError) -> dict[str, str]:
    if isinstance(error, ledger.RateLimited):
        return {"Retry-After": str(error.retry_seconds)}
    return {}


def from_engine(error: PruningError) -> Problem:
    """An error of the engine's checks: the request, the model or the dataset cannot be used like this."""
    extra = {"nearest": error.nearest} if isinstance(error, TargetUnreachable) else {}
    return Problem(422, error.code, str(error), errors=_at(error.param, error.code, str(error)), extra=extra)


def from_validation(error: RequestValidationError) -> Problem:
    """What pydantic found wrong with body, query, path or headers."""
    found = [field_error(each, error.body) for each in error.errors()]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return Problem(400, "malformed_body", "The body is not valid JSON.")
    places = ", ".join(sorted({each.pointer or "the body" for each in found}))
    return Problem(422, "invalid_request", f"The request is not valid; see errors: {places}.", errors=found)


def from_http(request: Request, error: HTTPException) -> Problem:
    """An error of the framework: an unknown address, a wrong method, a body that is too long."""
    code, detail = _HTTP_CODES.get(error.status_code, ("http_error", error.detail))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(allowed_methods(request.app, request.scope))
    return Problem(error.status_code, code, detail or error.detail, headers=headers)


def _at(pointer: str, code: str, message: str) -> list[FieldError]:
    return [FieldError(pointer=pointer, code=code, message=message)] if pointer else []
