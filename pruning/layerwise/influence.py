"""How much a layer changes the hidden states: block influence (Men et al. 2024, equation 1)."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from pruning.knowledge.draw import Batch
from pruning.layerwise.stream import chosen
from pruning.model.depth import hidden_of, layer_modules


def block_influence(
    model: PreTrainedModel, batches: Sequence[Batch], tick: Callable[[], None]
) -> list[float]:
    """1 - the mean cosine, over tokens that are not padding, of what each layer reads and what it says."""
    modules = layer_modules(model)
    sums = torch.zeros(len(modules), dtype=torch.float64)
    places = {module: index for index, module in enumerate(modules)}
    tokens = 0
    real = torch.empty(0, dtype=torch.bool)

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        before, after = (chosen(each, real).float() for each in (inputs[0], hidden_of(output)))
        sums[places[module]] += float(cosine_similarity(before, after, dim=-1).sum(dtype=torch.float64))

    with torch.no_grad(), ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(note).remove)
        for batch in batches:
            real = batch.real
            model.base_model(**batch.inputs)
            tokens += int(real.sum())
            tick()
    return (1 - sums / max(1, tokens)).tolist()
