"""Grades by arithmetic on maps of a few pixels, and on toy shapes, where the truth is known."""

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.data import toy_shapes
from course_lib.explain import (
    best_threshold,
    deletion,
    energy_in_box,
    enlarge_objects,
    grade,
    grade_by_pixels,
    insertion,
    iou,
    middle_spot,
    pointing_game,
    score,
)
from course_lib.files import CourseError

MAP = np.array([[[0.0, 0.2, 0.0, 0.0], [0.0, 0.4, 1.0, 0.0], [0.4, 0.0, 0.0, 0.0]]])  # (1, 3, 4)


def box(*ends):
    return np.array([ends])


@pytest.fixture(scope="module")
def toys():
    return toy_shapes("val", count=40, size=32)


# --- where the map lies -------------------------------------------------------------------------


def test_pointing_game_asks_for_the_brightest_pixel():
    assert pointing_game(MAP, box(2, 1, 2, 1)) == [1]
    assert pointing_game(MAP, box(0, 0, 1, 2)) == [0]


def test_both_ends_of_a_box_lie_inside():
    for inside in [(0, 0, 2, 1), (2, 1, 3, 2)]:
        assert pointing_game(MAP, box(*inside)) == [1]
    for outside in [(0, 0, 1, 2), (0, 0, 3, 0), (3, 0, 3, 2), (0, 2, 3, 2)]:
        assert pointing_game(MAP, box(*outside)) == [0]

    assert energy_in_box(np.ones((1, 3, 4)), box(1, 0, 2, 1)) == pytest.approx(4 / 12)


def test_of_several_brightest_pixels_the_share_inside_counts():
    tied = np.array([[[1.0, 1.0, 0.0, 1.0]]])
    assert pointing_game(tied, box(0, 0, 0, 0)) == pytest.approx(1 / 3)
    assert pointing_game(tied, box(0, 0, 1, 0)) == pytest.approx(2 / 3)
    assert pointing_game(tied, box(2, 0, 2, 0)) == [0]


def test_energy_is_the_share_of_the_sum():
    assert energy_in_box(MAP, box(1, 0, 1, 1)) == pytest.approx(0.6 / 2)
    assert energy_in_box(5 * MAP, box(1, 0, 1, 1)) == pytest.approx(0.6 / 2)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.2, 2 / 4), (0.3, 2 / 3), (0.5, 1 / 2), (1.0, 1 / 2)],  # 4, 3, 1, 1 bright pixels; box of 2
)
def test_iou_is_intersection_over_union(threshold, expected):
    assert iou(MAP, box(1, 1, 2, 1), threshold) == pytest.approx(expected)


def test_iou_takes_the_share_of_each_maps_own_maximum():
    np.testing.assert_array_equal(iou(MAP / 8, box(1, 1, 2, 1)), iou(MAP, box(1, 1, 2, 1)))


@pytest.mark.parametrize("each", [pointing_game, energy_in_box, iou])
def test_a_map_of_zeros_points_nowhere(each):
    assert each(np.zeros((1, 3, 4)), box(0, 0, 3, 2)) == [0]


@pytest.mark.parametrize("each", [pointing_game, energy_in_box, iou])
def test_a_mask_counts_as_its_box_does(each):
    mask = np.zeros((1, 3, 4), bool)
    mask[0, 1:3, 1:3] = True
    np.testing.assert_array_equal(each(MAP, mask), each(MAP, box(1, 1, 2, 2)))


@pytest.mark.parametrize("each", [pointing_game, energy_in_box, iou])
def test_pictures_do_not_mix(each, toys):
    maps = np.random.default_rng(0).random((40, 32, 32))
    together = each(maps, toys.boxes)
    alone = [each(maps[i : i + 1], toys.boxes[i : i + 1])[0] for i in range(40)]
    np.testing.assert_allclose(together, alone)


@pytest.mark.parametrize("each", [pointing_game, energy_in_box, iou])
def test_the_truth_has_full_marks_on_toy_shapes(each, toys):
    truth = toys.masks.astype(np.float32)
    np.testing.assert_allclose(each(truth, toys.masks), 1)
    np.testing.assert_allclose(each(1 - truth, toys.masks), 0)
    if each is not iou:  # a mask does not fill its box
        np.testing.assert_allclose(each(truth, toys.boxes), 1)


# --- beside chance and the middle ---------------------------------------------------------------


def test_chance_is_the_mean_share_that_boxes_cover(toys):
    table = grade({"any": np.ones((40, 32, 32), np.float32)}, toys.boxes)

    x0, y0, x1, y1 = toys.boxes.astype(int).T
    share = np.mean((x1 - x0 + 1) * (y1 - y0 + 1) / 32**2)
    for column, found in table["chance"].items():
        assert found.mean == pytest.approx(share), column
        assert found.n == 40


