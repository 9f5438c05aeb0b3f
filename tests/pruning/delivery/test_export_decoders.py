"""Exports of decoders: native where a plain config can say the sizes, padded with code otherwise."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, dynamic_module_utils

from pruning.delivery.export import CODE_FILE, export
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept
from pruning.planning.shape import ModelShape
from tests.support.kept import EVEN, bake, uneven
from tests.support.models import DECODERS, tiny_inputs, tiny_model, tiny_tokenizer

FREE = ("llama", "mistral", "qwen2", "qwen3", "gemma")
"""Families whose config can say how many heads there are."""
FEWER = Kept(heads=((0, 3), (1, 2), (0, 1)), neurons=EVEN.neurons)
ODD = Kept(heads=((0, 1, 3),) * 3, neurons=EVEN.neurons)


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory):
    """Remote code is copied here, not to the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


def exported(family, kept, allocation, folder, **sizes):
    model = tiny_model(family, layers=3, **sizes)
    shape = ModelShape.from_config(model.config.to_dict())
    bake(model, kept)
    with torch.no_grad():
        expected = model(**tiny_inputs(model)).logits
    shrink(model, kept)
    return model, export(model, tiny_tokenizer(family), shape, kept, allocation, folder), expected


def check(folder, expected, **options):
    """The model answers as expected, and generates with its cache what it generates without."""
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    with torch.no_grad():
        torch.testing.assert_close(model(**tiny_inputs(model)).logits, expected, rtol=0, atol=1e-5)
    tokens = tiny_inputs(model, rows=1)["input_ids"]
    said = [
        model.generate(
            tokens, max_new_tokens=4, do_sample=False, use_cache=cache, eos_token_id=None, pad_token_id=0
        )
        for cache in (True, False)
    ]
    assert torch.equal(*said)
    return model


@pytest.mark.parametrize("family", DECODERS)
def test_uneven_layers_load_plainly_and_at_pruned_size(family, tmp_path):
    model, bundle, expected = exported(family, uneven(family), "global", tmp_path / "model")
    assert bundle.remote_code
    plain = check(bundle.folder, expected)
    small = check(bundle.folder, expected, trust_remote_code=True)
    assert small.num_parameters() == model.num_parameters() < plain.num_parameters()
    small.save_pretrained(tmp_path / "again")
    written, rewritten = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "again"))
    assert written.keys() == rewritten.keys()
    assert all(torch.equal(written[name], rewritten[name]) for name in written)
    for parameter in small.parameters():
        torch.nn.init.zeros_(parameter)
    small.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(small(**tiny_inputs(small)).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_one_width_needs_no_code(family, tmp_path):
    model, bundle, expected = exported(family, EVEN, "native", tmp_path / "model")
    assert not bundle.remote_code
    assert not (bundle.folder / CODE_FILE).exists()
    assert check(bundle.folder, expected).num_parameters() == model.num_parameters()


@pytest.mark.parametrize(("family", "queries"), [*((family, 2) for family in FREE), ("llama", 1)])
def test_as_many_heads_in_every_layer_need_no_code(family, queries, tmp_path):
    model, bundle, expected = exported(family, FEWER, "native", tmp_path / "model", queries=queries)
    assert not bundle.remote_code
    loaded = check(bundle.folder, expected)
    assert loaded.num_parameters() == model.num_parameters()
    config = json.loads((bundle.folder / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (2 * queries, 2)
    assert config["head_dim"] == model.model.layers[0].self_attn.head_dim


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_heads_that_a_config_may_refuse_are_padded(family, tmp_path):
    """Three of four heads with two queries each are six, which do not divide a hidden size of 32."""
    model, bundle, expected = exported(family, ODD, "global", tmp_path / "model")
    assert bundle.remote_code
    check(bundle.folder, expected)
    assert check(bundle.folder, expected, trust_remote_code=True).num_parameters() == model.num_parameters()
    with pytest.raises(ValueError, match="native"):
        exported(family, ODD, "native", tmp_path / "native")


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_fewer_heads_are_padded_where_no_config_can_say_them(family, tmp_path):
    _, bundle, expected = exported(family, FEWER, "global", tmp_path / "model")
    assert bundle.remote_code
    check(bundle.folder, expected, trust_remote_code=True)
    with pytest.raises(ValueError, match="native"):
        exported(family, FEWER, "native", tmp_path / "native")


@pytest.mark.parametrize("family", DECODERS)
def test_tied_embeddings_stay_tied(family, tmp_path):
    tied = {"tie_word_embeddings": True}
    model = tiny_model(family, layers=3, variant=tied)
    shape = ModelShape.from_config(model.config.to_dict())
    few = uneven(family)
    bake(model, few)
    shrink(model, few)
    folder = export(model, tiny_tokenizer(family), shape, few, "global", tmp_path / "model").folder
    for trusted in (False, True):
        loaded = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trusted)
        assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
