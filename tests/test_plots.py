"""Pictures: a text that names the numbers, a light PNG, no figure left open, odd input."""

import base64
import io
import re
from html import unescape
from types import SimpleNamespace

import made_up
import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

plt = pytest.importorskip("matplotlib.pyplot")

from course_lib import plots  # noqa: E402
from course_lib.models import LambdaLayer  # noqa: E402

NAMES = [
    "goldfish, Carassius auratus",
    "European fire salamander, Salamandra salamandra",
    "bullfrog, frog",
]


def pictures(number, size=64, seed=0):
    """Smooth colours with a little noise: as hard to compress as a photograph of that size."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (number, 8, 8, 3)).astype(np.uint8)
    smooth = [np.asarray(Image.fromarray(image).resize((size, size))) for image in coarse]
    noise = rng.normal(0, 8, (number, size, size, 3))
    return np.clip(np.stack(smooth) + noise, 0, 255).astype(np.uint8)


def run(epochs=3, sizes=(32, 48), steps=True, **overwrite):
    """A History of so many epochs; ``overwrite`` takes the place of a column."""
    rows = []
    for e in range(epochs):
        row = {
            "epoch": e + 1,
            "picture_size": sizes[e % len(sizes)],
            "train_loss": 4.9 - e,
            "train_top1": 0.1 + 0.2 * e,
            "val_loss": 4.6 - e,
            "val_top1": 0.15 + 0.2 * e,
            "lr": 0.1 / (e + 1),
            "seconds": 1.0,
        }
        rows.append(row | overwrite)

    every_tenth = [[i, 0.4 * (30 - i) / 30, 5.0] for i in range(0, 30, 10)]
    return SimpleNamespace(rows=rows, steps=every_tenth if steps else [])


def decoded(picture):
    """The PNG out of the HTML, as a browser would find it."""
    tag = re.fullmatch(
        r'<img alt="([^"<>]+)" src="data:image/png;base64,([^"]+)" width="(\d+)" style="[^"]+">',
        picture._repr_html_(),
    )
    assert tag
    alt, data, width = tag.groups()
    assert unescape(alt) == picture.alt == repr(picture)

    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    assert image.width == pytest.approx(2 * int(width), abs=1), "not twice as fine as shown"
    return image


def watched(*as_given):
    """Rows of a training on wrong labels: what is not taken as given is taken for the truth."""
    return [
        {"wrong_as_given": each, "wrong_as_true": 1 - each, "right_as_given": 0.9}
        for each in as_given
    ]


TESTED = [made_up.sweep()["range_test"][key] for key in ("lrs", "losses")]

# Every function: a call, and what the text of its picture has to say.
EVERY = {
    "gallery": (
        lambda: plots.gallery(
            pictures(3),
            NAMES,
            boxes=np.tile([3, 4, 50, 60], (3, 1)),
            masks=np.tile(np.eye(64, dtype=bool), (3, 1, 1)),
        ),
        ["3 pictures", "goldfish", "European fire salamander"],
    ),
    "augmentation_gallery": (
        lambda: plots.augmentation_gallery({"original": pictures(4), "flip": pictures(4, seed=1)}),
        ["4 pictures", "original; flip"],
    ),
    "history": (
        lambda: plots.history(run()),
        [
            "3 epochs",
            "from 4.9 to 2.9 and from 4.6 to 2.6",
            "from 10.0 % to 50.0 % and from 15.0 % to 55.0 %",
            "highest 0.4",
            "last 0.133",
            "from 32 to 48 px",
        ],
    ),
    "compare": (
        lambda: plots.history({"plain": run(), "residual <34>": run(5)}),
        [
            "2 runs",
            "plain: from 15.0 % to 55.0 % and from 4.6 to 2.6",
            "residual <34>: from 15.0 % to 95.0 %",
        ],
    ),
    "training_curves": (
        lambda: plots.training_curves({"A": run(), "<B>": run(2, val_loss=900.0).rows}),
        [
            "2 trainings",
            "A: train loss from 4.9 to 2.9, accuracy from 10.0 % to 50.0 %, tune loss",
            "<B>: train loss from 4.9 to 3.9",
            "tune loss from 900 to 900",
        ],
    ),
    "accuracy_by_price": (
        lambda: plots.accuracy_by_price(
            {
                "plain": [[(0.1, 0.2), (0.3, 0.5)], [(0.1, 0.3), (0.5, 0.6)]],
                "one <seed>": [[(0.2, 0.4)]],
            }
        ),
        [
            "plain, n = 2: from 25.0 % to 55.0 %, at a price of 0.40",
            "one <seed>, n = 1: 40.0 %, at a price of 0.20",
        ],
    ),
    "depth": (
        lambda: plots.depth({"plain, 56": [run().rows, run(train_top1=0.3)], "ResNet <56>": run()}),
        ["plain, 56, n = 2: from 80.0 % to 60.0 %", "ResNet <56>, n = 1: from 90.0 % to 50.0 %"],
    ),
    "gradient_norms": (
        lambda: plots.gradient_norms({"plain": [1e-5, 0.02, 0.3], "ResNet <56>": [0.5, 0.0]}),
        [
            "plain: 3 convolutions, from 1e-5 to 0.3",
            "ResNet <56>, 1 of them zero or NaN: 2 convolutions, from 0.5 to 0",
        ],
    ),
    "lr_range": (
        lambda: plots.lr_range([1e-5, 1e-3, 0.1, 1, 10], [5.3, 5.2, 3.9, 3.7, 90], 0.0735, 0.9),
        [
            "from 1e-5 to 10",
            "starts at 5.3",
            "lowest value is 3.7",
            "fastest at 0.0735",
            "not this one",
        ],
    ),
    "range_curves": (
        lambda: plots.range_curves(
            {
                "<falls>": TESTED,
                "linear": SimpleNamespace(lrs=[0.1, 0.2, 0.3], losses=[3.0, 2.0, 2.5]),
            }
        ),
        [
            "2 range tests",
            "<falls>: rates from 1 to 5.76e+17, loss from 5 to 8, lowest 2",
            "minimum 5.5e+11",
            "linear: rates from 0.1 to 0.3, loss from 3 to 2.5, lowest 2; the loss does not fall",
        ],
    ),
    "sweeps": (
        lambda: plots.sweeps(
            {
                "one": made_up.sweep({2.0**30: 0.5, 2.0**38: 0.6, 2.0**40: None}),
                "<two>": made_up.sweep(losses=np.linspace(1, 2, 60)),
            }
        ),
        [
            "2 sweeps",
            "one: 3 peak rates from 1.07e9 to 1.1e+12, top-1 at most 60.0 %",
            "lowest loss at 2.75e+11",
            "1 training diverged",
            "minimum 5.5e+11",
            "<two>: 3 peak rates from 0.1 to 0.4",
            "minimum none",
        ],
    ),
    "noise": (
        lambda: plots.noise(
            {
                ("plain", "<GCE>"): {50: [made_up.record(0.5), made_up.record(0.6)]},
                ("plain", "cross-entropy"): {5: [made_up.record(0.8)], 50: [0.25, 0.35]},
            }
        ),
        [
            "plain, <GCE>: 55.0 ± 7.1 % at 50 % (n = 2)",
            "plain, cross-entropy: 80.0 % at 5 % (n = 1), 30.0 ± 7.1 % at 50 % (n = 2)",
        ],
    ),
    "memorised": (
        lambda: plots.memorised({"A": watched(0.1, 0.5), "<B>": [watched(0.2), watched(0.4)]}),
        [
            "A (n = 1): wrong label: taken for what the label says: from 10.0 % to 50.0 %",
            "taken for what the picture shows: from 90.0 % to 50.0 %",
            "<B> (n = 2): wrong label: taken for what the label says: 30.0 %",
        ],
    ),
    "position_kernels": (
        lambda: plots.position_kernels(LambdaLayer(8, dim_k=3, r=5)),
        ["3 position kernels of 5 × 5 offsets: weights from "],
    ),
    "listens_to": (
        lambda: plots.listens_to(np.eye(4) - 2 * np.eye(4)[::-1], pictures(1)[0], at=(1, 2)),
        [
            "the pixel at row 1, column 2 of a 4 × 4 map",
            "weights: from -2 to 1, farthest from zero at row 0, column 3",
        ],
    ),
    "costs": (
        lambda: plots.costs(
            {"attention": [(8, 0.1, 2e6), (4, 0.01, 1e6)], "<lambda>": [(4, 0.02, DIVERGED)]}
        ),
        [
            "attention: side from 4 to 8, from 10 to 100 ms, from 1 to 2 MB",
            "<lambda>: side 4, 20 ms, memory not measured",
        ],
    ),
    "lambda_diagram": (
        plots.lambda_diagram,
        ["keys (k×m), values (v×m)", "softmax over the positions m", "Content lambda", "Position"],
    ),
    "schedules": (
        lambda: plots.schedules({"step": [0.4, 0.4, 0.04], "warm-up": [0.0, 0.2, 0.1]}),
        ["step: first 0.4", "highest 0.2 at step 1", "last 0.1 at step 2"],
    ),
    "per_class": (
        lambda: plots.per_class(
            np.linspace(0, 1, 200), [f"class {i}, also {i}" for i in range(200)]
        ),
        ["200 classes", "mean 50.0 %", "Best: class 199 100 %", "Worst: class 0 0 %", "7 more"],
    ),
    "confusions": (
        lambda: plots.confusions([(NAMES[0], NAMES[1], 12), (NAMES[2], NAMES[0], 7)]),
        ["goldfish → European fire salamander, 12", "bullfrog → goldfish, 7"],
    ),
    "wrong": (
        lambda: plots.wrong(pictures(3), NAMES, NAMES[::-1], [0.984, 0.9, 0.5]),
        ["3 wrong predictions", "goldfish taken for bullfrog (98 %)"],
    ),
    "cam_grid": (
        lambda: plots.cam_grid(
            pictures(2),
            {"c4": np.zeros((2, 64, 64)), "c5": np.ones((2, 64, 64))},
            ["said lion (98 %)\nis tabby"] * 2,
            boxes=[[0, 0, 63, 63]] * 2,
        ),
        ["2 pictures", "c4, c5", "said lion (98 %) is tabby"],
    ),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_picture_says_what_it_shows_and_is_light(name, tmp_path):
    draw, facts = EVERY[name]
    before = plt.get_fignums(), dict(plt.rcParams)
    picture = draw()

    assert (plt.get_fignums(), dict(plt.rcParams)) == before
    for fact in facts:
        assert fact in picture.alt

    assert len(picture.png) < 250_000
    image = decoded(picture)
    assert 450 <= image.width <= 1760 and image.height >= 200
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)

    picture.save(tmp_path / "picture.png", Digest="µ 1")
    with Image.open(tmp_path / "picture.png") as saved:
        assert saved.text == {"Description": picture.alt, "Digest": "µ 1"}
        assert np.array_equal(saved.convert("RGB"), image.convert("RGB"))


def test_a_dark_style_chosen_by_the_reader_does_not_blacken_the_figure():
    with plt.style.context("dark_background"):
        page = decoded(plots.history(run())).convert("L")
    assert page.getpixel((0, 0)) == 255 and np.mean(np.asarray(page) < 128) < 0.2


def test_gallery_shows_the_pictures_in_order_without_resampling():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    flat = np.tile(np.array(colours, np.uint8)[:, None, None], (1, 64, 64, 1))
    page = np.asarray(decoded(plots.gallery(flat, columns=3)).convert("RGB")).astype(int)

    lefts = []
    for colour in colours:
        rows, columns = np.nonzero(np.abs(page - colour).max(-1) < 4)
        # 160 wide as shown: five figure pixels to one of the picture
        assert len(rows) == (5 * 64) ** 2
        lefts.append(columns.min())
    assert lefts == sorted(lefts)


def test_a_long_name_over_a_picture_is_broken_in_two_and_not_cut():
    names = ["English springer?", "golf ball?, dimpled"]
    axes = plots.gallery(pictures(2), names).figure.axes
    assert [ax.get_title("left") for ax in axes] == ["English\nspringer?", "golf ball?"]


def test_small_pictures_are_shown_at_least_80_wide():
    wide = decoded(plots.gallery(pictures(12, size=32), columns=12))
    assert wide.width / 2 >= 12 * 80


def test_many_large_pictures_stay_light():
    assert len(plots.gallery(pictures(18, size=160), columns=12).png) < 250_000


def test_box_corners_are_inclusive():
    figure = plots.gallery(pictures(1), boxes=[[0, 0, 63, 63]]).figure
    box = figure.axes[0].patches[0]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (-0.5, -0.5, 64, 64)


def test_a_long_name_without_a_space_keeps_its_beginning():
    figure = plots.history({"tiny_imagenet_quick.without_whitening": run(), "other": run()}).figure
    labels = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert any(label.startswith("tiny_imagenet_quick.without_w") for label in labels)


def test_cam_overlay_is_half_picture_half_colour_map():
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    figure = plots.cam_grid(white, {"c5": np.zeros((1, 64, 64))}, ["white"]).figure
    overlay = figure.axes[1].images[0].get_array()

    start = np.array(matplotlib.colormaps["viridis"](0.0)[:3])  # dark violet
    violet = (start + 1) / 2 * 255
    assert np.allclose(overlay, violet, atol=2)


def test_depth_takes_one_history_its_rows_or_those_of_several_seeds():
    once = plots.depth({"a": run()}).alt
    for same in (run().rows, [run()], [run().rows]):
        assert plots.depth({"a": same}).alt == once
    assert "n = 2: from 90.0 % to 50.0 %" in plots.depth({"a": [run(), run()]}).alt


def test_depth_draws_the_mean_of_the_seeds_in_a_band_from_the_lowest_to_the_highest():
    seeds = [run(train_top1=top1) for top1 in (0.1, 0.2, 0.6)]
    ax = plots.depth({"several": seeds, "one": run()}).figure.axes[0]

    assert np.allclose(ax.lines[0].get_ydata(), 70) and len(ax.collections) == 1
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(40), pytest.approx(90))


@pytest.mark.parametrize(
    "draw",
    [
        lambda names: plots.depth({name: run() for name in names}),
        lambda names: plots.gradient_norms({name: [0.1, 0.2] for name in names}),
    ],
)
def test_networks_differ_in_colour_and_those_without_shortcuts_are_dashed(draw):
    lines = draw(["plain, 20 layers", "plain56", "ResNet, 20 layers"]).figure.axes[0].lines
    assert [line.get_linestyle() for line in lines] == ["--", "--", "-"]
    assert len({line.get_color() for line in lines}) == 3


def test_names_at_the_ends_of_lines_do_not_run_into_each_other():
    """Though four lines end at one point."""
    figure = plots.depth({f"ResNet, {layers} layers": run() for layers in (20, 32, 44, 56)}).figure
    # of the words alone: an annotation's own extent has its arrow in it
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    boxes.sort(key=lambda box: box.y0)

    assert len(boxes) == 4
    assert all(low.y1 <= high.y0 for low, high in zip(boxes, boxes[1:], strict=False))
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.width for box in boxes)


def test_gradient_norms_of_nets_of_different_depth_stand_at_their_convolutions():
    ax = plots.gradient_norms({"plain": [0.1] * 19, "ResNet": [0.0, 0.2, DIVERGED, 0.4]}).figure
    lines = ax.axes[0].lines
    assert list(lines[0].get_xdata()) == list(range(1, 20))
    assert list(lines[1].get_xdata()) == [2, 4] and list(lines[1].get_ydata()) == [0.2, 0.4]
    assert ax.axes[0].get_yscale() == "log"


def test_a_huge_loss_flattens_no_other_training():
    runs = {"sound": run(), "explodes": run(val_loss=900.0), "slow": run(val_loss=5.0)}
    axes = plots.training_curves(runs).figure.axes
    sound, explodes, slow = (ax.get_ylim() for ax in axes[::2])

    assert sound == slow  # so that they can be compared
    assert 1 < sound[0] < 2.6 and 5 < sound[1] < 10
    assert explodes[0] < 4.9 and 900 < explodes[1]


NO_CLASS = np.full((1, 64, 64), np.nan)  # a map of a class that nothing speaks for
EMPTY_AND_FULL = np.stack([np.zeros((64, 64), bool), np.ones((64, 64), bool)])
DIVERGED = float("nan")


def without_weights(layer):
    torch.nn.init.zeros_(layer.pos_conv.weight)
    return layer


LONG = "a name of " + "many words " * 9

ODD = {
    "one epoch": lambda: plots.history(run(1)),
    "one epoch, no steps": lambda: plots.history(run(1, steps=False)),
    "one run of one epoch": lambda: plots.history({"a": run(1)}),
    "no picture size": lambda: plots.history(run(4, picture_size=None)),
    "many epochs": lambda: plots.history(run(20, steps=False)),
    "no loss": lambda: plots.history(run(val_loss=DIVERGED, train_loss=None)),
    "a run without an end": lambda: plots.history({"a": run(val_loss=DIVERGED), LONG: run()}),
    "trainings of one epoch": lambda: plots.training_curves({"A": run(1), LONG: run(1)}),
    "a training that diverged": lambda: plots.training_curves({"A": run(val_loss=DIVERGED)}),
    "a loss that diverged": lambda: plots.lr_range([0.001, 0.01, 0.1], [5.0, 4.0, DIVERGED]),
    "depth of one epoch": lambda: plots.depth({"a": run(1), LONG: run(1)}),
    "a depth that diverged": lambda: plots.depth({"a": [run(train_top1=DIVERGED), run()]}),
    "one convolution": lambda: plots.gradient_norms({LONG: [0.1]}),
    "no gradient": lambda: plots.gradient_norms({"a": [0.0, 0.0], "b": [DIVERGED]}),
    "one rate": lambda: plots.lr_range([0.1], [2.0], 0.1, 0.1),
    "one step": lambda: plots.schedules({"one step": [0.1]}),
    "one class": lambda: plots.per_class([0.5], ["only"]),
    "a class without pictures": lambda: plots.per_class([0.5, float("nan"), 1.0], NAMES),
    "no confusion": lambda: plots.confusions([]),
    "nothing wrong": lambda: plots.wrong(np.empty((0, 64, 64, 3), np.uint8), [], [], []),
    "no name": lambda: plots.gallery(pictures(1)),
    "no outline": lambda: plots.gallery(pictures(2), masks=EMPTY_AND_FULL),
    "a name to escape": lambda: plots.gallery(pictures(1), ['"quoted" <b>']),
    "one augmentation": lambda: plots.augmentation_gallery({"one": pictures(1)}),
    "a class of which nothing is known": lambda: plots.wrong(
        pictures(1), ["a"], ["b"], [float("nan")]
    ),
    "a seed without numbers": lambda: plots.accuracy_by_price({"a": [[(0.1, DIVERGED)]]}),
    "a sweep of one rate": lambda: plots.sweeps({LONG: made_up.sweep({0.1: 0.5})}),
    "a test of one step": lambda: plots.range_curves({LONG: ([0.1], [2.0])}),
    "a test that diverged": lambda: plots.range_curves({"a": ([0.1, 0.2], [2.0, DIVERGED])}),
    "three tests": lambda: plots.range_curves(dict.fromkeys("abc", TESTED)),
    "noise of one run": lambda: plots.noise({LONG: {0: [0.5]}}),
    "a noisy run that diverged": lambda: plots.noise({"a": {0: [DIVERGED, 0.5]}}),
    "no wrong label": lambda: plots.memorised(
        {LONG: [{"wrong_as_given": None, "wrong_as_true": None, "right_as_given": 0.5}]}
    ),
    "kernels of zeros": lambda: plots.position_kernels(without_weights(LambdaLayer(8, r=5))),
    "kernels of a global layer": lambda: plots.position_kernels(
        LambdaLayer(8, dim_u=2, r=None, size=(3, 2))
    ),
    "a pixel that listens to nothing": lambda: plots.listens_to(np.zeros((4, 3, 3))),
    "a cost of which nothing is known": lambda: plots.costs({"a": [(8, DIVERGED, DIVERGED)]}),
    "a cost of one side": lambda: plots.costs({LONG: [(8, 0.1, 1e6)]}),
    "an empty map": lambda: plots.cam_grid(pictures(1), {"c5": NO_CLASS}, ["dog"]),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("error")
def test_odd_input_is_drawn_without_a_warning(name):
    decoded(ODD[name]())


@pytest.mark.parametrize(
    "draw, said",
    [
        (lambda: plots.history(run(0)), "at least one epoch"),
        (lambda: plots.history({}), "at least one epoch"),
        (lambda: plots.history({"rows": 3}), "History"),
        (lambda: plots.depth({}), "at least one run"),
        (lambda: plots.depth({"a": []}), "'a'.*at least one seed"),
        (lambda: plots.depth({"a": run(0)}), r"depth\(\).*at least one epoch"),
        (lambda: plots.depth({"a": [run(2), run(3)]}), r"'a' has seeds of \[2, 3\] epochs"),
        (lambda: plots.gradient_norms({}), "at least one network"),
        (lambda: plots.gradient_norms({"a": []}), "'a'.*at least one"),
        (lambda: plots.gradient_norms({"a": [0.1, -1.0]}), "'a'.*none below zero"),
        (lambda: plots.gradient_norms({"a": 0.1}), "'a'.*a list"),
        (lambda: plots.training_curves({}), "at least one training"),
        (lambda: plots.training_curves({"A": run(0)}), r"training_curves\(\).*at least one epoch"),
        (lambda: plots.lr_range([0.1, 0.2], [1.0]), "as many of both"),
        (lambda: plots.sweeps({}), "at least one record of a sweep"),
        (lambda: plots.range_curves({}), "at least one range test"),
        (lambda: plots.range_curves({"a": ([0.1], [1.0, 2.0])}), "'a'.*as many of both"),
        (lambda: plots.range_curves({"a": ([0.0], [1.0])}), "'a'.*above zero"),
        (lambda: plots.range_curves({"a": ([0.1], [DIVERGED])}), "'a' has no loss"),
        (lambda: plots.noise({}), "at least one network"),
        (lambda: plots.noise({"a": {0: []}}), "'a' has no run"),
        (lambda: plots.memorised({}), "at least one training"),
        (lambda: plots.memorised({"a": []}), r"'a' has seeds of \[\] epochs"),
        (lambda: plots.memorised({"a": [watched(0.1), watched(0.1, 0.2)]}), r"of \[1, 2\] epochs"),
        (lambda: plots.memorised({"a": run()}), "'a' has no column wrong_as_given, wrong_as_true"),
        (lambda: plots.position_kernels(torch.nn.Conv2d(3, 3, 3)), "Conv2d has no position kernel"),
        (lambda: plots.listens_to(np.zeros(4)), r"\(4,\).*\(H, W\)"),
        (lambda: plots.listens_to(np.full((2, 2), DIVERGED)), "a number for every position"),
        (lambda: plots.listens_to(np.eye(4), at=(4, 0)), r"at is \(4, 0\).*4 × 4"),
        (lambda: plots.listens_to(np.eye(4), np.zeros((8, 8, 3))), "float64.*expected uint8"),
        (lambda: plots.costs({}), "at least one layer"),
        (lambda: plots.costs({"a": [(8, 0.1)]}), r"'a'.*\(side, seconds, bytes\)"),
        (lambda: plots.costs({"a": [(8, 0.0, 1)]}), "'a'.*above zero"),
        (lambda: plots.lr_range([0.1], [float("nan")]), "NaN"),
        (lambda: plots.lr_range([0.0], [1.0]), "above zero"),
        (lambda: plots.schedules({}), "name ->"),
        (lambda: plots.schedules({"none": []}), "empty"),
        (lambda: plots.schedules({"broken": [0.1, float("nan")]}), "NaN"),
        (lambda: plots.schedules({"matrix": [[0.1], [0.2]]}), "per step"),
        (lambda: plots.lr_range([], []), "not every loss NaN"),
        (lambda: plots.lr_range([float("nan")], [1.0]), "above zero"),
        (lambda: plots.lr_range([0.1, float("inf")], [1.0, 2.0]), "above zero"),
        (lambda: plots.lr_range([0.1, 0.2], [1.0, 2.0], float("nan")), "suggestion.* nan"),
        (lambda: plots.lr_range([0.1, 0.2], [1.0, 2.0], None, 0.0), "minimum.* 0"),
        (lambda: plots.accuracy_by_price({}), "at least one"),
        (lambda: plots.accuracy_by_price({"a": []}), "'a'.*at least one"),
        (lambda: plots.accuracy_by_price({"a": [[]]}), "'a'.*at least one"),
        (lambda: plots.accuracy_by_price({"a": [[(1, 0.5)], [(1, 0.5), (2, 0.6)]]}), "as many"),
        (lambda: plots.accuracy_by_price({"a": [[(None, 0.5)]]}), "price.*number"),
        (lambda: plots.per_class([], []), "expected one"),
        (lambda: plots.per_class([float("nan")] * 3, NAMES), "not all NaN"),
        (lambda: plots.per_class([0.5] * 3, NAMES, k=0), "k"),
        (lambda: plots.gallery(np.empty((2, 0, 0, 3), np.uint8)), "at least one picture"),
        (lambda: plots.gallery(pictures(2), columns=0), "columns"),
        (lambda: plots.gallery(pictures(2), masks=np.zeros((2, 8, 8), bool)), "masks"),
        (lambda: plots.gallery(pictures(2), boxes=[[0, 0, 1]] * 2), "boxes"),
        (lambda: plots.augmentation_gallery({"a": pictures(2)[:0]}), "at least one picture"),
        (lambda: plots.history({"a": run(0)}), "at least one epoch"),
        (lambda: plots.per_class([0.5], NAMES), "3 classes"),
        (lambda: plots.gallery(pictures(2) / 255), "uint8"),
        (lambda: plots.gallery(pictures(2)[:0]), "at least one picture"),
        (lambda: plots.gallery(pictures(2), ["x"]), "1 titles"),
        (lambda: plots.gallery(pictures(2), boxes=[[0, 0, 1, 1]]), "1 boxes"),
        (lambda: plots.augmentation_gallery({"a": pictures(2), "b": pictures(3)}), "one shape"),
        (lambda: plots.augmentation_gallery({}), "one shape"),
        (
            lambda: plots.wrong(pictures(2), NAMES[:1], NAMES, [1]),
            "1 true names.*1 confidences for 2 pictures",
        ),
        (lambda: plots.cam_grid(pictures(2), {"c5": np.zeros((2, 8, 8))}, ["a", "b"]), "c5"),
        (lambda: plots.cam_grid(pictures(2), {}, ["a", "b"]), "maps"),
        (
            lambda: plots.cam_grid(pictures(2)[:0], {"c5": np.zeros((0, 64, 64))}, []),
            "at least one picture",
        ),
    ],
)
def test_wrong_input_is_refused_in_words(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()


def test_names_with_commas_and_many_letters_are_shortened():
    assert plots.words.short("goldfish, Carassius auratus") == "goldfish"
    assert plots.words.short("European fire salamander, Salamandra") == "European fire s…"
