"""Fill in what a request left open, and refuse what contradicts itself. Imports no torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.options import Distill, Finetune, Recover
from pruning.planning.catalogue import GRANULARITIES, MethodInfo, methods
from pruning.planning.compensation import check_compensation
from pruning.planning.costs import block_matrices
from pruning.planning.depth import check_distilled_layers
from pruning.planning.family import Family
from pruning.planning.fit import check_fit
from pruning.planning.levels import check_levels
from pruning.planning.pattern import check_groups, check_options, exact_ratio
from pruning.planning.shape import ModelShape
from pruning.planning.target import settle_target
from pruning.spec import Measure, PruneSpec

_LARGEST_BLOCK = 128
"""Larger blocks work, but are not suggested."""

NO_METHOD = "none"
"""The method of a job that removes nothing."""


def settle_dense(spec: PruneSpec) -> PruneSpec:
    """A ratio of 0 is dense fine-tuning and nothing else; raises InvalidSpec for options of pruning."""
    meaningless: dict[str, tuple[Any, ...]] = {
        "method": ("auto", NO_METHOD),
        "settings": ({},),
        "granularity": ("structured",),
        "target_measure": (None, "weights"),
        "latency_batch": (None,),
        "latency_length": (None,),
        "quality_candidates": (None,),
        "round_to": (None, 1),
        "allocation": ("global",),
        "recover": (None, False),
    }
    for name, values in meaningless.items():
        if getattr(spec, name) not in values:
            raise InvalidSpec(
                f"{name} has no meaning when target_ratio is 0, which only fine-tunes.",
                param=f"/{name}",
                remedy="Leave it out, or ask for a ratio above 0.",
            )
    if isinstance(spec.distill, Distill):
        raise InvalidSpec("Dense fine-tuning has no teacher.", param="/distill", remedy="Leave distill out.")
    if spec.finetune is False:
        raise InvalidSpec(
            "Nothing is left to do.", param="/finetune", remedy="Set finetune, or a target_ratio above 0."
        )
    finetune = spec.finetune if isinstance(spec.finetune, Finetune) else Finetune()
    dense = {"method": NO_METHOD, "finetune": finetune, "recover": False, "distill": False}
    return spec.model_copy(update=dense | {"target_measure": "weights", "round_to": 1})


def settle(
    spec: PruneSpec, chosen: MethodInfo, family: Family, shape: ModelShape, trained: bool
) -> PruneSpec:
    """The request with every default in place; raises InvalidSpec for what contradicts method or model."""
    granularity = Granularity.parse(spec.granularity)
    _check_granularity(granularity, chosen, shape)
    check_fit(spec, chosen, family)
    _check_settings(spec.settings, chosen)
    check_options(spec, chosen)
    check_compensation(spec, chosen, family, shape)
    _check_allocation(spec, granularity)
    _check_meaning(spec, chosen, granularity)
    check_levels(spec.settings, spec, shape)
    recover = _settings(spec.recover, Recover, default=chosen.needs_training)
    measure = _measure(spec, chosen, granularity)
    return spec.model_copy(
        update=settle_target(spec, chosen, family, granularity, measure)
        | {
            "method": chosen.name,
            "target_ratio": exact_ratio(spec),
            "target_measure": measure,
            "finetune": _finetune(spec, chosen, trained),
            "recover": recover,
            "distill": _distill(spec, chosen, shape, trains=chosen.needs_training or recover is not False),
        }
    )


def _check_granularity(granularity: Granularity, chosen: MethodInfo, shape: ModelShape) -> None:
    if granularity.kind not in chosen.granularities:
        able = [entry.name for entry in methods() if granularity.kind in entry.granularities]
        remedy = f"It supports {', '.join(chosen.granularities)}."
        if able:
            remedy += f" For {granularity.kind} use {' or '.join(able)}."
        raise InvalidSpec(
            f"Method {chosen.name} does not support granularity {granularity.kind}.",
            param="/granularity",
            remedy=remedy,
        )
    if granularity.kind in ("block", "hybrid", "multilevel") and granularity.shape is not None:
        _check_blocks(granularity.shape, block_matrices(shape, granularity))
    if granularity.kind == "n_m":
        check_groups(granularity, shape)


def _check_blocks(block: tuple[int, int], matrices: Sequence[tuple[int, int]]) -> None:
    rows, columns = block
    for outputs, inputs in matrices:
        if outputs % rows or inputs % columns:
            raise InvalidSpec(
                f"Blocks of {rows}x{columns} do not divide a matrix of {outputs}x{inputs}.",
                param="/granularity",
                remedy=f"Rows can be {_common_divisors(size for size, _ in matrices)}; "
                f"columns can be {_common_divisors(size for _, size in matrices)}.",
            )


def _common_divisors(sizes: Iterable[int]) -> str:
    """The usable sizes of a block, in words."""
    common = math.gcd(*sizes)
    *smaller, last = (size for size in range(1, min(common, _LARGEST_BLOCK) + 1) if common % size == 0)
    return f"{', '.join(map(str, smaller))} or {last}" if smaller else str(last)


def _check_allocation(spec: PruneSpec, granularity: Granularity) -> None:
    """A config can say one number of neurons for all layers, some also one of heads, which neurons must make exact."""
    if spec.allocation == "global" or granularity.kind in ("structured", "neuron", "layer"):
        return
    if not granularity.removes:
        raise InvalidSpec(
            f"allocation 'native' is about removed units, and {spec.granularity} leaves zeros.",
            param="/allocation",
            remedy="Leave allocation out: such a model loads natively anyway.",
        )
    raise InvalidSpec(
        f"allocation 'native' makes layers of one size, exact to a neuron in every layer; {spec.granularity} does not.",
        param="/allocation",
        remedy="Use granularity neuron or structured, or leave allocation out.",
    )


def _check_settings(settings: Mapping[str, Any], chosen: MethodInfo) -> None:
    known = chosen.schema["properties"]
    for name in settings:
        if name not in known:
            raise InvalidSpec(
                f"Method {chosen.name} has no setting {name!r}.",
                param=_pointer([name]),
                remedy=f"It has {', '.join(sorted(known))}." if known else "It has none.",
            )
    fault = best_match(Draft202012Validator(chosen.schema).iter_errors(settings))
    if fault is not None:
        raise InvalidSpec(f"Method {chosen.name}: {fault.message}.", param=_pointer(fault.absolute_path))


def _check_meaning(spec: PruneSpec, chosen: MethodInfo, granularity: Granularity) -> None:
    """Raise InvalidSpec for a setting that means nothing with what is pruned."""
    kind, asked = granularity.kind, f"granularity {spec.granularity}"
    if kind == "structured" and spec.allocation == "native":
        kind, asked = "neuron", f"{asked} and allocation native, which removes neurons only"
    for name, value in spec.settings.items():
        kinds = chosen.schema["properties"][name].get(GRANULARITIES, [kind])
        if value is not None and kind not in kinds:
            raise InvalidSpec(
                f"Method {chosen.name}: {name} has no meaning with {asked}.",
                param=_pointer([name]),
                remedy=f"Leave it out, or use granularity {' or '.join(kinds)}.",
            )
    if spec.fills and not granularity.mixed:
        raise InvalidSpec(
            f"fill has no meaning with granularity {spec.granularity}: it is for results of which a part is removed "
            "and a part is zero.",
            param="/recover/fill",
            remedy="Leave it out, or use granularity hybrid or multilevel.",
        )


def _pointer(path: Iterable[Any]) -> str:
    """On the wire a method's settings stand beside its name."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "/".join(["/method", *parts])


