"""What routes ask for by type: the services, the caller, and ids that can exist."""

import re
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator

from app.http.envelope import add_headers, request_id
from app.http.problem import Problem
from app.services import Services
from core.accounts.repository import Caller, authenticate
from core.errors import NotFound, Unauthorized
from core.ids import Prefix

_bearer = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="An API key, `prn_live_...`; see `prunery keys`."
)


async def get_services(request: Request) -> Services:
    """The services of the application that answers; async, as a thread costs more than this takes."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 - create_app put them there
    return services


Door = Annotated[Services, Depends(get_services)]


Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def get_caller(request: Request, services: Door, credentials: Credentials) -> Caller:
    """Who asks, by the API key, within its rate of requests; raises Unauthorized or RateLimited."""
    if credentials is None:
        raise Unauthorized("An API key is needed: send it as `Authorization: Bearer prn_live_...`.")
    with services.database.read() as session:
        caller = authenticate(session, credentials.credentials)
    services.last_use.note(caller.key_id)
    rate = services.rates.take(caller.key_id)
    add_headers(request.scope, rate.headers)
    rate.require()
    return replace(caller, request_id=request_id(request.scope))


Asker = Annotated[Caller, Depends(get_caller)]


async def require_json(request: Request, _caller: Asker) -> None:
    """Refuse a body that does not say it is JSON, with 415; who asks is settled first."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        detail = "Send the body as JSON with the header Content-Type: application/json."
        raise Problem(415, "unsupported_media_type", detail, headers={"Accept": "application/json"})


JsonBody = Depends(require_json)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Any text of the client's own: the same key and body again get the stored answer.",
        examples=["3f1c7f0e-5f3b-4f0a-9a55-0c6f0f3c1b11"],
    ),
]


def _possible(prefix: Prefix, noun: str) -> AfterValidator:
    """Nothing is looked for under an id that no object can have, such as one with a NUL character."""

    def check(value: str) -> str:
        if not re.fullmatch(rf"{prefix}_[0-9a-z]{{26}}", value):
            raise NotFound(f"There is no {noun} {value!r:.60}.")
        return value

    return AfterValidator(check)


def _path(prefix: Prefix, noun: str) -> Any:
    return Path(description=f"Id of the {noun}.", examples=[f"{prefix}_01k9zq3v7rj4m8x2c5t6w9y0ab"])


JobId = Annotated[str, _path("job", "job"), _possible("job", "job")]
ModelId = Annotated[str, _path("mdl", "model"), _possible("mdl", "model")]
DatasetId = Annotated[str, _path("dst", "dataset"), _possible("dst", "dataset")]
KeyId = Annotated[str, _path("key", "key"), _possible("key", "key")]
ArtifactId = Annotated[str, _path("art", "artifact"), _possible("art", "artifact")]
UploadId = Annotated[str, _path("upl", "upload"), _possible("upl", "upload")]
WebhookId = Annotated[str, _path("whk", "webhook"), _possible("whk", "webhook")]
DeliveryId = Annotated[str, _path("dlv", "delivery"), _possible("dlv", "delivery")]
