"""Bodies are bounded while they are read, and a disk that fills up leaves nothing over."""

import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from core.accounts.repository import create_key, create_owner
from tests.app.conftest import MakeSettings, Service, problem
from tests.support.server import running

MIB = 1 << 20
LIMITS = {
    "max_body_bytes": 4096,
    "max_file_bytes": 2 * MIB,
    "max_model_bytes": 3 * MIB,
    "max_dataset_bytes": MIB,
}


@pytest.fixture
def small(make_settings: MakeSettings) -> Iterator[Service]:
    """The application with small limits."""
    app = create_app(make_settings(**LIMITS))
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield Service(app, client, owner.id, key)


def endless(sent: list[int]) -> Iterator[bytes]:
    """Far more than any limit; notes what was taken of it."""
    for _ in range(1000):
        sent.append(65_536)
        yield bytes(65_536)


def address(base: str) -> tuple[str, int]:
    """Host and port of a base URL."""
    url = httpx.URL(base)
    return url.host, url.port or 80


def left_over(service: Service) -> list[Path]:
    """Files in the store."""
    return [
        path
        for path in service.services.settings.store_dir.rglob("*")
        if path.is_file() and path.name != "lock"
    ]


def test_a_json_body_over_the_limit(small: Service) -> None:
    body = {"name": "x" * 5000}
    problem(small.client.post("/v1/models", json=body), 413, "body_too_large")
    chunked = small.client.post(
        "/v1/models", content=endless([]), headers={"Content-Type": "application/json"}
    )
    problem(chunked, 413, "body_too_large")


def test_an_upload_over_the_limit_is_stopped_while_it_comes(small: Service) -> None:
    model_id = small.upload("models", {})
    url = f"/v1/models/{model_id}/files/model.safetensors"
    headers = {"Authorization": f"Bearer {small.key}"}
    with running(small.app, lifespan="off") as base:
        stated = httpx.put(f"{base}{url}", content=bytes(2 * MIB + 1), headers=headers)
        problem(stated, 413, "body_too_large")
        # A client that ignores the refusal may find the connection closed; what counts is where reading stopped.
        with socket.create_connection(address(base)) as connection:
            lines = [f"PUT {url} HTTP/1.1", "Host: test", f"Authorization: Bearer {small.key}"]
            connection.sendall("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode())
            for _ in range(33):
                connection.sendall(b"10000\r\n" + bytes(65_536) + b"\r\n")
            connection.settimeout(20)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 413")
    assert left_over(small) == []
    assert small.client.put(url, content=bytes(2 * MIB)).status_code == 204


def test_all_files_together_are_bounded(small: Service) -> None:
    model_id = small.upload("models", {"model-00001-of-00002.safetensors": bytes(2 * MIB)})
    url = f"/v1/models/{model_id}/files/model-00002-of-00002.safetensors"
    problem(small.client.put(url, content=bytes(2 * MIB)), 413, "too_large")
    assert [file["bytes"] for file in small.client.get(f"/v1/models/{model_id}").json()["files"]] == [2 * MIB]


def test_an_upload_that_breaks_off_leaves_nothing(small: Service) -> None:
    model_id = small.upload("models", {})
    with running(small.app, lifespan="off") as base, socket.create_connection(address(base)) as connection:
        head = (
            f"PUT /v1/models/{model_id}/files/vocab.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n"
        )
        connection.sendall(f"{head}Authorization: Bearer {small.key}\r\n\r\n".encode() + bytes(70_000))
    assert left_over(small) == []
    assert small.client.get(f"/v1/models/{model_id}").json()["files"] == []


def full_then_fine(service: Service, size: int) -> None:
    """An upload that does not fit is refused, leaves nothing, and the next small one is fine."""
    model_id = service.upload("models", {})
    url = f"/v1/models/{model_id}/files/model.safetensors"
    problem(service.client.put(url, content=bytes(size)), 507, "storage_full")
    assert left_over(service) == []
    assert service.client.get(f"/v1/models/{model_id}").json()["files"] == []
    assert service.client.put(url, content=b"small").status_code == 204
    assert len(left_over(service)) == 1


def test_a_full_disk(make_settings: MakeSettings, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk; the limit below stands for it")
    try:
        app = create_app(make_settings(store_dir=disk))
        with app.state.services.database.write() as session:
            owner = create_owner(session, "first")
            _, key = create_key(session, owner.id, "key")
        with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
            full_then_fine(Service(app, client, owner.id, key), 4 * MIB)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_that_the_system_does_not_allow(service: Service) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, before[1]))
    try:
        full_then_fine(service, 8 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
