"""What a key must be allowed to do: every router says it, and an application with one that does not cannot start."""

from collections.abc import Iterator
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import RouteContext, iter_route_contexts

from app.deps import Asker, Credentials, Door, get_caller
from app.services import Services
from core.accounts.repository import Caller
from core.accounts.scopes import Scope, grants
from core.audit import log as audit
from core.errors import Forbidden

READING = ("GET", "HEAD")


class Needs:
    """A dependency that refuses a key without the scope: `read` for GET, `write` for every other method.

    Without scopes any valid key will do.
    """

    def __init__(self, read: Scope | None = None, write: Scope | None = None) -> None:
        self._read = read
        self._write = write

    def scope(self, method: str) -> Scope | None:
        """What this method needs; raises LookupError where the router forgot to say it."""
        if self._read is None or method in READING:
            return self._read
        if self._write is None:
            raise LookupError(f"no scope is declared for {method}")
        return self._write

    async def __call__(self, request: Request, services: Door, caller: Asker) -> None:
        """Check the caller's key; raises Unauthorized or Forbidden. Only a refusal is worth a thread."""
        scope = self.scope(request.method)
        if scope is not None and not grants(caller.scopes, scope):
            await run_in_threadpool(require_scope, request, services, caller, scope)


class NeedsUnlessPublic(Needs):
    """The same for the metrics, which need no key where the settings say so."""

    async def __call__(self, request: Request, services: Door, credentials: Credentials) -> None:  # type: ignore[override]
        """Check the caller's key unless everybody may read; raises Unauthorized or Forbidden."""
        if not services.settings.metrics_public:
            caller = await run_in_threadpool(get_caller, request, services, credentials)
            await super().__call__(request, services, caller)


class Open:
    """A dependency that says that no key is needed."""

    def __call__(self) -> None:
        """Let everybody in."""


def needs(read: Scope | None = None, write: Scope | None = None) -> Any:
    """For the `dependencies` of a router: what its routes need of a key."""
    return Depends(Needs(read, write))


any_key = needs()
no_key = Depends(Open())


def require_scope(request: Request, services: Services, caller: Caller, scope: Scope) -> None:
    """Raise Forbidden, and write it down, when the caller's key does not have the scope.

    Routes call it themselves where the scope depends on what is asked for.
    """
    if grants(caller.scopes, scope):
        return
    with services.database.write() as session:
        audit.record(
            session, caller, f"needs.{scope}", f"{request.method} {request.url.path}"[:255], "denied"
        )
    raise Forbidden(f"This API key has not the scope {scope}; use one that has it.", scope=scope)


def declared(app: FastAPI) -> Iterator[tuple[str, str, list[Scope] | None]]:
    """Path, method and scopes of every operation; None where no key is needed. Raises as `require_declared`."""
    for route in iter_route_contexts(app.routes):
        if not getattr(route, "include_in_schema", False):
            continue
        for method in route.methods or ():
            yield route.path_format or "", method, _scopes(route, method)


def require_declared(app: FastAPI) -> None:
    """Raise LookupError for an operation about which its router says nothing."""
    for _ in declared(app):
        pass


def _scopes(route: RouteContext, method: str) -> list[Scope] | None:
    said = [each.dependency for each in route.dependencies if isinstance(each.dependency, Needs | Open)]
    if not said:
        raise LookupError(f"{method} {route.path_format} does not say what a key needs; see app/access.py")
    found = [each.scope(method) for each in said if isinstance(each, Needs)]
    return [scope for scope in found if scope is not None] if found else None
