"""The store and the loaders against the plain way, on the real TinyImageNet, in one process.

``make bench`` runs this; the figures go to ``figures/results/benchmarks``. The plain way is what a
tutorial shows: ImageFolder, a JPEG decoded for every picture of every epoch, Albumentations with
Normalize on the CPU. And the fast form of crop and normalise against the four lines that it equals.
"""

import multiprocessing
import statistics
import sys
import time

import albumentations as A
import cv2
import numpy as np
import PIL
import pytest
import torch
import torchvision
from albumentations.pytorch import ToTensorV2
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from course_lib.data import (
    AlbumentationsLoader,
    BatchLoader,
    pictures_per_second,
    pipelines,
    tiny_imagenet,
)
from course_lib.data.augment import (
    BatchRandom,
    crop,
    draw_places,
    normalise,
    pad_crop_normalise,
)
from course_lib.data.decode import decode_once
from course_lib.data.download import find
from course_lib.data.tiny_imagenet import TINY_IMAGENET, _listing
from course_lib.experiments.record import RESULTS
from course_lib.files import write_json
from course_lib.runtime import this_cpu

real_data = pytest.mark.real_data
WORKERS, BATCH, PICTURES, ROUNDS = 2, 256, 50_000, 5
TIMED = 3  # seconds of each loader in each round


def keep(name: str, **figures) -> None:
    versions = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "albumentations": A.__version__,
        "torchvision": torchvision.__version__,
    }
    write_json(
        RESULTS / "benchmarks" / f"{name}.json",
        {"benchmark": name, "machine": this_cpu(), **figures, "versions": versions},
    )


def _decode(paths: list[str]) -> None:
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))


@real_data
def test_the_first_build_takes_at_most_1_3_times_the_decoding(tmp_path):
    listings = {part: _listing(find(TINY_IMAGENET), part, smoke=False) for part in ("train", "val")}
    paths = [path for listing in listings.values() for path in listing.paths]
    chunks = [paths[i : i + 512] for i in range(0, len(paths), 512)]

    for _ in range(2):  # the first round warms the disk cache for both sides
        started = time.perf_counter()
        with multiprocessing.Pool(WORKERS) as pool:
            pool.map(_decode, chunks, chunksize=1)
        decoding = time.perf_counter() - started

    started = time.perf_counter()
    for part, listing in listings.items():
        decode_once(tmp_path / part, lambda listing=listing: listing, (64, 64))
    building = time.perf_counter() - started

    started = time.perf_counter()
    for part in listings:
        decode_once(tmp_path / part, pytest.fail, (64, 64))
    opening = time.perf_counter() - started

    size = sum(file.stat().st_size for file in tmp_path.rglob("*"))
    keep(
        "store_build",
        what="first build of the store against decoding the same files with Pillow, two processes",
        pictures=len(paths),
        bytes=size,
        seconds={"build": building, "decode only": decoding, "second start": opening},
        ratio=building / decoding,
    )
    assert building <= 1.3 * decoding
    assert opening < 1 and size <= 1.5e9


class Plain:
    """What ImageFolder does with a picture.

    A class, for workers that are not forked have to be sent it.
    """

    def __init__(self, store) -> None:
        self.pipeline = A.Compose(
            [
                A.PadIfNeeded(72, 72, border_mode=cv2.BORDER_REFLECT_101),
                A.RandomCrop(64, 64),
                A.HorizontalFlip(p=0.5),
                A.Normalize(store.mean, store.std),
                ToTensorV2(),
            ],
            strict=True,
        )

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self.pipeline(image=np.asarray(image))["image"]


def _plain_loader(store) -> DataLoader:
    folder = ImageFolder(find(TINY_IMAGENET) / "train", transform=Plain(store))
    return DataLoader(folder, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)


@real_data
def test_the_plain_way_and_ours_give_the_same_input():
    store = tiny_imagenet("val", profile="cpu")
    ours, _ = next(iter(BatchLoader(store, 64, augment=False)))
    plain = A.Compose([A.Normalize(store.mean, store.std), ToTensorV2()])
    theirs = torch.stack([plain(image=picture)["image"] for picture in store.images[:64]])
    assert torch.allclose(ours, theirs, atol=1e-5)


@real_data
def test_our_loaders_outrun_the_plain_way():
    store = tiny_imagenet("train", profile="cpu")
    pipeline = pipelines.pad_crop_flip(64)
    sides = {
        "plain": _plain_loader(store),
        "albumentations": AlbumentationsLoader(store, pipeline, BATCH, workers=WORKERS),
        "whole batches": BatchLoader(store, BATCH),
    }

    rates = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, loader in sides.items():
            rates[name].append(pictures_per_second(loader, TIMED))

    median = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {name: median[name] / median["plain"] for name in ("albumentations", "whole batches")}
    ratios["whole batches over albumentations"] = median["whole batches"] / median["albumentations"]

    keep(
        "loading",
        what="augmented, normalised pictures a second at 64 px, two workers (whole batches: none)",
        pictures=PICTURES,
        rounds=ROUNDS,
        batch_size=BATCH,
        pictures_per_second=median,
        seconds={name: PICTURES / rate for name, rate in median.items()},
        ratio=ratios,
    )
    assert ratios["albumentations"] >= 3
    assert ratios["whole batches"] >= 8
    assert ratios["whole batches over albumentations"] >= 2.5


def test_the_fast_crop_outruns_the_four_lines_that_it_equals(one_thread):
    pad, side, rounds = 4, 64, 150
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH, side, side, 3), generator=generator, dtype=torch.uint8)
    images = images.permute(0, 3, 1, 2)  # (B, 3, H, W), as a store gives them
    scale, shift = torch.full((3,), 1 / 64), torch.full((3,), 2.0)

    rng = BatchRandom(generator, BATCH)
    top, left = draw_places(images.shape, pad, side, rng)
    flip = rng.uniform(0, 1) < 0.5

    def four_lines():
        return pad_crop_normalise(images, top, left, flip, scale, shift, pad, side)

    def fast():
        return normalise(crop(images, top, left, flip, pad, side), scale, shift)

    assert torch.equal(four_lines(), fast())

    seconds = {four_lines: [], fast: []}
    for _ in range(rounds):
        for function, values in seconds.items():
            started = time.perf_counter()
            function()
            values.append(time.perf_counter() - started)

    # The fastest of each: in milliseconds, other work on the machine disturbs more than half.
    best = {function.__name__: min(values) for function, values in seconds.items()}
    ratio = best["four_lines"] / best["fast"]
    keep(
        "crop",
        what="shift by 4 px, flip and normalise a batch: four lines, fast form; the fastest round",
        batch_size=BATCH,
        picture_size=side,
        rounds=rounds,
        seconds={"four lines": best["four_lines"], "fast": best["fast"]},
        ratio=ratio,
    )
    assert ratio >= 2.5
