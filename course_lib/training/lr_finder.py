"""The learning rate range test (Smith 2015, arXiv:1506.01186).

A short training whose rate rises until the loss runs away. Rates, smoothed losses and where it ends
are those of torch-lr-finder, which tests hold this against.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from course_lib.checks import expect
from course_lib.files import CourseError
from course_lib.runtime import Precision
from course_lib.training.checkpoint import random_state_kept
from course_lib.training.loop import mix_for
from course_lib.training.losses import CrossEntropy
from course_lib.training.step import Extras, Loss, Trainer, fp32, to_device, train_mode

SMOOTH = 0.05  # the share that a new loss has in the smoothed one
DIVERGED = 5  # times the lowest loss: the end
SKIP_START, SKIP_END = 10, 5  # the first points are noise, the last ones divergence


@dataclass(frozen=True)
class LRRange:
    """lrs, losses: one value per step, of the first parameter group and smoothed.

    suggestion: the rate at which the loss falls fastest. lowest: that of the lowest loss, which is
    the edge of divergence and ten times too high, as a rule.
    """

    lrs: list[float]
    losses: list[float]
    suggestion: float
    lowest: float


def range_test(
    model: nn.Module,
    loader,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    end_lr: float = 10.0,
    steps: int = 100,
    precision: Precision | None = None,
    loss: Loss = CrossEntropy(),
    extras: Extras = Extras(),
    linear: bool = False,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> LRRange:
    """Raise the rate exponentially, from the optimizer's to ``end_lr`` within ``steps`` batches.

    ``end_lr`` is the first group's; the others keep their ratio to it. extras: what a step does
    besides, as in the training to come. linear: raise it by the same amount every step. skip_start,
    skip_end: as in ``read``. Works on a copy: the model, its mode and every random state stay as
    they are. A loss that is no number ends the test, and a step that fp16 leaves out is no point.
    Raises CourseError when too few points are left to suggest anything.
    """
    needed = _needed(skip_start, skip_end)
    expect("steps", steps, steps >= needed, f"{needed} or more, to read a learning rate from")
    trial = train_mode(copy.deepcopy(model))
    precision = precision or fp32(model)
    optimizer = make_optimizer(trial)

    # one factor for all groups: from 1 at the first step to end / start at the last
    rise = _rise(optimizer, end_lr)

    def factor(step: int) -> float:
        share = step / (steps - 1)
        return 1 + (rise - 1) * share if linear else rise**share

    scheduler = LambdaLR(optimizer, factor)
    mix = mix_for(trial, loader, extras)
    trainer = Trainer(trial, optimizer, scheduler, precision, loss, extras, mix)

    lrs, losses = [], []
    with random_state_kept():
        for x, labels in _batches(loader, steps):
            lr, scale = trainer.lr, trainer.scaler.get_scale()
            batch_loss, _ = trainer.step(*to_device(precision.device, x, labels))
            value = batch_loss.item()
            if not math.isfinite(value):
                break
            if trainer.scaler.get_scale() < scale:  # fp16 left this step out
                continue

            # one batch is noisy: what counts is the mean that forgets slowly
            smoothed = SMOOTH * value + (1 - SMOOTH) * losses[-1] if losses else value
            lrs.append(lr)
            losses.append(smoothed)
            if smoothed > DIVERGED * min(losses):
                break

    return read(lrs, losses, skip_start=skip_start, skip_end=skip_end)


def _rise(optimizer: torch.optim.Optimizer, end_lr: float) -> float:
    """How many times higher than the first rate the last one is."""
    start = optimizer.param_groups[0]["lr"]
    rises = 0 < start < end_lr < math.inf
    expect("the optimizer's rate", start, rises, f"above 0, and below end_lr, {end_lr:g}")
    return end_lr / start


def _batches(loader, count: int) -> Iterator:
    """``count`` batches: from the beginning again where the loader comes to its end."""
    if not len(loader):
        raise CourseError("nothing to test on: the loader gives no batch")

    given = 0
    while given < count:
        for batch in loader:
            yield batch
            given += 1
            if given == count:
                return


def read(
    lrs: list[float],
    losses: list[float],
    *,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> LRRange:
    """Suggestion and lowest point of a finished test, which a loss that is no number ends.

    Unlike torch-lr-finder this looks for the steepest fall before the lowest point only: behind it
    the loss jumps up and down, and a fall there means nothing. skip_start, skip_end: points that
    suggest nothing. Raises CourseError for too few of them (17 by default) and for a loss that does
    not fall.
    """
    lrs, losses = _numbers(lrs, losses)
    needed = _needed(skip_start, skip_end)
    if len(lrs) < needed:
        raise CourseError(
            f"only {len(lrs)} steps, for no more were asked for or the loss ran away: {needed} are "
            "needed to read a learning rate. Begin lower, or take more steps."
        )

    lowest = skip_start + int(np.argmin(losses[skip_start:]))
    end = min(max(lowest + 1, skip_start + 2), len(losses) - skip_end)

    slopes = np.gradient(np.array(losses[skip_start:end]))
    steepest = skip_start + int(slopes.argmin())
    if slopes.min() >= 0:
        raise CourseError(
            f"the loss does not fall between the rates {lrs[skip_start]:.3g} and {lrs[-1]:.3g}: "
            "there is no learning rate to read. Begin lower, or take more steps."
        )
    return LRRange(lrs, losses, lrs[steepest], lrs[lowest])


def _numbers(lrs: list[float], losses: list[float]) -> tuple[list[float], list[float]]:
    """The points before the first loss that is none."""
    is_none = ~np.isfinite(losses)
    end = int(is_none.argmax()) if is_none.any() else len(losses)
    return list(lrs[:end]), list(losses[:end])


def _needed(skip_start: int, skip_end: int) -> int:
    """Points: two between those that are left out tell whether the loss falls."""
    return skip_start + skip_end + 2
