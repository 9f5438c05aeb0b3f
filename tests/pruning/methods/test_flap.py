"""FLAP: scores, biases and refits against slow references, the export, going on after a stop, and memory."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.delivery.export import export
from pruning.errors import Canceled, OutOfMemory
from pruning.events import StopReason
from pruning.masking.slot_units import SlotUnits
from pruning.methods import Context, Outcome, create
from pruning.model.layers import Layer, layers
from pruning.model.shrink import shrink
from pruning.planning.costs import removed_ratio
from tests.support.kprune import context, random_rows
from tests.support.models import DECODERS, FAMILIES, tiny_inputs, tiny_model, tiny_tokenizer
from tests.support.training import same_weights

RATIO = 0.4
RIDGE = 0.03
POST_NORM_OPT = {"do_layer_norm_before": False}


def given(model: PreTrainedModel, work: Path, **options: Any) -> Context:
    options = {"ratio": RATIO, "measure": "weights", "rows": random_rows(model, 60), **options}
    return context(model, work, **options)


def run(model: PreTrainedModel, work: Path, settings: Any = None, **options: Any) -> tuple[Context, Outcome]:
    asked = given(model, work, **options)
    return asked, create("flap", settings or {}).prune(asked)


def said(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**tiny_inputs(model)).logits
    return logits


def read(model: PreTrainedModel, rows: Any, modules: list[torch.nn.Module]) -> list[Tensor]:
    """What modules read of every row, computed alone and in float64 by nothing but the model: (tokens, features)."""
    found: dict[torch.nn.Module, list[Tensor]] = {module: [] for module in modules}

    def note(module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        found[module].append(args[0].reshape(-1, args[0].shape[-1]).double())

    hooks = [module.register_forward_pre_hook(note) for module in modules]
    with torch.no_grad():
        for index in range(len(rows)):
            batch = rows.batch([index])
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    for hook in hooks:
        hook.remove()
    return [torch.cat(each) for each in found.values()]


def readers(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    found = {}
    for layer in layers(model):
        found |= {f"{layer.index}.heads": layer.attention_out, f"{layer.index}.neurons": layer.ffn_out}
    return found


@pytest.mark.parametrize("metric", ["wifv", "ifv", "wifn"])
def test_the_choice_is_that_of_a_slow_reference(metric: str, tmp_path: Path) -> None:
    model = tiny_model("llama", layers=2)
    rows = random_rows(model, 30)
    units = given(model, tmp_path, rows=rows).groups()
    linears = readers(model)
    scores = []
    for (name, linear), inputs in zip(
        linears.items(), read(model, rows, list(linears.values())), strict=True
    ):
        weight = linear.weight.detach().double()
        each = {
            "wifv": inputs.var(0) * weight.square().sum(0),
            "ifv": inputs.var(0),
            "wifn": inputs.norm(dim=0) * weight.abs().mean(0),
        }[metric]
        standard = (each - each.mean()) / each.std(unbiased=False)
        group = units[name]
        assert isinstance(group, SlotUnits)
        for unit, values in enumerate(standard.reshape(-1, group.size)):
            scores.append((float(values.mean()), name, unit, group.cost))
    asked, outcome = run(model, tmp_path, {"compensation": "none", "metric": metric}, rows=rows)
    left, kept = asked.budget(units), set()
    for name in linears:  # the best of every sub-layer stays
        _, _, unit, cost = max(entry for entry in scores if entry[1] == name)
        kept.add((name, unit))
        left -= cost
    for _, name, unit, cost in sorted(scores, reverse=True):
        if (name, unit) not in kept and cost <= left:
            kept.add((name, unit))
            left -= cost
    assert outcome.kept is not None
    found = {(f"{index}.heads", unit) for index, heads in enumerate(outcome.kept.heads) for unit in heads}
    found |= {(f"{i}.neurons", unit) for i, neurons in enumerate(outcome.kept.neurons) for unit in neurons}
    assert found == kept
    assert 0 <= removed_ratio(asked.shape, outcome.kept, "weights", 1.0) - RATIO < 0.02


def dropped_columns(layer: Layer, outcome: Outcome, name: str) -> Tensor:
    assert outcome.kept is not None
    if name.endswith("heads"):
        mask = torch.ones(layer.heads, dtype=torch.bool)
        mask[list(outcome.kept.heads[layer.index])] = False
        return mask.repeat_interleave(layer.head_width)
    mask = torch.ones(layer.neurons, dtype=torch.bool)
    mask[list(outcome.kept.neurons[layer.index])] = False
    return mask


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_biases_say_what_the_dropped_units_said_on_average(family: str, tmp_path: Path) -> None:
    dense, model = (tiny_model(family, layers=2) for _ in range(2))
    rows = random_rows(model, 30)
    _, outcome = run(model, tmp_path, {"compensation": "bias"}, rows=rows)
    linears, pruned = readers(dense), readers(model)
    inputs = read(dense, rows, list(linears.values()))
    for (name, linear), values in zip(linears.items(), inputs, strict=True):
        gone = dropped_columns(layers(dense)[int(name[0])], outcome, name)
        expected = linear.weight.double()[:, gone] @ values.mean(0)[gone]
        expected += 0 if linear.bias is None else linear.bias.double()
        torch.testing.assert_close(pruned[name].bias.double(), expected, rtol=1e-4, atol=1e-5)
    if family == "llama":
        assert (model.config.attention_bias, model.config.mlp_bias) == (True, True)
        assert not any(bias.any() for layer in layers(model) for bias in (layer.query.bias, layer.value.bias))


def fitted(old: Tensor, inner: Tensor, wanted: Tensor) -> Tensor:
    """The refit by one tall system: rows for the tokens, and rows that pull to the old weight."""
    pull = (RIDGE * inner.square().sum(0).mean()).sqrt()
    tall = torch.cat([inner, pull * torch.eye(inner.shape[1], dtype=torch.float64)])
    aim = torch.cat([wanted, pull * old.T])
    return torch.linalg.lstsq(tall, aim).solution.T


@pytest.mark.parametrize(("family", "variant"), [("llama", {}), ("opt", POST_NORM_OPT), ("bert", {})])
def test_the_refit_is_that_of_a_slow_reference(family: str, variant: Any, tmp_path: Path) -> None:
    """Sub-layer by sub-layer: the target is the dense model's sum, the rest what the pruned model reads so far."""
    dense, model, slow = (tiny_model(family, layers=2, variant=variant) for _ in range(3))
    rows = random_rows(model, 24)
    settings = {"compensation": "refit", "ridge": RIDGE}
    asked, outcome = run(model, tmp_path, settings, rows=rows)
    groups = given(slow, tmp_path, rows=rows).groups()
    for name in readers(dense):
        index, half = int(name[0]), int(name.endswith("neurons"))
        whole, part = layers(dense)[index], layers(slow)[index]
        gone = dropped_columns(whole, outcome, name)
        reader, slim = readers(dense)[name], readers(slow)[name]
        before, inputs = read(dense, rows, [whole.residuals[half], reader])
        bias = 0 if reader.bias is None else reader.bias.detach().double()
        target = before + inputs @ reader.weight.detach().double().T + bias
        mine, inner = read(slow, rows, [part.residuals[half], slim])
        old = slim.weight.detach().double()[:, ~gone]
        new = fitted(old, inner[:, ~gone], target - mine - bias)
        slim.weight.data[:, ~gone] = new.float()
        group = groups[name]
        group.clear(~gone if isinstance(group, SlotUnits) and group.size == 1 else _heads(gone, whole))
        torch.testing.assert_close(readers(model)[name].weight, slim.weight, rtol=1e-3, atol=1e-4)
        notes = outcome.details["sublayers"][name]
        assert notes["ridge"] == RIDGE
        assert notes["error_after"] <= notes["error_before"]
    assert len(outcome.details["sublayers"]) == 2 * asked.shape.layers


