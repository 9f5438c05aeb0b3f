"""Every method that prunes layer by layer: exact counts, the export, going on after a stop, and what it refuses."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.delivery.count import count
from pruning.delivery.export import export
from pruning.errors import Canceled, OutOfMemory
from pruning.events import Event, StopReason
from pruning.granularity import Granularity
from pruning.knowledge.draw import Draw
from pruning.layerwise.memory import Need
from pruning.layerwise.sites import sites
from pruning.methods import METHODS, Context, Outcome, create
from pruning.methods._layerwise import LayerwiseMethod
from pruning.model.layers import layers, prunable_linears
from pruning.planning.costs import total_cost, unit_costs
from pruning.planning.plan import Plan
from tests.support.kprune import context, random_rows
from tests.support.models import DECODERS, FAMILIES, tiny_inputs, tiny_model, tiny_tokenizer
from tests.support.training import same_weights

LAYERWISE = sorted(name for name, method in METHODS.items() if issubclass(method, LayerwiseMethod))
FORMS = {"unstructured": "unstructured", "n_m": "2:4", "block": "block:4x8", "row": "row"}
"""A granularity of each kind."""
CASES = [(name, FORMS[kind]) for name in LAYERWISE for kind in sorted(METHODS[name].granularities)]
RATIOS = {"unstructured": 0.613, "2:4": 0.5, "1:4": 0.25, "block:4x8": 0.37, "row": 0.4}


def given(model: PreTrainedModel, work: Path, method: str, granularity: str, **options: Any) -> Context:
    options = {"ratio": RATIOS[granularity], "measure": "weights", **options}
    return context(model, work, granularity=granularity, **options)


def run(
    model: PreTrainedModel, work: Path, method: str, granularity: str, settings: Any = None, **options: Any
) -> tuple[Context, Outcome]:
    asked = given(model, work, method, granularity, **options)
    return asked, create(method, settings or {}).prune(asked)


def said(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return cast(Tensor, model(**tiny_inputs(model)).logits)


def gated(model: PreTrainedModel, outcome: Outcome) -> PreTrainedModel:
    """A copy whose dropped weights are anything, multiplied by its masks."""
    copied = copy.deepcopy(model)
    for name, mask in (outcome.weight_masks or {}).items():
        parameter = copied.get_parameter(name)
        parameter.data += torch.randn_like(parameter) * ~mask
        parameter.data *= mask
    return copied


def check_exact(model: PreTrainedModel, asked: Context, outcome: Outcome) -> None:
    """Random weights are never 0 by chance, so that zeros are what was dropped."""
    ratio, dense = asked.spec.target_ratio, total_cost(asked.shape, "weights", 1.0)
    left = 0
    assert outcome.weight_masks is not None
    for name, linear in prunable_linears(model).items():
        left += int((linear.weight != 0).sum())
        mask = outcome.weight_masks.get(f"{name}.weight")
        if mask is not None:
            assert torch.equal(linear.weight != 0, mask)
    unit = max(unit_costs(asked.shape, asked.granularity, "weights", 1.0))
    assert ratio * dense - 1e-6 <= dense - left < ratio * dense + unit


@pytest.mark.parametrize(("method", "granularity"), [("wanda", "row"), ("sparsegpt", "unstructured")])
def test_a_part_of_all_parameters_is_exact_too(method: str, granularity: str, tmp_path: Path) -> None:
    model = tiny_model("bert")
    asked = given(model, tmp_path, method, granularity, measure="parameters", ratio=0.1)
    asked = replace(asked, shape=replace(asked.shape, parameters=model.num_parameters()))
    outcome = create(method, {}).prune(asked)
    zeros = sum(int((~mask).sum()) for mask in (outcome.weight_masks or {}).values())
    unit = max(unit_costs(asked.shape, asked.granularity, "parameters", 1.0))
    assert 0 <= zeros - 0.1 * model.num_parameters() < unit


@pytest.mark.parametrize(("method", "granularity"), CASES)
def test_gated_is_baked_is_exported_is_reloaded(method: str, granularity: str, tmp_path: Path) -> None:
    model = tiny_model("bert")
    dense = said(model)
    asked, outcome = run(model, tmp_path / "work", method, granularity)
    check_exact(model, asked, outcome)
    baked = said(model)
    assert (baked - dense).abs().max() > 1e-3
    torch.testing.assert_close(said(gated(model, outcome)), baked)
    folder = tmp_path / "model"
    export(model, tiny_tokenizer("bert"), asked.shape, None, "global", folder)
    plan = Plan.model_construct(
        spec=asked.spec,
        task="sequence-classification",
        target_measure="weights",
        shape=asked.shape,
        length=asked.mean_length,
        neuron_step=1,
    )
    count(folder, plan, None, outcome.weight_masks, asked.ratio)
    reloaded = type(model).from_pretrained(folder).eval()
    assert torch.equal(said(reloaded), baked)
    assert same_weights(reloaded, model)


@pytest.mark.parametrize("family", [*FAMILIES[1:], *DECODERS])
def test_every_family_is_pruned_and_compensated(family: str, tmp_path: Path) -> None:
    dense = tiny_model(family, layers=1, ffn=96)
    errors = {}
    for method, settings in (("wanda", {"swaps": 1}), ("sparsegpt", {})):
        model = copy.deepcopy(dense)
        rows = random_rows(model, rows=200)
        asked, outcome = run(model, tmp_path / method, method, "2:4", settings, rows=rows)
        check_exact(model, asked, outcome)
        errors[method] = [notes["error"] for notes in outcome.details["linears"].values()]
    assert all(less < more for less, more in zip(errors["sparsegpt"], errors["wanda"], strict=True))


@pytest.mark.parametrize("method", [*LAYERWISE, "magnitude"])
@pytest.mark.parametrize("granularity", ["2:4", "1:4"])
def test_every_group_has_its_zeros(method: str, granularity: str, tmp_path: Path) -> None:
    model = tiny_model("llama")
    asked, _ = run(model, tmp_path, method, granularity)
    zeros, size = asked.granularity.shape or (0, 1)
    for linear in prunable_linears(model).values():
        groups = (linear.weight == 0).reshape(-1, size).sum(1)
        assert torch.equal(groups, torch.full_like(groups, zeros))


@pytest.mark.parametrize("method", LAYERWISE)
def test_what_was_finished_is_not_done_again(method: str, tmp_path: Path) -> None:
    settings = {"layer_ratios": "owl"}
    through = tiny_model("bert", layers=3)
    _, expected = run(through, tmp_path / "through", method, "unstructured", settings)
    model = tiny_model("bert", layers=3)
    stop = _stop_at(tmp_path / "work" / "layer-001.safetensors")
    with pytest.raises(Canceled):
        run(model, tmp_path / "work", method, "unstructured", settings, should_stop=stop)
    finished = tmp_path / "work" / "layer-000.safetensors"
    written = finished.stat().st_mtime_ns
    again = tiny_model("bert", layers=3)
    _, outcome = run(again, tmp_path / "work", method, "unstructured", settings)
    assert finished.stat().st_mtime_ns == written
    assert same_weights(again, through)
    for key in ("linears", "layer_fractions", "rows", "tokens"):
        assert outcome.details[key] == expected.details[key]
    for name, mask in (expected.weight_masks or {}).items():
        assert torch.equal(mask, (outcome.weight_masks or {})[name])


def _stop_at(path: Path) -> Callable[[], StopReason | None]:
    return lambda: "preempt" if path.exists() else None


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_the_seed_draws_the_rows(method: str, tmp_path: Path) -> None:
    settings = {"calibration_tokens": 60}
    models = []
    for run_ in range(3):
        model = tiny_model("bert")
        _, outcome = run(model, tmp_path / str(run_), method, "unstructured", settings, seed=run_ // 2)
        assert outcome.details["rows"] < 12
        models.append(model)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_one_after_the_other_reads_what_was_pruned(tmp_path: Path) -> None:
    """The attention output is pruned by what it reads of pruned values, as a model pruned so far shows."""
    rows = random_rows(tiny_model("bert"))
    errors = {}
    for sequential in (False, True):
        model = tiny_model("bert", layers=1)
        settings = {"true_sequential": sequential}
        _, outcome = run(model, tmp_path / str(sequential), "alps", "unstructured", settings, rows=rows)
        errors[sequential] = [notes["error"] for notes in outcome.details["linears"].values()]
    assert errors[False][:3] == errors[True][:3]
    assert all(one != other for one, other in zip(errors[False][3:], errors[True][3:], strict=True))


def test_layers_with_more_outliers_keep_more_of_all_their_matrices(tmp_path: Path) -> None:
    model = tiny_model("bert", layers=3)
    with torch.no_grad():
        for linear in layers(model)[2].linears:
            linear.weight[:, 3] *= 30
    settings = {"layer_ratios": "owl", "outlier_spread": 0.1}
    asked, outcome = run(model, tmp_path, "wanda", "unstructured", settings)
    check_exact(model, asked, outcome)
    fractions = outcome.details["layer_fractions"]
    assert max(fractions) == fractions[2] == pytest.approx(min(fractions) + 0.2)
    for name, notes in outcome.details["linears"].items():
        index = int(name.split(".layer.")[1].split(".")[0])
        assert notes["kept"] == pytest.approx(fractions[index], abs=2e-3)


@pytest.mark.parametrize("granularity", ["unstructured", "2:4"])
@pytest.mark.parametrize("method", ["wanda", "ria"])
def test_swaps_lower_the_error_of_every_linear_of_a_layer(
    method: str, granularity: str, tmp_path: Path
) -> None:
    found = []
    for swaps in (1, 9):
        model = tiny_model("bert", layers=1)
        settings = {"swaps": swaps}
        asked, outcome = run(model, tmp_path / str(swaps), method, granularity, settings)
        check_exact(model, asked, outcome)
        found.append([notes["error"] for notes in outcome.details["linears"].values()])
    assert all(more <= one for one, more in zip(*found, strict=True))
    assert sum(found[1]) < 0.9 * sum(found[0])


def test_rows_of_wanda_keep_alike_and_those_of_the_matrix_do_not(tmp_path: Path) -> None:
    spread = {}
    for group in ("row", "matrix"):
        model = tiny_model("bert")
        run(model, tmp_path / group, "wanda", "unstructured", {"comparison_group": group})
        rows = [(linear.weight != 0).sum(1) for linear in prunable_linears(model).values()]
        spread[group] = max(int(each.max() - each.min()) for each in rows)
    assert spread["row"] == 1
    assert spread["matrix"] > 3


def test_progress_goes_to_the_end_and_says_where_it_is(tmp_path: Path) -> None:
    events: list[Event] = []
    run(tiny_model("bert"), tmp_path, "sparsegpt", "unstructured", events=events.append)
    assert events
    assert all(0 <= event.data["fraction"] <= 1 for event in events)
    fractions = [event.data["fraction"] for event in events]
    assert fractions == sorted(fractions)


class TestMemory:
    def test_it_is_said_before_and_seen_after(self, tmp_path: Path) -> None:
        _, outcome = run(tiny_model("bert"), tmp_path, "alps", "unstructured")
        memory = outcome.details["memory"]
        assert memory.keys() == {"expected_host_bytes", "peak_host_bytes"}
        assert memory["expected_host_bytes"] > 0
        assert memory["peak_host_bytes"] >= 0

    def test_hidden_states_are_counted_with_their_padding(self) -> None:
        model = tiny_model("bert")
        asked = given(model, Path(), "wanda", "unstructured")
        batches = Draw.of(asked.train, 10_000, 0).batches(asked.device, 2**28)
        need = Need.of(asked.shape, batches, 100, 10**9, masks=7)
        assert need.hidden == sum(batch.real.numel() for batch in batches) * 32 * 4
        assert need.host == need.hidden + 7
        assert need.device == 100 + 10**9

    def test_masks_of_single_weights_are_counted(self, tmp_path: Path) -> None:
        model = tiny_model("bert")
        _, outcome = run(model, tmp_path, "wanda", "unstructured")
        weights = sum(linear.weight.numel() for linear in prunable_linears(model).values())
        assert outcome.details["memory"]["expected_host_bytes"] > weights

    @pytest.mark.parametrize(
        ("hidden", "workspace", "remedy"),
        [(10**16, 10**6, "Lower calibration_tokens to 0 %"), (10**6, 10**16, "method wanda")],
    )
    def test_what_will_not_fit_is_refused_with_the_numbers(
        self, hidden: int, workspace: int, remedy: str
    ) -> None:
        need = Need(hidden=hidden, statistics=10**6, batch=10**6, workspace=workspace)
        with pytest.raises(OutOfMemory, match=r"needs 10000000\.00 GB") as caught:
            need.check(torch.device("cpu"))
        assert remedy in caught.value.remedy
        assert caught.value.param == "/method/calibration_tokens"
        assert caught.value.error_class == "capacity"

    def test_a_method_asks_before_it_computes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        free = psutil.virtual_memory().total
        model = tiny_model("bert")
        asked = given(model, tmp_path, "sparsegpt", "unstructured")
        method = cast(LayerwiseMethod, create("sparsegpt", {}))
        monkeypatch.setattr(type(method), "workspace", lambda self, outputs, inputs: 2 * free)
        with pytest.raises(OutOfMemory, match="calibration needs"):
            method.prune(asked)
        assert not list(tmp_path.iterdir())
        assert same_weights(model, tiny_model("bert"))

    @pytest.mark.parametrize("method", LAYERWISE)
    def test_larger_matrices_need_more(self, method: str) -> None:
        one = cast(LayerwiseMethod, create(method, {}))
        assert 0 < one.workspace(64, 64) < one.workspace(64, 128) < one.workspace(128, 128)


def test_sites_are_in_the_order_of_the_layer_and_leave_out_what_is_not_pruned(tmp_path: Path) -> None:
    model = tiny_model("llama")
    groups = cast(Any, given(model, tmp_path, "wanda", "unstructured").groups())
    names = [[name.split(".")[-1] for name in site.groups] for site in sites(model, groups)[0]]
    assert names == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    rows = cast(Any, given(model, tmp_path, "wanda", "row").groups())
    assert [len(site.groups) for site in sites(model, rows)[1]] == [1, 2, 1]
    assert Granularity.parse("row").kind in METHODS["wanda"].granularities
