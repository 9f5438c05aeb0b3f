import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning.delivery.export import CODE_FILE, export
from pruning.delivery.load_check import check
from pruning.errors import ArtifactBroken, Canceled
from pruning.model.shrink import shrink
from pruning.planning.costs import ModelShape
from tests.support.kept import UNEVEN, bake
from tests.support.models import tiny_inputs, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("real_load_checks")

AUTO_CLASS = "AutoModelForSequenceClassification"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = tiny_model("bert", layers=3)
    bake(model, UNEVEN)
    shrink(model, UNEVEN)
    inputs = tiny_inputs(model)
    with torch.no_grad():
        logits = model(**inputs).logits
    folder = tmp_path_factory.mktemp("exported") / "model"
    shape = ModelShape(layers=3, hidden=32, heads=4, head_size=8, ffn=48)
    export(model, tiny_tokenizer("bert"), shape, UNEVEN, "global", folder)
    rows = {name: value.tolist() for name, value in inputs.items()}
    return folder, rows, logits.tolist(), model.num_parameters()


@pytest.fixture
def broken(exported, tmp_path):
    """A copy of the export that a test may break."""
    folder, inputs, expected, _ = exported
    return shutil.copytree(folder, tmp_path / "model"), inputs, expected


def test_a_good_export_answers_alike_in_both_ways(exported):
    folder, inputs, expected, parameters = exported
    found = check(folder, inputs, expected, AUTO_CLASS)
    assert found.differences.keys() == {"plain", "remote_code"}
    assert max(found.differences.values()) <= 1e-6
    assert found.parameters["remote_code"] == parameters < found.parameters["plain"]


def test_one_changed_weight_is_noticed(broken):
    folder, inputs, expected = broken
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.0.attention.self.value.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactBroken, match="answers differently"):
        check(folder, inputs, expected, AUTO_CLASS)


def test_a_missing_weight_is_noticed_though_transformers_makes_one_up(broken):
    folder, inputs, expected = broken
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactBroken, match=r"classifier\.bias"):
        check(folder, inputs, expected, AUTO_CLASS)


def test_other_code_is_not_run(broken):
    folder, inputs, expected = broken
    (folder / CODE_FILE).write_text((folder / CODE_FILE).read_text() + "\nimport os\n")
    with pytest.raises(ArtifactBroken, match="not the code"):
        check(folder, inputs, expected, AUTO_CLASS)


def test_code_elsewhere_is_not_run(broken):
    folder, inputs, expected = broken
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "someone/else--modeling_pruned.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactBroken, match="auto_map"):
        check(folder, inputs, expected, AUTO_CLASS)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "setup.py", "weights.pkl"])
def test_files_that_no_export_has_are_refused(broken, name):
    folder, inputs, expected = broken
    (folder / name).touch()
    with pytest.raises(ArtifactBroken, match=name):
        check(folder, inputs, expected, AUTO_CLASS)


def test_it_stops_within_a_second(exported):
    folder, inputs, expected, _ = exported
    started = time.monotonic()
    with pytest.raises(Canceled):
        check(folder, inputs, expected, AUTO_CLASS, should_stop=lambda: "cancel")
    assert time.monotonic() - started < 1
