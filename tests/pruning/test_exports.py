"""Whole jobs that deliver an ONNX file: what lies in it, what the report says, and that it is made once."""

import numpy as np
import onnxruntime
import pytest

from pruning import prune
from pruning.report import Report
from pruning.spec import Evaluation, PruneSpec
from pruning.steps.checkpoint import file_sha256
from tests.support.data import write_dataset
from tests.support.models import save_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SPEC = PruneSpec(
    target_ratio=0.4,
    method="magnitude",
    max_length=32,
    exports=("onnx",),
    evaluate=Evaluation(sequence_length=16, rounds=3, batch_sizes=(2,)),
    device="cpu",
)


def test_the_file_is_the_pruned_model_and_is_made_once(tmp_path):
    inputs = (
        save_tiny(tmp_path / "model", layers=1),
        write_dataset(tmp_path / "data", train=40, validation=16),
    )
    out = tmp_path / "out"
    report = prune(SPEC, *inputs, out)
    found = report.onnx
    assert found.files == {"model.onnx": file_sha256(out / "onnx" / "model.onnx")}
    assert found.bytes == (out / "onnx" / "model.onnx").stat().st_size
    assert found.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert max(found.differences.values()) < 1e-4
    assert [(entry.batch_size, entry.sequence_length) for entry in found.latency] == [(2, 16)]
    assert "onnx/model.onnx" in (out / "README.md").read_text()
    assert Report.model_validate_json((out / "report.json").read_text()) == report
    assert not [path for path in out.iterdir() if path.name.startswith(".")]

    session = onnxruntime.InferenceSession(out / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    rows = np.ones((3, 9), dtype=np.int64)
    (logits,) = session.run(None, dict.fromkeys(found.inputs, rows))
    assert logits.shape == (3, 2)

    steps = []
    again = prune(SPEC, *inputs, out, lambda event: steps.append(event.data.get("step")))
    assert again.onnx == found
    assert "onnx" not in steps
