import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic import ValidationError

from pruning.data.rows import DataSummary
from pruning.errors import InvalidData, InvalidSpec, TargetUnreachable
from pruning.options import Distill, Finetune, Recover
from pruning.planning.catalogue import method
from pruning.planning.costs import ModelShape
from pruning.planning.families import FAMILIES
from pruning.planning.plan import resolve
from pruning.planning.settle import settle
from pruning.spec import PruneSpec

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
}
PRETRAINED = CONFIG | {"architectures": ["BertModel"]}
REGRESSOR = CONFIG | {"id2label": {"0": "LABEL_0"}}


def data(**changes):
    fields = {
        "splits": {"train": 100, "validation": 20},
        "columns": {"text": "text", "label": "integer"},
        "text": "text",
        "label": "label",
        "classes": ("0", "1"),
        "numeric_label": True,
        "mean_characters": 90.0,
        "sha256": {"train.jsonl": "0" * 64},
    }
    return DataSummary(**fields | changes)


def plan(config=CONFIG, summary=None, length=None, **request):
    return resolve(PruneSpec(**{"target_ratio": 0.5} | request), config, summary or data(), length)


REAL_NUMBERS = data(classes=None, columns={"text": "text", "label": "number"})


class TestChoices:
    def test_a_trained_model_is_pruned_without_training(self):
        found = plan()
        assert (found.method, found.target_measure, found.kind) == ("kprune", "flops", "shrunk")
        assert found.spec.finetune is False
        assert found.spec.recover is False
        assert found.spec.distill is False
        assert found.trained_head

    def test_an_untrained_model_is_finetuned_and_pruned_while_training(self):
        found = plan(PRETRAINED)
        assert found.method == "leap"
        assert found.spec.finetune == Finetune()
        assert found.spec.recover == Recover()
        assert found.spec.distill == Distill()

    def test_a_head_for_other_classes_counts_as_untrained(self):
        found = plan(CONFIG, data(classes=("0", "1", "2")))
        assert (found.method, found.trained_head) == ("leap", False)

    def test_auto_prunes_single_weights_while_training(self):
        found = plan(granularity="unstructured")
        assert (found.method, found.target_measure, found.kind) == ("leap", "weights", "zeros")
        assert "zeros_only" in {warning.code for warning in found.warnings}

    @pytest.mark.parametrize(
        ("granularity", "measure", "kind", "notice"),
        [
            ("neuron", "flops", "shrunk", "remote_code"),
            ("head", "flops", "shrunk", "remote_code"),
            ("row", "weights", "zeros", "zeros_only"),
            ("hybrid", "weights", "mixed", "zeros_left"),
        ],
    )
    def test_the_result_is_called_what_it_is(self, granularity, measure, kind, notice):
        found = plan(granularity=granularity, target_ratio=0.2)
        assert (found.target_measure, found.kind) == (measure, kind)
        codes = {warning.code for warning in found.warnings}
        assert notice in codes
        assert ("remote_code" in codes) == (kind in ("shrunk", "mixed"))

    @pytest.mark.parametrize("granularity", ["hybrid", "multilevel"])
    def test_zeros_that_are_filled_are_none_and_less_is_removed_than_asked(self, granularity):
        found = plan(granularity=granularity, target_ratio=0.8, recover={"fill": True})
        assert found.kind == "shrunk"
        codes = {warning.code: warning.message for warning in found.warnings}
        assert "less than 0.8" in codes["filled"]
        assert "zeros_left" not in codes
        plain = plan(granularity=granularity, target_ratio=0.8, recover=True)
        assert (plain.kind, plain.spec.recover.fill) == ("mixed", False)
        assert "filled" not in {warning.code for warning in plain.warnings}

    def test_a_ratio_of_zero_is_finetuning_alone(self):
        found = plan(PRETRAINED, target_ratio=0)
        assert (found.method, found.kind) == ("none", "dense")
        assert found.spec.finetune == Finetune()
        assert found.cost_after == found.cost_before

    def test_real_numbers_are_a_regression(self):
        assert plan(PRETRAINED, REAL_NUMBERS).task == "regression"
        assert plan(REGRESSOR, REAL_NUMBERS).trained_head

    def test_whole_numbers_are_a_regression_for_a_model_with_one_output(self):
        assert plan(REGRESSOR).task == "regression"
        assert plan(CONFIG).task == "sequence-classification"
        assert plan(PRETRAINED, task="regression").task == "regression"

    def test_a_plan_is_its_own_plan(self):
        for request in ({}, {"granularity": "block:32x32"}, {"target_ratio": 0}, {"recover": True}):
            for config in (CONFIG, PRETRAINED):
                first = plan(config, **request)
                assert resolve(first.spec, config, data()) == first


