"""Imagenette: ten easy classes of ImageNet, and labels with known mistakes.

9,469 train and 3,925 val pictures. Source: J. Howard, fast.ai, 2019 (version 2). Of its val
pictures, 3,791 are from ImageNet's *training* set: train from scratch, or say what the weights had
seen. Its file of labels is sorted by class: shuffle.

``Subset`` and ``load`` are those of ``imagewoof.py`` too, which comes in the same form.
"""

import csv
import glob
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from course_lib import addresses
from course_lib.checks import expect, whole
from course_lib.data.decode import Listing
from course_lib.data.download import AS_TAKEN, Source, find, shorter_sides
from course_lib.data.lists import check_rows, fault, read_lines
from course_lib.data.splits import NoData, decode_part, hold_out, load_or_draw, rows_of
from course_lib.data.store import ImageStore

NOISE = (0, 1, 5, 25, 50)  # percent of the train labels that are wrong, drawn anew for each level
TUNE_PER_CLASS = 50  # 500 pictures of 9,469: one standard error is 1.3 points at 90 %
SMOKE_PER_CLASS = {"train": 200, "val": 40}  # the 50 of tune included
SMALLEST, LARGEST_TOYS = 16, 64  # pixels a side


@dataclass(frozen=True)
class Subset:
    """Classes of ImageNet as fast.ai published them: archives of several sizes, a list of labels.

    A dict by part has the keys ``"train"`` and ``"val"``.
    """

    name: str
    classes: dict[str, str]  # wnid: readable name, in the order of the labels
    pictures: dict[str, int]  # by part
    of_class: dict[str, dict[str, int]]  # by part and wnid; empty where it was not counted
    wrong: dict[str, tuple[int, ...]]  # by part: labels that are wrong at each level of NOISE
    archives: dict[int, Source]  # by the largest size, in pixels, that is made from each
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def list_name(self) -> str:
        return f"noisy_{self.name.lower()}.csv"

    def of_part(self, smoke: bool) -> dict[str, int]:
        """How many pictures a store of each part holds."""
        if not smoke:
            return self.pictures

        limits = {part: len(self.classes) * limit for part, limit in SMOKE_PER_CLASS.items()}
        return {part: min(limits[part], count) for part, count in self.pictures.items()}


def archive(
    name: str, side: int, first: str, pictures: dict[str, int], sha256: str, size: int
) -> Source:
    """A subset's archive whose pictures have ``side`` pixels on the shorter side, or AS_TAKEN.

    first: the first of its wnids, whose folders tell the layout. size: of the archive, in bytes.
    """
    folder = f"{name.lower()}2" if side == AS_TAKEN else f"{name.lower()}2-{side}"
    return Source(
        name=f"{name} ({_at(side)})",
        folder=folder,
        urls=tuple(url.format(folder=folder) for url in addresses.IMAGENETTE),
        sha256=sha256,
        bytes=size,
        counts={f"{part}/*/*.JPEG": count for part, count in pictures.items()},
        markers=tuple(f"{part}/{first}/" for part in pictures),
        side=side,
    )


def _at(side: int) -> str:
    return "full size" if side == AS_TAKEN else f"{side} px"


# --- as published ---------------------------------------------------------------------------------

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
WRONG = {  # labels that are wrong at each level of noise, counted in the published list
    "train": (0, 95, 474, 2_368, 4_735),
    "val": (0, 0, 0, 0, 0),
}
TOTALS = {"train": 9_469, "val": 3_925}
LARGEST = 512  # pixels a side: few pictures of the full archive have more
ARCHIVES = {
    largest: archive("Imagenette", side, "n01440764", TOTALS, sha256, size)
    for largest, side, sha256, size in (
        (160, 160, "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5", 99_003_388),
        (320, 320, "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c", 341_663_724),
        (
            LARGEST,
            AS_TAKEN,
            "6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd",
            1_557_161_267,
        ),
    )
}
IMAGENETTE = Subset(
    "Imagenette",
    classes=CLASSES,
    pictures=TOTALS,
    of_class=PICTURES,
    wrong=WRONG,
    archives=ARCHIVES,
    mean=(0.4624, 0.4579, 0.4303),  # over all train pixels, at 160 px
    std=(0.2799, 0.2772, 0.2990),
)

# --- the main path --------------------------------------------------------------------------------


def imagenette(
    split: str, noise: int = 0, size: int = 160, *, profile: str | None = None
) -> ImageStore:
    """One split of Imagenette, decoded once to the middle ``size`` × ``size`` pixels of a picture.

    split: ``"train"`` (8,969), ``"tune"`` (500 held out of train) or ``"val"`` (3,925 official).
    noise: percent of wrong labels in train: 0, 1, 5, 25 or 50; ``clean_labels`` are the true ones,
    in every split. Tune and val are always clean: the question is what a network learns of the
    truth in spite of the labels, and a choice made on clean labels is the one that val will judge.
    size: up to 160 from the archive of 160 px, up to 320 from that of 320, up to 512 from the full
    one, whose pictures are enlarged where they are smaller.

    Smoke and toy shapes as in ``tiny_imagenet``, wrong labels included; toys have ``size`` pixels
    a side, at most 64, for they are drawn while you wait. Raises CourseError for an unknown split,
    noise or size, DataError for a broken data set.
    """
    return load(IMAGENETTE, split, noise, size, profile)


