"""Pruning time against what a method cannot do without: its forward passes. CPU seconds of one thread, in one process.

PRUNERY_DATA=FOLDER python -m benchmarks.floors kprune --ratio 0.7
PRUNERY_DATA=FOLDER python -m benchmarks.floors wanda --work WORK
PRUNERY_DATA=FOLDER python -m benchmarks.floors sparsegpt --work WORK --reference CHECKOUT

K-prune reads all rows once for each sub-layer, from there to the top: its floor are these passes of the dense model,
forward alone. Wanda runs every layer twice, to score it and, pruned, to go on. SparseGPT's solver is timed against the
authors' own (a checkout of IST-DASLab/sparsegpt), on the same Gram matrices of one layer of the same model.
"""

import argparse
import importlib.util
import io
import sys
import time
import types
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.cells import Cell, Setting
from benchmarks.oneshot_decoders import context_of, dense_model


def main() -> None:
    """Print one line for each thing that is timed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("method", choices=("kprune", "wanda", "sparsegpt"))
    parser.add_argument("--ratio", type=float, default=0.7, help="of kprune: FLOPs removed")
    parser.add_argument("--calibration", type=int, default=64, help="of the others: windows of 512 tokens")
    parser.add_argument("--layer", type=int, default=5, help="of sparsegpt: whose matrices")
    parser.add_argument("--work", type=Path, help="folder for the fp32 model")
    parser.add_argument("--reference", type=Path, help="of sparsegpt: the authors' code")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(mode=options.method == "kprune")
    print("| what | CPU s | ratio |\n|---|---|---|")
    {"kprune": kprune, "wanda": wanda, "sparsegpt": sparsegpt}[options.method](options)


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def line(what: str, seconds: float, floor: float) -> None:
    """One row of the table."""
    print(f"| {what} | {seconds:.1f} | {seconds / floor:.2f}x |", flush=True)


def kprune(options: argparse.Namespace) -> None:
    """The passes of the dense model from every sub-layer to the top, then both modes."""
    floor = 0.0
    for mode in ("faithful", "best"):
        setting = Setting.of(Cell(options.ratio, settings={"mode": mode}))
        if not floor:
            floor = timed(partial_passes(setting))
            line("forward passes alone", floor, floor)
        line(f"kprune, {mode}", timed(setting.prune), floor)


def partial_passes(setting: Setting) -> Callable[[], None]:
    """What runs all rows that K-prune draws through every sub-layer and all above it, once for each sub-layer."""
    from pruning.knowledge.draw import Draw
    from pruning.knowledge.ends import Ends
    from pruning.knowledge.sublayers import sublayers
    from pruning.model.layers import layers

    stack = [sublayer for layer in layers(setting.model) for sublayer in sublayers(layer)]
    tokens = setting.plan.spec.settings["calibration_tokens"]
    draw = Draw.of(setting.train, tokens, setting.cell.seed)
    batches = draw.batches(torch.device("cpu"), sum(sublayer.work for sublayer in stack))

    def run() -> None:
        with Ends.of(setting.model, setting.task) as ends, torch.no_grad():
            rows = [ends.embed(batch) for batch in batches]
            for place in range(len(stack)):
                for number, batch in enumerate(batches):
                    hidden = rows[number] = stack[place](rows[number], batch.real)
                    for sublayer in stack[place + 1 :]:
                        hidden = sublayer(hidden, batch.real)
                    ends.logits(batch, ends.read(hidden))

    return run


def wanda(options: argparse.Namespace) -> None:
    """Two passes of the whole model over the windows, then Wanda."""
    cell = {"method": "wanda", "pattern": "unstructured", "ratio": 0.5, "settings": {}}
    with TemporaryDirectory() as scratch:
        context, prune = decoder({**cell, "calibration": options.calibration}, options.work, Path(scratch))
        rows = [context.train.batch([row]) for row in range(options.calibration)]

        def passes() -> None:
            for row in (*rows, *rows):
                context.model.base_model(input_ids=row["input_ids"], use_cache=False)

        floor = timed(passes)
        line("forward passes alone", floor, floor)
        line("wanda", timed(prune), floor)


def sparsegpt(options: argparse.Namespace) -> None:
    """The matrices of one layer five times by the authors' solver and by ours, with the mean error that each leaves."""
    from pruning.layerwise.obs import Inverse
    from pruning.layerwise.obs import sparsegpt as solve
    from pruning.layerwise.patterns import Groups, Pattern, Tiles

    reference, sites = authors(options.reference), grams(options)

    def theirs(two_of_four: bool) -> list[torch.Tensor]:
        return [reference(linear, gram, two_of_four) for gram, linears in sites for linear in linears]

    def ours(two_of_four: bool) -> list[torch.Tensor]:
        found = []
        for gram, linears in sites:
            inverse = Inverse.of(gram, 0.01)
            for linear in linears:
                half = linear.weight.numel() // 2
                pattern: Pattern = Groups(2, 4) if two_of_four else Tiles(half)
                found.append(solve(linear.weight, inverse, pattern).weight)
        return found

    for two_of_four in (False, True):
        floor = 0.0
        for name, all_of_them in (("reference", theirs), ("ours", ours)):
            left = mean_error(sites, all_of_them(two_of_four))  # the first call of each is slower
            seconds = timed(lambda solver=all_of_them, kind=two_of_four: [solver(kind) for _ in range(5)])
            floor = floor or seconds
            line(f"{'2:4' if two_of_four else '50 %'}, {name}: error {left:.5f}", seconds, floor)


