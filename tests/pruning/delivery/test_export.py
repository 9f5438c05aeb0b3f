import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    dynamic_module_utils,
    pipeline,
)
from transformers.utils import logging

from pruning.delivery.export import CODE_FILE, export
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, ModelShape
from pruning.planning.families import FAMILIES as ENTRIES
from tests.support.kept import EVEN, UNEVEN, bake, uneven
from tests.support.models import FAMILIES, TASKS, tiny_inputs, tiny_model, tiny_tokenizer

SHAPE = ModelShape(layers=3, hidden=32, heads=4, head_size=8, ffn=48)


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory):
    """Remote code is copied here, not to the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


def shrunk(family, task, kept):
    model = tiny_model(family, task, layers=3)
    bake(model, kept)
    with torch.no_grad():
        expected = model(**tiny_inputs(model)).logits
    shrink(model, kept)
    return model, expected


@torch.no_grad()
def answers(folder, **options):
    model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    return model, model(**tiny_inputs(model)).logits


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.fixture(params=[(family, task) for family in FAMILIES for task in TASKS], ids="-".join)
def case(request):
    return request.param


class TestGlobal:
    def test_one_directory_loads_plainly_and_at_pruned_size(self, case, tmp_path):
        few = uneven(case[0])
        model, expected = shrunk(*case, few)
        bundle = export(model, tiny_tokenizer(case[0]), SHAPE, few, "global", tmp_path / "model")
        assert bundle.remote_code
        plain, logits = answers(bundle.folder)
        same(logits, expected)
        pruned, logits = answers(bundle.folder, trust_remote_code=True)
        same(logits, expected)
        assert pruned.num_parameters() == model.num_parameters() < plain.num_parameters()
        assert type(pruned).__name__ == type(plain).__name__ == ENTRIES[case[0]].architectures[case[1]]
        assert AutoTokenizer.from_pretrained(bundle.folder)("good film").input_ids

    def test_saving_the_pruned_model_again_gives_the_same_directory(self, case, tmp_path):
        few = uneven(case[0])
        model, expected = shrunk(*case, few)
        first = export(model, tiny_tokenizer(case[0]), SHAPE, few, "global", tmp_path / "first").folder
        pruned, _ = answers(first, trust_remote_code=True)
        again = tmp_path / "again"
        pruned.save_pretrained(again)
        written, rewritten = (load_file(folder / "model.safetensors") for folder in (first, again))
        assert written.keys() == rewritten.keys()
        assert all(torch.equal(written[name], rewritten[name]) for name in written)
        same(answers(again)[1], expected)
        reloaded, logits = answers(again, trust_remote_code=True)
        same(logits, expected)
        assert reloaded.num_parameters() == model.num_parameters()

    @pytest.mark.parametrize("family", ["bert", "modernbert"])
    def test_a_plain_state_dict_fits_the_pruned_model(self, family, tmp_path):
        model, expected = shrunk(family, "regression", UNEVEN)
        folder = export(model, tiny_tokenizer(family), SHAPE, UNEVEN, "global", tmp_path / "model").folder
        plain, _ = answers(folder)
        pruned, _ = answers(folder, trust_remote_code=True)
        for parameter in pruned.parameters():
            torch.nn.init.zeros_(parameter)
        pruned.load_state_dict(plain.state_dict())
        same(pruned(**tiny_inputs(pruned)).logits.detach(), expected)

    def test_pipelines_take_both_ways_without_complaint(self, tmp_path, caplog):
        model, _ = shrunk("distilbert", "sequence-classification", UNEVEN)
        tokenizer = tiny_tokenizer("distilbert")
        folder = export(model, tokenizer, SHAPE, UNEVEN, "global", tmp_path / "model").folder
        logging.enable_propagation()
        try:
            plain = pipeline("text-classification", str(folder))
            fast = pipeline("text-classification", str(folder), trust_remote_code=True)
        finally:
            logging.disable_propagation()
        assert fast.model.num_parameters() < plain.model.num_parameters()
        (one,), (other,) = plain("the film was good"), fast("the film was good")
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]

    def test_the_code_knows_every_family_as_the_engine_does(self):
        path = Path(export.__code__.co_filename).with_name("remote_code") / CODE_FILE
        module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("code", path))
        spec.loader.exec_module(module)
        for name, entry in ENTRIES.items():
            heads = (entry.query, entry.key, entry.value)
            parts = (entry.layers, heads, entry.attention_out, entry.ffn_in, entry.ffn_out)
            assert module.PARTS[name] == parts
            for architecture in entry.architectures.values():
                assert getattr(module, architecture).__name__ == architecture
        assert not hasattr(module, "BertModel")


class TestNative:
    def test_the_plain_config_says_it_all(self, case, tmp_path):
        model, expected = shrunk(*case, EVEN)
        bundle = export(model, tiny_tokenizer(case[0]), SHAPE, EVEN, "native", tmp_path / "model")
        assert not bundle.remote_code
        assert not (bundle.folder / CODE_FILE).exists()
        loaded, logits = answers(bundle.folder, trust_remote_code=False)
        same(logits, expected)
        assert loaded.num_parameters() == model.num_parameters()
        config = json.loads((bundle.folder / "config.json").read_text())
        assert config[ENTRIES[case[0]].ffn_config] == 3
        assert "auto_map" not in config

    def test_an_even_global_result_needs_no_code_either(self, tmp_path):
        model, _ = shrunk("bert", "regression", EVEN)
        tokenizer = tiny_tokenizer("bert")
        assert not export(model, tokenizer, SHAPE, EVEN, "global", tmp_path / "model").remote_code

    def test_uneven_layers_are_refused(self, tmp_path):
        model, _ = shrunk("bert", "regression", UNEVEN)
        with pytest.raises(ValueError, match="native"):
            export(model, tiny_tokenizer("bert"), SHAPE, UNEVEN, "native", tmp_path / "model")
        assert list(tmp_path.iterdir()) == []


class TestWriting:
    def test_zeros_and_dense_models_are_saved_as_they_are(self, case, tmp_path):
        model = tiny_model(*case, layers=3)
        bake(model, UNEVEN)
        bundle = export(model, tiny_tokenizer(case[0]), SHAPE, None, "global", tmp_path / "model")
        with torch.no_grad():
            same(answers(bundle.folder)[1], model(**tiny_inputs(model)).logits)
        assert AutoConfig.from_pretrained(bundle.folder).to_diff_dict().get("layer_sizes") is None
        assert bundle.bytes == sum(path.stat().st_size for path in bundle.folder.iterdir())

    def test_an_older_export_is_replaced_whole(self, tmp_path):
        out, tokenizer = tmp_path / "model", tiny_tokenizer("bert")
        model, _ = shrunk("bert", "regression", UNEVEN)
        export(model, tokenizer, SHAPE, UNEVEN, "global", out)
        dense = tiny_model("bert", "regression", layers=3)
        export(dense, tokenizer, SHAPE, None, "global", out)
        assert not (out / CODE_FILE).exists()
        assert answers(out)[0].num_parameters() == dense.num_parameters()
        assert list(tmp_path.iterdir()) == [out]

    def test_the_model_in_memory_stays_as_it_is(self, tmp_path):
        model, expected = shrunk("electra", "regression", UNEVEN)
        before = model.num_parameters()
        export(model, tiny_tokenizer("electra"), SHAPE, UNEVEN, "global", tmp_path / "model")
        with torch.no_grad():
            same(model(**tiny_inputs(model)).logits, expected)
        assert model.num_parameters() == before
        assert not hasattr(model.config, "layer_sizes")

    def test_the_same_model_gives_the_same_bytes(self, tmp_path):
        model, _ = shrunk("roberta", "regression", UNEVEN)
        tokenizer = tiny_tokenizer("roberta")
        for name in ("one", "two"):
            export(model, tokenizer, SHAPE, UNEVEN, "global", tmp_path / name)
        for path in (tmp_path / "one").iterdir():
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()

    def test_a_model_that_was_not_shrunk_is_refused(self, tmp_path):
        model = tiny_model("bert", layers=3)
        with pytest.raises(ValueError, match="shrunk"):
            export(model, tiny_tokenizer("bert"), SHAPE, UNEVEN, "global", tmp_path / "model")
        assert list(tmp_path.iterdir()) == []

    def test_removing_nothing_is_exported_as_dense(self, tmp_path):
        model = tiny_model("bert", layers=3)
        everything = Kept.everything(SHAPE)
        bundle = export(model, tiny_tokenizer("bert"), SHAPE, everything, "native", tmp_path / "model")
        assert not bundle.remote_code
        assert answers(bundle.folder)[0].num_parameters() == model.num_parameters()
