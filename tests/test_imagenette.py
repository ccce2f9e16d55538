"""Imagenette: a small set as published, labels with known mistakes, pictures of every shape."""

import csv
import importlib
import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image

from course_lib import files
from course_lib.data import BatchLoader, DataError, download, imagenette, toy_shapes
from course_lib.data.download import find, locate
from course_lib.files import CourseError

# the name in the package is the function's
nette = importlib.import_module("course_lib.data.imagenette")

WNIDS = list(nette.CLASSES)
TRAIN, VAL, TUNE, SIDE = 16, 6, 5, 24
PUBLISHED_FLIPS = {0: 0, 1: 95, 5: 474, 25: 2_368, 50: 4_735}  # counted in the published file
IN_TRAIN = {0: 0, 1: 88, 5: 445, 25: 2_247, 50: 4_477}  # of them, without the tune pictures
SHAPES = [(SIDE, SIDE), (SIDE + 7, SIDE), (SIDE, SIDE + 10), (2 * SIDE, 3 * SIDE)]  # width, height


def write_picture(path, rng, i):
    """A smooth random picture of one of the four shapes, one in ten of one channel."""
    coarse = rng.integers(0, 256, (4, 4) if i % 10 == 9 else (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(SHAPES[i % 4], Image.Resampling.BICUBIC)
    picture.save(path, quality=95)


def write(root, split_file=False):
    """As published: folders of JPEGs, and a file of labels, sorted by class.

    Returns {path: {noise: label}}.
    """
    rng, rows = np.random.default_rng(0), []

    for part, count in (("train", TRAIN), ("val", VAL)):
        for number, wnid in enumerate(WNIDS):
            (root / part / wnid).mkdir(parents=True)
            for i in range(count):
                path = f"{part}/{wnid}/{wnid}_{i}.JPEG"
                write_picture(root / path, rng, i)

                another = WNIDS[(number + 1 + i % 9) % 10]
                wrong = [part == "train" and rng.random() < level / 100 for level in nette.NOISE]
                labels = [another if is_wrong else wnid for is_wrong in wrong]
                rows.append([path, *labels, part == "val"])

    if split_file:
        write_labels(root / "train_noisy_imagenette.csv", [row for row in rows if not row[-1]])
        write_labels(root / "val_noisy_imagenette.csv", [row for row in rows if row[-1]])
    else:
        write_labels(root / "noisy_imagenette.csv", rows)
    return {row[0]: dict(zip(nette.NOISE, row[1:6], strict=True)) for row in rows}


def write_labels(path, rows):
    header = ["path", *(f"noisy_labels_{level}" for level in nette.NOISE), "is_valid"]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def flips(truth):
    """How many labels differ from the clean ones, at each level."""
    rows = truth.values()
    return tuple(sum(row[level] != row[0] for row in rows) for level in nette.NOISE)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("published") / "imagenette2-160"
    return root, write(root)


@pytest.fixture(autouse=True)
def home(published, tmp_path, monkeypatch):
    counts = {"train/*/*.JPEG": TRAIN * 10, "val/*/*.JPEG": VAL * 10}
    small = {
        side: replace(source, counts=counts, urls=("http://127.0.0.1:1/set.zip",), side=None)
        for side, source in nette.IMAGENETTE.archives.items()
    }
    as_published = replace(
        nette.IMAGENETTE,
        pictures={"train": TRAIN * 10, "val": VAL * 10},
        of_class={"train": dict.fromkeys(WNIDS, TRAIN), "val": dict.fromkeys(WNIDS, VAL)},
        wrong={"train": flips(published[1]), "val": (0,) * 5},
        archives=small,
    )
    monkeypatch.setattr(nette, "IMAGENETTE", as_published)
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
    resized = tv.resize(image, side, tv.InterpolationMode.BICUBIC)
    return np.asarray(tv.center_crop(resized, [side, side]))


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


def labels_by_file(published, level):
    """{pixels: label} at one level of noise."""
    root, truth = published
    return {
        cut_by_torchvision(root / path, SIDE).tobytes(): sorted(WNIDS).index(labels[level])
        for path, labels in truth.items()
    }


@pytest.mark.parametrize("level", [1, 25, 50])
def test_noise_changes_the_labels_of_train_as_the_file_says_and_no_others(published, level):
    noisy = labels_by_file(published, level)
    clean, found = imagenette("train", size=SIDE), imagenette("train", noise=level, size=SIDE)

    assert np.array_equal(found.images, clean.images)
    assert found.labels.tolist() == [noisy[image.tobytes()] for image in found.images]
    assert level == 1 or 0 < (found.labels != clean.labels).sum() < len(found)

    for split in ("tune", "val"):
        noisy, clean = (imagenette(split, noise=noise, size=SIDE) for noise in (level, 0))
        assert np.array_equal(noisy.labels, clean.labels)


@pytest.mark.parametrize("level", nette.NOISE)
@pytest.mark.parametrize("split", ["train", "tune", "val"])
def test_the_clean_labels_stand_beside_the_given_ones(published, split, level):
    clean, found = labels_by_file(published, 0), imagenette(split, noise=level, size=SIDE)
    assert found.clean_labels.tolist() == [clean[image.tobytes()] for image in found.images]
    assert found.clean_labels.dtype == np.int64


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
    with pytest.raises(DataError, match="noisy_imagenette.csv is not .*: missing.*run again"):
        imagenette("train", size=SIDE)


@pytest.fixture
def own(home, published):
    """The data set as files that the test may break."""
    (home / "imagenette2-160").unlink()
    return Path(shutil.copytree(published[0], home / "imagenette2-160"))


def cut(lines):
    return lines[:-1]


def doubled(lines):
    return [*lines, lines[1]]


def same_picture_twice(lines):
    return [lines[0], lines[2], *lines[2:]]


def of_another_class(lines):
    """One church more, and one tench less, in the clean column."""
    row = next(i for i, line in enumerate(lines) if f",{WNIDS[0]}," in line)
    path, _, *others = lines[row].split(",")
    return [*lines[:row], ",".join([path, "n03028079", *others]), *lines[row + 1 :]]


def without_a_column(lines):
    return [line.replace("noisy_labels_5,", "labels,") for line in lines]


def half_a_row(lines):
    return [*lines[:-1], lines[-1][:30]]


def unknown_label(lines):
    return [*lines[:5], lines[5].replace(",n0", ",n1"), *lines[6:]]


def levels_swapped(lines):
    """Labels of one level in the column of another."""
    return [lines[0].replace("labels_5,", "labels_50,").replace("_50,is", "_5,is"), *lines[1:]]


def noisy_for_clean(lines):
    """Half of the labels of val wrong, in the column for 25 percent."""
    rows = [line.split(",") for line in lines]
    for row in rows:
        if row[0].startswith("val/") and row[1] == WNIDS[0]:
            row[4] = WNIDS[1]
    return [",".join(row) for row in rows]


BROKEN_LISTS = {
    levels_swapped: r"labels of train in noisy_labels_5 are wrong, expected",
    noisy_for_clean: r"6 labels of val in noisy_labels_25 are wrong, expected 0",
    cut: r"59 rows of 10 classes, expected 60 of 10",
    doubled: r"161 rows of 10 classes, expected 160 of 10",
    same_picture_twice: r"stands there 2 times",
    of_another_class: r"15 rows of n01440764, expected 16",
    without_a_column: r"no column noisy_labels_5",
    half_a_row: r"labels of val/n03888257.* expected 5 wnids",
    unknown_label: r"labels of train/n01440764.* expected 5 wnids",
    lambda lines: [lines[0]]: r"0 rows of 0 classes",
    lambda lines: []: r"no column path",
}


@pytest.mark.parametrize("profile", ["cpu", "smoke"])
@pytest.mark.parametrize("spoil", BROKEN_LISTS, ids=lambda spoil: spoil.__name__)
def test_a_list_that_is_not_as_published_is_named_and_nothing_is_kept(
    own, home, monkeypatch, spoil, profile
):
    monkeypatch.setattr(nette, "SMOKE_PER_CLASS", {"train": 12, "val": 3})
    path = own / "noisy_imagenette.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(spoil(lines)))

    with pytest.raises(DataError, match=f"noisy_imagenette.csv is not.*{BROKEN_LISTS[spoil]}"):
        for split in ("val", "train"):
            imagenette(split, size=SIDE, profile=profile)

    path.write_text("\n".join(lines))
    assert len(imagenette("val", size=SIDE)) == 10 * VAL, "put back, it is read"


def test_a_list_in_two_that_lost_rows_is_named_by_its_own_name(own):
    (own / "noisy_imagenette.csv").rename(own / "train_noisy_imagenette.csv")
    path = own / "train_noisy_imagenette.csv"
    header, *lines = path.read_text().splitlines()
    train, val = ([line for line in lines if line.startswith(part)] for part in ("train", "val"))

    path.write_text("\n".join([header, *train]))
    (own / "val_noisy_imagenette.csv").write_text("\n".join([header, *val[1:]]))
    assert len(imagenette("train", size=SIDE)) == 10 * (TRAIN - TUNE)
    with pytest.raises(DataError, match="/val_noisy_imagenette.csv is not.*59 rows"):
        imagenette("val", size=SIDE)


def encoded(text, how):
    if how == "blank lines":
        return ("\n" + text.replace("\n", "\n\n") + "  \n").encode()
    return text.replace("\n", "\r\n").encode("utf-8-sig" if how == "a BOM" else "utf-8")


@pytest.mark.parametrize("how", ["a BOM", "CRLF", "blank lines"])
def test_a_list_that_went_through_an_editor_is_read(own, how):
    path = own / "noisy_imagenette.csv"
    expected = imagenette("train", noise=50, size=18).labels
    path.write_bytes(encoded(path.read_text(), how))
    assert np.array_equal(imagenette("train", noise=50, size=SIDE).labels, expected)


def test_a_list_in_another_encoding_is_named(own):
    path = own / "noisy_imagenette.csv"
    path.write_text(path.read_text(), encoding="utf-16")
    with pytest.raises(DataError, match="noisy_imagenette.csv is not.*no UTF-8 text"):
        imagenette("train", size=SIDE)


def test_what_a_mac_leaves_beside_files_is_not_read(own):
    for path in [own / "noisy_imagenette.csv", *own.glob("*/*/*_1.JPEG")]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\xb0")
    assert len(imagenette("val", size=SIDE)) == 10 * VAL


def test_the_published_counts_of_wrong_labels_are_the_levels(monkeypatch):
    monkeypatch.undo()
    assert dict(zip(nette.NOISE, nette.WRONG["train"], strict=True)) == PUBLISHED_FLIPS
    for level, count in PUBLISHED_FLIPS.items():
        assert count / 9_469 == pytest.approx(level / 100, abs=5e-4)


@pytest.mark.parametrize("noise", [-5, 2, 10, 0.25, "25", 49])
def test_a_level_that_is_not_in_the_list_is_refused_with_those_that_are(noise):
    with pytest.raises(CourseError, match="noise is .*expected one of 0, 1, 5, 25, 50 percent"):
        imagenette("train", noise=noise, size=SIDE)


def test_the_published_counts_of_the_classes_add_up(monkeypatch):
    """To 9,469 and 3,925, as its makers say."""
    monkeypatch.undo()
    of_class = nette.IMAGENETTE.of_class
    sums = {part: sum(counts.values()) for part, counts in of_class.items()}
    assert sums == nette.IMAGENETTE.pictures == {"train": 9_469, "val": 3_925}


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
    monkeypatch.setattr(nette, "SMOKE_PER_CLASS", {"train": 12, "val": 3})
    for split, count in (("train", 12 - TUNE), ("tune", TUNE), ("val", 3)):
        found = imagenette(split, size=SIDE, profile="smoke")
        assert np.bincount(found.labels).tolist() == [count] * 10

    (home / "imagenette2-160").unlink()
    monkeypatch.setattr(download, "fetch", pytest.fail)
    found = imagenette("val", size=18, profile="smoke")
    assert not found.is_real and found.split == "val"


def test_without_data_and_network_toy_shapes_are_drawn_and_nobody_can_miss_it(home, capsys):
    (home / "imagenette2-160").unlink()
    for _ in range(2):
        found = imagenette("val", noise=5)
        assert not found.is_real and len(found.classes) == 10
    assert capsys.readouterr().out.count("TOY SHAPES") == 1


# --- toy shapes in its place ----------------------------------------------------------------------


@pytest.fixture
def nothing(home):
    """Neither data nor a network."""
    (home / "imagenette2-160").unlink()


@pytest.fixture(scope="module")
def toys():
    """The true labels of each split."""
    return {split: toy_shapes(split, size=16).labels for split in ("train", "tune", "val")}


@pytest.mark.parametrize("sizes", [(32, 160, 48), (160, 48, 32)], ids=str)
def test_toys_have_the_size_that_is_asked_for_whatever_was_before(nothing, sizes):
    """But not more than 64 px, for they are drawn while the reader waits."""
    for size in sizes:
        side = min(size, 64)
        assert imagenette("val", size=size, profile="smoke").images.shape[1:] == (side, side, 3)


@pytest.mark.parametrize("noise", nette.NOISE)
def test_toys_have_as_many_wrong_labels_as_are_asked_for(nothing, toys, noise):
    train = imagenette("train", noise=noise, size=16, profile="smoke")
    assert np.array_equal(train.clean_labels, toys["train"])

    wrong = train.labels != train.clean_labels
    assert wrong.sum() == len(train) * noise / 100
    assert 0 <= train.labels.min() and train.labels.max() < 10 and train.labels.dtype == np.int64

    again = imagenette("train", noise=noise, size=16, profile="smoke")
    assert np.array_equal(again.labels, train.labels), "drawn once and for all"


def test_noise_and_size_may_be_whole_numbers_of_any_kind(nothing):
    found = imagenette("train", noise=25.0, size=np.float64(16), profile="smoke")
    expected = imagenette("train", noise=25, size=16, profile="smoke")
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.images, expected.images)


def test_wrong_labels_of_toys_hit_all_classes_and_are_drawn_for_each_level(nothing):
    half, quarter = (
        imagenette("train", noise=noise, size=16, profile="smoke") for noise in (50, 25)
    )
    wrong = half.labels != half.clean_labels
    assert np.bincount(half.clean_labels[wrong], minlength=10).min() > 70  # 100 of 200
    assert np.bincount(half.labels[wrong], minlength=10).min() > 70
    assert len(set((half.labels - half.clean_labels)[wrong] % 10)) == 9, "any other class"

    both = wrong & (quarter.labels != quarter.clean_labels)
    assert 180 < both.sum() < 320, "a quarter of the half: drawn by themselves"


@pytest.mark.parametrize("split", ["tune", "val"])
def test_tune_and_val_are_clean_for_toys_too(nothing, toys, split):
    found = imagenette(split, noise=50, size=16, profile="smoke")
    assert np.array_equal(found.labels, toys[split])
    assert np.array_equal(found.clean_labels, toys[split])


def test_toys_of_one_size_hide_no_store_of_another(home):
    """What was decoded needs its files no more; what was not is toys."""
    imagenette("val", size=SIDE)
    (home / "imagenette2-160").unlink()

    assert not imagenette("val", size=18).is_real
    assert imagenette("val", size=SIDE).is_real


# --- archives and copies --------------------------------------------------------------------------


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
    names = [find(nette.IMAGENETTE.archives[side]).name for side in (160, 320)]
    assert names == ["imagenette2-160", "imagenette2-320"]


@pytest.fixture
def sized(home, monkeypatch):
    """``sized(folder, side)``: a copy of this size; here 24 px pass for 160, and 48 for 320."""
    sides = {160: SIDE, 320: 2 * SIDE, 512: download.AS_TAKEN}
    small = {side: replace(nette.IMAGENETTE.archives[side], side=sides[side]) for side in sides}
    monkeypatch.setattr(nette, "IMAGENETTE", replace(nette.IMAGENETTE, archives=small))
    (home / "imagenette2-160").unlink()

    def write_copy(folder, width, height):
        for part, count in (("train", TRAIN), ("val", VAL)):
            for wnid in WNIDS:
                (home / folder / part / wnid).mkdir(parents=True)
                for i in range(count):
                    path = home / folder / part / wnid / f"{wnid}_{i}.JPEG"
                    Image.new("RGB", (width, height)).save(path)
        return home / folder

    return write_copy


@pytest.mark.parametrize("folder", ["imagenette2", "imagenette-320", "my pictures"])
def test_a_copy_of_another_size_is_told_by_its_pictures_and_passed_over(sized, folder):
    sized(folder, 2 * SIDE, 3 * SIDE)
    assert locate(nette.IMAGENETTE.archives[160], download=False) is None
    assert locate(nette.IMAGENETTE.archives[320], download=False).name == folder

    mine = sized("the small one", SIDE + 7, SIDE)
    assert locate(nette.IMAGENETTE.archives[160], download=False) == mine


def test_a_copy_of_another_size_under_the_name_of_this_one_is_told_and_hides_none(sized):
    sized("imagenette2-160", 2 * SIDE, 3 * SIDE)
    with pytest.raises(DataError, match=f"shorter side has {2 * SIDE} pixels, expected {SIDE}"):
        locate(nette.IMAGENETTE.archives[160], download=False)

    mine = sized("the small one", SIDE, SIDE)
    assert locate(nette.IMAGENETTE.archives[160], download=False) == mine


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_a_copy_of_another_size_than_asked_for_is_told_in_a_sentence_once(sized, capsys, profile):
    folder = sized("imagenette2-320", 2 * SIDE, 3 * SIDE)
    for split in ("train", "val"):
        assert not imagenette(split, profile=profile).is_real

    sentence = (
        f"{folder} holds Imagenette at {2 * SIDE} px; size=160 is made from set.zip, at {SIDE} px: "
    )
    assert capsys.readouterr().out.count(sentence) == 1


def test_a_copy_at_full_size_is_told_by_its_pictures_which_differ(sized, capsys):
    folder = sized("imagenette2", 2 * SIDE, 3 * SIDE)
    for number, path in enumerate(folder.glob("train/*/*.JPEG")):
        Image.new("RGB", (30 + number, 40 + number)).save(path)

    assert not imagenette("val", size=300, profile="smoke").is_real
    said = capsys.readouterr().out
    assert f"{folder} holds Imagenette at full size; size=300 is made from set.zip" in said


def test_larger_pictures_are_made_from_the_full_archive(home):
    """60 pixels from pictures of 30 to 129: cut where there are more, enlarged where not."""
    (home / "imagenette2-160").unlink()
    full = write(home / "the full ones")
    for number, path in enumerate(sorted((home / "the full ones").glob("*/*/*.JPEG"))):
        with Image.open(path) as image:
            image.resize((40 + number, 30 + number)).save(path, quality=95)
    assert full

    source = nette.IMAGENETTE.archives[512]
    assert source.archive == "set.zip" and find(source).name == "the full ones"

    store = imagenette("train", size=330)
    assert store.is_real and store.images.shape[1:] == (330, 330, 3)


def test_a_copy_made_to_one_size_is_not_taken_for_the_full_archive(sized, capsys):
    folder = sized("my pictures", 2 * SIDE, 3 * SIDE)
    assert locate(nette.IMAGENETTE.archives[512], download=False) is None

    assert not imagenette("train", size=400, profile="cpu").is_real
    said = capsys.readouterr().out
    assert f"{folder} holds Imagenette at {2 * SIDE} px; size=400 is made from set.zip" in said
    assert "at full size: put that beside it" in said


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"split": "test"}, "unknown split 'test'.*train, tune, val"),
        ({"noise": 10}, "noise is 10.*0, 1, 5, 25, 50"),
        ({"size": 600}, "size is 600.*16 to 512"),
        ({"size": 24.5}, "size is 24.5: expected whole pixels"),
    ],
)
def test_what_there_is_not_is_named(wrong, words):
    with pytest.raises(CourseError, match=words):
        imagenette(**{"split": "train", **wrong})


