"""Measure what heads and neurons cost in time, on this device: the table that a target of the latency is met by."""

from collections.abc import Callable

from transformers import PreTrainedModel

from pruning.delivery.measure import latency
from pruning.events import ShouldStop
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept
from pruning.planning.latency import LatencyPoint, LatencyTable, SlotKind, counts
from pruning.planning.shape import ModelShape
from pruning.report import Latency


def measure_table(
    load: Callable[[], PreTrainedModel],
    shape: ModelShape,
    fewest: dict[SlotKind, int],
    batch_size: int,
    sequence_length: int,
    rounds: int,
    *,
    step: int = 1,
    should_stop: ShouldStop = lambda: None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> LatencyTable:
    """Time models that keep a few sizes of every layer, each in turns with the dense model that `load` gives.

    `fewest` names the kinds that can be removed and the least of each that a layer may keep; neurons are timed in
    multiples of `step`. Raises Canceled.
    """
    dense = load()
    sizes = {
        "heads": counts(shape.heads, fewest["heads"], 1) if "heads" in fewest else [],
        "neurons": counts(shape.ffn, fewest["neurons"], step) if "neurons" in fewest else [],
    }
    timed: dict[str, list[tuple[int, Latency]]] = {kind: [] for kind in sizes}
    whole = sum(map(len, sizes.values()))
    for kind, wanted in sizes.items():
        for count in wanted:
            small = load()
            shrink(small, _alike(shape, kind, count))
            (found,) = latency(dense, small, [batch_size], sequence_length, rounds, should_stop=should_stop)
            timed[kind].append((count, found))
            on_progress(sum(map(len, timed.values())) / whole)
    every = [found for entries in timed.values() for _, found in entries]
    dense_ms = min(found.dense_ms for found in every)
    points = {
        kind: tuple(LatencyPoint(count=count, ms=dense_ms / found.speedup) for count, found in entries)
        for kind, entries in timed.items()
    }
    return LatencyTable(
        batch_size=batch_size,
        sequence_length=sequence_length,
        rounds=rounds,
        threads=every[0].threads,
        dense_ms=dense_ms,
        **points,
    )


def _alike(shape: ModelShape, kind: str, count: int) -> Kept:
    """The first heads or neurons of every layer, and all of the other kind."""
    everything = Kept.everything(shape)
    return everything.model_copy(update={kind: (tuple(range(count)),) * shape.layers})
