"""ONNX files: equal to torch at any number of rows and tokens, with layers of their own size, the same bytes again."""

import pytest
import torch

from pruning.delivery import onnx_file
from pruning.delivery.onnx_file import OnnxModel, Signature, check_onnx, require_onnx, time_onnx, write_onnx
from pruning.errors import ArtifactBroken, InvalidSpec
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept
from tests.support.models import DECODERS, FAMILIES, MAX_TOKENS, tiny_model

UNEVEN = Kept(heads=((0, 2), (1,)), neurons=((0, 1, 5), tuple(range(40))))


def signature_of(model):
    inputs = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs.insert(1, "token_type_ids")
    return Signature.of(model, inputs, MAX_TOKENS)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model of uneven layers and its file: (model, signature, folder)."""
    model = tiny_model("bert")
    shrink(model, UNEVEN)
    folder = tmp_path_factory.mktemp("onnx")
    signature = signature_of(model)
    write_onnx(model, signature, folder)
    return model, signature, folder


def test_it_answers_as_torch_does_for_other_rows_and_tokens_than_it_was_traced_with(written):
    model, signature, folder = written
    found = OnnxModel(folder, signature, 1)
    differences = check_onnx(model, found, signature)
    assert list(differences) == ["1 x 2", "2 x 16", "5 x 7", "3 x 40"]
    assert max(differences.values()) < 1e-5
    longest = signature.batch(4, MAX_TOKENS)
    with torch.inference_mode():
        torch.testing.assert_close(found(**longest)["logits"], model(**longest).logits)
    padded = signature.batch(3, 9)["attention_mask"].sum(1)
    assert padded.tolist() == [9, 8, 7]


def test_another_answer_is_a_broken_artifact(written):
    _model, signature, folder = written
    found = OnnxModel(folder, signature, 1)
    other = tiny_model("bert", seed=3)
    with pytest.raises(ArtifactBroken, match="answers differently"):
        check_onnx(other, found, signature)


def test_it_names_nothing_of_this_machine_and_holds_its_weights(written):
    names = {path.name for path in written[2].iterdir()}
    assert names == {"model.onnx"}
    content = (written[2] / "model.onnx").read_bytes()
    assert b"/pruning/" not in content
    assert b"site-packages" not in content


def test_both_are_timed_in_turns(written):
    (timed,) = time_onnx(*written[:1], written[2], written[1], [2], 16, 3)
    assert (timed.batch_size, timed.sequence_length, timed.rounds) == (2, 16, 3)
    assert timed.torch_ms > 0 < timed.onnx_ms
    assert timed.speedup > 0


@pytest.mark.slow
def test_large_weights_lie_in_a_file_of_their_own(written, tmp_path):
    model, signature, _folder = written
    write_onnx(model, signature, tmp_path, largest=1000)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    check_onnx(model, OnnxModel(tmp_path, signature, 1), signature)


@pytest.mark.slow
def test_written_again_it_has_the_same_bytes(written, tmp_path):
    model, signature, folder = written
    write_onnx(model, signature, tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


def test_a_worker_without_the_packages_says_what_to_install(monkeypatch):
    monkeypatch.setattr(onnx_file, "_NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(InvalidSpec, match="lacks no_such_package") as caught:
        require_onnx()
    assert caught.value.param == "/exports"
    assert "prunery[onnx]" in caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
def test_every_family(family, tmp_path):
    model = tiny_model(family)
    signature = signature_of(model)
    write_onnx(model, signature, tmp_path)
    assert max(check_onnx(model, OnnxModel(tmp_path, signature, 1), signature).values()) < 1e-4
