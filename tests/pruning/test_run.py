import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from pruning import prune
from pruning.errors import Canceled, InvalidModel, InvalidSpec, OutOfMemory
from pruning.options import Distill, Finetune, Recover
from pruning.report import Report
from pruning.spec import Evaluation, PruneSpec
from pruning.steps.checkpoint import file_sha256
from tests.support.data import write_dataset
from tests.support.foreseen import assert_foreseen
from tests.support.models import save_tiny, save_untrained

STEPS = ["load", "finetune", "before", "prune", "pruned", "shrink", "recover", "after", "export", "measure"]


def request(**changes):
    fields = {
        "target_ratio": 0.5,
        "method": "magnitude",
        "max_length": 32,
        "evaluate": Evaluation(sequence_length=16, rounds=3, batch_sizes=(1,)),
        "device": "cpu",
    }
    return PruneSpec(**fields | changes)


TRAINED = request(finetune=Finetune(max_steps=6, batch_size=8), recover=Recover(max_steps=4, batch_size=8))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return save_tiny(folder / "model"), write_dataset(folder / "data", train=40, validation=16)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """One job that ran through: (folder, report, events)."""
    out, events = tmp_path_factory.mktemp("out"), []
    return out, prune(TRAINED, *inputs, out, events.append), events


def artifacts(report):
    return {name: digest for name, digest in report.hashes.items() if name.startswith("artifact/")}


class Killed(Exception):
    pass


def kill_at(step):
    def events(event):
        if event.type == "phase" and event.data["step"] == step:
            raise Killed

    return events


class TestWholeJob:
    def test_every_step_runs_once_in_order(self, whole):
        assert [event.data["step"] for event in whole[2] if event.type == "phase"] == STEPS
        told = [event.data["fraction"] for event in whole[2] if event.type == "progress"]
        assert told == sorted(told)

    def test_the_report_says_what_was_done_and_foreseen(self, whole, inputs):
        out, report, _ = whole
        assert_foreseen(report, *inputs)
        assert Report.model_validate_json((out / "report.json").read_text()) == report
        assert (report.kind, report.measure, report.method) == ("shrunk", "flops", "magnitude")
        assert 0.5 <= report.delivered["flops"] < 0.57
        assert report.after.parameters < report.before.parameters
        assert report.load_check.differences.keys() == {"plain", "remote_code"}
        assert (report.stages["finetune"].steps, report.stages["recover"].steps) == (6, 4)
        assert (report.quality.split, report.quality.rows) == ("validation", 16)
        assert report.equality < 1e-4
        assert [entry.batch_size for entry in report.latency] == [1]
        assert report.peak_memory_bytes > 2**20

    def test_the_deliverables_are_there(self, whole):
        out, report, _ = whole
        assert {path.name for path in out.iterdir()} == {
            "model",
            "report.json",
            "plan.json",
            "masks.safetensors",
            "README.md",
            "work",
        }
        masks = load_file(out / "masks.safetensors")
        kept = [int(masks[f"layers.{index}.heads"].sum()) for index in range(2)]
        assert kept == [layer.heads for layer in report.layers]
        assert json.loads((out / "plan.json").read_text())["method"] == "magnitude"

    def test_a_plain_load_answers(self, whole):
        model = AutoModelForSequenceClassification.from_pretrained(whole[0] / "model")
        assert model(torch.tensor([[2, 5, 3]])).logits.shape == (1, 2)

    def test_killed_at_every_step_and_with_a_torn_export_it_gives_the_same_bytes(
        self, whole, inputs, tmp_path
    ):
        for step in STEPS:
            with pytest.raises(Killed):
                prune(TRAINED, *inputs, tmp_path, kill_at(step))
        (tmp_path / "model" / "model.safetensors").write_bytes(b"torn")
        seen = []
        report = prune(TRAINED, *inputs, tmp_path, seen.append)
        assert [event.data["step"] for event in seen if event.type == "phase"] == [
            "load",
            "export",
            "measure",
        ]
        assert artifacts(report) == artifacts(whole[1])
        assert report.quality == whole[1].quality
        assert (tmp_path / "masks.safetensors").read_bytes() == (whole[0] / "masks.safetensors").read_bytes()

    def test_called_again_it_has_nothing_to_do(self, whole, inputs):
        out, report, _ = whole
        seen = []
        assert artifacts(prune(TRAINED, *inputs, out, seen.append)) == artifacts(report)
        assert [event.data["step"] for event in seen if event.type == "phase"] == ["load"]


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (request(granularity="unstructured", recover=Recover(max_steps=3)), "zeros"),
        (request(target_ratio=0.3, method="kprune"), "shrunk"),
        (request(granularity="block:8x8", method="leap", finetune=False), "zeros"),
    ],
    ids=["magnitude", "kprune", "leap"],
)
def test_every_method_delivers_what_was_asked(inputs, tmp_path, spec, kind):
    report = prune(spec, *inputs, tmp_path)
    assert report.kind == kind
    assert spec.target_ratio <= report.delivered[report.measure] < spec.target_ratio + 0.07
    assert (report.after.parameters < report.before.parameters) == (kind == "shrunk")


