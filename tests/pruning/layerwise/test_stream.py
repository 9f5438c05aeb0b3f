"""Layer by layer the rows are where a whole forward pass has them, in every family."""

from collections import defaultdict

import pytest
import torch
from torch import Tensor, nn

from pruning.knowledge.draw import Draw
from pruning.layerwise.statistics import Gram, InputSquares
from pruning.layerwise.stream import Stream
from pruning.model.layers import family, layers, prunable_linears
from tests.support.kprune import random_rows
from tests.support.models import DECODERS, FAMILIES, tiny_model

CPU = torch.device("cpu")


def whole_passes(model, batches) -> tuple[dict[nn.Module, Tensor], dict[int, list[Tensor]]]:
    """What every linear reads of real tokens, first, and what every layer reads, by plain forward passes."""
    read, entered = defaultdict(list), defaultdict(list)
    stack = list(model.base_model.get_submodule(family(model).layers).children())
    hooks = []
    for linear in prunable_linears(model).values():
        hooks.append(linear.register_forward_pre_hook(lambda module, args: read[module].append(args[0])))
    for index, layer in enumerate(stack):
        hooks.append(
            layer.register_forward_pre_hook(lambda _, args, index=index: entered[index].append(args[0]))
        )
    found = defaultdict(list)
    with torch.no_grad():
        for batch in batches:
            model.base_model(**batch.inputs)
            for module, inputs in read.items():
                flat = inputs[0].reshape(-1, inputs[0].shape[-1])
                found[module].append(flat[batch.real.reshape(-1)])
            read.clear()
    for hook in hooks:
        hook.remove()
    return {module: torch.cat(parts) for module, parts in found.items()}, entered


@pytest.mark.parametrize("kind", [*FAMILIES, *DECODERS])
def test_rows_are_where_a_whole_pass_has_them(kind: str) -> None:
    model = tiny_model(kind, layers=3).train()
    draw = Draw.of(random_rows(model, rows=24), 10_000, 0)
    batches = draw.batches(CPU, 2**28)
    assert len(batches) > 1
    assert not all(batch.real.all() for batch in batches)
    read, entered = whole_passes(model.eval(), batches)
    model.train()
    before = {name: len(vars(module)) for name, module in model.named_modules()}
    ticks: list[int] = []
    with Stream.of(model, batches, lambda: ticks.append(0)) as stream:
        for again in range(2):
            for index, layer in enumerate(layers(model)):
                grams = {linear: Gram(linear.in_features, CPU) for linear in (layer.value, layer.ffn_out)}
                stream.collect(index, grams)
                for linear, gram in grams.items():
                    expected = read[linear].T @ read[linear]
                    torch.testing.assert_close(gram.matrix(), expected, rtol=1e-3, atol=1e-3)
                    assert gram.tokens == len(read[linear]) == int(draw.lengths.sum())
                stream.advance(index)
                for number, hidden in enumerate(stream.hidden):
                    if index < 2:
                        torch.testing.assert_close(hidden, entered[index + 1][number], rtol=1e-4, atol=1e-4)
            if not again:
                stream.rewind()
    assert model.training
    assert before == {name: len(vars(module)) for name, module in model.named_modules()}
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert len(ticks) == 2 * 5 * len(batches)


def test_the_linears_that_share_a_statistic_read_the_same() -> None:
    for kind in ("bert", "llama", "modernbert", "gpt2"):
        model = tiny_model(kind)
        batches = Draw.of(random_rows(model, rows=4), 10_000, 0).batches(CPU, 2**28)
        read, _ = whole_passes(model, batches)
        for layer in layers(model):
            assert torch.equal(read[layer.query], read[layer.key])
            assert torch.equal(read[layer.query], read[layer.value])
            assert torch.equal(read[layer.ffn_in[0]], read[layer.ffn_in[-1]])


def test_what_is_below_is_not_computed_again_and_pruned_layers_are_seen() -> None:
    model = tiny_model("bert", layers=3)
    batches = Draw.of(random_rows(model, rows=6), 10_000, 0).batches(CPU, 2**28)
    first, second, third = layers(model)
    calls: list[int] = []
    with Stream.of(model, batches, lambda: None) as stream:
        stream.advance(0)
        first.ffn_out.register_forward_hook(lambda *_: calls.append(0))
        third.query.register_forward_hook(lambda *_: calls.append(2))
        first.ffn_out.weight.data.zero_()
        squares = InputSquares(32, CPU)
        stream.collect(1, {second.value: squares})
        dense = squares.squares
        assert not calls
        stream.rewind()
        stream.advance(0)
        changed = InputSquares(32, CPU)
        stream.collect(1, {second.value: changed})
    assert calls == [0] * len(batches)
    assert not torch.allclose(dense, changed.squares)


def test_half_precision_gives_statistics_in_float32() -> None:
    model = tiny_model("bert")
    batches = Draw.of(random_rows(model, rows=6), 10_000, 0).batches(CPU, 2**28)
    found = {}
    for half in (None, torch.bfloat16):
        with Stream.of(model, batches, lambda: None, half=half) as stream:
            stream.advance(0)
            assert {hidden.dtype for hidden in stream.hidden} == {torch.float32}
            found[half] = Gram(48, CPU)
            stream.collect(1, {layers(model)[1].ffn_out: found[half]})
    assert not torch.equal(found[None].matrix(), found[torch.bfloat16].matrix())
    torch.testing.assert_close(found[None].matrix(), found[torch.bfloat16].matrix(), rtol=0.1, atol=1.0)


def test_a_stop_leaves_the_model_as_it_was() -> None:
    model = tiny_model("llama").train()
    batches = Draw.of(random_rows(model, rows=6), 10_000, 0).batches(CPU, 2**28)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Stream.of(model, batches, stop) as stream:
        stream.advance(0)
    assert model.training
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
