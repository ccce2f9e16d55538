"""Data sets as stores of decoded pictures, and the loaders that read them."""

from course_lib.data.augment import Augment
from course_lib.data.cifar import cifar10, cifar100
from course_lib.data.imagenette import imagenette
from course_lib.data.loader import AlbumentationsLoader, BatchLoader
from course_lib.data.store import ImageStore
from course_lib.data.tiny_imagenet import tiny_imagenet
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
    "tiny_imagenet",
    "toy_shapes",
]
