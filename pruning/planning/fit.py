"""Whether a method can prune a model family. Imports no torch."""

from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.planning.catalogue import MethodInfo, methods
from pruning.planning.family import Family
from pruning.spec import PruneSpec


def check_fit(spec: PruneSpec, chosen: MethodInfo, family: Family) -> None:
    """Raise InvalidSpec when the method, or what it would remove, does not suit the family."""
    reason = obstacle(spec, chosen, family)
    if reason is not None:
        kind = Granularity.parse(spec.granularity).kind
        fitting = [entry for entry in methods() if kind in entry.granularities]
        able = [entry.name for entry in fitting if obstacle(spec, entry, family) is None]
        raise InvalidSpec(
            f"Method {chosen.name} cannot prune this family: {reason}.",
            param="/method",
            remedy=f"Use {' or '.join(able)}.",
        )
    if family.fewest_heads is None and _removes_heads(spec):
        raise InvalidSpec(
            "All layers of this family share one table of relative positions, with a column per head: "
            "no head can be removed.",
            param="/granularity",
            remedy="Use granularity neuron, or allocation native, which removes neurons only."
            if Granularity.parse(spec.granularity).removable
            else "Use granularity hybrid or block.",
        )


def obstacle(spec: PruneSpec, chosen: MethodInfo, family: Family) -> str | None:
    """Why the method cannot prune the family as asked, None when it can."""
    if chosen.name in family.unsupported:
        return family.unsupported[chosen.name]
    if chosen.empties_sublayers and family.fewest_heads and _removes_heads(spec):
        return "it may remove every head of a layer, which the family's code cannot do without"
    kind = Granularity.parse(spec.granularity).kind
    if chosen.empties_sublayers and family.fewest_neurons and kind in ("neuron", "structured"):
        return "it may remove every neuron of a layer, which the family's code cannot do without"
    return None


def _removes_heads(spec: PruneSpec) -> bool:
    granularity = Granularity.parse(spec.granularity)
    return granularity.kind in ("structured", "head", "multilevel") and spec.allocation == "global"
