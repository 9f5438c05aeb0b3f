"""What an exported directory really holds: counted on its files, against what was promised."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.errors import ArtifactBroken
from pruning.granularity import Granularity
from pruning.model.conv1d import as_linears
from pruning.model.depth import layer_parameters
from pruning.model.layers import Layer, layers, prunable_linears
from pruning.planning.costs import Kept, cost, head_cost, neuron_cost, total_cost, unit_costs
from pruning.planning.families import AUTO_CLASSES
from pruning.planning.plan import Plan
from pruning.planning.shape import ModelShape
from pruning.report import LayerKept
from pruning.spec import Measure


@dataclass(frozen=True)
class Count:
    """`weights` and `flops` of the layers, the fraction removed by measure, and what each layer kept.

    What was removed or set to zero is no weight and no parameter; only what was removed saves FLOPs. `bytes` is the
    size of all tensors in the weight files.
    """

    weights: int
    flops: float
    removed: dict[Measure, float]
    layers: list[LayerKept]
    bytes: int


def count(
    folder: Path, plan: Plan, kept: Kept | None, masks: Mapping[str, Tensor] | None, ratio: float
) -> Count:
    """Read an export as a stranger would, plainly, and count what is left of it.

    `kept` names the heads and neurons when some were removed, `masks` what was set to zero of what is left, by
    parameter. Raises ArtifactBroken when something that was dropped is not zero or not gone, or when the removed
    fraction misses `ratio` by more than a unit; a latency is not counted. Where zeros were filled it may be smaller.
    """
    auto_class = getattr(transformers, AUTO_CLASSES[plan.task])
    model = as_linears(
        auto_class.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, local_files_only=True
        )
    )
    shape, length, masks = plan.shape, plan.length, masks or {}
    sizes = _sizes(folder, layers(model), kept or Kept.everything(shape))
    _check_biases(model, masks)
    per_layer = _weights(model, sizes, masks)
    weights = sum(per_layer)
    heads, neurons = (sum(numbers) for numbers in zip(*sizes, strict=True))
    places = list(range(shape.layers)) if kept is None else kept.stack
    flops = cost(shape, heads, neurons, "flops", length)
    dense = total_cost(shape, "weights", length)
    found = Count(
        weights=weights,
        flops=flops,
        removed={
            "weights": 1 - weights / dense,
            "flops": 1 - flops / total_cost(shape, "flops", length),
            "parameters": 1 - model.num_parameters() / shape.parameters
            if plan.spec.cuts_vocabulary
            else _parameters(model, shape, sizes, masks),
        },
        layers=_layers(shape, places, sizes, [left * shape.layers / dense for left in per_layer]),
        bytes=tensor_bytes(model),
    )
    if plan.target_measure != "latency":
        _check_target(found.removed[plan.target_measure], plan, ratio, shape.layers * shape.heads - heads)
    return found


def _check_target(removed: float, plan: Plan, ratio: float, heads: int) -> None:
    """`heads` are gone; where all blocks of a head were dropped, its biases went with them, in no unit's cost."""
    shape, unit = plan.shape, largest_unit(plan)
    dense = total_cost(shape, plan.target_measure, plan.length)
    if plan.target_measure == "parameters" and Granularity.parse(plan.spec.granularity).kind == "hybrid":
        unit += heads * (head_cost(shape, "parameters", 1.0) - head_cost(shape, "weights", 1.0))
    missed = max(removed - ratio, 0.0) if plan.spec.fills else abs(removed - ratio)
    if missed * dense > unit * (1 + 1e-9):
        raise ArtifactBroken(
            f"The export has {removed:.6f} of its {plan.target_measure} removed, asked were {ratio}."
        )


def largest_unit(plan: Plan) -> float:
    """Cost of the largest thing that is dropped as a whole, in the target measure."""
    if not plan.spec.prunes or plan.spec.cuts_vocabulary:
        return 0.0
    shape, measure, step = plan.shape, plan.target_measure, plan.neuron_step
    granularity = Granularity.parse(plan.spec.granularity)
    if plan.spec.allocation == "native" and granularity.kind != "layer":
        return shape.layers * step * neuron_cost(shape, measure, plan.length)
    return max(unit_costs(shape, granularity, measure, plan.length, step))


