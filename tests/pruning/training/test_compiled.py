"""Compiled training: one program for all lengths and all masks, and nothing left behind."""

import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from pruning.errors import Canceled, InvalidSpec
from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.masks import attach_fixed
from pruning.options import Training
from pruning.planning.costs import ModelShape
from pruning.training.compiled import compiled, require_compiler
from pruning.training.train import fit
from tests.support.models import tiny_inputs, tiny_model
from tests.support.training import classroom, same_weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def masked(granularity):
    model = tiny_model("bert", layers=1)
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity.parse(granularity), "weights", 1.0, "global")
    masks = {name: torch.ones(group.count, dtype=torch.bool) for name, group in groups.items()}
    return model, attach_fixed(model, groups, masks)


@pytest.mark.parametrize("granularity", ["structured", "unstructured"])
def test_masks_and_lengths_that_change_compile_nothing_again(granularity):
    model, masks = masked(granularity)
    counter, generator = CompileCounter(), torch.Generator().manual_seed(0)
    programs = []
    with compiled(model, backend=counter):
        for tokens in (11, 17, 9, 20):
            inputs = tiny_inputs(model, tokens=tokens)
            model(**inputs).logits.sum().backward()
            programs.append(counter.frame_count)
            for kept in masks.kept().values():
                kept.copy_(torch.rand(kept.shape, generator=generator) > 0.5)
        answer = model(**inputs).logits
    assert programs == [programs[0]] * 4
    assert programs[0] > 0
    assert torch.allclose(answer, model(**inputs).logits, atol=1e-5)  # the masks act inside the program


def test_a_model_is_left_as_it_was():
    model = tiny_model("bert")
    names = list(model.state_dict())
    with compiled(model, backend="eager"):
        assert list(model.state_dict()) == names
        inside = vars(model)["_compiled_call_impl"]
    assert inside is not None
    assert model._compiled_call_impl is None


@pytest.mark.parametrize(("device", "language"), [("cpu", "C\\+\\+"), ("cuda", "C")])
def test_a_machine_without_a_compiler_says_so(monkeypatch, tmp_path, device, language):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidSpec, match=f"no {language} compiler") as caught:
        require_compiler(torch.device(device))
    assert caught.value.param == "/compile"
    for name in ("g++", "clang++", "gcc"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o700)
    require_compiler(torch.device(device))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_run_learns_what_a_plain_one_learns_and_resumes(tmp_path):
    room = classroom(tmp_path / "room")

    def run(work, *, compile=True, stop_at=None):
        model, asked = room.model(dropout=0.0), []

        def should_stop():
            asked.append(None)
            return "preempt" if len(asked) == stop_at else None

        fit(
            model,
            room.task,
            room.rows,
            Training(max_steps=6, batch_size=8, learning_rate=1e-3),
            seed=3,
            precision="fp32",
            device=torch.device("cpu"),
            work=work,
            events=lambda event: None,
            should_stop=should_stop,
            phase="finetuning",
            span=(0, 1),
            compile=compile,
        )
        return model

    whole, plain = run(tmp_path / "whole"), run(tmp_path / "plain", compile=False)
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(tensor, whole.state_dict()[name], atol=1e-4), name
    with pytest.raises(Canceled, match="Preempted"):
        run(tmp_path / "killed", stop_at=3)
    assert same_weights(whole, run(tmp_path / "killed"))
