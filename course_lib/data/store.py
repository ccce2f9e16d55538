"""What every loader reads: one split of a data set, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

PER_PICTURE = ("images", "labels", "clean_labels", "boxes", "masks")


@dataclass(frozen=True)
class ImageStore:
    """One split of a data set, decoded."""

    name: str
    split: str  # "train", "tune" or "val"

    images: np.ndarray  # uint8 (N, H, W, 3), usually a read-only memory map
    labels: np.ndarray  # int64 (N,), what a training learns from
    classes: list[str]  # readable names

    mean: tuple[float, float, float]  # of the train pixels in 0..1, per channel
    std: tuple[float, float, float]

    is_real: bool  # False: toy shapes, drawn by the course
    boxes: np.ndarray | None = None  # int16 (N, 4): x0, y0, x1, y1 in pixels, both ends inside
    masks: np.ndarray | None = None  # bool (N, H, W)
    clean_labels: np.ndarray | None = None  # int64 (N,), the truth, of a set with wrong labels
    prepare_seconds: float = 0.0  # what decoding took, once

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self) -> str:
        height, width = self.images.shape[1:3]
        kind = "real" if self.is_real else "drawn (toy)"
        return (
            f"{self.name} {self.split}: {len(self):,} {kind} pictures, {height}×{width}, "
            f"{len(self.classes)} classes"
        )

    def every(self, k: int) -> "ImageStore":
        """Every ``k``-th picture, as views.

        Where the pictures are sorted by class, that is a ``k``-th of each class, to within one.
        """
        return self.rows(slice(None, None, k))

    def every_of_each_class(self, k: int) -> "ImageStore":
        """A ``k``-th of each class, to within one picture, in whatever order they lie; copied.

        No class is missed, however small. Where the classes take turns, as in tune, ``every`` can
        miss some of them altogether.
        """
        by_class = np.argsort(self.labels, kind="stable")
        chosen = by_class[::k]

        # a class of fewer than k pictures may lie between two that are chosen
        classes, first = np.unique(self.labels, return_index=True)
        missed = first[~np.isin(classes, self.labels[chosen])]

        return self.rows(np.sort(np.concatenate([chosen, missed])))

    def about(self, count: int) -> "ImageStore":
        """At least ``count`` pictures, fewer than twice as many, evenly spread.

        All where there are fewer.
        """
        return self.every(max(1, len(self) // max(1, count)))

    def of_classes(self, chosen: Sequence[int]) -> "ImageStore":
        """The pictures of these classes alone, copied; the labels count through ``chosen``."""
        part = self.rows(np.flatnonzero(np.isin(self.labels, list(chosen))))

        number = np.full(len(self.classes), -1)  # -1: a true class that is not among them
        number[list(chosen)] = np.arange(len(chosen))
        clean = None if part.clean_labels is None else number[part.clean_labels]

        return replace(
            part,
            labels=number[part.labels],
            clean_labels=clean,
            classes=[self.classes[each] for each in chosen],
        )

    def rows(self, rows: slice | np.ndarray) -> "ImageStore":
        """These pictures with all that belongs to them: views for a slice, copies for an array."""
        arrays = {name: getattr(self, name) for name in PER_PICTURE}

        return replace(
            self, **{name: array[rows] for name, array in arrays.items() if array is not None}
        )

    # A worker is not sent the gigabyte of a memory map, but where it lies.

    def __getstate__(self) -> dict:
        if isinstance(self.images, np.memmap):
            return self.__dict__ | {"images": _place(self.images)}
        return self.__dict__

    def __setstate__(self, state: dict) -> None:
        if isinstance(state["images"], tuple):
            path, first, step, count = state["images"]
            state = state | {"images": np.load(path, mmap_mode="r")[first::step][:count]}

        self.__dict__.update(state)  # past the frozen dataclass


def _place(view: np.memmap) -> tuple[str, int, int, int]:
    """File, first row, step and number of rows of a view of a mapped .npy file."""
    whole = view
    while isinstance(whole.base, np.memmap):
        whole = whole.base

    begin = whole.__array_interface__["data"][0]
    here = view.__array_interface__["data"][0]
    row = whole.strides[0]  # bytes

    return str(whole.filename), (here - begin) // row, view.strides[0] // row, len(view)
