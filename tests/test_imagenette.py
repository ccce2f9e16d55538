"""Imagenette: a small set in the official layout, labels with known mistakes, pictures of every shape."""

import csv
import importlib
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image

from course_lib import files
from course_lib.data import BatchLoader, DataError, download, imagenette
from course_lib.data.download import find
from course_lib.files import CourseError

nette = importlib.import_module(
    "course_lib.data.imagenette"
)  # the name in the package is the function's
WNIDS = list(nette.CLASSES)
TRAIN, VAL, TUNE, SIDE = 30, 6, 10, 24
PUBLISHED_FLIPS = {0: 0, 1: 95, 5: 474, 25: 2_368, 50: 4_735}  # counted in the published file
SHAPES = [(SIDE, SIDE), (SIDE + 7, SIDE), (SIDE, SIDE + 10), (2 * SIDE, 3 * SIDE)]  # width, height


def write(root, split_file=False):
    """As published: folders of JPEGs and one file of labels, sorted by class; each level of noise drawn anew."""
    rng, rows = np.random.default_rng(0), []
    for part, count in (("train", TRAIN), ("val", VAL)):
        for number, wnid in enumerate(WNIDS):
            (root / part / wnid).mkdir(parents=True)
            for i in range(count):
                path = f"{part}/{wnid}/{wnid}_{i}.JPEG"
                coarse = rng.integers(0, 256, (4, 4) if i % 10 == 9 else (4, 4, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize(SHAPES[i % 4], Image.Resampling.BICUBIC).save(
                    root / path, quality=95
                )
                wrong = [
                    WNIDS[(number + 1 + i % 9) % 10]
                    if part == "train" and rng.random() < level / 100
                    else wnid
                    for level in nette.NOISE
                ]
                rows.append([path, *wrong, part == "val"])
    header = ["path", *(f"noisy_labels_{level}" for level in nette.NOISE), "is_valid"]
    parts = {"": rows}
    if split_file:
        parts = {
            f"{part}_": [row for row in rows if row[0].startswith(part)]
            for part in ("train", "val")
        }
    for name, content in parts.items():
        with open(root / f"{name}noisy_imagenette.csv", "w", newline="") as file:
            csv.writer(file).writerows([header, *content])
    return {row[0]: dict(zip(nette.NOISE, row[1:6], strict=True)) for row in rows}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("published") / "imagenette2-160"
    return root, write(root)


@pytest.fixture(autouse=True)
def home(published, tmp_path, monkeypatch):
    counts = {"train/*/*.JPEG": TRAIN * 10, "val/*/*.JPEG": VAL * 10}
    monkeypatch.setattr(
        nette,
        "IMAGENETTE",
        {
            side: replace(source, counts=counts, urls=("http://127.0.0.1:1/set.zip",))
            for side, source in nette.IMAGENETTE.items()
        },
    )
    monkeypatch.setattr(nette, "TUNE_PER_CLASS", TUNE)
    monkeypatch.setattr(files, "REPO", tmp_path)
    monkeypatch.setattr(files, "SPARE", tmp_path / "spare")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setenv("COURSE_PROFILE", "cpu")
    (tmp_path / "imagenette2-160").symlink_to(published[0], target_is_directory=True)
    return tmp_path


def cut_by_torchvision(path, side):
    """The usual way to look at a picture in a test: resize the shorter side, take the middle."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    return np.asarray(
        tv.center_crop(tv.resize(image, side, tv.InterpolationMode.BICUBIC), [side, side])
    )


@pytest.mark.parametrize("side", [SIDE, 18])
@pytest.mark.parametrize("split", ["train", "tune", "val"])
def test_a_picture_is_the_middle_square_with_its_clean_label_and_its_readable_name(
    published, split, side
):
    found, (root, _) = imagenette(split, size=side), published
    names = [nette.CLASSES[wnid] for wnid in sorted(WNIDS)]
    assert found.classes == names and found.is_real and found.split == split and found.boxes is None
    count = {"train": TRAIN - TUNE, "tune": TUNE, "val": VAL}[split]
    assert np.bincount(found.labels).tolist() == [count] * 10 and found.labels.dtype == np.int64
    part = "val" if split == "val" else "train"
    expected = {
        cut_by_torchvision(path, side).tobytes(): path.parent.name
        for path in root.glob(f"{part}/*/*.JPEG")
    }
    for image, label in zip(found.images, found.labels, strict=True):
        assert sorted(WNIDS)[label] == expected.pop(image.tobytes()), "each picture comes once"


def test_names_are_those_of_imagenet():
    known = {
        "n01440764": "tench",
        "n03000684": "chain saw",
        "n03888257": "parachute",
        "n03394916": "French horn",
    }
    assert known.items() <= nette.CLASSES.items() and len(nette.CLASSES) == 10


def labels_by_file(root, level, truth):
    """{pixels: label} at one level of noise."""
    return {
        cut_by_torchvision(root / path, SIDE).tobytes(): sorted(WNIDS).index(labels[level])
        for path, labels in truth.items()
    }


@pytest.mark.parametrize("level", [1, 25, 50])
def test_noise_changes_the_labels_of_train_as_the_file_says_and_no_others(published, level):
    noisy, clean = (
        labels_by_file(*published[:1], level, published[1]),
        imagenette("train", size=SIDE),
    )
    found = imagenette("train", noise=level, size=SIDE)
    assert np.array_equal(found.images, clean.images)
    assert found.labels.tolist() == [noisy.get(image.tobytes()) for image in found.images]
    assert level == 1 or 0 < (found.labels != clean.labels).sum() < len(found)
    for split in ("tune", "val"):
        assert np.array_equal(
            imagenette(split, noise=level, size=SIDE).labels, imagenette(split, size=SIDE).labels
        )


def test_the_file_of_labels_may_come_in_two(home, tmp_path):
    expected = imagenette("train", noise=50, size=SIDE).labels
    (home / "imagenette2-160").unlink()
    write(home / "imagenette2-160", split_file=True)
    for store in (home / "stores").iterdir():
        store.rename(home / f"old {store.name}")
    assert np.array_equal(imagenette("train", noise=50, size=SIDE).labels, expected)


def test_without_the_file_of_labels_the_cure_is_named(home):
    (home / "imagenette2-160").unlink()
    write(home / "imagenette2-160")
    (home / "imagenette2-160" / "noisy_imagenette.csv").unlink()
    with pytest.raises(DataError, match="no noisy_imagenette.csv.*run again"):
        imagenette("train", size=SIDE)


def test_the_store_is_sorted_by_class_and_a_training_batch_is_not():
    train = imagenette("train", size=SIDE)
    assert (np.diff(train.labels) >= 0).all()
    _, labels = next(iter(BatchLoader(train, 100)))
    assert len(set(labels.tolist())) == 10


def test_pictures_are_decoded_once_for_all_levels_of_noise_and_anew_for_another_size(
    home, monkeypatch
):
    first = imagenette("train", size=SIDE)
    with monkeypatch.context() as context:
        context.setattr(Image, "open", pytest.fail)
        assert len(imagenette("train", noise=50, size=SIDE)) == len(first)
        assert len(imagenette("tune", size=SIDE)) == 10 * TUNE
    assert imagenette("train", size=18).images.shape[1:] == (18, 18, 3)
    assert np.array_equal(imagenette("train", size=SIDE).images, first.images)


def test_smoke_takes_a_slice_of_what_lies_on_disk_and_never_downloads(home, monkeypatch):
    monkeypatch.setattr(nette, "SMOKE_PER_CLASS", {"train": 15, "val": 3})
    for split, count in (("train", 15 - TUNE), ("tune", TUNE), ("val", 3)):
        assert (
            np.bincount(imagenette(split, size=SIDE, profile="smoke").labels).tolist()
            == [count] * 10
        )
    (home / "imagenette2-160").unlink()
    monkeypatch.setattr(download, "fetch", pytest.fail)
    found = imagenette("train", size=18, profile="smoke")
    assert not found.is_real and found.split == "train"


def test_without_data_and_network_toy_shapes_are_drawn_and_nobody_can_miss_it(home, capsys):
    (home / "imagenette2-160").unlink()
    for _ in range(2):
        found = imagenette("val", noise=5)
        assert not found.is_real and len(found.classes) == 10
    assert capsys.readouterr().out.count("TOY SHAPES") == 1


def test_a_published_archive_is_fetched_and_read(home, monkeypatch, published):
    """As a mirror gives it: the archive is put where the download would have put it."""
    (home / "imagenette2-160").unlink()
    with zipfile.ZipFile(home / "set.zip", "w") as archive:
        for path in published[0].rglob("*.*"):
            archive.write(path, f"imagenette2-160/{path.relative_to(published[0])}")
    monkeypatch.setattr(download, "_is_whole", lambda source, archive: True)
    assert len(imagenette("val", size=SIDE)) == VAL * 10


def test_of_two_copies_the_one_of_its_own_size_is_read(home):
    write(home / "a copy")
    write(home / "imagenette2-320")
    assert [find(nette.IMAGENETTE[side]).name for side in (160, 320)] == [
        "imagenette2-160",
        "imagenette2-320",
    ]


def test_the_archive_of_the_other_size_is_not_taken_for_it():
    assert find(nette.IMAGENETTE[160]) and find(nette.IMAGENETTE[320]) is None


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"split": "test"}, "unknown split 'test'.*train, tune, val"),
        ({"noise": 10}, "noise is 10.*0, 1, 5, 25, 50"),
        ({"size": 500}, "size is 500.*16 to 320"),
    ],
)
def test_what_there_is_not_is_named(wrong, words):
    with pytest.raises(CourseError, match=words):
        imagenette(**{"split": "train", **wrong})


@pytest.mark.skipif(
    find(nette.IMAGENETTE[160]) is None, reason="no Imagenette in COURSE_DATA or data/"
)
def test_the_published_file_has_as_many_wrong_labels_as_were_counted(monkeypatch):
    monkeypatch.undo()
    listing = nette._listing(find(nette.IMAGENETTE[160]), "train", smoke=False)
    clean = listing.labels[:, 0]
    assert [
        wnid in path for path, wnid in zip(listing.paths, np.array(WNIDS)[clean], strict=True)
    ] == [True] * 9_469
    wrong = (listing.labels != clean[:, None]).sum(0)
    assert dict(zip(nette.NOISE, wrong.tolist(), strict=True)) == PUBLISHED_FLIPS
    tune = clean[-10 * nette.TUNE_PER_CLASS :]
    assert np.bincount(tune).tolist() == [nette.TUNE_PER_CLASS] * 10
    val = nette._listing(find(nette.IMAGENETTE[160]), "val", smoke=False).labels
    assert len(val) == 3_925 and (val == val[:, :1]).all(), "val is always clean"


def test_training_at_another_size_than_the_store_is_antialiased():
    val = imagenette("val", size=SIDE)
    loader = BatchLoader(val, len(val), augment=False)
    loader.picture_size = 16
    ((x, labels),) = loader
    planes = torch.from_numpy(np.array(val.images)).permute(0, 3, 1, 2).double() / 255
    expected = torch.nn.functional.interpolate(planes, size=16, mode="bilinear", antialias=True)
    expected = (expected - torch.tensor(val.mean).view(3, 1, 1)) / torch.tensor(val.std).view(
        3, 1, 1
    )
    torch.testing.assert_close(x.double(), expected, rtol=0, atol=1e-5)
    assert Counter(labels.tolist()) == dict.fromkeys(range(10), VAL)
