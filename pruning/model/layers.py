"""Live views of a model's transformer layers, resolved through its family."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.errors import InvalidModel
from pruning.planning.families import FAMILIES, Family

Part = TypeVar("Part", bound=nn.Module)


@dataclass(frozen=True)
class Writer:
    """A linear whose outputs are `parts` projections, one after the other, each with one value per feature.

    One part, unless a family keeps several projections in one matrix: query, key and value, or the inputs of a
    gated FFN. A feature owns one row in each part.
    """

    linear: nn.Linear
    parts: int = 1

    @classmethod
    def of(cls, linears: Sequence[nn.Linear]) -> "tuple[Writer, ...]":
        """The writers of projections that may share linears, in order."""
        return tuple(cls(linear, linears.count(linear)) for linear in dict.fromkeys(linears))

    def split(self, values: Tensor) -> Tensor:
        """A view of (outputs, ...) as (parts, features, ...)."""
        return values.view(self.parts, values.shape[0] // self.parts, *values.shape[1:])

    def rows(self, features: Tensor) -> Tensor:
        """The outputs that the features own: int64 (chosen,) to (parts * chosen,)."""
        first = torch.arange(self.parts)[:, None] * (self.linear.out_features // self.parts)
        return (first + features).reshape(-1)


@dataclass(frozen=True)
class Layer:
    """The modules of one transformer layer. Weights are (outputs, inputs).

    A head owns `head_size` consecutive rows of query, key and value and the same columns of `attention_out`;
    a neuron owns one row of every `ffn_in` and one column of `ffn_out`. Some of these may be one module, which
    `head_writers` and `neuron_writers` take apart. Counts are those of the tensors now.
    """

    index: int
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_out: nn.Linear
    attention_norm: nn.Module
    ffn_in: tuple[nn.Linear, ...]
    activation: nn.Module
    ffn_out: nn.Linear
    ffn_norm: nn.Module
    head_owner: nn.Module
    head_size: int

    @property
    def heads(self) -> int:
        """How many heads there are."""
        return self.attention_out.in_features // self.head_size

    @property
    def neurons(self) -> int:
        """How many FFN neurons there are."""
        return self.ffn_out.in_features

    @property
    def head_writers(self) -> tuple[Writer, ...]:
        """What writes the features of heads."""
        return Writer.of((self.query, self.key, self.value))

    @property
    def neuron_writers(self) -> tuple[Writer, ...]:
        """What writes the features of neurons."""
        return Writer.of(self.ffn_in)

    @property
    def linears(self) -> tuple[nn.Linear, ...]:
        """The prunable linears, each once: query, key, value, attention output, FFN in, FFN out."""
        named = (self.query, self.key, self.value, self.attention_out, *self.ffn_in, self.ffn_out)
        return tuple(dict.fromkeys(named))


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
    head_owner = module.get_submodule(names.head_owner)
    return Layer(
        index=index,
        query=_part(module, names.query, nn.Linear),
        key=_part(module, names.key, nn.Linear),
        value=_part(module, names.value, nn.Linear),
        attention_out=_part(module, names.attention_out, nn.Linear),
        attention_norm=_part(module, names.attention_norm, nn.Module),
        ffn_in=tuple(_part(module, path, nn.Linear) for path in names.ffn_in),
        activation=_part(module, names.activation, nn.Module),
        ffn_out=_part(module, names.ffn_out, nn.Linear),
        ffn_norm=_part(module, names.ffn_norm, nn.Module),
        head_owner=head_owner,
        head_size=int(getattr(head_owner, names.head_size)),
    )


def _part(module: nn.Module, path: str, expected: type[Part]) -> Part:
    found = module.get_submodule(path)
    if not isinstance(found, expected):
        raise InvalidModel(f"{path} is a {type(found).__name__}, not a {expected.__name__}.", param="/model")
    return found


def prunable_linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The prunable linears by full module name, layer by layer, in the order of `Layer.linears`."""
    names = {module: name for name, module in model.named_modules()}
    return {names[linear]: linear for layer in layers(model) for linear in layer.linears}


def take(module: nn.Linear, index: Tensor, dim: int) -> None:
    """Keep only the outputs (dim 0) or inputs (dim 1) listed in `index`, int64 (kept,); in place.

    The module object stays, its parameters are replaced: an optimizer made before holds the old ones.
    """
    index = index.to(module.weight.device)
    module.weight = _selected(module.weight, index, dim)
    if dim == 0 and module.bias is not None:
        module.bias = _selected(module.bias, index, 0)
    module.out_features, module.in_features = module.weight.shape


def _selected(parameter: Tensor, index: Tensor, dim: int) -> nn.Parameter:
    chosen = parameter.detach().index_select(dim, index).contiguous()
    return nn.Parameter(chosen, requires_grad=parameter.requires_grad)
