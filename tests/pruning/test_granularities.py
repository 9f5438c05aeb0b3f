"""Whole jobs of the granularities that remove less than heads and neurons together, or leave zeros."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pruning import prune
from pruning.errors import Canceled
from pruning.events import Event
from pruning.granularity import Granularity
from pruning.model.layers import layers, prunable_linears
from pruning.options import Recover
from pruning.planning.costs import ModelShape, total_cost, unit_costs
from pruning.report import Report
from pruning.spec import Evaluation, PruneSpec
from tests.support.data import write_dataset
from tests.support.foreseen import assert_foreseen
from tests.support.models import tiny_model, tiny_tokenizer

Inputs = tuple[Path, Path]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A model whose third head of layer 1 is so weak that magnitude drops all of it."""
    folder = tmp_path_factory.mktemp("inputs")
    model = tiny_model("bert")
    layer = layers(model)[1]
    with torch.no_grad():
        layer.attention_out.weight[:, 16:24] *= 1e-3
        for linear in (layer.query, layer.key, layer.value):
            linear.weight[16:24] *= 1e-3
    model.save_pretrained(folder / "model")
    tiny_tokenizer("bert").save_pretrained(folder / "model")
    return folder / "model", write_dataset(folder / "data", train=24, validation=8)


def _run(inputs: Inputs, out: Path, **request: Any) -> tuple[Report, PreTrainedModel]:
    """The report, and the export as a plain load gives it."""
    fields = {"method": "magnitude", "target_measure": "weights", "max_length": 32, "device": "cpu"}
    spec = PruneSpec(**fields | {"evaluate": Evaluation(latency=False)} | request)
    report = prune(spec, *inputs, out)
    assert_foreseen(report, *inputs)
    shape = ModelShape.from_config(report.plan["shape"] | _CONFIG)
    unit = max(unit_costs(shape, Granularity.parse(spec.granularity), "weights", 1.0))
    dense = total_cost(shape, "weights", 1.0)
    assert spec.target_ratio - 1e-9 <= report.delivered["weights"] < spec.target_ratio + unit / dense
    model = AutoModelForSequenceClassification.from_pretrained(out / "model")
    left = sum(int((linear.weight != 0).sum()) for linear in prunable_linears(model).values())
    assert report.after.weights == left == round(dense * (1 - report.delivered["weights"]))
    return report, model


_CONFIG = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}


def test_hybrid_removes_neurons_and_empty_heads_and_keeps_the_other_zeros(
    inputs: Inputs, tmp_path: Path
) -> None:
    recover = Recover(max_steps=3, batch_size=8, learning_rate=1e-3)
    report, model = _run(inputs, tmp_path, target_ratio=0.5, granularity="hybrid:8x8", recover=recover)
    assert report.kind == "mixed"
    assert [layer.heads for layer in report.layers] == [4, 3]
    assert all(layer.neurons < 48 for layer in report.layers)
    assert report.load_check.differences.keys() == {"plain", "remote_code"}
    assert report.load_check.parameters["remote_code"] < report.load_check.parameters["plain"]
    assert report.after.flops < report.before.flops
    assert 0 < report.delivered["flops"] < report.delivered["weights"]
    assert "zeros_left" in {notice.code for notice in report.warnings}
    text = (tmp_path / "README.md").read_text()
    assert "Attention heads and FFN neurons were **removed**" in text
    assert "blocks of weights were **set to zero" in text
    masks = load_file(tmp_path / "masks.safetensors")
    assert masks["layers.1.heads"].tolist() == [True, True, False, True]
    assert [int(masks[f"layers.{index}.neurons"].sum()) for index in range(2)] == [
        layer.neurons for layer in report.layers
    ]
    layer = layers(model)[0]  # all of its heads are left, so that the export has the dense shape
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(layer.query.weight != 0, masks[name])
    assert masks.keys() == {
        *(f"layers.{index}.{kind}" for index in range(2) for kind in ("heads", "neurons")),
        *(f"{name}.weight" for name in prunable_linears(model) if ".attention." in name),
    }


