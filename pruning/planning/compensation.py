"""Whether what was dropped can be made up for by biases. Imports no torch."""

from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.planning.catalogue import MethodInfo
from pruning.planning.family import Family
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec

_SETTING = "compensation"


def check_compensation(spec: PruneSpec, chosen: MethodInfo, family: Family, shape: ModelShape) -> None:
    """Raise InvalidSpec for biases that no config.json of the family can say, and for settings of another way."""
    if _SETTING not in chosen.schema["properties"]:
        return
    asked = spec.settings.get(_SETTING, chosen.schema["properties"][_SETTING]["default"])
    if asked != "refit" and spec.settings.get("ridge") is not None:
        raise InvalidSpec(
            f"ridge is about a refit, and {_SETTING} is {asked}.",
            param="/method/ridge",
            remedy=f"Leave it out, or set {_SETTING} to refit.",
        )
    if asked != "bias":
        return
    kind = Granularity.parse(spec.granularity).kind
    heads = kind != "neuron" and (spec.allocation == "global" or shape.free_heads)
    said = {"attention": family.output_bias} if heads else {}
    said |= {"FFN": family.ffn_bias} if kind != "head" else {}
    for part, where in said.items():
        if where is False:
            raise InvalidSpec(
                f"No config.json of this family can say that its {part} has an output bias.",
                param=f"/method/{_SETTING}",
                remedy="Use refit, or none.",
            )
    has = {"attention": shape.output_bias, "FFN": shape.ffn_bias}
    if spec.target_measure == "parameters" and not all(has[part] for part in said):
        raise InvalidSpec(
            "This model gets biases that it did not have, so its parameters cannot be met to a unit.",
            param=f"/method/{_SETTING}",
            remedy="Use refit, or target_measure weights or flops.",
        )
