import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.data.rows import DataSummary
from pruning.delivery.count import count
from pruning.delivery.export import export
from pruning.errors import ArtifactBroken
from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.hybrid import shrink_masks, units_left
from pruning.masking.masks import kept_units, weight_masks
from pruning.masking.slot_units import slot_units
from pruning.masking.weight_units import block_units, row_units
from pruning.model.layers import prunable_linears
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, ModelShape, head_cost, neuron_cost, total_cost
from pruning.planning.plan import resolve
from pruning.report import LayerKept
from pruning.spec import PruneSpec
from tests.support.models import tiny_model, tiny_tokenizer

DATA = DataSummary(
    splits={"train": 9},
    columns={},
    text="text",
    label="label",
    classes=("0", "1"),
    numeric_label=True,
    mean_characters=45.0,
    sha256={},
)
# Of 2 layers with 4 heads of 1,024 weights and 48 neurons of 64, half is 7,168.
KEPT = Kept(heads=((0, 2), (1,)), neurons=(tuple(range(40)), tuple(range(8, 32))))


def planned(model, ratio, **request):
    spec = PruneSpec(target_ratio=ratio, method="magnitude", max_length=32, **request)
    spec = spec.model_copy(update={"evaluate": spec.evaluate.model_copy(update={"latency": False})})
    return resolve(spec, model.config.to_dict() | {"architectures": [type(model).__name__]}, DATA)


@pytest.fixture
def shrunk(tmp_path):
    model = tiny_model("bert")
    plan = planned(model, 0.5, target_measure="weights")
    for name, group in slot_units(model, plan.shape, "weights", 1.0, "global").items():
        layer, kind = name.split(".")
        kept = torch.zeros(group.count, dtype=torch.bool)
        kept[list(getattr(KEPT, kind)[int(layer)])] = True
        group.clear(kept)
    shape = ModelShape.from_config(model.config.to_dict())
    shrink(model, KEPT)
    export(model, tiny_tokenizer("bert"), shape, KEPT, "global", tmp_path / "model")
    return tmp_path / "model", plan


@pytest.fixture
def zeros(tmp_path):
    model = tiny_model("bert")
    groups = block_units(prunable_linears(model))
    masks = {name: torch.arange(group.count) % 4 > 0 for name, group in groups.items()}
    for name, group in groups.items():
        group.clear(masks[name])
    export(model, tiny_tokenizer("bert"), None, None, "global", tmp_path / "model")
    plan = planned(model, 0.25, granularity="unstructured")
    return tmp_path / "model", plan, weight_masks(groups, masks)


@pytest.fixture
def mixed(tmp_path):
    """Without head 0 of layer 0, one more block of 8x8 there, and 39 neurons of layer 0 and 10 of layer 1."""
    model = tiny_model("bert")
    plan = planned(model, 4224 / 14336, granularity="hybrid:8x8")
    groups = units(model, plan.shape, Granularity.parse("hybrid:8x8"), "weights", 1.0, "global")
    masks = {name: torch.ones(group.count, dtype=torch.bool) for name, group in groups.items()}
    for name, mask in masks.items():
        if "layer.0.attention.self" in name:
            mask[:4] = False  # the first row of blocks is head 0
        if "layer.0.attention.output" in name:
            mask[::4] = False
            mask[5] = False
    masks["1.neurons"][:10] = False
    masks["0.neurons"][:39] = False
    for name, group in groups.items():
        group.clear(masks[name])
    by_parameter = weight_masks(groups, masks)
    kept = units_left(model, by_parameter, kept_units(plan.shape, groups, masks))
    shrink(model, kept)
    export(model, tiny_tokenizer("bert"), plan.shape, kept, "global", tmp_path / "model")
    return tmp_path / "model", plan, kept, shrink_masks(model, by_parameter, kept)


def change(folder, name, edit):
    stored = load_file(folder / "model.safetensors")
    edit(stored[name])
    save_file(stored, folder / "model.safetensors", {"format": "pt"})


