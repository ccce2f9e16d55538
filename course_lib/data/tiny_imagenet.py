"""TinyImageNet: 200 classes of ImageNet at 64×64; 100,000 labelled train and 10,000 val pictures.

Source: Stanford CS231N, 2015. ``val/`` is flat, its labels stand in ``val_annotations.txt``; read
as a folder tree it yields a single class. ``wnids.txt`` is not sorted; class indices here are the
sorted wnids, as ImageFolder and the parquet mirrors number them.
"""

import glob
import os
from pathlib import Path

import numpy as np

from course_lib import addresses
from course_lib.checks import whole
from course_lib.data.decode import Listing
from course_lib.data.download import Source
from course_lib.data.lists import check_rows, fault, read_lines, read_table
from course_lib.data.splits import decode_part, hold_out, load_or_draw, rows_of
from course_lib.data.store import ImageStore

CLASSES, TRAIN_PER_CLASS, VAL_PER_CLASS = 200, 500, 50
SIDE = 64  # pixels

TINY_IMAGENET = Source(
    name="TinyImageNet",
    folder="tiny-imagenet-200",
    urls=addresses.TINY_IMAGENET,
    sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    bytes=248_100_043,
    counts={  # at any depth, for val is often sorted into folders by class
        "train/**/*.JPEG": CLASSES * TRAIN_PER_CLASS,
        "val/**/*.JPEG": CLASSES * VAL_PER_CLASS,
        "train/*/*_boxes.txt": CLASSES,
    },
    markers=("wnids.txt", "words.txt", "train/", "val/val_annotations.txt"),
)
MEAN, STD = (0.4802, 0.4481, 0.3975), (0.2764, 0.2689, 0.2816)  # over all train pixels
TUNE_PER_CLASS = 25  # of 500: 5,000 pictures, one standard error is 0.7 points of accuracy
SMOKE_CLASSES, SMOKE_PER_CLASS = 10, 225  # as many as the toy shapes have


def tiny_imagenet(
    split: str, *, held_out: int = TUNE_PER_CLASS, profile: str | None = None
) -> ImageStore:
    """One split of TinyImageNet, decoded.

    split: ``"train"`` (95,000), ``"tune"`` (5,000 held out of train, for every choice) or ``"val"``
    (10,000 official, looked at once, at the end). held_out: pictures of each class in tune, at most
    25; a last training, with nothing left to choose, can do with fewer and learn from the rest.

    The smoke profile takes 225 pictures of each of ten classes from what lies on disk and never
    downloads. Without data and network it draws toy shapes of 64 px and says so. Raises CourseError
    for an unknown split or another ``held_out``, DataError for a broken data set or a full disk.
    """
    most = TUNE_PER_CLASS
    held_out = whole("held_out", held_out, 1, most, f"1 to {most} pictures of each class")

    def load(smoke: bool) -> ImageStore:
        size = (SIDE, SIDE)
        pictures = _pictures_of(smoke)
        found = decode_part(TINY_IMAGENET, "tiny_imagenet", split, smoke, _listing, pictures, size)
        rows = rows_of(split, len(found.classes) * held_out)

        return ImageStore(
            TINY_IMAGENET.name,
            split,
            found.images[rows],
            found.labels[rows],
            found.classes,
            MEAN,
            STD,
            is_real=True,
            boxes=found.boxes[rows],
            prepare_seconds=found.seconds,
        )

    return load_or_draw(TINY_IMAGENET, split, profile, load, size=SIDE)


