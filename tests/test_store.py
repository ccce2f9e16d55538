"""From JPEGs to one array on disk: a small TinyImageNet as published, and all that can go wrong."""

import builtins
import errno
import importlib
import io
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from course_lib import files
from course_lib.data import DataError, decode, download, splits, toy_shapes
from course_lib.data import tiny_imagenet as load
from course_lib.files import CourseError

# as multiprocessing does there by default
FORKS = sys.platform == "linux" and sys.version_info < (3, 14)

# the name in the package is the function's
tiny = importlib.import_module("course_lib.data.tiny_imagenet")

CLASSES, PER_CLASS, PER_CLASS_VAL, TUNE = 6, 30, 8, 25
NUMBERS = (7749582, 1443537, 9428293, 2124075, 4285008, 1443536)
WNIDS = [f"n{number:08}" for number in NUMBERS]  # as published: not sorted
NAMES = {wnid: f"thing {wnid[-3:]}" for wnid in WNIDS}
FULL = OSError(errno.ENOSPC, "No space left on device")


@dataclass(frozen=True)
class Truth:
    """What was written: (file name → class, box)."""

    root: Path
    label: dict[str, str]
    box: dict[str, list[int]]


def write_picture(path, rng, grey):
    """A smooth random picture, as a camera gives it: JPEG at 64×64, some of one channel."""
    coarse = rng.integers(0, 256, (8, 8) if grey else (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
    picture.save(path, "JPEG", quality=90)


def a_box(rng):
    (x0, x1), (y0, y1) = np.sort(rng.integers(0, 64, (2, 2)))
    return [int(x0), int(y0), int(x1), int(y1)]


def write_lines(path, rows):
    path.write_text("\n".join("\t".join(map(str, row)) for row in rows) + "\n")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The data set, drawn once. One picture in ten is grey."""
    root = tmp_path_factory.mktemp("published") / "tiny-imagenet-200"
    rng, label_of, box_of = np.random.default_rng(0), {}, {}

    def write(folder, names, wnids):
        folder.mkdir(parents=True)
        for i, (name, wnid) in enumerate(zip(names, wnids, strict=True)):
            write_picture(folder / name, rng, grey=i % 10 == 0)
            label_of[name], box_of[name] = wnid, a_box(rng)

    for wnid in WNIDS:
        folder = root / "train" / wnid
        names = [f"{wnid}_{i}.JPEG" for i in range(PER_CLASS)]
        write(folder / "images", names, [wnid] * PER_CLASS)
        write_lines(folder / f"{wnid}_boxes.txt", [[name, *box_of[name]] for name in names])

    names = [f"val_{i}.JPEG" for i in range(CLASSES * PER_CLASS_VAL)]  # mixed, one flat folder
    wnids = [WNIDS[i * 5 % CLASSES] for i in range(len(names))]
    write(root / "val" / "images", names, wnids)
    rows = [[name, label_of[name], *box_of[name]] for name in names]
    write_lines(root / "val" / "val_annotations.txt", rows)

    others = [[f"n{number:08}", "something else"] for number in range(5)]
    named = [[wnid, f"{NAMES[wnid]}, another name, Latinus nomen"] for wnid in WNIDS]
    write_lines(root / "wnids.txt", [[wnid] for wnid in WNIDS])
    write_lines(root / "words.txt", others + named)
    return Truth(root, label_of, box_of)


@pytest.fixture(autouse=True)
def home(truth, tmp_path, monkeypatch):
    """COURSE_DATA: a folder of this test's own, with the data set in it, which is taken whole."""
    counts = {
        "train/**/*.JPEG": CLASSES * PER_CLASS,
        "val/**/*.JPEG": CLASSES * PER_CLASS_VAL,
        "train/*/*_boxes.txt": CLASSES,
    }
    monkeypatch.setattr(tiny, "TINY_IMAGENET", replace(tiny.TINY_IMAGENET, counts=counts))
    monkeypatch.setattr(tiny, "CLASSES", CLASSES)
    monkeypatch.setattr(tiny, "TRAIN_PER_CLASS", PER_CLASS)
    monkeypatch.setattr(tiny, "VAL_PER_CLASS", PER_CLASS_VAL)
    monkeypatch.setattr(tiny, "SMOKE_CLASSES", 3)
    monkeypatch.setattr(files, "REPO", tmp_path / "repo")
    monkeypatch.setattr(files, "KAGGLE_INPUT", tmp_path / "no kaggle")
    monkeypatch.setattr(files, "SPARE", tmp_path / "no spare")
    monkeypatch.setenv("COURSE_PROFILE", "cpu")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "pyproject.toml").touch()
    folder = tmp_path / "data"
    monkeypatch.setenv("COURSE_DATA", str(folder))
    folder.mkdir()
    (folder / "tiny-imagenet-200").symlink_to(truth.root, target_is_directory=True)
    return folder


@pytest.fixture
def own(home, truth):
    """The data set as files that the test may break."""
    (home / "tiny-imagenet-200").unlink()
    return Path(shutil.copytree(truth.root, home / "tiny-imagenet-200"))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf") / "stores"


@pytest.fixture
def decoded(home, shelf):
    """Both parts as an earlier run decoded them: a copy, for a test may break it."""
    if not shelf.exists():
        load("train"), load("val")
        shutil.copytree(home / "stores", shelf)
    else:
        shutil.copytree(shelf, home / "stores")


@pytest.fixture
def several_tasks(monkeypatch):
    """As with many pictures: several tasks, so that several processes write to one file."""
    monkeypatch.setattr(decode, "CHUNK", 64)
    monkeypatch.setattr(decode, "_cores", lambda: 2)


def built(home, part="train"):
    return home / "stores" / "tiny_imagenet" / part


def left_behind(home):
    """Whatever lies in the store's folder, but for locks and empty folders."""
    stores = home / "stores"
    files = [path.name for path in stores.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return sorted(files) + sorted(path.name for path in stores.rglob("*.building-*"))


def pillow(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def originals(truth, part):
    """{pixels as Pillow decodes them: file name}, of every picture of a part."""
    return {pillow(path).tobytes(): path.name for path in truth.root.glob(f"{part}/**/*.JPEG")}


def forbidden():
    return Mock(side_effect=AssertionError("this should not have been called"))


# --- what a store holds ---------------------------------------------------------------------------


@pytest.mark.parametrize("split, part", [("train", "train"), ("tune", "train"), ("val", "val")])
def test_pixels_labels_boxes_and_names_are_those_of_the_files(truth, several_tasks, split, part):
    found, names = load(split), originals(truth, part)
    classes = sorted(WNIDS)
    assert found.classes == [NAMES[wnid] for wnid in classes]

    types = [array.dtype for array in (found.images, found.labels, found.boxes)]
    assert types == [np.uint8, np.int64, np.int16]

    for image, label, box in zip(found.images, found.labels, found.boxes, strict=True):
        name = names.pop(image.tobytes())  # each picture is one of Pillow's, and comes once
        assert classes[label] == truth.label[name]
        assert box.tolist() == truth.box[name]

    left = {"train": CLASSES * TUNE, "tune": CLASSES * (PER_CLASS - TUNE), "val": 0}
    assert len(names) == left[split]


def test_grey_pictures_get_three_equal_channels(truth, decoded):
    found = load("val")
    equal = (found.images == found.images[..., :1]).all((1, 2, 3))

    modes = [Image.open(path).mode for path in truth.root.glob("val/images/*.JPEG")]
    assert equal.sum() == modes.count("L") > 0


def test_the_flat_val_folder_still_gives_every_class_its_pictures(decoded):
    assert np.bincount(load("val").labels).tolist() == [PER_CLASS_VAL] * CLASSES


def test_a_store_says_what_it_is(decoded):
    found = load("val")
    assert found.is_real and (found.name, found.split, len(found)) == ("TinyImageNet", "val", 48)
    assert found.describe() == "TinyImageNet val: 48 real pictures, 64×64, 6 classes"
    assert found.prepare_seconds > 0

    # published
    assert found.mean == (0.4802, 0.4481, 0.3975)
    assert found.std == (0.2764, 0.2689, 0.2816)


def test_tune_is_held_out_of_train_with_as_many_of_each_class(truth, decoded):
    train, tune = load("train"), load("tune")
    assert np.bincount(tune.labels).tolist() == [TUNE] * CLASSES
    assert np.bincount(train.labels).tolist() == [PER_CLASS - TUNE] * CLASSES

    pictures = Counter(image.tobytes() for found in (train, tune) for image in found.images)
    assert set(pictures) == set(originals(truth, "train")) and set(pictures.values()) == {1}


def test_a_last_training_holds_fewer_pictures_out_and_learns_from_the_others(decoded):
    tune = {image.tobytes() for image in load("tune").images}
    train, few = (load(split, held_out=2, profile="cpu") for split in ("train", "tune"))
    assert np.bincount(few.labels).tolist() == [2] * CLASSES
    assert np.bincount(train.labels).tolist() == [PER_CLASS - 2] * CLASSES

    kept, learnt = ({image.tobytes() for image in found.images} for found in (few, train))
    assert kept < tune and not kept & learnt and tune - kept < learnt


@pytest.mark.parametrize("held_out", [0, 26, -1, 2.5])
def test_another_number_of_held_out_pictures_is_refused(held_out):
    with pytest.raises(CourseError, match=f"held_out is {held_out}: expected 1 to 25"):
        load("tune", held_out=held_out)


def test_a_whole_number_of_held_out_pictures_may_come_as_a_float(decoded):
    assert len(load("tune", held_out=5.0)) == CLASSES * 5


def test_tune_is_the_same_in_every_run_whatever_the_order_of_the_files(own, home):
    first = np.array(load("tune").images)
    shutil.rmtree(home / "stores")
    for path in own.glob("train/*/*_boxes.txt"):
        lines = path.read_text().splitlines()
        random.shuffle(lines)
        path.write_text("\n".join(lines) + "\n")
    np.random.seed(99)
    assert np.array_equal(load("tune").images, first)


PER_PICTURE = ("images", "labels", "clean_labels", "boxes")


def with_clean_labels(found):
    """As of a set with wrong labels: anything that differs from the given ones."""
    return replace(found, clean_labels=found.labels[::-1].copy())


def test_every_kth_picture_is_a_view_with_its_labels_and_box(decoded):
    found = with_clean_labels(load("tune"))
    part = found.every(7)
    assert len(part) == len(range(0, len(found), 7)) and np.shares_memory(part.images, found.images)
    for name in PER_PICTURE:
        assert np.array_equal(getattr(part, name), getattr(found, name)[::7])

    plain = load("tune").every(7)
    assert plain.clean_labels is None and plain.masks is None


def test_every_kth_picture_of_each_class_comes_with_its_labels_and_box(decoded):
    found = with_clean_labels(load("tune"))
    part = found.every_of_each_class(5)
    assert np.bincount(part.labels).tolist() == [TUNE // 5] * CLASSES

    by_class = [np.flatnonzero(found.labels == label) for label in range(CLASSES)]
    rows = np.sort(np.concatenate([own[::5] for own in by_class]))
    for name in PER_PICTURE:
        assert np.array_equal(getattr(part, name), getattr(found, name)[rows])


@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_of_each_class_comes_its_share_to_within_one_and_of_a_small_one_a_picture(k):
    counts = [30, 1, 1, 40, 2, 1]
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(6), counts))
    store = replace(toy_shapes("val", count=75, size=16), labels=labels)

    part = store.every_of_each_class(k)
    for there, taken in zip(counts, np.bincount(part.labels, minlength=6), strict=True):
        assert taken >= 1 and abs(taken - there / k) <= 1


def test_about_so_many_pictures_are_never_fewer_and_never_twice_as_many():
    for there in range(1, 60):
        store = toy_shapes("val", count=60, size=16).rows(slice(there))
        for count in range(1, 60):
            taken = len(store.about(count))
            assert min(count, there) <= taken < 2 * count


def test_some_classes_are_copied_with_labels_that_count_through_them(decoded):
    found = with_clean_labels(load("tune"))
    part = found.of_classes([4, 1])
    assert part.classes == [found.classes[4], found.classes[1]]
    assert not np.shares_memory(part.images, found.images)

    rows = np.flatnonzero((found.labels == 4) | (found.labels == 1))
    assert np.array_equal(part.images, found.images[rows])
    assert np.array_equal(part.boxes, found.boxes[rows])
    assert [part.classes[label] for label in part.labels] == [
        found.classes[label] for label in found.labels[rows]
    ]
    others = {0: -1, 2: -1, 3: -1, 5: -1, 4: 0, 1: 1}
    assert part.clean_labels.tolist() == [others[each] for each in found.clean_labels[rows]]


def test_a_part_of_tiny_imagenet_is_spread_over_its_classes(decoded, monkeypatch):
    monkeypatch.setattr(tiny, "CLASSES", CLASSES)
    assert tiny.tiny_imagenet_part("val", classes=3).classes == load("val").classes[::2]
    there = load("val").classes
    spread = [there[number] for number in (0, 1, 3, 4)]  # every one and a half
    assert tiny.tiny_imagenet_part("val", classes=4).classes == spread
    assert tiny.tiny_imagenet_part("val", classes=3.0).classes == there[::2]
    assert tiny.tiny_imagenet_part("val", classes=6).classes == there

    for classes in (0, CLASSES + 1, 2.5):
        with pytest.raises(CourseError, match=f"classes is {classes}: expected 1 to {CLASSES}"):
            tiny.tiny_imagenet_part("val", classes=classes)


@pytest.mark.parametrize(
    "there, classes, expected",
    [(200, 25, range(0, 200, 8)), (200, 10, range(0, 200, 20)), (10, 5, range(0, 10, 2))],
    ids=["the part", "ten of it", "of a smoke run's ten"],
)
def test_a_part_is_spread_over_as_many_classes_as_the_store_has(
    monkeypatch, there, classes, expected
):
    names = [f"class {number}" for number in range(there)]
    store = replace(toy_shapes("val", count=there, size=16), labels=np.arange(there), classes=names)
    monkeypatch.setattr(tiny, "CLASSES", 200)
    monkeypatch.setattr(tiny, "tiny_imagenet", lambda split, profile: store)

    part = tiny.tiny_imagenet_part("val", classes=classes)
    assert part.classes == [names[number] for number in expected]


@pytest.mark.parametrize("steps", [[], [7], [3, 2]], ids=str)
@pytest.mark.parametrize("split", ["train", "tune", "val"])
def test_a_store_travels_to_a_worker_as_a_place_in_a_file(decoded, split, steps):
    found = with_clean_labels(load(split))
    for step in steps:
        found = found.every(step)

    parcel = pickle.dumps(found)
    arrived = pickle.loads(parcel)
    assert len(parcel) < 20_000 < found.images.nbytes
    assert isinstance(arrived.images, np.memmap) and not arrived.images.flags.writeable
    for name in PER_PICTURE:
        assert np.array_equal(getattr(arrived, name), getattr(found, name))
    assert arrived.describe() == found.describe()


def test_a_store_in_memory_travels_as_it_is():
    found = toy_shapes("val", count=10, size=16)
    arrived = pickle.loads(pickle.dumps(found))
    assert np.array_equal(arrived.images, found.images)
    assert np.array_equal(arrived.masks, found.masks)


def test_the_smoke_profile_takes_few_pictures_of_the_same_classes_and_never_downloads(
    home, monkeypatch
):
    locate = Mock(wraps=splits.locate)
    monkeypatch.setattr(splits, "locate", locate)
    monkeypatch.setattr(tiny, "SMOKE_PER_CLASS", 27)

    train, val = load("train", profile="smoke"), load("val", profile="smoke")
    assert [call.kwargs for call in locate.call_args_list] == [{"download": False}] * 2
    assert train.classes == val.classes == [NAMES[wnid] for wnid in sorted(WNIDS)[::2]]
    assert np.bincount(train.labels).tolist() == [27 - TUNE] * 3
    assert np.bincount(val.labels).tolist() == [PER_CLASS_VAL] * 3
    assert not built(home).exists()


@pytest.mark.parametrize("split", ["test", "Train", ""])
def test_an_unknown_split_is_named_with_those_there_are(split):
    with pytest.raises(CourseError, match=f"unknown split '{split}'.*train, tune, val"):
        load(split)


def test_a_misspelt_profile_is_named_and_downloads_nothing(home, monkeypatch):
    monkeypatch.setattr(splits, "locate", forbidden())
    with pytest.raises(CourseError, match="unknown profile 'smok'.*smoke, cpu, gpu"):
        load("val", profile="smok")


# --- lists of labels ------------------------------------------------------------------------------


def edit(path, change):
    """``change`` maps the file's lines to others; returns its content from before."""
    content = path.read_bytes()
    path.write_text("\n".join(change(content.decode().splitlines())) + "\n")
    return content


def first_half(lines):
    return lines[: len(lines) // 2]


def emptied(lines):
    return []


def doubled(lines):
    return [*lines, lines[0]]


def same_row_twice(lines):
    return [lines[1], *lines[1:]]


def cut_row(lines):
    return [*lines[:-1], lines[-1][:12]]


def of_another_class(lines):
    """The second picture gets the class of the first."""
    name, _, *box = lines[1].split("\t")
    return [lines[0], "\t".join([name, lines[0].split("\t")[1], *box]), *lines[2:]]


def unknown_picture(lines):
    return [lines[0].replace("_0.JPEG", "_999.JPEG"), *lines[1:]]


def box_of_words(lines):
    *row, edge = lines[0].split("\t")
    return ["\t".join([*row, "wide"]), *lines[1:]]


def box_outside(lines):
    *row, edge = lines[0].split("\t")
    return ["\t".join([*row, "70000"]), *lines[1:]]


def without_names(lines):
    return [line.split("\t")[0] + "\t" for line in lines]


FIRST = min(WNIDS)  # one of those that smoke takes
VAL, BOXES = "val/val_annotations.txt", f"train/{FIRST}/{FIRST}_boxes.txt"
BROKEN_LISTS = [
    (VAL, first_half, "val", "24 rows of 6 classes, expected 48 of 6"),
    (VAL, emptied, "val", "0 rows of 0 classes, expected 48 of 6"),
    (VAL, doubled, "val", "49 rows of 6 classes, expected 48"),
    (VAL, same_row_twice, "val", "9 rows of|7 rows of|stands there 2 times"),
    (VAL, of_another_class, "val", "[79] rows of n0[0-9]+, expected 8"),
    (VAL, cut_row, "val", "columns in 'val_47.JPEG.*expected 6"),
    (VAL, unknown_picture, "val", "its picture val_999.JPEG is not there"),
    (VAL, box_of_words, "val", "the box of val_0.JPEG is .*wide, expected 0 to 63"),
    (VAL, box_outside, "val", "the box of val_0.JPEG is .*70000, expected 0 to 63"),
    (BOXES, first_half, "train", "15 rows of 1 classes, expected 30 of 1"),
    (BOXES, emptied, "train", "0 rows of 0 classes, expected 30 of 1"),
    (BOXES, same_row_twice, "train", f"{FIRST}_1.JPEG stands there 2 times"),
    (BOXES, cut_row, "train", "1 columns in .*expected 5"),
    (BOXES, unknown_picture, "train", "_999.JPEG is not there"),
    (BOXES, box_outside, "train", "the box of .*expected 0 to 63"),
    ("wnids.txt", first_half, "val", "3 rows of 3 classes, expected 6 of 6"),
    ("wnids.txt", first_half, "train", "3 rows of 3 classes, expected 6 of 6"),
    ("wnids.txt", same_row_twice, "train", "6 rows of 5 classes, expected 6 of 6"),
    ("words.txt", first_half, "val", "no name for n0"),
    ("words.txt", without_names, "train", "no name for n0"),
]


@pytest.mark.parametrize("profile", ["cpu", "smoke"])
@pytest.mark.parametrize("file, change, split, words", BROKEN_LISTS)
def test_a_list_that_is_not_as_published_is_named_and_nothing_is_kept(
    own, home, file, change, split, words, profile
):
    edit(own / file, change)
    with pytest.raises(DataError, match=f"{Path(file).name} is not as published: .*{words}"):
        load(split, profile=profile)
    assert left_behind(home) == []


def test_a_list_put_back_is_enough(own):
    for file in (VAL, BOXES, "wnids.txt"):
        content = edit(own / file, first_half)
        split = "val" if file == VAL else "train"
        with pytest.raises(DataError, match="Put the published file back"):
            load(split)
        (own / file).write_bytes(content)

    assert len(load("train")) == CLASSES * (PER_CLASS - TUNE)
    assert len(load("val")) == CLASSES * PER_CLASS_VAL


@pytest.fixture
def elsewhere(truth, tmp_path):
    """A whole copy in the place that is searched after COURSE_DATA."""
    place = tmp_path / "repo" / "data"
    place.mkdir()
    (place / "tiny-imagenet-200").symlink_to(truth.root, target_is_directory=True)


def damage(path):
    path.write_bytes(path.read_bytes()[:200])


ONE_OF_EACH_FILE = {file: (file, change, split) for file, change, split, _ in BROKEN_LISTS}


@pytest.mark.parametrize("file, change, split", ONE_OF_EACH_FILE.values(), ids=ONE_OF_EACH_FILE)
def test_a_list_that_is_not_as_published_hides_no_whole_copy(
    own, elsewhere, truth, file, change, split
):
    edit(own / file, change)
    found, names = load(split), originals(truth, split)
    assert {image.tobytes() for image in found.images} <= names.keys() and found.is_real


def test_a_damaged_picture_hides_no_whole_copy(own, elsewhere, truth):
    damage(own / "val" / "images" / "val_0.JPEG")
    assert {image.tobytes() for image in load("val").images} == originals(truth, "val").keys()


def test_of_two_broken_copies_the_first_one_is_named(own, elsewhere, home, tmp_path):
    place = tmp_path / "repo" / "data" / "tiny-imagenet-200"
    place.unlink()
    shutil.copytree(own, place)
    damage(own / "val" / "images" / "val_0.JPEG")
    edit(place / VAL, first_half)

    with pytest.raises(DataError, match="1 of 48 pictures cannot be decoded") as caught:
        load("val")
    assert str(own) in str(caught.value) and left_behind(home) == []


def with_blanks(content):
    return content.replace(b"\t", b"  ")


def with_blank_lines(content):
    return b"\n" + content.replace(b"\n", b"\n \n")


EDITORS = {
    "a BOM": lambda content: b"\xef\xbb\xbf" + content,
    "CRLF": lambda content: content.replace(b"\n", b"\r\n"),
    "blank lines": with_blank_lines,
    "blanks for tabs": with_blanks,
}


@pytest.mark.parametrize("how", EDITORS)
def test_lists_that_went_through_an_editor_are_read(own, decoded, home, how):
    expected = {split: load(split) for split in ("train", "val")}
    shutil.rmtree(home / "stores")
    for path in own.rglob("*.txt"):
        path.write_bytes(EDITORS[how](path.read_bytes()))

    for split, before in expected.items():
        found = load(split)
        assert found.classes == before.classes
        for name in ("images", "labels", "boxes"):
            assert np.array_equal(getattr(found, name), getattr(before, name))


@pytest.mark.parametrize("file", [VAL, BOXES, "wnids.txt", "words.txt"])
def test_a_list_in_another_encoding_is_named(own, file):
    (own / file).write_text((own / file).read_text(), encoding="utf-16")
    with pytest.raises(DataError, match=f"{Path(file).name} is not .*no UTF-8 text"):
        load("train" if file == BOXES else "val")


def test_a_list_that_cannot_be_read_is_named(own):
    (own / BOXES).rename(own / "train" / WNIDS[0] / "another_boxes.txt")
    with pytest.raises(DataError, match="_boxes.txt is not .*No such file"):
        load("train")


def test_a_store_that_was_made_from_a_cut_list_is_made_anew(home, decoded, monkeypatch):
    path = built(home, "val") / "meta.json"
    folder = path.parent
    half = CLASSES * PER_CLASS_VAL // 2

    images, arrays = np.load(folder / "images.npy"), dict(np.load(folder / "annotations.npz"))
    np.save(folder / "images.npy", images[:half])
    np.savez(folder / "annotations.npz", **{name: rows[:half] for name, rows in arrays.items()})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pictures": half}))

    assert np.array_equal(load("val").images, images)


@pytest.mark.parametrize("folder", ["val/{wnid}", "val/{wnid}/images", "val/images/{wnid}"])
@pytest.mark.parametrize("kept", [True, False], ids=["as copies", "moved"])
def test_a_val_that_was_sorted_into_folders_by_class_is_read(truth, own, folder, kept):
    """As half of the tutorials advise, to read it with ImageFolder."""
    expected = originals(truth, "val")
    for path in sorted(own.glob("val/images/*.JPEG")):
        target = own / folder.format(wnid=truth.label[path.name]) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        if not kept:
            path.unlink()

    found, classes = load("val"), sorted(WNIDS)
    for image, label in zip(found.images, found.labels, strict=True):
        assert classes[label] == truth.label[expected.pop(image.tobytes())]
    assert not expected


# --- decoded once ---------------------------------------------------------------------------------


def test_the_second_opening_decodes_nothing_and_reads_no_picture_before_it_is_asked_for(
    decoded, monkeypatch
):
    first = load("train")
    copy = np.array(first.images)

    for owner, name in ((Image, "open"), (splits, "locate"), (decode, "_build")):
        monkeypatch.setattr(owner, name, forbidden())
    started = time.perf_counter()
    again = load("train")
    assert time.perf_counter() - started < 2
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable
    assert np.array_equal(again.images, copy) and np.array_equal(again.labels, first.labels)
    assert again.prepare_seconds == first.prepare_seconds
    assert len(load("tune")) == CLASSES * TUNE, "train and tune are views of one file"


def test_the_published_110000_pictures_need_less_than_one_and_a_half_gigabytes(home, decoded):
    size = sum(path.stat().st_size for path in built(home).iterdir())
    assert size / (CLASSES * PER_CLASS) * 110_000 <= 1.5e9


def _open_at_once(barrier, answers):
    barrier.wait(60)
    found = load("train")
    answers.put((int(found.images.sum(dtype=np.int64)), len(found), found.labels.tolist()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the test forks")
def test_of_two_processes_that_start_at_once_one_builds_and_both_read_the_same(
    home, monkeypatch, several_tasks
):
    build = decode._build

    def counted(*args):
        (home / f"built by {os.getpid()}").touch()
        build(*args)

    monkeypatch.setattr(decode, "_build", counted)
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(2), context.Queue()
    both = [context.Process(target=_open_at_once, args=(barrier, answers)) for _ in range(2)]

    for process in both:
        process.start()
    first, second = (answers.get(timeout=120) for _ in both)
    for process in both:
        process.join(60)

    assert first == second and [process.exitcode for process in both] == [0, 0]
    assert len(list(home.glob("built by *"))) == 1
    found = load("train")
    assert first == (int(found.images.sum(dtype=np.int64)), len(found), found.labels.tolist())


@pytest.mark.parametrize("file", ["images.npy", "annotations.npz", "meta.json"])
@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_store_that_lost_bytes_is_built_anew(home, decoded, file, kept):
    expected = np.array(load("val").images)
    path = built(home, "val") / file
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])

    assert np.array_equal(load("val").images, expected)
    assert path.stat().st_size >= len(content) * 0.9


@pytest.mark.parametrize("file", ["images.npy", "annotations.npz", "meta.json"])
def test_a_store_that_lost_a_file_is_built_anew(home, decoded, file):
    expected = np.array(load("val").images)
    (built(home, "val") / file).unlink()
    assert np.array_equal(load("val").images, expected)


def make_older(meta):
    """``meta.json`` as it would stand in a store of the format before."""
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": decode.FORMAT - 1}))


def test_a_store_of_an_older_format_is_built_anew(home, decoded):
    path = built(home, "val") / "meta.json"
    make_older(path)
    assert len(load("val")) == CLASSES * PER_CLASS_VAL
    assert json.loads(path.read_text())["format"] == decode.FORMAT


def test_what_a_killed_builder_left_is_no_store_and_is_swept_away(home):
    stale = built(home, "val").with_name("val.building-4194305")
    stale.mkdir(parents=True)
    (stale / "images.npy").write_bytes(b"half")
    assert len(load("val")) == CLASSES * PER_CLASS_VAL
    assert not stale.exists()


def test_a_store_is_on_the_disk_before_it_takes_its_name(home, monkeypatch):
    """Else a power cut leaves a whole name, and zeros in the file."""
    flushed, moved = [], []

    def fsync(descriptor):
        flushed.append(os.fstat(descriptor).st_ino)

    def move(aside, folder):
        moved.extend(path.stat().st_ino for path in aside.iterdir())
        assert sorted(flushed) == sorted(moved) and len(moved) == 3
        files.move_into_place(aside, folder)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(decode, "move_into_place", move)
    load("val")
    assert moved


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL])
def test_where_no_file_can_be_mapped_a_store_is_read_into_memory(
    home, decoded, monkeypatch, capsys, number
):
    expected = np.array(load("val").images)
    load_array = np.load

    def without_maps(path, mmap_mode=None):
        if mmap_mode:
            raise OSError(number, os.strerror(number), str(path))
        return load_array(path)

    monkeypatch.setattr(decode.np, "load", without_maps)
    monkeypatch.setattr(decode, "_build", forbidden())
    found = load("val")
    assert np.array_equal(found.images, expected) and not found.images.flags.writeable
    assert "no file can be mapped" in capsys.readouterr().out
    assert np.array_equal(pickle.loads(pickle.dumps(found)).images, expected)


# --- stores in other places -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["repo/data", "no kaggle/slug", "no spare", "data/my stores"])
def test_stores_are_found_in_every_place_that_is_searched(
    home, tmp_path, decoded, monkeypatch, place
):
    """Without the pictures, which may be deleted once they are decoded."""
    (home / "tiny-imagenet-200").unlink()
    (tmp_path / place).mkdir(parents=True)
    (home / "stores").rename(tmp_path / place / "stores")

    monkeypatch.setattr(decode, "_build", forbidden())
    assert load("train").is_real and load("val").is_real


def test_stores_on_a_read_only_disk_that_course_data_names_are_read(home, decoded, monkeypatch):
    (home / "tiny-imagenet-200").unlink()
    make_read_only(monkeypatch, home)
    monkeypatch.setattr(Path, "touch", Mock(side_effect=OSError(errno.EROFS, "Read-only")))
    assert load("train").is_real and load("val").is_real


def test_a_store_that_cannot_be_read_hides_none_that_can(home, tmp_path, decoded, monkeypatch):
    shutil.copytree(home / "stores", tmp_path / "repo/data/stores")
    read = Path.read_text

    def guarded(self, *how, **options):
        if self.is_relative_to(home / "stores"):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return read(self, *how, **options)

    monkeypatch.setattr(Path, "read_text", guarded)
    assert load("val").is_real
    shutil.rmtree(tmp_path / "repo/data/stores")
    with pytest.raises(DataError, match="cannot be read now .*Permission denied"):
        load("val")


@pytest.mark.parametrize("link", ["stores", "stores/tiny_imagenet", "stores/tiny_imagenet/val"])
def test_a_link_to_nothing_in_the_place_of_a_store_is_named_with_its_cure(home, tmp_path, link):
    (home / link).parent.mkdir(parents=True, exist_ok=True)
    (home / link).symlink_to(tmp_path / "not connected")
    with pytest.raises(DataError, match=f"{link} is a link to .*not connected.*remove the link"):
        load("val")

    (home / link).unlink()
    assert len(load("val")) == CLASSES * PER_CLASS_VAL


# --- broken pictures ------------------------------------------------------------------------------


def test_broken_pictures_are_all_named_nothing_is_left_and_mending_them_is_enough(
    own, home, several_tasks
):
    pictures = sorted(own.glob("train/*/images/*.JPEG"))
    whole = {pictures[i]: pictures[i].read_bytes() for i in (50, 130, 131)}
    cut, empty, text = whole
    cut.write_bytes(whole[cut][: len(whole[cut]) // 2])
    empty.write_bytes(b"")
    text.write_bytes(b"<html>404</html>")

    with pytest.raises(DataError) as caught:
        load("train")
    message = str(caught.value)
    assert message.startswith("3 of 180 pictures cannot be decoded") and "run again" in message
    for path in whole:
        assert str(path) in message
    assert left_behind(home) == [] and not built(home).exists()

    for path, content in whole.items():
        path.write_bytes(content)
    assert len(load("train")) == CLASSES * (PER_CLASS - TUNE)


def test_of_many_broken_pictures_five_are_named_and_all_counted(own, home):
    for path in sorted(own.glob("val/images/*.JPEG"))[:9]:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="9 of 48 pictures") as caught:
        load("val")
    named = [line for line in str(caught.value).splitlines() if line.startswith("  ")]
    assert sum(".JPEG" in line for line in named) == 5 and named[-1].strip() == "…"


def test_two_damaged_bytes_that_promise_a_giant_are_told_with_the_files_name(own, home):
    """Height and width stand five and seven bytes after the marker of the frame."""
    path = own / "val" / "images" / "val_7.JPEG"
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")  # SOF0
    content[frame + 5] = content[frame + 7] = 0xFF
    path.write_bytes(content)

    with pytest.raises(DataError, match=f"1 of 48 pictures(.|\n)*{path}"):
        load("val")
    assert left_behind(home) == []


def test_a_picture_of_another_size_is_named_with_both_sizes(own, home):
    path = own / "val" / "images" / "val_7.JPEG"
    Image.new("RGB", (48, 32)).save(path)
    with pytest.raises(DataError) as caught:
        load("val")
    assert f"{path}: 48×32 pixels, expected 64×64" in str(caught.value)
    assert left_behind(home) == []


def test_a_picture_that_is_missing_is_told_by_the_count_before_anything_is_built(own, home):
    next(own.glob("train/*/images/*.JPEG")).unlink()
    with pytest.raises(DataError, match="179 of 180 files"):
        load("train")
    assert left_behind(home) == []


def test_broken_pictures_on_a_read_only_mount_ask_for_another_copy(own, home, monkeypatch):
    (own / "val" / "images" / "val_7.JPEG").write_bytes(b"")
    with monkeypatch.context() as context:
        make_read_only(context, own)
        asks = "1 of 48 pictures(.|\n)*read-only: attach another copy"
        with pytest.raises(DataError, match=asks) as caught:
            load("val")
    assert "delete" not in str(caught.value).lower() and left_behind(home) == []


# --- processes that end early ---------------------------------------------------------------------


def _killed(image, size):
    os._exit(9)  # as the system ends a process where the memory is full


def _slow(image, size):
    time.sleep(0.2)
    return image


def decode_all(truth, home, fit):
    """All 180 train pictures through ``fit``, in two processes."""
    paths = [str(path) for path in truth.root.glob("train/*/images/*.JPEG")]
    listing = decode.Listing(paths, np.zeros(len(paths), np.int64), ["only"])
    return decode.decode_once(built(home), lambda: listing, (64, 64), fit)


def test_a_process_that_is_killed_is_told_with_a_cure_and_not_waited_for(
    truth, home, several_tasks
):
    told = "one of the 2 processes that decode was killed.*memory.*run again"
    with pytest.raises(DataError, match=told):
        decode_all(truth, home, _killed)
    assert left_behind(home) == [] == multiprocessing.active_children()


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    "to_all", [True, False], ids=["as a terminal sends it", "to the parent alone"]
)
def test_ctrl_c_stops_the_decoding_at_once_and_quietly(
    truth, home, several_tasks, monkeypatch, capfd, to_all
):
    def ctrl_c(count):
        workers = multiprocessing.active_children() if to_all else []
        for worker in workers:
            os.kill(worker.pid, signal.SIGINT)
        while any(worker.is_alive() for worker in workers):
            assert time.perf_counter() - started < 9
        raise KeyboardInterrupt

    def collect(results, bar):
        return [ctrl_c(count) for count, _ in results]

    monkeypatch.setattr(decode, "CHUNK", 1)
    monkeypatch.setattr(decode, "_collect", collect)

    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        decode_all(truth, home, _slow)
    assert time.perf_counter() - started < 9, "all pictures would take 18 seconds"
    assert left_behind(home) == [] == multiprocessing.active_children()
    assert "Traceback" not in capfd.readouterr().err


SCRIPT = """
import multiprocessing, os, signal, sys, time
from pathlib import Path

import numpy as np

from course_lib.data import decode

decode.CHUNK = 16
decode._cores = lambda: 2


def fit(image, size):
    Path(sys.argv[1], f"worker {os.getpid()}").touch()
    time.sleep(float(sys.argv[2]))
    return image


if __name__ == "__main__":
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and handed down
    multiprocessing.set_start_method(sys.argv[3])
    paths = [str(path) for path in Path(sys.argv[4]).glob("train/*/images/*.JPEG")]
    listing = decode.Listing(paths, np.zeros(len(paths), np.int64), ["only"])
    folder = Path(sys.argv[1], "stores", "only", "train")
    found = decode.decode_once(folder, lambda: listing, (64, 64), fit)
    print(len(found.images), "pictures")
"""
forked_or_not = [
    pytest.param("fork", marks=pytest.mark.skipif(not FORKS, reason="no fork here")),
    pytest.param("spawn", marks=pytest.mark.slow),
]


def start(command, *arguments, **options):
    """A Python of its own, which finds the library; its errors come with what it prints."""
    environment = os.environ | {"PYTHONPATH": str(Path(decode.__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, command, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=180):  # of a busy machine
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("method", forked_or_not)
@pytest.mark.parametrize(
    "how",
    [
        "SIGKILL",
        pytest.param("SIGTERM", marks=pytest.mark.slow),
        pytest.param("SIGHUP", marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_a_parent_that_is_killed(truth, home, tmp_path, how, method):
    """Else they wait for tasks for ever, with 350 MB each."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = start(script, home, 0.1, method, truth.root)

    def workers():
        return [int(path.name.split()[1]) for path in home.glob("worker *")]

    wait_for(lambda: len(workers()) == 2 or process.poll() is not None)
    assert process.poll() is None, process.stdout.read()
    process.send_signal(getattr(signal, how))
    process.wait(30)
    wait_for(lambda: not any(map(runs, workers())), seconds=30)

    FileLock(home / "stores" / "only" / "train.lock").acquire(timeout=0)  # nobody holds it


@pytest.mark.parametrize("method", [pytest.param("fork", marks=pytest.mark.slow), "spawn"])
def test_a_script_from_stdin_decodes_by_itself_where_no_process_could_start_it_again(
    truth, home, method
):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not here")
    process = start("-", home, 0, method, truth.root, stdin=subprocess.PIPE)
    said, _ = process.communicate(SCRIPT, timeout=60)
    assert said.splitlines()[-1] == "180 pictures" and process.returncode == 0, said


# --- disks ----------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_opened_now_is_not_built_anew(home, decoded, monkeypatch):
    """Its sources may have been deleted, as data/README.md allows."""
    before = (built(home) / "images.npy").stat().st_ino
    too_many = OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as context:
        context.setattr(decode.np, "load", Mock(side_effect=too_many))
        with pytest.raises(DataError, match="be read now .*Too many open files.*left as it is"):
            load("train")

    load("train")
    assert (built(home) / "images.npy").stat().st_ino == before, "the same file"


def says_it_is_full(monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(decode.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))


def is_full_while_decoding(monkeypatch):
    class OnFullDisk(io.FileIO):
        def write(self, content):
            raise FULL

    def open_full(path, mode):
        return (OnFullDisk if mode == "r+b" else builtins.open)(path, mode)

    monkeypatch.setattr(decode, "open", open_full, raising=False)


def is_full_at_the_last_file(monkeypatch):
    monkeypatch.setattr(decode.np, "savez", Mock(side_effect=FULL))


where_it_forks = pytest.mark.skipif(not FORKS, reason="what is patched here has to be inherited")
FULL_DISKS = [
    says_it_is_full,
    is_full_at_the_last_file,
    pytest.param(is_full_while_decoding, marks=where_it_forks),
]


@pytest.mark.parametrize("how", FULL_DISKS)
def test_a_full_disk_is_told_in_megabytes_with_the_folder_and_leaves_nothing(
    home, monkeypatch, several_tasks, how
):
    needed = CLASSES * PER_CLASS * 64 * 64 * 3 / 1e6
    with monkeypatch.context() as context:
        how(context)
        with pytest.raises(DataError) as caught:
            load("train")

    for part in ("disk is full", f"needs {needed:.0f} MB", str(built(home).parent), "COURSE_DATA"):
        assert part in str(caught.value)
    assert left_behind(home) == []
    assert len(load("train")) == CLASSES * (PER_CLASS - TUNE), "with room again, it succeeds"


def test_on_a_full_disk_no_further_copy_is_decoded(own, elsewhere, home, monkeypatch):
    roots, listing = [], tiny._listing

    def noted(root, *what):
        roots.append(root)
        return listing(root, *what)

    monkeypatch.setattr(tiny, "_listing", noted)
    monkeypatch.setattr(decode, "_check_room", Mock(side_effect=FULL))
    with pytest.raises(DataError, match="disk is full"):
        load("val")
    assert roots == [own]

    damage(own / "wnids.txt")  # the first copy is broken, the disk is full when it is the second's
    with pytest.raises(DataError, match="disk is full"):
        load("val")


def test_a_list_without_a_picture_is_an_error_that_names_the_store(home):
    empty = decode.Listing([], np.zeros(0, np.int64), ["only"])
    with pytest.raises(DataError, match="val: the list of pictures is empty"):
        decode.decode_once(built(home, "val"), lambda: empty, (64, 64))
    assert left_behind(home) == []


def make_read_only(monkeypatch, folder):
    """As a read-only mount: nothing below ``folder`` can be made, whatever the permissions say."""

    def guarded(function, writes):
        def call(path, *args, **kwargs):
            inside = isinstance(path, str | Path) and Path(path).is_relative_to(folder)
            if inside and writes(*args):
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return function(path, *args, **kwargs)

        return call

    def flags_write(flags, *_):
        return flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)

    def mode_writes(mode="r", *_):
        return set(mode) & set("wax+")

    monkeypatch.setattr(os, "mkdir", guarded(os.mkdir, lambda *_: True))
    monkeypatch.setattr(os, "open", guarded(os.open, flags_write))
    monkeypatch.setattr(builtins, "open", guarded(builtins.open, mode_writes))


@pytest.mark.parametrize("exists", [True, False])
def test_a_store_folder_that_cannot_be_written_is_named_with_a_cure(home, monkeypatch, exists):
    folder = built(home).parent
    if exists:
        folder.mkdir(parents=True)
    with monkeypatch.context() as context:
        make_read_only(context, home / "stores")
        with pytest.raises(DataError) as caught:
            load("train")
    for part in (str(folder), "Read-only file system", "COURSE_DATA"):
        assert part in str(caught.value)


def test_a_store_on_a_read_only_disk_can_be_read(home, decoded, monkeypatch):
    with monkeypatch.context() as context:
        make_read_only(context, home)
        found = decode.decode_once(built(home, "val"), forbidden(), (64, 64))
    assert len(found.images) == CLASSES * PER_CLASS_VAL


def test_a_script_without_a_guard_is_told_so_where_processes_start_it_anew(home, monkeypatch):
    """Its children would wait for the lock that their parent holds."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(DataError, match='if __name__ == "__main__"'):
        load("val")


def test_a_store_of_an_older_version_is_no_real_part_of_anything(home, monkeypatch):
    """Without the data set, which is all that could be made of it, toy shapes are drawn."""
    for split in ("tune", "val"):
        load(split, profile="smoke")
    for path in home.glob("stores/*/*/meta.json"):
        make_older(path)

    (home / "tiny-imagenet-200").unlink()
    assert not load("tune", profile="smoke").is_real


# --- no data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "tune", "val"])
@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_without_data_and_network_toy_shapes_are_drawn_and_nobody_can_miss_it(
    home, monkeypatch, capsys, split, profile
):
    draw = Mock(return_value="toy")
    monkeypatch.setattr(splits, "locate", lambda source, download: None)
    monkeypatch.setattr(splits, "stand_in", draw)

    assert load(split, profile=profile) == "toy"
    draw.assert_called_once_with(split, 64)
    said = capsys.readouterr().out
    assert "NO TINYIMAGENET HERE" in said and "TOY SHAPES" in said and "README" in said
    assert left_behind(home) == []

    assert f"Looked in {home} (COURSE_DATA)" in said
    assert ("cpu and gpu do" in said) is (profile == "smoke"), "the others have tried"

    assert load(split, profile=profile) == "toy"
    assert capsys.readouterr().out == "", "said once is enough"


def test_toy_shapes_are_drawn_once_in_a_process(home):
    (home / "tiny-imagenet-200").unlink()
    first, second = (load("tune", profile="smoke") for _ in range(2))
    assert first.images is second.images


def test_where_nothing_can_be_written_toy_shapes_are_drawn_all_the_same(home, monkeypatch):
    (home / "tiny-imagenet-200").unlink()
    monkeypatch.setattr(files, "writable", lambda folder: False)
    monkeypatch.setattr(splits, "data_home", lambda: home)
    assert not load("tune", profile="smoke").is_real


def test_a_network_that_is_not_there_is_waited_for_once(home, monkeypatch):
    """But not by the smoke profile, after which the others still have to try."""
    (home / "tiny-imagenet-200").unlink()
    fetch = Mock(side_effect=download.Unreachable("none"))
    monkeypatch.setattr(download, "fetch", fetch)

    for profile, tried in (("smoke", 0), ("cpu", 1), ("cpu", 1)):
        assert not load("tune", profile=profile).is_real
        assert fetch.call_count == tried


def test_data_that_arrives_later_takes_the_place_of_the_toy_shapes(home, truth):
    (home / "tiny-imagenet-200").unlink()
    assert not load("val", profile="smoke").is_real

    (home / "tiny-imagenet-200").symlink_to(truth.root, target_is_directory=True)
    assert load("val", profile="smoke").is_real


@pytest.mark.parametrize("first, then", [("train", "val"), ("val", "tune")])
def test_toy_shapes_never_stand_beside_real_pictures(home, first, then):
    load(first, profile="smoke")
    (home / "tiny-imagenet-200").unlink()
    assert load(first, profile="smoke").is_real, "decoded once, it needs its files no more"

    with pytest.raises(DataError, match="never decoded.*bring the data set back"):
        load(then, profile="smoke")


def test_the_toy_shapes_that_stand_in_say_that_they_are_not_real(monkeypatch):
    monkeypatch.setattr(splits, "locate", lambda source, download: None)
    found = load("tune")
    assert not found.is_real and found.split == "tune" and len(found.classes) == 10
    assert "toy" in found.describe()
