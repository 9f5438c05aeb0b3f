"""The manifests are what Kubernetes and KEDA publish, and agree with the code, the images and each other.

No cluster is needed: the schemas come with packages, and the query by which KEDA scales runs on a real database.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from typer.main import get_command

from cli.main import application
from core.db import Database
from core.jobs import leases, repository
from core.queues import KINDS
from core.settings import SECRET_FIELDS, Settings
from tests.deploy.compose import ROOT
from tests.deploy.dockerfile import images
from tests.support.ledger import make_job

FOLDER = ROOT / "deploy" / "kubernetes"
OLDEST, NEWEST = "1.30", "1.37"
Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    """Every object of the files that kustomization.yaml names."""
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [each for name in names for each in yaml.safe_load_all((FOLDER / name).read_text())]


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


ALL = {named(manifest): manifest for manifest in manifests()}
WORKLOADS = {name: each for name, each in ALL.items() if each["kind"] in ("Deployment", "Job")}


def pod(workload: Manifest) -> Manifest:
    return dict(workload["spec"]["template"]["spec"])


def containers(workload: Manifest) -> Iterator[Manifest]:
    yield from pod(workload).get("initContainers", [])
    yield from pod(workload)["containers"]


@pytest.mark.parametrize("name", ALL)
def test_every_object_is_what_was_published(name: str) -> None:
    manifest = ALL[name]
    if manifest["apiVersion"].startswith("keda.sh/"):
        model = getattr(keda, manifest["kind"])
        told = model.model_validate(manifest).model_dump(by_alias=True, exclude_unset=True, mode="json")
        assert told == manifest, "a field that KEDA does not know is dropped by its model"
        return
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_does_not_exist_would_be_noticed() -> None:
    api = ALL["Deployment-api"]
    wrong = api | {"spec": api["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)
    scaled = ALL["ScaledObject-worker-cpu"]
    wrong = scaled | {"spec": scaled["spec"] | {"minReplicas": 1}}
    told = keda.ScaledObject.model_validate(wrong).model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert told != wrong


def test_every_file_is_named_and_every_name_is_used_once() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*listed, "kustomization.yaml"}
    assert len(ALL) == len(manifests())


def test_every_variable_is_a_setting_with_a_value_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = dict(ALL["ConfigMap-prunery"]["data"])
    for workload in WORKLOADS.values():
        for container in containers(workload):
            assert container["envFrom"] == [{"configMapRef": {"name": "prunery"}}]
            variables |= {each["name"]: each["value"] for each in container.get("env", [])}
    secret = {f"PRUNERY_{name.upper()}_FILE" for name in SECRET_FIELDS}
    assert set(variables) - secret <= {f"PRUNERY_{name.upper()}" for name in Settings.model_fields}
    assert not {f"PRUNERY_{name.upper()}" for name in SECRET_FIELDS} & set(variables)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().data_dir == Path("/data")


def test_the_secret_is_mounted_where_the_settings_look_and_named_where_keda_looks() -> None:
    data = ALL["ConfigMap-prunery"]["data"]
    files = [Path(value) for name, value in data.items() if name.endswith("_FILE")]
    for workload in WORKLOADS.values():
        volumes = {each["name"]: each for each in pod(workload)["volumes"]}
        for container in containers(workload):
            mounts = {each["mountPath"]: volumes[each["name"]] for each in container["volumeMounts"]}
            assert {str(file.parent) for file in files} <= set(mounts)
            assert mounts["/run/secrets/prunery"]["secret"]["secretName"] == "prunery"
    (target,) = ALL["TriggerAuthentication-prunery"]["spec"]["secretTargetRef"]
    assert (target["name"], target["key"]) == ("prunery", Path(data["PRUNERY_DATABASE_URL_FILE"]).name)


def test_images_commands_and_ports_are_those_of_the_dockerfile() -> None:
    built, commands = images(), get_command(application).commands  # type: ignore[attr-defined]
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]
    assert {each["name"] for each in listed} == {f"prunery/{name}" for name in built if name != "base"}
    for workload in WORKLOADS.values():
        for container in containers(workload):
            image = built[container["image"].removeprefix("prunery/")]
            assert image.user == "prunery"
            if "command" in container:
                program, name, *options = container["command"]
                assert program == "prunery"
                assert set(options) <= {option for each in commands[name].params for option in each.opts}
            for port in container.get("ports", []):
                assert {port["containerPort"]} == image.ports
                assert f'"{port["containerPort"]}"' in image.command


def test_probes_ask_what_is_there() -> None:
    (api,) = pod(ALL["Deployment-api"])["containers"]
    paths = set(json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"])
    probes = [api[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
    assert {probe["path"] for probe in probes} <= paths
    assert {probe["port"] for probe in probes} == {port["name"] for port in api["ports"]} == {"http"}
    (service,) = ALL["Service-api"]["spec"]["ports"]
    assert service["targetPort"] == "http"


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_pod_is_closed(name: str) -> None:
    spec = pod(WORKLOADS[name])
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(WORKLOADS[name]):
        closed = container["securityContext"]
        assert closed["readOnlyRootFilesystem"]
        assert closed["allowPrivilegeEscalation"] is False
        assert closed["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
    assert spec["securityContext"]["runAsUser"] == int(_uid())


def test_a_worker_has_time_to_hand_its_job_back() -> None:
    """A stubborn job is killed after the grace; then its checkpoint, files and row are still to be seen to."""
    for name in ("cpu", "gpu"):
        spec = pod(ALL[f"Deployment-worker-{name}"])
        assert spec["terminationGracePeriodSeconds"] >= Settings().cancel_grace_seconds + 30
        assert "replicas" not in ALL[f"Deployment-worker-{name}"]["spec"], "KEDA's number is not to be undone"


def test_labels_selectors_and_targets_agree() -> None:
    labels = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in WORKLOADS.items()}
    for name, workload in WORKLOADS.items():
        if workload["kind"] == "Deployment":
            assert workload["spec"]["selector"]["matchLabels"] == labels[name]
    for selector in (
        ALL["Service-api"]["spec"]["selector"],
        ALL["PodDisruptionBudget-api"]["spec"]["selector"]["matchLabels"],
        ALL["NetworkPolicy-requests"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector == labels["Deployment-api"]
    for kind in KINDS:
        scaled = ALL[f"ScaledObject-worker-{kind}"]["spec"]
        assert f"Deployment-{scaled['scaleTargetRef']['name']}" in WORKLOADS


def test_keda_counts_the_jobs_of_a_queue_that_are_not_over(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.write() as session:
        for queue in ("cpu", "cpu", "cpu", "gpu-16g", "gpu"):
            over = make_job(session, queue=queue)
        make_job(session, queue="cpu")
        repository.cancel(session, over.owner_id, over.id)
        leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
    database.dispose()
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        counts = {}
        for kind in KINDS:
            (trigger,) = ALL[f"ScaledObject-worker-{kind}"]["spec"]["triggers"]
            assert trigger["type"] == "postgresql"
            counts[kind] = connection.execute(trigger["metadata"]["query"]).fetchone()
    assert counts == {"cpu": (4,), "gpu": (1,)}


def _uid() -> str:
    words = (ROOT / "Dockerfile").read_text().split()
    return words[words.index("--uid") + 1]
