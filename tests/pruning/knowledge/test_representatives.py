import math

import pytest
import torch

from pruning.knowledge.representatives import self_representation, unit_range


def by_loops(points, width, tolerance):
    count = len(points)
    kernel = [
        [math.exp(-sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / width**2) for y in points]
        for x in points
    ]
    c = [[1 / count] * count for _ in points]
    while True:
        said = [
            [sum(kernel[i][k] * c[k][j] for k in range(count)) for j in range(count)] for i in range(count)
        ]
        new = [[c[i][j] * math.sqrt(kernel[i][j] / said[i][j]) for j in range(count)] for i in range(count)]
        change = abs(sum(map(sum, new)) - sum(map(sum, c))) / sum(map(sum, c))
        c = new
        if change < tolerance:
            return [c[i][i] for i in range(count)]


def test_the_kernel_method_equals_its_loops():
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    for tolerance in (0.1, 1e-3):
        expected = by_loops(points.tolist(), 1.5, tolerance)
        assert self_representation(points, 1.5, tolerance).tolist() == pytest.approx(expected, rel=1e-3)


def test_a_point_among_others_keeps_less_of_itself_than_one_alone():
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [3.0, 3.0]])
    found = self_representation(points, 1.0, 1e-4)
    assert found.argmax() == 3


def test_layers_are_brought_to_one_range():
    assert unit_range(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0.0, 1.0, 0.5]
    assert unit_range(torch.tensor([2.0, 2.0])).tolist() == [1.0, 1.0]
