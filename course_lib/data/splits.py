"""What the published data sets share: three splits, decoding, and toy shapes where there is no data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from course_lib.data.decode import Decoded, Listing, decode_once, open_store
from course_lib.data.download import Source, find, locate
from course_lib.data.store import ImageStore
from course_lib.data.toy_shapes import toy_shapes
from course_lib.files import CourseError, DataError, data_home
from course_lib.runtime import current_profile

SPLITS = ("train", "tune", "val")


class NoData(Exception):
    """Neither on disk nor to be downloaded."""


def root_of(source: Source, smoke: bool) -> Path:
    """The verified folder of the set; the smoke profile never downloads. Raises NoData, or DataError if broken."""
    root = locate(source, download=not smoke)
    if root is None:
        raise NoData
    return root


def load_or_draw(
    source: Source, split: str, profile: str | None, load: Callable[[bool], ImageStore], size: int
) -> ImageStore:
    """``load(smoke)``, or where there are neither data nor a network, toy shapes of ``size`` px, and loud words."""
    if split not in SPLITS:
        raise CourseError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    drawn = _stand_ins.get((data_home(), source.folder))
    if drawn is None or find(source):
        try:
            return load((profile or current_profile()) == "smoke")
        except NoData:
            drawn = _stand_ins.setdefault((data_home(), source.folder), {})
    if not drawn:
        print(
            f"\n*** NO {source.name.upper()} HERE: the pictures are TOY SHAPES, drawn by the course. ***\n"
            "*** Every number is about toy shapes. README says how to get the real data. ***\n"
        )
    if split not in drawn:
        drawn[split] = toy_shapes(split, size=size)
    return drawn[split]


_stand_ins: dict[tuple[Path, str], dict[str, ImageStore]] = {}  # drawn, and said, once in a process


def decode_part(
    source: Source,
    name: str,
    split: str,
    smoke: bool,
    make_listing: Callable[[Path, str, bool], Listing],
    size: tuple[int, int],
    fit: Callable | None = None,
) -> Decoded:
    """The store that ``split`` lies in: ``train``, with tune behind it, or ``val``.

    It is built from ``make_listing(root, part, smoke)``. Raises NoData; DataError where the other part is real
    already, for toy pictures beside it would mislead.
    """
    part = "val" if split == "val" else "train"
    folder = data_home() / "stores" / (f"{name}_smoke" if smoke else name) / part
    try:
        return decode_once(
            folder, lambda: make_listing(root_of(source, smoke), part, smoke), size, fit
        )
    except NoData:
        other = folder.with_name("train" if part == "val" else "val")
        if open_store(other):
            raise DataError(
                f"the {part} pictures were never decoded, and {source.name} is gone, though {other} holds "
                f"the others: bring the data set back, or delete {folder.parent}"
            ) from None
        raise


def hold_out(
    labels: np.ndarray, tune: int, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for train and for tune, ``tune`` of each class drawn once and for all; ``limit``: of both together.

    Those for tune come in rounds of one of each class, so that any number of last rounds is stratified, too.
    """
    shuffled = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        shuffled.append(rows[np.random.default_rng(0).permutation(len(rows))][:limit])
    return np.concatenate([rows[tune:] for rows in shuffled]), np.stack(
        [rows[:tune] for rows in shuffled], 1
    ).ravel()


def rows_of(split: str, held_out: int) -> slice:
    """The tune pictures lie behind the train pictures, so that both are views of one memory map."""
    return {"train": slice(0, -held_out), "tune": slice(-held_out, None), "val": slice(None)}[split]
