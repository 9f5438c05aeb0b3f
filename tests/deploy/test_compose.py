"""docker-compose.yml is right: every service starts as a plain process and together they run a job.

No Docker engine is needed: the commands, environments and health checks are those of the file; only what Docker would
supply (host names, the volume, the port) is replaced.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql
from sqlalchemy import make_url

from client import PruneryClient
from tests.deploy.compose import ROOT, Service, interpolate, services
from tests.deploy.dockerfile import images
from tests.support.measured import few_variables
from tests.support.models import save_tiny

BIN = Path(sys.executable).parent
PASSWORD = {"POSTGRES_PASSWORD": "long-and-random"}


class Deployment:
    """The compose file's services as processes of this machine."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = str(probe.getsockname()[1])
        self.replacements = {
            f"postgresql://prunery:{PASSWORD['POSTGRES_PASSWORD']}@postgres:5432/prunery": database_url,
            "redis://redis:6379/0": redis_url,
            "/data": str(folder / "data"),
            "/keys": str(folder / "keys"),
            "0.0.0.0": "127.0.0.1",
            "8000": self.port,
        }
        (folder / "data").mkdir()

    def here(self, text: str) -> str:
        """What Docker would supply, replaced by what this machine has."""
        for written, real in self.replacements.items():
            text = text.replace(written, real)
        return text

    def environment(self, service: Service) -> dict[str, str]:
        """The service's environment and nothing of ours beside the path."""
        own = {name: self.here(value) for name, value in service.environment.items()}
        ours = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(self.folder), "OMP_NUM_THREADS": "1"}
        return few_variables() | ours | own

    def run(
        self, service: Service, command: tuple[str, ...], seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the service's environment to its end."""
        arguments = [self.here(word) for word in command]
        return subprocess.run(
            arguments,
            env=self.environment(service),
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=seconds,
            check=False,
        )

    def start(self, service: Service) -> subprocess.Popen[bytes]:
        """Start a service and leave it running."""
        arguments = [self.here(word) for word in service.command]
        with (self.folder / f"{service.name}.log").open("wb") as log:
            return subprocess.Popen(
                arguments, env=self.environment(service), cwd=ROOT, stdout=log, stderr=log
            )

    def wait_healthy(self, service: Service, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
        """Return when the service's own health check passes."""
        deadline = time.monotonic() + seconds
        while (checked := self.run(service, service.health)).returncode != 0:
            log = (self.folder / f"{service.name}.log").read_text()
            assert process.poll() is None, log
            assert time.monotonic() < deadline, f"{service.name}: {checked.stderr}\n{log}"
            time.sleep(0.3)


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """A PostgreSQL database without any table."""
    name = f"prunery_test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_every_service_of_the_file_runs_and_together_they_prune(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    deployment = Deployment(tmp_path, database_url, redis_url)
    found = services(PASSWORD)
    migrated = deployment.run(found["migrate"], found["migrate"].command)
    assert migrated.returncode == 0, migrated.stderr
    with ExitStack() as stack:
        for name in ("api", "worker"):
            process = deployment.start(found[name])
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
            deployment.wait_healthy(found[name], process)
        made = deployment.run(found["api"], ("prunery", "keys", "create", "test"))
        assert made.returncode == 0, made.stderr
        key = next(word for word in made.stdout.split() if word.startswith("prn_live_"))
        client = stack.enter_context(PruneryClient(f"http://127.0.0.1:{deployment.port}", key))
        report = _prune(client, tmp_path)
    assert report["kind"] == "shrunk"


def test_the_gpu_worker_starts_where_there_is_a_gpu_and_refuses_elsewhere(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU; the refusal cannot be shown")
    service = services(PASSWORD)["worker-gpu"]
    assert service.profiles == ("gpu",)
    deployment = Deployment(tmp_path, postgres_url.replace("+psycopg", ""), redis_url)
    refused = deployment.run(service, service.command)
    assert refused.returncode != 0
    assert "PRUNERY_WORKER_QUEUE is gpu" in refused.stderr


def test_only_the_api_sees_the_key_that_signs() -> None:
    entries = yaml.safe_load(interpolate((ROOT / "docker-compose.yml").read_text(), PASSWORD))["services"]
    holders = {name for name, entry in entries.items() if "keys:/keys" in entry.get("volumes", ())}
    told = {
        name
        for name, service in services(PASSWORD).items()
        if service.environment.get("PRUNERY_SIGNING_KEY_FILE", "").startswith("/keys/")
    }
    assert holders == told == {"api"}


def test_there_is_no_default_password() -> None:
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        services({})
    example = (ROOT / ".env.example").read_text()
    assert "POSTGRES_PASSWORD=\n" in example


def test_the_files_are_compose_files() -> None:
    files = [ROOT / "docker-compose.yml", ROOT / "docker-compose.s3.yml"]
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_images_are_those_of_the_dockerfile() -> None:
    built = {service.target for service in services(PASSWORD).values() if service.target}
    found = images()
    assert built == {"api", "worker-cpu", "worker-gpu"}
    assert built == {name for name, image in found.items() if image.user}, "every image leaves root"
    assert "worker" not in found["api"].install, "the api image carries no torch"
    assert all("[worker,onnx,s3,otel]" in found[name].install for name in ("worker-cpu", "worker-gpu"))


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [("${A}", {"A": "1"}, "1"), ("${A:-2}", {}, "2"), ("${A:-2}", {"A": "1"}, "1"), ("a ${A} b", {}, "a  b")],
)
def test_interpolation_is_docker_s(text: str, variables: dict[str, str], expected: str) -> None:
    assert interpolate(text, variables) == expected


def _prune(client: PruneryClient, folder: Path) -> dict[str, object]:
    """Upload a tiny model and dataset, prune, and return the report of the finished job."""
    rows = [
        {"text": word, "label": label}
        for label, words in enumerate(("great good fine", "bad dull poor"))
        for word in words.split()
    ]
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows * 20))
    model = client.upload_model(save_tiny(folder / "model", "bert", "sequence-classification"))
    dataset = client.upload_dataset(data)
    job = client.submit(
        model=model.id, dataset=dataset.id, target_ratio=0.5, method="magnitude", evaluate={"latency": False}
    )
    done = client.wait(job.id, timeout=120)
    assert done.status == "succeeded", done.error
    client.download(job.id, folder / "result")
    return dict(json.loads((folder / "result" / "report.json").read_text()))
