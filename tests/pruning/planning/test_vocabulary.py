"""What a request that cuts the vocabulary may say, and the plan that it gets."""

import pytest
from pydantic import ValidationError

from pruning.errors import InvalidSpec
from pruning.options import Distill, Finetune, Recover
from pruning.planning.plan import resolve
from pruning.spec import PruneSpec
from tests.pruning.planning.test_plan import CONFIG, PRETRAINED, data

DECODER = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_embd": 128,
    "n_layer": 2,
    "n_head": 2,
    "vocab_size": 100,
    "n_positions": 512,
}
LINES = {"classes": None, "columns": {"text": "text"}, "label": None}


def plan(config=CONFIG, **request):
    return resolve(PruneSpec(granularity="vocabulary", **request), config, data())


def test_the_plan_leaves_open_what_the_dataset_decides():
    found = plan()
    assert (found.kind, found.method, found.target_measure) == ("shrunk", "none", "parameters")
    assert (found.cost_after, found.largest_ratio) == (None, None)
    assert found.spec.finetune is found.spec.recover is found.spec.distill is False
    assert "remote_code" not in {notice.code for notice in found.warnings}
    assert resolve(found.spec, CONFIG, data()) == found


def test_a_new_head_is_trained_first():
    assert plan(PRETRAINED).spec.finetune == Finetune()
    with pytest.raises(InvalidSpec, match="no trained head") as caught:
        plan(PRETRAINED, finetune=False)
    assert caught.value.param == "/finetune"


@pytest.mark.parametrize("target", [{"target_ratio": 0.5}, {"target_ratio": 0}, {"max_quality_drop": 1}])
def test_there_is_no_ratio_to_choose(target):
    with pytest.raises(ValidationError, match="leave target_ratio and max_quality_drop out"):
        PruneSpec(granularity="vocabulary", **target)


@pytest.mark.parametrize(
    "option",
    [
        {"method": "magnitude"},
        {"settings": {"norm": "l1"}},
        {"quality_candidates": 4},
        {"target_measure": "weights"},
        {"latency_batch": 2},
        {"latency_length": 16},
        {"round_to": 8},
        {"allocation": "native"},
        {"recover": Recover()},
        {"distill": Distill()},
    ],
)
def test_an_option_without_meaning_is_refused(option):
    with pytest.raises(InvalidSpec) as caught:
        plan(**option)
    assert caught.value.param == f"/{next(iter(option))}"
    assert caught.value.remedy


def test_a_decoder_is_refused():
    with pytest.raises(InvalidSpec, match="could no longer say") as caught:
        resolve(PruneSpec(granularity="vocabulary"), DECODER, data(**LINES))
    assert caught.value.param == "/granularity"


def test_an_export_form_is_named_once():
    assert plan(exports=["onnx"]).spec.exports == ("onnx",)
    for exports in (["onnx", "onnx"], ["gguf"]):
        with pytest.raises(ValidationError):
            plan(exports=exports)
