"""Albumentations pipelines, picture by picture: the readable way to augment.

Each takes uint8 (H, W, 3) and gives uint8 (3, S, S); normalising waits for the device, which takes
a whole batch at once. ``strict=True``: a misspelt keyword is an error, not a warning.
"""

import os
import random

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # before the import, or it calls out

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
from albumentations.pytorch import ToTensorV2  # noqa: E402

MIRROR = cv2.BORDER_REFLECT_101


def evaluation() -> A.Compose:
    """The picture as it is."""
    return A.Compose([ToTensorV2()], strict=True)


def pad_crop_flip(size: int, pad: int = 4) -> A.Compose:
    """Shift by up to ``pad`` pixels (the border mirrored), flip half of the pictures.

    The standard of CIFAR.
    """
    return A.Compose(
        [
            A.PadIfNeeded(size + 2 * pad, size + 2 * pad, border_mode=MIRROR),
            A.RandomCrop(size, size),
            A.HorizontalFlip(p=0.5),
            ToTensorV2(),
        ],
        strict=True,
    )


def pad_crop_flip_dropout(size: int, pad: int = 4) -> A.Compose:
    """The same, and in half of the pictures one grey rectangle (cutout).

    Each of its sides is a quarter to half of the picture's.
    """
    return A.Compose(
        [
            A.PadIfNeeded(size + 2 * pad, size + 2 * pad, border_mode=MIRROR),
            A.RandomCrop(size, size),
            A.HorizontalFlip(p=0.5),
            A.CoarseDropout(
                num_holes_range=(1, 1),
                hole_height_range=(0.25, 0.5),
                hole_width_range=(0.25, 0.5),
                fill=128,
                p=0.5,
            ),
            ToTensorV2(),
        ],
        strict=True,
    )


def strong(size: int) -> A.Compose:
    """Scale, shape, colour and place all change: for long trainings.

    Those learn the plain pictures by heart.
    """
    return A.Compose(
        [
            A.RandomResizedCrop(size=(size, size), scale=(0.35, 1.0)),
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-15, 15), shear=(-8, 8), border_mode=MIRROR, p=0.5),
            A.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, p=0.8),
            A.CoarseDropout(
                num_holes_range=(1, 2),
                hole_height_range=(0.15, 0.35),
                hole_width_range=(0.15, 0.35),
                fill=128,
                p=0.5,
            ),
            ToTensorV2(),
        ],
        strict=True,
    )


def seed_pipeline(pipeline: A.Compose, *keys: int) -> None:
    """Put the pipeline's generators where ``keys`` say, whatever was drawn before.

    Albumentations 2.0.8 repeats its numbers in every worker and every epoch, and
    ``Compose(seed=…)`` gives each transform a copy of one generator, so that two flips always
    agree. One *shared* generator, seeded by (seed, epoch, batch), cures both.
    """
    sequence = np.random.SeedSequence(keys)
    seed = int(sequence.generate_state(1)[0])

    pipeline.set_random_state(np.random.default_rng(sequence), random.Random(seed))
