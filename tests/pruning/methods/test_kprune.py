import copy
import time
from itertools import pairwise

import pytest
import torch

from pruning.errors import Canceled
from pruning.knowledge.draw import Draw
from pruning.knowledge.predictive import Mismatch
from pruning.methods import METHODS, create
from pruning.methods.kprune import KPrune
from pruning.model.layers import layers
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, ModelShape, head_cost, neuron_cost, removed_ratio, total_cost
from tests.support.kprune import context, random_rows
from tests.support.models import KPRUNE_FAMILIES, TASKS, tiny_inputs, tiny_model


def prune(model, work, settings=None, **options):
    """One run; without a lambda the method would make two and choose."""
    given = context(model, work, **options)
    outcome = create("kprune", {"representation_weight": 2.5e-4} | (settings or {})).prune(given)
    assert outcome.kept is not None
    return given, outcome


def logits(model):
    with torch.inference_mode():
        return model(**tiny_inputs(model, rows=4)).logits


def gated(dense, kept: Kept, baked):
    """The baked model with gates on, and the dense model's writers back: what dropped units say must not matter."""
    model = copy.deepcopy(baked)
    for layer, donor, heads, neurons in zip(
        layers(model), layers(dense), kept.heads, kept.neurons, strict=True
    ):
        for name in ("query", "key", "value"):
            getattr(layer, name).load_state_dict(getattr(donor, name).state_dict())
        layer.ffn_in[0].load_state_dict(donor.ffn_in[0].state_dict())
        for reader, gate in gates(layer, heads, neurons):
            reader.register_forward_pre_hook(lambda _, inputs, gate=gate: (inputs[0] * gate,))
    return model


