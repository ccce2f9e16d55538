"""Imagewoof: read as Imagenette is, with classes, counts and a list of its own."""

import csv
import importlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.models._meta import _IMAGENET_CATEGORIES

from course_lib import files
from course_lib.data import DataError, imagenette, imagewoof
from course_lib.experiments import DATASETS

# the names in the package are the functions'
nette = importlib.import_module("course_lib.data.imagenette")
woof = importlib.import_module("course_lib.data.imagewoof")

PUBLISHED = woof.IMAGEWOOF
WNIDS = list(PUBLISHED.classes)
IN_IMAGENET = (155, 159, 162, 167, 182, 193, 207, 229, 258, 273)  # their numbers among the 1,000
TRAIN, VAL, TUNE, SIDE = 8, 3, 5, 16
FEWER = 2  # pictures that the fourth breed lacks, for not all have as many


def write(root):
    """Pictures of one colour each, and their rows: [path, label at each level, is_valid]."""
    rng, rows = np.random.default_rng(0), []

    for part, count in (("train", TRAIN), ("val", VAL)):
        for number, wnid in enumerate(WNIDS):
            (root / part / wnid).mkdir(parents=True)
            for i in range(count - (FEWER if number == 3 and part == "train" else 0)):
                path = f"{part}/{wnid}/{wnid}_{i}.JPEG"
                colour = tuple(rng.integers(0, 256, 3).tolist())
                Image.new("RGB", (SIDE + i, SIDE), colour).save(root / path)

                another = WNIDS[(number + 1 + i) % 10]
                wrong = [part == "train" and rng.random() < level / 100 for level in nette.NOISE]
                rows.append([path, *(another if each else wnid for each in wrong), part == "val"])
    return rows


def write_list(path, rows):
    header = ["path", *(f"noisy_labels_{level}" for level in nette.NOISE), "is_valid"]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A small set in the published form; the rows of its list."""
    root = tmp_path / "imagewoof2-160"
    rows = write(root)
    write_list(root / "noisy_imagewoof.csv", rows)

    of_train = [row for row in rows if not row[-1]]
    totals = {"train": len(of_train), "val": 10 * VAL}
    wrong = tuple(sum(row[1 + level] != row[1] for row in of_train) for level in range(5))
    counts = {f"{part}/*/*.JPEG": count for part, count in totals.items()}
    small = replace(PUBLISHED.archives[160], counts=counts, side=SIDE, urls=("http://127.0.0.1:1",))
    as_published = replace(
        PUBLISHED, pictures=totals, wrong={"train": wrong, "val": (0,) * 5}, archives={160: small}
    )

    monkeypatch.setattr(woof, "IMAGEWOOF", as_published)
    monkeypatch.setattr(nette, "TUNE_PER_CLASS", TUNE)
    monkeypatch.setattr(files, "REPO", tmp_path)
    monkeypatch.setattr(files, "SPARE", tmp_path / "spare")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setenv("COURSE_PROFILE", "cpu")
    return rows


def test_its_classes_are_the_breeds_that_imagenet_calls_so():
    names = [_IMAGENET_CATEGORIES[number] for number in IN_IMAGENET]
    assert list(PUBLISHED.classes.values()) == names
    assert sorted(WNIDS) == WNIDS and not set(WNIDS) & set(nette.CLASSES)


def test_levels_of_noise_are_shares_of_its_train_labels_rounded_up_as_imagenettes_are():
    for subset in (PUBLISHED, nette.IMAGENETTE):
        count = subset.pictures["train"]
        shares = tuple(math.ceil(level * count / 100) for level in nette.NOISE)
        assert subset.wrong == {"train": shares, "val": (0,) * 5}


@pytest.mark.parametrize("side", [160, 320])
def test_its_archives_are_its_own(side):
    source, other = PUBLISHED.archives[side], nette.IMAGENETTE.archives[side]
    assert source.folder == f"imagewoof2-{side}" and source.archive == f"imagewoof2-{side}.tgz"
    assert len(source.sha256) == 64 and source.sha256 != other.sha256
    assert source.counts == {"train/*/*.JPEG": 9_025, "val/*/*.JPEG": 3_929}
    assert source.side == side and source.markers == ("train/n02086240/", "val/n02086240/")


def test_a_recipe_can_ask_for_it():
    assert DATASETS["imagewoof"] is imagewoof


@pytest.mark.parametrize("noise", nette.NOISE)
def test_pictures_labels_and_true_labels_of_each_level_are_those_of_the_list(rows, noise, tmp_path):
    column = 1 + nette.NOISE.index(noise)
    listed = {}
    for row in rows:
        with Image.open(tmp_path / "imagewoof2-160" / row[0]) as image:
            colour = image.getpixel((8, 8))
        listed[colour] = (row[0].split("/")[0], WNIDS.index(row[column]), WNIDS.index(row[1]))

    lengths = []
    for split in ("train", "tune", "val"):
        found = imagewoof(split, noise=noise, size=SIDE)
        assert found.name == "Imagewoof" and found.is_real and found.split == split
        assert found.classes == list(PUBLISHED.classes.values())
        lengths.append(len(found))

        for image, given, true in zip(found.images, found.labels, found.clean_labels, strict=True):
            part, label, clean = listed.pop(tuple(image[8, 8].tolist()))
            assert part == ("val" if split == "val" else "train") and true == clean
            assert given == (label if split == "train" else clean)

    assert lengths == [10 * (TRAIN - TUNE) - FEWER, 10 * TUNE, 10 * VAL] and not listed


def cut(rows):
    return rows[:-1]


def of_another_breed(rows):
    """One row more of the second breed and one less of the first; the folders say otherwise."""
    return [[rows[0][0], WNIDS[1], *rows[0][2:]], *rows[1:]]


def levels_swapped(rows):
    """Labels of one level in the column of another."""
    return [[*row[:3], row[5], row[4], row[3], row[6]] for row in rows]


def of_imagenette(rows):
    return [[row[0], *["n01440764"] * 5, row[6]] for row in rows]


@pytest.mark.parametrize(
    "spoil, said",
    [
        (cut, "29 rows of 10 classes, expected 30 of 10"),
        (of_another_breed, "7 rows of n02086240, expected 8"),
        (levels_swapped, r"labels of train in noisy_labels_5 are wrong, expected"),
        (of_imagenette, "expected 5 wnids of Imagewoof's classes"),
    ],
)
def test_a_list_that_is_not_as_published_is_named(rows, tmp_path, spoil, said):
    path = tmp_path / "imagewoof2-160" / "noisy_imagewoof.csv"
    write_list(path, spoil(rows))
    with pytest.raises(DataError, match=f"noisy_imagewoof.csv is not as published: .*{said}"):
        for split in ("train", "val"):
            imagewoof(split, size=SIDE)


def test_the_list_of_imagenette_is_not_taken_for_its_own(rows, tmp_path):
    path = tmp_path / "imagewoof2-160" / "noisy_imagewoof.csv"
    path.rename(path.with_name("noisy_imagenette.csv"))
    with pytest.raises(DataError, match=r"noisy_imagewoof\.csv is not .*: missing"):
        imagewoof("train", size=SIDE)


def test_one_of_the_two_is_not_taken_for_the_other(rows, tmp_path):
    """Neither its folders nor the store that was decoded of them."""
    imagewoof("val", size=SIDE)
    assert not imagenette("val", size=SIDE, profile="smoke").is_real
    stores = {path.parent.name for path in Path(tmp_path, "stores").glob("*/*") if path.is_dir()}
    assert stores == {f"imagewoof_{SIDE}"}
