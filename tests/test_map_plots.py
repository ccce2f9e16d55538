"""Pictures of maps as numbers: what is drawn is what was given, and the text says it."""

import numpy as np
import pytest

pytest.importorskip("matplotlib.pyplot")

from course_lib import plots  # noqa: E402
from course_lib.explain import Score, grade  # noqa: E402

PICTURES = np.zeros((2, 8, 8, 3), np.uint8)

# --- evidence -------------------------------------------------------------------------------------


def test_the_maps_of_a_picture_share_one_scale_around_zero():
    small, large = np.full((2, 4, 4), 0.5), np.full((2, 4, 4), -2.0)
    figure = plots.evidence(PICTURES, {"a": small, "b": large}, ["one", "two"]).figure

    picture, *maps = (ax.images[0] for ax in figure.axes[:3])
    assert [each.get_clim() for each in maps] == [(-2, 2), (-2, 2)]
    assert np.allclose(maps[0].get_array(), 0.5), "as it is, not stretched"
    assert np.array_equal(picture.get_array(), PICTURES[0])


def test_the_text_tells_how_far_the_evidence_reaches():
    maps = np.array([[[-1.5, 2.0]], [[0.0, 0.0]]])
    alt = plots.evidence(PICTURES, {"for it": maps}, ["one", "two"]).alt
    assert "one: for it from -1.5 to 2" in alt and "two: for it from 0 to 0" in alt


@pytest.mark.parametrize("titles, count", [(["one"], 2), (["one", "two"], 1)])
def test_numbers_that_do_not_fit_are_refused(titles, count):
    with pytest.raises(ValueError, match="evidence.*expected at least one picture"):
        plots.evidence(PICTURES, {"a": np.zeros((count, 4, 4))}, titles)


@pytest.mark.parametrize("maps", [{}, {"a": np.zeros((2, 0, 4))}], ids=["none", "empty"])
def test_evidence_without_a_map_is_refused(maps):
    with pytest.raises(ValueError, match="evidence.*at least one map"):
        plots.evidence(PICTURES, maps, ["one", "two"])


# --- grades ---------------------------------------------------------------------------------------


def table():
    maps = np.random.default_rng(0).random((20, 8, 8))
    return grade({"a": maps, "b": maps**8}, np.tile([1, 2, 4, 6], (20, 1)))


def test_each_grade_has_a_panel_with_every_map_but_the_two_that_know_nothing():
    figure = plots.grades(table()).figure
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["pointing game", "energy", "IoU"]
    for ax in figure.axes:
        assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_means_intervals_and_lines_stand_where_the_scores_are():
    scores = {
        "chance": {"IoU": Score(0.2, 0.1, 0.3, 9)},
        "middle": {"IoU": Score(0.4, 0.3, 0.5, 9)},
        "a": {"IoU": Score(0.6, 0.55, 0.7, 9)},
    }
    picture = plots.grades(scores)
    (ax,) = picture.figure.axes

    chance, middle, points, *_ = ax.lines
    assert (chance.get_xdata()[0], middle.get_xdata()[0]) == (0.2, 0.4)
    assert points.get_xdata() == pytest.approx([0.6])
    ((start, end),) = ax.collections[0].get_segments()
    assert (start[0], end[0]) == (pytest.approx(0.55), pytest.approx(0.7))
    assert "Means of 9 pictures" in picture.alt and "a: IoU 0.600" in picture.alt


def test_chance_and_middle_are_the_same_lines_in_both_figures_of_grades():
    """Told apart by their dashes: whoever learned them in one figure reads the other."""
    score = Score(0.2, 0.1, 0.3, 9)
    (ax,) = plots.grades({name: {"IoU": score} for name in ("chance", "middle", "a")}).figure.axes
    by_name = {line.get_label(): line.get_linestyle() for line in ax.lines}

    found = {"mean": 0.2, "error": 0.1}
    maps = {
        name: {"words": name, "n": 9, "pointing game": found, "energy": found}
        for name in ("chance", "middle", "a")
    }
    (legend,) = plots.localization({"a record": {"maps": maps}}).figure.legends
    theirs = {line.get_label(): line.get_linestyle() for line in legend.get_lines()}

    assert by_name["chance"] == theirs["chance"] != theirs["spot in the middle"]
    assert by_name["middle"] == theirs["spot in the middle"]


def test_a_table_of_chance_alone_is_refused():
    with pytest.raises(ValueError, match="at least one row beside chance and middle"):
        plots.grades({"chance": {"IoU": Score(0.2, 0.1, 0.3, 9)}})


# --- agreement ------------------------------------------------------------------------------------


def test_every_method_has_a_line_through_its_correlations():
    picture = plots.agreement(["trained", "head"], {"a": [1.0, 0.25], "b": [1.0, -0.1]})
    (ax,) = picture.figure.axes
    zero, *lines = ax.lines
    assert [list(line.get_ydata()) for line in lines] == [[1.0, 0.25], [1.0, -0.1]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["trained", "head"]
    assert "a 1.00, 0.25" in picture.alt and "b 1.00, -0.10" in picture.alt
    assert lines[0].get_linestyle() != lines[1].get_linestyle(), "not by colour alone"


def test_a_line_of_another_length_is_refused():
    with pytest.raises(ValueError, match="expected as many of each"):
        plots.agreement(["trained", "head"], {"a": [1.0]})


@pytest.mark.parametrize("steps, curves", [([], {"a": []}), (["trained"], {}), ([], {})])
def test_agreement_of_nothing_is_refused(steps, curves):
    with pytest.raises(ValueError, match="agreement.*at least one line and one step"):
        plots.agreement(steps, curves)
