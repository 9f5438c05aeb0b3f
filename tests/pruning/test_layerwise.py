"""Whole jobs of methods that prune layer by layer: killed in the middle, resumed, exported, reloaded, reported."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from pruning import prune
from pruning.events import Event
from pruning.model.conv1d import as_linears
from pruning.model.layers import prunable_linears
from pruning.planning.families import AUTO_CLASSES
from pruning.spec import Evaluation, PruneSpec
from tests.support.data import lines, write_dataset, write_jsonl
from tests.support.foreseen import assert_foreseen
from tests.support.models import save_tiny

CASES: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"method": "sparsegpt", "granularity": "2:4"}),
    ("gpt2", {"method": "wanda", "granularity": "unstructured", "settings": {"layer_ratios": "owl"}}),
]


class Killed(Exception):
    pass


def killer(out: Path) -> Any:
    """Ends the job when its first layer is pruned."""

    def hear(event: Event) -> None:
        if event.type == "progress" and list(out.glob("work/*/prune.work/layer-000.safetensors")):
            raise Killed

    return hear


@pytest.mark.parametrize(("family", "request_"), CASES, ids=[family for family, _ in CASES])
def test_a_job_that_was_killed_delivers_what_was_asked(
    family: str, request_: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruning.knowledge.pulse._SECONDS", 0.0)  # hear of every batch
    model, data = save_tiny(tmp_path / "model", family), tmp_path / "data"
    if family == "bert":
        write_dataset(data, train=24, validation=8)
    else:
        write_jsonl(data / "train.jsonl", lines(60))
        write_jsonl(data / "validation.jsonl", lines(20, seed=1))
    fields = {"target_ratio": 0.5, "max_length": 32, "evaluate": Evaluation(latency=False), "device": "cpu"}
    spec = PruneSpec.model_validate({**fields, **request_})
    out = tmp_path / "out"
    with pytest.raises(Killed):
        prune(spec, model, data, out, killer(out))
    report = prune(spec, model, data, out)
    assert_foreseen(report, model, data)
    assert report.kind == "zeros"
    assert report.delivered["weights"] == pytest.approx(0.5, abs=1e-4)
    assert report.details["memory"]["expected_host_bytes"] > 0
    assert json.loads((out / "report.json").read_text())["details"]["rows"] == report.details["rows"] > 0
    auto = getattr(transformers, AUTO_CLASSES[report.plan["task"]])
    loaded = as_linears(auto.from_pretrained(out / "model"))
    masks = load_file(out / "masks.safetensors")
    for name, linear in prunable_linears(loaded).items():
        assert torch.equal(linear.weight != 0, masks[f"{name}.weight"])
        assert report.details["linears"][name]["kept"] == pytest.approx(
            float((linear.weight != 0).float().mean())
        )
