"""A clock that runs with the work that is done, so that what is timed has one outcome on every machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from pruning.delivery import measure

_SECONDS = 1e-8


class WorkClock:
    """Every multiply-add of a linear layer takes 10 ns; a model's forward pass takes `overhead` seconds more.

    With `tile` a product with fewer inputs than a multiple of it takes as long as one with that many.
    """

    def __init__(self, tile: int = 1) -> None:
        self.seconds = 0.0
        self.overhead = 0.0
        self.tile = tile

    def __call__(self) -> tuple[float, float]:
        """By the wall and by the processor."""
        self.seconds += self.overhead / 2  # asked before and after every pass
        return self.seconds, self.seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, this is the clock of every measurement."""
        handle = register_module_forward_hook(self._work)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measure, "clocks", self)
            try:
                yield
            finally:
                handle.remove()

    def _work(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            padded = -(-module.in_features // self.tile) * self.tile
            self.seconds += _SECONDS * output.numel() * padded