def test_grade_has_a_row_for_chance_middle_and_each_map(toys):
    truth = toys.masks.astype(np.float32)
    table = grade({"truth": truth, "inverse": 1 - truth}, toys.masks)

    assert list(table) == ["chance", "middle", "truth", "inverse"]
    assert all(list(row) == ["pointing game", "energy", "IoU"] for row in table.values())
    assert table["truth"]["energy"].mean == 1 and table["inverse"]["energy"].mean == 0
    assert table["truth"]["IoU"].low > table["middle"]["IoU"].high


@pytest.mark.parametrize(("height", "width"), [(9, 7), (8, 6)])
def test_the_middle_spot_is_a_gaussian_in_the_middle(height, width):
    spot = middle_spot((2, height, width))

    assert spot.shape == (2, height, width) and spot.dtype == np.float32
    np.testing.assert_allclose(spot, spot[:, ::-1, ::-1], atol=1e-7)
    np.testing.assert_array_equal(spot[0], spot[1])

    y, x = height // 2, width // 2
    far = [(np.arange(side) + 0.5 - side / 2) / (side / 4) for side in (height, width)]  # in σ
    density = np.exp(-(far[0][:, None] ** 2 + far[1] ** 2) / 2)
    np.testing.assert_allclose(spot[0] / spot[0, y, x], density / density[y, x], rtol=1e-5)


def test_the_interval_is_the_normal_one():
    values = np.random.default_rng(0).random(100)

    found = score(values)

    error = values.std(ddof=1) / 10
    assert found.mean == pytest.approx(values.mean()) and found.n == 100
    assert found.low == pytest.approx(values.mean() - 1.96 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error)


def test_the_interval_holds_the_truth_in_95_of_100_cases():
    draws = np.random.default_rng(0).random((2000, 50)) < 0.6
    scores = [score(draw) for draw in draws]
    covered = np.mean([each.low <= 0.6 <= each.high for each in scores])
    assert 0.93 < covered < 0.97


# --- what the network needs ---------------------------------------------------------------------


class RedAt(nn.Module):
    """Sure of class 1 as far as one pixel is bright in the first channel, of class 0 otherwise."""

    def __init__(self, y, x):
        super().__init__()
        self.y, self.x = y, x

    def forward(self, images):
        seen = 20 * images[:, 0, self.y, self.x] - 10
        return torch.stack([-seen, seen], 1)


@pytest.fixture
def bright():
    return torch.ones(2, 3, 16, 16)


def ranked(y, x, turn):
    """A map whose pixel (y, x) is the one of the given turn, 0 the brightest, of 256."""
    order = [i for i in range(256) if i != 16 * y + x]
    order.insert(turn, 16 * y + x)
    flat = np.empty(256, np.float32)
    flat[order] = np.linspace(1, 0, 256)
    return np.stack([flat.reshape(16, 16)] * 2)


@pytest.mark.parametrize("turn", [0, 100, 255])
def test_deletion_is_the_share_of_pixels_until_the_class_is_lost(bright, turn):
    found = deletion(RedAt(5, 6), bright, ranked(5, 6, turn), [1, 1], steps=256)

    # A step function, by trapezoids: sure up to the turn, and half of one step.
    np.testing.assert_allclose(found, (turn + 0.5) / 256, atol=1e-6)


@pytest.mark.parametrize("turn", [0, 100, 255])
def test_insertion_is_the_share_of_pixels_after_the_class_is_found(turn):
    images = torch.zeros(2, 3, 16, 16)
    images[:, :, 5, 6] = 1  # blurred, it is almost gone

    found = insertion(RedAt(5, 6), images, ranked(5, 6, turn), steps=256)

    np.testing.assert_allclose(found, 1 - (turn + 0.5) / 256, atol=1e-6)


def test_pixels_go_in_equal_parts(bright):
    """In four steps the pixel of turn 100 goes with the second part."""
    found = deletion(RedAt(5, 6), bright, ranked(5, 6, 100), [1, 1], steps=4)
    np.testing.assert_allclose(found, (1 + 0.5) / 4, atol=1e-6)