def decoder(cell: dict[str, Any], work: Path, scratch: Path) -> tuple[Any, Callable[[], Any]]:
    """The context of a cell on the small decoder, and what prunes it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pruning.methods import create
    from pruning.planning.shape import ModelShape

    folder = dense_model(work)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    shape = ModelShape.from_config(model.config.to_dict())
    context = context_of(model, shape, AutoTokenizer.from_pretrained(folder), cell, scratch)
    return context, lambda: create(cell["method"], context.spec.settings).prune(context)


def grams(options: argparse.Namespace) -> list[tuple[torch.Tensor, list[torch.nn.Linear]]]:
    """The Gram matrix of what the linears of a layer read, with those that read the same."""
    from pruning.knowledge.draw import Draw
    from pruning.layerwise.sites import sites
    from pruning.layerwise.statistics import Gram
    from pruning.layerwise.stream import Stream
    from pruning.masking.weight_units import WeightUnits

    cell = {"method": "sparsegpt", "pattern": "unstructured", "ratio": 0.5, "settings": {}}
    with TemporaryDirectory() as scratch:
        context, _ = decoder({**cell, "calibration": options.calibration}, options.work, Path(scratch))
        groups = {name: each for name, each in context.groups().items() if isinstance(each, WeightUnits)}
        chosen = sites(context.model, groups)[options.layer]
        draw = Draw.of(context.train, 10**9, 0)
        batches = draw.batches(context.device, sum(linear.weight.numel() for linear in linears_of(chosen)))
        found = {site.reader: Gram(site.inputs, context.device) for site in chosen}
        with Stream.of(context.model, batches, lambda: None) as stream:
            for layer in range(options.layer):
                stream.advance(layer)
            stream.collect(options.layer, found)
    return [(found[site.reader].matrix().clone(), linears_of([site])) for site in chosen]


def linears_of(chosen: Any) -> list[torch.nn.Linear]:
    """The linears of some sites."""
    return [group.linear for site in chosen for group in site.groups.values()]


def mean_error(sites: list[tuple[torch.Tensor, list[torch.nn.Linear]]], pruned: list[torch.Tensor]) -> float:
    """The squared change of what each linear says as a part of its square; the mean over linears."""
    dense = [(linear.weight, gram) for gram, linears in sites for linear in linears]
    errors = []
    for (weight, gram), found in zip(dense, pruned, strict=True):
        change = found - weight
        errors.append(float((change @ gram * change).sum() / (weight @ gram * weight).sum()))
    return sum(errors) / len(errors)


def authors(checkout: Path) -> Callable[[torch.nn.Linear, torch.Tensor, bool], torch.Tensor]:
    """The authors' solver, without the quantisation and the wait for a GPU that its file asks for."""
    sys.modules["quant"] = types.ModuleType("quant")
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]
    found = importlib.util.spec_from_file_location("authors", checkout / "sparsegpt.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)

    def solve(linear: torch.nn.Linear, gram: torch.Tensor, two_of_four: bool) -> torch.Tensor:
        copy = torch.nn.Linear(linear.in_features, linear.out_features, bias=False)
        copy.weight.data = linear.weight.data.clone()
        with redirect_stdout(io.StringIO()):
            solver = module.SparseGPT(copy)
            solver.H = gram.clone()
            solver.fasterprune(0.5, *((2, 4) if two_of_four else ()))
        return copy.weight.data

    return solve


if __name__ == "__main__":
    main()
