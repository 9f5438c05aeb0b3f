import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruning.model.layers import layers, prunable_linears
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, ModelShape, kept_cost, total_cost
from tests.support.kept import UNEVEN, bake, gated
from tests.support.models import FAMILIES, TASKS, tiny_inputs, tiny_model


@pytest.fixture(params=[(family, task) for family in FAMILIES for task in TASKS], ids="-".join)
def model(request):
    return tiny_model(*request.param, layers=3)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gated_is_baked_is_shrunk(model, attention):
    model.set_attn_implementation(attention)
    inputs = tiny_inputs(model)
    dense = model(**inputs).logits
    with gated(model, UNEVEN):
        expected = model(**inputs).logits
    assert (dense - expected).abs().max() > 1e-2
    bake(model, UNEVEN)
    torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-6)
    shrink(model, UNEVEN)
    torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-6)


def test_a_shrunk_model_says_what_it_has(model):
    parameters = model.num_parameters()
    shrink(model, UNEVEN)
    stack = layers(model)
    assert [layer.heads for layer in stack] == [layer.kv_heads for layer in stack] == [2, 0, 3]
    assert [layer.neurons for layer in stack] == [4, 16, 0]
    counts = [
        getattr(layer.head_owner, "num_attention_heads", getattr(layer.head_owner, "n_heads", None))
        for layer in stack
    ]
    assert counts == [2, 0, 3]
    shape = ModelShape(3, 32, 4, 8, 48)
    kept = kept_cost(shape, UNEVEN, "weights", 1)
    assert sum(linear.weight.numel() for linear in prunable_linears(model).values()) == kept
    dropped = total_cost(shape, "weights", 1) - kept
    dropped_biases = 3 * 8 * (12 - 5) + (3 * 48 - 20)
    assert parameters - model.num_parameters() == dropped + dropped_biases
    for linear in prunable_linears(model).values():
        assert linear.weight.shape == (linear.out_features, linear.in_features)


def test_an_emptied_model_can_still_be_trained(model):
    shrink(model, UNEVEN)
    model(**tiny_inputs(model)).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in layers(model)[0].ffn_out.parameters())


def test_kept_that_does_not_fit_is_refused():
    model = tiny_model("bert", layers=3)
    with pytest.raises(ValueError, match="3"):
        shrink(model, Kept(heads=((0,),), neurons=((0,),)))
    with pytest.raises(ValueError, match="layer 2"):
        shrink(model, Kept(heads=((0,),) * 3, neurons=((0,), (0,), (48,))))
    with pytest.raises(ValueError, match="layer 1"):
        shrink(model, Kept(heads=((0,), (4,), (0,)), neurons=((0,),) * 3))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("uneven", [False, True])
def test_flops_by_formula_are_those_that_torch_counts(family, uneven):
    model = tiny_model(family, layers=3)
    model.set_attn_implementation("eager")
    shape = ModelShape(3, 32, 4, 8, 48)
    kept = UNEVEN if uneven else Kept.everything(shape)
    shrink(model, kept)
    tokens = torch.full((1, 21), 7)
    counter = FlopCounterMode(display=False, depth=None)
    with counter, torch.no_grad():
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    stack = f"{model.base_model_prefix}.{'transformer' if family == 'distilbert' else 'encoder'}"
    by_module = counter.get_flop_counts().items()
    counted = next(sum(flops.values()) for name, flops in by_module if name.endswith(stack))
    assert counted == pytest.approx(kept_cost(shape, kept, "flops", 21))
