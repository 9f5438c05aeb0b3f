"""What can be said of a job before it runs. Imports no torch."""

from typing import Literal

from pydantic import Field

from pruning.options import Model

Unit = Literal["head", "neuron", "layer", "block", "row", "weight"]


class Span(Model):
    """A number that is known to lie between two; the same two where it is known exactly."""

    least: float
    most: float

    @classmethod
    def exactly(cls, value: float) -> "Span":
        """A number that is known."""
        return cls(least=value, most=value)


class UnitGroup(Model):
    """One kind of unit of a model, and how many of them the job will remove or set to zero.

    Every number of one layer is the same in each. `weights`, `parameters` and `flops` are those of one unit, `flops` of
    a row of mean length.
    """

    unit: Unit
    of: str = Field(description="The matrices or sub-layers that the units are of.")
    layers: int
    per_layer: int
    stay_per_layer: int = Field(
        description="So many stay in every layer; 0 where a layer may lose all, and one stays in the model."
    )
    step: int = Field(description="Layers keep a multiple of so many.")
    may_keep: tuple[int, ...] | None = Field(
        description="How many a layer may keep, where all layers keep as many and not every number will do."
    )
    weights: int
    parameters: int
    flops: float
    removed: Span | None = Field(description="Of the whole model; null where the job itself finds it out.")


class Grid(Model):
    """Sizes that fit this model, whatever is asked: of blocks, of M in N:M, and of steps of neurons."""

    block_rows: tuple[int, ...]
    block_columns: tuple[int, ...]
    group_sizes: tuple[int, ...] = Field(description="M of N:M.")
    round_to: tuple[int, ...] = Field(description="Values of round_to that divide the neurons of a layer.")


class Sizes(Model):
    """Sizes of a model, as the report of the job will count them.

    `parameters` are those that are stored, zeros included; `weights` the linear weights of the layers that are not
    zero; `flops` those of the layers over a row of mean length; `bytes` the stored tensors in fp32. After pruning
    layers may differ in size: a plain load is then padded with zeros, up to the most `bytes`.
    """

    parameters: Span
    weights: Span
    flops: Span
    bytes: Span


class Memory(Model):
    """Peak bytes of the job's first process, meant to be right within `factor`.

    On a CPU it holds `libraries` (torch and what it loads) and `job`, on a GPU the device holds `job`.
    """

    libraries: int
    job: int
    stage: str = Field(description="The stage that needs most.")
    factor: float


class Work(Model):
    """FLOPs that the job's forward and backward passes will take, by stage.

    `complete` says that they are all that matters: some methods also solve equations, which are not counted.
    """

    training: float
    evaluation: float
    timing: float
    complete: bool

    @property
    def total(self) -> float:
        """All stages."""
        return self.training + self.evaluation + self.timing


class Forecast(Model):
    """What a job will do to a model, and what it will need: counted from config.json, nothing is loaded.

    `after` is null where the job itself finds out how much is removed, or how two stages share it.
    """

    units: tuple[UnitGroup, ...]
    grid: Grid
    before: Sizes
    after: Sizes | None
    memory: Memory
    work: Work