def rows(**columns):
    return data(**{"text": None, "label": None, "classes": None, "numeric_label": False} | columns)


TAGS = rows(tokens="tokens", tags="ner_tags", classes=("B-X", "O"))
QUESTIONS = rows(context="context", question="question", answers="answers")


class TestRows:
    def test_the_rows_say_the_task(self):
        assert plan(PRETRAINED, TAGS).task == "token-classification"
        assert plan(PRETRAINED, QUESTIONS).task == "question-answering"
        reader = CONFIG | {"architectures": ["BertForQuestionAnswering"]}
        assert plan(reader, QUESTIONS).method == "kprune"
        assert plan(CONFIG, TAGS).method == "leap"

    def test_names_for_integers_make_classes_of_them(self):
        found = plan(REGRESSOR, label_names=["bad", "good"])
        assert found.task == "sequence-classification"
        assert resolve(found.spec, REGRESSOR, data()) == found

    def test_windows_share_a_third_of_their_tokens_at_most(self):
        assert plan(PRETRAINED, QUESTIONS).spec.doc_stride == 42
        found = plan(PRETRAINED, QUESTIONS, max_length=512)
        assert found.spec.doc_stride == 128
        assert resolve(found.spec, PRETRAINED, QUESTIONS) == found
        assert plan(PRETRAINED, QUESTIONS, doc_stride=5).spec.doc_stride == 5

    @pytest.mark.parametrize(
        ("summary", "request_", "param", "remedy"),
        [
            (QUESTIONS, {"doc_stride": 43}, "/doc_stride", "at most 42"),
            (QUESTIONS, {"max_length": 31}, "/max_length", "at least 32"),
            (TAGS, {"doc_stride": 20}, "/doc_stride", "Leave it out"),
            (None, {"doc_stride": 20}, "/doc_stride", "Leave it out"),
        ],
    )
    def test_a_stride_that_cannot_be_is_refused(self, summary, request_, param, remedy):
        with pytest.raises(InvalidSpec) as caught:
            plan(PRETRAINED, summary, **request_)
        assert caught.value.param == param
        assert remedy in caught.value.remedy


class TestLength:
    def test_it_is_guessed_from_the_characters(self):
        found = plan()
        assert found.length_estimated
        assert found.length == pytest.approx(20)
        assert plan(max_length=16).length == 16

    def test_a_known_length_is_used(self):
        found = plan(length=33.5)
        assert not found.length_estimated
        assert found.length == 33.5
        assert found.cost_before > plan().cost_before
        assert found.cost_after == pytest.approx(found.cost_before / 2)

    def test_more_tokens_than_positions_are_refused(self):
        short = CONFIG | {"max_position_embeddings": 66}
        with pytest.raises(InvalidSpec, match="at most 66") as caught:
            plan(short)
        assert caught.value.param == "/max_length"
        roberta = short | {"model_type": "roberta"}
        evaluate = {"sequence_length": 65}
        with pytest.raises(InvalidSpec, match="at most 64") as caught:
            plan(roberta, max_length=64, evaluate=evaluate)
        assert caught.value.param == "/evaluate/sequence_length"
        assert plan(roberta, max_length=64, evaluate=evaluate | {"latency": False}).method == "kprune"


