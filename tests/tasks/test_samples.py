"""Samples become one picture, or one table; anything else is refused."""

from __future__ import annotations

import csv
import io

import pytest
import torch

from expflow.errors import UserError
from expflow.tasks.samples import GAP, GREY, SMALLEST_SIDE, FirstSamples, SampleTable, drawn, sample_grid


def test_pictures_lie_in_about_as_many_rows_as_columns() -> None:
    grid = sample_grid(torch.linspace(0, 1, 5).view(5, 1, 1, 1).expand(5, 1, 60, 64))
    assert grid.shape == (2 * 60 + GAP, 3 * 64 + 2 * GAP)
    assert [int(grid[0, 66 * column]) for column in range(3)] == [0, 64, 128]
    assert int(grid[61, 0]) == GREY, "between two pictures"
    assert int(grid[-1, -1]) == GREY, "where there is no sixth one"


def test_rows_stay_rows_and_small_pictures_grow_by_whole_factors() -> None:
    grid = sample_grid(torch.rand(3, 2, 3, 8, 8))
    assert grid.shape == (3 * SMALLEST_SIDE + 2 * GAP, 2 * SMALLEST_SIDE + GAP, 3)
    assert (grid[:7, :7] == grid[0, 0]).all()


def test_many_rows_stand_in_groups_side_by_side() -> None:
    rows = torch.arange(9).view(9, 1, 1, 1, 1).expand(9, 1, 1, 60, 60) / 10
    grid = sample_grid(rows)
    assert grid.shape == (3 * 60 + 2 * GAP, 3 * 60 + 2 * 4 * GAP)
    assert [int(grid[0, left]) for left in (0, 60 + 4 * GAP, 2 * (60 + 4 * GAP))] == [0, 76, 153]


def test_values_outside_and_no_numbers_are_drawn_all_the_same() -> None:
    values = torch.tensor([-1.0, 2.0, float("nan")]).view(3, 1, 1, 1).expand(3, 1, 56, 56)
    grid = sample_grid(values)
    assert (grid[0, 0], grid[0, 58], grid[58, 0]) == (0, 255, 0)


@pytest.mark.parametrize("given", [torch.zeros(3), torch.zeros(2, 2, 4, 4), torch.zeros(0, 1, 4, 4), [1], "text"])
def test_what_is_no_picture_is_refused(given: object) -> None:
    with pytest.raises(UserError, match="draw_samples gave"):
        drawn(given)


def test_a_table_is_written_as_csv() -> None:
    table = drawn(SampleTable(["in", "out"], [["3 May, 2020", "2020-05-03"]]))
    assert isinstance(table, SampleTable)
    assert list(csv.reader(io.StringIO(table.csv()))) == [["in", "out"], ["3 May, 2020", "2020-05-03"]]
    assert drawn(None) is None


def test_the_first_valid_samples_of_the_first_validation_are_kept() -> None:
    first = FirstSamples(3, "image")
    assert first.field("image") is None
    batches = [
        {"image": torch.tensor([1, 2, 3]), "valid": torch.tensor([True, False, True])},
        {"image": torch.tensor([4, 5]), "valid": torch.tensor([True, True])},
    ]
    for number, batch in enumerate(batches):
        first.follow(batch, number)
    for number, batch in enumerate(reversed(batches)):
        first.follow(batch, number)
    kept = first.field("image")
    assert kept is not None
    assert kept.tolist() == [1, 3, 4]
