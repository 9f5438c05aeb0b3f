"""Units against slow references, and masks: gated equals baked, dropped stays dropped, nothing is left behind."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.masks import (
    attach_fixed,
    attach_weight_masks,
    kept_units,
    load_masks,
    save_masks,
    weight_masks,
)
from pruning.masking.slot_units import slot_units
from pruning.masking.units import Units
from pruning.masking.weight_units import WeightUnits, block_units
from pruning.model.layers import layers, prunable_linears
from pruning.planning.costs import Kept, ModelShape, kept_cost
from tests.support.models import FAMILIES, tiny_inputs, tiny_model

GRANULARITIES = ("unstructured", "block:8x4", "row", "neuron", "head", "structured", "hybrid:8x4")


def _shape(model: PreTrainedModel) -> ModelShape:
    return ModelShape.from_config(model.config.to_dict())


def _groups(model: PreTrainedModel, granularity: str) -> dict[str, Units]:
    return units(model, _shape(model), Granularity.parse(granularity), "weights", 1.0, "global")


def _random_masks(groups: dict[str, Units], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(group.count, generator=generator) < 0.5 for name, group in groups.items()}


def test_blocks_pool_and_expand_like_a_loop() -> None:
    linear = torch.nn.Linear(6, 4)
    group = WeightUnits(linear, "weight", (2, 3))
    blocks = [linear.weight[r : r + 2, c : c + 3] for r in (0, 2) for c in (0, 3)]
    expected = torch.stack([block.square().sum() for block in blocks])
    torch.testing.assert_close(group.pool(torch.square), expected)
    assert (group.count, group.cost) == (4, 6)
    mask = group.expand(torch.tensor([True, False, False, True]))
    assert mask.int().tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]] * 2


def test_heads_pool_all_linked_matrices() -> None:
    model = tiny_model("bert")
    layer = layers(model)[1]
    group = slot_units(model, _shape(model), "weights", 1.0, "global")["1.heads"]
    rows = slice(8, 16)  # head 1 of width 8
    slices = [linear.weight[rows] for linear in (layer.query, layer.key, layer.value)]
    expected = sum(part.abs().sum() for part in [*slices, layer.attention_out.weight[:, rows]])
    torch.testing.assert_close(group.pool(torch.abs)[1], expected)
    assert group.weights == sum(part.numel() for part in slices) + 8 * 32


def test_native_prunes_neurons_only() -> None:
    model = tiny_model("bert")
    assert set(slot_units(model, _shape(model), "flops", 9.0, "native")) == {"0.neurons", "1.neurons"}


def test_a_block_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(InvalidSpec, match=r"5x5 do not fit .*query") as caught:
        block_units(prunable_linears(tiny_model("bert")), (5, 5))
    assert caught.value.param == "/granularity"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_gated_equals_baked(family: str, granularity: str) -> None:
    model = tiny_model(family)
    names = set(model.state_dict())
    inputs = tiny_inputs(model)
    groups = _groups(model, granularity)
    masks = _random_masks(groups)
    with torch.no_grad():
        dense = model(**inputs).logits
        mask_set = attach_fixed(model, groups, masks)
        gated = model(**inputs).logits
        density = mask_set.density()
        mask_set.bake(model)
        baked = model(**inputs).logits
    torch.testing.assert_close(gated, baked, rtol=0, atol=1e-6)
    assert (gated - dense).abs().max() > 1e-3
    kept = sum(int(masks[name].sum()) * group.cost for name, group in groups.items())
    assert density == pytest.approx(kept / sum(group.count * group.cost for group in groups.values()))
    assert set(model.state_dict()) == names
    assert not hasattr(model, "pruning")


def test_kept_names_what_the_masks_keep() -> None:
    model = tiny_model("distilbert")
    shape = _shape(model)
    groups = _groups(model, "structured")
    masks = _random_masks(groups)
    kept = kept_units(shape, groups, masks)
    cost = sum(int(masks[name].sum()) * group.cost for name, group in groups.items())
    assert kept_cost(shape, kept, "weights", 1.0) == cost
    assert kept.heads[1] == tuple(masks["1.heads"].nonzero().flatten().tolist())
    assert kept_units(shape, {}, {}) == Kept.everything(shape)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_dropped_units_stay_zero_in_later_training(granularity: str) -> None:
    """Heads and neurons need no mask for that; weights do."""
    model = tiny_model("bert").train()
    groups = _groups(model, granularity)
    masks = _random_masks(groups)
    for name, group in groups.items():
        group.clear(masks[name])
    zeros = {name: value == 0 for name, value in model.state_dict().items() if name.endswith("weight")}
    by_parameter = weight_masks(groups, masks)
    mask_set = attach_weight_masks(model, by_parameter) if by_parameter else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for seed in range(3):
        logits = model(**tiny_inputs(model, seed=seed)).logits
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 0])).backward()
        optimizer.step()
        optimizer.zero_grad()
    if mask_set is not None:
        mask_set.bake(model)
    state = model.state_dict()
    assert all(state[name][zero].abs().sum() == 0 for name, zero in zeros.items())
    assert sum(int(zero.sum()) for zero in zeros.values()) > 1000


def test_masks_act_and_learn_under_bf16_autocast() -> None:
    model = tiny_model("bert")
    groups = _groups(model, "block:8x4")
    attach_fixed(model, groups, _random_masks(groups))
    with torch.autocast("cpu", torch.bfloat16):
        model(**tiny_inputs(model)).logits.sum().backward()
    gradient = layers(model)[0].query.parametrizations["weight"].original.grad
    assert gradient.dtype == torch.float32
    assert (gradient == 0).float().mean() == pytest.approx(0.5, abs=0.2)


def test_masks_survive_a_file(tmp_path: Path) -> None:
    masks = {"a": torch.tensor([[True, False]]), "b.weight": torch.ones(3, dtype=torch.bool)}
    save_masks(tmp_path / "masks.safetensors", masks)
    loaded = load_masks(tmp_path / "masks.safetensors")
    assert {name: mask.tolist() for name, mask in loaded.items()} == {
        "a": [[True, False]],
        "b.weight": [True] * 3,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["masks.safetensors"]
