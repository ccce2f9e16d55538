"""Data sets as stores of decoded pictures, and the loaders that read them.

To add a data set, write a file like ``cifar.py``: a ``Source``, which says where it comes from and
how many files it has, and a function ``(split, profile) -> ImageStore``. Export it here, and name
it in ``DATASETS`` of ``experiments/recipe.py``. ``data/README.md`` goes through the steps.
"""

from course_lib.data.augment import Augment
from course_lib.data.cifar import cifar10, cifar100
from course_lib.data.imagenette import imagenette
from course_lib.data.imagewoof import imagewoof
from course_lib.data.loader import (
    AlbumentationsLoader,
    BatchLoader,
    pictures_per_second,
)
from course_lib.data.store import ImageStore
from course_lib.data.tiny_imagenet import tiny_imagenet, tiny_imagenet_part
from course_lib.data.toy_shapes import toy_shapes
from course_lib.files import DataError

__all__ = [
    "AlbumentationsLoader",
    "Augment",
    "BatchLoader",
    "DataError",
    "ImageStore",
    "cifar10",
    "cifar100",
    "imagenette",
    "imagewoof",
    "pictures_per_second",
    "tiny_imagenet",
    "tiny_imagenet_part",
    "toy_shapes",
]
