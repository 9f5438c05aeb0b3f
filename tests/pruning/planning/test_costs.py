import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.errors import InvalidModel
from pruning.granularity import Granularity
from pruning.planning.costs import (
    Kept,
    ModelShape,
    block_matrices,
    head_cost,
    kept_cost,
    largest_ratio,
    neuron_cost,
    removed_ratio,
    total_cost,
    unit_costs,
)

BERT_BASE = ModelShape(layers=12, hidden=768, heads=12, head_size=64, ffn=3072)
BERT = {
    "model_type": "bert",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30522,
}


@pytest.mark.parametrize(
    ("length", "head", "neuron", "model", "ffn_share"),
    [
        (31.47, 12.628e6, 0.0967e6, 5.382e9, 0.662),
        (53.24, 21.660e6, 0.1636e6, 9.148e9, 0.659),
        (25.16, 10.055e6, 0.0773e6, 4.297e9, 0.663),
        (30.55, 12.252e6, 0.0938e6, 5.224e9, 0.662),
        (50.97, 20.707e6, 0.1566e6, 8.754e9, 0.659),
        (39.05, 15.745e6, 0.1200e6, 6.690e9, 0.661),
        (170, 74.245e6, 0.5222e6, 29.943e9, 0.643),
    ],
)
def test_flops_are_those_of_the_published_code(length, head, neuron, model, ffn_share):
    assert head_cost(BERT_BASE, "flops", length) == pytest.approx(head, rel=1e-3)
    assert neuron_cost(BERT_BASE, "flops", length) == pytest.approx(neuron, rel=1e-3)
    assert total_cost(BERT_BASE, "flops", length) == pytest.approx(model, rel=1e-3)
    ffn = 12 * 3072 * neuron_cost(BERT_BASE, "flops", length)
    assert ffn / total_cost(BERT_BASE, "flops", length) == pytest.approx(ffn_share, abs=1e-3)


def test_weights_are_those_of_the_six_matrices():
    assert total_cost(BERT_BASE, "weights", 1) == 12 * sum(out * into for out, into in BERT_BASE.matrices)
    assert total_cost(BERT_BASE, "weights", 1) == 84_934_656


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "768"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": 100_000}, "num_hidden_layers"),
        ({"num_attention_heads": 7}, "num_attention_heads"),
        ({"intermediate_size": 1 << 40}, "intermediate_size"),
        ({"vocab_size": 1 << 40}, "vocab_size"),
        ({"model_type": "gpt_neox"}, "model_type"),
        ({"model_type": ["bert"]}, "model_type"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"is_decoder": True}, "is_decoder"),
        ({"layer_sizes": [[1, 1]]}, "layer_sizes"),
    ],
)
def test_a_bad_config_is_refused_by_field(change, field):
    with pytest.raises(InvalidModel, match=field) as caught:
        ModelShape.from_config(BERT | change)
    assert caught.value.param == "/model"


def test_every_family_names_its_own_sizes():
    assert ModelShape.from_config(BERT) == BERT_BASE
    distilbert = {"model_type": "distilbert", "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072}
    assert ModelShape.from_config(distilbert) == ModelShape(6, 768, 12, 64, 3072)
    modernbert = BERT | {"model_type": "modernbert", "num_hidden_layers": 22, "intermediate_size": 1152}
    biases = {"attention_bias": False, "output_bias": False, "ffn_bias": False}
    fused = ModelShape(22, 768, 12, 64, 1152, ffn_inputs=2, fused=True, **biases)
    assert ModelShape.from_config(modernbert) == fused
    assert fused.matrices == ((2304, 768), (768, 768), (2304, 768), (768, 1152))
    assert total_cost(fused, "weights", 1) == 22 * sum(out * into for out, into in fused.matrices)


DEBERTA = BERT | {
    "model_type": "deberta-v2",
    "relative_attention": True,
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_buckets": 256,
    "max_relative_positions": -1,
    "max_position_embeddings": 512,
}


@pytest.mark.parametrize(
    ("change", "positions", "terms"),
    [
        ({}, 512, 2),
        ({"pos_att_type": ["c2p", "p2c"]}, 512, 2),
        ({"pos_att_type": "P2C"}, 512, 1),
        ({"pos_att_type": None}, 512, 0),
        ({"position_buckets": -1}, 1024, 2),
        ({"position_buckets": 0, "max_relative_positions": 128}, 256, 2),
        ({"relative_attention": False}, 0, 0),
        ({"share_att_key": False, "pos_att_type": None}, 0, 0),
    ],
)
def test_relative_positions_are_projected_and_scored(change, positions, terms):
    shape = ModelShape.from_config(DEBERTA | change)
    assert shape == replace(BERT_BASE, positions=positions, position_terms=terms)
    relative = positions * 64 * (2 * 2 * 768 + 2 * terms * 100)
    assert head_cost(shape, "flops", 100) == head_cost(BERT_BASE, "flops", 100) + relative
    assert head_cost(shape, "weights", 100) == head_cost(BERT_BASE, "weights", 100)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"attention_head_size": 32}, "attention_head_size"),
        ({"position_buckets": 1 << 40}, "position_buckets"),
        ({"position_buckets": "256"}, "position_buckets"),
        ({"position_buckets": None, "max_relative_positions": 4}, "position_buckets"),
        ({"share_att_key": False}, "share_att_key"),
    ],
)
def test_a_bad_deberta_is_refused_by_field(change, field):
    with pytest.raises(InvalidModel, match=field) as caught:
        ModelShape.from_config(DEBERTA | change)
    assert caught.value.param == "/model"


