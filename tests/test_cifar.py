"""CIFAR-10 and CIFAR-100: small sets in the official file format, read by torchvision's own classes."""

import hashlib
import pickle
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
from torchvision import datasets

from course_lib import files as places
from course_lib import runtime
from course_lib.data import BatchLoader, DataError, cifar10, cifar100, download
from course_lib.experiments import run as train
from course_lib.experiments.recipe import find_recipe
from course_lib.files import CourseError

TRAIN, TEST = 200, 40  # per file


@dataclass(frozen=True)
class Format:
    """How the published files are called, and what is in them."""

    load: object
    official: type
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str
    classes: int


FORMATS = {
    "CIFAR-10": Format(
        cifar10,
        datasets.CIFAR10,
        "cifar-10-batches-py",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        "batches.meta",
        "labels",
        "label_names",
        10,
    ),
    "CIFAR-100": Format(
        cifar100,
        datasets.CIFAR100,
        "cifar-100-python",
        ("train",),
        "test",
        "meta",
        "fine_labels",
        "fine_label_names",
        100,
    ),
}


def write(form, folder, monkeypatch, learnable=False):
    """One file after another as A. Krizhevsky wrote them: rows of 1,024 red, 1,024 green, 1,024 blue bytes.

    learnable: every other byte of a picture carries the pattern of its class, in place of noise.
    """
    rng, written, sums = np.random.default_rng(0), {}, {}
    folder.mkdir()
    for name in (*form.train, form.test):
        count = TEST if name == form.test else TRAIN if len(form.train) > 1 else 5 * TRAIN
        count *= form.classes // 10
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = rng.permutation(np.arange(count) % form.classes).tolist()
        if learnable:
            data[:, ::2] = np.random.default_rng(1).integers(
                0, 256, (form.classes, 1536), dtype=np.uint8
            )[labels]
        written[name] = data, labels
        (folder / name).write_bytes(pickle.dumps({"data": data, form.labels: labels}, protocol=2))
    names = [f"thing_{i}" for i in range(form.classes)]
    (folder / form.meta).write_bytes(pickle.dumps({form.names: names}, protocol=2))
    for path in folder.iterdir():
        sums[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(form.official, "train_list", [[name, sums[name]] for name in form.train])
    monkeypatch.setattr(form.official, "test_list", [[form.test, sums[form.test]]])
    monkeypatch.setattr(form.official, "meta", {**form.official.meta, "md5": sums[form.meta]})
    return written


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "REPO", tmp_path)
    monkeypatch.setattr(places, "SPARE", tmp_path / "spare")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setenv("COURSE_PROFILE", "cpu")
    return tmp_path


@pytest.fixture(params=FORMATS)
def form(request):
    return FORMATS[request.param]


def rows(written, *files):
    """{bytes of the picture as (32, 32, 3): label} of what was written."""
    return {
        picture.reshape(3, 32, 32).transpose(1, 2, 0).tobytes(): label
        for name in files
        for picture, label in zip(*written[name], strict=True)
    }


@pytest.mark.parametrize("folder", [None, "a copy/of it"])
def test_pictures_and_labels_are_those_of_the_files(form, home, monkeypatch, folder):
    (home / "a copy").mkdir()
    written = write(form, home / (folder or form.folder), monkeypatch)
    train, tune, val = (form.load(split) for split in ("train", "tune", "val"))
    total = 5 * TRAIN * form.classes // 10
    assert (len(train), len(tune), len(val)) == (
        total * 0.9,
        total * 0.1,
        TEST * form.classes // 10,
    )
    seen = {
        image.tobytes(): label
        for found in (train, tune)
        for image, label in zip(found.images, found.labels, strict=True)
    }
    assert seen == rows(written, *form.train)
    assert {
        image.tobytes(): label for image, label in zip(val.images, val.labels, strict=True)
    } == rows(written, form.test)
    for found in (train, tune, val):
        assert (
            found.is_real
            and found.images.shape[1:] == (32, 32, 3)
            and found.images.dtype == np.uint8
        )
        assert found.labels.dtype == np.int64 and found.classes[:2] == ["thing 0", "thing 1"]
        assert len(found.classes) == form.classes
    assert len(set(np.bincount(tune.labels, minlength=form.classes))) == 1, "as many of each class"
    assert len(set(train.labels[:20].tolist())) > 5, "in the mixed order of the files"
    assert np.array_equal(form.load("tune").images, tune.images)


def test_a_store_feeds_the_loader(form, home, monkeypatch):
    write(form, home / form.folder, monkeypatch)
    x, labels = next(iter(BatchLoader(form.load("train"), 64)))
    assert x.shape == (64, 3, 32, 32) and len(labels) == 64


def test_smoke_takes_every_twentieth_picture_and_never_downloads(form, home, monkeypatch, capsys):
    monkeypatch.setattr(download, "fetch", pytest.fail)
    assert not form.load("val", profile="smoke").is_real
    write(form, home / form.folder, monkeypatch)
    assert len(form.load("val", profile="smoke")) == TEST * form.classes // 10 // 20


@pytest.mark.parametrize("recipe", ["resnet20", "resnet20_modern"])
def test_the_recipes_train_on_the_published_files_from_end_to_end(form, home, monkeypatch, recipe):
    """Four epochs in place of 160 or 100, on pictures that carry the pattern of their class."""
    monkeypatch.setattr(sys.modules[__name__], "TRAIN", 2000 // form.classes)
    written = write(form, home / form.folder, monkeypatch, learnable=True)
    whole = find_recipe(f"cifar{form.classes}_{recipe}")
    short = replace(whole, sizes=whole.sizes[:4], drops=(3,), batch_size=30)
    monkeypatch.setattr(train, "reference_rate", lambda rt: 50.0)
    record = train.run(short, runtime.setup("cpu"), quiet=True).record
    assert (
        record["is_real"] and record["dataset"] == f"CIFAR-{form.classes}" and record["epochs"] == 4
    )
    assert record["train_images"] == 900 and record["val_images"] == len(written[form.test][1])
    losses = [row["train_loss"] for row in record["history"]]
    assert losses[-1] < losses[0] - 0.02, losses


def test_without_data_and_network_toy_shapes_of_32_pixels_are_drawn(form, monkeypatch, capsys):
    monkeypatch.setattr(
        download, "fetch", lambda source, home: (_ for _ in ()).throw(download.Unreachable("none"))
    )
    found = form.load("tune")
    assert not found.is_real and found.images.shape[1:] == (32, 32, 3)
    assert "TOY SHAPES" in capsys.readouterr().out


def test_a_file_that_lost_bytes_is_an_error_with_a_cure(form, home, monkeypatch):
    write(form, home / form.folder, monkeypatch)
    path = home / form.folder / form.train[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not as published.*run again"):
        form.load("train")


def test_a_missing_file_is_an_error_with_a_cure(form, home, monkeypatch):
    write(form, home / form.folder, monkeypatch)
    (home / form.folder / form.test).unlink()
    with pytest.raises(DataError, match=f"{form.test}: missing"):
        form.load("train")


def test_an_unknown_split_is_named(form):
    with pytest.raises(CourseError, match="unknown split 'test'.*train, tune, val"):
        form.load("test")
