"""One sub-layer of a post-norm encoder as frozen tensors.

X -> U (what its units say) -> Y = X + U W^T + b -> norm(Y).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F

from pruning.model.layers import Layer


@dataclass(frozen=True)
class Affine:
    """A linear map without gradient: weight (outputs, inputs), bias (outputs,)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """A view of the module's parameters, not a copy; a missing bias reads as zeros."""
        weight = linear.weight.detach()
        return cls(weight, weight.new_zeros(weight.shape[0]) if linear.bias is None else linear.bias.detach())

    def __call__(self, inputs: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(inputs, self.weight, self.bias)

    def rows(self, kept: Tensor) -> Self:
        """Only the outputs where `kept` (outputs,) is true."""
        return replace(self, weight=self.weight[kept], bias=self.bias[kept])

    def columns(self, kept: Tensor) -> Self:
        """Only the inputs where `kept` (inputs,) is true."""
        return replace(self, weight=self.weight[:, kept])

    def clone(self) -> Self:
        """A copy that no longer follows the module."""
        return replace(self, weight=self.weight.clone(), bias=self.bias.clone())


@dataclass(frozen=True)
class Sublayer(ABC):
    """What attention and FFN share: an output projection, the norm after it, and units of `size` columns each."""

    output: Affine
    norm: nn.Module
    size: int

    @property
    @abstractmethod
    def work(self) -> int:
        """Weights that one token meets."""

    @property
    def units(self) -> int:
        """How many heads or neurons there are."""
        return self.output.weight.shape[1] // self.size

    @abstractmethod
    def inner(self, hidden: Tensor, real: Tensor) -> Tensor:
        """U (rows, tokens, columns), the input of the output projection; `real` (rows, tokens) is false on padding."""

    def residual_sum(self, hidden: Tensor, inner: Tensor) -> Tensor:
        """Y (rows, tokens, hidden), before the norm."""
        return hidden + self.output(inner)

    def __call__(self, hidden: Tensor, real: Tensor) -> Tensor:
        """The sub-layer's result, after the norm."""
        normed: Tensor = self.norm(self.residual_sum(hidden, self.inner(hidden, real)))
        return normed

    def columns(self, kept: Tensor) -> Tensor:
        """The columns of the kept units: (units,) -> (units * size,)."""
        return kept.repeat_interleave(self.size)

    @abstractmethod
    def keep(self, kept: Tensor) -> Self:
        """A copy with only the units where `kept` (units,) is true."""


@dataclass(frozen=True)
class Attention(Sublayer):
    """Multi-head attention; a unit is a head."""

    query: Affine
    key: Affine
    value: Affine

    @property
    def work(self) -> int:
        """Weights of query, key, value and output."""
        return 4 * self.output.weight.numel()

    def inner(self, hidden: Tensor, real: Tensor) -> Tensor:
        """The contexts of all heads, side by side."""
        if not self.units:
            return hidden.new_zeros(*hidden.shape[:2], 0)
        query, key, value = (
            part(hidden).view(*hidden.shape[:2], self.units, self.size).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        visible = None if bool(real.all()) else real[:, None, None, :]
        return F.scaled_dot_product_attention(query, key, value, visible).transpose(1, 2).flatten(2)

    def keep(self, kept: Tensor) -> Self:
        """A copy with only those heads."""
        columns = self.columns(kept)
        return replace(
            self,
            output=self.output.columns(columns),
            query=self.query.rows(columns),
            key=self.key.rows(columns),
            value=self.value.rows(columns),
        )


@dataclass(frozen=True)
class FeedForward(Sublayer):
    """Two linear maps around an activation; a unit is a neuron."""

    inputs: Affine
    activation: nn.Module

    @property
    def work(self) -> int:
        """Weights of both maps."""
        return 2 * self.output.weight.numel()

    def inner(self, hidden: Tensor, real: Tensor) -> Tensor:
        """The activations."""
        activations: Tensor = self.activation(self.inputs(hidden))
        return activations

    def keep(self, kept: Tensor) -> Self:
        """A copy with only those neurons."""
        return replace(self, output=self.output.columns(kept), inputs=self.inputs.rows(kept))


def sublayers(layer: Layer) -> tuple[Attention, FeedForward]:
    """The two sub-layers of one layer, as views of its live weights."""
    query, key, value = (Affine.of(part) for part in (layer.query, layer.key, layer.value))
    attention = Attention(
        Affine.of(layer.attention_out), layer.attention_norm, layer.head_size, query, key, value
    )
    (ffn_in,) = layer.ffn_in
    ffn = FeedForward(Affine.of(layer.ffn_out), layer.ffn_norm, 1, Affine.of(ffn_in), layer.activation)
    return attention, ffn
