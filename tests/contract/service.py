"""A service to be tested from outside by its OpenAPI document: it has one of everything, and no way out of here."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from client import PruneryClient
from core.webhooks.guard import Guard
from tests.support.api import Api, running_api
from tests.support.hub_server import HubServer
from tests.support.uploads import dataset_files, model_files


class Inward(Guard):
    """Lets webhooks reach this machine alone: names are looked up nowhere and stand for it."""

    def __init__(self) -> None:
        super().__init__(lookup=lambda _host, _port: ["127.0.0.1"])

    def permits(self, text: str) -> bool:
        """Whether it is an address of loopback."""
        return text.startswith("127.")


@dataclass(frozen=True)
class Stocked:
    """A running service; `ids` are of what it holds, by kind and fate."""

    url: str
    key: str
    ids: Mapping[str, list[str]]


@contextmanager
def stocked(folder: Path, database_url: str, hub: HubServer, *, each: int) -> Iterator[Stocked]:
    """Serve the API over HTTP on an empty database, and fill it with `each` of what requests use up.

    The only hub that it knows is `hub`.
    """
    hub.add("model", "bert-base-uncased", model_files())
    hub.add("dataset", "stanfordnlp/sst2", dataset_files())
    changes: dict[str, Any] = {
        "database_url": database_url,
        "hub_endpoint": hub.url,
        "requests_per_minute": 0,
        "max_queued_jobs": 100_000,
    }
    with (
        running_api(folder / "data", Inward(), **changes) as api,
        PruneryClient(api.url, api.key) as client,
        httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {api.key}"}, timeout=30) as http,
    ):
        held = _jobs(api, client, http, each) | _uploads(http, each) | _account(client, each)
        yield Stocked(api.url, api.key, held)


def _jobs(api: Api, client: PruneryClient, http: httpx.Client, each: int) -> dict[str, list[str]]:
    """Finished jobs, jobs that wait, and the model and dataset of both."""
    model, dataset = (_asset(http, kind, complete=True) for kind in ("models", "datasets"))
    finished = []
    for _ in range(2 * each):
        finished.append(client.submit(model, dataset, 0.5).id)
        api.succeed(api.take(finished[-1]))
    kept, doomed = finished[:each], finished[each:]
    waiting = [client.submit(model, dataset, 0.5).id for _ in range(2 * each)]
    return {
        "job": kept + waiting[:each],
        "waiting_job": waiting[:each],
        "canceled_job": waiting[each:],
        "doomed_job": doomed,
        "artifact": [file.id for job in kept for file in client.artifacts(job)],
        "ready_model": [model],
        "ready_dataset": [dataset],
    }


def _uploads(http: httpx.Client, each: int) -> dict[str, list[str]]:
    """Models and datasets that take files, and uploads in parts of which the only part has come."""
    open_ones = {kind: [_asset(http, f"{kind}s") for _ in range(each)] for kind in ("model", "dataset")}
    doomed = {f"doomed_{kind}": [_asset(http, f"{kind}s") for _ in range(each)] for kind in open_ones}
    file = {"name": "special_tokens_map.json", "bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    uploads = []
    for _ in range(2 * each):
        body = file | {"model": _asset(http, "models")}
        uploads.append(str(_sent(http.post("/v1/uploads", json=body)).json()["id"]))
        _sent(http.put(f"/v1/uploads/{uploads[-1]}/parts/1", content=b"{}"))
    return open_ones | doomed | {"upload": uploads[:each], "doomed_upload": uploads[each:]}


def _account(client: PruneryClient, each: int) -> dict[str, list[str]]:
    """Webhooks, deliveries of one of them, and a key that may be revoked."""
    hooks = [client.webhooks.create(f"https://example.com/{number}").id for number in range(each)]
    client.webhooks.ping(hooks[0])
    return {
        "webhook": hooks[:1],
        "doomed_webhook": hooks[1:],
        "delivery": [sent.id for sent in client.webhooks.deliveries(hooks[0])],
        "key": [client.account.create_key("spare", scopes=["jobs:read"]).id],
    }


def _asset(http: httpx.Client, kind: str, *, complete: bool = False) -> str:
    asset = str(_sent(http.post(f"/v1/{kind}", json={"name": "test"})).json()["id"])
    for name, content in (model_files() if kind == "models" else dataset_files()).items():
        _sent(http.put(f"/v1/{kind}/{asset}/files/{name}", content=content))
    if complete:
        _sent(http.post(f"/v1/{kind}/{asset}/complete"))
    return asset


def _sent(reply: httpx.Response) -> httpx.Response:
    assert reply.is_success, reply.text
    return reply
