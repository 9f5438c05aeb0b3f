"""Fisher mask search on tiny models: what is asked is removed, and its parts do what they say."""

import copy

import pytest
import torch

from pruning.errors import Canceled
from pruning.methods import create
from pruning.model.layers import layers
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, head_cost, neuron_cost, removed_ratio, total_cost
from tests.support.kprune import context, labelled_rows
from tests.support.models import KPRUNE_FAMILIES, tiny_inputs, tiny_model


def prune(model, work, settings=None, **options):
    given = context(model, work, **{"rows": labelled_rows(model)} | options)
    outcome = create("fisher", settings or {}).prune(given)
    assert outcome.kept is not None
    return given, outcome


def logits(model):
    with torch.inference_mode():
        return model(**tiny_inputs(model, rows=4)).logits


def parameters(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("family", KPRUNE_FAMILIES)
def test_baked_and_shrunk_agree_and_the_budget_is_met_within_a_neuron(family, tmp_path):
    model = tiny_model(family, "regression" if family == "electra" else "sequence-classification", ffn=96)
    before = logits(model)
    given, outcome = prune(model, tmp_path)
    removed = removed_ratio(given.shape, outcome.kept, "flops", given.mean_length)
    neuron = neuron_cost(given.shape, "flops", given.mean_length)
    assert 0 <= removed - 0.5 < neuron / total_cost(given.shape, "flops", given.mean_length)
    baked = logits(model)
    assert (baked - before).abs().max() > 1e-3
    shrink(model, outcome.kept)
    torch.testing.assert_close(logits(model), baked)


@pytest.mark.parametrize(("granularity", "whole"), [("neuron", "heads"), ("head", "neurons")])
def test_neurons_or_heads_may_go_alone(granularity, whole, tmp_path):
    given, outcome = prune(tiny_model("bert"), tmp_path, ratio=0.2, granularity=granularity)
    assert getattr(outcome.kept, whole) == getattr(Kept.everything(given.shape), whole)
    cost = {"neuron": neuron_cost, "head": head_cost}[granularity](given.shape, "flops", given.mean_length)
    removed = removed_ratio(given.shape, outcome.kept, "flops", given.mean_length)
    assert 0 <= removed - 0.2 < cost / total_cost(given.shape, "flops", given.mean_length)


def test_native_keeps_all_heads_and_one_width(tmp_path):
    given, outcome = prune(tiny_model("bert"), tmp_path, allocation="native", ratio=0.3, measure="weights")
    assert {len(heads) for heads in outcome.kept.heads} == {given.shape.heads}
    assert len({len(neurons) for neurons in outcome.kept.neurons}) == 1


def test_one_head_and_one_neuron_may_be_all_that_stays(tmp_path):
    """Where a sub-layer keeps one unit or none, it is rescaled like any other."""
    model = tiny_model("bert", layers=3)
    given = context(model, tmp_path, rows=labelled_rows(model))
    left = head_cost(given.shape, "flops", given.mean_length) + neuron_cost(
        given.shape, "flops", given.mean_length
    )
    ratio = 1 - left / total_cost(given.shape, "flops", given.mean_length)
    _, outcome = prune(model, tmp_path, ratio=ratio)
    assert sum(map(len, outcome.kept.heads)) == 1
    assert logits(model).isfinite().all()


def test_rescaling_multiplies_columns_and_comes_nearer_to_the_dense_model(tmp_path):
    dense = tiny_model("bert", layers=3, ffn=96)
    rows = labelled_rows(dense, rows=400)
    plain, scaled = copy.deepcopy(dense), copy.deepcopy(dense)
    _, outcome = prune(plain, tmp_path / "plain", {"rescale": False}, rows=rows, ratio=0.3)
    _, other = prune(scaled, tmp_path / "scaled", rows=rows, ratio=0.3)
    assert outcome.kept == other.kept
    for layer, before, heads in zip(layers(scaled), layers(plain), outcome.kept.heads, strict=True):
        for head in heads:
            columns = slice(head * layer.head_size, (head + 1) * layer.head_size)
            scale = layer.attention_out.weight[:, columns] / before.attention_out.weight[:, columns]
            torch.testing.assert_close(scale, scale[0, 0].expand_as(scale), rtol=1e-4, atol=1e-4)
    inputs = tiny_inputs(dense, rows=64, seed=7)
    with torch.inference_mode():
        aim, near, far = (each(**inputs).logits for each in (dense, scaled, plain))
    assert (near - aim).square().mean() < (far - aim).square().mean()


def test_rearranging_changes_who_stays_but_not_how_many(tmp_path):
    dense = tiny_model("bert")
    _, sorted_ = prune(copy.deepcopy(dense), tmp_path / "sorted", {"rearrange": False, "rescale": False})
    _, moved = prune(copy.deepcopy(dense), tmp_path / "moved", {"rescale": False})
    assert sorted_.kept != moved.kept
    for one, other in ((sorted_.kept.heads, moved.kept.heads), (sorted_.kept.neurons, moved.kept.neurons)):
        assert [len(units) for units in one] == [len(units) for units in other]


def test_a_killed_run_goes_on_and_gives_the_same_bits(tmp_path):
    dense = tiny_model("distilbert", layers=3)
    whole, resumed = copy.deepcopy(dense), copy.deepcopy(dense)
    _, expected = prune(whole, tmp_path / "whole")

    def stop():
        return "preempt" if len(list((tmp_path / "killed").glob("sublayer-*"))) >= 3 else None

    with pytest.raises(Canceled):
        prune(copy.deepcopy(dense), tmp_path / "killed", should_stop=stop)
    assert len(list((tmp_path / "killed").glob("sublayer-*"))) == 3
    _, outcome = prune(resumed, tmp_path / "killed")
    assert outcome == expected
    assert torch.equal(parameters(whole), parameters(resumed))


def test_the_seed_draws_the_rows_and_labels_decide(tmp_path):
    dense = tiny_model("bert")
    rows = labelled_rows(dense)
    flipped = labelled_rows(dense, flip=True)
    found = []
    for index, (seed, given) in enumerate([(3, rows), (3, rows), (4, rows), (3, flipped)]):
        model = copy.deepcopy(dense)
        prune(model, tmp_path / str(index), {"calibration_rows": 40}, seed=seed, rows=given)
        found.append(parameters(model))
    batched = copy.deepcopy(dense)
    prune(batched, tmp_path / "batched", {"calibration_rows": 40, "gradient_batch": 8}, seed=3, rows=rows)
    assert not torch.equal(found[0], parameters(batched))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])