def gates(layer, heads, neurons):
    """The readers of a layer, each with a mask of its inputs."""
    for units, size, reader in ((heads, layer.head_size, layer.attention_out), (neurons, 1, layer.ffn_out)):
        gate = torch.isin(torch.arange(reader.in_features // size), torch.tensor(units))
        yield reader, gate.repeat_interleave(size)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("mode", "family"), [*(("best", family) for family in KPRUNE_FAMILIES), ("faithful", "bert")]
)
def test_gated_baked_and_shrunk_agree_and_the_budget_is_met(mode, family, task, tmp_path):
    dense = tiny_model(family, task)
    model = copy.deepcopy(dense)
    given, outcome = prune(model, tmp_path, {"mode": mode})
    removed = removed_ratio(given.shape, outcome.kept, "flops", given.mean_length)
    unit = head_cost(given.shape, "flops", given.mean_length) / total_cost(
        given.shape, "flops", given.mean_length
    )
    assert 0.5 - 1e-9 <= removed < 0.5 + unit
    baked = logits(model)
    assert (baked - logits(dense)).abs().max() > 1e-3
    torch.testing.assert_close(logits(gated(dense, outcome.kept, model)), baked)
    shrink(model, outcome.kept)
    torch.testing.assert_close(logits(model), baked)


def test_within_one_neuron_when_the_last_ffn_can_fill_the_gap(tmp_path):
    model = tiny_model("bert", ffn=128)
    given, outcome = prune(model, tmp_path, ratio=0.37)
    removed = removed_ratio(given.shape, outcome.kept, "flops", given.mean_length)
    neuron = neuron_cost(given.shape, "flops", given.mean_length)
    assert 0 <= removed - 0.37 < neuron / total_cost(given.shape, "flops", given.mean_length)


def test_weights_may_be_counted_instead_of_flops(tmp_path):
    given, outcome = prune(tiny_model("bert"), tmp_path, measure="weights", ratio=0.6)
    assert 0.6 - 1e-9 <= removed_ratio(given.shape, outcome.kept, "weights", 1) < 0.65


@pytest.mark.parametrize(("granularity", "whole"), [("neuron", "heads"), ("head", "neurons")])
def test_neurons_or_heads_may_go_alone(granularity, whole, tmp_path):
    model = tiny_model("bert")
    given, outcome = prune(model, tmp_path, ratio=0.2, granularity=granularity)
    everything = Kept.everything(given.shape)
    assert getattr(outcome.kept, whole) == getattr(everything, whole)
    removed = removed_ratio(given.shape, outcome.kept, "flops", given.mean_length)
    cost = {"neuron": neuron_cost, "head": head_cost}[granularity](given.shape, "flops", given.mean_length)
    assert 0 <= removed - 0.2 < cost / total_cost(given.shape, "flops", given.mean_length)
    baked = logits(model)
    shrink(model, outcome.kept)
    torch.testing.assert_close(logits(model), baked)


def test_nothing_to_remove_leaves_the_model_as_it_is(tmp_path):
    model = tiny_model("bert")
    before = copy.deepcopy(model.state_dict())
    given, outcome = prune(model, tmp_path, ratio=0.0)
    assert outcome.kept == Kept.everything(given.shape)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_pruned_model_is_nearer_to_the_dense_one_than_without_refit(tmp_path):
    dense = tiny_model("bert", layers=3, hidden=32, ffn=96)
    model = copy.deepcopy(dense)
    rows = random_rows(model, rows=600)
    _, outcome = prune(model, tmp_path, rows=rows, ratio=0.4)
    cut = copy.deepcopy(dense)
    shrink(zeroed(cut, outcome.kept), outcome.kept)
    inputs = tiny_inputs(dense, rows=64, seed=7)
    with torch.inference_mode():
        aim, refitted, plain = (each(**inputs).logits for each in (dense, model, cut))
    assert (refitted - aim).square().mean() < 0.7 * (plain - aim).square().mean()
    for notes in outcome.details["sublayers"].values():
        if notes:
            assert notes["error_after"] <= notes["error_before"]


def zeroed(model, kept: Kept):
    for layer, heads, neurons in zip(layers(model), kept.heads, kept.neurons, strict=True):
        for reader, gate in gates(layer, heads, neurons):
            reader.weight.data *= gate
    return model


def test_an_emptied_sublayer_says_the_mean_of_what_it_should(tmp_path):
    dense = tiny_model("bert", heads=2, ffn=64)
    model = copy.deepcopy(dense)
    first = layers(model)[0]
    bias = first.attention_out.bias.clone()
    rows = random_rows(model)
    _, outcome = prune(model, tmp_path, {"head_weight": 1e-6}, rows=rows, ratio=0.7)
    assert outcome.kept.heads[0] == ()
    said, weights = [], []
    hook = layers(dense)[0].attention_out.register_forward_hook(lambda *call: said.append(call[2]))
    for index in range(len(rows)):
        inputs = rows.batch([index])
        del inputs["labels"]
        with torch.no_grad():
            dense(**inputs)
        weights.append(len(rows[index]["input_ids"]))
    hook.remove()
    # The first sub-layer has nothing below it, so what is missing is its own mean output.
    expected = torch.cat([output[0] for output in said]).mean(0)
    assert not torch.allclose(bias, expected, atol=1e-3)
    torch.testing.assert_close(first.attention_out.bias.detach(), expected, rtol=1e-4, atol=1e-5)
    assert not first.attention_out.weight.any()
    before = logits(model)
    shrink(model, outcome.kept)
    torch.testing.assert_close(logits(model), before)


def test_native_keeps_all_heads_and_one_width(tmp_path):
    model = tiny_model("electra")
    given, outcome = prune(model, tmp_path, allocation="native", ratio=0.3)
    assert {len(neurons) for neurons in outcome.kept.neurons} != {given.shape.ffn}
    assert len({len(neurons) for neurons in outcome.kept.neurons}) == 1
    assert {len(heads) for heads in outcome.kept.heads} == {given.shape.heads}
    removed = removed_ratio(given.shape, outcome.kept, "flops", given.mean_length)
    step = given.shape.layers * neuron_cost(given.shape, "flops", given.mean_length)
    assert 0 <= removed - 0.3 < step / total_cost(given.shape, "flops", given.mean_length)


@pytest.mark.parametrize("allocation", ["global", "native"])
def test_a_killed_run_goes_on_and_gives_the_same_bits(allocation, tmp_path):
    dense = tiny_model("distilbert", layers=3)
    whole, resumed = copy.deepcopy(dense), copy.deepcopy(dense)
    _, expected = prune(whole, tmp_path / "whole", allocation=allocation, ratio=0.3)
    finished = sorted((tmp_path / "whole").rglob("sublayer-*"))
    assert len(finished) == 6

    def stop():
        done = len(list((tmp_path / "killed").rglob("sublayer-*")))
        return "preempt" if done >= 3 else None

    with pytest.raises(Canceled):
        prune(copy.deepcopy(dense), tmp_path / "killed", allocation=allocation, ratio=0.3, should_stop=stop)
    kept_files = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("sublayer-*")}
    assert len(kept_files) == 3
    _, outcome = prune(resumed, tmp_path / "killed", allocation=allocation, ratio=0.3)
    assert outcome == expected
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert all(path.stat().st_mtime_ns == written for path, written in kept_files.items())


