"""What every loader reads: one split of a data set as arrays."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class ImageStore:
    """One split of a data set, decoded.

    images: uint8 (N, H, W, 3), usually a read-only memory map; labels: int64 (N,); classes: readable names;
    mean, std: of the train pixels in 0..1, per channel; boxes: int16 (N, 4), x0, y0, x1, y1 in pixels, both ends
    inside, or None; masks: bool (N, H, W) or None; prepare_seconds: what decoding (or drawing) took, once.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    is_real: bool
    boxes: np.ndarray | None = None
    masks: np.ndarray | None = None
    prepare_seconds: float = 0.0

    def __getstate__(self) -> dict:
        """To a worker travels the place of a memory map, not its gigabyte of pictures."""
        mapped = isinstance(self.images, np.memmap)
        return self.__dict__ | {"images": _place(self.images) if mapped else self.images}

    def __setstate__(self, state: dict) -> None:
        if isinstance(state["images"], tuple):
            path, start, step, count = state["images"]
            state = state | {"images": np.load(path, mmap_mode="r")[start::step][:count]}
        self.__dict__.update(state)

    def __len__(self) -> int:
        return len(self.labels)

    def every(self, k: int) -> "ImageStore":
        """Every ``k``-th picture, as views: where the pictures are sorted by class, a k-th of each class."""
        cut = {name: getattr(self, name) for name in ("images", "labels", "boxes", "masks")}
        return replace(
            self, **{name: None if array is None else array[::k] for name, array in cut.items()}
        )

    def describe(self) -> str:
        height, width = self.images.shape[1:3]
        kind = "real" if self.is_real else "drawn (toy)"
        return (
            f"{self.name} {self.split}: {len(self):,} {kind} pictures, {height}×{width}, "
            f"{len(self.classes)} classes"
        )


def _place(view: np.memmap) -> tuple[str, int, int, int]:
    """File, first row, step and number of rows of a view of a mapped .npy file."""
    whole = view
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    here, begin = (array.__array_interface__["data"][0] for array in (view, whole))
    return (
        str(whole.filename),
        (here - begin) // whole.strides[0],
        view.strides[0] // whole.strides[0],
        len(view),
    )
