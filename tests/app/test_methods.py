"""The catalogue of methods over HTTP: whole, one by one, and not again when nothing changed."""

import pytest

from tests.app.conftest import Service, problem


@pytest.mark.parametrize("path", ["/v1/methods", "/v1/methods/kprune"])
def test_what_did_not_change_is_not_sent_again(service: Service, path: str) -> None:
    first = service.client.get(path)
    etag = first.headers["etag"]
    same = service.client.get(path, headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    other = service.client.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.json()) == (200, first.json())


def test_a_method_that_is_none(service: Service) -> None:
    problem(service.client.get("/v1/methods/evil"), 404, "not_found")
