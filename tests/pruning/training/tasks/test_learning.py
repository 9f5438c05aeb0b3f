"""Tiny models learn to tag, to answer, and to say that there is no answer."""

import pytest
import torch

from pruning.options import Distill, Training
from pruning.training.evaluate import evaluate
from pruning.training.tasks import load_model
from pruning.training.train import fit
from tests.support.data import questions, tagged_sentences
from tests.support.training import school

OPTIONS = Training(max_steps=50, batch_size=16, learning_rate=3e-3)


def taught(model_dir, task, rows, work, **arguments):
    model = load_model(model_dir, task)
    result = fit(
        model,
        task,
        rows,
        OPTIONS,
        seed=0,
        precision="fp32",
        device=torch.device("cpu"),
        work=work,
        events=lambda event: None,
        should_stop=lambda: None,
        phase="finetuning",
        span=(0.0, 1.0),
        **arguments,
    )
    return model, result.loss


def quality(model, task, rows):
    judged = evaluate(
        model, rows, task, device=torch.device("cpu"), should_stop=lambda: None, on_progress=lambda done: None
    )
    return judged.metrics[task.primary]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("token-classification", tagged_sentences(48)),
        ("question-answering", questions(24, words=8, unanswered=3)),
    ],
    ids=["tags", "answers"],
)
def test_it_learns_by_labels_and_from_a_teacher(tmp_path, kind, rows):
    room = school(tmp_path, kind, rows)
    model_dir, task, encoded = room.model_dir, room.task, room.rows
    before = quality(load_model(model_dir, task).eval(), task, encoded)
    teacher, _ = taught(model_dir, task, encoded, tmp_path / "labels")
    learnt = quality(teacher, task, encoded)
    assert learnt > max(0.6, before)
    student, _ = taught(
        model_dir, task, encoded, tmp_path / "teacher", teacher=teacher, distill=Distill(weight=1.0)
    )
    assert quality(student, task, encoded) > max(0.5, before)
