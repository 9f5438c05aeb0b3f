"""One attempt: a POST to the very address that was judged, without redirects or proxies, within one deadline."""

import json
import ssl
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import httpcore

from core.webhooks.guard import Guard, Place, UnsafeUrl
from core.webhooks.outbox import Claim, Outcome
from core.webhooks.signing import signature_headers

TOTAL_SECONDS = 5.0
ANSWER_BYTES = 64 * 1024
"""Of an answer no more than this is read, and nothing of it is kept but the status."""


class Sender:
    """Sends messages; `seconds` bounds a whole attempt, from looking up the name to the answer's last byte."""

    def __init__(self, guard: Guard, *, seconds: float = TOTAL_SECONDS) -> None:
        self._guard = guard
        self._seconds = seconds
        self._tls = ssl.create_default_context()

    def send(self, claim: Claim) -> Outcome:
        """Try once. Whatever goes wrong is an outcome, not an exception."""
        deadline = _Deadline(self._seconds)
        body = json.dumps(claim.payload, separators=(",", ":")).encode()
        headers = signature_headers(claim.secrets, claim.delivery_id, int(claim.at.timestamp()), body)
        try:
            place = self._guard.parse(claim.url)
            addresses = self._guard.addresses(place, deadline.remaining())
            status = self._post(place, addresses, headers, body, deadline)
        except UnsafeUrl as error:
            return Outcome(error=f"refused: {error.message}"[:500])
        except (TimeoutError, httpcore.TimeoutException):
            return Outcome(error=f"no complete answer within {self._seconds:g} seconds")
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            return Outcome(error=(str(error) or type(error).__name__)[:500])
        if 200 <= status < 300:
            return Outcome(status)
        redirect = "; redirects are not followed" if 300 <= status < 400 else ""
        return Outcome(status, f"answered {status}{redirect}")

    def _post(
        self,
        place: Place,
        addresses: Sequence[str],
        headers: dict[str, str],
        body: bytes,
        deadline: "_Deadline",
    ) -> int:
        # From our own parts, so that httpcore does not parse what the guard has judged. The name stays what TLS and
        # the Host header say; only the address is ours.
        url = httpcore.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.target)
        network = _Pinned(addresses, deadline)
        own = {"host": place.authority, "content-type": "application/json", "user-agent": "prunery-webhooks"}
        with (
            httpcore.ConnectionPool(ssl_context=self._tls, network_backend=network) as pool,
            pool.stream("POST", url, headers=list((own | headers).items()), content=body) as response,
        ):
            read = 0
            for chunk in response.iter_stream():
                read += len(chunk)
                if read >= ANSWER_BYTES:
                    break
            return response.status


class _Deadline:
    """The end of an attempt, which no slow drip of bytes can put off."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left; raises TimeoutError when none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Pinned(httpcore.NetworkBackend):
    """Connects to given addresses, whatever host it is asked for."""

    def __init__(self, addresses: Sequence[str], deadline: _Deadline) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        for left in range(len(self._addresses), 1, -1):
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connect(left, port)
        return self._connect(1, port)

    def _connect(self, left: int, port: int) -> httpcore.NetworkStream:
        """Try one address, when so many are left, for its share of the time."""
        timeout = self._deadline.remaining() / left
        stream = self._network.connect_tcp(self._addresses[-left], port, timeout=timeout)
        return _Bounded(stream, self._deadline)


class _Bounded(httpcore.NetworkStream):
    """A connection each of whose steps may take what is left of the whole, and no longer."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.remaining())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.remaining())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.remaining())
        return _Bounded(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
