"""Units that leave zeros behind: single weights, blocks and rows of a matrix."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from pruning.errors import InvalidSpec
from pruning.masking.units import Transform
from pruning.model.layers import Layer, layers, prunable_linears


@dataclass(frozen=True)
class WeightUnits:
    """Blocks of `block` = (rows, columns) weights of one linear; single weights when it is (1, 1).

    `parameter` is the full name of the linear's weight. Blocks `with_bias` are whole rows, which own their biases;
    these cost something when `counts_bias`.
    """

    linear: nn.Linear
    parameter: str
    block: tuple[int, int] = (1, 1)
    with_bias: bool = False
    counts_bias: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return self.linear.out_features // self.block[0], self.linear.in_features // self.block[1]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return self.grid[0] * self.grid[1]

    @property
    def cost(self) -> float:
        """Weights in one block, and its bias where that counts."""
        return self.weights + (self.counts_bias and "bias" in self.owned)

    @property
    def step(self) -> int:
        """Blocks are kept one by one."""
        return 1

    @property
    def price(self) -> float:
        """What one block costs."""
        return self.cost

    @property
    def weights(self) -> int:
        """Weights in one block."""
        return self.block[0] * self.block[1]

    def pool(self, transform: Transform) -> Tensor:
        """Sum `transform(weight)` over each block: (count,), fp32, blocks row by row."""
        values = transform(stored(self.linear, "weight").detach()).float()
        if self.block == (1, 1):
            return values.reshape(-1)
        tiles = values.reshape(self.grid[0], self.block[0], self.grid[1], self.block[1])
        return tiles.sum(dim=(1, 3)).reshape(-1)

    def expand(self, mask: Tensor) -> Tensor:
        """Spread a mask (count,) over the weights: (outputs, inputs), same dtype."""
        tiles = mask.reshape(self.grid)
        if self.block == (1, 1):
            return tiles
        return tiles.repeat_interleave(self.block[0], 0).repeat_interleave(self.block[1], 1)

    def collapse(self, mask: Tensor) -> Tensor:
        """The mask (count,) of a mask (outputs, inputs) that is the same all over each block."""
        return mask[:: self.block[0], :: self.block[1]].reshape(-1)

    @property
    def owned(self) -> dict[str, Transform]:
        """The linear's parameters of which units own a part, each with what spreads a mask (count,) over it."""
        owned: dict[str, Transform] = {"weight": self.expand}
        if self.with_bias and self.linear.bias is not None:
            owned["bias"] = lambda mask: mask
        return owned

    def clear(self, kept: Tensor) -> None:
        """Zero the dropped blocks; biases stay, as in the papers, but those of whole rows."""
        with torch.no_grad():
            for name, spread in self.owned.items():
                self.linear.get_parameter(name).masked_fill_(~spread(kept), 0)


def stored(linear: nn.Linear, name: str) -> nn.Parameter:
    """A parameter as it is trained and saved, without the mask that may act on it."""
    if parametrize.is_parametrized(linear, name):
        return linear.get_parameter(f"parametrizations.{name}.original")
    return linear.get_parameter(name)


def block_units(linears: Mapping[str, nn.Linear], block: tuple[int, int] = (1, 1)) -> dict[str, WeightUnits]:
    """Blocks of every linear, by the linear's name; raises InvalidSpec when one does not divide."""
    groups = {}
    for name, linear in linears.items():
        if linear.out_features % block[0] or linear.in_features % block[1]:
            raise InvalidSpec(
                f"Blocks of {block[0]}x{block[1]} do not fit {name}, "
                f"which is {linear.out_features}x{linear.in_features}.",
                param="/granularity",
                remedy="Use a block whose rows and columns divide every matrix.",
            )
        groups[name] = WeightUnits(linear, f"{name}.weight", block)
    return groups


def row_units(model: PreTrainedModel, *, counts_bias: bool = False) -> dict[str, WeightUnits]:
    """Output rows of attention output, FFN in and FFN out, by the linear's name; each owns its bias.

    A row costs the inputs of its matrix, and its bias when `counts_bias`.

    Without its row in FFN in a neuron says what the activation says of 0, which for GELU and ReLU is 0: its column in
    FFN out then does nothing, but is neither zeroed nor counted. So costs add up and the removed ratio is exact; the
    released code of LEAP counts such columns as removed.
    """
    linears = _linears(model, lambda layer: (layer.attention_out, *layer.ffn_in, layer.ffn_out))
    return {
        name: WeightUnits(linear, f"{name}.weight", (1, linear.in_features), True, counts_bias)
        for name, linear in linears.items()
    }


def attention_block_units(model: PreTrainedModel, block: tuple[int, int]) -> dict[str, WeightUnits]:
    """Blocks of query, key, value and attention output; raises InvalidSpec when one does not divide."""
    attention = _linears(model, lambda layer: (layer.query, layer.key, layer.value, layer.attention_out))
    return block_units(attention, block)


def _linears(model: PreTrainedModel, of: Callable[[Layer], tuple[nn.Linear, ...]]) -> dict[str, nn.Linear]:
    """The linears that `of` names in every layer, by full module name."""
    chosen = {linear for layer in layers(model) for linear in of(layer)}
    return {name: linear for name, linear in prunable_linears(model).items() if linear in chosen}
