"""One HTTP connection pool with the key, the retries and the translation of refusals into exceptions."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import httpx

from client.errors import ApiProblem, Unreachable

_BUSY = frozenset({502, 503, 504})
_LONGEST_PAUSE = 10.0
_SENT_ON = ("Accept-Encoding", "Range")

Parameters = Mapping[str, str | int | bool]


class Transport:
    """Sends requests to one service.

    Every request of the client may be repeated without harm (jobs are created under an idempotency key), so a
    lost connection and an answer "busy" are tried again `retries` times, with growing, jittered pauses or
    after the service's Retry-After.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout, connect=10.0),
            transport=transport,
        )
        self.base_url = base_url
        self.retries = retries

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Parameters | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterator[bytes]] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send until there is an answer; `body` makes a fresh stream for each try.

        Raises ApiProblem when the service refuses and Unreachable when no try got an answer.
        """
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout, connect=10.0)
        for attempt in range(self.retries + 1):
            try:
                response = self._http.request(
                    method,
                    path,
                    params=params,
                    json=json,
                    headers=headers,
                    content=body() if body else None,
                    timeout=limit,
                )
            except httpx.TransportError as error:
                if attempt == self.retries:
                    raise self._unreachable(error) from error
                time.sleep(pause(attempt))
                continue
            if not _busy(response) or attempt == self.retries:
                return _accepted(response)
            time.sleep(pause(attempt, response.headers.get("retry-after")))
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def stream(self, path: str, *, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """Open one GET whose body is read by the caller; raises as `request` does, but tries once only.

        A service may send the caller on to where it keeps its bytes: that server gets the range and no key,
        and what it refuses is Unreachable, since another answer of the service may bring a link that works.
        """
        try:
            with ExitStack() as stack:
                response = stack.enter_context(self._http.stream("GET", path, headers=headers))
                if response.has_redirect_location:
                    wanted = {name: value for name, value in (headers or {}).items() if name in _SENT_ON}
                    address = httpx.URL(response.headers["location"])
                    sent_on = httpx.stream("GET", address, headers=wanted, timeout=self._http.timeout)
                    response = stack.enter_context(sent_on)
                    if response.is_error:
                        raise Unreachable(address.host, f"HTTP {response.status_code}")
                if response.is_error:
                    response.read()
                yield _accepted(response)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        return Unreachable(self.base_url, str(error) or type(error).__name__)


def pause(attempt: int, retry_after: str | None = None) -> float:
    """Seconds to wait: what the service asks for, else 0.25 x 2^attempt with jitter; never above 10."""
    if retry_after is not None and retry_after.isdigit():
        return min(float(retry_after), _LONGEST_PAUSE)
    longest: float = min(0.25 * 2.0**attempt, _LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _busy(response: httpx.Response) -> bool:
    """Whether the same request can do better soon. A full quota, which is 429 without a time, does not empty itself."""
    return response.status_code in _BUSY or (
        response.status_code == 429 and "retry-after" in response.headers
    )


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        raise ApiProblem.from_response(response)
    return response
