"""What can go wrong between a client and the service; `str()` of each is one line that says what to do."""

from dataclasses import dataclass
from typing import Any

import httpx


class ClientError(Exception):
    """Base of every error that the client raises on purpose."""


class Unreachable(ClientError):
    """No answer came from the service, also after the retries."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from {url} ({reason}): check the address and that the service runs")
        self.url = url
        self.reason = reason


class LocalFileProblem(ClientError):
    """A file or folder given for upload cannot be used."""


class UploadBroken(ClientError):
    """The service stored other bytes than were read from disk."""


class DownloadBroken(ClientError):
    """The downloaded bytes do not have the promised sha256 or size; nothing was left under the final name."""


class NotVerified(ClientError):
    """A manifest or its signature is not what it has to be: do not trust the files."""


class WaitTimeout(ClientError, TimeoutError):
    """The job was not over within the time that the caller gave."""


@dataclass(frozen=True)
class FieldProblem:
    """One field of a refused request: `pointer` is a JSON pointer into the body."""

    pointer: str
    code: str
    message: str


class ApiProblem(ClientError):
    """The service refused the request with problem+json (RFC 9457), or answered something that is none."""

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: str,
        errors: tuple[FieldProblem, ...] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.request_id = request_id

    def __str__(self) -> str:
        if len(self.errors) == 1 and self.errors[0].message in self.detail:
            line = f"{self.errors[0].pointer}: {self.detail}"
        else:
            line = "; ".join(f"{field.pointer}: {field.message}" for field in self.errors) or self.detail
        return " ".join(line.split())

    @classmethod
    def from_response(cls, response: httpx.Response) -> "ApiProblem":
        """The problem of a response that has been read; without problem+json, its status line."""
        body: dict[str, Any] = {}
        if response.headers.get("content-type", "").startswith("application/problem+json"):
            body = response.json()
        errors = tuple(
            FieldProblem(entry.get("pointer", ""), entry.get("code", ""), entry.get("message", ""))
            for entry in body.get("errors", ())
        )
        return cls(
            status=response.status_code,
            code=body.get("code", f"http_{response.status_code}"),
            detail=body.get("detail")
            or body.get("title")
            or f"HTTP {response.status_code} {response.reason_phrase}",
            errors=errors,
            request_id=body.get("request_id"),
        )
