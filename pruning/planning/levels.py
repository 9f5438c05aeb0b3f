"""How the two stages of `multilevel` pruning share the target and the steps. Imports no torch."""

import math
from collections.abc import Mapping
from typing import Any

from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.planning.costs import head_cost, largest_ratio, neuron_cost, total_cost
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec

_PUBLISHED = math.log(0.5) / math.log(0.5 * 0.3)
"""The released code keeps half in the first stage and 0.3 of that in the second; other targets are shared alike."""

_HALF = 0.5


def structured_ratio(asked: float | None, spec: PruneSpec, shape: ModelShape) -> float:
    """The part of the dense weights that the first stage is to remove as heads and neurons.

    What both stages keep multiplies to 1 - target_ratio; by default its logarithm is shared as in the released code
    of LEAP. Raises InvalidSpec when a ratio is `asked` that leaves one of the stages nothing to drop, or that heads
    and neurons cannot reach; or when the target is too small, or the blocks too large, for two stages.
    """
    least, last = _least(spec, shape), _last(spec, shape)
    reach = largest_ratio(shape, Granularity("structured"), "weights", 1.0)
    most = min(spec.ratio - last, reach)
    if least > min(reach, 1 - last):
        raise InvalidSpec(
            f"{spec.granularity} has blocks so large that layers could keep all heads and neurons.",
            param="/granularity",
            remedy="Use smaller blocks, or granularity block.",
        )
    if least > most:
        raise InvalidSpec(
            f"target_ratio {spec.target_ratio} is too small for two stages of which each has something to drop.",
            param="/target_ratio",
            remedy=f"Ask for at least {math.ceil((least + last) * 1e4) / 1e4}, use smaller blocks, or granularity "
            "block.",
        )
    if asked is None:
        return min(max(1 - (1 - spec.ratio) ** _PUBLISHED, least), most)
    if not least <= asked <= most:
        raise InvalidSpec(
            f"When the first stage removes {asked} of the weights as heads and neurons, one of the two stages cannot "
            f"do its part of target_ratio {spec.target_ratio}.",
            param="/method/structured_ratio",
            remedy=f"Use {math.ceil(least * 1e4) / 1e4} to {math.floor(most * 1e4) / 1e4}, or leave it out.",
        )
    return asked


def unit_multiple(block: tuple[int, int], size: int) -> int:
    """The fewest units of `size` features that divide into blocks, both as rows and as columns."""
    side = math.lcm(*block)
    return side // math.gcd(side, size)


def _least(spec: PruneSpec, shape: ModelShape) -> float:
    """The smallest part that is not rounded away in the first stage, in which every layer keeps multiples."""
    block = Granularity.parse(spec.granularity).shape or (1, 1)
    head, neuron = head_cost(shape, "weights", 1.0), neuron_cost(shape, "weights", 1.0)
    back = (unit_multiple(block, shape.head_size) - 1) * head + (unit_multiple(block, 1) - 1) * neuron
    return (shape.layers * back + neuron) / total_cost(shape, "weights", 1.0)


def _last(spec: PruneSpec, shape: ModelShape) -> float:
    """What the second stage needs: a block, and a head, which the first stage may drop more than it should."""
    block = Granularity.parse(spec.granularity).shape or (1, 1)
    return (head_cost(shape, "weights", 1.0) + math.prod(block)) / total_cost(shape, "weights", 1.0)


def stage_steps(steps: int, part: float | None) -> tuple[int, int]:
    """The optimizer steps of both stages: the first gets `part` of them, half where that is None."""
    first = min(max(1, round(steps * (_HALF if part is None else part))), steps - 1)
    return first, steps - first


def check_levels(settings: Mapping[str, Any], spec: PruneSpec, shape: ModelShape) -> None:
    """Raise InvalidSpec when a request for `multilevel` cannot share its target between two stages."""
    if Granularity.parse(spec.granularity).kind == "multilevel":
        structured_ratio(settings.get("structured_ratio"), spec, shape)
