"""From a store to batches: whole batches at once, or picture by picture through Albumentations.

Both loaders yield the same: float32 (B, 3, S, S), normalised, channels_last, on the device; int64
(B,). The pictures travel as uint8, a quarter of the bytes, and are normalised and resized where
they arrive. Every random number follows from (seed, epoch, batch): a run can be repeated, and
resumed, exactly, whatever the number of workers.
"""

import signal
import time
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_collate

from course_lib.checks import whole
from course_lib.data.augment import IN_CACHE, Augment, BatchRandom, copy_to, normalise
from course_lib.data.store import ImageStore
from course_lib.files import CourseError

Batch = tuple[torch.Tensor, torch.Tensor]  # (x, labels)
ONE_THREAD = 30_000  # numbers at a time: what torch leaves to one thread


class StoreLoader:
    """What both loaders share: the order, and the last steps on the device.

    They are ``training.Resumable``: a training goes on at any batch of an epoch.

    ``shard`` = (rank, processes): of every batch this process takes its part. An incomplete last
    batch is dropped when shuffling, so that every step of training sees the same number of
    pictures, and kept otherwise, so that every picture counts.
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
        self.store = store
        self.batch_size = whole("batch_size", batch_size)
        self.shuffle = shuffle
        self.device = torch.device(device)
        self.seed = seed
        self._check_store()
        self._check_batch_size()

        # to be set before a pass over the loader
        self.picture_size: int | None = None  # pixels a side; None: as stored
        self.epoch = 0  # order and augmentation follow from (seed, epoch)
        self.first_batch = 0  # where the pass begins
        self.shard = (0, 1)

        mean, std = torch.tensor(store.mean), torch.tensor(store.std)
        self._scale = (1 / (255 * std)).to(self.device)  # (3,)
        self._shift = (mean / std).to(self.device)
        self._at_once = IN_CACHE

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

        rank, processes = self.shard
        batches = []
        for number in range(self.first_batch, len(self)):
            start = number * self.batch_size
            rows = order[start : start + self.batch_size][rank::processes]
            if len(rows):  # a short last batch may not be enough for all processes
                batches.append(rows.copy())
        return batches

    def to_input(self, images: torch.Tensor, size: int | None = None) -> torch.Tensor:
        """(B, 3, H, W) in 0..255 → normalised float32 (B, 3, S, S), channels_last, on the device.

        S: ``size``, else ``picture_size``, else as it is.
        """
        images = images.to(self.device, non_blocking=True)
        x = normalise(images, self._scale, self._shift, self._at_once)

        size = size or self.picture_size
        if size not in (None, x.shape[-1]):
            x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        return x

    def _check_store(self) -> None:
        if self.store.images.dtype != np.uint8:
            raise CourseError(
                f"the pictures of {self.store.name} are {self.store.images.dtype}, expected uint8, "
                "0 to 255: the loader normalises them itself"
            )

    def _check_batch_size(self) -> None:
        if self.shuffle and len(self.store) < self.batch_size:
            raise CourseError(
                f"batch size {self.batch_size} is larger than the {len(self.store)} pictures of "
                f"{self.store.name} {self.store.split}: choose a smaller one"
            )


# --- whole batches --------------------------------------------------------------------------------


class BatchLoader(StoreLoader):
    """The fast way: a batch is cut out of the store and augmented whole, on the device, no workers.

    augment: an ``Augment``, True for the default one (shift by 4 px and flip), False for the
    pictures as they are. shuffle: by default where there is augmentation.
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
        shuffle = bool(augment) if shuffle is None else shuffle
        super().__init__(store, batch_size, shuffle=shuffle, device=device, seed=seed)

        if augment is True:
            augment = Augment()
        self.augment = augment or None
        self._check_pad()

        # For "alternating" flips. The fourth number keeps it apart from the batches' generators.
        first = _generator(seed, 0, 0, 1)
        self._flipped_at_first = torch.rand(len(store), generator=first) < 0.5  # (N,)

    def __iter__(self) -> Iterator[Batch]:
        for number, rows in enumerate(self.batches(), start=self.first_batch):
            images = self._pictures(rows)  # uint8 (B, 3, H, W)
            labels = copy_to(torch.from_numpy(self.store.labels[rows]), self.device)

            if self.augment:
                yield self._augmented(images, rows, number), labels
            else:
                yield self.to_input(images), labels

    def _augmented(self, images: torch.Tensor, rows: np.ndarray, number: int) -> torch.Tensor:
        """Batch ``number`` of this epoch, as the network sees it: (B, 3, S, S)."""
        rank, processes = self.shard
        generator = _generator(self.seed, self.epoch, number)
        rng = BatchRandom(generator, len(rows) * processes, self.shard)

        if self.augment.flip == "alternating":
            flip = self._flipped_at_first[rows] ^ bool(self.epoch % 2)  # (B,)
        else:
            flip = rng.uniform(0, 1) < 0.5

        size = self.picture_size or images.shape[-1]
        cut = self.augment.cut(images, flip, size, rng)
        x = self.to_input(cut, size)
        return self.augment.tint(x, self.store.std, rng)

    def _pictures(self, rows: np.ndarray) -> torch.Tensor:
        """uint8 (B, 3, H, W) on the device, channels_last as they are stored."""
        if self._resident is not None:
            images = self._resident[copy_to(torch.from_numpy(rows), self.device)]
        else:
            images = copy_to(torch.from_numpy(self.store.images[rows]), self.device)
        return images.permute(0, 3, 1, 2)

    @cached_property
    def _resident(self) -> torch.Tensor | None:
        """The whole store on the GPU, where it takes less than half of the free memory."""
        if self.device.type != "cuda":
            return None

        free, _ = torch.cuda.mem_get_info(self.device)
        if self.store.images.nbytes > free // 2:
            return None
        return torch.from_numpy(np.array(self.store.images)).to(self.device)

    def _check_pad(self) -> None:
        side = min(self.store.images.shape[1:3])
        if self.augment and self.augment.pad >= side:
            raise CourseError(
                f"Augment: pad is {self.augment.pad}, but the pictures of {self.store.name} have "
                f"only {side} pixels a side: choose a smaller one"
            )


