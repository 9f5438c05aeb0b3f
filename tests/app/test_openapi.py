"""The published description is true: complete, committed, and kept by every reply."""

import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app import publish_openapi
from app.jobs.request import ENVELOPE, JobRequest
from pruning.spec import PruneSpec
from tests.app.conftest import Service, problem
from tests.support.uploads import model_files

STREAMS = {"download_archive", "download_artifact"}


@pytest.fixture
def document(service: Service) -> dict[str, Any]:
    """The OpenAPI document."""
    served = service.client.get("/openapi.json", headers={"Authorization": ""}).json()
    assert isinstance(served, dict)
    return served


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every operation."""
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def test_the_committed_document_is_the_served_one() -> None:
    assert publish_openapi.PATH.read_text("utf-8") == publish_openapi.generate(), "run make generate"


def test_every_operation_is_described_and_every_error_is_a_problem(document: dict[str, Any]) -> None:
    found = operations(document)
    assert len({operation["operationId"] for operation in found}) == len(found) >= 25
    for operation in found:
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
        errors = {status for status in operation["responses"] if status >= "400"}
        assert "500" in errors
        for status in errors:
            content = operation["responses"][status]["content"]
            assert content == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
            }
        if operation["tags"] != ["health"] and operation["operationId"] != "list_signing_keys":
            ((scheme, scopes),) = operation["security"][0].items()
            assert scheme == "ApiKey"
            assert {"401", "429"} <= errors
            # The scope of an upload is that of what it is for: its routes ask for it themselves.
            assert ("403" in errors) == (bool(scopes) or operation["tags"] == ["uploads"])


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    names = document["components"]["schemas"]
    assert {
        reference.removeprefix("#/components/schemas/") for reference in references(document)
    } <= names.keys()


def test_a_request_has_every_field_of_the_engine_and_no_other(document: dict[str, Any]) -> None:
    engine = set(PruneSpec.model_fields) - {"settings"}
    assert set(document["components"]["schemas"]["JobRequest"]["properties"]) == engine | ENVELOPE
    for name, field in document["components"]["schemas"]["JobRequest"]["properties"].items():
        assert field.get("description"), name
    assert set(JobRequest.model_fields) == set(PruneSpec.model_fields) | ENVELOPE


def test_no_parameter_may_be_null(document: dict[str, Any]) -> None:
    found = [each["schema"] for operation in operations(document) for each in operation.get("parameters", ())]
    assert {"type": "string", "pattern": "^[0-9]{1,15}$", "title": "Last-Event-Id"}.items() <= next(
        schema for schema in found if schema.get("title") == "Last-Event-Id"
    ).items()
    assert all("anyOf" not in schema and schema.get("type") != "null" for schema in found)


def validator(document: dict[str, Any], name: str) -> Draft202012Validator:
    """A validator of one of the document's schemas."""
    return Draft202012Validator(document | {"$ref": f"#/components/schemas/{name}"})


def test_replies_keep_to_their_schemas(service: Service, document: dict[str, Any]) -> None:
    job_id = service.finished({f"model/{name}": content for name, content in model_files().items()})
    pairs = {
        f"/v1/jobs/{job_id}": "JobView",
        "/v1/jobs": "Listing_JobView_",
        f"/v1/jobs/{job_id}/events": "EventPage",
        f"/v1/jobs/{job_id}/metrics": "MetricsView",
        f"/v1/jobs/{job_id}/artifacts": "ArtifactList",
        f"/v1/jobs/{job_id}/manifest": "ManifestView",
        "/v1/signing-keys": "KeySet",
        "/v1/uploads": "Listing_UploadView_",
        "/v1/models": "Listing_ModelView_",
        "/v1/datasets": "Listing_DatasetView_",
        "/v1/workers": "WorkerList",
        "/v1/keys": "Listing_KeyView_",
        "/v1/audit": "Listing_AuditView_",
        "/v1/account": "AccountView",
        "/v1/webhooks": "Listing_WebhookView_",
        "/v1/methods": "MethodList",
        "/v1/methods/leap": "MethodView",
        "/healthz": "Health",
        "/readyz": "Readiness",
        "/v1/version": "Version",
    }
    for path, name in pairs.items():
        reply = service.client.get(path)
        assert reply.status_code == 200, reply.text
        validator(document, name).validate(reply.json())
    refused = service.client.get("/v1/jobs/none")
    validator(document, "ProblemDocument").validate(problem(refused, 404, "not_found"))
    request = service.request(method={"name": "leap", "any": 1})
    assert validator(document, "JobRequest").is_valid(request)
    assert not validator(document, "JobRequest").is_valid(request | {"colour": "red"})


def test_only_the_described_methods_are_answered_and_allow_names_them(service: Service) -> None:
    for path, described in service.app.openapi()["paths"].items():
        url = path.format(
            job_id="job_" + "0" * 26,
            model_id="mdl_" + "0" * 26,
            dataset_id="dst_" + "0" * 26,
            artifact_id="art_" + "0" * 26,
            key_id="key_" + "0" * 26,
            upload_id="upl_" + "0" * 26,
            number="1",
            webhook_id="whk_" + "0" * 26,
            delivery_id="dlv_" + "0" * 26,
            name="config.json",
        )
        methods = {method.upper() for method in described}
        allowed = methods | ({"HEAD"} if "GET" in methods else set())
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - methods:
            reply = service.client.request(method, url)
            problem(reply, 405, "method_not_allowed")
            assert set(reply.headers["allow"].split(", ")) == allowed, path
        if "GET" in methods:
            got, told = service.client.get(url), service.client.head(url)
            assert (told.status_code, told.content) == (got.status_code, b"")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/jobs/", "/v2/jobs", "/v1/models/a/b", "/v1/jobs/%2e%2e", "/%00"]
)
def test_addresses_that_are_none(service: Service, path: str) -> None:
    problem(service.client.get(path), 404, "not_found")


def test_the_command_says_whether_the_file_is_stale(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_openapi, "PATH", tmp_path / "openapi.json")
    (tmp_path / "openapi.json").write_text("{}")
    assert publish_openapi.main([]) == 1
    assert publish_openapi.main(["--write"]) == 0
    assert publish_openapi.main([]) == 0


def test_the_command_checks_the_committed_document() -> None:
    assert subprocess.run([sys.executable, "-m", "app.publish_openapi"], check=False).returncode == 0
