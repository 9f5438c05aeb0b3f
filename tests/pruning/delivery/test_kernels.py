"""2:4 kernels of the device: tried on the result, said beside `kind: zeros`. What kernels there are is made up here."""

import pytest
import torch

from pruning import prune
from pruning.delivery import kernels
from pruning.model.layers import prunable_linears
from pruning.spec import Evaluation, PruneSpec
from pruning.steps import timing
from tests.support.data import write_dataset
from tests.support.models import save_tiny, tiny_model

QUICK = Evaluation(sequence_length=8, rounds=3, batch_sizes=(1, 2))


def request(**changes):
    fields = {
        "method": "magnitude",
        "granularity": "2:4",
        "target_ratio": 0.5,
        "max_length": 16,
        "device": "cpu",
        "evaluate": QUICK,
    }
    return PruneSpec(**fields | changes)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return save_tiny(folder / "model"), write_dataset(folder / "data", train=12, validation=8)


@pytest.fixture
def made_up(monkeypatch):
    """A device whose kernels take square matrices; what they were given."""
    taken = []

    def compress(weight):
        if weight.shape[0] != weight.shape[1]:
            raise ValueError("no kernel for this size")
        taken.append(weight)
        return weight

    monkeypatch.setattr(timing, "offered", lambda device: True)
    monkeypatch.setattr(kernels, "to_sparse_semi_structured", compress)
    return taken


def test_the_result_is_timed_on_the_kernels_and_stays_zeros(inputs, tmp_path, made_up):
    report = prune(request(), *inputs, tmp_path)
    found = report.kernels
    assert found is not None
    assert report.kind == "zeros"
    assert (found.linears, found.of_linears) == (len(made_up), 12)
    assert found.linears == 8  # query, key, value and output of two layers
    assert [(each.batch_size, each.sequence_length) for each in found.latency] == [(1, 8), (2, 8)]
    for weight in made_up:
        assert weight.dtype == torch.float16
        assert (weight.reshape(-1, 4) != 0).sum(1).max() <= 2
    card = (tmp_path / "README.md").read_text()
    assert "with 8 of 12 matrices on them" in card
    assert "A plain load does not use these kernels" in card
    made_up.clear()
    again = prune(request(), *inputs, tmp_path)  # what was timed is not timed again
    assert again.kernels == found
    assert not made_up


@pytest.mark.parametrize(
    "changes", [{"granularity": "unstructured"}, {"evaluate": QUICK.model_copy(update={"latency": False})}]
)
def test_nothing_is_tried_without_a_pattern_or_without_times(inputs, tmp_path, made_up, changes):
    assert prune(request(**changes), *inputs, tmp_path).kernels is None
    assert not made_up


def test_a_cpu_offers_none(inputs, tmp_path):
    assert not kernels.offered(torch.device("cpu"))
    assert prune(request(), *inputs, tmp_path).kernels is None


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_cuda_has_them_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert kernels.offered(torch.device("cuda")) is expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_runs_them():
    dense, pruned = (tiny_model("bert", hidden=128, ffn=256).cuda() for _ in range(2))
    for linear in prunable_linears(pruned).values():
        linear.weight.data.reshape(-1, 4)[:, :2] = 0
    found = kernels.try_kernels(dense, pruned, [8], 64, 3, should_stop=lambda: None)
    assert found.linears == found.of_linears
