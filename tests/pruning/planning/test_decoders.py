"""Planning for decoders: tasks, windows, layers of one size, and what is refused."""

import pytest

from pruning.data.rows import DataSummary
from pruning.errors import InvalidData, InvalidModel, InvalidSpec, TargetUnreachable
from pruning.options import Distill
from pruning.planning.costs import head_cost
from pruning.planning.families import FAMILIES
from pruning.planning.plan import resolve
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 2048,
}
GPT2 = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_embd": 128,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": None,
    "n_positions": 256,
}
BERT = LLAMA | {"model_type": "bert", "architectures": ["BertModel"], "max_position_embeddings": 512}


def data(**changes):
    fields = {
        "splits": {"train": 1000, "validation": 20},
        "columns": {"text": "text"},
        "text": "text",
        "mean_characters": 90.0,
        "sha256": {"train.jsonl": "0" * 64},
    }
    return DataSummary(**fields | changes)


LABELLED = data(label="label", classes=("0", "1"), columns={"text": "text", "label": "integer"})


def plan(config=LLAMA, summary=None, **request):
    return resolve(
        PruneSpec(**{"target_ratio": 0.5, "method": "magnitude"} | request), config, summary or data()
    )


def test_perplexity_has_no_points_that_could_be_lost():
    with pytest.raises(InvalidSpec) as caught:
        plan(target_ratio=None, max_quality_drop=1.0)
    assert caught.value.param == "/max_quality_drop"
    assert "target_ratio" in caught.value.remedy


@pytest.mark.parametrize("measure", ["weights", "parameters"])
def test_heads_of_a_decoder_have_the_biases_of_their_family(measure):
    costs = {}
    for family in ("llama", "qwen2"):
        costs[family] = head_cost(ModelShape.from_config(LLAMA | {"model_type": family}), measure, 1.0)
    size = 128 // 8
    assert costs["llama"] == 2 * (2 + 1) * 128 * size  # two queries share a key and a value
    assert costs["qwen2"] == costs["llama"] + (4 * size if measure == "parameters" else 0)


@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_lines_and_a_trained_decoder_need_no_choice(config):
    found = plan(config)
    assert (found.task, found.trained_head, found.kind) == ("causal-lm", True, "shrunk")
    assert (found.spec.finetune, found.spec.doc_stride, found.length) == (False, None, 128)
    assert resolve(found.spec, config, data()) == found
    assert plan(config, method="auto").method == "flap"


@pytest.mark.parametrize(
    ("request_", "method"),
    [
        ({"granularity": "neuron"}, "flap"),
        ({"granularity": "head", "target_ratio": 0.1}, "flap"),
        ({"granularity": "layer"}, "depth"),
        ({"granularity": "unstructured"}, "sparsegpt"),
        ({"granularity": "2:4"}, "sparsegpt"),
        ({"granularity": "block:4x4"}, "sparsegpt"),
        ({"granularity": "row", "target_ratio": 0.2}, "wanda"),
        ({"granularity": "hybrid:4x4"}, "leap"),
        ({"recover": True}, "leap"),
        ({"finetune": True}, "leap"),
        ({"granularity": "layer", "recover": True}, "depth"),
    ],
)
def test_auto_is_what_fits_the_granularity_without_training(request_, method):
    assert plan(method="auto", **request_).method == method


def test_auto_trains_where_there_is_no_trained_head():
    assert plan(LLAMA | {"architectures": ["LlamaModel"]}, method="auto").method == "leap"


class TestLayers:
    def test_the_first_always_stays(self):
        found = plan(LLAMA | {"num_hidden_layers": 8}, method="depth", granularity="layer")
        assert (found.largest_ratio, found.kind) == (0.875, "shrunk")
        assert [notice.code for notice in found.warnings] == []
        with pytest.raises(TargetUnreachable) as caught:
            plan(LLAMA, method="depth", granularity="layer", target_ratio=0.6)
        assert caught.value.nearest == 0.5

    def test_layers_of_one_size_they_are_anyway(self):
        assert plan(method="depth", granularity="layer", allocation="native").kind == "shrunk"

    @pytest.mark.parametrize(
        ("config", "request_", "param"),
        [
            (LLAMA, {"target_measure": "parameters"}, "/target_measure"),
            (LLAMA, {"target_measure": "latency"}, "/target_measure"),
            (LLAMA, {"round_to": 8}, "/round_to"),
            (LLAMA, {"recover": True, "distill": Distill(hidden=1.0)}, "/distill/hidden"),
            (GPT2, {"recover": True, "distill": Distill(attention=1.0)}, "/distill/attention"),
            (GPT2 | {"scale_attn_by_inverse_layer_idx": True}, {}, "/granularity"),
            (LLAMA, {"settings": {"criterion": "best"}}, "/method/criterion"),
        ],
    )
    def test_what_cannot_be_done_is_refused_by_field(self, config, request_, param):
        with pytest.raises(InvalidSpec) as caught:
            plan(config, granularity="layer", **{"method": "depth"} | request_)
        assert caught.value.param == param


BIAS = {"method": "flap", "settings": {"compensation": "bias"}, "target_ratio": 0.2}


