"""Sizes of the model before and after, as the report of the job counts them. Imports no torch."""

from typing import Literal

from pruning.forecast.removal import Removal
from pruning.forecast.schemas import Sizes, Span
from pruning.planning.costs import head_cost, total_cost
from pruning.planning.plan import Plan

_FLOAT = 4
"""Bytes of a stored parameter: everything is exported in fp32."""


def before(plan: Plan, parameters: Span) -> Sizes:
    """Sizes of the dense model."""
    return Sizes(
        parameters=parameters,
        weights=Span.exactly(total_cost(plan.shape, "weights", plan.length)),
        flops=Span.exactly(total_cost(plan.shape, "flops", plan.length)),
        bytes=_times(parameters, _FLOAT),
    )


def after(plan: Plan, dense: Sizes, gone: Removal) -> Sizes | None:
    """Sizes of the result; None where zeros are filled again, of as many weights as the job finds left."""
    if plan.spec.fills:
        return None
    weights = gone.sum([kind.step * kind.weights for kind in gone.kinds])
    parameters = _minus(dense.parameters, _leaving(plan, gone, "parameters"))
    uneven = plan.spec.allocation == "global" and plan.spec.granularity != "layer"
    padded = plan.kind in ("shrunk", "mixed") and uneven
    stored = _times(parameters, _FLOAT)
    return Sizes(
        parameters=parameters,
        weights=_minus(dense.weights, weights),
        flops=_minus(dense.flops, _leaving(plan, gone, "flops")),
        bytes=Span(least=stored.least, most=dense.bytes.most) if padded else stored,
    )


def _leaving(plan: Plan, gone: Removal, what: Literal["parameters", "flops"]) -> Span:
    """Parameters or FLOPs that leave the model. Of blocks of the attention those of heads that lose every block do."""
    sure = [getattr(kind, what) * kind.step if kind.leaves else 0.0 for kind in gone.kinds]
    if plan.kind != "mixed":
        vectors = [kind.vectors if what == "parameters" else 0 for kind in gone.kinds]
        return Span(least=gone.sum(sure).least, most=gone.sum(sure).most + gone.sum(vectors).most)
    shape, length = plan.shape, plan.length
    whole_heads = head_cost(shape, what, length) / head_cost(shape, "weights", length)
    possible = [
        price if kind.leaves else whole_heads * kind.weights
        for price, kind in zip(sure, gone.kinds, strict=True)
    ]
    return Span(least=gone.sum(sure).least, most=gone.sum(possible).most)


def _minus(whole: Span, part: Span) -> Span:
    return Span(least=whole.least - part.most, most=whole.most - part.least)


def _times(span: Span, factor: float) -> Span:
    return Span(least=span.least * factor, most=span.most * factor)
