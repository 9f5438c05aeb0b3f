"""Which methods a path answers, over all routes that share it."""

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import Scope

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def allowed_methods(app: FastAPI, scope: Scope) -> tuple[str, ...]:
    """The methods for the path in `scope`; HEAD comes with GET."""
    found = [method for method in METHODS if _answers(app, {**scope, "method": method})]
    return ("GET", "HEAD", *found[1:]) if found[:1] == ["GET"] else tuple(found)


def _answers(app: FastAPI, scope: Scope) -> bool:
    return any(route.matches({**scope})[0] is Match.FULL for route in app.routes)
