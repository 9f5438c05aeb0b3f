"""What a request for a job says."""

from collections.abc import Mapping
from typing import Any

Reference = str | Mapping[str, Any]
"""An id (`mdl_...`, `dst_...`), `{"hub": ..., "revision": ...}`, or for a model `{"job": "job_..."}`."""


def job_body(
    model: Reference, dataset: Reference, target_ratio: float | None, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of POST /v1/jobs and /v1/jobs/plan; without a ratio `fields` say what is aimed at."""
    body = {"model": model, "dataset": dataset, **fields}
    return body if target_ratio is None else body | {"target_ratio": target_ratio}