def test_kept_survives_json_and_refuses_disorder():
    kept = Kept(heads=((0, 2), ()), neurons=((1,), (0, 5, 9)))
    assert Kept.model_validate_json(kept.model_dump_json()) == kept
    for units in ((2, 1), (1, 1), (-1, 2)):
        with pytest.raises(ValueError, match="increasing"):
            Kept(heads=(units,), neurons=((0,),))
    with pytest.raises(ValueError, match="layers"):
        Kept(heads=((0,),), neurons=())


SHAPES = st.builds(
    lambda layers, heads, size, ffn: ModelShape(layers, heads * size, heads, size, ffn),
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from([4, 8]),
    st.integers(1, 40),
)


@given(SHAPES, st.data(), st.sampled_from(["weights", "flops"]), st.floats(1, 512))
def test_the_ratio_counts_kept_units(shape, data, measure, length):
    def some(count):
        return tuple(sorted(data.draw(st.sets(st.integers(0, count - 1)))))

    kept = Kept(
        heads=tuple(some(shape.heads) for _ in range(shape.layers)),
        neurons=tuple(some(shape.ffn) for _ in range(shape.layers)),
    )
    by_hand = sum(
        len(heads) * head_cost(shape, measure, length) + len(neurons) * neuron_cost(shape, measure, length)
        for heads, neurons in zip(kept.heads, kept.neurons, strict=True)
    )
    assert kept_cost(shape, kept, measure, length) == pytest.approx(by_hand)
    ratio = removed_ratio(shape, kept, measure, length)
    assert 0 <= ratio <= 1
    assert math.isclose(ratio, 1 - by_hand / total_cost(shape, measure, length), abs_tol=1e-12)
    assert removed_ratio(shape, Kept.everything(shape), measure, length) == 0


@given(SHAPES, st.sampled_from(["weights", "flops"]), st.floats(1, 512))
def test_the_largest_ratio_is_that_of_the_smallest_model(shape, measure, length):
    def smallest(heads, neurons):
        kept = Kept(
            heads=tuple(tuple(range(count)) for count in heads),
            neurons=tuple(tuple(range(count)) for count in neurons),
        )
        return pytest.approx(removed_ratio(shape, kept, measure, length), abs=1e-12)

    structured, one, every = Granularity("structured"), (1,) * shape.layers, shape.layers
    last = (0,) * (shape.layers - 1) + (1,)
    assert largest_ratio(shape, structured, measure, length) == smallest(one, one)
    assert largest_ratio(shape, structured, measure, length, empties_sublayers=True) == smallest(last, last)
    full = (shape.heads,) * every
    native = largest_ratio(shape, structured, measure, length, allocation="native", empties_sublayers=True)
    assert native == smallest(full, one)
    assert largest_ratio(shape, Granularity("neuron"), measure, length) == smallest(full, one)
    assert largest_ratio(shape, Granularity("head"), measure, length) == smallest(one, (shape.ffn,) * every)


def test_one_row_of_every_pruned_matrix_stays_and_all_that_is_never_pruned():
    shape = ModelShape(layers=2, hidden=32, heads=4, head_size=8, ffn=64)
    granularity = Granularity("row")
    left = 2 * (3 * 32 * 32 + 32 + 32 + 64)  # query, key, value; a row of each other matrix
    ratio = largest_ratio(shape, granularity, "weights", 1)
    assert ratio == pytest.approx(1 - left / total_cost(shape, "weights", 1))
    assert unit_costs(shape, granularity, "weights", 1) == (32, 32, 64)


def test_hybrid_leaves_four_blocks_and_a_neuron_in_each_layer():
    shape = ModelShape(layers=2, hidden=32, heads=4, head_size=8, ffn=64)
    granularity = Granularity("hybrid", (8, 16))
    left = 2 * (4 * 8 * 16 + 2 * 32)
    ratio = largest_ratio(shape, granularity, "weights", 1)
    assert ratio == pytest.approx(1 - left / total_cost(shape, "weights", 1))
    assert unit_costs(shape, granularity, "weights", 1) == (128, 64)
    assert block_matrices(shape, granularity) == ((32, 32),) * 4
    assert block_matrices(shape, Granularity("block", (8, 16))) == shape.matrices


@pytest.mark.parametrize("measure", ["weights", "flops"])
def test_heads_and_neurons_cost_the_same_whatever_they_are_pruned_with(measure):
    head, neuron = head_cost(BERT_BASE, measure, 9.5), neuron_cost(BERT_BASE, measure, 9.5)
    for kind, costs in (("head", (head,)), ("neuron", (neuron,)), ("structured", (head, neuron))):
        assert unit_costs(BERT_BASE, Granularity(kind), measure, 9.5) == costs


def test_one_block_of_every_matrix_stays():
    shape = ModelShape(layers=2, hidden=32, heads=4, head_size=8, ffn=64)
    total = total_cost(shape, "weights", 1)
    block = largest_ratio(shape, Granularity("block", (8, 16)), "weights", 1)
    assert block == pytest.approx(1 - 2 * 6 * 128 / total)
    assert largest_ratio(shape, Granularity("unstructured"), "weights", 1) == pytest.approx(1 - 12 / total)
