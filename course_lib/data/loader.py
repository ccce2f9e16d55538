"""From a store to batches: picture by picture through Albumentations, or whole batches at once.

Both loaders yield the same: float32 (B, 3, S, S), normalised, channels_last, on the device; int64 (B,).
The pictures travel as uint8, a quarter of the bytes, and are normalised and resized where they arrive.
Every random number follows from (seed, epoch, batch): a run can be repeated, and resumed, exactly,
whatever the number of workers.
"""

import signal
import sys
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_collate

from course_lib.data.augment import Augment, Lots, to_device
from course_lib.data.store import ImageStore
from course_lib.files import CourseError

Batch = tuple[torch.Tensor, torch.Tensor]
IN_CACHE = (
    400_000  # numbers at a time: the whole batch as floats would go through the main memory thrice
)
ONE_THREAD = 30_000  # numbers at a time: what torch leaves to one thread


class StoreLoader:
    """What both loaders share: order, place in the epoch, and the last steps on the device.

    ``picture_size`` (pixels; None: as stored) may change between epochs; ``epoch`` and ``first_batch`` say
    where the next pass begins; ``shard`` = (rank, processes): this process takes its part of every batch.
    An incomplete last batch is dropped when shuffling, so that every step of training sees the same number
    of pictures, and kept otherwise, so that every picture counts.
    """

    def __init__(
        self,
        store: ImageStore,
        batch_size: int,
        *,
        shuffle: bool,
        device: torch.device | str,
        seed: int,
    ) -> None:
        if shuffle and len(store) < batch_size:
            raise CourseError(
                f"batch size {batch_size} is larger than the {len(store)} pictures of "
                f"{store.name} {store.split}: choose a smaller one"
            )
        self.store, self.batch_size, self.shuffle = store, batch_size, shuffle
        self.device, self.seed = torch.device(device), seed
        self.picture_size: int | None = None
        self.epoch = 0
        self.first_batch = 0
        self.shard = (0, 1)
        self._scale = (1 / (255 * torch.tensor(store.std))).to(self.device)
        self._shift = (torch.tensor(store.mean) / torch.tensor(store.std)).to(self.device)
        self._at_once = IN_CACHE if self.device.type == "cpu" else sys.maxsize

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
        starts = range(
            self.first_batch * self.batch_size, len(self) * self.batch_size, self.batch_size
        )
        rank, processes = self.shard
        parts = [order[start : start + self.batch_size][rank::processes].copy() for start in starts]
        return [rows for rows in parts if len(rows)]  # a short last batch may not be enough for all

    def to_input(self, images: torch.Tensor, size: int | None = None) -> torch.Tensor:
        """(B, 3, H, W) in 0..255 → normalised float32 (B, 3, S, S), channels_last, on the device.

        S: ``size``, else ``picture_size``, else as it is.
        """
        size, width = size or self.picture_size, images.shape[-1]
        rows = (
            images.to(self.device, non_blocking=True).permute(0, 2, 3, 1).flatten(2)
        )  # (B, H, W·3)
        scale, shift = (
            self._scale.repeat(width),
            self._shift.repeat(width),
        )  # three numbers at a time would be slow
        x = torch.empty_like(rows, dtype=torch.float32)
        at_once = max(1, self._at_once // (3 * width))
        for part, out in zip(
            rows.flatten(0, 1).split(at_once), x.flatten(0, 1).split(at_once), strict=True
        ):
            out.copy_(part).mul_(scale).sub_(shift)
        x = x.unflatten(2, (-1, 3)).permute(0, 3, 1, 2)  # (B, 3, H, W), channels_last in memory
        if size not in (None, width):
            x = F.interpolate(x, size=(size,) * 2, mode="bilinear", antialias=True)
        return x


class BatchLoader(StoreLoader):
    """The fast way: a batch is cut out of the store and augmented whole, on the device, without workers.

    augment: an ``Augment``, True for the default one (shift by 4 px and flip), False for the pictures as they are.
    """

    def __init__(
        self,
        store: ImageStore,
        batch_size: int,
        *,
        augment: Augment | bool = True,
        shuffle: bool | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(
            store,
            batch_size,
            shuffle=bool(augment) if shuffle is None else shuffle,
            device=device,
            seed=seed,
        )
        self.augment = Augment() if augment is True else augment or None
        if self.augment and self.augment.pad >= (side := min(store.images.shape[1:3])):
            raise CourseError(
                f"Augment: pad is {self.augment.pad}, but the pictures of {store.name} have only {side} "
                "pixels a side: choose a smaller one"
            )
        # the fourth number keeps the lots for the first flip apart from those of the batches
        self._flip_first = torch.rand(len(store), generator=_generator(seed, 0, 0, 1)) < 0.5

    def __iter__(self) -> Iterator[Batch]:
        for number, rows in enumerate(self.batches(), start=self.first_batch):
            images = self._pictures(rows).permute(0, 3, 1, 2)  # (B, 3, H, W), a view
            x = self._augmented(images, rows, number) if self.augment else self.to_input(images)
            yield x, to_device(torch.from_numpy(self.store.labels[rows]), self.device)

    def _pictures(self, rows: np.ndarray) -> torch.Tensor:
        """uint8 (B, H, W, 3) on the device."""
        if self._resident is not None:
            return self._resident[to_device(torch.from_numpy(rows), self.device)]
        return to_device(torch.from_numpy(self.store.images[rows]), self.device)

    @cached_property
    def _resident(self) -> torch.Tensor | None:
        """The whole store on the GPU, where it takes less than half of the free memory."""
        if (
            self.device.type != "cuda"
            or self.store.images.nbytes > torch.cuda.mem_get_info(self.device)[0] // 2
        ):
            return None
        return torch.from_numpy(np.array(self.store.images)).to(self.device)

    def _augmented(self, images: torch.Tensor, rows: np.ndarray, number: int) -> torch.Tensor:
        lots = Lots(
            _generator(self.seed, self.epoch, number), len(rows) * self.shard[1], self.shard
        )
        if self.augment.flip == "alternating":
            flip = self._flip_first[rows] ^ bool(self.epoch % 2)
        else:
            flip = lots.uniform(0, 1) < 0.5
        size = self.picture_size or images.shape[-1]
        x = self.to_input(self.augment.cut(images, flip, size, lots), size)
        return self.augment.tint(x, self.store.std, lots)


def _generator(*keys: int) -> torch.Generator:
    state = np.random.SeedSequence(keys).generate_state(1, np.uint32)[0]
    return torch.Generator().manual_seed(int(state))


class AlbumentationsLoader(StoreLoader):
    """The readable way: each picture through an Albumentations pipeline, in ``workers`` processes."""

    def __init__(
        self,
        store: ImageStore,
        pipeline,
        batch_size: int,
        *,
        shuffle: bool = True,
        workers: int = 2,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(store, batch_size, shuffle=shuffle, device=device, seed=seed)
        self.pipeline, self.workers = pipeline, workers
        if workers and self.device.type == "cpu":
            self._at_once = (
                ONE_THREAD  # threads would wait for each other wherever a worker has the core
            )

    def __iter__(self) -> Iterator[Batch]:
        dataset = _AugmentedPictures(self.store, self.pipeline, (self.seed, self.epoch))
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=self.batches(),
            num_workers=self.workers,
            worker_init_fn=_one_thread,
            pin_memory=self.device.type == "cuda",
            generator=_generator(self.seed, self.epoch),
        )
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

    def __getitem__(self, rows: np.ndarray) -> Batch:
        from course_lib.data.pipelines import seed_pipeline

        seed_pipeline(self.pipeline, *self.keys, int(rows[0]))
        pictures = self.store.images[rows]  # a copy: some transforms write
        images = [self.pipeline(image=picture)["image"].permute(1, 2, 0) for picture in pictures]
        images = default_collate(images).permute(
            0, 3, 1, 2
        )  # (B, 3, S, S), in memory as the pictures lie
        return images, torch.from_numpy(self.store.labels[rows])


def _one_thread(worker: int) -> None:
    """OpenCV's threads, one per core in every worker, only get in each other's way. And Ctrl-C is the parent's."""
    import cv2

    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
