"""CIFAR-10 and CIFAR-100: 50,000 train and 10,000 test pictures of 32×32, read by torchvision.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from pathlib import Path

import numpy as np
from torchvision import datasets

from course_lib import addresses
from course_lib.data.download import MEND, Source, cure_for
from course_lib.data.splits import first_that_reads, hold_out, load_or_draw
from course_lib.data.store import ImageStore
from course_lib.files import DataError

CIFAR10 = Source(
    name="CIFAR-10",
    folder="cifar-10-batches-py",
    urls=addresses.CIFAR10,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    bytes=170_498_071,
    counts={"data_batch_[1-5]": 5},
    markers=("batches.meta", "data_batch_1", "test_batch"),
)
CIFAR100 = Source(
    name="CIFAR-100",
    folder="cifar-100-python",
    urls=addresses.CIFAR100,
    sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    bytes=169_001_437,
    counts={"train": 1},
    markers=("meta", "test", "train"),
)

# Over all train pixels; the widely copied (0.2023, 0.1994, 0.2010) is a mean of the pictures' own
# deviations.
STATISTICS = {
    CIFAR10.name: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    CIFAR100.name: ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}
TUNE_SHARE = 10  # a tenth of train: 5,000 pictures
SMOKE_EVERY = 20


def cifar10(split: str, *, profile: str | None = None) -> ImageStore:
    """One split of CIFAR-10, in memory.

    split: ``"train"`` (45,000), ``"tune"`` (5,000 held out of train) or ``"val"`` (the official
    10,000 test pictures). The smoke profile takes every twentieth picture and never downloads.
    Without data and network it draws toy shapes of 32 px and says so. Raises CourseError for an
    unknown split, DataError for a broken data set.
    """
    return _cifar(CIFAR10, datasets.CIFAR10, split, profile)


def cifar100(split: str, *, profile: str | None = None) -> ImageStore:
    """One split of CIFAR-100 with its hundred fine classes; all else as ``cifar10``."""
    return _cifar(CIFAR100, datasets.CIFAR100, split, profile)


def _cifar(source: Source, official: type, split: str, profile: str | None) -> ImageStore:
    def load(smoke: bool) -> ImageStore:
        def read(root: Path) -> datasets.CIFAR10:
            return _read(source, official, root, train=split != "val")

        published = first_that_reads(source, smoke, read)
        images, labels = published.data, np.array(published.targets, np.int64)

        if split != "val":
            per_class = len(labels) // (TUNE_SHARE * len(published.classes))
            train, tune = hold_out(labels, per_class)
            rows = np.sort(train if split == "train" else tune)  # the published, mixed order
            images, labels = images[rows], labels[rows]

        mean, std = STATISTICS[source.name]
        classes = [name.replace("_", " ") for name in published.classes]
        store = ImageStore(source.name, split, images, labels, classes, mean, std, is_real=True)

        return store.every(SMOKE_EVERY) if smoke else store

    return load_or_draw(source, split, profile, load, size=32)


def _read(source: Source, official: type, root: Path, train: bool) -> datasets.CIFAR10:
    """By torchvision's class, whatever the folder is called."""
    here = type(official.__name__, (official,), {"base_folder": root.name})

    try:
        return here(root.parent, train=train)
    except (RuntimeError, OSError) as error:  # torchvision checks the MD5 of each file
        cure = cure_for(root, MEND)
        raise DataError(f"{source.name} in {root} is not as published ({error}). {cure}") from error
