"""What N:M and the layer-wise methods ask of a request. Imports no torch."""

from typing import Any

from pruning.errors import InvalidSpec, TargetUnreachable
from pruning.granularity import Granularity
from pruning.planning.catalogue import MethodInfo
from pruning.planning.costs import pattern_ratio
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec

_OF_OWL = frozenset({"outlier_times", "outlier_spread"})
_ROUNDED = 5e-5
"""How far a ratio written with four digits may be from the fraction that is meant."""


def check_groups(granularity: Granularity, shape: ModelShape) -> None:
    """Raise InvalidSpec unless M divides the inputs of every matrix."""
    assert granularity.shape is not None  # noqa: S101 - N:M always has its two numbers
    _, size = granularity.shape
    for outputs, inputs in shape.matrices:
        if inputs % size:
            raise InvalidSpec(
                f"Groups of {size} weights do not divide the {inputs} inputs of a matrix of {outputs}x{inputs}.",
                param="/granularity",
                remedy="Use an M that divides the inputs of every matrix, such as 2:4.",
            )


def exact_ratio(spec: PruneSpec) -> float | None:
    """The ratio that is aimed at: as asked, or N/M when the asked one is N/M rounded to four digits.

    None where it is to be found, which N:M does not allow. Raises TargetUnreachable for any other ratio of N:M, which
    removes N of every M weights.
    """
    granularity = Granularity.parse(spec.granularity)
    if granularity.kind != "n_m" or spec.target_ratio is None:
        return spec.target_ratio
    exact = pattern_ratio(granularity)
    if abs(spec.target_ratio - exact) > _ROUNDED:
        raise TargetUnreachable(
            f"{spec.granularity} removes exactly {exact:.4g} of the weights, asked were {spec.target_ratio}.",
            nearest=exact,
            remedy=f"Set target_ratio to {exact:.4g}, or choose another N:M.",
        )
    return exact


def check_options(spec: PruneSpec, chosen: MethodInfo) -> None:
    """Raise InvalidSpec for settings of a layer-wise method that contradict the granularity."""
    defaults = {name: field.get("default") for name, field in chosen.schema["properties"].items()}
    settings: dict[str, Any] = defaults | spec.settings
    kind = Granularity.parse(spec.granularity).kind
    if settings.get("layer_ratios") == "owl" and kind == "n_m":
        raise InvalidSpec(
            f"{spec.granularity} removes the same fraction of every layer, so layers cannot differ in their ratios.",
            param="/method/layer_ratios",
            remedy="Leave layer_ratios out.",
        )
    given = sorted(spec.settings.keys() & _OF_OWL) if settings.get("layer_ratios") == "uniform" else []
    if given:
        raise InvalidSpec(
            f"{given[0]} has no meaning when layer_ratios is uniform.",
            param=f"/method/{given[0]}",
            remedy="Leave it out, or set layer_ratios to owl.",
        )
    if "comparison_group" in spec.settings and kind != "unstructured":
        raise InvalidSpec(
            f"comparison_group is about single weights, and {spec.granularity} says itself what competes.",
            param="/method/comparison_group",
            remedy="Leave it out, or use granularity unstructured.",
        )
    if settings.get("swaps") and kind not in ("unstructured", "n_m"):
        raise InvalidSpec(
            f"Swaps exchange single weights, and {spec.granularity} drops more as a whole.",
            param="/method/swaps",
            remedy="Leave swaps out, or use granularity unstructured or N:M.",
        )