def test_a_ratio_of_0_only_fine_tunes(inputs, tmp_path):
    model_dir = save_untrained(tmp_path / "encoder")
    spec = request(target_ratio=0, method="auto", finetune=Finetune(epochs=20, learning_rate=3e-3))
    report = prune(spec, model_dir, inputs[1], tmp_path / "out")
    assert (report.kind, report.delivered) == ("dense", {"weights": 0.0, "flops": 0.0, "parameters": 0.0})
    assert report.quality.untrained
    assert report.quality.after["accuracy"] > report.quality.before["accuracy"]
    assert not load_file(tmp_path / "out" / "masks.safetensors")


class TestRefusals:
    def test_a_device_that_is_not_there(self, inputs, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(InvalidSpec) as caught:
            prune(request(device="cuda"), *inputs, tmp_path)
        assert caught.value.param == "/device"

    def test_a_model_without_safetensors(self, inputs, tmp_path):
        model_dir = save_tiny(tmp_path / "model")
        (model_dir / "model.safetensors").rename(model_dir / "pytorch_model.bin")
        with pytest.raises(InvalidModel, match="safetensors"):
            prune(request(), model_dir, inputs[1], tmp_path / "out")

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        ],
    )
    def test_too_little_memory_is_capacity(self, inputs, tmp_path, error):
        def events(event):
            if event.type == "metric":
                raise error

        with pytest.raises(OutOfMemory) as caught:
            prune(request(), *inputs, tmp_path, events)
        assert caught.value.error_class == "capacity"


@pytest.mark.parametrize("step", ["load", "before", "prune", "export"])
def test_cancel_is_heard_in_every_step(inputs, tmp_path, step):
    entered = []

    def events(event):
        if event.type == "phase":
            entered.append(event.data["step"])

    with pytest.raises(Canceled):
        prune(request(), *inputs, tmp_path, events, lambda: "cancel" if step in entered else None)
    assert entered[-1] == step


class TestTeacher:
    REQUEST = TRAINED.model_copy(
        update={
            "finetune": False,
            "distill": Distill(hidden=1.0, attention=1.0),
            "evaluate": Evaluation(latency=False),
        }
    )

    def test_what_one_teacher_taught_is_not_gone_on_with_by_another(self, inputs, tmp_path):
        one, other = (save_tiny(tmp_path / str(seed), hidden=48, layers=4, seed=seed) for seed in (7, 8))
        with pytest.raises(Killed):
            prune(self.REQUEST, *inputs, tmp_path / "out", kill_at("after"), teacher_dir=one)
        steps = []

        def listen(event):
            if event.type == "phase":
                steps.append(event.data["step"])

        report = prune(self.REQUEST, *inputs, tmp_path / "out", listen, teacher_dir=other)
        assert "recover" in steps
        weights = file_sha256(other / "model.safetensors")
        assert report.hashes["teacher/model.safetensors"] == weights
        assert weights in (tmp_path / "out" / "README.md").read_text()
        recovered = {
            load_file(path)["classifier.bias"].numpy().tobytes()
            for path in tmp_path.glob("out/work/*/recover/recovered.safetensors")
        }
        assert len(recovered) == 2

    def test_a_teacher_with_other_words_is_refused(self, inputs, tmp_path):
        teacher = save_tiny(tmp_path / "teacher")
        path = teacher / "tokenizer.json"
        path.write_text(path.read_text().replace('"good"', '"goods"'))
        with pytest.raises(InvalidSpec, match="'good', 'goods'") as caught:
            prune(self.REQUEST, *inputs, tmp_path / "out", teacher_dir=teacher)
        assert caught.value.param == "/teacher"

    def test_what_is_wrong_with_the_teacher_is_said_of_the_teacher(self, inputs, tmp_path):
        teacher = save_tiny(tmp_path / "teacher")
        (teacher / "config.json").write_text("no JSON")
        with pytest.raises(InvalidModel) as caught:
            prune(self.REQUEST, *inputs, tmp_path / "out", teacher_dir=teacher)
        assert caught.value.param == "/teacher"
