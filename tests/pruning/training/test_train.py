import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pruning.errors import Canceled, PruningError
from pruning.masking.masks import attach_weight_masks
from pruning.options import Distill, Training
from pruning.steps.checkpoint import checkpoints
from pruning.training import watch
from pruning.training.features import hidden_difference
from pruning.training.train import fit
from tests.support.training import classroom, same_weights

OPTIONS = Training(max_steps=20, batch_size=8, learning_rate=1e-3, weight_decay=0.01)
MASKED = "bert.encoder.layer.0.output.dense.weight"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return classroom(tmp_path_factory.mktemp("room"))


def train(room, model, work, *, options=OPTIONS, stop=lambda: None, events=None, **arguments):
    fields = {"seed": 3, "precision": "fp32", "device": torch.device("cpu"), "phase": "finetuning"}
    return fit(
        model,
        room.task,
        room.rows,
        options,
        work=work,
        events=(events if events is not None else []).append,
        should_stop=stop,
        span=(0.2, 0.6),
        **fields | arguments,
    )


def stop_after(steps, reason):
    asked = []

    def should_stop():
        asked.append(None)
        return reason if len(asked) == steps else None

    return should_stop


class Halving:
    """An extension with one parameter on the model, whose schedule depends on the step."""

    def __init__(self, model):
        self.model = model
        self.seen, self.gradients = [], []
        model.register_parameter("extra", nn.Parameter(torch.tensor(1.0)))
        model.register_buffer("strength", torch.tensor(0.0))

    def parameter_groups(self):
        return [{"params": [self.model.extra], "lr": 0.1, "betas": (0.9, 0.99)}]

    def penalty(self):
        return self.model.strength * 100.0 * self.model.extra**2

    def advance(self, step, total):
        self.seen.append((step, total))
        self.model.strength.fill_(step / total)

    def observe(self):
        self.gradients.append(None if self.model.extra.grad is None else self.model.extra.grad.item())

    def metrics(self):
        return {"extra": self.model.extra.item()}


FEATURES = Distill(hidden=2.0, attention=30.0)


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    """A room whose models have another hidden size."""
    return classroom(tmp_path_factory.mktemp("wider"), hidden=48)


@pytest.mark.parametrize("variant", ["plain", "extended", "masked", "distilled", "features", "wider", "bf16"])
def test_a_run_killed_at_11_resumes_bit_for_bit(room, wider, tmp_path, variant):
    def run(work, stop=lambda: None):
        model, arguments = room.model(), {}
        if variant == "extended":
            arguments = {"extension": Halving(model)}
        elif variant == "masked":
            attach_weight_masks(model, {MASKED: model.get_parameter(MASKED) > 0})
        elif variant == "distilled":
            arguments = {"teacher": room.model(), "distill": Distill()}
        elif variant == "features":
            arguments = {"teacher": room.model(), "distill": FEATURES}
        elif variant == "wider":
            nearest = FEATURES.model_copy(update={"layers": "nearest"})
            arguments = {"teacher": wider.model(), "distill": nearest}
        elif variant == "bf16":
            arguments = {"precision": "bf16"}
        return model, train(room, model, work, stop=stop, **arguments)

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Canceled):
        run(tmp_path / "killed", stop_after(11, "preempt"))
    resumed, result = run(tmp_path / "killed")
    assert (result.steps, result.resumed_from) == (20, 11)
    assert same_weights(whole, resumed)
    assert not same_weights(room.model(), resumed)


def test_it_learns(room, tmp_path):
    options = Training(max_steps=60, batch_size=16, learning_rate=3e-3)
    model = room.model(dropout=0.0)
    result = train(room, model, tmp_path, options=options)
    assert result.loss < 0.3
    assert not model.training


