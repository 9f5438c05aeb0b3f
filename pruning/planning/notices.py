"""What kind of result a request makes, and what whoever asks should know of it. Imports no torch."""

import math

from pruning.data.rows import DataSummary
from pruning.granularity import Granularity
from pruning.report import Notice, ResultKind
from pruning.spec import PruneSpec


def result_kind(spec: PruneSpec) -> ResultKind:
    """What is left in the end: a smaller model, one with zeros, both, or the dense one."""
    if not spec.prunes:
        return "dense"
    granularity = Granularity.parse(spec.granularity)
    if granularity.removable or spec.fills:
        return "shrunk"
    return "mixed" if granularity.mixed else "zeros"


def notices(spec: PruneSpec, data: DataSummary) -> tuple[Notice, ...]:
    """What is worth knowing of a settled request."""
    found = []
    if result_kind(spec) == "zeros":
        text = f"{spec.granularity} leaves zeros in matrices of the same size: nothing gets faster by itself."
        found.append(Notice(code="zeros_only", message=text))
    if result_kind(spec) == "mixed":
        where = "the attention" if spec.granularity.startswith("hybrid") else "what is left"
        text = f"{spec.granularity} leaves zeros in {where}: only what is removed makes it faster."
        found.append(Notice(code="zeros_left", message=text))
    if spec.fills:
        text = (
            f"fill makes weights of all zeros in what is left: the result has less than {spec.target_ratio} of its "
            "weights removed."
        )
        found.append(Notice(code="filled", message=text))
    uneven = spec.allocation == "global" and spec.granularity != "layer" and not spec.cuts_vocabulary
    if result_kind(spec) in ("shrunk", "mixed") and uneven:
        text = "Layers may differ in size: a plain load is exact, full speed needs trust_remote_code=True."
        if spec.granularity == "structured":
            text += " With allocation native a plain load is small and fast."
        found.append(Notice(code="remote_code", message=text))
    if spec.max_quality_drop is not None:
        found += _coarse(spec.max_quality_drop, spec, data)
    if not data.splits.get("validation"):
        text = "The dataset has no validation split: a part of the training rows is held out."
        found.append(Notice(code="no_validation", message=text))
    return tuple(found)


def _coarse(drop: float, spec: PruneSpec, data: DataSummary) -> list[Notice]:
    """A warning where one row more or less is worth more than may be lost."""
    held_out = data.splits.get("validation") or data.splits["train"] * spec.evaluate.validation_fraction
    rows = min(max(1, int(held_out) // 2), spec.evaluate.max_rows or math.inf)
    if drop >= 100 / rows:
        return []
    text = (
        f"Cuts are compared on {rows} rows: one of them is about {100 / rows:.2g} points, more than {drop:g}."
    )
    return [Notice(code="coarse_metric", message=text)]
