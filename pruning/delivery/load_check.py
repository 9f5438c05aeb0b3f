"""Load an exported directory as a stranger would, in a fresh process, and compare its answers.

The process cannot import our packages or reach the network, reads safetensors only, and runs in an empty
directory with an empty cache for remote code. `modeling_pruned.py` runs there only if it is our own template,
byte for byte.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pruning.delivery.export import CODE_FILE, code_template
from pruning.errors import ArtifactBroken, Canceled
from pruning.events import ShouldStop
from pruning.report import LoadCheck

Load = Literal["plain", "remote_code"]

TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit where that exceeds 1: rounding, with room."""

_PROBE = Path(__file__).with_name("load_probe.py")
_ALLOWED = {".json", ".safetensors", ".txt", ".model", ".md", ".jinja"}
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_TIMEOUT_SECONDS = 900.0


def check(
    folder: Path,
    inputs: Mapping[str, Sequence[Sequence[int]]],
    expected: Sequence[Sequence[float]],
    auto_class: str,
    *,
    should_stop: ShouldStop = lambda: None,
) -> LoadCheck:
    """Compare the logits of the loaded model with `expected` (rows, logits), computed in fp32 on the CPU.

    All logits of a row count, one after the other: of every token, of starts and ends.

    `inputs` are the integer inputs by name, each (rows, tokens). A directory with `auto_map` is loaded
    both plainly and with its code. Raises ArtifactBroken when it does not load or answers otherwise, and
    Canceled within a second after `should_stop` says so.
    """
    folder = folder.resolve()
    loads = _loads(folder)
    asked = {"folder": str(folder), "auto_class": auto_class, "inputs": inputs, "loads": loads}
    with tempfile.TemporaryDirectory(prefix="load-check-") as scratch:
        found = _probe(Path(scratch), asked, should_stop)
    tolerance = TOLERANCE * max(1.0, max(abs(value) for row in expected for value in row))
    for load, answer in found.items():
        if answer["complaints"]:
            raise ArtifactBroken(
                f"The exported model does not fit its config ({load}): {answer['complaints']}."
            )
    differences: dict[str, float] = {
        load: _difference(answer["logits"], expected) for load, answer in found.items()
    }
    for load, difference in differences.items():
        if not difference <= tolerance:
            raise ArtifactBroken(
                f"The exported model answers differently when loaded again ({load}): "
                f"logits differ by {difference:.3g}, more than {tolerance:.3g}."
            )
    parameters = {load: answer["parameters"] for load, answer in found.items()}
    return LoadCheck(differences=differences, parameters=parameters, tolerance=tolerance)


def _loads(folder: Path) -> list[Load]:
    """The ways to load the directory; raises ArtifactBroken for files or code that no export of ours has."""
    code = folder / CODE_FILE
    strange = [path.name for path in folder.iterdir() if path != code and path.suffix not in _ALLOWED]
    if strange:
        raise ArtifactBroken(f"The exported directory holds unexpected files: {', '.join(sorted(strange))}.")
    auto_map = json.loads((folder / "config.json").read_text("utf-8")).get("auto_map")
    if auto_map is None:
        return ["plain"]
    if not code.is_file() or code.read_text("utf-8") != code_template():
        raise ArtifactBroken(f"{CODE_FILE} is not the code that exports carry.")
    if any(target.split(".")[0] != code.stem for target in auto_map.values()):
        raise ArtifactBroken(f"auto_map names code outside {CODE_FILE}.")
    return ["plain", "remote_code"]


def _probe(scratch: Path, asked: Mapping[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
    request, answer, errors = scratch / "request.json", scratch / "answer.json", scratch / "errors.txt"
    request.write_text(json.dumps(asked), "utf-8")
    (scratch / "empty").mkdir()
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
        "HOME": str(scratch),
        "HF_HOME": str(scratch / "hub"),
        "HF_MODULES_CACHE": str(scratch / "modules"),
        "HF_HUB_OFFLINE": "1",
    }
    process = _start([str(_PROBE), str(request), str(answer)], scratch / "empty", environment, errors)
    _wait(process, should_stop)
    if process.returncode != 0:
        tail = errors.read_text("utf-8", "replace").strip()[-2000:]
        raise ArtifactBroken(f"The exported model does not load in a fresh process: {tail}")
    found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return found


def _start(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Start a program of ours in a fresh interpreter, with its output in `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our interpreter, our program
            [sys.executable, "-I", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def _wait(process: "subprocess.Popen[bytes]", should_stop: ShouldStop) -> None:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    try:
        while process.poll() is None:
            if should_stop():
                raise Canceled("Stopped while the exported model was checked.")
            if time.monotonic() > deadline:
                raise ArtifactBroken(f"The load check did not end within {_TIMEOUT_SECONDS:.0f} seconds.")
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _difference(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> float:
    """The largest absolute difference; infinite for another shape, and not a number if any logit is not."""
    if [len(row) for row in found] != [len(row) for row in expected]:
        return float("inf")
    pairs = zip(found, expected, strict=True)
    gaps = [abs(a - b) for row, wanted in pairs for a, b in zip(row, wanted, strict=True)]
    return float("nan") if any(gap != gap for gap in gaps) else max(gaps)
