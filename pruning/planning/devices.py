"""May so many devices share the training of a job? Imports no torch."""

from typing import Any

from pruning.errors import InvalidSpec
from pruning.options import Training
from pruning.planning.catalogue import MethodInfo
from pruning.spec import PruneSpec


def check_devices(spec: PruneSpec, chosen: MethodInfo | None) -> None:
    """Raise InvalidSpec when `devices` of a settled request have no training to share, or batches they cannot share.

    `chosen` is None when nothing is pruned.
    """
    if spec.devices == 1:
        return
    batches = _batch_sizes(spec, chosen)
    if not batches:
        raise InvalidSpec(
            f"{spec.devices} devices share each batch of training, and this job trains nothing.",
            param="/devices",
            remedy="Leave devices out, or set recover.",
        )
    for param, size in batches.items():
        if size % spec.devices:
            raise InvalidSpec(
                f"A batch_size of {size} rows does not divide by {spec.devices} devices.",
                param=param,
                remedy=f"Use {_nearest(size, spec.devices)}.",
            )


def _batch_sizes(spec: PruneSpec, chosen: MethodInfo | None) -> dict[str, int]:
    """Rows of one optimizer step in each stage that trains, by the field that says so."""
    stages = {"/finetune/batch_size": spec.finetune, "/recover/batch_size": spec.recover}
    sizes = {param: stage.batch_size for param, stage in stages.items() if isinstance(stage, Training)}
    if chosen is not None and chosen.needs_training:
        default: Any = chosen.schema["properties"]["batch_size"]["default"]
        sizes["/method/batch_size"] = spec.settings.get("batch_size", default)
    return sizes


def _nearest(size: int, devices: int) -> str:
    """The nearest sizes that divide, in words."""
    below = size // devices * devices
    return f"{below} or {below + devices}, or another multiple" if below else str(devices)
