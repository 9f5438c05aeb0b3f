"""What methods share that choose heads and neurons once, on the dense model, and then scale those that stay."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from pruning.knowledge.draw import Draw
from pruning.knowledge.ends import Ends
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.rescale import Rescaling, total_work
from pruning.knowledge.sites import Site, sites_of
from pruning.knowledge.steps import Steps
from pruning.knowledge.stream import Stream
from pruning.masking.masks import kept_units
from pruning.masking.units import Units
from pruning.methods import Context, Method, Outcome

_IMITATED = "imitated/"
"""Prefix of the masks of the model that the scaled one imitates, beside those that are delivered."""

Masks = dict[str, Tensor]


@dataclass(frozen=True)
class Search:
    """What the units of a model are chosen from: its sub-layers, and a stream of `rows` rows through them."""

    context: Context
    sites: Sequence[Site]
    groups: Mapping[str, Units]
    stream: Stream
    rows: int


class SearchedSettings(Method.Settings):
    """What is looked at, and whether what stays is scaled."""

    calibration_rows: int = Field(
        default=2048,
        ge=1,
        le=10_000_000,
        description="Training rows to choose by and to rescale with; all when there are fewer.",
    )
    rescale: bool = Field(
        default=True,
        description="Whether units that stay are scaled, so that every sub-layer says what it said in a model that "
        "keeps more.",
    )


class SearchedMethod(Method):
    """Choose all units on the dense model, then scale."""

    measures = frozenset({"flops", "weights", "parameters", "latency"})
    cuts_many = True
    settings: SearchedSettings

    @abstractmethod
    def choose(self, search: Search) -> tuple[Masks, Masks]:
        """The masks (units,) of the result, and those of the model that it imitates: of the dense one none."""

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; the masks and every rescaled sub-layer are kept in `context.work`."""
        groups = context.groups()
        sites = sites_of(context.model, groups)
        work = sum(site.sublayer.work for site in sites)
        draw = Draw.rows(context.train, self.settings.calibration_rows, context.spec.seed)
        batches = draw.batches(context.device, work)
        pulse = Pulse(context, len(batches) * total_work(sites))
        steps = Steps(context.work)
        with Ends.of(context.model, context.task) as ends:
            stream = Stream(ends, batches, pulse.beat, bf16=context.spec.precision == "bf16")
            if not steps.chosen:
                pulse.begin("measuring", 2.0 * work)
                masks, imitated = self.choose(Search(context, sites, groups, stream, len(draw)))
                steps.chosen = {**masks, **{_IMITATED + name: mask for name, mask in imitated.items()}}
            masks = {name: steps.chosen[name] for name in groups}
            if self.settings.rescale:
                imitated = {
                    name: steps.chosen[_IMITATED + name]
                    for name in groups
                    if _IMITATED + name in steps.chosen
                }
                Rescaling(sites, stream, steps, pulse, imitated, masks).run()
        for name, group in groups.items():
            group.clear(masks[name].to(context.device))
        details = {"rows": len(draw), "tokens": int(draw.lengths.sum())}
        return Outcome(kept=kept_units(context.shape, groups, masks), details=details)