def _measure(spec: PruneSpec, chosen: MethodInfo, granularity: Granularity) -> Measure:
    measure: Measure = spec.target_measure or ("flops" if granularity.removable else "weights")
    if measure not in chosen.measures:
        raise InvalidSpec(
            f"Method {chosen.name} cannot aim at target_measure {measure}.",
            param="/target_measure",
            remedy=f"It aims at {' or '.join(chosen.measures)}.",
        )
    return measure


def _settings(asked: Any, kind: type[Any], *, default: bool) -> Any:
    """Settings as given, the usual ones for True, False for False; None means the default."""
    on = default if asked is None else asked
    return on if isinstance(on, kind) else (kind() if on else False)


def _finetune(spec: PruneSpec, chosen: MethodInfo, trained: bool) -> Finetune | bool:
    finetune: Finetune | bool = _settings(spec.finetune, Finetune, default=not trained)
    if finetune is False and not trained and (spec.distill is not False or not chosen.needs_training):
        raise InvalidSpec(
            "The model has no trained head for this task, and pruning needs one to learn from.",
            param="/finetune",
            remedy="Leave finetune out, or use method leap with distill false.",
        )
    return finetune


def _distill(spec: PruneSpec, chosen: MethodInfo, shape: ModelShape, *, trains: bool) -> Distill | bool:
    if isinstance(spec.distill, Distill) and spec.distill.attention and shape.queries > 1:
        raise InvalidSpec(
            "Attention is compared head by head, and in this model several queries share a key.",
            param="/distill/attention",
            remedy="Set distill.attention to 0; hidden states can be compared.",
        )
    if isinstance(spec.distill, Distill) and spec.granularity == "layer":
        check_distilled_layers(spec.distill)
    if isinstance(spec.distill, Distill) and not trains:
        raise InvalidSpec(
            "Nothing is trained after pruning, so nothing can be distilled.",
            param="/distill",
            remedy="Leave distill out, or set recover.",
        )
    if spec.distill is False or not trains:
        return False
    return spec.distill if isinstance(spec.distill, Distill) else Distill.model_validate(chosen.distill)
