"""The picture of one weight on a parabola."""

import pytest

pytest.importorskip("matplotlib")

from course_lib import plots  # noqa: E402


def panels(picture):
    return [(ax.get_title("center"), ax.lines[1].get_xydata()) for ax in picture.figure.axes]


def test_each_path_has_its_panel_and_lies_on_the_parabola():
    paths = {"low": [1.6, 1.4, 1.2], "high": [1.0, -1.5]}
    picture = plots.descents(paths)

    drawn = panels(picture)
    assert [title for title, _ in drawn] == list(paths)
    for (_, points), path in zip(drawn, paths.values(), strict=True):
        assert points[:, 0].tolist() == path
        assert points[:, 1].tolist() == [weight**2 / 2 for weight in path]
    assert "low: from 1.6 to 1.2 in 2 steps; high: from 1 to -1.5 in 1 step" in picture.alt


@pytest.mark.parametrize("last", [5.0, float("inf"), float("nan")])
def test_a_path_is_drawn_as_far_as_it_can_be_seen(last):
    ((_, points),) = panels(plots.descents({"lost": [1.0, -2.0, last]}))
    assert points[:, 0].tolist() == [1.0, -2.0]


@pytest.mark.parametrize("paths", [{}, {"none": []}])
def test_nothing_to_draw_is_refused(paths):
    with pytest.raises(ValueError, match="at least one"):
        plots.descents(paths)