def _generator(*keys: int) -> torch.Generator:
    state = np.random.SeedSequence(keys).generate_state(1, np.uint32)[0]
    return torch.Generator().manual_seed(int(state))


# --- picture by picture ---------------------------------------------------------------------------


class AlbumentationsLoader(StoreLoader):
    """The readable way: picture by picture through a pipeline, in ``workers`` processes.

    pipeline: an Albumentations ``Compose`` that gives uint8 (3, S, S), as those in ``pipelines``;
    the loader normalises. Raises CourseError for one that gives anything else.
    """

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
        self.pipeline = pipeline
        self.workers = workers

        # one picture for a try, here: an error in a worker would come as a traceback
        for picture in store.images[:1]:
            _through(pipeline, picture.copy())

        if workers:
            self._at_once = ONE_THREAD  # a second one would wait wherever a worker has the core

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            _AugmentedBatches(self.store, self.pipeline, self.seed, self.epoch),
            batch_size=None,  # the sampler's rows are a batch already
            sampler=self.batches(),
            num_workers=self.workers,
            worker_init_fn=_start_worker,
            pin_memory=self.device.type == "cuda",
            generator=_generator(self.seed, self.epoch),  # else it draws from torch's own
        )
        for images, labels in loader:
            yield self.to_input(images), labels.to(self.device, non_blocking=True)


class _AugmentedBatches(Dataset):
    """Rows of a store through a pipeline, a batch at a time, seeded by (seed, epoch, first row).

    A row comes once in an epoch, so its number names the batch, whichever worker draws it.
    """

    def __init__(self, store: ImageStore, pipeline, seed: int, epoch: int) -> None:
        self.store = store
        self.pipeline = pipeline
        self.keys = (seed, epoch)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, rows: np.ndarray) -> Batch:
        from course_lib.data.pipelines import seed_pipeline  # with Albumentations, so only here

        seed_pipeline(self.pipeline, *self.keys, int(rows[0]))

        pictures = self.store.images[rows]  # a copy: some transforms write
        images = [_through(self.pipeline, picture) for picture in pictures]  # (3, S, S) each

        # Stacked as the pictures lie in memory, which normalising reads fastest.
        images = default_collate([image.permute(1, 2, 0) for image in images])  # (B, S, S, 3)
        return images.permute(0, 3, 1, 2), torch.from_numpy(self.store.labels[rows])


def _through(pipeline, picture: np.ndarray) -> torch.Tensor:
    """(H, W, 3) through the pipeline: uint8 (3, S, S). Raises CourseError for anything else."""
    image = pipeline(image=picture)["image"]
    if not isinstance(image, torch.Tensor):
        raise CourseError(
            f"the pipeline gives {type(image).__name__}, expected a uint8 tensor (3, S, S): "
            "let it end in ToTensorV2()"
        )

    if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
        kind = str(image.dtype).removeprefix("torch.")
        raise CourseError(
            f"the pipeline gives {kind} {tuple(image.shape)}, expected uint8 (3, S, S): leave out "
            "Normalize and ToFloat, for the loader normalises"
        )
    return image


def _start_worker(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # else every worker takes a thread per core, in each other's way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business


# --- how fast -------------------------------------------------------------------------------------


def pictures_per_second(loader, seconds: float = 1.0) -> float:
    """How many pictures a second arrive on the device, timed for about so many ``seconds``.

    loader: anything that yields ``(x, labels)``; a short one is gone through more than once. Raises
    CourseError for one that yields nothing.
    """
    batches = _without_end(loader)
    _wait_for(next(batches))  # not timed: workers start, memory is taken

    seen, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        batch = next(batches)
        _wait_for(batch)
        seen += len(batch[0])
    return seen / (time.perf_counter() - started)


def _without_end(loader) -> Iterator[Batch]:
    while True:
        batch = None
        for batch in loader:
            yield batch

        if batch is None:
            raise CourseError("the loader yields no batch: there is nothing to time")


def _wait_for(batch: Batch) -> None:
    """A GPU is given its work and answers later, unless it is asked for a number."""
    x, _ = batch
    x[(0,) * x.ndim].item()
