"""Which weights of one matrix may stay together: its tiles, its rows alike, or N:M."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from pruning.masking.select import keep_in_groups, keep_in_rows, keep_top


class Pattern(ABC):
    """A shape of mask on a matrix (outputs, inputs) with a fixed number of kept weights."""

    columns: int
    """Columns that are chosen together: a width that cuts the matrix between tiles or groups is a multiple."""

    @abstractmethod
    def keep(self, losses: Tensor) -> Tensor:
        """The mask (outputs, inputs), bool, that keeps most of `losses`: what dropping weights costs; they add up."""

    @abstractmethod
    def part(self, start: int, stop: int, inputs: int) -> "Pattern":
        """The pattern of the columns from `start` to `stop` of `inputs`; parts side by side make up the whole."""


@dataclass(frozen=True)
class Tiles(Pattern):
    """The `count` best tiles of `block` = (rows, columns) weights of the whole matrix; single weights when (1, 1)."""

    count: int
    block: tuple[int, int] = (1, 1)

    @property
    def columns(self) -> int:  # type: ignore[override]
        """Columns of one tile."""
        return self.block[1]

    def keep(self, losses: Tensor) -> Tensor:
        """The tiles with the largest sums."""
        rows, columns = self.block
        if self.block == (1, 1):
            return keep_top(losses, self.count)
        grid = losses.shape[0] // rows, losses.shape[1] // columns
        kept = keep_top(losses.reshape(grid[0], rows, grid[1], columns).sum(dim=(1, 3)), self.count)
        return kept.repeat_interleave(rows, 0).repeat_interleave(columns, 1)

    def part(self, start: int, stop: int, inputs: int) -> "Tiles":
        """As large a part of the tiles as of the columns; rounding never adds up."""
        return Tiles(self.count * stop // inputs - self.count * start // inputs, self.block)


@dataclass(frozen=True)
class Rows(Pattern):
    """The `count` best single weights, equally many in each row within one (Wanda's comparison group)."""

    count: int
    columns = 1

    def keep(self, losses: Tensor) -> Tensor:
        """The largest of each row."""
        return keep_in_rows(losses, self.count)

    def part(self, start: int, stop: int, inputs: int) -> "Rows":
        """As large a part of the weights as of the columns."""
        return Rows(self.count * stop // inputs - self.count * start // inputs)


@dataclass(frozen=True)
class Groups(Pattern):
    """N:M: of every `size` consecutive inputs of a row all but `zeros` stay."""

    zeros: int
    size: int

    @property
    def columns(self) -> int:  # type: ignore[override]
        """Inputs of one group."""
        return self.size

    def keep(self, losses: Tensor) -> Tensor:
        """The largest of each group."""
        return keep_in_groups(losses, self.size - self.zeros, self.size)

    def part(self, start: int, stop: int, inputs: int) -> "Groups":
        """The same: every group has its own count."""
        return self
