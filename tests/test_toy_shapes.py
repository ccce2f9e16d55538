"""Toy shapes: balanced, repeatable, annotated to the pixel, and worth learning from."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.data import toy_shapes as draw
from course_lib.data.download import DataError
from course_lib.data.toy_shapes import COLOURS, SHAPES, TEXTURES

PER_CLASS = {"train": 200, "tune": 40, "val": 40}


@pytest.fixture(scope="module")
def train():
    return draw("train", count=400)


def distance_to_background(store):
    """Per pixel, how far the picture lies from the mean colour of what is not masked."""
    outside = ~store.masks[..., None]
    mean = (store.images * outside).sum((1, 2)) / outside.sum((1, 2))
    return np.abs(store.images - mean[:, None, None]).mean(-1)


@pytest.mark.parametrize(("split", "per_class"), PER_CLASS.items())
def test_each_split_has_its_number_of_pictures_a_class(split, per_class):
    store = draw(split, num_classes=3, size=16)
    assert np.bincount(store.labels).tolist() == [per_class] * 3
    assert store.split == split and not store.is_real


def test_the_arrays_have_the_shapes_and_types_of_a_store(train):
    assert train.images.shape == (400, 64, 64, 3) and train.images.dtype == np.uint8
    assert train.masks.shape == (400, 64, 64) and train.masks.dtype == bool
    assert train.boxes.shape == (400, 4) and train.boxes.dtype == np.int16
    assert train.labels.shape == (400,) and train.labels.dtype == np.int64


def test_the_same_call_gives_the_same_pictures_and_the_count_changes_none(train):
    again = draw("train", count=25)
    for field in ("images", "labels", "boxes", "masks"):
        assert np.array_equal(getattr(again, field), getattr(train, field)[:25])


def test_splits_and_seeds_share_no_picture():
    stores = [draw(split, count=50, seed=seed) for split in PER_CLASS for seed in (0, 1)]
    pictures = {picture.tobytes() for store in stores for picture in store.images}
    boxes = {tuple(box) for store in stores for box in store.boxes.tolist()}
    assert len(pictures) == 50 * len(stores)
    assert len(boxes) > 0.9 * 50 * len(stores)


def test_labels_are_mixed_and_balanced_in_every_stretch(train):
    assert (np.bincount(train.labels) == 40).all()
    stretches = train.labels.reshape(-1, 10)
    assert (np.sort(stretches) == np.arange(10)).all()
    assert len({tuple(stretch) for stretch in stretches}) > 30


def test_the_first_ten_classes_differ_in_shape_texture_and_colour():
    names = [name.split() for name in draw("val", count=10).classes]
    columns = zip(*names, strict=True)

    for words, known in zip(columns, (TEXTURES, COLOURS, SHAPES), strict=True):
        assert len(set(words)) == 10 and set(words) <= set(known)


def test_up_to_a_thousand_classes_have_names_of_their_own():
    assert len(set(draw("val", num_classes=1000, count=1).classes)) == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1001}, "1001.*1 to 1000 classes"),
        ({"num_classes": 0}, "1 to 1000"),
        ({"size": 8}, "at least 16"),
        ({"count": 0}, "count is 0: expected at least one"),
        ({"split": "test"}, "'test'.*train, tune, val"),
    ],
)
def test_arguments_out_of_range_are_refused_with_the_range(options, message):
    with pytest.raises(DataError, match=message):
        draw(**{"split": "val"} | options)


def test_boxes_are_the_tightest_around_the_masks(train):
    for box, mask in zip(train.boxes, train.masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]


@pytest.mark.parametrize("size", [16, 64, 97])
def test_every_shape_lies_inside_the_picture_at_30_to_70_percent_of_the_side(size):
    store = draw("val", count=200, size=size)
    x0, y0, x1, y1 = store.boxes.T

    longer = np.maximum(x1 - x0, y1 - y0) + 1
    assert longer.max() <= 0.7 * size + 2
    assert longer.min() >= 0.3 * size * 0.7 - 1  # a square fills 0.7 of the circle around it
    assert min(x0.min(), y0.min()) >= 0 and max(x1.max(), y1.max()) < size


def test_places_and_scales_vary_over_the_whole_picture(train):
    centres = (train.boxes[:, :2] + train.boxes[:, 2:]) / 2
    assert (centres.std(0) > 8).all() and np.abs(centres.mean(0) - 31.5).max() < 3


@pytest.fixture(scope="module")
def large():
    return draw("val", count=100, size=160)


@pytest.mark.parametrize(
    ("shape", "least", "most"),
    [
        ("circle", np.pi / 4, np.pi / 4),
        ("square", 0.67, 1),
        ("triangle", 0.46, 0.5),
        ("diamond", 0.5, 0.53),
    ],
)
def test_a_mask_fills_the_share_of_its_box_that_geometry_says(large, shape, least, most):
    """One limit is the upright shape, the other the greatest tilt, 14 degrees, by trigonometry."""
    (label,) = (i for i, name in enumerate(large.classes) if name.endswith(shape))
    chosen = large.labels == label

    x0, y0, x1, y1 = large.boxes[chosen].T.astype(int)
    share = large.masks[chosen].sum((1, 2)) / ((x1 - x0 + 1) * (y1 - y0 + 1))
    assert share.min() > least - 0.04 and share.max() < most + 0.04  # 0.04: steps of whole pixels


def test_what_the_mask_covers_stands_out_from_the_background(train):
    difference = distance_to_background(train)

    inside = np.array([d[m].mean() for d, m in zip(difference, train.masks, strict=True)])
    outside = np.array([d[~m].mean() for d, m in zip(difference, train.masks, strict=True)])
    assert (inside > outside).mean() > 0.9


def test_mean_and_std_are_those_of_the_train_pictures(train):
    pixels = train.images.reshape(-1, 3) / np.float32(255)
    assert np.allclose(pixels.mean(0), train.mean, atol=0.01)
    assert np.allclose(pixels.std(0), train.std, atol=0.01)


def as_tensors(store):
    x = torch.from_numpy(store.images).permute(0, 3, 1, 2) / 255
    return x, torch.from_numpy(store.labels)


def test_a_small_network_learns_far_more_than_chance_in_seconds():
    """Chance is 10 %; three times that, on unseen pictures, is what a smoke run must show."""
    torch.manual_seed(0)
    layers = []
    for narrow, wide in [(3, 16), (16, 32), (32, 64)]:
        layers += [nn.Conv2d(narrow, wide, 3, 2, 1), nn.BatchNorm2d(wide), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)

    x, y = as_tensors(draw("train", count=600, size=32))
    unseen_x, unseen_y = as_tensors(draw("val", count=300, size=32))
    for _ in range(4):
        for batch in torch.randperm(len(x)).split(25):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()

    model.eval()
    assert (model(unseen_x).argmax(1) == unseen_y).float().mean() > 0.45


def test_two_thousand_pictures_take_less_than_two_seconds():
    start = time.process_time()
    draw("train", count=500)
    assert (time.process_time() - start) * 4 < 2