class TestCompensation:
    @pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
    def test_biases_where_a_config_can_say_them(self, family):
        config = GPT2 if family == "gpt2" else LLAMA | {"model_type": family, "ffn_dim": 512}
        assert plan(config, **BIAS).method == "flap"

    @pytest.mark.parametrize(
        ("family", "request_", "param"),
        [
            ("mistral", {}, "/method/compensation"),
            ("qwen2", {"granularity": "head", "target_ratio": 0.1}, "/method/compensation"),
            ("qwen3", {}, "/method/compensation"),
            ("gemma", {"granularity": "neuron"}, "/method/compensation"),
            ("llama", {"target_measure": "parameters"}, "/method/compensation"),
            ("llama", {"settings": {"compensation": "bias", "ridge": 0.1}}, "/method/ridge"),
        ],
    )
    def test_what_no_config_can_say_is_refused(self, family, request_, param):
        with pytest.raises(InvalidSpec) as caught:
            plan(LLAMA | {"model_type": family, "vocab_size": 64}, **BIAS | request_)
        assert caught.value.param == param

    def test_heads_of_a_qwen3_can_have_them(self):
        request = BIAS | {"granularity": "head", "target_ratio": 0.1}
        assert plan(LLAMA | {"model_type": "qwen3"}, **request).method == "flap"


def test_a_body_without_its_head_is_trained_first():
    assert not plan(LLAMA | {"architectures": ["LlamaModel"]}).trained_head


def test_sizes_are_read_by_family():
    assert ModelShape.from_config(GPT2) == ModelShape(
        layers=2, hidden=128, heads=4, head_size=32, ffn=512, fused=True, causal=True
    )
    wide = ModelShape.from_config(LLAMA | {"model_type": "qwen3", "head_dim": 64})
    assert (wide.heads, wide.queries, wide.head_size, wide.width) == (4, 2, 64, 512)
    assert wide.matrices == ((512, 128), (256, 128), (256, 128), (128, 512), *((512, 128),) * 2, (128, 512))
    alone = ModelShape.from_config({name: value for name, value in LLAMA.items() if "key_value" not in name})
    assert (alone.heads, alone.queries) == (8, 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3"),
        ({"num_key_value_heads": 16}, "num_key_value_heads"),
        ({"head_dim": 0}, "head_dim"),
        ({"hidden_size": 100}, "hidden_size = 100"),
    ],
)
def test_a_bad_config_is_refused_by_field(change, field):
    with pytest.raises(InvalidModel, match=field):
        ModelShape.from_config(LLAMA | change)


def test_other_decoders_are_refused_with_the_list():
    with pytest.raises(InvalidModel, match="falcon") as caught:
        plan(LLAMA | {"model_type": "falcon"})
    decoders = caught.value.remedy.partition("decoders")[2]
    assert {name.strip(" .") for name in decoders.split(",")} == {
        name for name, family in FAMILIES.items() if family.decoder
    }


@pytest.mark.parametrize(
    ("config", "summary", "request_", "error", "param"),
    [
        (LLAMA, LABELLED, {}, InvalidSpec, "/task"),
        (LLAMA, data(), {"task": "regression"}, InvalidSpec, "/task"),
        (BERT, data(), {}, InvalidData, "/columns/label"),
        (BERT, data(), {"task": "causal-lm"}, InvalidSpec, "/task"),
        (LLAMA, LABELLED, {"task": "causal-lm"}, InvalidData, "/task"),
        (LLAMA, data(), {"label_names": ("a", "b")}, InvalidSpec, "/label_names"),
        (LLAMA, data(), {"doc_stride": 65}, InvalidSpec, "/doc_stride"),
        (GPT2, data(), {"max_length": 257}, InvalidSpec, "/max_length"),
        (LLAMA, data(), {"method": "kprune"}, InvalidSpec, "/method"),
        (LLAMA, data(), {"method": "cofi"}, InvalidSpec, "/method"),
        (GPT2, data(), {"method": "cofi", "granularity": "neuron"}, InvalidSpec, "/method"),
        (
            LLAMA,
            data(),
            {"recover": True, "distill": Distill(attention=1.0)},
            InvalidSpec,
            "/distill/attention",
        ),
        (LLAMA, data(), {"granularity": "head", "allocation": "native"}, InvalidSpec, "/allocation"),
        (LLAMA, data(), {"granularity": "block:48x4"}, InvalidSpec, "/granularity"),
    ],
)
def test_what_cannot_be_done_is_refused_by_field(config, summary, request_, error, param):
    with pytest.raises(error) as caught:
        plan(config, summary, **request_)
    assert caught.value.param == param
    assert caught.value.remedy


def test_attention_can_be_compared_where_every_query_has_its_key():
    found = plan(GPT2, recover=True, distill=Distill(attention=1.0))
    assert found.spec.distill == Distill(attention=1.0)


def test_layers_of_one_size_reach_further_where_a_config_can_say_heads():
    llama, gpt2 = (plan(config, allocation="native").largest_ratio for config in (LLAMA, GPT2))
    assert llama > 0.7
    assert gpt2 < 0.67  # the FFNs are two thirds


def test_layers_of_one_size_that_cannot_come_to_a_ratio_are_refused_with_the_nearest():
    """Two heads are most of the model: with both too much stays, with one too little, whatever the few neurons do."""
    few = LLAMA | {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 4}
    with pytest.raises(TargetUnreachable, match="the same in every layer") as caught:
        plan(few, allocation="native", target_ratio=0.25, target_measure="weights")
    nearest = caught.value.nearest
    assert 0.4 < nearest < 0.6
    assert plan(few, allocation="native", target_ratio=nearest, target_measure="weights").kind == "shrunk"


def test_steps_are_guessed_from_the_characters():
    """1000 lines of 90 characters are about 156 windows of 128 tokens: 3 epochs of 20 steps of 8."""
    assert plan(method="leap", settings={"batch_size": 8, "epochs": 3}).method == "leap"
    with pytest.raises(InvalidSpec, match=r"\d+ optimizer steps are too short"):
        plan(summary=data(splits={"train": 10, "validation": 2}), method="leap", settings={"batch_size": 8})
