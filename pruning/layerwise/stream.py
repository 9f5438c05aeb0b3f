"""The calibration rows on their way up: what each layer reads, kept on the host while the layers are pruned."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.knowledge.draw import Batch
from pruning.layerwise.statistics import Statistic
from pruning.model.layers import family

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What a stream computes in, by the precision of a request; single precision where there is none."""

See = Callable[[int, nn.Module, Tensor], None]
"""Told the number of a batch, a module, and what it reads of tokens that are not padding: (tokens, features)."""


class _Enough(Exception):
    """All that was wanted of this forward pass is known."""


class Stream:
    """Runs one layer at a time on all rows, through the model's own code below and around it.

    Masks, positions and whatever else a layer is given come from a forward pass of the model in which the layers below
    are skipped and nothing above is computed. Only hidden states are kept, on the host in float32. Made by `of`; a
    second one may be made while the first is in use, and goes through what the model is by then.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        batches: Sequence[Batch],
        tick: Callable[[], None],
        half: torch.dtype | None,
    ) -> None:
        self._model = model
        self._layers = list(model.base_model.get_submodule(family(model).layers).children())
        self._batches = batches
        self._tick = tick
        self._half = half
        self._returns = 0
        self.hidden: list[Tensor] = []
        """What the next layer reads of every batch, (rows, tokens, hidden); empty before the first has been passed."""

    @classmethod
    @contextmanager
    def of(
        cls,
        model: PreTrainedModel,
        batches: Sequence[Batch],
        tick: Callable[[], None],
        *,
        half: torch.dtype | None = None,
    ) -> Iterator[Self]:
        """`tick` is called after every batch; `half` computes in that precision where autocast allows it.

        The model is in evaluation mode until the end, and is left as it was.
        """
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                yield cls(model, batches, tick, half)
        finally:
            model.train(training)

    def rewind(self) -> None:
        """Back to the lowest layer."""
        self.hidden = []

    def collect(self, index: int, statistics: Mapping[nn.Module, Statistic]) -> None:
        """Add what the modules of layer `index` read to their statistics."""
        self.read(index, tuple(statistics), lambda _, module, inputs: statistics[module].add(inputs))

    def read(self, index: int, modules: Collection[nn.Module], see: See) -> None:
        """Let `see` have what the modules of layer `index` read; nothing behind the last of them is computed.

        Every module must run once in a forward pass of the layer.
        """
        waiting: set[nn.Module] = set()

        def note(number: int, module: nn.Module, inputs: Tensor) -> None:
            see(number, module, inputs)
            waiting.discard(module)
            if not waiting:
                raise _Enough

        with self._below(index) as run, self._watching(modules, note) as current:
            for number in range(len(self._batches)):
                waiting, current[:] = set(modules), [number]
                run(number)
                self._tick()

    def advance(self, index: int, modules: Collection[nn.Module] = (), see: See | None = None) -> None:
        """Move all rows past layer `index`, to what the next layer reads; past the highest layer there is nothing.

        On the way `see` gets what the modules read, as in `read`.
        """
        if index + 1 == len(self._layers):
            if see is not None:
                self.read(index, modules, see)
            return
        risen: list[Tensor] = []

        def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            risen.append(inputs[0].float().cpu())
            raise _Enough

        def look(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self._returns = len(output) if isinstance(output, tuple) else 0

        with self._below(index) as run, self._watching(modules, see) as current, ExitStack() as hooks:
            hooks.callback(self._layers[index].register_forward_hook(look).remove)
            hooks.callback(self._layers[index + 1].register_forward_pre_hook(note).remove)
            for number in range(len(self._batches)):
                current[:] = [number]
                run(number)
                if index:
                    self.hidden[number] = risen.pop()
                self._tick()
        if not index:
            self.hidden = risen

    @contextmanager
    def _watching(self, modules: Collection[nn.Module], see: See | None) -> Iterator[list[int]]:
        """Let `see` have what the modules read while the batch runs whose number is put into the list."""
        current: list[int] = []

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            (number,) = current
            if see is not None:
                see(number, module, chosen(inputs[0], self._batches[number].real))

        with ExitStack() as hooks:
            for module in modules:
                hooks.callback(module.register_forward_pre_hook(note).remove)
            yield current

    @contextmanager
    def _below(self, index: int) -> Iterator[Callable[[int], None]]:
        """What runs the model on the batch of that number, with layer `index` reading the rows where they are."""
        current: list[Tensor] = []

        def enter(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (current[0].to(inputs[0].device, inputs[0].dtype), *inputs[1:])

        def run(number: int) -> None:
            if index:
                current[:] = [self.hidden[number]]
            batch = self._batches[number]
            device = batch.real.device.type
            with torch.autocast(device, self._half, enabled=self._half is not None), _until_enough():
                self._model.base_model(**batch.inputs)

        with ExitStack() as undo:
            if index:
                undo.callback(self._layers[index].register_forward_pre_hook(enter).remove)
            for layer in self._layers[:index]:
                # A layer stays the module that it is, as models read attributes of it; only its work is left out.
                vars(layer)["forward"] = self._skip
                undo.callback(vars(layer).pop, "forward")
            yield run

    def _skip(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        """What stands for a layer below: the rows are not looked at before the next one reads its own."""
        return (hidden, *[None] * (self._returns - 1)) if self._returns else hidden


@contextmanager
def _until_enough() -> Iterator[None]:
    try:
        yield
    except _Enough:
        return


def chosen(values: Tensor, real: Tensor) -> Tensor:
    """The rows of what is not padding: (rows, tokens, inputs) or already (rows * tokens, inputs) to (real, inputs)."""
    flat, kept = values.reshape(-1, values.shape[-1]), real.reshape(-1)
    return flat if bool(kept.all()) else flat[kept]
