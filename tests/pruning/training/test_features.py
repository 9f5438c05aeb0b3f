"""Feature distillation against sums written out, token by token."""

import pytest
import torch

from pruning.training.features import (
    attention_difference,
    hidden_difference,
    matched_layers,
    nearest_layers,
)

LENGTHS = (5, 3, 4)
REAL = (torch.arange(5)[None, :] < torch.tensor(LENGTHS)[:, None]).long()


def states(layers, hidden, *, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 5, hidden, generator=generator) for _ in range(layers + 1)]


def maps(layers, heads, *, seed):
    """Probabilities over the real keys, as a model gives them."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(layers):
        scores = torch.randn(3, heads, 5, 5, generator=generator)
        found.append(scores.masked_fill(REAL[:, None, None, :] == 0, -torch.inf).softmax(-1))
    return found


def slow_hidden(mine, theirs):
    """Mean over real tokens and features."""
    total, count = 0.0, 0
    for row, length in enumerate(LENGTHS):
        for token in range(length):
            total += (mine[row, token] - theirs[row, token]).square().sum().item()
            count += mine.shape[-1]
    return total / count


def slow_attention(mine, theirs, heads):
    """Mean over the heads and over pairs of real tokens; `heads` are (student's index, teacher's index)."""
    total, count = 0.0, 0
    for row, length in enumerate(LENGTHS):
        for own, other in heads:
            for query in range(length):
                for key in range(length):
                    total += (mine[row, own, query, key] - theirs[row, other, query, key]).item() ** 2
                    count += 1
    return total / count


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        (3, 3, [(1, 1), (2, 2), (3, 3)]),
        (2, 6, [(1, 3), (2, 6)]),
        (6, 2, [(3, 1), (6, 2)]),
    ],
)
def test_layers_are_matched_by_index_or_every_kth(student, teacher, pairs):
    assert matched_layers(student, teacher) == pairs


def test_equal_layers_are_compared_with_the_embeddings():
    student, teacher = states(2, 4, seed=0), states(4, 4, seed=1)
    found = hidden_difference(student, teacher, REAL, "equal")
    pairs = [(0, 0), (1, 2), (2, 4)]
    expected = sum(slow_hidden(student[mine], teacher[theirs]) for mine, theirs in pairs) / 3
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_nearest_layer_alone_learns_from_each_layer_of_the_teacher():
    student, teacher = states(3, 4, seed=0), states(12, 4, seed=1)
    teacher[6] = student[2] + 0.1
    student = [state.requires_grad_() for state in student]
    found = hidden_difference(student, teacher, REAL, "nearest")
    rivals = {
        theirs: {mine: slow_hidden(student[mine], teacher[theirs]) for mine in (1, 2, 3)}
        for theirs in (3, 6, 9, 12)
    }
    assert found.item() == pytest.approx(sum(min(row.values()) for row in rivals.values()) / 4, rel=1e-5)
    assert min(rivals[6], key=rivals[6].get) == 2
    found.backward()
    chosen = {min(row, key=row.get) for row in rivals.values()}
    assert {
        index for index, state in enumerate(student) if state.grad is not None and state.grad.any()
    } == chosen


@pytest.mark.parametrize("alive", [None, (1, 1, 0, 1, 1), (0, 0, 0, 0, 0), (0, 1, 0, 0, 0)])
def test_layers_in_order_are_those_of_the_published_search(alive):
    """From the last teacher's layer down: the nearest below the one before; where none is left, that one again."""
    generator = torch.Generator().manual_seed(0)
    open_to_all = alive is None or not any(alive)
    for _ in range(50):
        rivals = torch.rand(4, 5, generator=generator)
        expected, last = [], 5
        for row in reversed(rivals.tolist()):
            ranked = sorted(range(5), key=row.__getitem__)
            below = [layer for layer in ranked if layer < last and (open_to_all or alive[layer])]
            last = below[0] if below else last
            expected.insert(0, last)
        kinds = None if alive is None else torch.tensor(alive, dtype=torch.bool)
        found = nearest_layers(rivals, kinds, in_order=True).tolist()
        assert found == expected == sorted(expected)
        free = nearest_layers(rivals, kinds, in_order=False).tolist()
        able = [layer for layer in range(5) if open_to_all or alive[layer]]
        assert free == [min(able, key=row.__getitem__) for row in rivals.tolist()]


