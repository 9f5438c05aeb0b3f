"""The groups of units that each granularity prunes."""

from transformers import PreTrainedModel

from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.masking.slot_units import slot_units
from pruning.masking.units import Units
from pruning.masking.weight_units import attention_block_units, block_units, row_units
from pruning.model.layers import prunable_linears
from pruning.planning.latency import LatencyTable
from pruning.planning.shape import ModelShape
from pruning.spec import Allocation, Measure


def units(
    model: PreTrainedModel,
    shape: ModelShape,
    granularity: Granularity,
    measure: Measure,
    length: float,
    allocation: Allocation,
    *,
    step: int = 1,
    table: LatencyTable | None = None,
) -> dict[str, Units]:
    """The groups that a request may prune, `step` and `table` as in `slot_units`; of `multilevel` the first stage's.

    Raises InvalidSpec for a granularity not made of these units.
    """

    def slots(*kinds: str) -> dict[str, Units]:
        found = slot_units(model, shape, measure, length, allocation, step=step, table=table)
        return {name: group for name, group in found.items() if group.kind in kinds}

    match granularity.kind:
        case "unstructured" | "block":
            return dict(block_units(prunable_linears(model), granularity.shape or (1, 1)))
        case "n_m":
            return dict(block_units(prunable_linears(model)))
        case "row":
            return dict(row_units(model, counts_bias=measure == "parameters"))
        case "head":
            return slots("heads")
        case "neuron":
            return slots("neurons")
        case "structured" | "multilevel":
            return slots("heads", "neurons")
        case "hybrid":
            return {**attention_block_units(model, granularity.shape or (1, 1)), **slots("neurons")}
    raise InvalidSpec(f"Granularity {granularity.kind!r} has no units.", param="/granularity")
