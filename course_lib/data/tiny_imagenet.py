"""TinyImageNet: 200 classes of ImageNet at 64×64; 100,000 labelled train and 10,000 val pictures.

Source: Stanford CS231N, 2015. ``val/`` is flat, its labels stand in ``val_annotations.txt``; read
as a folder tree it yields a single class. ``wnids.txt`` is not sorted; class indices here are the
sorted wnids, as ImageFolder and the parquet mirrors number them.
"""

from pathlib import Path

import numpy as np

from course_lib.data.decode import Listing
from course_lib.data.download import Source
from course_lib.data.splits import decode_part, hold_out, load_or_draw, rows_of
from course_lib.data.store import ImageStore
from course_lib.files import CourseError

TINY_IMAGENET = Source(
    name="TinyImageNet",
    folder="tiny-imagenet-200",
    urls=(
        "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "https://image-net.org/data/tiny-imagenet-200.zip",
        "https://huggingface.co/datasets/cnak47/cv-datasets/resolve/main/tiny-imagenet-200.zip",
    ),
    sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    bytes=248_100_043,
    counts={
        "train/*/images/*.JPEG": 100_000,
        "val/images/*.JPEG": 10_000,
        "train/*/*_boxes.txt": 200,
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
    if not 1 <= held_out <= TUNE_PER_CLASS:
        raise CourseError(
            f"held_out is {held_out}: expected 1 to {TUNE_PER_CLASS} pictures of each class"
        )

    def load(smoke: bool) -> ImageStore:
        found = decode_part(TINY_IMAGENET, "tiny_imagenet", split, smoke, _listing, (64, 64))
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

    return load_or_draw(TINY_IMAGENET, split, profile, load, size=64)


def _listing(root: Path, part: str, smoke: bool) -> Listing:
    wnids = sorted((root / "wnids.txt").read_text().split())
    if smoke:
        wnids = wnids[:: len(wnids) // SMOKE_CLASSES]

    if part == "train":
        rows = _train_rows(root, wnids)
        labels = np.array([label for _, label, _ in rows])
        train, tune = hold_out(labels, TUNE_PER_CLASS, SMOKE_PER_CLASS if smoke else None)
        rows = [rows[i] for i in np.concatenate([train, tune])]
    else:
        rows = _val_rows(root, wnids)

    paths, labels, boxes = zip(*rows, strict=True)
    return Listing(
        list(paths), np.array(labels, np.int64), _names(root, wnids), np.array(boxes, np.int16)
    )


def _train_rows(root: Path, wnids: list[str]) -> list[tuple]:
    """(path, label, box) of each train picture, class by class."""
    rows = []
    for label, wnid in enumerate(wnids):
        folder = root / "train" / wnid
        lines = (folder / f"{wnid}_boxes.txt").read_text().splitlines()

        for line in sorted(lines):
            name, *box = line.split("\t")
            rows.append((str(folder / "images" / name), label, [int(edge) for edge in box]))
    return rows


def _val_rows(root: Path, wnids: list[str]) -> list[tuple]:
    """(path, label, box) of each val picture, in the order of its file."""
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    lines = (root / "val" / "val_annotations.txt").read_text().splitlines()

    rows = []
    for line in lines:
        name, wnid, *box = line.split("\t")
        if wnid in label_of:  # the smoke profile knows ten of them
            path = str(root / "val" / "images" / name)
            rows.append((path, label_of[wnid], [int(edge) for edge in box]))
    return rows


def _names(root: Path, wnids: list[str]) -> list[str]:
    """Readable names: the first synonym of each wnid in ``words.txt``."""
    words = {}
    for line in (root / "words.txt").read_text().splitlines():
        wnid, names = line.split("\t")
        words[wnid] = names.split(",")[0]

    return [words[wnid] for wnid in wnids]