def test_the_order_changes_what_is_compared():
    """The last layer of the teacher is nearest to the student's first: in order, all others must match there too."""
    student, teacher = states(3, 4, seed=0), states(4, 4, seed=1)
    teacher[4] = student[1] + 0.01
    found = hidden_difference(student, teacher, REAL, "nearest_in_order")
    expected = sum(slow_hidden(student[1], teacher[theirs]) for theirs in (1, 2, 3, 4)) / 4
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert hidden_difference(student, teacher, REAL, "nearest").item() < found.item()


def test_a_shallow_teacher_gives_all_its_layers():
    student, teacher = states(3, 4, seed=0), states(2, 4, seed=1)
    found = hidden_difference(student, teacher, REAL, "nearest")
    least = [min(slow_hidden(student[mine], teacher[theirs]) for mine in (1, 2, 3)) for theirs in (1, 2)]
    assert found.item() == pytest.approx(sum(least) / 2, rel=1e-5)


def test_a_projection_brings_the_student_to_the_teachers_size():
    student, teacher = states(1, 3, seed=0), states(1, 4, seed=1)
    matrix = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    found = hidden_difference(student, teacher, REAL, "equal", lambda state: state @ matrix)
    expected = (
        sum(slow_hidden(state @ matrix, other) for state, other in zip(student, teacher, strict=True)) / 2
    )
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_attention_is_compared_over_heads_and_real_tokens():
    student, teacher = maps(2, 3, seed=0), maps(4, 3, seed=1)
    found = attention_difference(student, teacher, REAL)
    heads = [(head, head) for head in range(3)]
    expected = (
        slow_attention(student[0], teacher[1], heads) + slow_attention(student[1], teacher[3], heads)
    ) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_masked_heads_are_left_out_and_learn_nothing():
    student, teacher = maps(2, 3, seed=0), maps(2, 3, seed=1)
    student = [one.requires_grad_() for one in student]
    masks = {0: torch.tensor([True, False, True]), 1: torch.tensor([False, False, False])}
    found = attention_difference(student, teacher, REAL, masks=masks)
    assert found.item() == pytest.approx(
        slow_attention(student[0], teacher[0], [(0, 0), (2, 2)]) / 2, rel=1e-5
    )
    found.backward()
    assert student[0].grad[:, 0].any()
    assert not student[0].grad[:, 1].any()
    assert not student[1].grad.any()


def test_removed_heads_of_the_student_are_left_out_of_the_teachers():
    student = [maps(1, 2, seed=0)[0], torch.zeros(3, 0, 5, 5)]
    teacher = maps(2, 4, seed=1)
    found = attention_difference(student, teacher, REAL, kept=[(1, 3), ()])
    assert found.item() == pytest.approx(
        slow_attention(student[0], teacher[0], [(0, 1), (1, 3)]) / 2, rel=1e-5
    )


@pytest.mark.parametrize("layer_map", ["equal", "nearest"])
def test_padding_counts_nowhere(layer_map):
    student, teacher = states(2, 4, seed=0), states(2, 4, seed=1)
    own, other = maps(2, 3, seed=2), maps(2, 3, seed=3)
    before = hidden_difference(student, teacher, REAL, layer_map), attention_difference(own, other, REAL)

    def wider(tensor, dims):
        """Two more tokens of padding, full of noise."""
        for dim in dims:
            tensor = torch.cat([tensor, torch.full_like(tensor.narrow(dim, 0, 2), 9.0)], dim)
        return tensor

    real = torch.nn.functional.pad(REAL, (0, 2))
    student, teacher = ([wider(each, [1]) for each in side] for side in (student, teacher))
    own, other = ([wider(each, [2, 3]) for each in side] for side in (own, other))
    other = [each + 1 - torch.nn.functional.pad(torch.ones(5, 5), (0, 2, 0, 2)) for each in other]
    after = hidden_difference(student, teacher, real, layer_map), attention_difference(own, other, real)
    assert torch.allclose(torch.stack(before), torch.stack(after), rtol=1e-5)
