"""Which method "auto" stands for. Imports no torch."""

from pruning.granularity import Granularity, Kind
from pruning.planning.catalogue import MethodInfo, method
from pruning.planning.family import Family
from pruning.planning.fit import obstacle
from pruning.spec import PruneSpec

_OF_DECODERS: dict[Kind, str] = {
    "structured": "flap",
    "head": "flap",
    "neuron": "flap",
    "unstructured": "sparsegpt",
    "block": "sparsegpt",
    "n_m": "sparsegpt",
    "row": "wanda",
}
"""By granularity, what prunes a decoder best without training it."""


def choose(spec: PruneSpec, trained: bool, family: Family) -> MethodInfo:
    """The method asked for; raises InvalidSpec for an unknown name.

    For "auto" one that does not train, where the model has a `trained` head: K-prune where the family allows it; for
    decoders what fits the granularity, unless `finetune` or `recover` ask for training. Else LEAP, or magnitude
    with `max_quality_drop`, which cuts many times. Whole layers are dropped by depth pruning alone.
    """
    if spec.method != "auto":
        return method(spec.method)
    kind = Granularity.parse(spec.granularity).kind
    if kind == "layer":
        return method("depth")
    kprune = method("kprune")
    fits = _aims(spec, kind, kprune) and obstacle(spec, kprune, family) is None
    if spec.max_quality_drop is not None:
        return kprune if fits else method("magnitude")
    if trained and fits:
        return kprune
    if trained and family.decoder and kind in _OF_DECODERS and not (spec.finetune or spec.recover):
        return method(_OF_DECODERS[kind])
    return method("leap")


def _aims(spec: PruneSpec, kind: Kind, chosen: MethodInfo) -> bool:
    return kind in chosen.granularities and spec.target_measure in (None, *chosen.measures)
