"""Adam written out, for simulations without a model that are long."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass
class Adam:
    """Adam without weight decay on an array of values, which it changes in place (Kingma and Ba 2015, algorithm 1)."""

    values: Floats
    betas: tuple[float, float]
    eps: float
    _mean: Floats = field(init=False)
    _square: Floats = field(init=False)
    _steps: int = 0

    def __post_init__(self) -> None:
        self._mean, self._square = np.zeros_like(self.values), np.zeros_like(self.values)

    def step(self, gradient: Floats, rate: float) -> None:
        """Descend along a gradient in the shape of the values."""
        self._steps += 1
        first, second = self.betas
        self._mean += (1 - first) * (gradient - self._mean)
        self._square += (1 - second) * (gradient * gradient - self._square)
        size = np.sqrt(self._square / (1 - second**self._steps)) + self.eps
        self.values -= rate / (1 - first**self._steps) * self._mean / size