def load(subset: Subset, split: str, noise: int, size: int, profile: str | None) -> ImageStore:
    """A split of a subset, or toys in its place; everything as ``imagenette`` says."""
    noise, size = _checked(subset, noise, size)
    source = subset.archives[min(side for side in subset.archives if side >= size)]

    def read(smoke: bool) -> ImageStore:
        name, shape = f"{subset.name.lower()}_{size}", (size, size)
        listing = partial(_listing, subset)  # (root, part, smoke) → Listing
        pictures = subset.of_part(smoke)
        try:
            found = decode_part(source, name, split, smoke, listing, pictures, shape, middle_square)
        except NoData:
            _tell_of_another_size(subset, source, size)
            raise

        rows = rows_of(split, len(found.classes) * TUNE_PER_CLASS)
        levels = found.labels[rows]  # (N, 5), a column for each level of noise
        given = levels[:, NOISE.index(noise if split == "train" else 0)]

        return ImageStore(
            subset.name,
            split,
            found.images[rows],
            given.copy(),
            found.classes,
            subset.mean,
            subset.std,
            is_real=True,
            clean_labels=levels[:, 0].copy(),
            prepare_seconds=found.seconds,
        )

    store = load_or_draw(source, split, profile, read, size=min(size, LARGEST_TOYS))
    return store if store.is_real else _mislabelled(store, noise)


def _checked(subset: Subset, noise: int, size: int) -> tuple[int, int]:
    """Both as Python's numbers. Raises CourseError for what there is not."""
    known = ", ".join(map(str, NOISE))
    expect("noise", noise, noise in NOISE, f"one of {known} percent")

    largest = max(subset.archives)
    pixels = f"whole pixels, {SMALLEST} to {largest}"
    return int(noise), whole("size", size, SMALLEST, largest, pixels)


def _tell_of_another_size(subset: Subset, source: Source, size: int) -> None:
    """A copy at another size is not taken for this one: scaled, its pictures would be others."""
    of_any_size = replace(source, folder="", side=None)
    folder = find(of_any_size)
    if folder is None:
        return

    sides = shorter_sides(of_any_size, folder)
    there = _at(sides.pop() if len(sides) == 1 else AS_TAKEN)
    _once(
        f"{folder} holds {subset.name} at {there}; size={size} is made from {source.archive}, at "
        f"{_at(source.side)}: put that beside it, or run with a network."
    )


@cache
def _once(sentence: str) -> None:
    """Said once in a process."""
    print(sentence)


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


def _listing(subset: Subset, root: Path, part: str, smoke: bool) -> Listing:
    """Labels int64 (N, 5), a column for each level of noise."""
    numbers = {wnid: number for number, wnid in enumerate(subset.classes)}
    paths, labels = [], []

    for path, *wnids in sorted(_rows(subset, root, part)):  # whatever the order in the file
        paths.append(str(root / path))
        labels.append([numbers[wnid] for wnid in wnids])

    paths, labels = np.array(paths), np.array(labels, np.int64)
    tune = TUNE_PER_CLASS if part == "train" else 0
    limit = SMOKE_PER_CLASS[part] if smoke else None
    rows = np.concatenate(hold_out(labels[:, 0], tune, limit))

    return Listing(paths[rows].tolist(), labels[rows], list(subset.classes.values()))


# --- the published list ---------------------------------------------------------------------------

COLUMNS = ["path", *(f"noisy_labels_{level}" for level in NOISE)]


def _rows(subset: Subset, root: Path, part: str) -> list[list[str]]:
    """The path and the five wnids of each picture of ``part``."""
    lists = _label_files(subset, root)
    rows = [row for file in lists for row in _read(subset, file) if row[0].startswith(f"{part}/")]

    # faults are told of the part's own list, or of the one that holds both parts
    own_list = next((file for file in lists if file.name.startswith(part)), lists[0])
    of_class = subset.of_class.get(part) or _files_of_class(subset, root, part)
    check_rows(own_list, [row[0] for row in rows], [row[1] for row in rows], of_class)
    _check_levels(subset, own_list, rows, part)
    return rows


def _files_of_class(subset: Subset, root: Path, part: str) -> dict[str, int]:
    """As many as lie in the folder of each class; all together were counted before."""
    files = Counter(
        Path(path).parent.name for path in glob.iglob(f"{part}/*/*.JPEG", root_dir=root)
    )
    return {wnid: files[wnid] for wnid in subset.classes}


def _check_levels(subset: Subset, file: Path, rows: list[list[str]], part: str) -> None:
    """Raises DataError where a column holds another level of noise than its name says."""
    for column, expected in enumerate(subset.wrong[part], start=1):
        found = sum(row[column] != row[1] for row in rows)
        if found != expected:
            what = f"{found:,} labels of {part} in {COLUMNS[column]} are wrong"
            raise fault(file, f"{what}, expected {expected:,}")


def _label_files(subset: Subset, root: Path) -> list[Path]:
    """One, or one for train and one for val."""
    names = sorted(glob.glob(f"*{subset.list_name}", root_dir=root))  # not ._noisy…, of a Mac
    if not names:
        raise fault(root / subset.list_name, "missing, though the labels stand in it")
    return [root / name for name in names]


def _read(subset: Subset, file: Path) -> list[list[str]]:
    """The columns that we need, of each row."""
    table = csv.DictReader(read_lines(file))

    for column in COLUMNS:
        if column not in (table.fieldnames or []):
            raise fault(file, f"no column {column}")

    rows = [[row[column] for column in COLUMNS] for row in table]
    for path, *wnids in rows:
        if not subset.classes.keys() >= set(wnids):
            there = f"the labels of {path} are {wnids}"
            raise fault(file, f"{there}, expected {len(NOISE)} wnids of {subset.name}'s classes")
    return rows
