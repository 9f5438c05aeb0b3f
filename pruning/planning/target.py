"""Fill in what says how much is pruned beside the ratio: a drop of quality, a latency, round sizes; no torch."""

from typing import Any

from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.planning.catalogue import MethodInfo, methods
from pruning.planning.family import Family
from pruning.spec import Measure, PruneSpec

_ROUND_TO = 8
"""Matrix products are fastest in multiples of this many columns on most hardware."""
_CANDIDATES = 8


def settle_target(
    spec: PruneSpec, chosen: MethodInfo, family: Family, granularity: Granularity, measure: Measure
) -> dict[str, Any]:
    """The fields of the target with every default in place; raises InvalidSpec for those that mean nothing here."""
    _check_measure(spec, granularity, measure)
    return {
        "quality_candidates": _candidates(spec, chosen, family, granularity, measure),
        "round_to": _round_to(spec, granularity),
        **_latency(spec, measure),
    }


def _check_measure(spec: PruneSpec, granularity: Granularity, measure: Measure) -> None:
    if measure == "parameters" and granularity.kind in ("multilevel", "n_m"):
        reason = (
            "shares the weights of the layers between two stages"
            if granularity.kind == "multilevel"
            else "removes a fixed part of the weights of the layers"
        )
        raise InvalidSpec(
            f"{spec.granularity} {reason}, so its ratio cannot be one of all parameters.",
            param="/target_measure",
            remedy="Use weights, or another granularity.",
        )


def _candidates(
    spec: PruneSpec, chosen: MethodInfo, family: Family, granularity: Granularity, measure: Measure
) -> int | None:
    if spec.max_quality_drop is None:
        if spec.quality_candidates is not None:
            raise InvalidSpec(
                "quality_candidates are cuts to choose among, and a target_ratio leaves no choice.",
                param="/quality_candidates",
                remedy="Leave it out, or give max_quality_drop in place of target_ratio.",
            )
        return None
    if family.decoder:
        raise InvalidSpec(
            "max_quality_drop counts points of a metric between 0 and 1, and perplexity has no such points.",
            param="/max_quality_drop",
            remedy="Give target_ratio.",
        )
    if granularity.kind == "n_m":
        raise InvalidSpec(
            f"max_quality_drop finds the ratio, and {spec.granularity} has one ratio only.",
            param="/max_quality_drop",
            remedy="Give target_ratio, or use granularity unstructured.",
        )
    if not chosen.cuts_many:
        able = [
            entry.name for entry in methods() if entry.cuts_many and granularity.kind in entry.granularities
        ]
        raise InvalidSpec(
            f"max_quality_drop tries several cuts, and method {chosen.name} would train for each.",
            param="/max_quality_drop",
            remedy=f"Give target_ratio, or use {' or '.join(able)}." if able else "Give target_ratio.",
        )
    if measure == "latency":
        raise InvalidSpec(
            "max_quality_drop finds the ratio, and a ratio of the latency is only known once it is timed.",
            param="/target_measure",
            remedy="Use flops, weights or parameters.",
        )
    if spec.recover:
        raise InvalidSpec(
            "max_quality_drop judges every cut as it is, and recovery would change it afterwards.",
            param="/recover",
            remedy="Leave recover out, or give target_ratio.",
        )
    return spec.quality_candidates or _CANDIDATES


def _round_to(spec: PruneSpec, granularity: Granularity) -> int:
    if granularity.kind == "multilevel":
        if (spec.round_to or 1) > 1:
            raise InvalidSpec(
                f"What {spec.granularity} keeps of a layer is rounded so that its blocks divide it.",
                param="/round_to",
                remedy="Leave it out; larger blocks make rounder sizes.",
            )
        return 1
    rounds = granularity.removes and granularity.kind not in ("head", "layer")
    if not rounds and (spec.round_to or 1) > 1:
        raise InvalidSpec(
            f"round_to is about neurons that are removed, and {spec.granularity} removes none.",
            param="/round_to",
            remedy="Leave it out.",
        )
    return spec.round_to or (_ROUND_TO if rounds else 1)


def _latency(spec: PruneSpec, measure: Measure) -> dict[str, int | None]:
    """What is timed: by default what `evaluate` times first."""
    asked = {"latency_batch": spec.latency_batch, "latency_length": spec.latency_length}
    if measure == "latency":
        usual = (spec.evaluate.batch_sizes[0], spec.evaluate.sequence_length)
        return {name: asked[name] or default for name, default in zip(asked, usual, strict=True)}
    for name, value in asked.items():
        if value is not None:
            raise InvalidSpec(
                f"{name} has no meaning for target_measure {measure}.",
                param=f"/{name}",
                remedy="Leave it out, or use target_measure latency.",
            )
    return asked
