"""What is signed: which files a job's result has, how large each is, and its SHA-256."""

import json
from collections.abc import Sequence

from core.artifacts.tables import Artifact
from core.clock import rfc3339
from core.db.base import Json
from core.jobs.tables import Job
from core.signing.keys import jwk, thumbprint

FORMAT = "prunery-manifest/1"


def manifest(job: Job, artifacts: Sequence[Artifact], public_key: str | None) -> Json:
    """The manifest of a succeeded job, without its signature; `public_key` is None for one never signed."""
    key = None if public_key is None else jwk(public_key) | {"kid": thumbprint(public_key)}
    return {
        "format": FORMAT,
        "job": job.id,
        "published_at": None if job.finished_at is None else rfc3339(job.finished_at),
        "files": [
            {"name": artifact.name, "bytes": artifact.bytes, "sha256": artifact.sha256}
            for artifact in sorted(artifacts, key=lambda artifact: artifact.name)
        ],
        "key": key,
    }


def signed_bytes(manifest: Json) -> bytes:
    """The bytes that a signature is over: canonical JSON (RFC 8785) of all members but the signature.

    Names are ASCII and numbers are integers, for which sorted keys and no spaces are all that it asks.
    """
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
