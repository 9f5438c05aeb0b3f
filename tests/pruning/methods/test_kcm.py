"""KCM and random pruning on tiny models."""

import copy

import pytest
import torch

from pruning.methods import create
from pruning.model.layers import layers
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, neuron_cost, removed_ratio, total_cost
from tests.support.kprune import context, random_rows
from tests.support.models import KPRUNE_FAMILIES, tiny_inputs, tiny_model


def prune(model, work, method="kcm", settings=None, **options):
    given = context(model, work, **{"granularity": "neuron", "ratio": 0.3} | options)
    outcome = create(method, settings or {}).prune(given)
    assert outcome.kept is not None
    return given, outcome


def logits(model):
    with torch.inference_mode():
        return model(**tiny_inputs(model, rows=4)).logits


def parameters(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("family", KPRUNE_FAMILIES)
def test_kcm_removes_neurons_to_the_ratio_and_reads_no_label(family, tmp_path):
    """The rows' labels are NaN: whoever reads them is found out."""
    model = tiny_model(family)
    given, outcome = prune(model, tmp_path)
    assert outcome.kept.heads == Kept.everything(given.shape).heads
    assert min(map(len, outcome.kept.neurons)) >= 1
    removed = removed_ratio(given.shape, outcome.kept, "flops", given.mean_length)
    neuron = neuron_cost(given.shape, "flops", given.mean_length)
    assert 0 <= removed - 0.3 < neuron / total_cost(given.shape, "flops", given.mean_length)
    baked = logits(model)
    shrink(model, outcome.kept)
    torch.testing.assert_close(logits(model), baked)


def test_kcm_keeps_loud_neurons_that_no_other_stands_for(tmp_path):
    model = tiny_model("bert", layers=1)
    (layer,) = layers(model)
    with torch.no_grad():
        layer.ffn_in[0].weight[:8] *= 0.01
        layer.ffn_in[0].bias[:8] = 0  # 0 to 7 say little
        layer.ffn_out.weight[:, 8:16] = layer.ffn_out.weight[:, 8:9]  # 8 to 15 are alike
    _, outcome = prune(model, tmp_path, ratio=0.2)
    kept = set(outcome.kept.neurons[0])
    assert not kept & set(range(8))
    assert len(kept & set(range(8, 16))) < 4


def test_kcm_rescales_resumes_and_can_go_without(tmp_path):
    dense = tiny_model("bert", layers=3, ffn=96)
    rows = random_rows(dense, rows=300)
    whole, again, plain = (copy.deepcopy(dense) for _ in range(3))
    _, outcome = prune(whole, tmp_path / "whole", rows=rows)
    for path in sorted((tmp_path / "whole").glob("sublayer-*"))[2:]:
        path.unlink()
    _, resumed = prune(again, tmp_path / "whole", rows=rows)
    _, other = prune(plain, tmp_path / "plain", settings={"rescale": False}, rows=rows)
    assert outcome == resumed
    assert torch.equal(parameters(whole), parameters(again))
    assert outcome.kept == other.kept
    inputs = {name: value for name, value in rows.batch(range(200)).items() if name != "labels"}
    with torch.inference_mode():
        aim, near, far = (each.bert(**inputs).last_hidden_state[:, 0] for each in (dense, whole, plain))
    assert (near - aim).square().mean() < (far - aim).square().mean()


@pytest.mark.parametrize("granularity", ["neuron", "head", "structured"])
def test_random_removes_to_the_ratio_by_the_seed(granularity, tmp_path):
    dense = tiny_model("modernbert")
    found = []
    for seed in (1, 1, 2):
        model = copy.deepcopy(dense)
        given, outcome = prune(model, tmp_path, "random", granularity=granularity, ratio=0.2, seed=seed)
        found.append(outcome.kept)
        assert 0.2 - 1e-9 <= removed_ratio(given.shape, outcome.kept, "flops", given.mean_length) < 0.3
        baked = logits(model)
        shrink(model, outcome.kept)
        torch.testing.assert_close(logits(model), baked)
    assert found[0] == found[1] != found[2]
