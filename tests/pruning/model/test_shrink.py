import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruning.model.layers import layers, prunable_linears
from pruning.model.shrink import restore, shrink
from pruning.planning.costs import Kept, ModelShape, kept_cost, total_cost
from pruning.planning.families import FAMILIES as ENTRIES
from tests.support.kept import UNEVEN, bake, gated, uneven
from tests.support.models import FAMILIES, TASKS, tiny_inputs, tiny_model


@pytest.fixture(params=[(family, task) for family in FAMILIES for task in TASKS], ids="-".join)
def model(request):
    return tiny_model(*request.param, layers=3)


def _agree(model, few):
    """Gated, baked and shrunk, the model says the same."""
    with torch.no_grad():
        inputs = tiny_inputs(model)
        dense = model(**inputs).logits
        with gated(model, few):
            expected = model(**inputs).logits
        assert (dense - expected).abs().max() > 1e-2
        bake(model, few)
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-6)
        shrink(model, few)
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-6)


def test_gated_is_baked_is_shrunk(model):
    _agree(model, uneven(model.config.model_type))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "electra", "distilbert", "modernbert"])
def test_so_it_is_without_fused_attention(family):
    model = tiny_model(family, layers=3)
    model.set_attn_implementation("eager")
    _agree(model, uneven(model.config.model_type))


@pytest.mark.parametrize(
    ("family", "variant"),
    [
        ("deberta-v2", {"relative_attention": False}),
        ("deberta-v2", {"pos_att_type": None, "share_att_key": False}),
        ("deberta-v2", {"pos_att_type": ["c2p"], "position_biased_input": True, "type_vocab_size": 2}),
        ("deberta-v2", {"pos_att_type": ["p2c"], "position_buckets": -1, "norm_rel_ebd": "none"}),
        ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
        ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
        ("modernbert", {"classifier_pooling": "mean"}),
    ],
)
def test_so_it_is_for_every_variant_of_a_family(family, variant):
    model = tiny_model(family, layers=3, variant=variant)
    ModelShape.from_config(model.config.to_dict())
    _agree(model, uneven(model.config.model_type))


def test_a_shrunk_model_says_what_it_has(model):
    few, parameters = uneven(model.config.model_type), model.num_parameters()
    linears = prunable_linears(model).values()
    biases = sum(linear.bias is not None for linear in linears)
    shrink(model, few)
    stack = layers(model)
    heads = [len(left) for left in few.heads]
    assert [layer.heads for layer in stack] == heads
    assert [layer.neurons for layer in stack] == [4, 16, 0]
    counts = {
        getattr(layer.head_owner, name)
        for layer in stack
        for name in ("num_attention_heads", "n_heads")
        if hasattr(layer.head_owner, name)
    }
    assert counts in (set(), set(heads))
    shape = ModelShape.from_config(model.config.to_dict())
    kept = kept_cost(shape, few, "weights", 1)
    assert sum(linear.weight.numel() for linear in linears) == kept
    dropped = total_cost(shape, "weights", 1) - kept
    dropped_biases = 3 * 8 * (12 - sum(heads)) + (3 * 48 - 20) if biases else 0
    assert parameters - model.num_parameters() == dropped + dropped_biases
    for linear in linears:
        assert linear.weight.shape == (linear.out_features, linear.in_features)


def test_an_emptied_model_can_still_be_trained(model):
    shrink(model, uneven(model.config.model_type))
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


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2"])
def test_heads_that_a_layer_cannot_do_without_are_not_removed(family):
    model = tiny_model(family, layers=3)
    with pytest.raises(ValueError, match=r"layer \d cannot do with \d heads"):
        shrink(model, UNEVEN)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("smaller", [False, True])
def test_flops_by_formula_are_those_that_torch_counts(family, smaller):
    model = tiny_model(family, layers=3)
    model.set_attn_implementation("eager")
    shape = ModelShape.from_config(model.config.to_dict())
    few = uneven(family) if smaller else Kept.everything(shape)
    shrink(model, few)
    tokens = torch.full((1, 21), 7)
    counter = FlopCounterMode(display=False, depth=None)
    with counter, torch.no_grad():
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    stack = f"{model.base_model_prefix}.{ENTRIES[family].layers}"
    by_module = counter.get_flop_counts()
    counted = sum(sum(by_module[f"{type(model).__name__}.{stack}.{index}"].values()) for index in range(3))
    assert counted == pytest.approx(kept_cost(shape, few, "flops", 21))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_shrunk_model_learned_comes_back_into_the_dense_one(family):
    model, few = tiny_model(family, layers=3), uneven(family)
    small = copy.deepcopy(model)
    shrink(small, few)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(0.9).add_(0.01)
        expected = small(**tiny_inputs(small)).logits
        restore(model, small, few)
        torch.testing.assert_close(model(**tiny_inputs(model)).logits, expected, rtol=0, atol=1e-6)
        weights = [
            sum(int((linear.weight != 0).sum()) for linear in prunable_linears(one).values())
            for one in (model, small)
        ]
    assert weights[0] == weights[1]
    shrink(model, few)
    tensors = small.state_dict()
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())
