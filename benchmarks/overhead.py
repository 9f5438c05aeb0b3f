"""What the service adds to a job: its wall time over HTTP minus the same call of the library.

PRUNERY_DATA=FOLDER python -m benchmarks.overhead --rounds 3

Both prune the same model on the same rows, in turns. The job's time runs from the request to the moment its result can
be downloaded; the library's is `prune()` alone, in a process of its own that has imported everything before.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cells import DATASET, MAX_LENGTH, MODEL, data_folder
from client import PruneryClient
from examples.embedded_service import embedded_service
from pruning.data.readers import read

FIELDS: dict[str, Any] = {
    "target_ratio": 0.5,
    "max_length": MAX_LENGTH,
    "evaluate": {"latency": False},
    "device": "cpu",
}
CALIBRATION = {"calibration_tokens": 4000}
LIBRARY = """\
import json, sys, time
from pathlib import Path
from pruning import prune
from pruning.spec import PruneSpec
spec, model, dataset, out = json.loads(sys.argv[1])
import pruning.methods, pruning.delivery.deliver, pruning.training.train
began = time.perf_counter()
prune(PruneSpec.model_validate(spec), Path(model), Path(dataset), Path(out))
print(time.perf_counter() - began)
"""


def main() -> None:
    """Print one line per round, then the median of the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    options = parser.parse_args()
    root = data_folder()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = _subset(root / DATASET, folder / "dataset", options.rows)
        with embedded_service(folder / "data", folder / "service.log") as client:
            model_id, dataset_id = client.upload_model(root / MODEL).id, client.upload_dataset(dataset).id
            print("| round | job s | library s | overhead s |\n|---|---|---|---|")
            overheads = []
            for number in range(options.rounds):
                job = _job_seconds(client, model_id, dataset_id, number)
                library = _library_seconds(root / MODEL, dataset, folder / f"out-{number}", number)
                overheads.append(job - library)
                print(f"| {number + 1} | {job:.1f} | {library:.1f} | {overheads[-1]:.1f} |", flush=True)
    print(f"median overhead: {median(overheads):.1f} s")


def _subset(source: Path, folder: Path, rows: int) -> Path:
    folder.mkdir()
    first = islice(read(source / "train.parquet"), rows)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for _, row in first))
    (folder / "validation.jsonl").write_bytes((source / "validation.jsonl").read_bytes())
    return folder


def _job_seconds(client: PruneryClient, model: str, dataset: str, seed: int) -> float:
    began = time.perf_counter()
    job = client.submit(model, dataset, method={"name": "kprune", **CALIBRATION}, seed=seed, **FIELDS)
    done = client.wait(job.id, poll_seconds=0.1)
    if done.status != "succeeded":
        raise SystemExit(f"{job.id} {done.status}: {done.error}")
    return time.perf_counter() - began


def _library_seconds(model: Path, dataset: Path, out: Path, seed: int) -> float:
    spec = {"method": "kprune", "settings": CALIBRATION, "seed": seed, **FIELDS}
    request = json.dumps([spec, str(model), str(dataset), str(out)])
    command = [sys.executable, "-W", "ignore", "-c", LIBRARY, request]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
