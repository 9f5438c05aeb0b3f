import pytest
import torch

from pruning.errors import Canceled
from pruning.training.evaluate import batches, evaluate
from tests.support.training import classroom


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return classroom(tmp_path_factory.mktemp("room"))


def judge(room, **arguments):
    options = {"device": torch.device("cpu"), "should_stop": lambda: None, "on_progress": lambda done: None}
    return evaluate(room.model().train(), room.rows, room.task, **options | arguments)


def test_logits_are_those_of_row_by_row_in_the_rows_order(room):
    found = judge(room, batch_tokens=64)
    model = room.model().eval()
    for index in range(len(room.rows)):
        batch = room.rows.batch([index])
        del batch["labels"]
        with torch.inference_mode():
            torch.testing.assert_close(found.answers[index], model(**batch).logits[0], atol=1e-5, rtol=0)
    labels = torch.tensor([room.rows[index]["labels"] for index in range(len(room.rows))])
    guess = torch.stack(found.answers).argmax(-1)
    assert found.metrics["accuracy"] == (guess == labels).double().mean().item()


@pytest.mark.parametrize("tokens", [1, 30, 64, 10_000])
def test_batches_hold_every_row_once_within_the_budget(room, tokens):
    lengths = room.rows.lengths
    found = list(batches(room.rows, tokens))
    assert sorted(row for batch in found for row in batch) == list(range(len(room.rows)))
    assert all(len(batch) * lengths[batch].max() <= tokens or len(batch) == 1 for batch in found)
    assert lengths[found[0]].max() == lengths.max()


def test_it_tells_progress_and_stops(room):
    told = []
    judge(room, batch_tokens=64, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    with pytest.raises(Canceled):
        judge(room, should_stop=lambda: "cancel")
