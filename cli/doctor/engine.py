"""Whether a job's process could start here: torch, transformers and GPUs, tried in a process of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cli.doctor.finding import Finding
from core.settings import Settings

_SECONDS = 120
_INSTALL = "install it where a worker runs: pip install 'prunery[worker]'"
# Text, and not a module of ours: torch stays out of everything that this process can import.
_PROGRAM = """
import json, resource, sys
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import torch, transformers
devices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
for device in devices:
    ones = torch.ones(64, 64, device=device)
    assert (ones @ ones == 64).all().item(), device
names = [torch.cuda.get_device_name(device) for device in devices[1:]]
print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, "gpus": names}))
"""


def check_engine(settings: Settings) -> Iterator[Finding]:
    """Multiply matrices on every device, under the memory limit and the environment of a job."""
    if find_spec("torch") is None:
        # As it should be in the API's image; but who asks for GPUs means to run a worker.
        detail, wanted = "torch is not installed: no worker can run here", settings.worker_queue == "gpu"
        yield Finding("engine", "fail" if wanted else "warn", detail, _INSTALL)
        return
    from worker.devices import Devices, NoDevice, accelerators
    from worker.liveness import worker_answers

    visible = list(accelerators()) if settings.worker_queue == "gpu" else []
    try:
        Devices(settings)
    except NoDevice as error:
        yield Finding("gpu", "fail", str(error), "run `nvidia-smi`: it must list the devices")
    yield from _tried(settings, visible)
    if worker_answers(settings.work_dir):
        yield Finding("worker", "ok", "a worker of this machine gave a sign of life within a minute")
    else:
        yield Finding(
            "worker", "warn", "no worker of this machine gives a sign of life", "run `prunery worker`"
        )


def _tried(settings: Settings, visible: list[str]) -> Iterator[Finding]:
    try:
        found = _try(settings, ",".join(visible))
    except subprocess.TimeoutExpired:
        yield Finding(
            "engine", "fail", f"torch did not start within {_SECONDS} s", "see what burdens the machine"
        )
        return
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        detail = lines[-1] if lines else f"the process ended with {error.returncode}"
        remedy = f"{_INSTALL}; or raise PRUNERY_CHILD_MEMORY_BYTES, if that is set"
        yield Finding("engine", "fail", detail, remedy)
        return
    yield Finding("engine", "ok", f"torch {found['torch']}, transformers {found['transformers']}")
    if len(found["gpus"]) < len(visible):
        detail = f"nvidia-smi lists {len(visible)} devices, torch can use {len(found['gpus'])}"
        yield Finding("gpu", "fail", detail, "install a build of torch for this driver's CUDA")
    elif visible:
        yield Finding("gpu", "ok", ", ".join(found["gpus"]))


def _try(settings: Settings, visible: str) -> dict[str, Any]:
    from worker.environment import child_environment

    with TemporaryDirectory() as scratch:
        environment = child_environment(
            Path(scratch), threads=settings.threads_per_slot, accelerators=visible
        )
        command = [sys.executable, "-P", "-c", _PROGRAM, str(settings.child_memory_bytes or 0)]
        done = subprocess.run(  # noqa: S603 - text of our own
            command,
            env=environment,
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found
