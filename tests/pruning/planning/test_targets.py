"""What a request may aim at: ratios of four measures, a drop of quality, round sizes."""

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from pruning.errors import InvalidSpec, TargetUnreachable
from pruning.granularity import Granularity
from pruning.planning.costs import ModelShape, largest_ratio, neuron_step
from pruning.planning.parameters import bounds
from pruning.planning.plan import resolve
from pruning.spec import PruneSpec
from tests.pruning.planning.test_plan import CONFIG, PRETRAINED, data
from tests.support.models import DECODERS, FAMILIES, tiny_config, tiny_model

SIZES = CONFIG | {"vocab_size": 1000, "type_vocab_size": 2}
UNITS = 2 * (4 * 128 * 128 + 3 * 128 + 512 * (2 * 128 + 1))
"""Weights and biases of all heads and neurons of the config."""


def plan(config=SIZES, parameters=None, **request):
    if "max_quality_drop" not in request:
        request = {"target_ratio": 0.3} | request
    return resolve(PruneSpec(**request), config, data(), parameters=parameters)


class TestRequest:
    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            ({}, "target_ratio"),
            ({"target_ratio": 0.5, "max_quality_drop": 1.0}, "target_ratio"),
            ({"max_quality_drop": -1.0}, "max_quality_drop"),
            ({"max_quality_drop": 101}, "max_quality_drop"),
            ({"max_quality_drop": 1.0, "quality_candidates": 2}, "quality_candidates"),
            ({"target_ratio": 0.5, "round_to": 12}, "round_to"),
            (
                {"target_ratio": 0.5, "granularity": "unstructured", "target_measure": "latency"},
                "target_measure",
            ),
            ({"target_ratio": 0.5, "granularity": "hybrid", "target_measure": "flops"}, "target_measure"),
        ],
    )
    def test_a_contradiction_names_its_field(self, request_, field):
        with pytest.raises(ValidationError) as caught:
            PruneSpec(**request_)
        assert [error["loc"] for error in caught.value.errors()] == [(field,)]

    def test_exactly_one_target(self):
        assert PruneSpec(target_ratio=0).prunes is False
        assert PruneSpec(target_ratio=0.5).prunes
        assert PruneSpec(max_quality_drop=0).prunes


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_", "param", "remedy"),
        [
            ({"max_quality_drop": 1, "method": "leap"}, "/max_quality_drop", "kprune or magnitude"),
            (
                {"max_quality_drop": 1, "method": "leap", "granularity": "unstructured"},
                "/max_quality_drop",
                "magnitude",
            ),
            ({"max_quality_drop": 1, "granularity": "2:4"}, "/max_quality_drop", "unstructured"),
            (
                {
                    "target_ratio": 0.5,
                    "granularity": "2:4",
                    "target_measure": "parameters",
                    "method": "magnitude",
                },
                "/target_measure",
                "weights",
            ),
            (
                {"target_ratio": 0.5, "granularity": "multilevel:8x8", "target_measure": "parameters"},
                "/target_measure",
                "weights",
            ),
            ({"target_ratio": 0.5, "granularity": "multilevel:8x8", "round_to": 8}, "/round_to", "blocks"),
            ({"max_quality_drop": 1, "recover": True}, "/recover", "target_ratio"),
            ({"max_quality_drop": 1, "target_measure": "latency"}, "/target_measure", "flops"),
            ({"quality_candidates": 5}, "/quality_candidates", "max_quality_drop"),
            ({"latency_batch": 4}, "/latency_batch", "target_measure latency"),
            ({"latency_length": 64}, "/latency_length", "target_measure latency"),
            ({"target_measure": "latency", "latency_length": 512, "evaluate": {"latency": False}}, "", ""),
            ({"granularity": "unstructured", "round_to": 8}, "/round_to", "Leave it out"),
            ({"granularity": "head", "round_to": 4}, "/round_to", "Leave it out"),
            ({"target_ratio": 0, "round_to": 8}, "/round_to", "Leave it out"),
            ({"target_ratio": 0, "target_measure": "parameters"}, "/target_measure", "Leave it out"),
        ],
    )
    def test_what_means_nothing_is_refused_with_a_remedy(self, request_, param, remedy):
        if not param:
            assert plan(**request_).spec.latency_length == 512
            return
        with pytest.raises(InvalidSpec) as caught:
            plan(**request_)
        assert caught.value.param == param
        assert remedy in caught.value.remedy

    def test_a_latency_longer_than_the_model_reads(self):
        with pytest.raises(InvalidSpec) as caught:
            plan(SIZES | {"max_position_embeddings": 256}, target_measure="latency", latency_length=300)
        assert caught.value.param == "/latency_length"

    def test_the_length_that_evaluate_lends_is_checked_too(self):
        untimed = {"latency": False, "sequence_length": 300}
        with pytest.raises(InvalidSpec) as caught:
            plan(SIZES | {"max_position_embeddings": 256}, target_measure="latency", evaluate=untimed)
        assert caught.value.param == "/evaluate/sequence_length"

    def test_more_than_the_layers_have_of_all_parameters(self):
        assert plan(target_measure="parameters", parameters=2 * UNITS, target_ratio=0.45).largest_ratio < 0.5
        with pytest.raises(TargetUnreachable) as caught:
            plan(target_measure="parameters", parameters=2 * UNITS, target_ratio=0.51)
        assert 0.45 < caught.value.nearest < 0.5


