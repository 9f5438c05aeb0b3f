"""Content-Digest (RFC 9530): what is promised of a body is checked, and what cannot be checked is refused."""

import base64
import hashlib

import pytest

from app.http.digest import promised_sha256
from app.http.problem import Problem
from tests.app.conftest import Service, problem
from tests.app.test_limits import left_over


def promise(content: bytes) -> dict[str, str]:
    """The header that promises these bytes."""
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


def test_a_promise_is_checked_on_whole_files(service: Service) -> None:
    model_id = service.upload("models", {})
    url = f"/v1/models/{model_id}/files/vocab.txt"
    problem(service.client.put(url, content=b"other", headers=promise(b"words")), 422, "digest_mismatch")
    problem(
        service.client.put(url, content=b"words", headers={"Content-Digest": "sha-512=:AAAA:"}),
        422,
        "invalid_request",
        "header:Content-Digest",
    )
    assert left_over(service) == []
    assert service.client.get(f"/v1/models/{model_id}").json()["files"] == []
    assert service.client.put(url, content=b"words", headers=promise(b"words")).status_code == 204


@pytest.mark.parametrize("before", ["", "sha-512=:AAAA:, ", "sha-256=:AAAA:,"])
def test_the_example_of_the_standard(before: str) -> None:
    """RFC 9530, section 2: the digest of `{"hello": "world"}` and a line's end."""
    header = f"{before}sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert promised_sha256(header) == hashlib.sha256(b'{"hello": "world"}\n').hexdigest()
    assert promised_sha256(None) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        ",",
        "sha-256",
        "sha-256=abc",
        "sha-256=:AAAA:",
        "sha-256=:A:",
        "sha-512=:AAAA:",
        "§",
        "sha-256=:A=A:",
    ],
)
def test_what_cannot_be_checked_is_refused(header: str) -> None:
    with pytest.raises(Problem, match="SHA-256 of the body"):
        promised_sha256(header)
