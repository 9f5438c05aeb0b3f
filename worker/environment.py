"""The environment of a child: an allow-list, so that no secret of the worker's own environment reaches it."""

import os
from pathlib import Path

_INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)
_NETWORK = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_CODE = Path(__file__).resolve().parents[1]


def child_environment(
    scratch: Path, *, threads: int, accelerators: str = "", offline: bool = True
) -> dict[str, str]:
    """The variables of a child that keeps its temporary and cached files under `scratch`.

    `accelerators` is for CUDA_VISIBLE_DEVICES; "" hides every one. `offline` is False only for the stage that
    downloads from the hub.
    """
    temporary = scratch / "tmp"
    temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
    inherited = _INHERITED if offline else _INHERITED + _NETWORK
    environment = {name: os.environ[name] for name in inherited if name in os.environ}
    return (
        environment
        | _quiet_libraries(temporary, offline)
        | {
            "CUDA_VISIBLE_DEVICES": accelerators,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
        }
    )


def _quiet_libraries(temporary: Path, offline: bool) -> dict[str, str]:
    return {
        "PYTHONPATH": str(
            _CODE
        ),  # the child starts in its own folder, with -P: that folder is not searched for modules
        "TMPDIR": str(temporary),
        "HOME": str(temporary),  # caches of libraries end with the attempt
        "HF_HOME": str(temporary / "hub"),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",  # its threads and the loader's forks do not go together
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it CUDA matrix products are not reproducible
    }
