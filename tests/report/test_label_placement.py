"""Names beside points stand where they can be read."""

import pytest
from matplotlib.text import Annotation

from expflow.report.canvas import new_figure
from expflow.report.label_placement import PointLabel, place_labels


def placed(points):
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    figure.draw_without_rendering()
    place_labels(axes, points)
    figure.draw_without_rendering()
    notes = [text for text in axes.texts if isinstance(text, Annotation)]
    assert [note.get_text() for note in notes] == [point.text for point in points]
    return axes, [super(Annotation, note).get_window_extent() for note in notes]


def test_one_name_stands_above_its_bubble():
    axes, (box,) = placed([PointLabel("net", (0.5, 0.5), 10.0)])
    x, y = axes.transData.transform((0.5, 0.5))
    assert box.x0 < x < box.x1
    assert box.y0 > y + 10 * axes.figure.dpi / 72


def test_names_of_points_side_by_side_do_not_cover_each_other():
    _, boxes = placed([PointLabel(f"a long name of net {n}", (0.5 + n / 50, 0.5), 8.0) for n in range(6)])
    pairs = [(one, other) for at, one in enumerate(boxes) for other in boxes[:at]]
    assert not any(one.overlaps(other) for one, other in pairs)


@pytest.mark.parametrize("corner", [(0, 0), (1, 1), (0, 1), (1, 0)])
def test_names_stay_inside_the_axes(corner):
    axes, (box,) = placed([PointLabel("a long name of a net", corner, 5.0)])
    assert axes.bbox.x0 <= box.x0 + 1
    assert box.x1 <= axes.bbox.x1 + 1
    assert axes.bbox.y0 <= box.y0 + 1
    assert box.y1 <= axes.bbox.y1 + 1
