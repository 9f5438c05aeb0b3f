"""Decoders: what a head is when keys and values are shared, GPT-2's matrices, and generation of what is left."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from pruning.model.conv1d import TransposedLinear, as_linears
from pruning.model.layers import layers, prunable_linears
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, head_cost, kept_cost, neuron_cost, total_cost
from pruning.planning.families import FAMILIES as ENTRIES
from pruning.planning.shape import ModelShape
from tests.support.kept import bake, gated, uneven
from tests.support.models import DECODERS, tiny_inputs, tiny_model

SHARING = ("llama", "mistral", "qwen2", "qwen3", "gemma")
CASES = [*((family, 2) for family in DECODERS), *((family, 1) for family in SHARING)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def model(request):
    family, queries = request.param
    return tiny_model(family, layers=3, queries=queries)


def shape_of(model):
    return ModelShape.from_config(model.config.to_dict())


def test_gated_is_baked_is_shrunk(model):
    few = uneven(model.config.model_type)
    inputs = tiny_inputs(model)
    with torch.no_grad():
        dense = model(**inputs).logits
        with gated(model, few):
            expected = model(**inputs).logits
        assert (dense - expected).abs().max() > 1e-2
        bake(model, few)
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-5)
        shrink(model, few)
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-5)


def test_a_shrunk_model_generates_with_its_cache_as_without(model):
    few = uneven(model.config.model_type)
    bake(model, few)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    tokens = tiny_inputs(model, rows=1)["input_ids"]
    expected = model.generate(tokens, use_cache=False, **options)
    shrink(model, few)
    assert torch.equal(model.generate(tokens, use_cache=True, **options), expected)


def test_costs_are_what_the_matrices_hold(model):
    shape, few = shape_of(model), uneven(model.config.model_type)
    linears = prunable_linears(model).values()
    assert sum(linear.weight.numel() for linear in linears) == total_cost(shape, "weights", 1)
    assert [linear.weight.shape for linear in layers(model)[0].linears][-1] == shape.matrices[-1]
    assert (
        shape.attention
        == tuple(
            tuple(linear.weight.shape)
            for linear in layers(model)[0].linears
            if linear not in layers(model)[0].ffn_in
        )[: len(shape.attention)]
    )
    shrink(model, few)
    assert sum(linear.weight.numel() for linear in linears) == kept_cost(shape, few, "weights", 1)


@pytest.mark.parametrize("smaller", [False, True])
def test_flops_are_those_that_torch_counts_without_what_a_token_cannot_see(model, smaller):
    model.set_attn_implementation("eager")
    shape, names = shape_of(model), ENTRIES[model.config.model_type]
    few = uneven(model.config.model_type) if smaller else Kept.everything(shape)
    shrink(model, few)
    tokens = torch.full((1, 21), 7)
    counter = FlopCounterMode(display=False, depth=None)
    with counter, torch.no_grad():
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    stack = f"{type(model).__name__}.{model.base_model_prefix}.{names.layers}"
    counted = sum(sum(counter.get_flop_counts()[f"{stack}.{index}"].values()) for index in range(3))
    unseen = sum(4 * shape.queries * shape.head_size * 21 * 20 / 2 for heads in few.heads for _ in heads)
    assert counted == pytest.approx(kept_cost(shape, few, "flops", 21) + unseen)


def test_a_shared_key_goes_with_all_its_queries():
    model = tiny_model("llama", heads=2, queries=3, hidden=24)
    layer = layers(model)[0]
    query, key, out = (linear.weight.clone() for linear in (layer.query, layer.key, layer.attention_out))
    shrink(model, Kept(heads=((1,), (0, 1)), neurons=((0,), (0,))))
    assert torch.equal(layer.query.weight, query[12:])
    assert torch.equal(layer.key.weight, key[4:])
    assert torch.equal(layer.attention_out.weight, out[:, 12:])
    assert (layer.heads, layer.queries, layer.head_size) == (1, 3, 4)


def test_costs_of_a_published_model():
    """SmolLM2-135M: 9 heads of 64 on 3 keys and values, gated FFNs of 1536."""
    config = {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536}
    shape = ModelShape.from_config(config | {"num_attention_heads": 9, "num_key_value_heads": 3})
    assert (shape.heads, shape.queries, shape.head_size) == (3, 3, 64)
    assert head_cost(shape, "weights", 1) == 576 * 64 * (3 + 1 + 1 + 3)
    assert neuron_cost(shape, "weights", 1) == 3 * 576
    assert total_cost(shape, "weights", 1) == 30 * (2 * 576**2 + 2 * 576 * 192 + 3 * 576 * 1536)


def test_gpt2_is_saved_as_it_came(tmp_path):
    tiny_model("gpt2").save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(plain.transformer.h[0].attn.c_attn, Conv1D)
    weights = {name: value.clone() for name, value in plain.state_dict().items()}
    inputs = tiny_inputs(plain)
    said = plain(**inputs).logits
    turned = as_linears(plain)
    assert isinstance(turned.transformer.h[0].attn.c_attn, TransposedLinear)
    torch.testing.assert_close(turned(**inputs).logits, said)
    assert all(torch.equal(value, weights[name]) for name, value in turned.state_dict().items())
    turned.load_state_dict({name: value + 1 for name, value in weights.items()})
    weight = turned.transformer.h[0].attn.c_attn.weight
    assert torch.equal(weight, weights["transformer.h.0.attn.c_attn.weight"].T + 1)
    assert turned.lm_head.weight is turned.transformer.wte.weight


def test_what_gpt2_cannot_do_without_is_not_removed():
    for few in ((((0,), (), (0,)), ((0,),) * 3), (((0,),) * 3, ((0,), (), (0,)))):
        with pytest.raises(ValueError, match="layer 1 cannot do with 0"):
            shrink(tiny_model("gpt2", layers=3), Kept(heads=few[0], neurons=few[1]))
