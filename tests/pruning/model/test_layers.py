import pytest
import torch
from transformers import AutoModelForSequenceClassification, XLNetConfig

from pruning.errors import InvalidModel
from pruning.model.layers import Writer, layers, prunable_linears, take
from pruning.planning.families import FAMILIES as ENTRIES
from tests.support.models import DECODERS, FAMILIES, TASKS, tiny_model


@pytest.fixture(params=[(family, task) for family in FAMILIES for task in TASKS], ids="-".join)
def model(request):
    return tiny_model(*request.param, layers=3)


def test_every_family_of_the_engine_is_tested():
    assert {*FAMILIES, *DECODERS} == set(ENTRIES)


def test_a_layer_shows_its_parts(model):
    stack = layers(model)
    assert [layer.index for layer in stack] == [0, 1, 2]
    for layer in stack:
        assert (layer.heads, layer.head_size, layer.neurons) == (4, 8, 48)
        assert layer.attention_out.weight.shape == (32, 32)
        assert layer.ffn_out.weight.shape == (32, 48)
        for writers, parts, units, size in (
            (layer.head_writers, 3, 4, 8),
            (layer.neuron_writers, None, 48, 1),
        ):
            assert parts in (None, sum(writer.parts for writer in writers))
            for writer in writers:
                assert writer.split(writer.linear.weight).shape == (writer.parts, units, size, 32)
        assert layer.ffn_norm.weight.shape == (32,)
        assert layer.activation(torch.zeros(1)) == 0


def test_modernbert_fuses_what_other_families_keep_apart():
    (plain, *_), (fused, *_) = layers(tiny_model("bert")), layers(tiny_model("modernbert"))
    assert [writer.parts for writer in (*plain.head_writers, *plain.neuron_writers)] == [1, 1, 1, 1]
    assert [writer.parts for writer in (*fused.head_writers, *fused.neuron_writers)] == [3, 2]
    assert (len(plain.linears), len(fused.linears)) == (6, 4)
    assert isinstance(fused.attention_norm, torch.nn.Identity)
    assert plain.attention_norm.weight.shape == (32,)


def test_a_writer_knows_the_rows_of_a_unit_in_every_part():
    writer = Writer(torch.nn.Linear(2, 12), parts=3)
    for unit in range(4):
        rows = writer.rows(torch.tensor([unit]))
        assert rows.tolist() == [unit, 4 + unit, 8 + unit]
        expected = writer.split(writer.linear.weight)[:, unit].flatten(0, 1)
        assert torch.equal(writer.linear.weight[rows], expected)
    assert writer.rows(torch.tensor([2, 0])).tolist() == [2, 0, 6, 4, 10, 8]
    assert writer.rows(torch.tensor([], dtype=torch.int64)).tolist() == []
    wide = Writer(torch.nn.Linear(2, 12), parts=2, size=3)
    assert wide.rows(torch.tensor([1])).tolist() == [3, 4, 5, 9, 10, 11]


def test_an_unknown_family_and_unknown_parts_are_refused():
    config = XLNetConfig(n_layer=1, d_model=8, n_head=1, d_inner=8, vocab_size=9)
    with pytest.raises(InvalidModel, match="xlnet"):
        layers(AutoModelForSequenceClassification.from_config(config))
    model = tiny_model("bert")
    model.bert.encoder.layer[1].output.dense = torch.nn.Identity()
    with pytest.raises(InvalidModel, match=r"output\.dense is a Identity"):
        layers(model)


def test_the_linears_are_named_as_in_the_model(model):
    linears = prunable_linears(model)
    assert all(model.get_submodule(name) is linear for name, linear in linears.items())
    assert list(linears.values()) == [linear for layer in layers(model) for linear in layer.linears]


def test_take_keeps_rows_and_columns_in_the_given_order():
    linear = torch.nn.Linear(3, 4)
    weight, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    linear.weight.requires_grad = False
    take(linear, torch.tensor([2, 0]), dim=0)
    take(linear, torch.tensor([1]), dim=1)
    assert torch.equal(linear.weight, weight[[2, 0]][:, [1]])
    assert torch.equal(linear.bias, bias[[2, 0]])
    assert (linear.out_features, linear.in_features) == (2, 1)
    assert not linear.weight.requires_grad
    assert linear.bias.requires_grad
