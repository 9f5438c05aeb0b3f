"""Large files against the real service, over connections that break."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.cutter import Cutter
from client import ApiProblem, Dataset, PruneryClient, Unreachable, uploads
from tests.support.api import Api, running_api
from tests.support.reviews import write_reviews

PART = 64 * 1024
Sent = list[tuple[str, int]]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("parts"), upload_part_bytes=PART) as api:
        yield api


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of a large train split and a small one to validate on."""
    monkeypatch.setattr(uploads, "WHOLE_BYTES", PART)
    write_reviews(tmp_path / "train.jsonl", rows=4000)
    write_reviews(tmp_path / "validation.jsonl", rows=10)
    assert (tmp_path / "train.jsonl").stat().st_size > 3 * PART
    return tmp_path


@pytest.fixture
def cutter(api: Api) -> Iterator[Cutter]:
    cutter = Cutter(api.url)
    yield cutter
    cutter.close()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Methods and paths of what the client sent since, retries not counted."""
    seen: list[tuple[str, str]] = []
    send: Callable[..., object] = uploads.Transport.request

    def noting(self: uploads.Transport, method: str, path: str, **rest: object) -> object:
        seen.append((method, path))
        return send(self, method, path, **rest)

    monkeypatch.setattr(uploads.Transport, "request", noting)
    return seen


def parts(requests: list[tuple[str, str]]) -> list[int]:
    """The numbers of the parts that were sent."""
    return [
        int(path.rpartition("/")[2]) for method, path in requests if method == "PUT" and "/parts/" in path
    ]


def check(api: Api, dataset: Dataset, folder: Path, sent: Sent) -> None:
    """The dataset is whole, the progress adds up, and nothing is left of its parts."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert dataset.status == "ready"
    assert {file.name: file.bytes for file in dataset.files} == sizes
    for name, size in sizes.items():
        assert sum(count for file, count in sent if file == name) == size
    with PruneryClient(api.url, api.key) as client:
        client.delete_dataset(dataset.id)


def test_a_cut_connection_costs_one_part(
    api: Api, cutter: Cutter, folder: Path, requests: list[tuple[str, str]]
) -> None:
    sent: Sent = []
    cutter.cut_after(int(2.5 * PART))
    with PruneryClient(cutter.url, api.key) as client:
        dataset = client.upload_dataset(folder, sent=lambda *moved: sent.append(moved))
    assert cutter.cuts == 1
    assert parts(requests) == list(range(1, len(parts(requests)) + 1)), (
        "each once, but for the transport's retry"
    )
    check(api, dataset, folder, sent)


def test_a_second_call_sends_only_what_is_missing(
    api: Api, cutter: Cutter, folder: Path, requests: list[tuple[str, str]]
) -> None:
    cutter.cut_after(int(2.5 * PART))
    with PruneryClient(cutter.url, api.key, retries=0) as client, pytest.raises(Unreachable):
        client.upload_dataset(folder, name="large")
    begun = parts(requests)
    requests.clear()
    sent: Sent = []
    with PruneryClient(api.url, api.key) as client:
        other = client.upload_dataset(folder / "validation.jsonl", name="large")
        assert not any(path == "/v1/uploads" for _, path in requests), "small files are not looked for"
        dataset = client.upload_dataset(folder, name="large", sent=lambda *moved: sent.append(moved))
    assert parts(requests)[0] == begun[-1]
    assert requests.count(("POST", "/v1/datasets")) == 1, "of the small one only"
    assert other.id != dataset.id
    check(api, dataset, folder, sent)


def test_what_was_begun_with_other_files_is_left_alone(api: Api, cutter: Cutter, folder: Path) -> None:
    with PruneryClient(cutter.url, api.key, retries=0) as client:
        cutter.cut_after(int(2.5 * PART))
        with pytest.raises(Unreachable):
            client.upload_dataset(folder, name="first")
        begun = {dataset.id for dataset in client.datasets() if dataset.status == "uploading"}
        assert begun
        write_reviews(folder / "train.jsonl", rows=4000, seed=1)
        changed, renamed = (
            client.upload_dataset(folder, name="first"),
            client.upload_dataset(folder, name="x"),
        )
        assert not {changed.id, renamed.id} & begun
        for dataset_id in begun:
            client.delete_dataset(dataset_id)


def test_a_file_that_changes_while_it_is_sent_is_refused(
    api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_sha256", lambda _: "a" * 64)
    with PruneryClient(api.url, api.key) as client:
        with pytest.raises(ApiProblem, match="not the file that was declared") as caught:
            client.upload_dataset(folder)
        assert caught.value.code == "digest_mismatch"


def test_an_answer_that_was_lost_is_no_failure(
    api: Api, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = uploads.Transport.request

    def twice(self: uploads.Transport, method: str, path: str, **rest: object) -> object:
        if path.endswith("/complete"):
            send(self, method, path, **rest)  # type: ignore[arg-type]
        return send(self, method, path, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(uploads.Transport, "request", twice)
    with PruneryClient(api.url, api.key) as client:
        assert client.upload_dataset(folder).status == "ready"
