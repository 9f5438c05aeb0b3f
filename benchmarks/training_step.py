"""A step of every method that learns its masks, as a ratio to a dense fine-tuning step, without distillation.

PRUNERY_DATA=FOLDER python -m benchmarks.training_step --phase learning --steps 20 --rounds 3
PRUNERY_DATA=FOLDER python -m benchmarks.training_step --phase whole --steps 40 --rounds 3 --rows leap
PRUNERY_DATA=FOLDER python -m benchmarks.training_step --modes fp32 bf16 fp32-compiled --rows leap cofi
python -m benchmarks.training_step --model bert-base --device cuda --modes fp32 bf16 bf16-compiled

All kinds of step in turns, in one process. `learning` times only steps in which masks learn; `whole` runs measure,
learn and recover in the parts that a job has. On a CPU times are CPU time of one thread, on a GPU wall time. LEAP's
last row sorts every score tensor and reads every count from the device at every step, as its released code does.
"""

import argparse
import os
from collections.abc import Iterable
from statistics import median
from typing import cast

import torch

from benchmarks.steps import WARM, Bench, Mode, Row, bert_base, shared
from pruning.spec import Precision

DENSE = Row()
LEAP = Row("leap")
SORTED = Row("leap", sorting=True)
ROWS = (
    Row("leap", "structured"),
    Row("leap", "block:32x32"),
    LEAP,
    SORTED,
    Row("movement"),
    Row("soft_movement"),
    Row("l0"),
    Row("gradual_magnitude"),
    Row("cofi", "structured"),
)
MODES = tuple(f"{kind}{suffix}" for kind in ("fp32", "bf16", "fp16") for suffix in ("", "-compiled"))
Times = dict[tuple[Mode, Row], list[float]]


def chosen(words: Iterable[str]) -> list[Row]:
    """The dense row, and those whose name contains one of the words; all for none."""
    wanted = list(words) or [""]
    return [DENSE, *(row for row in ROWS if any(word in str(row) for word in wanted))]


def mode(name: str) -> Mode:
    """The mode of a name such as bf16-compiled."""
    precision, _, compiled = name.partition("-")
    return Mode(cast(Precision, precision), bool(compiled))


def measure(bench: Bench, modes: list[Mode], rows: list[Row], rounds: int) -> Times:
    """Seconds of a step of every kind, one for each round."""
    times: Times = {(kind, row): [] for kind in modes for row in rows}
    for _ in range(rounds):
        for key, found in times.items():
            kind, row = key
            found.append(bench.seconds(row, kind))
    return times


def ratio(times: Times, one: tuple[Mode, Row], other: tuple[Mode, Row]) -> float:
    """The median of the rounds' ratios."""
    return median(mine / theirs for mine, theirs in zip(times[one], times[other], strict=True))


def show(times: Times, modes: list[Mode], rows: list[Row], batch_size: int) -> None:
    """Print one line per kind of step, then what LEAP saves against a full sort."""
    first = modes[0]
    print(
        f"| mode | step | ms | examples/s | to dense of the mode | to dense {first} |\n|---|---|---|---|---|---|"
    )
    for kind in modes:
        for row in rows:
            spent, key = median(times[kind, row]), (kind, row)
            ratios = f"{ratio(times, key, (kind, DENSE)):.2f}x | {ratio(times, key, (first, DENSE)):.2f}x"
            print(f"| {kind} | {row} | {1000 * spent:.0f} | {batch_size / spent:.1f} | {ratios} |")
    for kind in modes:
        if {LEAP, SORTED} <= set(rows):
            print(
                f"{kind}: {SORTED} takes {ratio(times, (kind, SORTED), (kind, LEAP)):.2f}x as long as {LEAP}"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--phase", choices=("learning", "whole"), default="learning")
    parser.add_argument("--steps", type=int, default=20, help=f"timed steps, behind {WARM} that are not")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["fp32"])
    parser.add_argument("--rows", nargs="+", default=[], help="parts of names of rows; all without")
    parser.add_argument("--model", choices=("shared", "bert-base"), default="shared")
    parser.add_argument("--length", type=int, default=128, help="tokens of a row of bert-base")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    subject = shared() if options.model == "shared" else bert_base(options.length)
    device, learning = torch.device(options.device), options.phase == "learning"
    bench = Bench(subject, device, options.steps, options.batch_size, learning=learning)
    modes, rows = [mode(name) for name in options.modes], chosen(options.rows)
    bench.seconds(DENSE, modes[0])  # the first run pays for what is loaded late
    show(measure(bench, modes, rows, options.rounds), modes, rows, options.batch_size)


if __name__ == "__main__":
    main()
