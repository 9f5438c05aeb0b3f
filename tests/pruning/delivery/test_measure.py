import pytest
import torch

from pruning.delivery.measure import latency
from pruning.errors import Canceled
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept
from pruning.planning.families import FAMILIES as ENTRIES
from tests.support.models import FAMILIES, tiny_model

FEW = Kept(heads=((0,),) * 4, neurons=((0, 1),) * 4)


def wide(family="bert"):
    return tiny_model(family, layers=4, hidden=128, heads=4, ffn=1024)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_model_is_faster(family):
    dense, pruned = wide(family), wide(family)
    all_heads = ENTRIES[family].fewest_heads is None
    shrink(pruned, FEW.model_copy(update={"heads": ((0, 1, 2, 3),) * 4}) if all_heads else FEW)
    one, four = latency(dense, pruned, [1, 4], sequence_length=64, rounds=5)
    assert [
        (entry.batch_size, entry.sequence_length, entry.rounds, entry.threads) for entry in (one, four)
    ] == [
        (1, 64, 5, 1),
        (4, 64, 5, 1),
    ]
    assert four.cpu_speedup > 1.5
    assert 0 < four.dense_min_ms <= four.dense_ms
    assert 0 < four.pruned_min_ms <= four.pruned_ms
    assert four.dense_cpu_ms > one.dense_cpu_ms


def test_a_model_is_as_fast_as_itself():
    (same,) = latency(wide(), wide(), [4], sequence_length=64, rounds=9)
    assert same.cpu_speedup == pytest.approx(1, abs=0.3)


def test_training_mode_and_threads_are_settled():
    model = tiny_model("bert").train()
    before = torch.get_num_threads()
    (entry,) = latency(model, model, [1], sequence_length=8, rounds=3, threads=2)
    assert entry.threads == 2
    assert torch.get_num_threads() == before
    assert not model.training


def test_it_stops_between_passes():
    asked = []

    def should_stop():
        asked.append(1)
        return "cancel" if len(asked) > 4 else None

    model = tiny_model("bert")
    with pytest.raises(Canceled):
        latency(model, model, [1], sequence_length=8, rounds=50, should_stop=should_stop)
    assert len(asked) == 5
