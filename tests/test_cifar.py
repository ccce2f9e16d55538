"""CIFAR-10 and CIFAR-100: small sets in the official file format, read by torchvision's classes."""

import hashlib
import pickle
import shutil
from dataclasses import dataclass, replace
from unittest.mock import Mock

import numpy as np
import pytest
from torchvision import datasets

from course_lib import files, runtime
from course_lib.data import BatchLoader, DataError, cifar10, cifar100, download
from course_lib.experiments import find_recipe, price, run
from course_lib.files import CourseError

TEN_CLASSES, TEST = 100, 40  # train and test pictures, for each ten classes


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

    @property
    def train_pictures(self):
        return TEN_CLASSES * self.classes // 10

    @property
    def test_pictures(self):
        return TEST * self.classes // 10


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


def write(form, folder):
    """One file after another as A. Krizhevsky wrote them: rows of 1,024 red, green, blue bytes.

    Every other byte of a picture carries the pattern of its class, the rest is noise. Returns
    {file: (pictures, labels)}.
    """
    rng, written = np.random.default_rng(0), {}
    patterns = rng.integers(0, 256, (form.classes, 1536), dtype=np.uint8)
    folder.mkdir(parents=True)

    for name in (*form.train, form.test):
        is_test = name == form.test
        count = form.test_pictures if is_test else form.train_pictures // len(form.train)
        labels = rng.permutation(np.arange(count) % form.classes)
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        data[:, ::2] = patterns[labels]

        content = {"data": data, form.labels: labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        written[name] = data, labels

    names = [f"thing_{i}" for i in range(form.classes)]
    (folder / form.meta).write_bytes(pickle.dumps({form.names: names}, protocol=2))
    return written


@pytest.fixture(scope="module", params=FORMATS)
def form(request):
    return FORMATS[request.param]


@pytest.fixture(scope="module")
def published(form, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / form.folder
    return folder, write(form, folder)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "REPO", tmp_path)
    monkeypatch.setattr(files, "SPARE", tmp_path / "spare")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setenv("COURSE_PROFILE", "cpu")
    return tmp_path


@pytest.fixture
def put(form, published, home, monkeypatch):
    """``put(folder)``: the files at this place, with the checksums that torchvision looks for."""
    source, _ = published
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in source.iterdir()}
    monkeypatch.setattr(form.official, "train_list", [[name, sums[name]] for name in form.train])
    monkeypatch.setattr(form.official, "test_list", [[form.test, sums[form.test]]])
    monkeypatch.setattr(form.official, "meta", form.official.meta | {"md5": sums[form.meta]})

    def put(folder=form.folder):
        return shutil.copytree(source, home / folder)

    return put


def rows(written, *names):
    """{bytes of the picture as (32, 32, 3): label} of what was written."""
    found = {}
    for name in names:
        for picture, label in zip(*written[name], strict=True):
            pixels = picture.reshape(3, 32, 32).transpose(1, 2, 0)
            found[pixels.tobytes()] = label
    return found


def read(*stores):
    """The same of what was read."""
    found = {}
    for store in stores:
        for image, label in zip(store.images, store.labels, strict=True):
            found[image.tobytes()] = label
    return found


@pytest.mark.parametrize("folder", [None, "a copy/of it"])
def test_pictures_and_labels_are_those_of_the_files(form, published, put, folder):
    put(folder or form.folder)
    _, written = published
    train, tune, val = (form.load(split) for split in ("train", "tune", "val"))

    total = form.train_pictures
    assert (len(train), len(tune)) == (total * 0.9, total * 0.1)
    assert read(train, tune) == rows(written, *form.train)
    assert read(val) == rows(written, form.test)

    for found in (train, tune, val):
        assert found.is_real and found.images.shape[1:] == (32, 32, 3)
        assert found.images.dtype == np.uint8 and found.labels.dtype == np.int64
        assert found.classes[:2] == ["thing 0", "thing 1"] and len(found.classes) == form.classes


