"""Results on disk with a manifest that a key of the test signed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.signing.keys import jwk, load_or_make, thumbprint
from core.signing.manifest import signed_bytes

FILES = {"model/config.json": b"{}", "model/model.safetensors": b"weights", "report.json": b"{}"}


def signed(path: Path, files: Mapping[str, bytes] = FILES) -> dict[str, Any]:
    """The manifest of these files, signed by the key in `path`, which is made when it is not there."""
    key = load_or_make(path)
    unsigned = {
        "format": "prunery-manifest/1",
        "job": "job_1",
        "published_at": "2026-08-01T12:00:00.000Z",
        "files": [
            {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        ],
        "key": jwk(key.public_key) | {"kid": thumbprint(key.public_key)},
    }
    return unsigned | {"signature": key.sign(signed_bytes(unsigned))}


def lay(folder: Path, document: Mapping[str, Any] | None = None) -> Path:
    """Write `FILES` and a manifest into a folder."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(document or {}, indent=2))
    return folder
