"""The stages of training around a method, and distillation: what a person may set of each."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LayerMap = Literal["equal", "nearest", "nearest_in_order"]

LAYERS_MATCHED = 4
"""How many layers of a teacher look for the student's nearest: 3, 6, 9 and 12 of 12 (CoFi); all of fewer."""


class Model(BaseModel):
    """Base of every object that is written and read: frozen, and an unknown field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Asked(Model):
    """Base of what a person asks for: "5" is no number and "yes" is not true."""

    model_config = ConfigDict(strict=True)


_EPOCHS = "Times that the training rows are seen; a part of one is allowed."
_PEAK = "Peak learning rate of the weights (AdamW); it rises from 0 and falls to 0 linearly."


class Training(Asked):
    """One training stage. Steps are optimizer steps; `max_steps` overrides `epochs` when given."""

    epochs: float = Field(default=3.0, gt=0, le=1000, description=_EPOCHS)
    max_steps: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Optimizer steps; when given, in place of epochs."
    )
    learning_rate: float = Field(default=5e-5, gt=0, lt=1, description=_PEAK)
    batch_size: int = Field(default=32, ge=1, le=4096, description="Rows of one optimizer step.")
    warmup_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="Part of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of the weight matrices (AdamW); biases, norms and what a method learns beside the "
        "weights never decay.",
    )


class Finetune(Training):
    """Dense fine-tuning before pruning; the whole job when `target_ratio` is 0."""


class Recover(Training):
    """Fine-tuning after pruning, with fixed masks or, to `fill` them, without."""

    epochs: float = Field(default=1.0, gt=0, le=1000, description=_EPOCHS)
    learning_rate: float = Field(default=3e-5, gt=0, lt=1, description=_PEAK)
    fill: bool = Field(
        default=False,
        description="Of results of which a part is removed and a part is zero (hybrid, multilevel): whether the "
        "zeros in what is left become weights again, small random ones at first, and train with the others (hybrid "
        "filled, Lagunas et al. 2021). Less is removed then than was asked.",
    )


class Distill(Asked):
    """Distillation from a teacher, by default the dense model.

    The loss is weight * T^2 * KL(teacher || student) + (1 - weight) * task loss + hidden * MSE of hidden states
    + attention * MSE of attention probabilities. Padding counts nowhere.
    """

    temperature: float = Field(
        default=2.0, gt=0, le=100, description="T: both distributions of the answers are softened by it."
    )
    weight: float = Field(
        default=0.9, ge=0, le=1, description="Part of the teacher's answers; the rest is the task's loss."
    )
    hidden: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Weight of the mean squared difference of the hidden states, mean over the matched layers.",
    )
    attention: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Weight of the mean squared difference of the attention probabilities, mean over the matched "
        "layers with as many heads in both models; pruned heads are left out.",
    )
    layers: LayerMap = Field(
        default="equal",
        description="Which layers of the hidden states are matched. equal: those of the same index, or every "
        "k-th of the deeper model. nearest: each of four layers of the teacher (all of fewer) with the student's layer "
        "that is least different in the batch, of those that have a head left (CoFi). nearest_in_order: the same from "
        "the last layer down, each with a layer below the one before, for small datasets. Attention always matches "
        "by index.",
    )
    projection: bool = Field(
        default=False,
        description="Whether the student's hidden states go through one learned linear map, at first the "
        "identity. A teacher of another hidden size needs and gets one.",
    )

    @model_validator(mode="after")
    def _every_option_counts(self) -> Self:
        if not self.hidden and (self.projection or self.layers != "equal"):
            raise ValueError(
                "layers and projection are about hidden states: set hidden above 0, or leave them out"
            )
        if not (self.weight or self.hidden or self.attention):
            raise ValueError(
                "nothing is distilled: set weight, hidden or attention above 0, or distill to false"
            )
        return self
