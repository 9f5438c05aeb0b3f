"""How much can be removed of a model whose exact size or row length may not be known yet. Imports no torch."""

import math
from itertools import product

from pruning.errors import TargetUnreachable
from pruning.granularity import Granularity
from pruning.planning.catalogue import MethodInfo
from pruning.planning.costs import largest_ratio, neuron_step
from pruning.planning.even import check_even
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec


def turning_lengths(spec: PruneSpec, shape: ModelShape) -> list[float]:
    """The lengths where the reach can be largest or smallest: it is monotone between them."""
    longest = float(spec.max_length)
    return [1.0, min(max(1.0, shape.turning_length), longest), longest]


def reach(
    spec: PruneSpec, chosen: MethodInfo | None, shapes: list[ModelShape], lengths: list[float]
) -> float | None:
    """The largest ratio that holds for every one of the shapes and lengths; refuses a target that none of them allows.

    None for a latency, where the job measures what a unit costs, and for a vocabulary, of which it reads the dataset.
    """
    if spec.cuts_vocabulary or spec.target_measure == "latency":
        return None
    if chosen is None:
        return 0.0
    granularity = Granularity.parse(spec.granularity)
    ratios = [
        largest_ratio(
            shape,
            granularity,
            spec.target_measure or "weights",
            length,
            allocation=spec.allocation,
            empties_sublayers=chosen.empties_sublayers,
            step=neuron_step(shape, granularity, spec.round_to or 1),
        )
        for shape in shapes
        for length in lengths
    ]
    nearest = max(0.0, math.floor(min(ratios) * 1e4) / 1e4)
    if spec.ratio > max(ratios):
        raise TargetUnreachable(
            f"target_ratio {spec.target_ratio} of {spec.target_measure} is out of reach for this model: "
            f"{chosen.name} with {spec.granularity} and allocation {spec.allocation} can remove {nearest}.",
            nearest=nearest,
            remedy=f"The nearest reachable target_ratio is {nearest}.",
        )
    if spec.allocation == "native" and shapes[0].free_heads:
        _check_even(spec, shapes, lengths)
    return nearest


def _check_even(spec: PruneSpec, shapes: list[ModelShape], lengths: list[float]) -> None:
    """Refuse a target that layers of one size cannot meet, whichever of the shapes and lengths is the real one."""
    refusals = []
    for shape, length in product(shapes, lengths):
        try:
            check_even(spec, shape, length)
        except TargetUnreachable as refusal:
            refusals.append(refusal)
    if len(refusals) == len(shapes) * len(lengths):
        raise refusals[0]