def test_a_torn_checkpoint_is_passed_over(room, tmp_path):
    events = []
    with pytest.raises(Canceled):
        train(
            room, room.model(), tmp_path, events=events, stop=stop_after(12, "preempt"), checkpoint_seconds=0
        )
    saved = [event.data["step"] for event in events if event.type == "checkpoint"]
    assert saved == list(range(1, 13))
    newest, _ = checkpoints(tmp_path)
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    model = room.model()
    assert train(room, model, tmp_path).resumed_from == 11
    whole = room.model()
    train(room, whole, tmp_path / "whole")
    assert same_weights(model, whole)


@pytest.mark.parametrize("crash", [2, 7, 12, 19])
def test_a_crash_undoes_no_more_than_the_time_between_checkpoints(room, tmp_path, crash, monkeypatch):
    """Steps of 2 seconds by the clock, checkpoints after 5: at most three steps are done again."""
    now = [0.0]
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Crashed(Exception):
        pass

    def crashing():
        now[0] += 2
        if now[0] == 2 * crash:
            raise Crashed

    with pytest.raises(Crashed):
        train(room, room.model(), tmp_path, stop=crashing, checkpoint_seconds=5)
    resumed = train(room, room.model(), tmp_path).resumed_from
    assert crash - resumed <= 3
    assert resumed == 3 * ((crash - 1) // 3)


def test_a_checkpoint_of_other_settings_is_passed_over(room, tmp_path):
    with pytest.raises(Canceled):
        train(room, room.model(), tmp_path, stop=stop_after(5, "preempt"))
    other = OPTIONS.model_copy(update={"learning_rate": 1e-4})
    assert train(room, room.model(), tmp_path, options=other).resumed_from == 0


def test_cancel_leaves_at_once_without_a_checkpoint(room, tmp_path):
    with pytest.raises(Canceled, match="step 3"):
        train(room, room.model(), tmp_path, stop=stop_after(3, "cancel"))
    assert checkpoints(tmp_path) == []


def test_a_loss_that_is_no_number_is_the_users_to_mend(room, tmp_path):
    model = room.model()
    with torch.no_grad():
        model.classifier.bias.fill_(math.nan)
    with pytest.raises(PruningError, match="loss is nan at step 0") as caught:
        train(room, model, tmp_path)
    assert (caught.value.code, caught.value.error_class) == ("training_diverged", "user")


def test_progress_spans_its_part_of_the_job(room, tmp_path):
    events = []
    extension = Halving(model := room.model())
    train(room, model, tmp_path, events=events, extension=extension)
    told = [event.data for event in events if event.type == "progress"]
    assert told[0]["fraction"] == pytest.approx(0.2)
    assert told[-1]["fraction"] == pytest.approx(0.6)
    assert told[-1]["extra"] == pytest.approx(model.extra.item())
    assert told[-1]["loss"] > 0
    assert extension.seen == [(step, 20) for step in range(20)]
    assert len(extension.gradients) == 20
    assert extension.gradients[1] == pytest.approx(
        2 * 100 / 20
    )  # the penalty's own gradient, neither clipped nor 0


def test_the_extension_has_its_own_learning_rate_and_penalty(room, tmp_path):
    extension = Halving(model := room.model())
    train(room, model, tmp_path, extension=extension)
    assert model.extra.item() < 0.5
    plain = room.model()
    train(room, plain, tmp_path / "plain")
    weights = dict(plain.named_parameters())
    others = {name: value for name, value in model.named_parameters() if name != "extra"}
    assert all(torch.equal(value, weights[name]) for name, value in others.items())


def test_masked_weights_stay_zero(room, tmp_path):
    model = room.model()
    mask = model.get_parameter(MASKED) > 0
    before = model.get_parameter(MASKED).detach().clone()
    masks = attach_weight_masks(model, {MASKED: mask})
    train(room, model, tmp_path)
    masks.bake(model)
    after = model.get_parameter(MASKED)
    assert not after[~mask].any()
    assert not torch.equal(after[mask], before[mask])


def test_training_leaves_no_wrapper_and_no_change_of_config(room, tmp_path):
    model = room.model()
    config = model.config.to_dict()
    train(room, model, tmp_path, precision="bf16")
    assert "forward" not in vars(model)
    assert model.config.to_dict() == config
    assert model(**{"input_ids": torch.tensor([[2, 5, 3]])}).logits.dtype == torch.float32


def test_distillation_leaves_no_projection_and_no_change_of_attention(room, wider, tmp_path):
    model, teacher = room.model(), wider.model()
    names, implementation = list(model.state_dict()), model.config._attn_implementation
    assert implementation != "eager"
    train(room, model, tmp_path, teacher=teacher, distill=FEATURES)
    assert list(model.state_dict()) == names
    assert {one.config._attn_implementation for one in (model, teacher)} == {implementation}


def test_the_projection_learns(room, wider, tmp_path):
    weights = []
    for stop in (2, 15):
        with pytest.raises(Canceled):
            train(
                room,
                room.model(),
                tmp_path,
                teacher=wider.model(),
                distill=FEATURES,
                stop=stop_after(stop, "preempt"),
            )
        newest = checkpoints(tmp_path)[0] / "weights.safetensors"
        weights.append(load_file(newest)["distillation.weight"])
    assert weights[0].shape == (48, 32)
    assert not torch.equal(*weights)


def test_a_student_comes_nearer_to_the_features_of_its_teacher(room, tmp_path):
    torch.manual_seed(0)
    student, teacher = room.model(dropout=0.0), room.model(dropout=0.0)
    with torch.no_grad():
        for parameter in student.bert.encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    inputs = room.rows.batch(range(16))

    def distance():
        kinds = {"output_hidden_states": True}
        answers = [
            one.eval()(inputs["input_ids"], inputs["attention_mask"], **kinds) for one in (student, teacher)
        ]
        own, other = (answer.hidden_states for answer in answers)
        return hidden_difference(own, other, inputs["attention_mask"], "equal").item()

    before = distance()
    train(room, student, tmp_path, teacher=teacher, distill=Distill(weight=0.0, hidden=1.0))
    assert distance() < 0.5 * before


def test_what_a_method_learns_does_not_decay(room, tmp_path):
    """Without a gradient only decay could move the parameter."""
    model = room.model()
    extension = Halving(model)
    extension.penalty = lambda: 0.0 * model.extra
    options = OPTIONS.model_copy(update={"weight_decay": 0.5})
    before = model.get_parameter(MASKED).norm()
    train(room, model, tmp_path, options=options, extension=extension)
    assert model.extra.item() == 1.0
    plain = room.model()
    train(room, plain, tmp_path / "plain", options=OPTIONS.model_copy(update={"weight_decay": 0.0}))
    assert model.get_parameter(MASKED).norm() < plain.get_parameter(MASKED).norm()
    assert before > 0


def test_the_gradient_of_what_a_method_learns_is_clipped_with_no_weight(room, tmp_path):
    """A huge penalty on the extension leaves the weights' steps as they are."""
    trained = []
    for scale in (1.0, 1e6):
        model = room.model()
        extension = Halving(model)
        extension.penalty = lambda model=model, scale=scale: scale * model.extra**2
        train(room, model, tmp_path / str(scale), extension=extension)
        trained.append(model.get_parameter(MASKED))
    assert torch.equal(*trained)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 trains on a GPU only")
def test_fp16_learns_and_resumes_with_its_scale(room, tmp_path):
    arguments = {"precision": "fp16", "device": torch.device("cuda")}
    whole = room.model(dropout=0.0)
    result = train(room, whole, tmp_path / "whole", **arguments)
    assert math.isfinite(result.loss)
    with pytest.raises(Canceled):
        train(
            room,
            room.model(dropout=0.0),
            tmp_path / "killed",
            stop=stop_after(11, "preempt"),
            **arguments,
        )
    assert (checkpoints(tmp_path / "killed")[0] / "scaler.pt").exists()
    resumed = room.model(dropout=0.0)
    train(room, resumed, tmp_path / "killed", **arguments)
    assert same_weights(whole, resumed)