def _parameters(
    model: PreTrainedModel, shape: ModelShape, sizes: list[tuple[int, int]], masks: Mapping[str, Tensor]
) -> float:
    """The fraction of the dense model's parameters that is gone or zero: biases of removed units among them."""
    stored = model.num_parameters()
    padded = sum(
        cost(shape, layer.heads - heads, layer.neurons - neurons, "parameters", 1.0)
        for layer, (heads, neurons) in zip(layers(model), sizes, strict=True)
    )
    narrower = sum(
        cost(shape, shape.heads - layer.heads, shape.ffn - layer.neurons, "parameters", 1.0)
        for layer in layers(model)
    )
    zeros = sum(int((~mask).sum()) for mask in masks.values())
    gone = (shape.layers - len(sizes)) * layer_parameters(model)
    return 1 - (stored - padded - zeros) / (stored + narrower + gone)


def _sizes(folder: Path, stack: list[Layer], kept: Kept) -> list[tuple[int, int]]:
    """Heads and neurons of each layer; behind those that are stored only zeros follow."""
    promised = [(len(heads), len(neurons)) for heads, neurons in kept.units]
    declared = json.loads((folder / "config.json").read_text("utf-8")).get("layer_sizes")
    sizes = declared or [(layer.heads, layer.neurons) for layer in stack]
    if [tuple(size) for size in sizes] != promised:
        raise ArtifactBroken("The export's layers do not have the sizes that were chosen.")
    return promised


def _weights(model: PreTrainedModel, sizes: list[tuple[int, int]], masks: Mapping[str, Tensor]) -> list[int]:
    """Weights of each layer that are kept; raises ArtifactBroken when others are not zero."""
    names = {linear: f"{name}.weight" for name, linear in prunable_linears(model).items()}
    found = []
    for layer, (heads, neurons) in zip(layers(model), sizes, strict=True):
        found.append(0)
        for linear, left, padding in _regions(layer, heads, neurons):
            if padding.any():
                raise ArtifactBroken(f"The padding of layer {layer.index} is not zero.")
            mask = masks.get(names[linear])
            found[-1] += left.numel() if mask is None else int(mask.sum())
            if mask is not None and left.reshape(mask.shape)[~mask].any():
                raise ArtifactBroken(f"Dropped weights of {names[linear]} are not zero.")
    return found


def _regions(layer: Layer, heads: int, neurons: int) -> Iterator[tuple[nn.Linear, Tensor, Tensor]]:
    """Every linear with the part of its weight that heads and neurons have, and the rest."""
    for units, size, writers, reader in (
        (heads, layer.head_width, layer.head_writers, layer.attention_out),
        (neurons, 1, layer.neuron_writers, layer.ffn_out),
    ):
        for writer in writers:
            rows = writer.split(writer.linear.weight.detach())
            yield writer.linear, rows[:, :units], rows[:, units:]
        columns = reader.weight.detach()
        yield reader, columns[:, : units * size], columns[:, units * size :]


def _check_biases(model: PreTrainedModel, masks: Mapping[str, Tensor]) -> None:
    """Whole rows own their biases; raises ArtifactBroken when a dropped one is not zero."""
    for name, mask in masks.items():
        if mask.ndim == 1 and model.get_parameter(name)[~mask].any():
            raise ArtifactBroken(f"Dropped biases of {name} are not zero.")


def _layers(
    shape: ModelShape, places: Sequence[int], sizes: Sequence[tuple[int, int]], weights: Sequence[float]
) -> list[LayerKept]:
    """What every layer of the dense model kept; those without a place kept nothing."""
    kept = dict(zip(places, zip(sizes, weights, strict=True), strict=True))
    found = []
    for index in range(shape.layers):
        (heads, neurons), left = kept.get(index, ((0, 0), 0.0))
        sizes_of = {"heads": heads, "of_heads": shape.heads, "neurons": neurons, "of_neurons": shape.ffn}
        found.append(LayerKept(**sizes_of, weights=round(left, 6)))
    return found


def tensor_bytes(model: PreTrainedModel) -> int:
    """Bytes of all tensors that a model stores; tied ones are stored once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}.values())