def _heads(gone: Tensor, layer: Layer) -> Tensor:
    return ~gone.reshape(layer.heads, -1).all(1)


@pytest.mark.parametrize("family", [*DECODERS, *FAMILIES])
def test_a_refit_is_nearer_to_the_dense_model_than_nothing(family: str, tmp_path: Path) -> None:
    difference = {}
    granularity = "neuron" if family == "mpnet" else "structured"
    for compensation in ("none", "refit"):
        model = tiny_model(family)
        dense = said(model)
        work = tmp_path / compensation
        rows = random_rows(model, 80)
        _, outcome = run(model, work, {"compensation": compensation}, rows=rows, granularity=granularity)
        zeroed = said(model)
        difference[compensation] = float((zeroed - dense).square().mean())
        assert outcome.kept is not None
        shrink(model, outcome.kept)
        torch.testing.assert_close(said(model), zeroed, rtol=0, atol=1e-5)
    assert difference["refit"] < difference["none"]


def test_added_biases_are_exported_and_declared(tmp_path: Path) -> None:
    model = tiny_model("llama")
    asked, outcome = run(model, tmp_path / "work", {"compensation": "bias"})
    expected = said(model)
    assert outcome.kept is not None
    shrink(model, outcome.kept)
    export(model, tiny_tokenizer("llama"), asked.shape, outcome.kept, "global", tmp_path / "model")
    loaded = type(model).from_pretrained(tmp_path / "model").eval()
    assert loaded.model.layers[0].mlp.down_proj.bias.any()
    torch.testing.assert_close(said(loaded), expected, rtol=0, atol=1e-5)


