"""What the published data sets share: three splits, decoding, and toys where there is nothing."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from course_lib.data.decode import Decoded, Listing, decode_once, find_store
from course_lib.data.download import Source, copies, locate, looked_in
from course_lib.data.store import ImageStore
from course_lib.data.toy_shapes import toy_shapes
from course_lib.files import CourseError, DataError, DiskError, data_home, search_roots
from course_lib.runtime import PROFILES, current_profile

SPLITS = ("train", "tune", "val")
NEVER_DOWNLOADED = "The profile smoke never downloads; the profiles cpu and gpu do.\n"
Content = TypeVar("Content")


class NoData(Exception):
    """Neither on disk nor to be downloaded."""


# --- the data set, or toys -----------------------------------------------------------------------


def load_or_draw(
    source: Source, split: str, profile: str | None, load: Callable[[bool], ImageStore], size: int
) -> ImageStore:
    """``load(smoke)``, or, where there are neither data nor a network, toys and loud words.

    size: of the toy shapes, in pixels a side. Raises CourseError for an unknown split or profile.
    """
    if split not in SPLITS:
        raise CourseError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if profile not in (None, *PROFILES):
        raise CourseError(f"unknown profile {profile!r}: expected one of {', '.join(PROFILES)}")

    smoke = (profile or current_profile()) == "smoke"
    try:
        return load(smoke)
    except NoData:
        _say_so(source, smoke)
        return stand_in(split, size)


def root_of(source: Source, smoke: bool) -> Path:
    """The verified folder of the set; the smoke profile never downloads.

    Raises NoData where there is none, DataError where it is broken.
    """
    wanted = (source.folder, *search_roots())
    root = locate(source, download=not smoke and wanted not in _unreachable)
    if root is not None:
        return root

    if not smoke:
        _unreachable.add(wanted)
    raise NoData


def first_that_reads(source: Source, smoke: bool, read: Callable[[Path], Content]) -> Content:
    """``read(root)`` of the first copy of the set that is as published.

    A copy has all its files; a list that was cut or a damaged picture shows only when it is read.
    Where no other copy is better, the first one's fault is raised; a disk that is full at once.
    Raises as ``root_of`` does.
    """
    root = root_of(source, smoke)
    try:
        return read(root)
    except DiskError:
        raise  # of another copy there would be as much to write
    except DataError:
        others = (copy for copy in copies(source) if copy != root)
        for other in others:
            try:
                return read(other)
            except DiskError:
                raise
            except DataError:
                continue  # broken, too
        raise


@cache
def stand_in(split: str, size: int) -> ImageStore:
    """Toy shapes, drawn once in a process for all data sets that are not there."""
    return toy_shapes(split, size=size)


def _say_so(source: Source, smoke: bool) -> None:
    wanted = (source.folder, *search_roots())
    if wanted in _said:
        return

    _said.add(wanted)
    print(
        f"\n*** NO {source.name.upper()} HERE: "
        "the pictures are TOY SHAPES, drawn by the course. ***\n"
        "*** Every number is about toy shapes. README says how to get the real data. ***\n"
        f"Looked in {looked_in()}.\n{NEVER_DOWNLOADED if smoke else ''}"
    )


# Once in a process is enough, to wait for a network and to be told: (folder, roots) of data sets.
_unreachable: set[tuple] = set()
_said: set[tuple] = set()


# --- one array on disk for train and tune, one for val -------------------------------------------


def decode_part(
    source: Source,
    name: str,
    split: str,
    smoke: bool,
    make_listing: Callable[[Path, str, bool], Listing],
    pictures: dict[str, int],
    size: tuple[int, int],
    fit: Callable | None = None,
) -> Decoded:
    """The array that ``split`` lies in: ``train``, with tune behind it, or ``val``.

    Where it is in no place that is searched, it is built from ``make_listing(root, part, smoke)``,
    of the first copy of the set that is as published.
    pictures: how many each part must hold. Raises NoData; DataError where the other part is there
    and real, for toys beside it would mislead.
    """
    part, other = ("val", "train") if split == "val" else ("train", "val")
    stores = Path("stores", f"{name}_smoke" if smoke else name)

    if found := find_store(stores / part, pictures[part]):
        return found

    def decode(root: Path) -> Decoded:
        folder = data_home() / stores / part
        return decode_once(
            folder, lambda: make_listing(root, part, smoke), size, fit, pictures[part]
        )

    try:
        return first_that_reads(source, smoke, decode)
    except NoData:
        kept = find_store(stores / other, pictures[other])
        if not kept:
            raise

        raise DataError(
            f"the {part} pictures were never decoded, and {source.name} is gone, though "
            f"{kept.folder} holds the others: bring the data set back, or delete "
            f"{kept.folder.parent}"
        ) from None


def rows_of(split: str, held_out: int) -> slice:
    """The tune pictures lie behind the train pictures: both are views of one memory map."""
    rows = {"train": slice(0, -held_out), "tune": slice(-held_out, None), "val": slice(None)}
    return rows[split]


def hold_out(
    labels: np.ndarray, tune: int, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for train and for tune, ``tune`` of each class drawn once and for all.

    limit: pictures of each class, train and tune together. Tune comes in rounds of one picture of
    each class, so that any number of last rounds is stratified, too.
    """
    by_class = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        shuffled = rows[np.random.default_rng(0).permutation(len(rows))]
        by_class.append(shuffled[:limit])

    train = np.concatenate([rows[tune:] for rows in by_class])
    rounds = np.stack([rows[:tune] for rows in by_class], axis=1)  # (tune, classes)

    return train, rounds.ravel()
