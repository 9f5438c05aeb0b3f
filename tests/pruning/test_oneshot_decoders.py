"""Whole jobs of FLAP and of depth pruning: killed in the middle, resumed, recovered, exported, reloaded, reported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pruning import prune
from pruning.events import Event
from pruning.options import Recover
from pruning.spec import Evaluation, PruneSpec
from tests.support.data import lines, write_dataset, write_jsonl
from tests.support.models import save_tiny


class Killed(Exception):
    pass


def killer(out: Path, step: str) -> Callable[[Event], None]:
    """Ends the job as soon as that file is there."""

    def hear(event: Event) -> None:
        if event.type == "progress" and list(out.glob(f"work/*/prune.work/{step}.safetensors")):
            raise Killed

    return hear


def text(folder: Path) -> Path:
    write_jsonl(folder / "train.jsonl", lines(60))
    write_jsonl(folder / "validation.jsonl", lines(20, seed=1))
    return folder


def request(**changes: Any) -> PruneSpec:
    fields = {"target_ratio": 0.5, "max_length": 16, "device": "cpu", "evaluate": Evaluation(latency=False)}
    return PruneSpec.model_validate(fields | changes)


def test_a_decoder_with_half_of_its_layers_that_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruning.knowledge.pulse._SECONDS", 0.0)  # hear of every batch
    model, data, out = (
        save_tiny(tmp_path / "model", "qwen2", layers=4),
        text(tmp_path / "data"),
        tmp_path / "out",
    )
    spec = request(
        granularity="layer",
        settings={"criterion": "greedy", "calibration_tokens": 64},
        recover=Recover(max_steps=8, batch_size=8, learning_rate=3e-3),
    )
    with pytest.raises(Killed):
        prune(spec, model, data, out, killer(out, "dropped-000"))
    report = prune(spec, model, data, out)
    assert (report.method, report.kind, report.equality) == ("depth", "shrunk", 0.0)
    assert report.delivered["flops"] == report.delivered["weights"] == pytest.approx(0.5)
    kept = [index for index in range(4) if index not in report.details["dropped"]]
    assert [layer.neurons for layer in report.layers] == [48 * (index in kept) for index in range(4)]
    assert "2 of 4 layers were **removed**" in (out / "README.md").read_text()
    assert json.loads((out / "model" / "config.json").read_text())["num_hidden_layers"] == 2
    loaded = AutoModelForCausalLM.from_pretrained(out / "model")
    assert loaded.num_parameters() == report.after.parameters < report.before.parameters
    lost = 1 - report.after.parameters / report.before.parameters
    assert report.delivered["parameters"] == pytest.approx(lost, abs=1e-9)


@pytest.mark.slow
def test_an_encoder_loses_as_many_layers_as_points_allow(tmp_path: Path) -> None:
    model, data = save_tiny(tmp_path / "model", "bert", layers=3), tmp_path / "data"
    write_dataset(data, train=24, validation=16)
    spec = request(target_ratio=None, max_quality_drop=100, quality_candidates=3, granularity="layer")
    report = prune(spec, model, data, tmp_path / "out")
    assert report.search is not None
    assert report.delivered["weights"] == pytest.approx(2 / 3)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model")
    assert loaded.config.num_hidden_layers == 1


def test_a_llama_without_fluctuating_units_is_an_ordinary_llama(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruning.knowledge.pulse._SECONDS", 0.0)
    model, data, out = save_tiny(tmp_path / "model", "llama"), text(tmp_path / "data"), tmp_path / "out"
    spec = request(allocation="native", target_ratio=0.6, round_to=1, settings={"calibration_tokens": 500})
    with pytest.raises(Killed):
        prune(spec, model, data, out, killer(out, "sublayer-000"))
    report = prune(spec, model, data, out)
    assert (report.method, report.kind) == ("flap", "shrunk")
    assert 0.6 <= report.delivered["flops"] < 0.65
    assert report.load_check.differences.keys() == {"plain"}
    assert len({(layer.heads, layer.neurons) for layer in report.layers}) == 1
    assert report.details["memory"]["expected_host_bytes"] > 0
    assert report.details["sublayers"]["1.neurons"]["error_after"] < 1


@pytest.mark.slow
def test_biases_that_a_llama_did_not_have_are_delivered(tmp_path: Path) -> None:
    model, data, out = save_tiny(tmp_path / "model", "llama"), text(tmp_path / "data"), tmp_path / "out"
    spec = request(method="flap", target_ratio=0.3, settings={"compensation": "bias"})
    report = prune(spec, model, data, out)
    assert report.load_check.differences.keys() == {"plain", "remote_code"}
    assert json.loads((out / "model" / "config.json").read_text())["mlp_bias"] is True
    loaded = AutoModelForCausalLM.from_pretrained(out / "model")
    assert loaded.model.layers[0].mlp.down_proj.bias.any()