def test_tune_is_stratified_and_train_is_in_the_mixed_order_of_the_files(form, published, put):
    put()
    _, written = published
    train, tune = form.load("train"), form.load("tune")
    assert len(set(np.bincount(tune.labels, minlength=form.classes))) == 1, "as many of each class"
    assert np.array_equal(form.load("tune").images, tune.images)

    kept = read(train)
    in_files = [pixels for pixels in rows(written, *form.train) if pixels in kept]
    assert [image.tobytes() for image in train.images] == in_files


def test_a_store_feeds_the_loader(form, put):
    put()
    x, labels = next(iter(BatchLoader(form.load("train"), 64)))
    assert x.shape == (64, 3, 32, 32) and len(labels) == 64


def test_smoke_takes_every_twentieth_picture_and_never_downloads(form, put, monkeypatch):
    monkeypatch.setattr(download, "fetch", pytest.fail)
    assert not form.load("val", profile="smoke").is_real

    put()
    assert len(form.load("val", profile="smoke")) == form.test_pictures // 20


@pytest.mark.parametrize("recipe", ["resnet20", "resnet20_modern"])
def test_the_recipes_train_on_the_published_files_from_end_to_end(form, put, monkeypatch, recipe):
    """Few epochs of small pictures, which carry the pattern of their class."""
    put()
    whole = find_recipe(f"cifar{form.classes}_{recipe}")
    epochs, batch_size = (6, 15) if form.classes == 10 else (2, 45)  # 36 and 40 steps
    short = replace(whole, sizes=(16,) * epochs, drops=(epochs - 1,), batch_size=batch_size)

    monkeypatch.setattr(price, "reference_rate", lambda rt: 50.0)
    record = run(short, runtime.setup("cpu"), quiet=True).record

    assert record["is_real"] and record["dataset"] == f"CIFAR-{form.classes}"
    assert record["epochs"] == epochs
    assert record["train_images"] == form.train_pictures * 0.9
    assert record["val_images"] == form.test_pictures

    losses = [row["train_loss"] for row in record["history"]]
    assert losses[-1] < losses[0] - 0.02, losses


def test_without_data_and_network_toy_shapes_of_32_pixels_are_drawn(form, monkeypatch, capsys):
    def fetch(source, home):
        raise download.Unreachable("none")

    monkeypatch.setattr(download, "fetch", fetch)
    found = form.load("tune")
    assert not found.is_real and found.images.shape[1:] == (32, 32, 3)
    assert "TOY SHAPES" in capsys.readouterr().out


def test_a_file_that_lost_bytes_is_an_error_with_a_cure(form, put):
    path = put() / form.train[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not as published.*run again"):
        form.load("train")


def test_a_file_that_lost_bytes_hides_no_whole_copy(form, published, put):
    path = put() / form.train[0]
    path.write_bytes(path.read_bytes()[:-9])
    put("data/" + form.folder)  # searched after COURSE_DATA itself

    _, written = published
    found, expected = form.load("train"), rows(written, *form.train)
    assert found.is_real and {image.tobytes() for image in found.images} <= expected.keys()


def test_a_file_that_cannot_be_read_is_an_error_with_its_cause(form, put, monkeypatch):
    put()
    denied = PermissionError(13, "Permission denied", form.meta)
    monkeypatch.setattr(form.official, "_load_meta", Mock(side_effect=denied))
    with pytest.raises(DataError, match=f"not as published.*denied: '{form.meta}'.*run again"):
        form.load("train")


def test_a_missing_file_is_an_error_with_a_cure(form, put):
    (put() / form.test).unlink()
    with pytest.raises(DataError, match=f"{form.test}: missing"):
        form.load("train")


def test_an_unknown_split_is_named(form):
    with pytest.raises(CourseError, match="unknown split 'test'.*train, tune, val"):
        form.load("test")