def test_removed_units_are_counted_by_every_measure(shrunk):
    found = count(*shrunk, KEPT, None, 0.5)
    assert found.weights == 3 * 1024 * 4 // 4 + 64 * 64
    assert found.removed["weights"] == pytest.approx(0.5)
    assert found.removed["flops"] == pytest.approx(0.5, abs=0.03)
    assert found.layers[0] == LayerKept(heads=2, of_heads=4, neurons=40, of_neurons=48, weights=0.642857)


def test_padding_that_is_not_zero_is_found(shrunk):
    folder, plan = shrunk
    name = "bert.encoder.layer.1.attention.self.value.weight"
    change(folder, name, lambda weight: weight[-1].fill_(0.5))
    with pytest.raises(ArtifactBroken, match="padding of layer 1"):
        count(folder, plan, KEPT, None, 0.5)


def test_sizes_that_were_not_chosen_are_found(shrunk):
    folder, plan = shrunk
    config = json.loads((folder / "config.json").read_text())
    config["layer_sizes"][0][1] -= 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactBroken, match="sizes"):
        count(folder, plan, KEPT, None, 0.5)


def test_a_missed_target_is_found(shrunk):
    folder, plan = shrunk
    with pytest.raises(ArtifactBroken, match=r"asked were 0\.4"):
        count(folder, plan, KEPT, None, 0.4)


def test_zeros_are_counted(zeros):
    found = count(*zeros[:2], None, zeros[2], 0.25)
    stored = tiny_model("bert").num_parameters()
    assert found.removed == {"weights": 0.25, "flops": 0.0, "parameters": pytest.approx(14336 / 4 / stored)}
    assert found.weights == 14336 * 3 // 4
    assert [layer.weights for layer in found.layers] == [0.75, 0.75]


def test_removed_units_and_zeros_are_counted_together(mixed):
    found = count(*mixed, 4224 / 14336)
    assert found.weights == 14336 - (16 * 64 + 64 + 49 * 64)
    assert found.removed["weights"] == pytest.approx(4224 / 14336)
    shape, length = mixed[1].shape, mixed[1].length
    flops = head_cost(shape, "flops", length) + 49 * neuron_cost(shape, "flops", length)
    assert found.removed["flops"] == pytest.approx(flops / total_cost(shape, "flops", length))
    assert [(layer.heads, layer.neurons) for layer in found.layers] == [(3, 9), (4, 38)]
    assert found.layers[0].weights == pytest.approx(1 - (17 * 64 + 39 * 64) / 7168, abs=1e-6)


def test_a_block_of_a_shrunk_attention_that_is_not_zero_is_found(mixed):
    folder, plan, kept, masks = mixed
    name = "bert.encoder.layer.0.attention.output.dense.weight"
    row, column = (~masks[name]).nonzero()[0].tolist()
    change(folder, name, lambda weight: weight[row, column].fill_(1e-6))
    with pytest.raises(ArtifactBroken, match=r"layer\.0\.attention\.output"):
        count(folder, plan, kept, masks, 4224 / 14336)


def test_a_bias_of_a_dropped_row_that_is_not_zero_is_found(tmp_path):
    model = tiny_model("bert")
    groups = row_units(model)
    masks = {name: torch.arange(group.count) % 2 > 0 for name, group in groups.items()}
    for name, group in groups.items():
        group.clear(masks[name])
    folder = tmp_path / "model"
    export(model, tiny_tokenizer("bert"), None, None, "global", folder)
    plan, by_parameter = planned(model, 4096 / 14336, granularity="row"), weight_masks(groups, masks)
    assert count(folder, plan, None, by_parameter, 4096 / 14336).weights == 14336 - 4096
    change(folder, "bert.encoder.layer.0.intermediate.dense.bias", lambda bias: bias[0].fill_(1e-6))
    with pytest.raises(ArtifactBroken, match=r"layer\.0\.intermediate\.dense\.bias"):
        count(folder, plan, None, by_parameter, 4096 / 14336)


def test_a_dropped_weight_that_is_not_zero_is_found(zeros):
    folder, plan, masks = zeros
    name = "bert.encoder.layer.0.output.dense.weight"
    change(folder, name, lambda weight: weight.view(-1)[0].fill_(1e-6))
    with pytest.raises(ArtifactBroken, match=r"layer\.0\.output\.dense"):
        count(folder, plan, None, masks, 0.25)