def test_the_same_seed_gives_the_same_model_and_another_seed_other_rows(tmp_path):
    dense = tiny_model("bert")
    models = [copy.deepcopy(dense) for _ in range(3)]
    settings = {"calibration_tokens": 300}
    for index, (model, seed) in enumerate(zip(models, (3, 3, 4), strict=True)):
        prune(model, tmp_path / str(index), settings, seed=seed)
    first, second, other = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_rows_are_drawn_without_replacement_up_to_the_tokens_asked_for():
    rows = random_rows(tiny_model("bert"), rows=50)
    draw = Draw.of(rows, tokens=150, seed=0)
    assert len(set(draw.indices.tolist())) == len(draw) == int(150 / rows.mean_length)
    assert len(Draw.of(rows, tokens=10**6, seed=0)) == 50
    seen = torch.cat([batch.rows for batch in draw.batches(torch.device("cpu"), weights=2**27)])
    assert sorted(seen.tolist()) == list(range(len(draw)))


def test_rows_to_judge_by_are_others_while_there_are_others():
    rows = random_rows(tiny_model("bert"), rows=50)
    draw, held = Draw.rows(rows, 20, seed=0).split(0.25, seed=0)
    assert (len(draw), len(held)) == (20, 5)
    assert not set(draw.indices.tolist()) & set(held.indices.tolist())
    draw, held = Draw.rows(rows, 48, seed=0).split(0.25, seed=0)
    assert (len(draw), len(held)) == (36, 12)
    assert not set(draw.indices.tolist()) & set(held.indices.tolist())
    alone, also = Draw.rows(rows, 1, seed=0).split(0.25, seed=0)
    assert len(alone) == len(also) == 1
    repeated = Draw.rows(rows, 50, seed=0, replacement=True)
    assert len(repeated) == 50 > len(set(repeated.indices.tolist()))


