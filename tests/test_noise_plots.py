"""Pictures of wrong labels and of lambda layers: every run is seen, every weight where it is."""

import numpy as np
import pytest
import torch
from made_up import record
from matplotlib.text import Text

pytest.importorskip("matplotlib.pyplot")

from course_lib import plots  # noqa: E402
from course_lib.models import LambdaLayer  # noqa: E402
from course_lib.plots.noise import COUNTED  # noqa: E402

# --- accuracy by noise ----------------------------------------------------------------------------


def test_every_run_is_a_mark_and_the_line_goes_through_the_means():
    ax = plots.noise({"a": {50: [0.5, 0.6, 0.4], 0: [record(0.9)]}}).figure.axes[0]
    line, *single = ax.lines
    assert np.allclose(line.get_ydata(), [90, 50]) and list(line.get_xdata()) == [0, 50]
    assert [sorted(marks.get_ydata()) for marks in single] == [
        pytest.approx([90]),
        pytest.approx([40, 50, 60]),
    ]
    assert len(set(single[1].get_xdata())) == 3, "side by side"


def test_a_run_that_never_saw_the_official_split_is_judged_on_tune():
    trial = record(0.52) | {"final": None}  # 0.50 on tune
    assert "a: 50.0 % at 0 %" in plots.noise({"a": {0: [trial]}}).alt


def test_a_network_has_its_colour_and_a_loss_its_dashes():
    runs = {(net, loss): {0: [0.5]} for net in ("ResNet", "lambda") for loss in ("CE", "GCE")}
    lines = plots.noise(runs).figure.axes[0].lines[::2]
    colours = [line.get_color() for line in lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]


def test_marks_of_the_first_loss_are_hollow_so_that_one_behind_them_is_seen():
    ax = plots.noise({("a", "CE"): {50: [0.5]}, ("a", "GCE"): {50: [0.5]}}).figure.axes[0]
    _, first, _, second = ax.lines
    assert first.get_markerfacecolor() == "none"
    assert second.get_markerfacecolor() == second.get_color()


def test_two_runs_that_agree_have_no_spread_in_words():
    said = plots.noise({"a": {0: [0.81, 0.81], 50: [0.7, 0.8]}}).alt
    assert "81.0 % at 0 % (n = 2)" in said and "75.0 ± 7.1 % at 50 % (n = 2)" in said


# --- by heart -------------------------------------------------------------------------------------


def rows(*as_given):
    return [dict.fromkeys(COUNTED, 0.5) | {"wrong_as_given": each} for each in as_given]


def test_what_was_learned_by_heart_is_the_mean_of_the_seeds_in_a_band():
    ax = plots.memorised({"a": [rows(0.1, 0.2), rows(0.3, 0.6)]}).figure.axes[0]
    assert np.allclose(ax.lines[0].get_ydata(), [20, 40])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(10), pytest.approx(60))


def test_titles_of_trainings_side_by_side_do_not_run_into_each_other():
    title = "session ResNet with squeeze and excitation, generalised cross-entropy"
    figure = plots.memorised({title: rows(0.1), f"{title}, too": rows(0.1)}).figure
    left, right = (ax._left_title.get_window_extent() for ax in figure.axes)
    assert left.x1 < right.x0 and right.x1 <= figure.bbox.width


# --- lambda layers --------------------------------------------------------------------------------


@torch.no_grad()
def test_a_weight_stands_where_the_position_lies_that_it_speaks_for():
    """A value one row up and two columns to the right of the query, and nothing else."""
    layer = LambdaLayer(4, dim_k=2, heads=1, r=7)
    layer.pos_conv.weight.zero_()
    layer.pos_conv.weight[1, 0, 3 - 1, 3 + 2] = 1.0

    v = torch.zeros(1, 1, 4, 9, 9)
    v[..., 4, 4] = 1.0
    lambdas = layer.position_lambdas(v)[0, 1, 0]
    assert lambdas.nonzero().tolist() == [[5, 2]], "its listener is one down, two to the left"

    figure = plots.position_kernels(layer).figure
    shown = figure.axes[1].images[0].get_array()
    assert shown.shape == (3, 5), "cropped to what is not zero"
    assert np.argwhere(shown != 0).tolist() == [[0, 4]]

    x, y = figure.axes[0].get_xticklabels(), figure.axes[0].get_yticklabels()
    assert [each.get_text() for each in x] == ["−2", "0", "2"]
    assert [each.get_text() for each in y] == ["−1", "0", "1"]


def test_zero_is_white_and_all_squares_share_a_scale():
    figure = plots.listens_to(np.stack([np.eye(3), -4 * np.eye(3)])).figure
    for ax in figure.axes[:2]:
        drawn = ax.images[0]
        assert drawn.get_clim() == (-4, 4)
        assert min(drawn.to_rgba(np.zeros((1, 1)))[0, 0]) > 0.95


def test_the_pixel_is_outlined_in_the_map_and_where_it_lies_in_the_picture():
    image = np.zeros((64, 32, 3), np.uint8)
    figure = plots.listens_to(np.zeros((8, 4)), image, at=(5, 2)).figure
    of_picture, of_map = (ax.patches[0] for ax in figure.axes[:2])

    assert of_map.get_xy() == (1.5, 4.5) and of_map.get_width() == 1
    assert of_picture.get_xy() == (2 * 8 - 0.5, 5 * 8 - 0.5)
    assert (of_picture.get_width(), of_picture.get_height()) == (8, 8)


def test_costs_are_drawn_by_side_in_milliseconds_and_megabytes_on_log_scales():
    figure = plots.costs({"a": [(16, 0.5, 3e6), (8, 0.1, 1e6)]}).figure
    for ax, expected in zip(figure.axes, ([100, 500], [1, 3]), strict=True):
        assert ax.get_xscale() == ax.get_yscale() == "log"
        assert list(ax.lines[0].get_xdata()) == [8, 16]
        assert np.allclose(ax.lines[0].get_ydata(), expected)


def test_a_cost_that_was_not_measured_is_not_read_aloud():
    nan = float("nan")
    points = [(8, nan, 2e6), (16, nan, nan), (32, nan, 3e6)]
    alt = plots.costs({"a": points, "b": [(8, 0.1, 1e6)]}).alt
    assert "a: side from 8 to 32, time not measured, from 2 to 3 MB where it was measured" in alt
    assert "b: side 8, 100 ms, 1 MB" in alt and "nan" not in alt


def test_words_of_the_diagram_stay_in_their_boxes_and_apart():
    figure = plots.lambda_diagram().figure
    ax = figure.axes[0]
    texts = [Text.get_window_extent(text) for text in ax.texts if text.get_text()]
    assert all(0 <= each.x0 and each.x1 <= figure.bbox.width for each in texts)
    for i, one in enumerate(texts):
        assert not any(one.overlaps(other) for other in texts[i + 1 :])

    frames = [patch.get_window_extent() for patch in ax.patches]
    for text in texts:
        for frame in frames:
            inside = frame.x0 <= text.x0 and text.x1 <= frame.x1
            assert inside or not frame.overlaps(text)