def test_equals_go_in_a_random_order_that_is_always_the_same(bright):
    """Else a flat map would remove the picture from the top down, and chance would be no chance."""
    flat = np.ones((2, 16, 16), np.float32)
    corners = [(0, 0), (0, 15), (15, 0), (15, 15), (8, 8)]
    found = [deletion(RedAt(*at), bright, flat, [1, 1], steps=256) for at in corners]
    again = [deletion(RedAt(*at), bright, flat, [1, 1], steps=256) for at in corners]

    np.testing.assert_array_equal(found, again)
    found = np.array(found)
    assert (found[:, 0] != found[:, 1]).all()  # every picture has its own order
    assert 0.25 < found.mean() < 0.75 and found.min() < 0.35 and found.max() > 0.65


def test_the_predicted_class_of_the_whole_picture_is_the_default(bright):
    maps = ranked(5, 6, 30)
    by_default = deletion(RedAt(5, 6), bright, maps)
    np.testing.assert_array_equal(by_default, deletion(RedAt(5, 6), bright, maps, [1, 1]))


def test_many_pictures_are_taken_in_parts(bright):
    maps = ranked(5, 6, 30)
    many = deletion(
        RedAt(5, 6), bright.repeat(50, 1, 1, 1), np.tile(maps, (50, 1, 1)), [1] * 100, steps=8
    )
    np.testing.assert_allclose(many, deletion(RedAt(5, 6), bright, maps, [1, 1], steps=8)[0])


def test_by_pixels_a_map_that_knows_beats_chance_and_the_middle():
    images = torch.zeros(8, 3, 16, 16)
    images[:, :, 2, 3] = 1
    maps = np.concatenate([ranked(2, 3, 0)] * 4)

    table = grade_by_pixels(RedAt(2, 3), images, {"knows": maps}, steps=32)

    assert list(table) == ["chance", "middle", "knows"]
    knows, chance, middle = table["knows"], table["chance"], table["middle"]
    assert knows["deletion"].high < min(chance["deletion"].low, middle["deletion"].low)
    assert knows["insertion"].low > max(chance["insertion"].high, middle["insertion"].high)


