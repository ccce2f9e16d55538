"""Imagenette: ten easy classes of ImageNet, and labels with known mistakes.

9,469 train and 3,925 val pictures. Source: J. Howard, fast.ai, 2019 (version 2). Of its val
pictures, 3,791 are from ImageNet's *training* set: train from scratch, or say what the weights had
seen. Its file of labels is sorted by class: shuffle.
"""

import csv
import glob
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from course_lib.checks import expect
from course_lib.data.decode import Listing
from course_lib.data.download import Source
from course_lib.data.lists import check_rows, fault, read_lines
from course_lib.data.splits import decode_part, hold_out, load_or_draw, rows_of
from course_lib.data.store import ImageStore

IMAGENETTE = {
    side: Source(
        name=f"Imagenette ({side} px)",
        folder=f"imagenette2-{side}",
        urls=(f"https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-{side}.tgz",),
        sha256=sha256,
        bytes=size,
        counts={"train/*/*.JPEG": 9_469, "val/*/*.JPEG": 3_925},
        markers=("train/n01440764/", "val/n01440764/"),
        side=side,
    )
    for side, sha256, size in (
        (160, "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5", 99_003_388),
        (320, "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c", 341_663_724),
    )
}

CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
PICTURES = {  # of each class
    "train": dict(zip(CLASSES, (963, 955, 993, 858, 941, 956, 961, 931, 951, 960), strict=True)),
    "val": dict(zip(CLASSES, (387, 395, 357, 386, 409, 394, 389, 419, 399, 390), strict=True)),
}
NOISE = (0, 1, 5, 25, 50)  # percent of the train labels that are wrong, drawn anew for each level
WRONG = {  # labels that are wrong at each of these levels, counted in the published list
    "train": (0, 95, 474, 2_368, 4_735),
    "val": (0, 0, 0, 0, 0),
}
MEAN, STD = (0.4624, 0.4579, 0.4303), (0.2799, 0.2772, 0.2990)  # over all train pixels, at 160 px
TUNE_PER_CLASS = 50  # 500 pictures of 9,469: one standard error is 1.3 points at 90 %
SMOKE_PER_CLASS = {"train": 200, "val": 40}  # the 50 of tune included
SMALLEST, LARGEST_TOYS = 16, 64  # pixels a side


def imagenette(
    split: str, noise: int = 0, size: int = 160, *, profile: str | None = None
) -> ImageStore:
    """One split of Imagenette, decoded once to the middle ``size`` × ``size`` pixels of a picture.

    split: ``"train"`` (8,969), ``"tune"`` (500 held out of train) or ``"val"`` (3,925 official).
    noise: percent of wrong labels in train: 0, 1, 5, 25 or 50; ``clean_labels`` are the true ones,
    in every split. Tune and val are always clean: the question is what a network learns of the
    truth in spite of the labels, and a choice made on clean labels is the one that val will judge.
    size: up to 160 from the archive of 160 px, up to 320 from that of 320.

    Smoke and toy shapes as in ``tiny_imagenet``, wrong labels included; toys have ``size`` pixels
    a side, at most 64, for they are drawn while you wait. Raises CourseError for an unknown split,
    noise or size, DataError for a broken data set.
    """
    _check(noise, size)
    source = IMAGENETTE[min(side for side in IMAGENETTE if side >= size)]

    def load(smoke: bool) -> ImageStore:
        name, shape = f"imagenette_{size}", (size, size)
        pictures = _pictures_of(smoke)
        found = decode_part(source, name, split, smoke, _listing, pictures, shape, middle_square)

        rows = rows_of(split, len(found.classes) * TUNE_PER_CLASS)
        levels = found.labels[rows]  # (N, 5), a column for each level of noise
        given = levels[:, NOISE.index(noise if split == "train" else 0)]

        return ImageStore(
            "Imagenette",
            split,
            found.images[rows],
            given.copy(),
            found.classes,
            MEAN,
            STD,
            is_real=True,
            clean_labels=levels[:, 0].copy(),
            prepare_seconds=found.seconds,
        )

    store = load_or_draw(source, split, profile, load, size=min(size, LARGEST_TOYS))
    return store if store.is_real else _mislabelled(store, noise)


