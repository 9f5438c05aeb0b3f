"""Time a dense model against its pruned version."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.errors import Canceled
from pruning.events import ShouldStop
from pruning.report import Latency

_WARM_UPS = 3
_TICK_MS = 1e-3
_FIRST_WORD = 5
"""Token ids below are special in every supported vocabulary."""


def latency(
    dense: PreTrainedModel,
    pruned: PreTrainedModel,
    batch_sizes: Sequence[int],
    sequence_length: int,
    rounds: int,
    *,
    threads: int = 1,
    seed: int = 0,
    should_stop: ShouldStop = lambda: None,
) -> list[Latency]:
    """Time both models on the same random rows, one entry per batch size.

    Dense and pruned take turns in one process, so that whatever else the machine does slows both alike; the
    speed-up is the median over rounds of the ratio of neighbours. Both are set to eval mode. `should_stop` is
    asked between forward passes; raises Canceled.
    """
    dense.eval()
    pruned.eval()
    vocabulary = min(dense.config.vocab_size, pruned.config.vocab_size)
    with fixed_threads(threads), torch.inference_mode():
        return [
            turns(
                dense,
                pruned,
                {
                    name: values.to(dense.device)
                    for name, values in random_rows(vocabulary, rows, sequence_length, seed).items()
                },
                rounds,
                should_stop,
            )
            for rows in batch_sizes
        ]


@contextmanager
def fixed_threads(threads: int) -> Iterator[None]:
    """So many threads of torch while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_rows(vocabulary: int, rows: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    """Rows of random words without padding, int64 (rows, length)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(_FIRST_WORD, vocabulary, (rows, length), generator=generator)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def turns(
    dense: Callable[..., object],
    pruned: Callable[..., object],
    batch: dict[str, Tensor],
    rounds: int,
    should_stop: ShouldStop,
) -> Latency:
    """Time both on the same batch, one after the other in every round; raises Canceled."""
    walls, clocks = [], []
    for turn in range(_WARM_UPS + rounds):
        wall_before, cpu_before = _time(dense, batch, should_stop)
        wall_after, cpu_after = _time(pruned, batch, should_stop)
        if turn >= _WARM_UPS:
            walls.append((wall_before, wall_after))
            clocks.append((cpu_before, cpu_after))
    rows, length = batch["input_ids"].shape
    dense_wall, pruned_wall = zip(*walls, strict=True)
    dense_cpu, pruned_cpu = zip(*clocks, strict=True)
    return Latency(
        batch_size=rows,
        sequence_length=length,
        rounds=rounds,
        threads=torch.get_num_threads(),
        dense_ms=statistics.median(dense_wall),
        pruned_ms=statistics.median(pruned_wall),
        dense_min_ms=min(dense_wall),
        pruned_min_ms=min(pruned_wall),
        speedup=statistics.median(before / after for before, after in walls),
        dense_cpu_ms=statistics.median(dense_cpu),
        pruned_cpu_ms=statistics.median(pruned_cpu),
        cpu_speedup=statistics.median(before / max(after, _TICK_MS) for before, after in clocks),
    )


def _time(
    model: Callable[..., object], batch: dict[str, Tensor], should_stop: ShouldStop
) -> tuple[float, float]:
    """Milliseconds of one forward pass, by the wall and by the processor time of this process."""
    if should_stop():
        raise Canceled("Stopped while the latency was measured.")
    wall, cpu = clocks()
    model(**batch)
    if batch["input_ids"].is_cuda:
        torch.cuda.synchronize(batch["input_ids"].device)
    wall_after, cpu_after = clocks()
    return (wall_after - wall) * 1e3, (cpu_after - cpu) * 1e3


def clocks() -> tuple[float, float]:
    """Seconds by the wall, and of processor time that this process used."""
    return time.perf_counter(), time.process_time()
