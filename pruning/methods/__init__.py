"""The pruning methods: one file each in this folder, found by discovery. Adding a method is adding a file."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import ValidationError
from torch import Tensor

from pruning.errors import InvalidSpec
from pruning.events import Event, Events, ShouldStop
from pruning.granularity import Granularity, Kind
from pruning.knowledge.steps import measured
from pruning.masking.granularities import units
from pruning.masking.hybrid import units_left
from pruning.masking.masks import kept_units, weight_masks
from pruning.masking.units import Units
from pruning.options import Asked, Distill
from pruning.planning.costs import Kept, neuron_step, total_cost
from pruning.planning.latency import LatencyTable
from pruning.planning.shape import ModelShape
from pruning.spec import Measure, PruneSpec
from pruning.training.group import ALONE, Group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pruning.planning.plan import Plan
    from pruning.training.tasks import Encoded, Task

METHODS: "dict[str, type[Method]]" = {}
"""Every method by name, filled when this package is imported."""


@dataclass(frozen=True)
class Context:
    """All that a method may use. `model` is on `device`; `work` is the method's own folder for checkpoints.

    `span` is the part (start, end) of the job's progress that belongs to the method; `mean_length` is the
    mean number of real tokens in a training row, which the count of FLOPs needs; `table` says what units cost when
    the ratio is one of the latency, `found` is the ratio of one cut where the request leaves it open, and `shared` the
    folder that all such cuts have in common. `group` are the processes that train together; a method that trains hands
    it to `fit`.
    """

    spec: PruneSpec
    plan: "Plan"
    shape: ModelShape
    model: "PreTrainedModel"
    task: "Task"
    train: "Encoded"
    teacher_dir: Path | None
    device: torch.device
    work: Path
    events: Events
    should_stop: ShouldStop
    span: tuple[float, float]
    mean_length: float
    table: LatencyTable | None = None
    found: float | None = None
    shared: Path | None = None
    group: Group = ALONE

    @property
    def measure(self) -> Measure:
        """What the ratio counts."""
        return self.spec.target_measure or "weights"

    @property
    def ratio(self) -> float:
        """The fraction of the measure that is to be removed."""
        return self.spec.ratio if self.found is None else self.found

    @property
    def granularity(self) -> Granularity:
        """What is dropped as a whole."""
        return Granularity.parse(self.spec.granularity)

    @property
    def total_cost(self) -> float:
        """What the ratio is a fraction of: the cost of the dense model's layers, its parameters, or its latency."""
        if self.table is not None:
            return self.table.dense_ms
        return total_cost(self.shape, self.measure, self.mean_length)

    def groups(self) -> dict[str, Units]:
        """The groups of units that the request may prune."""
        return units(
            self.model,
            self.shape,
            self.granularity,
            self.measure,
            self.mean_length,
            self.spec.allocation,
            step=neuron_step(self.shape, self.granularity, self.spec.round_to or 1),
            table=self.table,
        )

    def budget(self, groups: Mapping[str, Units]) -> float:
        """What the units of `groups` may cost together, so that the whole model keeps 1 - target_ratio."""
        prunable = sum(group.count * group.cost for group in groups.values())
        return prunable - self.ratio * self.total_cost

    def measured(self, name: str, measure: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What `measure` says of the dense model, whatever the ratio: once for all cuts of a job, on the CPU."""
        return measured((self.shared or self.work) / f"{name}.safetensors", measure)

    def outcome(self, groups: Mapping[str, Units], masks: Mapping[str, Tensor], **details: Any) -> "Outcome":
        """The outcome of masks (count,) by group; the model must be baked already."""
        zeros = weight_masks(groups, masks) or None
        kept = None
        if self.granularity.removes:
            kept = kept_units(self.shape, groups, masks)
            if zeros is not None:
                kept = units_left(self.model, zeros, kept)
        return Outcome(kept, zeros, details)

    def progress(self, fraction: float, message: str, **metrics: float) -> None:
        """Say how far the method is: `fraction` of its own span, 0..1."""
        start, end = self.span
        data = {"phase": "pruning", "fraction": start + (end - start) * fraction, "message": message}
        self.events(Event("progress", {**data, **metrics}))


@dataclass(frozen=True)
class Outcome:
    """What a method decided. The model it was given is baked: what was dropped is zero, no hook is left; layers that
    were dropped as a whole are gone.

    `kept` names the heads and neurons of every layer that stay when others are removed; `weight_masks` maps the
    name of each parameter that gets zeros to its mask, True = kept, in the shape that the parameter has in the
    dense model. `hybrid` and `multilevel` have both. `details` is JSON for the report.
    """

    kept: Kept | None = None
    weight_masks: dict[str, Tensor] | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A way to choose what to drop. A subclass with a `name` is registered when its file is imported."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    granularities: ClassVar[frozenset[Kind]]
    measures: ClassVar[frozenset[Measure]]
    needs_training: ClassVar[bool] = False
    """Whether the method trains the model itself, for which it needs labelled rows."""
    schedule_steps: ClassVar[int] = 1
    """Optimizer steps that the schedule of a method that prunes while it trains needs at least."""
    distill: ClassVar[Distill] = Distill()
    """How the method learns from its teacher when the request does not say how."""
    cuts_many: ClassVar[bool] = False
    """Whether a cut costs so little (no training) that several are tried to meet a limit on the quality."""
    empties_sublayers: ClassVar[bool] = False
    """Whether the method may drop every head or every neuron of a layer."""

    class Settings(Asked):
        """The method's own options; every field has a description and bounds."""

    settings: Settings

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "name" in cls.__dict__:
            METHODS[cls.name] = cls

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def prune(self, context: Context) -> Outcome:
        """Prune `context.model` in place to `context.ratio` and leave it baked."""


def create(name: str, settings: Mapping[str, Any]) -> Method:
    """Build the method `name`; raises InvalidSpec naming the setting that does not fit its schema."""
    if name not in METHODS:
        known = ", ".join(sorted(METHODS))
        raise InvalidSpec(f"There is no method {name!r}.", param="/method", remedy=f"Use one of: {known}.")
    method = METHODS[name]
    try:
        return method(method.Settings.model_validate(settings))
    except ValidationError as error:
        first = error.errors()[0]
        pointer = "/".join(["/settings", *map(str, first["loc"])])
        raise InvalidSpec(f"Method {name!r}: {first['msg']}.", param=pointer) from error


for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_module.name}")