class TestPlan:
    def test_a_drop_leaves_the_ratio_open(self):
        found = plan(max_quality_drop=1.5)
        assert (found.method, found.target_measure, found.kind) == ("kprune", "flops", "shrunk")
        assert (found.spec.target_ratio, found.spec.quality_candidates) == (None, 8)
        assert found.cost_after is None
        assert found.largest_ratio > 0.88
        assert plan(max_quality_drop=1.5, granularity="block").method == "magnitude"
        assert plan(PRETRAINED | {"vocab_size": 9}, max_quality_drop=1.5).spec.finetune is not False

    def test_a_latency_is_that_of_what_evaluate_times_first(self):
        found = plan(target_measure="latency", evaluate={"batch_sizes": [4, 1], "sequence_length": 64})
        assert (found.spec.latency_batch, found.spec.latency_length) == (4, 64)
        assert (found.cost_before, found.cost_after, found.largest_ratio) == (None, None, None)
        assert plan(target_measure="latency", latency_batch=2).spec.latency_batch == 2

    def test_neurons_are_kept_in_steps_that_divide_their_width(self):
        assert plan().neuron_step == 8
        assert plan(SIZES | {"intermediate_size": 500}).neuron_step == 4
        assert plan(round_to=1).neuron_step == 1
        assert plan(round_to=64).neuron_step == 64
        assert plan(granularity="row").neuron_step == 1
        assert plan(granularity="row").spec.round_to == 1

    def test_a_drop_smaller_than_one_row_is_warned_of(self):
        def codes(drop):
            return {warning.code for warning in plan(max_quality_drop=drop).warnings}

        assert "coarse_metric" in codes(9.9)  # of 20 validation rows 10 decide
        assert "coarse_metric" not in codes(10.0)

    def test_a_plan_of_these_is_its_own_plan(self):
        for request in (
            {"max_quality_drop": 2.0},
            {"target_measure": "latency"},
            {"target_measure": "parameters", "granularity": "unstructured"},
            {"target_ratio": 0},
        ):
            first = plan(**request)
            assert resolve(first.spec, SIZES, data()) == first


def test_a_step_of_neurons_stays_where_one_neuron_would():
    shape = ModelShape(layers=2, hidden=32, heads=4, head_size=8, ffn=48)
    neurons = Granularity.parse("neuron")
    assert neuron_step(shape, neurons, 16) == 16
    removed = largest_ratio(shape, neurons, "weights", 1.0, step=16) * (2 * (4 * 32 * 32 + 48 * 64))
    assert removed == pytest.approx(2 * 32 * 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parameters_of_every_family_are_within_the_bounds(family):
    for task in ("sequence-classification", "token-classification", "question-answering"):
        config = (model := tiny_model(family, task)).config.to_dict()
        least, most = bounds(config, ModelShape.from_config(config))
        assert least <= model.num_parameters() <= most


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", DECODERS)
def test_the_parameters_of_every_decoder_are_within_the_bounds(family, tied):
    config = tiny_config(family)
    config.tie_word_embeddings = tied
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    said = config.to_dict() if tied else {**config.to_dict(), "tie_word_embeddings": None}
    least, most = bounds(said, ModelShape.from_config(said))
    assert least <= model.num_parameters() <= most
