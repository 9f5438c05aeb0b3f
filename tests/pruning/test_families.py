"""Whole jobs of the families that differ from BERT in more than names."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

from pruning import prune
from pruning.events import Event
from pruning.options import Recover
from pruning.spec import Evaluation, PruneSpec
from tests.support.data import write_dataset
from tests.support.foreseen import assert_foreseen
from tests.support.models import save_tiny

CASES = [
    ("mpnet", {"granularity": "neuron", "target_ratio": 0.2}),
    ("deberta-v2", {"granularity": "structured"}),
    ("modernbert", {"granularity": "hybrid:8x8"}),
]


class Killed(Exception):
    pass


def kill_at_recovery(event: Event) -> None:
    if event.type == "phase" and event.data["step"] == "recover":
        raise Killed


@pytest.mark.parametrize(("family", "request_"), CASES, ids=[family for family, _ in CASES])
def test_a_job_that_was_killed_delivers_what_was_asked(
    family: str, request_: dict[str, Any], tmp_path: Path
) -> None:
    spec = PruneSpec(
        **{
            "target_ratio": 0.5,
            "method": "magnitude",
            "max_length": 32,
            "recover": Recover(max_steps=3, batch_size=8),
            "evaluate": Evaluation(latency=False),
            "device": "cpu",
            **request_,
        }
    )
    model, data = (
        save_tiny(tmp_path / "model", family),
        write_dataset(tmp_path / "data", train=24, validation=8),
    )
    with pytest.raises(Killed):
        prune(spec, model, data, tmp_path / "out", kill_at_recovery)
    report = prune(spec, model, data, tmp_path / "out")
    assert_foreseen(report, model, data)
    assert report.load_check.differences.keys() == {"plain", "remote_code"}
    assert report.equality is not None
    assert report.equality < 1e-5
    assert report.delivered[report.measure] == pytest.approx(spec.target_ratio, abs=0.06)
    assert report.after.parameters < report.before.parameters
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model")
    assert loaded.config.model_type == family
    assert loaded.num_parameters() == report.load_check.parameters["plain"]
