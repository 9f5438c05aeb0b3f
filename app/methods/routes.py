"""What can be pruned how, as data: clients build their forms from it."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Path, Response
from pydantic import BaseModel

from app.access import any_key
from app.http.conditional import matches, strong
from app.http.problem import Responses, problems
from app.methods.schemas import MethodList, MethodView
from core.errors import NotFound
from pruning.planning import catalogue

router = APIRouter(prefix="/v1/methods", tags=["methods"], dependencies=[any_key])

IfNoneMatch = Annotated[str | None, Header(description="An ETag; 304 when it is still the right one.")]
UNCHANGED: Responses = {304: {"description": "Not Modified"}}


@router.get(
    "",
    operation_id="list_methods",
    summary="List the pruning methods",
    response_model=MethodList,
    responses=problems(401, 422, 500, 503, besides=UNCHANGED),
)
def list_methods(if_none_match: IfNoneMatch = None) -> Response:
    """Every method with what it supports and the JSON schema of its settings."""
    listed = MethodList(data=[MethodView.of(method) for method in catalogue.methods()])
    return _conditional(listed, if_none_match)


@router.get(
    "/{name}",
    operation_id="get_method",
    summary="Get one pruning method",
    response_model=MethodView,
    responses=problems(401, 404, 422, 500, 503, besides=UNCHANGED),
)
def get_method(
    name: Annotated[str, Path(examples=["kprune"])], if_none_match: IfNoneMatch = None
) -> Response:
    """One method with the JSON schema of its settings."""
    for method in catalogue.methods():
        if method.name == name:
            return _conditional(MethodView.of(method), if_none_match)
    raise NotFound(f"There is no method {name!r:.60}.")


def _conditional(body: BaseModel, if_none_match: str | None) -> Response:
    text = body.model_dump_json()
    etag = strong(hashlib.sha256(text.encode()).hexdigest()[:32])
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(text, headers={"ETag": etag}, media_type="application/json")