def _check(noise: int, size: int) -> None:
    known = ", ".join(map(str, NOISE))
    expect("noise", noise, noise in NOISE, f"one of {known} percent")

    largest = max(IMAGENETTE)
    expect("size", size, SMALLEST <= size <= largest, f"{SMALLEST} to {largest} pixels")


def _pictures_of(smoke: bool) -> dict[str, int]:
    """How many pictures a store of each part holds."""
    pictures = {}
    for part, of_class in PICTURES.items():
        limit = SMOKE_PER_CLASS[part] if smoke else max(of_class.values())
        pictures[part] = sum(min(count, limit) for count in of_class.values())
    return pictures


def _mislabelled(toys: ImageStore, noise: int) -> ImageStore:
    """Toys with ``noise`` percent of wrong labels in train, drawn anew for each level."""
    labels = toys.labels.copy()

    if toys.split == "train":
        rng = np.random.default_rng(noise)
        chosen = rng.permutation(len(toys))[: round(len(toys) * noise / 100)]
        another = rng.integers(1, len(toys.classes), len(chosen))  # classes further on: never 0
        labels[chosen] = (labels[chosen] + another) % len(toys.classes)

    return replace(toys, labels=labels, clean_labels=toys.labels)


def middle_square(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """The shorter side scaled to the target's, then the middle of the longer: nothing is squeezed.

    A square of one size lets the store be one array; at 160 px most pictures are only cut.
    """
    side, shortest = shape[0], min(image.size)

    if shortest != side:
        scaled = [edge * side // shortest for edge in image.size]
        image = image.resize(scaled, Image.Resampling.BICUBIC)

    left, top = (round((edge - side) / 2) for edge in image.size)
    return image.crop((left, top, left + side, top + side))


def _listing(root: Path, part: str, smoke: bool) -> Listing:
    """Labels int64 (N, 5), a column for each level of noise."""
    numbers = {wnid: number for number, wnid in enumerate(CLASSES)}
    paths, labels = [], []

    for path, *wnids in sorted(_rows(root, part)):  # whatever the order in the file
        paths.append(str(root / path))
        labels.append([numbers[wnid] for wnid in wnids])

    paths, labels = np.array(paths), np.array(labels, np.int64)
    tune = TUNE_PER_CLASS if part == "train" else 0
    limit = SMOKE_PER_CLASS[part] if smoke else None
    rows = np.concatenate(hold_out(labels[:, 0], tune, limit))

    return Listing(paths[rows].tolist(), labels[rows], list(CLASSES.values()))


# --- the published list ---------------------------------------------------------------------------

COLUMNS = ["path", *(f"noisy_labels_{level}" for level in NOISE)]


def _rows(root: Path, part: str) -> list[list[str]]:
    """The path and the five wnids of each picture of ``part``."""
    lists = _label_files(root)
    rows = [row for file in lists for row in _read(file) if row[0].startswith(f"{part}/")]

    here = next((file for file in lists if file.name.startswith(part)), lists[0])
    check_rows(here, [row[0] for row in rows], [row[1] for row in rows], PICTURES[part])
    _check_levels(here, rows, part)
    return rows


def _check_levels(file: Path, rows: list[list[str]], part: str) -> None:
    """Raises DataError where a column holds another level of noise than its name says."""
    for column, expected in enumerate(WRONG[part], start=1):
        found = sum(row[column] != row[1] for row in rows)
        if found != expected:
            what = f"{found:,} labels of {part} in {COLUMNS[column]} are wrong"
            raise fault(file, f"{what}, expected {expected:,}")


def _label_files(root: Path) -> list[Path]:
    """One, or one for train and one for val."""
    names = sorted(glob.glob("*noisy_imagenette.csv", root_dir=root))  # not ._noisy…, of a Mac
    if not names:
        raise fault(root / "noisy_imagenette.csv", "missing, though the labels stand in it")
    return [root / name for name in names]


def _read(file: Path) -> list[list[str]]:
    """The columns that we need, of each row."""
    table = csv.DictReader(read_lines(file))

    for column in COLUMNS:
        if column not in (table.fieldnames or []):
            raise fault(file, f"no column {column}")

    rows = [[row[column] for column in COLUMNS] for row in table]
    for path, *wnids in rows:
        if not CLASSES.keys() >= set(wnids):
            raise fault(file, f"the labels of {path} are {wnids}, expected ten wnids of ImageNet")
    return rows
