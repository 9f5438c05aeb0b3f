"""Errors as RFC 9457 problem documents, the only shape in which this service says no."""

import http
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

MEDIA_TYPE = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]
"""What FastAPI takes as `responses=`."""


class FieldError(BaseModel):
    """One thing that is wrong with one place of the request."""

    pointer: str = Field(description="JSON pointer into the body; elsewhere `query:NAME` or `header:NAME`.")
    code: str = Field(description="Stable machine-readable reason.")
    message: str = Field(description="What is wrong and what to do about it.")


class ProblemDocument(BaseModel):
    """The body of every error reply (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:prunery:problem:target_unreachable",
                "title": "Unprocessable Content",
                "status": 422,
                "detail": "No cut of this model removes 0.999. The nearest reachable target_ratio is 0.9733.",
                "code": "target_unreachable",
                "request_id": "req_5b0c9d8e7f6a4b3c",
                "errors": [
                    {
                        "pointer": "/target_ratio",
                        "code": "target_unreachable",
                        "message": "The nearest reachable target_ratio is 0.9733.",
                    }
                ],
                "nearest": 0.9733,
            }
        },
        extra="allow",
    )

    type: str = Field(description="`urn:prunery:problem:` and the code.")
    title: str = Field(description="The phrase of the HTTP status.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong this time, and what to do about it.")
    code: str = Field(description="Stable machine-readable reason.")
    request_id: str = Field(description="The same as the X-Request-ID header; quote it when asking for help.")
    errors: list[FieldError] = Field(default=[], description="The places of the request that are wrong.")


class Problem(Exception):
    """An error on its way to the client. `extra` becomes further members of the document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def response(self, request_id: str) -> JSONResponse:
        """The problem as an HTTP response."""
        document = ProblemDocument(
            type=f"urn:prunery:problem:{self.code}",
            title=_title(self.status),
            status=self.status,
            detail=self.detail,
            code=self.code,
            request_id=request_id,
            errors=self.errors,
        )
        return JSONResponse(
            document.model_dump() | self.extra, self.status, headers=self.headers, media_type=MEDIA_TYPE
        )


def _title(status: int) -> str:
    renamed = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
    return renamed.get(status) or http.HTTPStatus(status).phrase


def problems(*statuses: int, besides: Responses | None = None) -> Responses:
    """The `responses=` of a route for the OpenAPI document: problems of these statuses, and `besides`."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    refusals: Responses = {status: {"description": _title(status), "content": content} for status in statuses}
    return {**(besides or {}), **refusals}
