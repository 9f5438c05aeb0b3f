"""Results: the list, downloads in whole and in part, and the archive."""

import base64
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping

import pytest

from tests.app.conftest import Service, problem

CONTENT = os.urandom(1_000_000)
RESULT = {
    "report.json": b"{}",
    "model/config.json": b'{"model_type": "bert"}',
    "model/model.safetensors": CONTENT,
    "model/empty.txt": b"",
}
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{SHA256}"'


def listed(service: Service, job_id: str) -> dict[str, dict[str, str]]:
    """The artifacts of a job by name."""
    reply = service.client.get(f"/v1/jobs/{job_id}/artifacts")
    assert reply.status_code == 200
    return {artifact["name"]: artifact for artifact in reply.json()["data"]}


@pytest.fixture
def url(service: Service) -> str:
    """Where the weights of a finished job are."""
    return listed(service, service.finished(RESULT))["model/model.safetensors"]["url"]


def test_every_file_is_listed_with_size_and_hash(service: Service) -> None:
    found = listed(service, service.finished(RESULT))
    assert list(found) == sorted(RESULT)
    for name, content in RESULT.items():
        assert found[name]["bytes"] == len(content)
        assert found[name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert service.client.get(found[name]["url"]).content == content


def test_a_whole_download(service: Service, url: str) -> None:
    reply = service.client.get(url)
    assert reply.status_code == 200
    assert reply.content == CONTENT
    assert reply.headers["etag"] == ETAG
    assert reply.headers["accept-ranges"] == "bytes"
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert reply.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert reply.headers["content-length"] == str(len(CONTENT))
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-disposition"] == 'attachment; filename="model.safetensors"'


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=999990-", 999_990, 999_999),
        ("bytes=999990-9999999", 999_990, 999_999),
        ("bytes=-5", 999_995, 999_999),
        ("bytes=-99999999", 0, 999_999),
    ],
)
def test_a_part(service: Service, url: str, header: str, start: int, end: int) -> None:
    reply = service.client.get(url, headers={"Range": header})
    assert reply.status_code == 206
    assert reply.headers["content-range"] == f"bytes {start}-{end}/1000000"
    assert reply.headers["content-length"] == str(end - start + 1)
    assert reply.content == CONTENT[start : end + 1]


@pytest.mark.parametrize("header", ["bytes=5-1", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "bytes=-", ""])
def test_ranges_that_are_ignored(service: Service, url: str, header: str) -> None:
    reply = service.client.get(url, headers={"Range": header})
    assert (reply.status_code, reply.content) == (200, CONTENT)


@pytest.mark.parametrize("header", ["bytes=1000000-", "bytes=-0", "bytes=9999999999-"])
def test_ranges_that_cover_nothing(service: Service, url: str, header: str) -> None:
    reply = service.client.get(url, headers={"Range": header})
    problem(reply, 416, "range_not_satisfiable")
    assert reply.headers["content-range"] == "bytes */1000000"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Range": ETAG}, 206),
        ({"If-Range": '"other"'}, 200),
        ({"If-Range": f"W/{ETAG}"}, 200),
        ({"If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"}, 200),
        ({"If-None-Match": ETAG}, 304),
        ({"If-None-Match": f'"a", W/{ETAG}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 206),
        ({"If-None-Match": SHA256}, 206),
    ],
)
def test_conditions(service: Service, url: str, headers: Mapping[str, str], status: int) -> None:
    reply = service.client.get(url, headers={"Range": "bytes=0-3"} | dict(headers))
    assert reply.status_code == status
    assert reply.headers["etag"] == ETAG
    assert reply.content == {206: CONTENT[:4], 200: CONTENT, 304: b""}[status]


def test_head_tells_what_get_would(service: Service, url: str) -> None:
    for headers in ({}, {"Range": "bytes=0-3"}, {"If-None-Match": ETAG}):
        got, told = service.client.get(url, headers=headers), service.client.head(url, headers=headers)
        assert told.status_code == got.status_code
        assert told.content == b""
        for name in ("etag", "content-length", "content-type", "content-range", "content-disposition"):
            assert told.headers.get(name) == got.headers.get(name)


def test_bytes_that_are_gone(service: Service, url: str) -> None:
    service.store.delete(SHA256)
    problem(service.client.get(url), 410, "gone")


def test_the_archive_is_a_tar_of_the_model_and_always_the_same(service: Service) -> None:
    job_id = service.finished(RESULT)
    reply = service.client.get(f"/v1/jobs/{job_id}/archive")
    assert reply.status_code == 200
    assert reply.headers["content-length"] == str(len(reply.content))
    assert reply.headers["content-disposition"] == f'attachment; filename="{job_id}-model.tar"'
    with tarfile.open(fileobj=io.BytesIO(reply.content)) as archive:
        found = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        contents = {name: file.read() for name, file in found.items() if file is not None}
    assert contents == {name: content for name, content in RESULT.items() if name.startswith("model/")}

    again = service.client.get(f"/v1/jobs/{service.finished(RESULT)}/archive")
    assert again.content == reply.content
    assert again.headers["etag"] == reply.headers["etag"]
    same = service.client.get(f"/v1/jobs/{job_id}/archive", headers={"If-None-Match": reply.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    head = service.client.head(f"/v1/jobs/{job_id}/archive")
    assert head.headers["content-length"] == reply.headers["content-length"]


def test_a_job_that_runs_has_no_result_yet(service: Service) -> None:
    urls = service.job()["urls"]
    service.claim()
    for name in ("artifacts", "archive"):
        reply = service.client.get(urls[name])
        problem(reply, 409, "not_ready")
        assert int(reply.headers["retry-after"]) > 0


def test_a_job_that_ended_otherwise_has_none(service: Service) -> None:
    urls = service.job()["urls"]
    service.client.post(urls["cancel"])
    for name in ("artifacts", "archive"):
        problem(service.client.get(urls[name]), 409, "no_result")
