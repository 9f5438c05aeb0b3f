"""What uploading and downloading a large file costs the service, with the connection cut in the middle of both.

python -m benchmarks.transfers --mib 1024

The API runs in a process of its own on SQLite, and this process reaches it by way of another port that breaks the
connection half-way. The upload is tried once more by a new client, which sends what is missing. Growth is the peak of
the API's resident memory over what it had after a small upload and download, as Linux tells it.
"""

import argparse
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.cutter import Cutter
from client import PruneryClient, Unreachable
from core.accounts.repository import create_key, create_owner
from core.artifacts.local import LocalStore
from core.artifacts.repository import ArtifactRecord
from core.db import Database, migrate
from core.jobs.leases import claim, finish
from core.settings import Settings

MIB = 1 << 20
HIDDEN = 512
COMMAND = (
    sys.executable,
    "-m",
    "uvicorn",
    "--factory",
    "app.main:app_from_env",
    "--host",
    "127.0.0.1",
    "--port",
    "0",
)


@contextmanager
def running(settings: Settings) -> Iterator[tuple[str, psutil.Process]]:
    """The API alone, as a process; its address."""
    environment = os.environ | {"PRUNERY_DATA_DIR": str(settings.data_dir)}
    log = settings.data_dir / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(COMMAND, env=environment, stdout=output, stderr=output)
    try:
        while not (found := re.search(r"running on (http://[\d.:]+)", log.read_text())):
            if process.poll() is not None:
                raise SystemExit(f"the API did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield found[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def write_model(folder: Path, size: int) -> Path:
    """A BERT of about `size` bytes, nearly all of them random embeddings."""
    folder.mkdir()
    rows = max(size // (4 * HIDDEN), 30)
    config = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "num_hidden_layers": 2,
        "hidden_size": HIDDEN,
        "num_attention_heads": 4,
        "intermediate_size": 2 * HIDDEN,
        "vocab_size": rows,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    entry = {"dtype": "F32", "shape": [rows, HIDDEN], "data_offsets": [0, rows * 4 * HIDDEN]}
    header = json.dumps({"bert.embeddings.word_embeddings.weight": entry}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, entry["data_offsets"][1], MIB):
            file.write(os.urandom(min(MIB, entry["data_offsets"][1] - start)))
    return folder


def publish(database: Database, store: LocalStore, job_id: str, weights: Path) -> None:
    """End a job as a worker would, with `weights` as its result."""
    stored = store.put_file(weights)
    with database.write() as session:
        claimed = claim(session, worker_id="benchmark", queues=["cpu"], lease_seconds=60)
        assert claimed is not None
        assert claimed.token.job_id == job_id
        record = ArtifactRecord("model/model.safetensors", stored.bytes, stored.sha256, "x/y")
        finish(session, claimed.token, artifacts=[record], report={"kind": "shrunk"})


def measured(name: str, api: psutil.Process, size: int, act: Callable[[], object]) -> None:
    """Print how long `act` took, and how far the API's memory rose meanwhile above what it had."""
    before = api.memory_info().rss
    Path(f"/proc/{api.pid}/clear_refs").write_text("5")
    began = time.perf_counter()
    act()
    seconds = time.perf_counter() - began
    status = Path(f"/proc/{api.pid}/status").read_text()
    peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
    print(
        f"{name}: {size / MIB:,.0f} MiB in {seconds:.1f} s, {size / MIB / seconds:.0f} MiB/s; memory of the API "
        f"{before / MIB:.0f} MiB, at most {(peak - before) / MIB:+.1f} MiB"
    )


class Transfers:
    """Models that go up to one API and come down again, over connections that break."""

    def __init__(self, settings: Settings, url: str, key: str, api: psutil.Process, folder: Path) -> None:
        self.database, self.store = Database(settings.database_url), LocalStore(settings.store_dir)
        self.url, self.key, self.api, self.folder = url, key, api, folder
        self.cutter = Cutter(url)

    def there_and_back(self, model: Path, *, cut_after: int | None = None) -> None:
        """Upload a model and download it as a result; both connections are cut after so many bytes."""
        size = (model / "model.safetensors").stat().st_size
        models: list[str] = []
        measured("upload", self.api, size, lambda: models.append(self.upload(model, cut_after)))
        with PruneryClient(self.url, self.key) as client:
            dataset = client.upload_dataset(self.folder / "train.jsonl")
            job = client.submit(models[0], dataset.id, 0.5)
        publish(self.database, self.store, job.id, model / "model.safetensors")
        measured("download", self.api, size, lambda: self.download(job.id, cut_after))

    def upload(self, model: Path, cut_after: int | None) -> str:
        """The id of the model; a cut ends the first client, and a second one goes on."""
        if cut_after:
            self.cutter.cut_after(cut_after)
            with PruneryClient(self.cutter.url, self.key, retries=0) as client:
                try:
                    client.upload_model(model)
                except Unreachable as error:
                    print(f"cut: {error.reason}")
        with PruneryClient(self.cutter.url, self.key) as client:
            return client.upload_model(model).id

    def download(self, job_id: str, cut_after: int | None) -> None:
        """Bring the result; the client goes on by itself after a cut."""
        if cut_after:
            self.cutter.cut_after(cut_after)
        with PruneryClient(self.cutter.url, self.key) as client:
            client.download(job_id, self.folder / job_id)


def main() -> None:
    """Print what a small and a large transfer cost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the large model")
    size = parser.parse_args().mib * MIB
    with tempfile.TemporaryDirectory(prefix="prunery-transfers-") as scratch:
        folder = Path(scratch)
        settings = Settings(data_dir=folder / "data")
        migrate(settings.database_url)
        database = Database(settings.database_url)
        with database.write() as session:
            _, key = create_key(session, create_owner(session, "benchmark").id, "benchmark")
        database.dispose()
        rows = (f'{{"text": "row {i}", "label": {i % 2}}}\n' for i in range(20))
        (folder / "train.jsonl").write_text("".join(rows))
        with running(settings) as (url, api):
            transfers = Transfers(settings, url, key, api, folder)
            print("to warm up:")
            transfers.there_and_back(write_model(folder / "small", 2 * MIB))
            print("then, cut half-way:")
            transfers.there_and_back(write_model(folder / "large", size), cut_after=size // 2)
            parts = (transfers.store.root / "sha256").glob("*/*")
            print(f"objects in the store: {sum(1 for _ in parts)}; connections cut: {transfers.cutter.cuts}")


if __name__ == "__main__":
    main()