def test_the_model_is_left_as_found(bright):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(3))
    model(bright)
    model.train()[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    insertion(model, bright, np.ones((2, 16, 16), np.float32), steps=2)

    assert [module.training for module in model] == [True, False, True, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("each", [deletion, insertion])
def test_a_first_layer_that_works_in_place_spoils_no_picture(each):
    """Neither those of the caller nor those that the curve is made of."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    kept = images.clone()
    maps = np.random.default_rng(0).random((2, 8, 8))
    layers = nn.Flatten(), nn.Linear(3 * 8 * 8, 5)

    expected = each(nn.Sequential(nn.LeakyReLU(0.1), *layers), images, maps)
    found = each(nn.Sequential(nn.LeakyReLU(0.1, inplace=True), *layers), images, maps)

    assert torch.equal(images, kept)
    np.testing.assert_array_equal(found, expected)


# --- errors with a cure -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("maps", "where", "words"),
    [
        (MAP, box(0, 0, 4, 2), r"number 0 is \[0, 0, 4, 2\]"),
        (MAP, box(2, 0, 1, 2), "inside 4 × 3 pixels"),
        (MAP, box(0, -1, 1, 2), "inside 4 × 3 pixels"),
        (MAP, np.zeros((2, 4), int), r"expected boxes, int \(1, 4\)"),
        (MAP, np.zeros((1, 4)), r"expected boxes, int \(1, 4\)"),
        (MAP, np.zeros((1, 3, 4)), r"or masks, bool \(1, 3, 4\)"),
        (MAP[0], box(0, 0, 1, 1), r"maps: expected an array \(N, H, W\)"),
        (torch.ones(1, 3, 4), box(0, 0, 1, 1), r"maps: expected a numpy array .* got a Tensor: np"),
        (
            MAP.tolist(),
            box(0, 0, 1, 1),
            r"maps: expected a numpy array \(N, H, W\), got a list: np",
        ),
        (-MAP, box(0, 0, 1, 1), "finite values from 0 on"),
        (MAP * np.nan, box(0, 0, 1, 1), "finite values from 0 on"),
        (MAP > 0, box(0, 0, 1, 1), "expected float values"),
    ],
)
def test_what_does_not_fit_is_an_error(maps, where, words):
    with pytest.raises(CourseError, match=words):
        pointing_game(maps, where)


def test_maps_of_different_shapes_are_an_error():
    with pytest.raises(CourseError, match="b: expected an array"):
        grade({"a": MAP, "b": MAP[:, :2]}, box(0, 0, 1, 1))


@pytest.mark.parametrize("other", [torch.from_numpy(MAP), MAP.tolist()], ids=["tensor", "list"])
def test_maps_that_are_no_arrays_are_an_error_under_their_name(other):
    with pytest.raises(CourseError, match="a: expected a numpy array"):
        grade({"a": other}, box(0, 0, 1, 1))


def test_one_picture_has_no_interval():
    with pytest.raises(CourseError, match="at least two pictures"):
        grade({"a": MAP}, box(0, 0, 1, 1))


@pytest.mark.parametrize("threshold", [0, 1.5])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(CourseError, match="threshold"):
        iou(MAP, box(0, 0, 1, 1), threshold)


def test_maps_that_do_not_belong_to_the_pictures_are_an_error(bright):
    with pytest.raises(CourseError, match=r"maps: expected an array \(2, 16, 16\)"):
        deletion(RedAt(0, 0), bright, np.ones((2, 8, 8), np.float32))


def test_more_steps_than_pixels_are_an_error(bright):
    with pytest.raises(CourseError, match="steps: expected 1 to 256"):
        deletion(RedAt(0, 0), bright, np.ones((2, 16, 16), np.float32), steps=257)


@pytest.mark.parametrize("shape", [(5, 16), (16, 5)])
def test_pictures_too_small_for_the_blur_are_an_error(shape):
    images, maps = torch.zeros(2, 3, *shape), np.ones((2, *shape), np.float32)
    deletion(RedAt(0, 0), images, maps)  # needs no blur
    with pytest.raises(CourseError, match=f"6 pixels or more, got {shape[0]} × {shape[1]}"):
        insertion(RedAt(0, 0), images, maps)


def test_six_pixels_are_enough_for_the_blur():
    images, maps = torch.zeros(2, 3, 6, 6), np.ones((2, 6, 6), np.float32)
    assert insertion(RedAt(0, 0), images, maps).shape == (2,)


@pytest.mark.parametrize("targets", [1, [1], [1, 1, 1]])
def test_targets_that_do_not_belong_to_the_pictures_are_an_error(bright, targets):
    with pytest.raises(CourseError, match="expected 2 class indices, one for each picture"):
        deletion(RedAt(0, 0), bright, np.ones((2, 16, 16), np.float32), targets)


def test_too_many_targets_are_an_error_also_where_pictures_are_taken_in_parts(bright):
    images, maps = bright.repeat(32, 1, 1, 1), np.ones((64, 16, 16), np.float32)
    with pytest.raises(CourseError, match="expected 64 class indices"):
        deletion(RedAt(0, 0), images, maps, [1] * 70)


# --- thresholds, and larger pictures --------------------------------------------------------------


def test_the_threshold_is_the_one_of_the_best_mean_overlap():
    """The object has the two brightest pixels: each threshold above 0.2 and up to 0.4 takes 3."""
    assert best_threshold(MAP, box(1, 1, 2, 1)) == pytest.approx(0.25)
    assert best_threshold(MAP, box(2, 1, 2, 1)) == pytest.approx(0.45), "the brightest alone"


def test_of_many_pictures_the_mean_decides():
    """The second map is best at any threshold up to 0.1, by more than the first one loses there."""
    other = np.array([[[0.0, 0.0, 0.0, 0.0], [0.1, 0.1, 1.0, 0.1], [0.0, 0.0, 0.0, 0.0]]])
    maps, boxes = np.concatenate([MAP, other]), np.concatenate([box(1, 1, 2, 1), box(0, 1, 3, 1)])

    means = {t: np.mean([iou(maps, boxes, t)]) for t in (0.05, 0.1, 0.25, 0.45)}
    assert best_threshold(maps, boxes) == pytest.approx(0.05) and max(means, key=means.get) == 0.05


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_objects_of_enlarged_pictures_cover_the_same_share(toys, factor):
    large = np.ones((40, 32 * factor, 32 * factor), np.float32)
    boxes, masks = (enlarge_objects(where, factor) for where in (toys.boxes, toys.masks))

    small = np.ones((40, 32, 32), np.float32)
    for where, before in ((boxes, toys.boxes), (masks, toys.masks)):
        np.testing.assert_allclose(energy_in_box(large, where), energy_in_box(small, before))


def test_an_enlarged_box_and_mask_lie_where_the_picture_shows_the_object():
    assert enlarge_objects(box(1, 0, 2, 0), 2).tolist() == [[2, 0, 5, 1]]

    mask = np.zeros((1, 2, 3), bool)
    mask[0, 1, 2] = True
    assert np.argwhere(enlarge_objects(mask, 2)[0]).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_the_standard_error_is_that_of_the_mean():
    assert score(np.array([1.0, 0, 1, 1])).error == pytest.approx(0.5 / 2)  # s = 1/2, n = 4
