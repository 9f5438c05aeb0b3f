"""Groups of units, each unit kept or dropped as a whole.

A unit is one weight, one block or row of a matrix, one attention head or one FFN neuron. All units of a group
have the same cost, so that budgets are sums of counts times costs.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

Transform = Callable[[Tensor], Tensor]
Costs = tuple[float, ...]


class Units(Protocol):
    """One group of units."""

    @property
    def count(self) -> int:
        """How many units there are."""

    @property
    def cost(self) -> float:
        """What keeping one unit costs in the target measure, on average over the group."""

    @property
    def step(self) -> int:
        """How many units are kept or dropped together: a rung."""

    @property
    def price(self) -> "float | Tensor":
        """What keeping one more rung costs; (rungs,) float64 where that depends on how many are kept already."""

    @property
    def weights(self) -> int:
        """How many weights one unit owns."""

    def pool(self, transform: Transform) -> Tensor:
        """Sum `transform(weight)` (elementwise) over the weights of each unit: (count,), fp32."""

    def clear(self, kept: Tensor) -> None:
        """Zero in place all that belongs to units that are False in `kept` (count,)."""
