"""From a store to batches: picture by picture through Albumentations, or whole batches at once.

Both loaders yield the same: float32 (B, 3, S, S), normalised, channels_last, on the device; int64 (B,).
The pictures travel as uint8, a quarter of the bytes, and are normalised and resized where they arrive.
Every random number follows from (seed, epoch, batch): a run can be repeated, and resumed, exactly,
whatever the number of workers.
"""

import signal
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from course_lib.data.store import ImageStore
from course_lib.runtime import CourseError

Batch = tuple[torch.Tensor, torch.Tensor]


class StoreLoader:
    """What both loaders share: order, place in the epoch, and the last steps on the device.

    ``picture_size`` (pixels; None: as stored) may change between epochs; ``epoch`` and ``first_batch`` say
    where the next pass begins. An incomplete last batch is dropped when shuffling, so that every step of
    training sees the same number of pictures, and kept otherwise, so that every picture counts.
    """

    def __init__(self, store: ImageStore, batch_size: int, *, shuffle: bool, device: torch.device | str,
                 seed: int) -> None:
        if shuffle and len(store) < batch_size:
            raise CourseError(f"batch size {batch_size} is larger than the {len(store)} pictures of "
                              f"{store.name} {store.split}: choose a smaller one")
        self.store, self.batch_size, self.shuffle = store, batch_size, shuffle
        self.device, self.seed = torch.device(device), seed
        self.picture_size: int | None = None
        self.epoch = 0
        self.first_batch = 0
        width = store.images.shape[2]  # a whole row of pixels at once: three numbers at a time would be slow
        self._scale = (1 / (255 * torch.tensor(store.std))).repeat(width).to(self.device)  # (W·3,)
        self._shift = (torch.tensor(store.mean) / torch.tensor(store.std)).repeat(width).to(self.device)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.store), self.batch_size)
        return whole if self.shuffle or not rest else whole + 1

    @property
    def images(self) -> int:
        """Pictures in one epoch."""
        return len(self) * self.batch_size if self.shuffle else len(self.store)

    def batches(self) -> list[np.ndarray]:
        """The row numbers of each batch that is still to come in this epoch."""
        order = np.arange(len(self.store))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        starts = range(self.first_batch * self.batch_size, len(self) * self.batch_size, self.batch_size)
        return [order[start:start + self.batch_size] for start in starts]

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 3, H, W) → normalised float32 (B, 3, S, S), channels_last, on the device."""
        rows = images.to(self.device, non_blocking=True).permute(0, 2, 3, 1).flatten(2)  # (B, H, W·3)
        x = rows.to(torch.float32).mul_(self._scale).sub_(self._shift)
        x = x.unflatten(2, (-1, 3)).permute(0, 3, 1, 2)  # (B, 3, H, W), channels_last in memory
        if self.picture_size not in (None, x.shape[-1]):
            x = F.interpolate(x, size=(self.picture_size,) * 2, mode="bilinear", antialias=True)
        return x


class BatchLoader(StoreLoader):
    """The fast way: a batch is cut out of the store and augmented whole, on the device, without workers."""

    def __init__(self, store: ImageStore, batch_size: int, *, augment: bool = True, shuffle: bool | None = None,
                 pad: int = 4, device: torch.device | str = "cpu", seed: int = 0) -> None:
        super().__init__(store, batch_size, shuffle=augment if shuffle is None else shuffle, device=device,
                         seed=seed)
        self.augment, self.pad = augment, pad

    def __iter__(self) -> Iterator[Batch]:
        for number, rows in enumerate(self.batches(), start=self.first_batch):
            images = torch.from_numpy(self.store.images[rows]).to(self.device)  # (B, H, W, 3)
            images = images.permute(0, 3, 1, 2)  # (B, 3, H, W), a view
            if self.augment:
                images = crop_and_flip(images, self.pad, _generator(self.seed, self.epoch, number))
            yield self.to_input(images), torch.from_numpy(self.store.labels[rows]).to(self.device)


def _generator(*keys: int) -> torch.Generator:
    state = np.random.SeedSequence(keys).generate_state(1, np.uint32)[0]
    return torch.Generator().manual_seed(int(state))


def crop_and_flip(images: torch.Tensor, pad: int, generator: torch.Generator) -> torch.Tensor:
    """Shift each picture by its own −pad … pad pixels, the border mirrored, and flip half of them.

    uint8 (B, 3, H, W) → the same. One gather instead of a padded copy: row −2 *is* row 2.
    """
    count, _, height, width = images.shape
    dy, dx = torch.randint(-pad, pad + 1, (2, count, 1), generator=generator)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    rows = _mirror(torch.arange(height) + dy, height)  # (B, H)
    columns = _mirror(torch.arange(width) + dx, width)  # (B, W)
    columns = torch.where(flip, columns.flip(1), columns)
    batch = torch.arange(count, device=images.device)[:, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    picked = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]  # (B, H, W, 3)
    return picked.permute(0, 3, 1, 2)


def _mirror(index: torch.Tensor, length: int) -> torch.Tensor:
    """Fold indices that stick out back in, without repeating the edge: −1 → 1, length → length − 2."""
    index = index.abs()
    return torch.where(index < length, index, 2 * (length - 1) - index)


class AlbumentationsLoader(StoreLoader):
    """The readable way: each picture through an Albumentations pipeline, in ``workers`` processes."""

    def __init__(self, store: ImageStore, pipeline, batch_size: int, *, shuffle: bool = True, workers: int = 2,
                 device: torch.device | str = "cpu", seed: int = 0) -> None:
        super().__init__(store, batch_size, shuffle=shuffle, device=device, seed=seed)
        self.pipeline, self.workers = pipeline, workers

    def __iter__(self) -> Iterator[Batch]:
        dataset = _AugmentedPictures(self.store, self.pipeline, (self.seed, self.epoch))
        loader = DataLoader(dataset, batch_sampler=self.batches(), num_workers=self.workers,
                            collate_fn=_as_it_is, worker_init_fn=_one_thread,
                            pin_memory=self.device.type == "cuda", generator=_generator(self.seed, self.epoch))
        for images, labels in loader:
            yield self.to_input(images), labels.to(self.device, non_blocking=True)


class _AugmentedPictures(Dataset):
    """Rows of a store through a pipeline, a batch at a time, seeded by (seed, epoch, first row).

    A row comes once in an epoch, so its number names the batch, whichever worker draws it.
    """

    def __init__(self, store: ImageStore, pipeline, keys: tuple[int, int]) -> None:
        self.store, self.pipeline, self.keys = store, pipeline, keys

    def __len__(self) -> int:
        return len(self.store)

    def __getitems__(self, rows: np.ndarray) -> Batch:
        from course_lib.data.transforms import seed_pipeline

        seed_pipeline(self.pipeline, *self.keys, int(rows[0]))
        pictures = self.store.images[rows]  # a copy: some transforms write
        images = [self.pipeline(image=picture)["image"].permute(1, 2, 0) for picture in pictures]
        images = torch.stack(images).permute(0, 3, 1, 2)  # (B, 3, S, S), in memory as the pictures lie: no transpose
        return images, torch.from_numpy(self.store.labels[rows])


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _one_thread(worker: int) -> None:
    """OpenCV's threads, one per core in every worker, only get in each other's way. And Ctrl-C is the parent's."""
    import cv2

    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
