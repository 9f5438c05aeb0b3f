"""Live views of a model's transformer layers, resolved through its family."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.errors import InvalidModel
from pruning.planning.families import FAMILIES
from pruning.planning.family import Family

Part = TypeVar("Part", bound=nn.Module)


@dataclass(frozen=True)
class Writer:
    """A linear that writes what units own: in each of its `parts`, one after the other, `size` rows for every unit.

    One part, unless a family keeps several projections in one matrix: query, key and value, or the inputs of a
    gated FFN.
    """

    linear: nn.Linear
    parts: int = 1
    size: int = 1

    def split(self, values: Tensor) -> Tensor:
        """A view of (outputs, ...) as (parts, units, size, ...)."""
        units = values.shape[0] // (self.parts * self.size)
        return values.view(self.parts, units, self.size, *values.shape[1:])

    def rows(self, units: Tensor) -> Tensor:
        """The outputs that the units own: int64 (chosen,) to (parts * chosen * size,)."""
        return self.split(torch.arange(self.linear.out_features))[:, units].reshape(-1)


def _writers(sizes: Sequence[tuple[nn.Linear, int]]) -> tuple[Writer, ...]:
    """The writers of projections that may share linears, in order, each with its rows for one unit."""
    linears = [linear for linear, _ in sizes]
    return tuple(Writer(linear, linears.count(linear), size) for linear, size in dict.fromkeys(sizes))


@dataclass(frozen=True)
class Layer:
    """The modules of one transformer layer. Weights are (outputs, inputs).

    A head owns `head_size` consecutive rows of key and value, and `queries` times as many of query and columns of
    `attention_out`: the queries that share its key and value go with it. A neuron owns one row of every `ffn_in`
    and one column of `ffn_out`. Some of these may be one module, which `head_writers` and `neuron_writers` take
    apart. Counts are those of the tensors now.
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
    queries: int = 1
    norm_first: bool = False

    @property
    def head_width(self) -> int:
        """How many features a head gives the attention's output."""
        return self.queries * self.head_size

    @property
    def heads(self) -> int:
        """How many heads there are."""
        return self.attention_out.in_features // self.head_width

    @property
    def neurons(self) -> int:
        """How many FFN neurons there are."""
        return self.ffn_out.in_features

    @property
    def head_writers(self) -> tuple[Writer, ...]:
        """What writes the features of heads."""
        size = self.head_size
        return _writers([(self.query, self.head_width), (self.key, size), (self.value, size)])

    @property
    def neuron_writers(self) -> tuple[Writer, ...]:
        """What writes the features of neurons."""
        return _writers([(linear, 1) for linear in self.ffn_in])

    @property
    def residuals(self) -> tuple[nn.Module, nn.Module]:
        """What reads, first of all, the hidden states that attention and FFN are added to."""
        if self.norm_first:
            return self.attention_norm, self.ffn_norm
        return self.value, self.ffn_in[0]

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
    said = names.norm_first
    norm_first = said if isinstance(said, bool) else bool(getattr(model.config, said))
    stack = model.base_model.get_submodule(names.layers)
    return [_layer(index, module, names, norm_first) for index, module in enumerate(stack.children())]


def _layer(index: int, module: nn.Module, names: Family, norm_first: bool) -> Layer:
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
        queries=1 if names.head_queries is None else int(getattr(head_owner, names.head_queries)),
        norm_first=norm_first,
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
