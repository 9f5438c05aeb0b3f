"""Tiny models learn to tag, to answer, and to say that there is no answer."""

import pytest
import torch

from pruning.data.rows import examples, summarise
from pruning.spec import Distill, PruneSpec, Training
from pruning.training.evaluate import evaluate
from pruning.training.tasks import Task, load_config, load_model, load_tokenizer
from pruning.training.train import fit
from tests.support.data import questions, tagged_sentences, write_jsonl
from tests.support.models import save_untrained

OPTIONS = Training(max_steps=50, batch_size=16, learning_rate=3e-3)


def school(folder, kind, rows):
    """Model folder, task and rows."""
    model_dir = save_untrained(folder / "model")
    path = write_jsonl(folder / "data" / "train.jsonl", rows)
    config, data = load_config(model_dir), summarise(path.parent)
    task = Task.of(kind, data, config)
    request = PruneSpec(target_ratio=0, max_length=32, doc_stride=10)
    encoded = task.encode(list(examples(path, data)), load_tokenizer(model_dir, config), request)
    return model_dir, task, encoded


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
    model_dir, task, encoded = school(tmp_path, kind, rows)
    before = quality(load_model(model_dir, task).eval(), task, encoded)
    teacher, _ = taught(model_dir, task, encoded, tmp_path / "labels")
    learnt = quality(teacher, task, encoded)
    assert learnt > max(0.6, before)
    student, _ = taught(
        model_dir, task, encoded, tmp_path / "teacher", teacher=teacher, distill=Distill(weight=1.0)
    )
    assert quality(student, task, encoded) > max(0.5, before)
