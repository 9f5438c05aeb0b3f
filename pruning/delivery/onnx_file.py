"""A model as an ONNX file for any number of rows and tokens, checked against torch and timed beside it.

The only file of the library that touches ONNX; it reads no ONNX file but those that it wrote.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.delivery.load_check import TOLERANCE
from pruning.delivery.measure import fixed_threads, random_rows, turns
from pruning.errors import ArtifactBroken, InvalidSpec
from pruning.events import ShouldStop
from pruning.report import OnnxLatency

FILE = "model.onnx"
OPSET = 20
LARGEST_IN_ONE_FILE = 1_900_000_000
"""Bytes of weights; a file of the format holds 2 GiB at most. Those of larger models lie in `model.onnx.data`."""

_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_TRACED = (3, 11)
"""Rows and tokens of the batch that is traced: neither 1, which would be taken for a constant."""
_CHECKED = ((1, 2), (2, 16), (5, 7), (3, 40))
"""Rows and tokens of the batches that are compared; all rows but the first are padded."""


def require_onnx() -> None:
    """Raise InvalidSpec where the packages are missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InvalidSpec(
            f"This worker cannot write ONNX: it lacks {', '.join(missing)}.",
            param="/exports",
            remedy="Leave exports out, or install prunery[onnx] on the worker.",
        )


@dataclass(frozen=True)
class Signature:
    """Names of what a model reads and says, the ids that it knows, and the most tokens that it can read."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    vocabulary: int
    padding: int
    longest: int

    @classmethod
    def of(cls, model: PreTrainedModel, inputs: Sequence[str], longest: int) -> "Signature":
        """That of a model in evaluation mode on the CPU, found by asking it once."""
        config = model.config
        empty = cls(tuple(inputs), (), config.vocab_size, config.pad_token_id or 0, longest)
        with torch.inference_mode():
            said = model(**empty.batch(1, 2))
        names = tuple(name for name in said if name.endswith("logits"))
        return cls(empty.inputs, names, empty.vocabulary, empty.padding, longest)

    def batch(self, rows: int, tokens: int) -> dict[str, Tensor]:
        """Random rows of which every one but the first is padded, int64 (rows, tokens) by input."""
        generator = torch.Generator().manual_seed(rows * tokens)
        tokens = min(tokens, self.longest)
        ids = torch.randint(self.vocabulary, (rows, tokens), generator=generator)
        lengths = (tokens - torch.arange(rows)).clamp(min=1)
        mask = torch.arange(tokens)[None, :] < lengths[:, None]
        found = {"input_ids": ids.where(mask, self.padding), "attention_mask": mask.long()}
        return {name: found.get(name, torch.zeros_like(ids)) for name in self.inputs}


class _Plain(nn.Module):
    """A model that takes and gives tensors in a fixed order."""

    def __init__(self, model: PreTrainedModel, signature: Signature) -> None:
        super().__init__()
        self.model = model
        self._signature = signature

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        said = self.model(**dict(zip(self._signature.inputs, tensors, strict=True)), use_cache=False)
        return tuple(said[name] for name in self._signature.outputs)


def write_onnx(
    model: PreTrainedModel, signature: Signature, folder: Path, largest: int = LARGEST_IN_ONE_FILE
) -> None:
    """Write `model.onnx` to the folder, with `model.onnx.data` when weights have more than `largest` bytes.

    The file names nothing of this machine: the exporter's notes on source files are taken out.
    """
    example = signature.batch(*_TRACED)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=signature.longest)}
    with torch.no_grad(), _hushed():
        program: Any = torch.onnx.export(
            _Plain(model, signature),
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_shapes=(tuple(sizes for _ in example),),
            verbose=False,
        )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    program.save(folder / FILE, external_data=weights > largest)


class OnnxModel:
    """An ONNX file in onnxruntime on the CPU, called as the model in torch is."""

    def __init__(self, folder: Path, signature: Signature, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._signature = signature
        self._session = onnxruntime.InferenceSession(
            folder / FILE, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        asked = {name: inputs[name].numpy() for name in self._signature.inputs}
        said = self._session.run(list(self._signature.outputs), asked)
        return {
            name: torch.from_numpy(each) for name, each in zip(self._signature.outputs, said, strict=True)
        }


def check_onnx(model: PreTrainedModel, found: OnnxModel, signature: Signature) -> dict[str, float]:
    """The largest difference of a logit from torch's, by "rows x tokens"; raises ArtifactBroken above rounding."""
    differences: dict[str, float] = {}
    for rows, tokens in _CHECKED:
        batch = signature.batch(rows, tokens)
        with torch.inference_mode():
            expected = model(**batch)
        said = found(**batch)
        at = f"{rows} x {batch['input_ids'].shape[1]}"
        for name in signature.outputs:
            same_shape = said[name].shape == expected[name].shape
            gap = float((said[name] - expected[name]).abs().max()) if same_shape else float("inf")
            if not gap <= TOLERANCE * max(1.0, float(expected[name].abs().max())):
                raise ArtifactBroken(f"The ONNX file answers differently: {name} of {at} by {gap:.3g}.")
            differences[at] = max(gap, differences.get(at, 0.0))
    return differences


def time_onnx(
    model: PreTrainedModel,
    folder: Path,
    signature: Signature,
    batch_sizes: Sequence[int],
    length: int,
    rounds: int,
    *,
    threads: int = 1,
    should_stop: ShouldStop = lambda: None,
) -> list[OnnxLatency]:
    """Time the model in torch against its file in onnxruntime, in turns on the CPU, one entry per batch size."""
    found = OnnxModel(folder, signature, threads)
    entries = []
    with fixed_threads(threads), torch.inference_mode():
        for size in batch_sizes:
            rows = random_rows(signature.vocabulary, size, length)
            batch = {name: rows.get(name, torch.zeros_like(rows["input_ids"])) for name in signature.inputs}
            timed = turns(model, found, batch, rounds, should_stop)
            entries.append(
                OnnxLatency(
                    batch_size=size,
                    sequence_length=length,
                    rounds=rounds,
                    threads=threads,
                    torch_ms=timed.dense_ms,
                    onnx_ms=timed.pruned_ms,
                    speedup=timed.speedup,
                )
            )
    return entries


@contextmanager
def _hushed() -> Iterator[None]:
    """Neither warnings nor log lines of the exporter, which writes pages."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
