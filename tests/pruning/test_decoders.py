"""Decoders from the request to a measured model on disk."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from pruning import prune
from pruning.events import Event
from pruning.options import Distill, Finetune, Recover
from pruning.report import Report
from pruning.spec import Evaluation, PruneSpec
from tests.support.data import lines, write_jsonl
from tests.support.foreseen import assert_foreseen
from tests.support.models import save_tiny
from tests.support.workclock import WorkClock


class Killed(Exception):
    pass


def request(**changes: Any) -> PruneSpec:
    fields = {"target_ratio": 0.5, "method": "magnitude", "max_length": 16, "device": "cpu"}
    return PruneSpec(**fields | {"evaluate": Evaluation(latency=False)} | changes)


def dataset(folder: Path) -> Path:
    write_jsonl(folder / "train.jsonl", lines(80))
    write_jsonl(folder / "validation.jsonl", lines(20, seed=1))
    return folder


def kill_at_recovery(event: Event) -> None:
    if event.type == "phase" and event.data["step"] == "recover":
        raise Killed


def test_layers_of_one_size_are_as_fast_as_asked(tmp_path: Path) -> None:
    model, data, out = save_tiny(tmp_path / "model", "llama"), dataset(tmp_path / "data"), tmp_path / "out"
    timed = Evaluation(latency=False, rounds=3, sequence_length=16, batch_sizes=(1,))
    with WorkClock().running():
        report = prune(
            request(allocation="native", target_ratio=0.3, target_measure="latency", evaluate=timed),
            model,
            data,
            out,
        )
    assert assert_foreseen(report, model, data).after is None
    found = report.latency_target
    assert found is not None
    assert [point.count for point in found.table.heads] == [1, 2, 3]
    assert 0.3 <= found.predicted == pytest.approx(found.measured, abs=1e-6)
    assert len({(layer.heads, layer.neurons) for layer in report.layers}) == 1
    assert report.layers[0].neurons % 8 == 0


def test_a_llama_of_one_size_that_learns_from_its_dense_self(tmp_path: Path) -> None:
    model, data, out = save_tiny(tmp_path / "model", "llama"), dataset(tmp_path / "data"), tmp_path / "out"
    short = Recover(max_steps=30, batch_size=8, learning_rate=3e-3)
    spec = request(
        allocation="native",
        finetune=Finetune(max_steps=40, batch_size=8, learning_rate=5e-3),
        recover=short,
        distill=Distill(hidden=1.0),
        evaluate=Evaluation(rounds=3, sequence_length=16, batch_sizes=(1,)),
    )
    with pytest.raises(Killed):
        prune(spec, model, data, out, kill_at_recovery)
    report = prune(spec, model, data, out)
    assert_foreseen(report, model, data)
    quality = report.quality
    assert (report.plan["task"], report.kind) == ("causal-lm", "shrunk")
    assert (quality.primary, quality.lower_is_better) == ("perplexity", True)
    assert quality.pruned is not None
    assert max(quality.before["perplexity"], quality.after["perplexity"]) < quality.pruned["perplexity"]
    assert report.load_check.differences.keys() == {"plain"}
    assert report.equality is not None
    assert report.equality < 1e-5
    assert 0.5 <= report.delivered["flops"] < 0.53
    assert {(layer.heads, layer.neurons) for layer in report.layers} == {(2, report.layers[0].neurons)}
    card = (out / "README.md").read_text()
    assert "perplexity, lower is better (validation" in card
    assert "Perplexity is that of windows of 16 tokens" in card
    assert "# Decoder pruned with magnitude" in card
    assert "pipeline_tag: text-generation" in card
    loaded = AutoModelForCausalLM.from_pretrained(out / "model")
    assert loaded.num_parameters() == report.after.parameters < report.before.parameters
    assert math.log(quality.after["perplexity"]) == pytest.approx(
        _mean_loss(loaded, out / "model", data), rel=1e-4
    )
    write = pipeline("text-generation", str(out / "model"), device="cpu")
    assert write("the film", max_new_tokens=3, do_sample=False)[0]["generated_text"].startswith("the film")


def _mean_loss(model: Any, folder: Path, data: Path) -> float:
    """The model's own loss over the windows, weighted by their scored tokens."""
    text = "\n".join(row["text"] for row in lines(20, seed=1))
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"][0]
    windows = [window[None] for window in tokens.split(16) if len(window) > 1]
    with torch.no_grad():
        losses = [model(window, labels=window).loss.item() * (window.shape[1] - 1) for window in windows]
    return sum(losses) / sum(window.shape[1] - 1 for window in windows)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("gpt2")
    model = save_tiny(folder / "model", "gpt2")
    spec = request(
        round_to=1, granularity="hybrid:4x4", doc_stride=4, evaluate=Evaluation(latency=False, max_rows=5)
    )
    return folder, prune(spec, model, dataset(folder / "data"), folder / "out")


def test_a_gpt2_with_blocks_of_zeros_and_fewer_neurons(gpt2: tuple[Path, Report]) -> None:
    folder, report = gpt2
    assert_foreseen(report, folder / "model", folder / "data")
    assert (report.kind, report.quality.rows) == ("mixed", 5)
    assert report.load_check.differences.keys() == {"plain", "remote_code"}
    assert report.delivered["weights"] == pytest.approx(0.5, abs=0.01)
    assert "behind 4 tokens of the window before" in (folder / "out" / "README.md").read_text()
    plain = AutoModelForCausalLM.from_pretrained(folder / "out" / "model")
    mask = load_file(folder / "out" / "masks.safetensors")["transformer.h.0.attn.c_proj.weight"]
    weight = plain.transformer.h[
        0
    ].attn.c_proj.weight.T  # masks are (outputs, inputs), GPT-2's weights are not
    heads = report.layers[0].heads
    assert heads == 4
    assert torch.equal(weight != 0, mask)


def test_a_dense_opt_is_fine_tuned(tmp_path: Path) -> None:
    model, data = save_tiny(tmp_path / "model", "opt"), dataset(tmp_path / "data")
    spec = PruneSpec(
        target_ratio=0,
        max_length=16,
        finetune=Finetune(max_steps=20, batch_size=8, learning_rate=3e-3),
        device="cpu",
    )
    report = prune(spec, model, data, tmp_path / "out")
    assert_foreseen(report, model, data)
    assert report.quality.after["perplexity"] < report.quality.before["perplexity"]
    assert "# Fine-tuned decoder" in (tmp_path / "out" / "README.md").read_text()
