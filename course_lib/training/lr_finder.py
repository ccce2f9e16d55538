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

from course_lib.files import CourseError
from course_lib.runtime import Precision
from course_lib.training.checkpoint import random_state_kept
from course_lib.training.losses import CrossEntropy
from course_lib.training.step import Loss, Trainer, fp32, to_device

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
) -> LRRange:
    """Raise the rate exponentially, from the optimizer's to ``end_lr`` within ``steps`` batches.

    ``end_lr`` is the first group's; the others keep their ratio to it. Works on a copy: the model,
    its mode and every random state stay as they are. A loss that is no number ends the test.
    Raises CourseError when too few points are left to suggest anything.
    """
    trial = copy.deepcopy(model).train()
    precision = precision or fp32(model)
    optimizer = make_optimizer(trial)

    # one factor for all groups: from 1 at the first step to end / start at the last
    rise = end_lr / optimizer.param_groups[0]["lr"]
    scheduler = LambdaLR(optimizer, lambda step: rise ** (step / max(1, steps - 1)))
    trainer = Trainer(trial, optimizer, scheduler, precision, loss)

    lrs, losses = [], []
    with random_state_kept():
        for x, labels in _batches(loader, steps):
            lr = trainer.lr
            batch_loss, _ = trainer.step(*to_device(precision.device, x, labels))
            value = batch_loss.item()
            if not math.isfinite(value):
                break

            # one batch is noisy: what counts is the mean that forgets slowly
            smoothed = SMOOTH * value + (1 - SMOOTH) * losses[-1] if losses else value
            lrs.append(lr)
            losses.append(smoothed)
            if smoothed > DIVERGED * min(losses):
                break

    return read(lrs, losses)


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


def read(lrs: list[float], losses: list[float]) -> LRRange:
    """Suggestion and lowest point of a finished test. Raises CourseError for fewer than 17 points.

    Unlike torch-lr-finder this looks for the steepest fall before the lowest point only: behind it
    the loss jumps up and down, and a fall there means nothing.
    """
    needed = SKIP_START + SKIP_END + 2
    if len(lrs) < needed:
        raise CourseError(
            f"only {len(lrs)} steps, for no more were asked for or the loss ran away: {needed} are "
            "needed to read a learning rate. Begin lower, or take more steps."
        )

    lowest = int(np.argmin(losses))
    end = min(max(lowest + 1, SKIP_START + 2), len(losses) - SKIP_END)

    slopes = np.gradient(np.array(losses[SKIP_START:end]))
    steepest = SKIP_START + int(slopes.argmin())
    return LRRange(list(lrs), list(losses), lrs[steepest], lrs[lowest])