def tiny_imagenet_part(split: str, *, classes: int = 25, profile: str | None = None) -> ImageStore:
    """As many classes of TinyImageNet, evenly spread over its list: for trainings of minutes.

    Sorted by wnid the first ones would all be animals. The pictures are copied into memory
    (25 classes: 146 MB). Fewer classes where the store has fewer, as in the profile smoke and of
    toy shapes. Raises CourseError for an unknown split or number of classes, and as
    ``tiny_imagenet`` does.
    """
    classes = whole("classes", classes, 1, CLASSES, f"1 to {CLASSES}")

    store = tiny_imagenet(split, profile=profile)
    there = len(store.classes)
    if classes >= there:
        return store

    spread = [number * there // classes for number in range(classes)]
    return store.of_classes(spread)


def _pictures_of(smoke: bool) -> dict[str, int]:
    """How many pictures a store of each part holds."""
    if smoke:
        train = min(SMOKE_PER_CLASS, TRAIN_PER_CLASS)
        return {"train": SMOKE_CLASSES * train, "val": SMOKE_CLASSES * VAL_PER_CLASS}
    return {"train": CLASSES * TRAIN_PER_CLASS, "val": CLASSES * VAL_PER_CLASS}


def _listing(root: Path, part: str, smoke: bool) -> Listing:
    wnids = _read_wnids(root)
    if smoke:
        wnids = wnids[:: len(wnids) // SMOKE_CLASSES]  # evenly spread over the list

    if part == "train":
        rows = _train_rows(root, wnids)
        labels = np.array([wnid for _, wnid, _ in rows])
        train, tune = hold_out(labels, TUNE_PER_CLASS, SMOKE_PER_CLASS if smoke else None)
        rows = [rows[i] for i in np.concatenate([train, tune])]
    else:
        rows = [row for row in _val_rows(root) if row[1] in wnids]  # smoke knows ten of them

    paths, labels, boxes = zip(*rows, strict=True)
    labels = np.searchsorted(wnids, labels).astype(np.int64)  # the wnids are sorted
    return Listing(list(paths), labels, _names(root, wnids), np.array(boxes, np.int16))


# --- the published lists --------------------------------------------------------------------------


def _read_wnids(root: Path) -> list[str]:
    """The classes, sorted."""
    path = root / "wnids.txt"
    wnids = [line.strip() for line in read_lines(path)]

    there = len(set(wnids))
    if not there == len(wnids) == CLASSES:
        raise fault(path, f"{len(wnids)} rows of {there} classes, expected {CLASSES} of {CLASSES}")
    return sorted(wnids)


def _train_rows(root: Path, wnids: list[str]) -> list[tuple]:
    """(path, wnid, box) of each train picture, class by class."""
    rows = []
    for wnid in wnids:
        folder = root / "train" / wnid
        path_of = _pictures_in(folder)

        file = folder / f"{wnid}_boxes.txt"
        boxes = sorted(read_table(file, columns=5))
        names = [name for name, *_ in boxes]
        check_rows(file, names, [wnid] * len(boxes), {wnid: TRAIN_PER_CLASS})

        for name, *box in boxes:
            rows.append((_path(file, name, path_of), wnid, _box(file, name, box)))
    return rows


def _val_rows(root: Path) -> list[tuple]:
    """(path, wnid, box) of each val picture, in the order of the list."""
    path_of = _pictures_in(root / "val")

    file = root / "val" / "val_annotations.txt"
    table = read_table(file, columns=6)

    names = [name for name, *_ in table]
    wnids = [wnid for _, wnid, *_ in table]
    check_rows(file, names, wnids, dict.fromkeys(_read_wnids(root), VAL_PER_CLASS))

    rows = []
    for name, wnid, *box in table:
        rows.append((_path(file, name, path_of), wnid, _box(file, name, box)))
    return rows


def _pictures_in(folder: Path) -> dict[str, str]:
    """{name: path}, at any depth: a val that was sorted into folders by class is read, too."""
    found = glob.iglob("**/*.JPEG", root_dir=folder, recursive=True)
    return {os.path.basename(path): str(folder / path) for path in sorted(found)}


def _path(file: Path, name: str, path_of: dict[str, str]) -> str:
    if name not in path_of:
        raise fault(file, f"its picture {name} is not there")
    return path_of[name]


def _box(file: Path, name: str, edges: list[str]) -> list[int]:
    """x0, y0, x1, y1 in pixels."""
    if not all(edge.isdecimal() and int(edge) < SIDE for edge in edges):
        raise fault(file, f"the box of {name} is {' '.join(edges)}, expected 0 to {SIDE - 1}")
    return [int(edge) for edge in edges]


def _names(root: Path, wnids: list[str]) -> list[str]:
    """Readable names: the first synonym of each wnid in ``words.txt``."""
    path = root / "words.txt"

    words = {}
    for line in read_lines(path):
        wnid, *names = line.split(maxsplit=1)
        words[wnid] = "".join(names).split(",")[0].strip()

    for wnid in wnids:
        if not words.get(wnid):
            raise fault(path, f"no name for {wnid}")
    return [words[wnid] for wnid in wnids]
