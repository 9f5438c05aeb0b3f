"""The step of a job that makes an ONNX file of its result, checks it, and times it."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedModel

from pruning.delivery.onnx_file import OPSET, OnnxModel, Signature, check_onnx, time_onnx, write_onnx
from pruning.methods import Outcome
from pruning.planning.families import FAMILIES
from pruning.report import OnnxExport
from pruning.steps.checkpoint import file_sha256
from pruning.steps.job import Job, json_of
from pruning.steps.stages import final_model, probe

_ONNX = "onnx"
_SECONDS = 0.5


def export_onnx(job: Job, dense_dir: Path, outcome: Outcome | None) -> OnnxExport | None:
    """Write `onnx/model.onnx` when the request asks for it; raises ArtifactBroken when it answers otherwise."""
    if _ONNX not in job.spec.exports:
        return None
    folder = job.out / _ONNX
    if not (job.steps.done(_ONNX) and job.steps.load(_ONNX)["files"] == _hashes(folder)):
        with job.progress.step(_ONNX, "exporting"):
            made = _make(job, final_model(job, dense_dir, outcome).cpu().eval(), folder)
            job.steps.save(_ONNX, json_of(made))
    return OnnxExport.model_validate(job.steps.load(_ONNX))


def _make(job: Job, model: PreTrainedModel, folder: Path) -> OnnxExport:
    family = FAMILIES[model.config.model_type]
    longest = getattr(model.config, family.positions_config) - family.reserved_positions
    inputs = [name for name in probe(job) if name != "labels"]
    signature = Signature.of(model, inputs, longest)
    scratch = job.scratch(_ONNX)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    _beating(job, lambda: write_onnx(model, signature, scratch))
    differences = check_onnx(model, OnnxModel(scratch, signature, 1), signature)
    wanted = job.spec.evaluate
    latency = time_onnx(
        model,
        scratch,
        signature,
        wanted.batch_sizes if wanted.latency else (),
        wanted.sequence_length,
        wanted.rounds,
        should_stop=job.progress.beat,
    )
    size = sum(path.stat().st_size for path in scratch.iterdir())
    shutil.rmtree(folder, ignore_errors=True)
    scratch.replace(folder)
    return OnnxExport(
        files=_hashes(folder),
        inputs=signature.inputs,
        outputs=signature.outputs,
        opset=OPSET,
        longest=signature.longest,
        bytes=size,
        differences=differences,
        latency=tuple(latency),
        versions={name: version(name) for name in ("onnx", "onnxruntime", "onnxscript")},
    )


def _beating(job: Job, work: Callable[[], None]) -> None:
    """Do something long that cannot be asked to stop, and give signs of life; raises Canceled without its result."""
    pool = ThreadPoolExecutor(1)
    try:
        future = pool.submit(work)
        while not future.done():
            job.progress.check()
            wait([future], _SECONDS)
        future.result()
    finally:
        pool.shutdown(wait=False)


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in sorted(folder.glob("*")) if path.is_file()}
