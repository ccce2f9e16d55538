"""The grid of session 4: what differs from cell to cell, and what is learned by heart, counted."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from small import CPU, TINY
from torch import nn

from course_lib import runtime
from course_lib import train as command
from course_lib.data import BatchLoader, ImageStore
from course_lib.experiments import GRID, RECIPES, STUDIES, TRIALS, Recipe, find_recipe, run
from course_lib.experiments.memorised import Memorised
from course_lib.experiments.session4 import NoisyLabelRecipe
from course_lib.files import CourseError
from course_lib.runtime import Precision
from course_lib.training import CrossEntropy, GeneralizedCrossEntropy, Trainer

FP32 = Precision(CPU)


def changed(one, other):
    """The settings in which two recipes differ."""
    one, other = asdict(one), asdict(other)
    return {key for key in one if one[key] != other.get(key)} - {"name", "about"}


# --- what differs from cell to cell ---------------------------------------------------------------


def test_the_grid_is_networks_times_noise_and_remedies_at_the_two_high_levels():
    parts = [name.split("_") for name in GRID]
    assert {part[1] for part in parts} == {"session", "se", "lambda"}
    assert len(GRID) == 3 * (4 + 2 + 2)

    for network in ("session", "se", "lambda"):
        for noise in (0, 5, 25, 50):
            name = f"grid_{network}" + (f"_noise{noise}" if noise else "")
            assert GRID[name].data_options == {"noise": noise}


@pytest.mark.parametrize("name", GRID)
def test_a_cell_differs_from_the_plain_clean_one_in_what_its_name_says(name):
    _, network, *more = name.split("_")
    expected = set()
    if network != "session":
        expected.add("model")
    if more:
        assert more[0] == f"noise{GRID[name].data_options['noise']}"
        expected.add("data_options")
    if more[1:]:
        expected |= {"gce": {"gce_q", "label_smoothing"}, "unsmoothed": {"label_smoothing"}}[
            more[1]
        ]

    assert changed(GRID["grid_session"], GRID[name]) == expected


def test_cells_are_judged_on_the_official_split_and_what_chooses_for_them_on_tune():
    assert not any(cell.is_trial for cell in GRID.values())
    chosen = [name for name in TRIALS if name.startswith("grid_")]
    assert chosen and all(find_recipe(name).is_trial for name in chosen)


def test_the_loss_of_a_cell_is_that_of_its_remedy():
    assert GRID["grid_se_noise50"].build_loss() == CrossEntropy(0.1)
    assert GRID["grid_se_noise50_unsmoothed"].build_loss() == CrossEntropy(0.0)
    assert GRID["grid_se_noise50_gce"].build_loss() == GeneralizedCrossEntropy(0.7)

    with pytest.raises(CourseError, match=r"label_smoothing is 0\.1: expected 0 with gce_q"):
        replace(GRID["grid_session"], gce_q=0.7)


def test_forms_of_the_ten_minute_recipe_differ_in_their_network_alone():
    plain = RECIPES["imagenette_session"]
    for form in ("se", "lambda"):
        assert changed(plain, RECIPES[f"imagenette_session_{form}"]) == {"model"}

    last, everywhere = (RECIPES[f"imagenette_session_lambda{of}"] for of in ("", "_everywhere"))
    assert changed(last, everywhere) == {"model_options"}
    assert changed(plain, RECIPES["imagenette_session_long"]) == {"sizes"}


# --- long trainings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss, what",
    [
        ("smoothed", set()),
        ("unsmoothed", {"label_smoothing"}),
        ("gce", {"label_smoothing", "gce_q"}),
    ],
)
def test_a_long_training_differs_from_the_others_in_its_loss_and_is_judged_on_tune(loss, what):
    recipe = STUDIES[f"memory.{loss}"]
    assert recipe.is_trial and changed(STUDIES["memory.smoothed"], recipe) == what

    of_the_grid = GRID["grid_session_noise50"]
    assert changed(of_the_grid, STUDIES["memory.smoothed"]) == {"sizes", "augment"}
    assert len(recipe.sizes) == 4 * len(of_the_grid.sizes)


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault, what",
    [
        ("none", set()),
        ("unshuffled", {"shuffle"}),
        ("rate", {"lr"}),
        ("softmax", {"model_options"}),
    ],
)
def test_a_fault_is_one_thing_changed_and_judged_on_tune(fault, what):
    recipe = STUDIES[f"faults.{fault}"]
    assert recipe.is_trial and changed(STUDIES["faults.none"], recipe) == what


def test_the_faults_are_those_of_the_original():
    with torch.device("meta"):
        model = STUDIES["faults.softmax"].build_model(10, torch.device("meta"))
    kinds = [type(each).__name__ for each in model.modules()]
    assert kinds.count("OverKeys") == 1

    (group, *_) = STUDIES["faults.rate"].build_optimizer(model).param_groups
    assert group["initial_lr" if "initial_lr" in group else "lr"] == 1e-5
    assert group["weight_decay"] == 0


@pytest.fixture(scope="module")
def by_class():
    """640 pictures sorted by class, as the published list is."""
    labels = np.arange(640) // 64
    images = np.zeros((640, 8, 8, 3), np.uint8)
    return ImageStore(
        "sorted", "train", images, labels, list("abcdefghij"), (0.5,) * 3, (0.5,) * 3, is_real=False
    )


@pytest.mark.parametrize("name", RECIPES | TRIALS | STUDIES | GRID)
def test_every_recipe_shuffles_a_store_that_is_sorted_by_class_but_for_that_fault(name, by_class):
    recipe = replace(find_recipe(name), batch_size=64)
    loader = recipe.build_loader(by_class, CPU, seed=0)
    classes = [len(np.unique(by_class.labels[rows])) for rows in loader.batches()]

    if name == "faults.unshuffled":
        assert classes == [1] * 10
    else:
        assert min(classes) >= 8
        first, loader.epoch = loader.batches(), 1
        assert not np.array_equal(first[0], loader.batches()[0]), "anew in each epoch"


# --- what is learned by heart ---------------------------------------------------------------------


class ByColour(nn.Module):
    """Takes a picture of grey 20 · c for class c."""

    def forward(self, x):
        grey = x.mean((1, 2, 3)) * 255 / 20  # (B,)
        return -(grey[:, None] - torch.arange(10)).abs()


def painted(grey, given, true):
    """A store of pictures of one grey each."""
    grey, given, true = (np.array(each, np.int64) for each in (grey, given, true))
    images = np.broadcast_to(20 * grey[:, None, None, None], (len(grey), 4, 4, 3))
    return ImageStore(
        "painted",
        "train",
        images.astype(np.uint8),
        given,
        list("abcdefghij"),
        (0.0,) * 3,
        (1.0,) * 3,
        is_real=True,
        clean_labels=true,
    )


def test_wrong_labels_are_counted_as_given_as_true_and_as_neither():
    """Of eight wrongly labelled pictures one is taken for its label, five for what they show."""
    grey = [1, 2, 2, 2, 2, 2, 7, 7] + [3, 3, 3, 0]
    given = [1, 1, 1, 1, 1, 1, 1, 1] + [3, 3, 3, 3]
    true = [2, 2, 2, 2, 2, 2, 2, 2] + [3, 3, 3, 3]
    found = Memorised(painted(grey, given, true), 100, FP32)(ByColour(), None)

    assert found == {"wrong_as_given": 1 / 8, "wrong_as_true": 5 / 8, "right_as_given": 3 / 4}


@pytest.mark.parametrize("size", [None, 2, 6])
def test_pictures_are_shown_at_the_size_that_is_asked_for(size):
    sides = []

    class Seen(ByColour):
        def forward(self, x):
            sides.append(x.shape[-1])
            return super().forward(x)

    Memorised(painted([1, 2], [1, 1], [1, 2]), 100, FP32)(Seen(), size)
    assert set(sides) == {size or 4}


def test_without_wrong_labels_there_is_nothing_to_count_of_them():
    found = Memorised(painted([1, 2], [1, 2], [1, 2]), 100, FP32)(ByColour(), None)
    assert found == {"wrong_as_given": None, "wrong_as_true": None, "right_as_given": 1.0}


def test_no_more_pictures_are_looked_at_than_asked_for_and_always_the_same():
    rng = np.random.default_rng(1)
    true = rng.integers(10, size=400)
    given = np.where(rng.random(400) < 0.5, (true + 1) % 10, true)
    store = painted(rng.integers(10, size=400), given, true)

    first, second = (Memorised(store, 30, FP32) for _ in range(2))
    for kind in ("wrong", "right"):
        one, other = getattr(first, kind), getattr(second, kind)
        assert len(one) == 30 and np.array_equal(one.images, other.images)
        assert (one.labels != one.clean_labels).all() == (kind == "wrong")


# --- in a run -------------------------------------------------------------------------------------

NOISY = NoisyLabelRecipe(**{**vars(TINY), "name": "noisy", "gce_q": 0.7, "label_smoothing": 0.0})


@pytest.fixture
def mislabelled(real, stores):
    """As ``real``, every third label of train moved on by one."""
    train = real.stores["train"]
    given = train.labels.copy()
    given[::3] = (given[::3] + 1) % len(train.classes)
    stores(real.stores | {"train": replace(train, labels=given, clean_labels=train.labels)})
    return real


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def test_a_training_that_is_watched_is_the_same_bit_for_bit(mislabelled, monkeypatch):
    watched = run(NOISY, mislabelled.rt, quiet=True, priced=False)
    drawn = torch.rand(3)

    monkeypatch.setattr(NoisyLabelRecipe, "build_measure", Recipe.build_measure)
    other = run(replace(NOISY, name="other"), mislabelled.rt, quiet=True, priced=False)

    assert same(watched.model.state_dict(), other.model.state_dict())
    assert torch.equal(drawn, torch.rand(3)), "random numbers stand where they would"
    assert watched.history.column("val_loss") == other.history.column("val_loss")


def test_what_was_counted_stands_in_history_and_record_and_survives_an_interruption(
    mislabelled, monkeypatch, tmp_path
):
    whole = run(NOISY, mislabelled.rt, quiet=True, priced=False, folder=tmp_path / "a")
    row = whole.history.last
    assert (
        0 <= row["wrong_as_given"] + row["wrong_as_true"] <= 1 and 0 <= row["right_as_given"] <= 1
    )
    assert whole.history.column("wrong_as_given") == [
        each["wrong_as_given"] for each in whole.record["history"]
    ]
    assert json.loads(json.dumps(whole.record)) == whole.record

    step, steps = Trainer.step, []

    def interrupted(self, *batch):
        steps.append(1)
        if len(steps) == 6:  # in the second epoch, of four batches each
            raise KeyboardInterrupt
        return step(self, *batch)

    folder = tmp_path / "b"
    with monkeypatch.context() as context:
        context.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(NOISY, mislabelled.rt, quiet=True, priced=False, folder=folder)
    resumed = run(NOISY, mislabelled.rt, quiet=True, priced=False, folder=folder)

    assert same(resumed.model.state_dict(), whole.model.state_dict())
    for name in ("wrong_as_given", "wrong_as_true", "right_as_given"):
        assert resumed.history.column(name) == whole.history.column(name)


def test_the_history_knows_its_columns(mislabelled):
    history = run(NOISY, mislabelled.rt, quiet=True, priced=False).history
    with pytest.raises(KeyError, match="no column 'by_heart': expected one of .*wrong_as_given"):
        history.column("by_heart")


def test_a_cell_is_written_into_the_folder_of_the_grid(mislabelled, monkeypatch, tmp_path):
    monkeypatch.setitem(GRID, "noisy", NOISY)
    monkeypatch.setattr(runtime, "setup", lambda profile, seed: replace(mislabelled.rt, seed=seed))
    out = tmp_path / "out"
    assert command.main(["noisy", "--seed", "3", "--no-price", "--out", str(out)]) == 0

    found = json.loads((out / "grid" / "noisy" / "cpu-seed3.json").read_text())
    assert found["final"]["val_top1"] <= 1 and found["reference_rate"] is None
    assert found["wrong_labels"] == pytest.approx(1 / 3, abs=0.01)
    assert found["history"][0].keys() >= {"wrong_as_given", "wrong_as_true", "right_as_given"}


def test_a_loader_is_the_plain_one_unless_a_recipe_says_otherwise(by_class):
    ours = TINY.build_loader(by_class, CPU, seed=5)
    plain = BatchLoader(by_class, TINY.batch_size, augment=TINY.augment, seed=5)
    for (x, labels), (expected, given) in zip(ours, plain, strict=True):
        assert torch.equal(x, expected) and torch.equal(labels, given)