def test_progress_rises_to_the_end_and_a_stop_is_heeded_at_the_next_batch(tmp_path):
    model = tiny_model("bert")
    told = []
    clock = iter(range(10**6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: float(next(clock)))
        prune(model, tmp_path / "done", events=told.append)
    fractions = [event.data["fraction"] for event in told]
    assert all(a <= b for a, b in pairwise(fractions))
    assert fractions[0] < 0.2
    assert fractions[-1] == pytest.approx(1.0)
    beats = []

    def stop():
        beats.append(1)
        return "cancel" if len(beats) == 2 else None

    with pytest.raises(Canceled):
        prune(tiny_model("bert"), tmp_path / "stopped", should_stop=stop)
    assert len(beats) == 2


def test_the_model_can_still_learn_and_is_in_the_mode_it_was_in(tmp_path):
    model = tiny_model("bert").train()
    prune(model, tmp_path)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_lambda_and_mu_decide(tmp_path):
    shape = ModelShape.from_config(tiny_model("bert").config.to_dict())
    _, many = prune(tiny_model("bert"), tmp_path / "many", {"head_weight": 1e5}, ratio=0.4)
    _, few = prune(tiny_model("bert"), tmp_path / "few", {"head_weight": 1e-5}, ratio=0.4)
    assert sum(map(len, many.kept.heads)) == shape.layers * shape.heads
    assert sum(map(len, few.kept.heads)) < shape.layers * shape.heads
    _, other = prune(tiny_model("bert"), tmp_path / "other", {"representation_weight": 0}, ratio=0.4)
    _, usual = prune(tiny_model("bert"), tmp_path / "usual", {"representation_weight": 1}, ratio=0.4)
    assert other.kept != usual.kept


def test_without_a_lambda_the_better_of_the_published_two_is_delivered(tmp_path):
    dense = tiny_model("bert", layers=3)
    model = copy.deepcopy(dense)
    _, outcome = prune(model, tmp_path / "both", {"representation_weight": None}, ratio=0.6)
    distances = outcome.details["held_out_distance"]
    assert set(distances) == {"0.00025", "1"}
    best = min(distances, key=distances.get)
    assert outcome.details["representation_weight"] == float(best)
    assert outcome.details["rows"] == 72  # a quarter of the 96 rows judges
    tried, climbed = (
        sorted((tmp_path / "both" / f"{kind}-{best}").glob("sublayer-*")) for kind in ("try", "at")
    )
    assert len(tried) == len(climbed) == 6
    again = copy.deepcopy(dense)
    for path in [*tried[5:], *climbed[4:], *sorted((tmp_path / "both").rglob("answers*"))[1:]]:
        path.unlink()
    _, resumed = prune(again, tmp_path / "both", {"representation_weight": None}, ratio=0.6)
    assert resumed == outcome
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_chosen_lambda_delivers_what_it_does_when_it_is_asked_for(tmp_path):
    dense = tiny_model("bert", layers=3)
    tried, asked = copy.deepcopy(dense), copy.deepcopy(dense)
    rows = random_rows(dense, rows=200)  # enough for others to judge by
    settings = {"calibration_tokens": 600}
    _, found = prune(
        tried, tmp_path / "tried", settings | {"representation_weight": None}, rows=rows, ratio=0.6
    )
    chosen = {"representation_weight": found.details["representation_weight"]}
    _, expected = prune(asked, tmp_path / "asked", settings | chosen, rows=rows, ratio=0.6)
    assert found.kept == expected.kept
    assert all(torch.equal(a, b) for a, b in zip(tried.parameters(), asked.parameters(), strict=True))


def test_the_faithful_mode_is_that_of_the_released_code(tmp_path):
    settings = KPrune.Settings(mode="faithful")
    dense = tiny_model("bert", heads=2, ffn=64)
    rows = random_rows(dense)
    given = context(dense, tmp_path, rows=rows)
    draw, _ = KPrune(settings)._draws(given)
    assert len(draw) == len(rows)
    assert len(set(draw.indices.tolist())) < len(rows)  # with replacement
    scoring = KPrune(settings)._scoring(given, len(draw), 2.5e-4)
    assert scoring.head_weight == 64
    assert isinstance(scoring.predictive, Mismatch)
    _, outcome = prune(dense, tmp_path, {"mode": "faithful", "head_weight": 1e-6}, rows=rows, ratio=0.7)
    assert outcome.kept.heads[0] == ()
    assert not layers(dense)[0].attention_out.bias.any()  # the bias goes with the sub-layer


@pytest.mark.parametrize("settings", [{"refit": False}, {"selection": "once"}])
def test_ablations_differ_from_the_method_and_resume(settings, tmp_path):
    dense = tiny_model("bert", layers=3)
    whole, usual, again = (copy.deepcopy(dense) for _ in range(3))
    _, outcome = prune(whole, tmp_path / "ablation", settings)
    prune(usual, tmp_path / "usual")
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), usual.parameters(), strict=True))
    for path in sorted((tmp_path / "ablation").rglob("sublayer-*"))[2:]:
        path.unlink()
    _, resumed = prune(again, tmp_path / "ablation", settings)
    assert resumed == outcome
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    if "refit" in settings:
        for layer, donor, neurons in zip(layers(whole), layers(dense), outcome.kept.neurons, strict=True):
            kept = list(neurons)
            assert torch.equal(layer.ffn_out.weight[:, kept], donor.ffn_out.weight[:, kept])


def test_chosen_once_is_chosen_on_the_dense_model(tmp_path):
    """With masks of the first search in hand, measuring anew changes what higher sub-layers keep."""
    dense = tiny_model("bert", layers=3)
    predictive = {"representation_weight": 0}
    _, once = prune(copy.deepcopy(dense), tmp_path / "once", predictive | {"selection": "once"}, ratio=0.6)
    _, each = prune(copy.deepcopy(dense), tmp_path / "each", predictive, ratio=0.6)
    assert once.kept.heads[0] == each.kept.heads[0]
    assert once.kept != each.kept


def test_kept_cost_and_what_is_left_of_the_budget_add_up_after_every_sublayer(tmp_path):
    model = tiny_model("bert", layers=3)
    given, outcome = prune(model, tmp_path, ratio=0.6)
    groups = given.groups()
    budget = spent = given.budget(groups)
    for layer in range(3):
        for kind, chosen in (("heads", outcome.kept.heads), ("neurons", outcome.kept.neurons)):
            spent -= len(chosen[layer]) * groups[f"{layer}.{kind}"].cost
            assert spent >= -1e-6 * budget
    assert spent < max(group.cost for group in groups.values())


def test_it_is_registered():
    assert METHODS["kprune"].measures == {"flops", "weights", "parameters", "latency"}
    assert METHODS["kprune"].cuts_many