def test_multilevel_removes_units_and_keeps_zeros_in_all_that_is_left(inputs: Inputs, tmp_path: Path) -> None:
    recover = Recover(max_steps=3, batch_size=8, learning_rate=1e-3)
    settings = {"max_steps": 12, "batch_size": 8, "learning_rate": 1e-3}
    request = {"granularity": "multilevel:8x4", "method": "leap", "settings": settings, "recover": recover}
    report, model = _run(inputs, tmp_path, target_ratio=0.7, **request)
    assert report.kind == "mixed"
    assert report.equality is not None
    assert report.equality < 1e-5
    first = report.details["structured"]
    assert 0 < first["removed"] < 0.7
    assert report.after.parameters == report.load_check.parameters["remote_code"] < report.before.parameters
    assert report.delivered["flops"] >= first["removed"] / 2
    text = (tmp_path / "README.md").read_text()
    assert "In what is left, blocks of weights were **set to zero" in text
    masks = load_file(tmp_path / "masks.safetensors")
    names = [f"{name}.weight" for name in prunable_linears(model)]
    assert masks.keys() == {
        *(f"layers.{index}.{kind}" for index in range(2) for kind in ("heads", "neurons")),
        *names,
    }
    assert sum(int(masks[name].sum()) for name in names) == report.after.weights
    for index, layer in enumerate(report.layers):
        assert int(masks[f"layers.{index}.heads"].sum()) == layer.heads
        assert int(masks[f"layers.{index}.neurons"].sum()) == layer.neurons


FILLED = PruneSpec(
    target_ratio=0.5,
    granularity="hybrid:8x8",
    method="magnitude",
    max_length=32,
    device="cpu",
    evaluate=Evaluation(latency=False),
    recover=Recover(max_steps=3, batch_size=8, learning_rate=1e-3, fill=True),
)


@pytest.fixture(scope="module")
def filled(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The folder and the report of a job that ran through."""
    out = tmp_path_factory.mktemp("filled")
    report = prune(FILLED, *inputs, out)
    assert_foreseen(report, *inputs)
    return out, report


class TestFill:
    """Hybrid filled, also when it is preempted while it trains."""

    def test_it_has_no_zeros_and_says_how_little_is_removed(
        self, filled: tuple[Path, Report], inputs: Inputs, tmp_path: Path
    ) -> None:
        out, report = filled
        plain = prune(FILLED.model_copy(update={"recover": False}), *inputs, tmp_path)
        assert (report.kind, plain.kind) == ("shrunk", "mixed")
        assert [(layer.heads, layer.neurons) for layer in report.layers] == [
            (layer.heads, layer.neurons) for layer in plain.layers
        ]
        assert report.after.weights == plain.after.weights + report.details["filled"]
        kept = sum(4 * 32 * 8 * layer.heads + 64 * layer.neurons for layer in report.layers)
        assert report.after.weights == kept
        assert (report.asked, report.delivered["weights"]) == (0.5, pytest.approx(1 - kept / 14336))
        assert 0 < report.delivered["weights"] < 0.5 <= plain.delivered["weights"]
        assert report.delivered["flops"] == plain.delivered["flops"]
        assert "less than 0.5" in next(
            notice.message for notice in report.warnings if notice.code == "filled"
        )
        assert "less than 0.5" in (out / "README.md").read_text()
        assert all(name.startswith("layers.") for name in load_file(out / "masks.safetensors"))
        model = AutoModelForSequenceClassification.from_pretrained(out / "model")
        assert kept == sum(int((linear.weight != 0).sum()) for linear in prunable_linears(model).values())

    def test_preempted_after_every_step_it_gives_the_same_bytes(
        self, filled: tuple[Path, Report], inputs: Inputs, tmp_path: Path
    ) -> None:
        trained: list[int] = []

        def note(event: Event) -> None:
            if event.type == "phase":
                trained.clear()
            elif event.data.get("phase") == "recovering" and "step" in event.data:
                trained.append(event.data["step"])

        for _ in range(2):
            with pytest.raises(Canceled, match="Preempted while recovering"):
                prune(FILLED, *inputs, tmp_path, note, lambda: "preempt" if trained else None)
        report = prune(FILLED, *inputs, tmp_path)
        assert report.details == filled[1].details
        artifacts = [name for name in report.hashes if name.startswith("artifact/")]
        assert "artifact/model.safetensors" in artifacts
        assert all(report.hashes[name] == filled[1].hashes[name] for name in artifacts)


def test_rows_leave_zeros_and_lose_their_biases(inputs: Inputs, tmp_path: Path) -> None:
    report, model = _run(
        inputs, tmp_path, target_ratio=0.4, granularity="row", recover=Recover(max_steps=3, batch_size=8)
    )
    assert report.kind == "zeros"
    assert report.delivered["flops"] == 0
    assert [(layer.heads, layer.neurons) for layer in report.layers] == [(4, 48)] * 2
    masks = load_file(tmp_path / "masks.safetensors")
    biases = [name for name in masks if name.endswith(".bias")]
    assert len(biases) == 6
    for name in biases:
        assert torch.equal(model.get_parameter(name) != 0, masks[name])
        weight = model.get_parameter(name.removesuffix("bias") + "weight")
        assert torch.equal(weight != 0, masks[name][:, None].expand_as(weight))
