from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.training.batches import LengthGroupedSampler

LENGTHS = [(7 * index) % 50 + 1 for index in range(400)]


def order(seed=0, epoch=0, batch_size=8):
    sampler = LengthGroupedSampler(LENGTHS, batch_size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=200), st.integers(1, 40), st.integers(0, 2**31 - 1))
def test_every_row_comes_once(lengths, batch_size, seed):
    sampler = LengthGroupedSampler(lengths, batch_size, seed)
    assert sorted(sampler) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)


def test_the_order_is_a_function_of_seed_and_epoch():
    assert order() == order()
    assert order() != order(epoch=1)
    assert order() != order(seed=1)


def test_rows_of_a_batch_are_alike_in_length():
    rows = order()
    spreads = []
    for start in range(0, len(rows), 8):
        lengths = [LENGTHS[row] for row in rows[start : start + 8]]
        spreads.append(max(lengths) - min(lengths))
    assert max(spreads) <= 2


def test_batches_come_in_no_order_of_length():
    firsts = [LENGTHS[row] for row in order()[::8]]
    assert firsts != sorted(firsts)
