"""What whole layers cannot be dropped from, and what cannot be learned of them. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from pruning.errors import InvalidSpec
from pruning.options import Distill
from pruning.spec import PruneSpec

_BY_INDEX = "scale_attn_by_inverse_layer_idx"


def check_depth(spec: PruneSpec, config: Mapping[str, Any]) -> None:
    """Raise InvalidSpec for layers of a model in which its number changes what a layer computes."""
    if spec.granularity == "layer" and spec.prunes and config.get(_BY_INDEX):
        raise InvalidSpec(
            f"Layers of this model compute otherwise when they move down ({_BY_INDEX} in config.json).",
            param="/granularity",
            remedy="Use granularity structured.",
        )


def check_distilled_layers(distill: Distill) -> None:
    """Raise InvalidSpec for what compares layer by layer a model with one that has fewer."""
    for name in ("hidden", "attention"):
        if getattr(distill, name):
            raise InvalidSpec(
                f"distill.{name} compares layers one by one, and some of the result's are gone.",
                param=f"/distill/{name}",
                remedy=f"Set distill.{name} to 0; answers can be compared.",
            )
