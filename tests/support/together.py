"""Trainings that one process or two together can do.

`python -m tests.support.together FOLDER CASE...` is the second of two.
"""

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pruning.methods import Outcome
from pruning.options import Distill, Training
from pruning.training.group import ALONE, Group, join, leave
from pruning.training.train import fit
from tests.support.data import questions, tagged_sentences
from tests.support.learning import LEARNED, Run
from tests.support.training import Classroom, classroom, school

CPU = torch.device("cpu")
FEATURES = Distill(hidden=2.0, attention=30.0, layers="nearest", projection=True)


class Trained(NamedTuple):
    """What a training began with and what it left: weights, loss, and for a method what it decided."""

    before: dict[str, Tensor]
    weights: dict[str, Tensor]
    loss: float
    outcome: Outcome | None = None


def tune(
    room: Classroom, work: Path, group: Group, *, batch_size: int, distill: Distill | None = None
) -> Trained:
    """Two epochs, the last batch of each as small as the rows make it.

    In float64 without a teacher, whose losses are float32: AdamW divides gradients by their size, so that of the
    smallest ones it would pass on mere rounding.
    """
    model = room.model(dropout=0.0).to(torch.float32 if distill else torch.float64)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    before = deepcopy(model.state_dict())
    result = fit(
        model,
        room.task,
        room.rows,
        Training(epochs=2, batch_size=batch_size, learning_rate=1e-3, weight_decay=0.01),
        seed=3,
        precision="fp32",
        device=CPU,
        work=work,
        events=lambda event: None,
        should_stop=lambda: None,
        phase="finetuning",
        span=(0.0, 1.0),
        teacher=room.model(dropout=0.0) if distill else None,
        distill=distill,
        group=group,
    )
    return Trained(before, model.state_dict(), result.loss)


def prune(room: Classroom, work: Path, group: Group, *, method: str, granularity: str) -> Trained:
    """A method that prunes while it trains."""
    run = Run(method, room, work, granularity=granularity, group=group, dropout=0.0)
    before = deepcopy(run.model.state_dict())
    outcome = run.prune()
    return Trained(before, run.model.state_dict(), outcome.details["loss"], outcome)


class Case(NamedTuple):
    """Rows to train on, and how."""

    room: Callable[[Path], Classroom]
    train: Callable[[Classroom, Path, Group], Trained]


def _tagged(folder: Path) -> Classroom:
    return school(folder, "token-classification", tagged_sentences(25))


def _asked(folder: Path) -> Classroom:
    return school(folder, "question-answering", questions(17, words=8, unanswered=3))


CASES = {
    # The last batch has a row for the first process only.
    "labels": Case(partial(classroom, rows=33), partial(tune, batch_size=8)),
    # Rows have two answers each, and as many as they have words.
    "answers": Case(_asked, partial(tune, batch_size=6)),
    "tags": Case(_tagged, partial(tune, batch_size=4)),
    # Means over tokens and over pairs of tokens, and the nearest layers of the whole batch.
    "features": Case(_tagged, partial(tune, batch_size=4, distill=FEATURES)),
    "weights by leap": Case(classroom, partial(prune, method="leap", granularity="unstructured")),
    "two stages by leap": Case(classroom, partial(prune, method="leap", granularity="multilevel:4x8")),
}
for name in LEARNED:
    CASES[name] = Case(classroom, partial(prune, method=name, granularity="structured"))


def run_together(rank: int, folder: Path, names: Sequence[str]) -> dict[str, Trained]:
    """Cases as one of two processes. Only the first one may write models once they have joined."""
    torch.set_num_threads(1)
    rooms = {name: CASES[name].room(folder / str(rank) / name) for name in names}
    join(rank, 2, CPU, folder)
    try:
        return {name: CASES[name].train(room, folder / name, Group(rank, 2)) for name, room in rooms.items()}
    finally:
        leave(CPU)


def run_alone(folder: Path, names: Sequence[str]) -> dict[str, Trained]:
    """Cases in this process."""
    rooms = {name: CASES[name].room(folder / "rooms" / name) for name in names}
    return {name: CASES[name].train(room, folder / "alone" / name, ALONE) for name, room in rooms.items()}


if __name__ == "__main__":
    run_together(1, Path(sys.argv[1]), sys.argv[2:])