def test_a_model_that_cannot_have_biases_gets_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no config of mistral"):
        run(tiny_model("mistral"), tmp_path, {"compensation": "bias"})


def _stop_at(path: Path) -> Callable[[], StopReason | None]:
    return lambda: "preempt" if path.exists() else None


def test_whatever_was_finished_is_not_done_again(tmp_path: Path) -> None:
    through = tiny_model("qwen2")
    _, expected = run(through, tmp_path / "through")
    steps = ["chosen", *(f"sublayer-{index:03}" for index in range(3))]
    for step in steps:
        stop = _stop_at(tmp_path / "work" / f"{step}.safetensors")
        with pytest.raises(Canceled):
            run(tiny_model("qwen2"), tmp_path / "work", should_stop=stop)
    written = (tmp_path / "work" / "sublayer-000.safetensors").stat().st_mtime_ns
    again = tiny_model("qwen2")
    _, outcome = run(again, tmp_path / "work")
    assert (tmp_path / "work" / "sublayer-000.safetensors").stat().st_mtime_ns == written
    assert same_weights(again, through)
    assert outcome.kept == expected.kept
    assert outcome.details["sublayers"] == expected.details["sublayers"]


def test_a_local_scope_keeps_the_same_part_of_every_layer(tmp_path: Path) -> None:
    _, outcome = run(tiny_model("opt", layers=3), tmp_path, {"scope": "local"})
    assert outcome.kept is not None
    sizes = {len(neurons) for neurons in outcome.kept.neurons}
    assert max(sizes) - min(sizes) <= 1


class TestMemory:
    def test_it_is_said_before_and_seen_after(self, tmp_path: Path) -> None:
        expected = {}
        for compensation in ("none", "refit"):
            _, outcome = run(tiny_model("llama"), tmp_path / compensation, {"compensation": compensation})
            memory = outcome.details["memory"]
            assert memory.keys() == {"expected_host_bytes", "peak_host_bytes"}
            expected[compensation] = memory["expected_host_bytes"]
        assert expected["none"] < expected["refit"]

    def test_what_will_not_fit_is_refused_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
        model = tiny_model("llama")
        with pytest.raises(OutOfMemory, match="calibration needs") as caught:
            run(model, tmp_path)
        assert "compensation" in caught.value.remedy
        assert not list(tmp_path.iterdir())
        assert same_weights(model, tiny_model("llama"))