here = find(nette.IMAGENETTE.archives[160])  # before it is patched


def levels_of_tune(listing):
    """All five columns of the pictures that are held out of train."""
    return listing.labels[-10 * nette.TUNE_PER_CLASS :]


@pytest.mark.skipif(here is None, reason="no Imagenette in COURSE_DATA or data/")
def test_the_published_file_has_as_many_wrong_labels_as_were_counted(monkeypatch):
    monkeypatch.undo()
    listing = nette._listing(nette.IMAGENETTE, here, "train", smoke=False)
    clean = listing.labels[:, 0]
    of_folder = [WNIDS.index(Path(path).parent.name) for path in listing.paths]
    assert len(clean) == 9_469 and clean.tolist() == of_folder

    wrong = (listing.labels != clean[:, None]).sum(0)
    assert dict(zip(nette.NOISE, wrong.tolist(), strict=True)) == PUBLISHED_FLIPS
    tune = clean[-10 * nette.TUNE_PER_CLASS :]
    assert np.bincount(tune).tolist() == [nette.TUNE_PER_CLASS] * 10

    in_train = wrong - (levels_of_tune(listing) != tune[:, None]).sum(0)
    assert dict(zip(nette.NOISE, in_train.tolist(), strict=True)) == IN_TRAIN

    val = nette._listing(nette.IMAGENETTE, here, "val", smoke=False).labels
    assert len(val) == 3_925 and (val == val[:, :1]).all(), "val is always clean"


def test_training_at_another_size_than_the_store_is_antialiased():
    val = imagenette("val", size=SIDE)
    loader = BatchLoader(val, len(val), augment=False)
    loader.picture_size = 16
    ((x, labels),) = loader

    planes = torch.from_numpy(np.array(val.images)).permute(0, 3, 1, 2).double() / 255
    small = torch.nn.functional.interpolate(planes, size=16, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (val.mean, val.std))
    expected = (small - mean) / std

    torch.testing.assert_close(x.double(), expected, rtol=0, atol=1e-5)
    assert Counter(labels.tolist()) == dict.fromkeys(range(10), VAL)
