"""Each granularity's units: what they own, what their gradient is, and what stays dropped."""

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.hybrid import restore_masks, shrink_masks, units_left
from pruning.masking.masks import MaskSet, MaskSource, attach_weight_masks, kept_units, weight_masks
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units
from pruning.masking.weight_units import WeightUnits
from pruning.model.layers import layers, prunable_linears
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, ModelShape
from tests.support.kept import uneven
from tests.support.models import FAMILIES, tiny_inputs, tiny_model

GRANULARITIES = ("unstructured", "block:8x4", "row", "neuron", "head", "structured", "hybrid:8x4")


def _groups(model: PreTrainedModel, granularity: str) -> dict[str, Units]:
    shape = ModelShape.from_config(model.config.to_dict())
    return units(model, shape, Granularity.parse(granularity), "weights", 1.0, "global")


class OpenMask(MaskSource):
    """A mask whose gradient can be read."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(values > 0.5)
        self.values = nn.Parameter(values)

    def forward(self) -> Tensor:
        return self.values


def _opened(model: PreTrainedModel, groups: Mapping[str, Units]) -> dict[str, Tensor]:
    """Attach half-closed masks that need gradients; returns their values by group."""
    generator = torch.Generator().manual_seed(5)
    sources = {
        name: OpenMask((torch.rand(group.count, generator=generator) < 0.5).double())
        for name, group in groups.items()
    }
    MaskSet(groups, sources).attach(model)
    return {name: source.values for name, source in sources.items()}


def _loss(model: PreTrainedModel) -> Tensor:
    return model(**tiny_inputs(model)).logits.square().sum()


class TestGroups:
    def test_rows_are_those_of_three_matrices(self) -> None:
        model = tiny_model("bert")
        groups = _groups(model, "row")
        layer = layers(model)[0]
        linears = [layer.attention_out, *layer.ffn_in, layer.ffn_out]
        assert [group.linear for group in groups.values()][:3] == linears
        assert [(group.count, group.cost) for group in groups.values()] == [(32, 32), (48, 32), (32, 48)] * 2

    def test_neurons_and_heads_are_those_of_structured(self) -> None:
        model = tiny_model("bert")
        structured = _groups(model, "structured")
        neurons, heads = _groups(model, "neuron"), _groups(model, "head")
        assert neurons.keys() == {"0.neurons", "1.neurons"}
        assert heads.keys() == {"0.heads", "1.heads"}
        assert structured == neurons | heads

    def test_hybrid_has_blocks_in_the_attention_and_neurons(self) -> None:
        model = tiny_model("distilbert")
        groups = _groups(model, "hybrid:8x4")
        blocks = [group for group in groups.values() if isinstance(group, WeightUnits)]
        assert [group.linear for group in blocks] == [
            linear
            for layer in layers(model)
            for linear in (layer.query, layer.key, layer.value, layer.attention_out)
        ]
        assert {(group.count, group.cost) for group in blocks} == {(32, 32)}
        assert {name for name, group in groups.items() if isinstance(group, SlotUnits)} == {
            "0.neurons",
            "1.neurons",
        }

    def test_a_row_owns_its_weights_and_its_bias(self) -> None:
        linear = nn.Linear(6, 4)
        before = copy.deepcopy(linear)
        group = WeightUnits(linear, "weight", (1, 6), with_bias=True)
        expected = torch.stack([row.square().sum() for row in linear.weight])
        torch.testing.assert_close(group.pool(torch.square), expected)
        group.clear(torch.tensor([True, False, True, False]))
        for row in range(4):
            factor = 1 - row % 2
            assert torch.equal(linear.weight[row], factor * before.weight[row])
            assert linear.bias[row] == factor * before.bias[row]

    def test_rows_without_biases_are_rows_still(self) -> None:
        linear = nn.Linear(6, 4, bias=False)
        group = WeightUnits(linear, "weight", (1, 6), with_bias=True)
        assert group.owned.keys() == {"weight"}
        group.clear(torch.zeros(4, dtype=torch.bool))
        assert not linear.weight.any()


@pytest.mark.parametrize("granularity", GRANULARITIES)
class TestGradients:
    def test_it_is_the_pooled_product_of_parameters_and_their_gradients(self, granularity: str) -> None:
        """Of the effective parameters: each unit sums its entries of gradient times dense value (LEAP, 1.2)."""
        model = tiny_model("bert").double()
        dense = {name: value.detach().clone() for name, value in model.named_parameters()}
        groups = _groups(model, granularity)
        effective = copy.deepcopy(model)
        masks = _opened(model, groups)
        _mask_readers_and_weights(effective, _groups(effective, granularity), masks)
        _loss(model).backward()
        _loss(effective).backward()
        products = {name: dense[name] * value.grad for name, value in effective.named_parameters()}
        names = {linear: name for name, linear in prunable_linears(effective).items()}
        for name, group in _groups(effective, granularity).items():
            if isinstance(group, SlotUnits):
                columns = products[f"{names[group.reader]}.weight"].sum(0)
                expected = columns.reshape(group.count, group.size).sum(1)
            else:
                (rows, columns), linear = group.block, group.linear
                expected = torch.stack(
                    [
                        products[group.parameter][top : top + rows, left : left + columns].sum()
                        for top in range(0, linear.out_features, rows)
                        for left in range(0, linear.in_features, columns)
                    ]
                )
                if granularity == "row":
                    expected = expected + products[f"{names[linear]}.bias"]
            torch.testing.assert_close(masks[name].grad, expected)

    def test_it_is_the_slope_of_the_loss(self, granularity: str) -> None:
        model = tiny_model("bert", layers=1).double()
        masks = _opened(model, _groups(model, granularity))
        _loss(model).backward()
        step = 1e-5
        for mask in masks.values():
            assert mask.grad is not None
            for unit in (0, len(mask) // 2, len(mask) - 1):
                with torch.no_grad():
                    mask[unit] += step
                    above = _loss(model)
                    mask[unit] -= 2 * step
                    below = _loss(model)
                    mask[unit] += step
                slope = float((above - below) / (2 * step))
                assert slope == pytest.approx(float(mask.grad[unit]), rel=1e-5, abs=1e-7)


def _mask_readers_and_weights(
    model: PreTrainedModel, groups: Mapping[str, Units], masks: Mapping[str, Tensor]
) -> None:
    """Multiply by the masks what they act on: the columns that read a head or neuron, weights, biases of rows."""
    with torch.no_grad():
        for name, group in groups.items():
            if isinstance(group, SlotUnits):
                group.reader.weight.mul_(group.widen(masks[name]))
            else:
                group.linear.weight.mul_(group.expand(masks[name]))
                if group.with_bias:
                    group.linear.bias.mul_(masks[name])


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_dropped_rows_and_their_biases_stay_zero_in_later_training(family: str) -> None:
    model = tiny_model(family).train()
    groups = _groups(model, "row")
    masks = {name: torch.arange(group.count) % 3 > 0 for name, group in groups.items()}
    for name, group in groups.items():
        group.clear(masks[name])
    by_parameter = weight_masks(groups, masks)
    assert sum(name.endswith(".bias") for name in by_parameter) == len(groups)
    mask_set = attach_weight_masks(model, by_parameter)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for seed in range(3):
        model(**tiny_inputs(model, seed=seed)).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    mask_set.bake(model)
    for name, mask in by_parameter.items():
        assert not model.get_parameter(name)[~mask].any()
        assert model.get_parameter(name)[mask].all()


class TestHybrid:
    def _masks(self, model: PreTrainedModel) -> tuple[dict[str, Units], dict[str, Tensor]]:
        """Without head 1 of layer 0, head 2 of layer 1 but for its columns, and head 3 there but for its keys."""
        groups = _groups(model, "hybrid:4x4")
        masks = {
            name: torch.rand(group.count, generator=torch.Generator().manual_seed(9)) < 0.8
            for name, group in groups.items()
        }
        names = {linear: name for name, linear in prunable_linears(model).items()}

        def drop(layer: int, head: int, parts: str) -> None:
            of = layers(model)[layer]
            views = [
                view
                for writer in of.head_writers
                for view in masks[names[writer.linear]].reshape(writer.parts, -1, 8)
            ]
            views.append(masks[names[of.attention_out]].reshape(8, 8).T)
            for part, view in zip("qkvo", views, strict=True):
                if part in parts:
                    view[2 * head : 2 * head + 2] = False

        drop(0, 1, "qkvo")
        drop(1, 2, "qkv")
        drop(1, 3, "qvo")
        return groups, masks

    def test_a_head_goes_when_nothing_of_it_is_left(self) -> None:
        model = tiny_model("bert")
        everything = Kept.everything(ModelShape.from_config(model.config.to_dict()))
        found = units_left(model, weight_masks(*self._masks(model)), everything)
        assert found == everything.model_copy(update={"heads": ((0, 2, 3), (0, 1, 2, 3))})

    @pytest.mark.parametrize("family", FAMILIES)
    def test_removing_them_changes_neither_answers_nor_what_is_left(self, family: str) -> None:
        model = tiny_model(family)
        shape = ModelShape.from_config(model.config.to_dict())
        groups, masks = self._masks(model)
        for name, group in groups.items():
            group.clear(masks[name])
        by_parameter = weight_masks(groups, masks)
        kept = units_left(model, by_parameter, kept_units(shape, groups, masks))
        with torch.no_grad():
            before = model(**tiny_inputs(model)).logits
            count = sum(int((linear.weight != 0).sum()) for linear in prunable_linears(model).values())
            shrink(model, kept)
            torch.testing.assert_close(model(**tiny_inputs(model)).logits, before)
        linears = prunable_linears(model).values()
        assert sum(int((linear.weight != 0).sum()) for linear in linears) == count
        cut = shrink_masks(model, by_parameter, kept)
        assert cut.keys() == by_parameter.keys()
        for name, mask in cut.items():
            assert torch.equal(model.get_parameter(name) != 0, mask)

    def test_a_neuron_goes_when_neither_its_rows_nor_its_column_are_left(self) -> None:
        model = tiny_model("modernbert")
        everything = Kept.everything(ModelShape.from_config(model.config.to_dict()))
        masks = {f"{name}.weight": torch.ones_like(linear.weight).bool() for name, linear in _linears(model)}
        layer = layers(model)[1]
        names = {linear: f"{name}.weight" for name, linear in _linears(model)}
        rows = layer.neuron_writers[0].split(masks[names[layer.ffn_in[0]]])
        rows[:, 3] = False
        rows[:, 5] = False
        rows[0, 7] = False
        for neuron in (3, 7, 9):
            masks[names[layer.ffn_out]][:, neuron] = False
        found = units_left(model, masks, everything)
        assert found.heads == everything.heads
        assert found.neurons == (everything.neurons[0], tuple(sorted({*range(48)} - {3})))


def _linears(model: PreTrainedModel) -> list[tuple[str, nn.Linear]]:
    return list(prunable_linears(model).items())


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_of_a_shrunk_model_in_dense_shapes_and_back(family: str) -> None:
    model, kept = tiny_model(family, layers=3), uneven(family)
    small = copy.deepcopy(model)
    shrink(small, kept)
    generator = torch.Generator().manual_seed(4)
    masks = {
        f"{name}.weight": torch.rand(linear.weight.shape, generator=generator) < 0.5
        for name, linear in _linears(small)
    }
    whole = restore_masks(model, masks, kept)
    for name, mask in whole.items():
        assert mask.shape == model.get_parameter(name).shape
        assert mask.sum() == masks[name].sum()
    back = shrink_masks(model, whole, kept)
    assert back.keys() == masks.keys()
    assert all(torch.equal(mask, masks[name]) for name, mask in back.items())