@pytest.mark.parametrize(
    ("request_", "param", "remedy"),
    [
        ({"method": "nothing"}, "/method", "kprune"),
        ({"method": "kprune", "granularity": "unstructured"}, "/granularity", "leap or magnitude"),
        ({"method": "kcm"}, "/granularity", "It supports neuron."),
        ({"method": "fisher", "granularity": "row"}, "/granularity", "For row use"),
        ({"method": "kprune", "settings": {"mode": "fast"}}, "/method/mode", "faithful"),
        ({"granularity": "2:4"}, "/granularity", "structured"),
        ({"granularity": "layer", "method": "leap"}, "/granularity", "block"),
        ({"granularity": "block:48x32"}, "/granularity", "Rows can be 1, 2, 4, 8, 16, 32, 64 or 128"),
        ({"granularity": "hybrid:32x96"}, "/granularity", "columns can be 1, 2, 4, 8, 16, 32, 64 or 128"),
        ({"method": "magnitude", "settings": {"norm": "l7"}}, "/method/norm", "l1"),
        ({"method": "magnitude", "settings": {"nor/m": 1}}, "/method/nor~1m", "norm"),
        ({"method": "leap", "settings": {"epochs": 0}}, "/method/epochs", "0"),
        ({"granularity": "unstructured", "allocation": "native"}, "/allocation", "natively"),
        ({"granularity": "row", "allocation": "native"}, "/allocation", "natively"),
        ({"granularity": "head", "allocation": "native"}, "/allocation", "granularity neuron"),
        ({"granularity": "hybrid", "allocation": "native"}, "/allocation", "granularity neuron"),
        ({"distill": {"weight": 0.5}}, "/distill", "recover"),
        ({"recover": {"fill": True}}, "/recover/fill", "granularity hybrid or multilevel"),
        ({"granularity": "block", "recover": {"fill": True}}, "/recover/fill", "granularity hybrid"),
        (
            {"granularity": "neuron", "method": "soft_movement", "settings": {"ffn_weight": 0.5}},
            "/method/ffn_weight",
            "granularity structured or hybrid",
        ),
        (
            {"allocation": "native", "method": "soft_movement", "settings": {"ffn_weight": 0.5}},
            "/method/ffn_weight",
            "allocation native, which removes neurons only",
        ),
        ({"target_ratio": 0, "method": "leap"}, "/method", "ratio above 0"),
        ({"target_ratio": 0, "recover": True}, "/recover", "ratio above 0"),
        ({"target_ratio": 0, "granularity": "block"}, "/granularity", "ratio above 0"),
        ({"target_ratio": 0, "finetune": False}, "/finetune", "target_ratio"),
        ({"target_ratio": 0, "distill": {"weight": 0.5}}, "/distill", "out"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_remedy(request_, param, remedy):
    with pytest.raises(InvalidSpec) as caught:
        plan(**request_)
    assert caught.value.param == param
    assert remedy in str(caught.value)


def test_pruning_an_untrained_head_needs_finetuning():
    for request in ({"finetune": False}, {"finetune": False, "distill": False, "method": "kprune"}):
        with pytest.raises(InvalidSpec) as caught:
            plan(PRETRAINED, **request)
        assert caught.value.param == "/finetune"
    found = plan(PRETRAINED, finetune=False, distill=False, method="leap")
    assert found.spec.finetune is False


def test_a_measure_that_the_method_cannot_aim_at_is_refused():
    flops_only = replace(method("kprune"), measures=("flops",))
    shape = ModelShape.from_config(CONFIG)
    with pytest.raises(InvalidSpec, match="flops") as caught:
        settle(
            PruneSpec(target_ratio=0.5, target_measure="weights"),
            flops_only,
            FAMILIES["bert"],
            shape,
            trained=True,
        )
    assert caught.value.param == "/target_measure"


def test_labels_that_do_not_fit_the_task_are_refused():
    with pytest.raises(InvalidData) as caught:
        plan(CONFIG, REAL_NUMBERS, task="sequence-classification")
    assert caught.value.param == "/task"


class TestReach:
    @pytest.mark.parametrize("method", ["fisher", "kprune", "leap", "magnitude", "random"])
    @pytest.mark.parametrize("allocation", ["global", "native"])
    def test_an_unreachable_target_names_one_that_is_reachable(self, method, allocation):
        request = {"method": method, "allocation": allocation, "granularity": "structured"}
        with pytest.raises(TargetUnreachable) as caught:
            plan(target_ratio=0.999, **request)
        nearest = caught.value.nearest
        assert str(nearest) in str(caught.value)
        assert caught.value.param == "/target_ratio"
        for length in (None, 8.0, 128.0):
            assert plan(target_ratio=nearest, length=length, **request).largest_ratio >= nearest

    def test_methods_that_empty_sublayers_reach_further(self):
        assert plan(method="kprune").largest_ratio > plan(method="leap").largest_ratio
        native = plan(method="kprune", allocation="native").largest_ratio
        assert native == plan(method="leap", allocation="native").largest_ratio

    def test_kcm_ends_where_the_ffns_end(self):
        """Two thirds of BERT's FLOPs; the refusal says how far it goes."""
        request = {"method": "kcm", "granularity": "neuron", "length": 25.16}
        with pytest.raises(TargetUnreachable) as caught:
            plan(target_ratio=0.7, **request)
        assert 0.6 < caught.value.nearest < 2 / 3
        assert str(caught.value.nearest) in str(caught.value)
        assert plan(target_ratio=caught.value.nearest, **request).method == "kcm"

    def test_single_weights_reach_almost_everything(self):
        assert plan(granularity="unstructured", target_ratio=0.999).largest_ratio > 0.999


def test_planning_loads_no_torch():
    program = (
        "import sys, pruning.planning.plan, pruning.delivery.card\n"
        "assert not {'torch', 'transformers', 'sklearn', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_fp16_needs_a_gpu():
    with pytest.raises(ValidationError, match="device 'cuda', or precision 'bf16'") as caught:
        plan(precision="fp16")
    assert caught.value.errors()[0]["loc"] == ("device",)
    assert plan(precision="fp16", device="cuda").spec.precision == "fp16"
