"""What heads and neurons cost in time, by a table that was measured. Imports no torch.

A table lists the latency of the whole model when every layer keeps so many heads (or neurons) and all of the other
kind. Layers of one model do the same work, so a layer's part is that difference by the number of layers; attention and
FFN run one after the other, so their parts add up. Kwon et al. 2022 (section 3.1) fit a constant and a line to such a
table; here nothing is fitted, only noise is taken out: time never falls when units are added.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

from pruning.options import Model
from pruning.planning.costs import Kept
from pruning.planning.shape import ModelShape

SlotKind = Literal["heads", "neurons"]


class LatencyPoint(Model):
    """Milliseconds of one forward pass when every layer keeps `count` heads or neurons."""

    count: int
    ms: float


class LatencyTable(Model):
    """What one forward pass over `batch_size` rows of `sequence_length` tokens takes, by how much is kept.

    `dense_ms` is that of the dense model. Every point was timed in turns with the dense model, and is its median ratio
    times `dense_ms`; points are in rising order of their count, the dense model is not among them.
    """

    batch_size: int
    sequence_length: int
    rounds: int
    threads: int
    dense_ms: float
    heads: tuple[LatencyPoint, ...]
    neurons: tuple[LatencyPoint, ...]


def counts(dense: int, least: int, step: int) -> list[int]:
    """Which sizes of a layer are timed: `least`, and an eighth, a quarter, a half and three quarters of `dense`.

    All but the least are multiples of `step`, and none is the dense size.
    """
    wanted = (dense // 8, dense // 4, dense // 2, dense * 3 // 4)
    rounded = {max(step, count // step * step) for count in wanted}
    return sorted({least} | {count for count in rounded if least < count < dense})


def layer_costs(table: LatencyTable, shape: ModelShape, kind: SlotKind) -> tuple[float, ...]:
    """Milliseconds that keeping 0, 1, ... heads or neurons in one layer adds to keeping the fewest that were timed.

    Never falling; a straight line between two points.
    """
    points = table.heads if kind == "heads" else table.neurons
    dense = shape.heads if kind == "heads" else shape.ffn
    places = [*(point.count for point in points), dense]
    times = monotone([*(min(point.ms, table.dense_ms) for point in points), table.dense_ms])
    return tuple((_between(places, times, count) - times[0]) / shape.layers for count in range(dense + 1))


def predicted_ms(table: LatencyTable, shape: ModelShape, kept: Kept) -> float:
    """The latency that the table promises for a model that keeps these units."""
    saved = 0.0
    for kind, layers in (("heads", kept.heads), ("neurons", kept.neurons)):
        costs = layer_costs(table, shape, "heads" if kind == "heads" else "neurons")
        saved += sum(costs[-1] - costs[len(units)] for units in layers)
    return table.dense_ms - saved


def monotone(values: Sequence[float]) -> list[float]:
    """The nearest sequence that never falls, by least squares: falling neighbours are pooled to their mean."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (last, many), (before, more) = pools.pop(), pools.pop()
            pools.append(((last * many + before * more) / (many + more), many + more))
    return [mean for mean, size in pools for _ in range(size)]


def _between(places: Sequence[int], values: Sequence[float], place: int) -> float:
    """The value at `place`, on straight lines between the given ones; outside them that of the nearest."""
    right = bisect_left(places, place)
    if right == 0:
        return values[0]
    part = (place - places[right - 1]) / (places[right] - places[right - 1])
    return values[right - 1] + part * (values[right] - values[right - 1])
