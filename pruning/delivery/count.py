"""What an exported directory really holds: counted on its files, against what was promised."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from pruning.errors import ArtifactBroken
from pruning.model.layers import layers, prunable_linears
from pruning.planning.costs import Kept, ModelShape, cost, head_cost, neuron_cost, total_cost
from pruning.planning.families import AUTO_CLASSES
from pruning.planning.plan import Plan
from pruning.report import LayerKept
from pruning.spec import Granularity, Measure


@dataclass(frozen=True)
class Count:
    """`weights` and `flops` of the layers, the fraction removed by measure, and what each layer kept.

    `bytes` is the size of all tensors in the weight files.
    """

    weights: int
    flops: float
    removed: dict[Measure, float]
    layers: list[LayerKept]
    bytes: int


def count(folder: Path, plan: Plan, kept: Kept | None, masks: Mapping[str, Tensor] | None) -> Count:
    """Read an export as a stranger would, plainly, and count what is left of the layers.

    Raises ArtifactBroken when something that was dropped is not zero or not gone, or when the removed
    fraction misses the target by more than a unit.
    """
    model = getattr(transformers, AUTO_CLASSES[plan.task]).from_pretrained(
        folder, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )
    found = (
        _count_units(folder, model, plan, kept)
        if kept is not None
        else _count_weights(model, plan, masks or {})
    )
    missed = abs(found.removed[plan.target_measure] - plan.spec.target_ratio)
    if missed * plan.cost_before > largest_unit(plan) * (1 + 1e-9):
        raise ArtifactBroken(
            f"The export has {found.removed[plan.target_measure]:.6f} of its {plan.target_measure} removed, "
            f"asked were {plan.spec.target_ratio}."
        )
    return found


def largest_unit(plan: Plan) -> float:
    """Cost of the largest thing that is dropped as a whole, in the target measure."""
    shape, granularity = plan.shape, Granularity.parse(plan.spec.granularity)
    if not plan.spec.target_ratio:
        return 0.0
    if not granularity.removable:
        rows, columns = granularity.shape or (1, 1)
        return rows * columns
    head = head_cost(shape, plan.target_measure, plan.length)
    neuron = neuron_cost(shape, plan.target_measure, plan.length)
    return shape.layers * neuron if plan.spec.allocation == "native" else max(head, neuron)


def _count_units(folder: Path, model: PreTrainedModel, plan: Plan, kept: Kept) -> Count:
    stack = layers(model)
    declared = json.loads((folder / "config.json").read_text("utf-8")).get("layer_sizes")
    sizes = declared or [(layer.heads, layer.neurons) for layer in stack]
    promised = [[len(heads), len(neurons)] for heads, neurons in zip(kept.heads, kept.neurons, strict=True)]
    if [list(size) for size in sizes] != promised:
        raise ArtifactBroken("The export's layers do not have the sizes that were chosen.")
    for layer, (heads, neurons) in zip(stack, sizes, strict=True):
        width = heads * layer.head_size
        padding = [linear.weight[width:] for linear in (layer.query, layer.key, layer.value)]
        padding += [linear.weight[neurons:] for linear in layer.ffn_in]
        padding += [layer.attention_out.weight[:, width:], layer.ffn_out.weight[:, neurons:]]
        if any(part.any() for part in padding):
            raise ArtifactBroken(f"The padding of layer {layer.index} is not zero.")
    shape = plan.shape
    heads, neurons = (sum(numbers) for numbers in zip(*sizes, strict=True))
    left = {measure: cost(shape, heads, neurons, measure, plan.length) for measure in _MEASURES}
    whole = cost(shape, shape.heads, shape.ffn, "weights", plan.length)
    return Count(
        weights=round(left["weights"]),
        flops=left["flops"],
        removed={
            measure: 1 - left[measure] / total_cost(shape, measure, plan.length) for measure in _MEASURES
        },
        layers=[
            _layer(shape, heads, neurons, cost(shape, heads, neurons, "weights", plan.length) / whole)
            for heads, neurons in sizes
        ],
        bytes=_tensor_bytes(model),
    )


def _count_weights(model: PreTrainedModel, plan: Plan, masks: Mapping[str, Tensor]) -> Count:
    linears = prunable_linears(model)
    kept_in: dict[str, int] = {}
    for name, linear in linears.items():
        weight = linear.weight.detach()
        mask = masks.get(f"{name}.weight", torch.ones_like(weight, dtype=torch.bool))
        if weight[~mask].any():
            raise ArtifactBroken(f"Dropped weights of {name} are not zero.")
        kept_in[name] = int(mask.sum())
    whole = sum(linear.weight.numel() for linear in linears.values())
    weights = sum(kept_in.values())
    flops = total_cost(plan.shape, "flops", plan.length)
    names = {linear: name for name, linear in linears.items()}
    per_layer = whole / plan.shape.layers
    return Count(
        weights=weights,
        flops=flops,
        removed={"weights": 1 - weights / whole, "flops": 0.0},
        layers=[
            _layer(
                plan.shape,
                plan.shape.heads,
                plan.shape.ffn,
                sum(kept_in[names[linear]] for linear in layer.linears) / per_layer,
            )
            for layer in layers(model)
        ],
        bytes=_tensor_bytes(model),
    )


_MEASURES: tuple[Measure, ...] = ("weights", "flops")


def _layer(shape: ModelShape, heads: int, neurons: int, weights: float) -> LayerKept:
    return LayerKept(
        heads=heads, of_heads=shape.heads, neurons=neurons, of_neurons=shape.ffn, weights=round(weights, 6)
    )


def _tensor_bytes(model: PreTrainedModel) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())
