"""How much of each matrix stays, and what competes in it."""

from collections.abc import Sequence

from pruning.granularity import Granularity
from pruning.layerwise.patterns import Groups, Pattern, Rows, Tiles
from pruning.layerwise.sites import Site
from pruning.masking.select import keep_counts, round_within
from pruning.masking.weight_units import WeightUnits


def unit_counts(
    sites: Sequence[Sequence[Site]],
    granularity: Granularity,
    budget: float,
    fractions: Sequence[float] | None,
) -> dict[str, int]:
    """How many units each group of every layer's sites keeps, by its name.

    `fractions` are what the layers keep; None: all groups keep the same. Of N:M every M weights keep theirs.
    """
    layers = [{name: group for site in layer for name, group in site.groups.items()} for layer in sites]
    groups = {name: group for layer in layers for name, group in layer.items()}
    if granularity.kind == "n_m":
        zeros, size = granularity.shape or (0, 1)
        return {name: group.count // size * (size - zeros) for name, group in groups.items()}
    sizes = {name: group.count for name, group in groups.items()}
    costs = {name: group.cost for name, group in groups.items()}
    if fractions is None:
        return keep_counts(sizes, costs, budget)
    wanted = [
        fraction * group.count
        for fraction, layer in zip(fractions, layers, strict=True)
        for group in layer.values()
    ]
    counts = round_within(wanted, list(costs.values()), list(sizes.values()), budget)
    return dict(zip(sizes, counts, strict=True))


def pattern(group: WeightUnits, count: int, granularity: Granularity, *, by_rows: bool) -> Pattern:
    """The masks a group may have when `count` of its units stay; `by_rows`: single weights compete in their row."""
    if granularity.kind == "n_m":
        return Groups(*(granularity.shape or (0, 1)))
    if granularity.kind == "unstructured" and by_rows:
        return Rows(count)
    return Tiles(count, group.block)
