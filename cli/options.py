"""The options of the commands that describe a job, and the request that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import said
from cli.request import dataset_reference, merge, model_reference
from cli.transfers import upload_dataset, upload_model
from client import Model as ModelReply
from client import PruneryClient
from client.jobs import Reference

Model = Annotated[
    str, typer.Option(help="Local Hugging Face folder, mdl_..., job_..., or org/name@revision.")
]
Dataset = Annotated[str, typer.Option(help="Local file or folder, dst_..., or org/name:config@revision.")]
Ratio = Annotated[
    float | None, typer.Option(help="The fraction to remove, 0 <= ratio < 1; 0 only fine-tunes.")
]
MaxDrop = Annotated[
    float | None, typer.Option(help="In place of --ratio: the most points of quality that may be lost.")
]
Teacher = Annotated[
    str | None,
    typer.Option(help="What the model learns from, named as --model is; default: its own dense self."),
]
Granularity = Annotated[str, typer.Option(help="What is removed as a whole; see `prunery methods`.")]
Method = Annotated[str, typer.Option(help="How it is chosen; see `prunery methods`.")]
Measure = Annotated[
    str | None, typer.Option(help="What the ratio counts: weights, flops, parameters or latency.")
]
Task = Annotated[
    str | None,
    typer.Option(
        help="sequence-classification, regression, token-classification, question-answering or causal-lm; "
        "default: inferred."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Devices = Annotated[int, typer.Option(min=1, help="GPUs that share each batch of training.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other field of the request: finetune.epochs=2, method.NAME=VALUE ..."),
]


@dataclass(frozen=True)
class Asked:
    """A request as `PruneryClient.submit` takes it."""

    model: Reference
    dataset: Reference
    ratio: float | None
    fields: dict[str, Any]


def request_fields(
    ratio: float | None,
    *,
    max_drop: float | None,
    granularity: str,
    method: str,
    measure: str | None,
    task: str | None,
    seed: int,
    devices: int,
    assignments: Sequence[str] | None,
) -> dict[str, Any]:
    """The fields of a request beside its inputs; raises BadParameter."""
    if granularity != "vocabulary" and (ratio is None) == (max_drop is None):
        raise typer.BadParameter("give one of --ratio and --max-drop", param_hint="--ratio")
    fields: dict[str, Any] = {"granularity": granularity, "method": {"name": method}, "seed": seed}
    chosen = {
        "target_measure": measure,
        "task": task,
        "max_quality_drop": max_drop,
        "devices": devices if devices > 1 else None,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return merge(fields | given, assignments or ())


def upload_inputs(
    client: PruneryClient,
    model: str,
    dataset: str,
    teacher: str | None,
    ratio: float | None,
    fields: dict[str, Any],
) -> Asked:
    """The request, once what is local is uploaded; raises BadParameter for what is nothing."""

    def uploaded(folder: Path) -> ModelReply:
        return upload_model(client, folder, said)

    model_given = model_reference(model, uploaded)
    if teacher is not None:
        fields = fields | {"teacher": model_reference(teacher, uploaded, "--teacher")}
    dataset_given = dataset_reference(dataset, lambda source: upload_dataset(client, source, said))
    return Asked(model_given, dataset_given, ratio, fields)
