"""TinyImageNet: 200 classes of ImageNet at 64×64; 100,000 labelled train and 10,000 val pictures.

Source: Stanford CS231N, 2015. ``val/`` is flat, its labels stand in ``val_annotations.txt``; read as a
folder tree it yields a single class. ``wnids.txt`` is not sorted; class indices here are the sorted wnids,
as ImageFolder and the parquet mirrors number them.
"""

from pathlib import Path

import numpy as np

from course_lib.data.sources import TINY_IMAGENET, DataError, data_home, find, locate
from course_lib.data.store import Decoded, ImageStore, Listing, decode_once
from course_lib.data.toy_shapes import toy_shapes
from course_lib.runtime import CourseError, current_profile

SPLITS = ("train", "tune", "val")
MEAN, STD = (0.4802, 0.4481, 0.3975), (0.2764, 0.2689, 0.2816)  # over all train pixels
TUNE_PER_CLASS = 25  # of 500: 5,000 pictures, one standard error is 0.7 points of accuracy
SMOKE_CLASSES, SMOKE_PER_CLASS = 10, 225  # as many as the toy shapes have


def tiny_imagenet(split: str, *, profile: str | None = None) -> ImageStore:
    """One split of TinyImageNet, decoded.

    split: ``"train"`` (95,000), ``"tune"`` (5,000 held out of train, for every choice) or ``"val"``
    (10,000 official, looked at once, at the end). The smoke profile takes 225 pictures of each of ten
    classes from what lies on disk and never downloads. Without data and network it draws toy shapes and says
    so. Raises CourseError for an unknown split, DataError for a broken data set or a full disk.
    """
    if split not in SPLITS:
        raise CourseError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    smoke = (profile or current_profile()) == "smoke"
    part = "val" if split == "val" else "train"
    folder = data_home() / "stores" / ("tiny_imagenet_smoke" if smoke else "tiny_imagenet") / part
    if folder.parent in _stand_ins and find(TINY_IMAGENET) is None:
        return _stand_in(split, folder.parent)
    try:
        decoded = decode_once(folder, lambda: _listing(part, smoke), (64, 64))
    except _NoData:
        other = folder.with_name("train" if part == "val" else "val")
        if other.exists():  # real train and toy val would be worse than no val
            raise DataError(f"the {part} pictures were never decoded, and TinyImageNet is gone, though {other} holds "
                            f"the others: bring the data set back, or delete {folder.parent}") from None
        return _stand_in(split, folder.parent)
    return _split(decoded, split)


class _NoData(Exception):
    """Neither on disk nor to be downloaded."""


_stand_ins: dict[Path, dict[str, ImageStore]] = {}  # drawn, and said, once in a process


def _stand_in(split: str, folder: Path) -> ImageStore:
    """Toy shapes, in the place of the store that should be in ``folder``."""
    if folder not in _stand_ins:
        print("\n*** NO TINYIMAGENET HERE: the pictures are TOY SHAPES, drawn by the course. ***\n"
              "*** Every number is about toy shapes. README says how to get the real data. ***\n")
    drawn = _stand_ins.setdefault(folder, {})
    if split not in drawn:
        drawn[split] = toy_shapes(split, num_classes=SMOKE_CLASSES)
    return drawn[split]


def _split(decoded: Decoded, split: str) -> ImageStore:
    """The tune pictures lie behind the train pictures, so that both are views of one memory map."""
    held_out = len(decoded.classes) * TUNE_PER_CLASS
    rows = {"train": slice(0, -held_out), "tune": slice(-held_out, None), "val": slice(None)}[split]
    return ImageStore("TinyImageNet", split, decoded.images[rows], decoded.labels[rows], decoded.classes,
                      MEAN, STD, is_real=True, boxes=decoded.boxes[rows],
                      prepare_seconds=decoded.seconds)


def _listing(part: str, smoke: bool) -> Listing:
    root = locate(TINY_IMAGENET, download=not smoke)
    if root is None:
        raise _NoData
    wnids = sorted((root / "wnids.txt").read_text().split())
    if smoke:
        wnids = wnids[:: len(wnids) // SMOKE_CLASSES]
    per_class = SMOKE_PER_CLASS if smoke else None
    rows = _train_rows(root, wnids, per_class) if part == "train" else _val_rows(root, wnids)
    paths, labels, boxes = zip(*rows, strict=True)
    return Listing(list(paths), np.array(labels, np.int64), _names(root, wnids), np.array(boxes, np.int16))


def _train_rows(root: Path, wnids: list[str], per_class: int | None) -> list[tuple]:
    """(path, label, box) of each train picture, ``per_class`` of them; 25 a class, drawn once, go to the end."""
    train, tune = [], []
    for label, wnid in enumerate(wnids):
        folder = root / "train" / wnid
        rows = []
        for line in sorted((folder / f"{wnid}_boxes.txt").read_text().splitlines()):
            name, *box = line.split("\t")
            rows.append((str(folder / "images" / name), label, [int(edge) for edge in box]))
        order = np.random.default_rng(0).permutation(len(rows))[:per_class]
        train += [rows[i] for i in order[TUNE_PER_CLASS:]]
        tune += [rows[i] for i in order[:TUNE_PER_CLASS]]
    return train + tune


def _val_rows(root: Path, wnids: list[str]) -> list[tuple]:
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    lines = (root / "val" / "val_annotations.txt").read_text().splitlines()
    rows = (line.split("\t") for line in lines)
    return [(str(root / "val" / "images" / name), label_of[wnid], [int(edge) for edge in box])
            for name, wnid, *box in rows if wnid in label_of]


def _names(root: Path, wnids: list[str]) -> list[str]:
    """Readable names: the first synonym of each wnid in ``words.txt``."""
    pairs = (line.split("\t") for line in (root / "words.txt").read_text().splitlines())
    words = {wnid: names.split(",")[0] for wnid, names in pairs}
    return [words[wnid] for wnid in wnids]
