"""Depth pruning: both criteria against slow references, every family passed by, shrunk, exported and reloaded."""

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.delivery.count import count
from pruning.delivery.export import export
from pruning.errors import Canceled, OutOfMemory
from pruning.events import StopReason
from pruning.methods import Context, Outcome, create
from pruning.model.depth import bypassed, without_layers
from pruning.model.shrink import shrink
from pruning.planning.plan import Plan
from tests.support.kprune import context, labelled_rows, random_rows
from tests.support.models import DECODERS, FAMILIES, tiny_inputs, tiny_model, tiny_tokenizer
from tests.support.training import same_weights

SLIDING = {
    "use_sliding_window": True,
    "sliding_window": 2,
    "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
}


def given(model: PreTrainedModel, work: Path, **options: Any) -> Context:
    return context(model, work, **{"granularity": "layer", "ratio": 0.4, "measure": "weights"} | options)


def run(model: PreTrainedModel, work: Path, settings: Any = None, **options: Any) -> tuple[Context, Outcome]:
    asked = given(model, work, **options)
    return asked, create("depth", settings or {}).prune(asked)


def said(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return cast(Tensor, model(**tiny_inputs(model)).logits)


def test_influence_is_that_of_a_slow_reference(tmp_path: Path) -> None:
    model = tiny_model("bert", layers=5)
    rows = random_rows(model, 20)
    cosines: list[list[float]] = [[] for _ in range(5)]
    with torch.no_grad():
        for index in range(len(rows)):
            tokens = rows.batch([index])["input_ids"]
            states = model(input_ids=tokens, output_hidden_states=True).hidden_states
            for layer, (before, after) in enumerate(pairwise(states)):
                for x, y in zip(before[0].double(), after[0].double(), strict=True):
                    cosines[layer].append(float(x @ y / (x.norm() * y.norm())))
    expected = [1 - sum(each) / len(each) for each in cosines]
    _, outcome = run(model, tmp_path, rows=rows)
    assert outcome.details["influence"] == pytest.approx(expected, abs=1e-6)
    lowest = sorted(range(1, 5), key=expected.__getitem__)[:2]
    assert outcome.details["dropped"] == lowest
    assert outcome.kept is not None
    assert outcome.kept.layers == tuple(index for index in range(5) if index not in lowest)
    assert model.config.num_hidden_layers == 3


def test_greedy_is_that_of_a_slow_reference(tmp_path: Path) -> None:
    model = tiny_model("bert", layers=4)
    rows = labelled_rows(model, 6)
    left, losses = [0, 1, 2, 3], []
    for _ in range(2):
        tried = {}
        for each in left[1:]:
            with bypassed(model, [index for index in left if index != each]), torch.no_grad():
                total = 0.0
                for index in range(len(rows)):
                    batch = rows.batch([index])
                    logits = model(input_ids=batch["input_ids"]).logits[0].double()
                    total += float(logits.logsumexp(0) - logits[int(batch["labels"][0])])
            tried[each] = total / len(rows)
        best = min(tried, key=tried.__getitem__)
        left.remove(best)
        losses.append(tried[best])
    _, outcome = run(model, tmp_path, {"criterion": "greedy"}, rows=rows)
    assert outcome.kept is not None
    assert outcome.kept.layers == tuple(left)
    assert outcome.details["losses"] == pytest.approx(losses, abs=1e-5)


@pytest.mark.parametrize(
    ("family", "variant"), [*((family, {}) for family in (*FAMILIES, *DECODERS)), ("qwen2", SLIDING)]
)
def test_passed_by_is_dropped_is_exported_is_reloaded(
    family: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny_model(family, layers=4, variant=variant)
    dense = copy.deepcopy(model)
    asked, outcome = run(model, tmp_path / "work", {"calibration_tokens": 100})
    kept = outcome.kept
    assert kept is not None
    with bypassed(dense, kept.stack):
        expected = said(dense)
    assert (expected - said(dense)).abs().max() > 1e-3
    torch.testing.assert_close(said(model), expected, rtol=0, atol=1e-5)
    shrink(dense, kept)
    assert same_weights(dense, model)
    folder = tmp_path / "model"
    bundle = export(model, tiny_tokenizer(family), asked.shape, kept, "global", folder)
    assert not bundle.remote_code
    task = "causal-lm" if family in DECODERS else "sequence-classification"
    plan = Plan.model_construct(
        spec=asked.spec, task=task, target_measure="weights", shape=asked.shape, length=7.0, neuron_step=1
    )
    found = count(folder, plan, kept, None, asked.ratio)
    assert found.removed["weights"] == pytest.approx(0.5)
    assert found.removed["flops"] == pytest.approx(0.5)
    assert [layer.heads > 0 for layer in found.layers] == [index in kept.stack for index in range(4)]
    reloaded = type(model).from_pretrained(folder).eval()
    assert reloaded.num_parameters() == model.num_parameters()
    torch.testing.assert_close(said(reloaded), expected, rtol=0, atol=1e-5)
    if variant:
        assert reloaded.config.layer_types == [SLIDING["layer_types"][index] for index in kept.stack]
    if family in DECODERS:
        _generates(reloaded)


def _generates(model: PreTrainedModel) -> None:
    """With its cache what it generates without."""
    tokens = tiny_inputs(model, rows=1)["input_ids"]
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with_cache, without = (model.generate(tokens, use_cache=cache, **options) for cache in (True, False))
    assert torch.equal(with_cache, without)


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.2500001, 0.75])
def test_layers_are_counted_so_that_as_much_as_asked_goes(ratio: float, tmp_path: Path) -> None:
    model = tiny_model("llama", layers=4)
    _, outcome = run(model, tmp_path, {"calibration_tokens": 20}, ratio=ratio)
    assert outcome.kept is not None
    assert len(outcome.kept.stack) == 4 - math.ceil(4 * ratio - 1e-9)
    assert outcome.kept.stack[0] == 0


def test_a_model_is_whole_again_when_a_trial_is_over() -> None:
    model = tiny_model("qwen2", layers=4, variant=SLIDING)
    dense, before = said(model), copy.deepcopy(model.config.to_dict())
    with without_layers(model, [0, 3]):
        assert model.config.layer_types == ["full_attention", "sliding_attention"]
        assert (said(model) - dense).abs().max() > 1e-3
    assert torch.equal(said(model), dense)
    assert model.config.to_dict() == before
    _generates(model)


def _stop_at(path: Path) -> Callable[[], StopReason | None]:
    return lambda: "preempt" if path.exists() else None


def test_what_was_tried_is_not_tried_again(tmp_path: Path) -> None:
    rows = labelled_rows(tiny_model("bert"), 12)
    through = tiny_model("bert", layers=4)
    _, expected = run(through, tmp_path / "through", {"criterion": "greedy"}, rows=rows)
    stop = _stop_at(tmp_path / "work" / "dropped-000.safetensors")
    with pytest.raises(Canceled):
        run(
            tiny_model("bert", layers=4),
            tmp_path / "work",
            {"criterion": "greedy"},
            rows=rows,
            should_stop=stop,
        )
    again = tiny_model("bert", layers=4)
    _, outcome = run(again, tmp_path / "work", {"criterion": "greedy"}, rows=rows)
    assert same_weights(again, through)
    assert outcome.details["losses"] == expected.details["losses"]
    assert outcome.details["dropped"] == expected.details["dropped"]


def test_what_will_not_fit_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(OutOfMemory) as caught:
        run(tiny_model("llama"), tmp_path)
    assert "max_length" in caught.value.remedy
    assert not list(tmp_path.iterdir())
