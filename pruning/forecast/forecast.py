"""`forecast`: what a planned job will do to its model and what it will need, before it runs. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from pruning.data.rows import DataSummary
from pruning.forecast.memory import memory
from pruning.forecast.removal import Removal, dense_totals, removal
from pruning.forecast.schemas import Forecast, Grid, Span, UnitGroup
from pruning.forecast.sizes import after, before
from pruning.forecast.units import Kind, common, divisors, kinds, stay
from pruning.forecast.work import work
from pruning.planning.catalogue import method
from pruning.planning.parameters import bounds
from pruning.planning.plan import Plan
from pruning.planning.shape import ModelShape

_LARGEST_BLOCK = 128
_LARGEST_GROUP = 99
_ROUNDS = (1, 2, 4, 8, 16, 32, 64, 128)


def forecast(
    plan: Plan, config: Mapping[str, Any], data: DataSummary, parameters: int | None = None
) -> Forecast:
    """Count what a plan for the model of a config.json comes to.

    `parameters` is how many the model has with its head, when that is known; else sizes lie between two bounds.
    """
    shape = plan.shape
    low, high = (parameters, parameters) if parameters else bounds(config, shape)
    dense = before(plan, Span(least=low, most=high))
    prunes_units = plan.spec.prunes and not plan.spec.cuts_vocabulary
    chosen = method(plan.method) if prunes_units else None
    found, stays, gone = [], [], None
    if chosen is not None:
        found = kinds(plan)
        stays = [stay(plan, chosen, kind) for kind in found]
        gone = removal(plan, found, stays, dense_totals(plan, dense.parameters))
    words = config.get("vocab_size", 0) if shape.causal else 0
    return Forecast(
        units=tuple(_group(plan, kind, stays[index], gone, index) for index, kind in enumerate(found)),
        grid=_grid(shape),
        before=dense,
        after=dense if not plan.spec.prunes else None if gone is None else after(plan, dense, gone),
        memory=memory(plan, data, dense, chosen, words),
        work=work(plan, data, chosen),
    )


def _group(plan: Plan, kind: Kind, stays: int, gone: Removal | None, index: int) -> UnitGroup:
    even = plan.spec.allocation == "native" and kind.unit == "head"
    return UnitGroup(
        unit=kind.unit,
        of=kind.of,
        layers=plan.shape.layers,
        per_layer=kind.per_layer,
        stay_per_layer=stays,
        step=kind.step,
        may_keep=divisors(kind.per_layer, kind.per_layer) if even else None,
        weights=kind.weights,
        parameters=kind.parameters,
        flops=kind.flops,
        removed=None if gone is None else gone.units(index),
    )


def _grid(shape: ModelShape) -> Grid:
    inputs = common(shape, 1)
    return Grid(
        block_rows=divisors(common(shape, 0), _LARGEST_BLOCK),
        block_columns=divisors(inputs, _LARGEST_BLOCK),
        group_sizes=divisors(inputs, _LARGEST_GROUP)[1:],
        round_to=tuple(size for size in _ROUNDS if shape.ffn % size == 0),
    )
