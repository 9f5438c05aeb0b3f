"""Live views of a model's transformer layers, resolved through its family."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.errors import InvalidModel
from pruning.families import FAMILIES, Family


@dataclass(frozen=True)
class Layer:
    """The modules of one transformer layer. Weights are (outputs, inputs).

    A head owns `head_size` consecutive rows of query, key and value and the same columns of `attention_out`; a neuron
    owns one row of every `ffn_in` and one column of `ffn_out`. The counts are those of the tensors as they are now.
    """

    index: int
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_out: nn.Linear
    attention_norm: nn.LayerNorm
    ffn_in: tuple[nn.Linear, ...]
    activation: nn.Module
    ffn_out: nn.Linear
    ffn_norm: nn.LayerNorm
    head_owner: nn.Module
    head_size: int

    @property
    def heads(self) -> int:
        """How many query heads there are."""
        return self.query.out_features // self.head_size

    @property
    def kv_heads(self) -> int:
        """How many key and value heads there are."""
        return self.key.out_features // self.head_size

    @property
    def neurons(self) -> int:
        """How many FFN neurons there are."""
        return self.ffn_out.in_features

    @property
    def linears(self) -> tuple[nn.Linear, ...]:
        """The prunable linears: query, key, value, attention output, FFN in, FFN out."""
        return (self.query, self.key, self.value, self.attention_out, *self.ffn_in, self.ffn_out)


def family(model: PreTrainedModel) -> Family:
    """The model's family entry; raises InvalidModel for a model_type that has none."""
    model_type = model.config.model_type
    if model_type not in FAMILIES:
        raise InvalidModel(f"model_type {model_type!r} is not supported.", param="/model")
    return FAMILIES[model_type]


def layers(model: PreTrainedModel) -> list[Layer]:
    """The transformer layers from bottom to top; raises InvalidModel for an unsupported family."""
    names = family(model)
    stack = model.base_model.get_submodule(names.layers)
    return [_layer(index, module, names) for index, module in enumerate(stack.children())]


def _layer(index: int, module: nn.Module, names: Family) -> Layer:
    def part(path: str) -> nn.Module:
        return module.get_submodule(path)

    def linear(path: str) -> nn.Linear:
        found = part(path)
        if not isinstance(found, nn.Linear):
            raise InvalidModel(
                f"{path} of layer {index} is {type(found).__name__}, not a linear layer.", param="/model"
            )
        return found

    def norm(path: str) -> nn.LayerNorm:
        found = part(path)
        if not isinstance(found, nn.LayerNorm):
            raise InvalidModel(
                f"{path} of layer {index} is {type(found).__name__}, not a LayerNorm.", param="/model"
            )
        return found

    head_owner = part(names.head_owner)
    return Layer(
        index=index,
        query=linear(names.query),
        key=linear(names.key),
        value=linear(names.value),
        attention_out=linear(names.attention_out),
        attention_norm=norm(names.attention_norm),
        ffn_in=tuple(linear(path) for path in names.ffn_in),
        activation=part(names.activation),
        ffn_out=linear(names.ffn_out),
        ffn_norm=norm(names.ffn_norm),
        head_owner=head_owner,
        head_size=int(getattr(head_owner, names.head_size)),
    )


def prunable_linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The six prunable linears of each layer by full module name, layer by layer, in the order of `Layer.linears`."""
    names = {module: name for name, module in model.named_modules()}
    return {names[linear]: linear for layer in layers(model) for linear in layer.linears}


def take(module: nn.Linear, index: Tensor, dim: int) -> None:
    """Keep only the outputs (dim 0) or inputs (dim 1) listed in `index` (int64, (kept,)); in place, same module object.

    Parameters are replaced, so an optimizer made before holds the old ones.
    """
    with torch.no_grad():
        weight = module.weight.index_select(dim, index.to(module.weight.device)).contiguous()
        module.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)
        if dim == 0 and module.bias is not None:
            bias = module.bias.index_select(0, index.to(module.bias.device)).contiguous()
            module.bias = nn.Parameter(bias, requires_grad=module.bias.requires_grad)
    module.out_features, module.in_features = module.weight.shape
