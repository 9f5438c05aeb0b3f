"""How the two stages of `multilevel` pruning share the target and the steps. Imports no torch."""

import math
from collections.abc import Mapping
from typing import Any

from pruning.errors import InvalidSpec
from pruning.planning.costs import ModelShape, head_cost, largest_ratio, total_cost
from pruning.spec import Granularity, PruneSpec

_PUBLISHED = math.log(0.5) / math.log(0.5 * 0.3)
"""The released code keeps half in the first stage and 0.3 of that in the second; other targets are shared alike."""

_HALF = 0.5


def structured_ratio(asked: float | None, spec: PruneSpec, shape: ModelShape) -> float:
    """The part of the dense weights that the first stage removes as heads and neurons.

    What both stages keep multiplies to 1 - target_ratio; by default its logarithm is shared as in the released code
    of LEAP. The second stage gets at least one block to drop: the first may drop up to a head more than it should.
    Raises InvalidSpec when a ratio is `asked` that leaves the second stage nothing, or that heads and neurons cannot
    reach, or when the target is too small for two stages.
    """
    block = Granularity.parse(spec.granularity).shape or (1, 1)
    last = (head_cost(shape, "weights", 1.0) + math.prod(block)) / total_cost(shape, "weights", 1.0)
    most = min(spec.target_ratio - last, largest_ratio(shape, Granularity("structured"), "weights", 1.0))
    if most <= 0:
        raise InvalidSpec(
            f"target_ratio {spec.target_ratio} is too small for two stages: the first removes whole heads.",
            param="/target_ratio",
            remedy=f"Ask for more than {last:.4f}, or use granularity block.",
        )
    if asked is None:
        return min(1 - (1 - spec.target_ratio) ** _PUBLISHED, most)
    if asked > most:
        raise InvalidSpec(
            f"The first stage cannot remove {asked} of the weights as heads and neurons and leave the second blocks "
            f"to drop, when target_ratio is {spec.target_ratio}.",
            param="/method/structured_ratio",
            remedy=f"Use at most {math.floor(most * 1e4) / 1e4}, or leave it out.",
        )
    return asked


def stage_steps(steps: int, part: float | None) -> tuple[int, int]:
    """The optimizer steps of both stages: the first gets `part` of them, half where that is None."""
    first = min(max(1, round(steps * (_HALF if part is None else part))), steps - 1)
    return first, steps - first


def check_levels(settings: Mapping[str, Any], spec: PruneSpec, shape: ModelShape) -> None:
    """Raise InvalidSpec when a request for `multilevel` cannot share its target between two stages."""
    if Granularity.parse(spec.granularity).kind == "multilevel":
        structured_ratio(settings.get("structured_ratio"), spec, shape)
