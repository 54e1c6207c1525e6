"""Points with several objectives."""

import itertools
import random

import pytest

from expflow.pareto import dominates, hypervolume, non_dominated, non_dominated_ranks

MODES = ("max", "min")


def test_a_point_dominates_by_being_better_in_one_and_worse_in_none():
    assert dominates((0.9, 10), (0.8, 10), MODES)
    assert dominates((0.9, 9), (0.9, 10), MODES)
    assert not dominates((0.9, 10), (0.9, 10), MODES)
    assert not dominates((0.9, 11), (0.8, 10), MODES)


def test_fronts_are_peeled_one_after_the_other_and_equal_points_share_theirs():
    points = [(0.9, 10), (0.5, 1), (0.8, 12), (0.9, 10), (0.4, 2), (0.3, 13)]
    assert non_dominated(points, MODES) == [0, 1, 3]
    assert non_dominated_ranks(points, MODES) == [0, 0, 1, 0, 1, 2]


def test_a_hypervolume_is_the_share_of_the_box_whatever_the_units():
    assert hypervolume([(0.9, 5.0)], (1.0, 0.0), (0.0, 10.0)) == pytest.approx(0.45)
    assert hypervolume([(0.9, 5.0), (0.5, 0.0)], (1.0, 0.0), (0.0, 10.0)) == pytest.approx(0.45 + 0.25)
    assert hypervolume([(0.9, 5.0), (0.2, 6.0)], (1.0, 0.0), (0.0, 10.0)) == pytest.approx(0.45)  # dominated
    assert hypervolume([(2.0, -3.0)], (1.0, 0.0), (0.0, 10.0)) == 1.0
    assert hypervolume([], (1.0, 0.0), (0.0, 10.0)) == 0.0
    assert hypervolume([(0.7, 4.0)], (1.0, 4.0), (0.0, 4.0)) == pytest.approx(0.7)  # all are equal in the second


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_hypervolume_is_what_counting_cells_gives(count):
    draw = random.Random(count)
    points = [tuple(draw.randint(0, 5) for _ in range(count)) for _ in range(7)]
    covered = sum(
        any(all(low < value for low, value in zip(cell, point, strict=True)) for point in points)
        for cell in itertools.product(range(5), repeat=count)
    )
    assert hypervolume(points, (5,) * count, (0,) * count) == pytest.approx(covered / 5**count)
