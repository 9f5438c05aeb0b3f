"""What a linear reads on the calibration rows, summed up: its Gram matrix, or only the sizes of its inputs."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

_BLOCK = 512
"""Rows that are mirrored together."""
_STRIPS = 4
"""Parts of the upper triangle: each costs one product, and a quarter of a part is computed in vain."""


class Statistic(ABC):
    """Sums over tokens. Their scale, the number of tokens, matters to none of the methods."""

    tokens: int = 0

    @property
    @abstractmethod
    def squares(self) -> Tensor:
        """The sum of squares of each input, (inputs,) float32."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Memory that it holds."""

    @abstractmethod
    def _add(self, inputs: Tensor) -> None:
        """Add one chunk in float32."""

    def add(self, inputs: Tensor) -> None:
        """Add what was read, (tokens, inputs)."""
        self._add(inputs.float())
        self.tokens += len(inputs)


class InputSquares(Statistic):
    """The sum of squares of each input."""

    def __init__(self, inputs: int, device: torch.device) -> None:
        self._squares = torch.zeros(inputs, dtype=torch.float64, device=device)

    @property
    def squares(self) -> Tensor:
        """Summed in float64."""
        return self._squares.float()

    @property
    def bytes(self) -> int:
        """One number for each input."""
        return self._squares.nbytes

    def _add(self, inputs: Tensor) -> None:
        self._squares += inputs.square().sum(0)


class Moments(Statistic):
    """The mean and the variance of each input, (inputs,) float64."""

    def __init__(self, inputs: int, device: torch.device) -> None:
        self._sum = torch.zeros(inputs, dtype=torch.float64, device=device)
        self._squares = torch.zeros(inputs, dtype=torch.float64, device=device)

    @property
    def squares(self) -> Tensor:
        """Summed in float64."""
        return self._squares.float()

    @property
    def mean(self) -> Tensor:
        """The mean over tokens."""
        return self._sum / max(1, self.tokens)

    @property
    def variance(self) -> Tensor:
        """The unbiased variance over tokens; 0 of a single one."""
        spread = self._squares - self.tokens * self.mean.square()
        return spread.clamp_min(0) / max(1, self.tokens - 1)

    @property
    def bytes(self) -> int:
        """Two numbers for each input."""
        return self._sum.nbytes + self._squares.nbytes

    def _add(self, inputs: Tensor) -> None:
        values = inputs.double()
        self._sum += values.sum(0)
        self._squares += values.square().sum(0)


class Gram(Statistic):
    """The Gram matrix of the inputs, sum of x xT: (inputs, inputs) float32; only its upper triangle is computed."""

    def __init__(self, inputs: int, device: torch.device) -> None:
        self._sum = torch.zeros(inputs, inputs, device=device)
        self._edges = [inputs * strip // _STRIPS for strip in range(_STRIPS + 1)]

    @property
    def squares(self) -> Tensor:
        """The diagonal."""
        return self._sum.diagonal().clone()

    @property
    def bytes(self) -> int:
        """One number for each pair of inputs."""
        return self._sum.nbytes

    def _add(self, inputs: Tensor) -> None:
        for top, bottom in zip(self._edges, self._edges[1:], strict=False):
            self._sum[top:bottom, top:].addmm_(inputs[:, top:bottom].T, inputs[:, top:])

    def matrix(self) -> Tensor:
        """The whole matrix; it is made in place, so that it exists once."""
        for row in range(0, len(self._sum), _BLOCK):
            rows = slice(row, row + _BLOCK)
            upper = self._sum[rows, row:].clone()
            corner = upper[:, : upper.shape[0]].triu()
            upper[:, : upper.shape[0]] = corner + corner.triu(1).T
            self._sum[rows, row:] = upper
            self._sum[row:, rows] = upper.T
        return self._sum
