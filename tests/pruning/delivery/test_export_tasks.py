"""Exports of models for tags and for answers: the right class, plainly and with their code."""

import json

import pytest
import torch
import transformers
from transformers import dynamic_module_utils

from pruning.delivery.export import export
from pruning.model.shrink import shrink
from pruning.planning.costs import ModelShape
from pruning.planning.families import AUTO_CLASSES
from pruning.planning.families import FAMILIES as ENTRIES
from tests.support.kept import bake, uneven
from tests.support.models import FAMILIES, tiny_inputs, tiny_model, tiny_tokenizer

SHAPE = ModelShape(layers=3, hidden=32, heads=4, head_size=8, ffn=48)
KINDS = ("token-classification", "question-answering")


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory):
    """Remote code is copied here, not to the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@torch.no_grad()
def answers(model):
    found = model(**tiny_inputs(model))
    return torch.cat([value.flatten(1) for name, value in found.items() if name.endswith("logits")], dim=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_one_directory_loads_plainly_and_at_pruned_size(family, kind, tmp_path):
    model = tiny_model(family, kind, layers=3)
    kept = uneven(family)
    bake(model, kept)
    expected = answers(model)
    shrink(model, kept)
    folder = export(model, tiny_tokenizer(family), SHAPE, kept, "global", tmp_path / "model").folder
    name = ENTRIES[family].architectures[kind]
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == {AUTO_CLASSES[kind]: f"modeling_pruned.{name}"}
    plain, pruned = (
        getattr(transformers, AUTO_CLASSES[kind]).from_pretrained(folder, trust_remote_code=trust)
        for trust in (False, True)
    )
    assert type(plain).__name__ == type(pruned).__name__ == name
    torch.testing.assert_close(answers(plain), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(answers(pruned), expected, rtol=0, atol=1e-5)
    assert pruned.num_parameters() == model.num_parameters() < plain.num_parameters()
