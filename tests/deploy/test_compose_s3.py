"""docker-compose.s3.yml is right: laid over docker-compose.yml, its services make a bucket and keep objects in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.compose import ROOT, Service, interpolate, services
from tests.support.s3_server import KEY_ID, SECRET, S3Server

FILE = "docker-compose.s3.yml"
SECRETS = {
    "POSTGRES_PASSWORD": "long-and-random",
    "S3_ACCESS_KEY_ID": KEY_ID,
    "S3_SECRET_ACCESS_KEY": SECRET,
}
ROUND_TRIP = """\
from core.artifacts.configured import configured_store
from core.settings import settings_from_env
settings = settings_from_env()
store = configured_store(settings)
stored = store.put([b"of a container"])
print(type(store).__name__, settings.s3_redirects, store.open(stored.sha256).read())
"""


def run(service: Service, command: tuple[str, ...], server: S3Server, folder: Path) -> str:
    """What a command says in the service's environment; Docker's names are replaced by this machine's."""
    replaced = {"http://s3:8333": server.url, "/data": str(folder), "/keys": str(folder)}
    own = {name: replaced.get(value, value) for name, value in service.environment.items()}
    done = subprocess.run(
        (sys.executable, *command[1:]),
        env={"PATH": os.environ["PATH"], "HOME": str(folder)} | own,
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bucket_is_made_once_and_every_service_keeps_objects_in_it(
    s3_server: S3Server, tmp_path: Path
) -> None:
    found = services(SECRETS, FILE)
    for _ in range(2):
        run(found["bucket"], found["bucket"].command, s3_server, tmp_path)
    assert [each["Name"] for each in s3_server.client().list_buckets()["Buckets"]].count("prunery") == 1
    for name in ("api", "worker", "worker-gpu"):
        said = run(found[name], ("python", "-c", ROUND_TRIP), s3_server, tmp_path)
        assert said == "S3Store False b'of a container'\n", name
    objects = s3_server.client().list_objects_v2(Bucket="prunery")["Contents"]
    assert [entry["Key"].startswith("store/sha256/") for entry in objects] == [True]


def test_services_wait_for_the_bucket_and_else_stay_as_they_were() -> None:
    plain, merged = services(SECRETS), services(SECRETS, FILE)
    assert merged.keys() - plain.keys() == {"s3", "bucket"}
    assert merged["bucket"].after == {"s3": "service_healthy"}
    assert merged["bucket"].target == "api"
    for name, service in plain.items():
        changed = merged[name]
        if name in ("api", "worker", "worker-gpu"):
            assert changed.after == service.after | {"bucket": "service_completed_successfully"}
            assert service.environment.items() < changed.environment.items()
        else:
            assert changed == service
        assert (changed.command, changed.health) == (service.command, service.health)


def test_the_server_knows_the_key_that_the_services_have() -> None:
    entry = yaml.safe_load(interpolate((ROOT / FILE).read_text(), SECRETS))
    (identity,) = json.loads(entry["configs"]["s3"]["content"])["identities"]
    assert identity["credentials"] == [{"accessKey": KEY_ID, "secretKey": SECRET}]
    (config,) = entry["services"]["s3"]["configs"]
    assert f"-s3.config={config['target']}" in entry["services"]["s3"]["command"]


@pytest.mark.parametrize("name", ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"])
def test_there_is_no_default_key(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        services(SECRETS | {name: ""}, FILE)
    assert f"{name}=\n" in (ROOT / ".env.example").read_text()
