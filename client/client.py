"""`PruneryClient`: the service's routes as methods."""

import os
from typing import Self

import httpx

from client.account import AccountClient
from client.assets import AssetCalls
from client.calls import pages
from client.jobs import JobCalls
from client.replies import MethodInfo, Version, Worker
from client.results import ResultCalls
from client.transport import Transport
from client.webhooks import Webhooks


class PruneryClient(AssetCalls, JobCalls, ResultCalls):
    """A connection to one service; use it as a context manager, or call `close`.

    Without arguments it reads PRUNERY_URL (default http://127.0.0.1:8000) and PRUNERY_API_KEY. Every method
    raises `ApiProblem` when the service refuses and `Unreachable` when it does not answer, also after
    `retries` retries. Keys and limits are at `account`, webhooks at
    `webhooks`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(
            base_url or os.environ.get("PRUNERY_URL", "http://127.0.0.1:8000"),
            api_key or os.environ.get("PRUNERY_API_KEY", ""),
            timeout=timeout,
            retries=retries,
            transport=transport,
        )
        self.account = AccountClient(self._transport)
        self.webhooks = Webhooks(self._transport)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> Version:
        """What runs behind the address."""
        return Version.model_validate_json(self._transport.request("GET", "/v1/version").content)

    def methods(self) -> tuple[MethodInfo, ...]:
        """Every pruning method with the JSON schema of its settings."""
        return tuple(pages(self._transport, "/v1/methods", MethodInfo))

    def workers(self) -> tuple[Worker, ...]:
        """Every worker process, oldest first, with its last sign of life."""
        return tuple(pages(self._transport, "/v1/workers", Worker))
