"""The learning rate range test (Smith 2015, arXiv:1506.01186), and what one reads from its curve.

A short training whose rate rises until the loss runs away. Rates, smoothed losses and where it ends
are those of torch-lr-finder, which tests hold this against.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from course_lib.checks import expect
from course_lib.files import CourseError
from course_lib.runtime import Precision
from course_lib.training.checkpoint import random_state_kept
from course_lib.training.loop import evaluate, mix_for
from course_lib.training.losses import CrossEntropy
from course_lib.training.step import Extras, Loss, Trainer, fp32, move_batch, train_mode

SMOOTH = 0.05  # the share that a new loss has in the smoothed one
DIVERGED = 5  # times the lowest loss: the end
SKIP_START, SKIP_END = 10, 5  # the first points are noise, the last ones divergence
METHODS = (  # of reading a curve
    "steepest slope",
    "steepest slope, lag taken off",
    "steepest slope, smoothed both ways",
    "valley",
    "slide",
    "minimum / 10",
    "minimum",
)


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
    val_loader=None,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> LRRange:
    """Raise the rate exponentially, from the optimizer's to ``end_lr`` within ``steps`` batches.

    ``end_lr`` is the first group's; the others keep their ratio to it. extras: what a step does
    besides, as in the training to come. linear: raise it by the same amount every step. val_loader:
    judge a step by the cross-entropy over all of it, as ``evaluate`` gives it after the step; that
    and linear is Smith's own test. skip_start, skip_end: as in ``read``. Works on a copy: model,
    modes, loaders and every random state stay as they are, also after an error. A loss that is no
    number ends the test, and a step that fp16 leaves out is no point. Raises CourseError when too
    few points are left to suggest anything.
    """
    needed = _needed(skip_start, skip_end)
    expect("steps", steps, steps >= needed, f"{needed} or more, to read a learning rate from")
    trial = train_mode(copy.deepcopy(model))
    precision = precision or fp32(model)
    optimizer = _optimizer_of(trial, make_optimizer)

    # one factor for all groups: from 1 at the first step to end / start at the last
    rise = _rise(optimizer, end_lr)

    def factor(step: int) -> float:
        share = step / (steps - 1)
        return 1 + (rise - 1) * share if linear else rise**share

    scheduler = LambdaLR(optimizer, factor)
    mix = mix_for(trial, loader, extras)
    trainer = Trainer(trial, optimizer, scheduler, precision, loss, extras, mix)

    lrs, losses = [], []
    with random_state_kept(), _generators_kept(loader, val_loader):
        for x, labels in _batches(loader, steps):
            lr, scale = trainer.lr, trainer.scaler.get_scale()
            x, labels = move_batch(x, labels, precision.device)
            batch_loss, _ = trainer.step(x, labels)

            # of this batch as it was before the step, or of pictures held out as they are after it
            value = batch_loss.item()
            if val_loader is not None:
                value = evaluate(trial, val_loader, precision=precision).loss
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


def _optimizer_of(trial: nn.Module, make_optimizer: Callable) -> torch.optim.Optimizer:
    """Raises CourseError for one of other weights: its rate would rise, and nothing be learned."""
    optimizer = make_optimizer(trial)

    weights = {id(parameter) for parameter in trial.parameters()}
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not moved <= weights:
        raise CourseError(
            "make_optimizer gave an optimizer of another model's weights: expected one of those of "
            "the model that it is called with, as in `lambda model: SGD(model.parameters(), 1e-4)`"
        )
    return optimizer


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


@contextmanager
def _generators_kept(*loaders) -> Iterator[None]:
    """A DataLoader with a generator of its own goes on from where it was."""
    owners = [*loaders, *(getattr(loader, "sampler", None) for loader in loaders)]
    generators = [getattr(owner, "generator", None) for owner in owners]
    states = [(each, each.get_state()) for each in generators if isinstance(each, torch.Generator)]

    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


# --- reading a curve ------------------------------------------------------------------------------


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
    lrs, losses = _finite_points(lrs, losses, skip_start, skip_end)
    lowest = _lowest(losses, skip_start)
    steepest = _steepest(losses, skip_start, skip_end)

    if steepest is None:
        raise CourseError(
            f"the loss does not fall between the rates {lrs[skip_start]:.3g} and {lrs[-1]:.3g}: "
            "there is no learning rate to read. Begin lower, or take more steps."
        )
    return LRRange(lrs, losses, lrs[steepest], lrs[lowest])


def suggestions(
    lrs: list[float],
    losses: list[float],
    *,
    skip_start: int = SKIP_START,
    skip_end: int = SKIP_END,
) -> dict[str, float]:
    """Method → the rate that it suggests, for a finished test as ``range_test`` gives it.

    "steepest slope" and "minimum" are those of ``read``. Two ways mend the lag of the smoothing:
    "lag taken off" goes back by ``lag()`` steps, as if every fall were a long and straight one;
    "smoothed both ways" smooths once more, from the lowest point back to the first, and reads that
    curve. Each is NaN where the loss does not fall, and so is slide on fewer than 16 points. Raises
    CourseError for too few points, as ``read`` does.

    valley (from ESRI), slide (A. Chang) and minimum / 10: as fastai's ``lr_find`` defines them,
    github.com/fastai/fastai, fastai/callback/schedule.py. Smoothed both ways: zero-phase filtering,
    as in scipy.signal.filtfilt (Gustafsson 1996).
    """
    lrs, losses = _finite_points(lrs, losses, skip_start, skip_end)
    steepest = _steepest(losses, skip_start, skip_end)
    if steepest is None:
        return dict.fromkeys(METHODS, math.nan)

    seen = losses[skip_start : len(losses) - skip_end]
    descent = losses[: _end_of_descent(losses, skip_start, skip_end)]
    both_ways = np.gradient(_smoothed_back(descent)[skip_start:])

    def rate(step: float) -> float:
        """Of a step that may lie between two; of the first one for a step before it."""
        return float(np.interp(step, range(len(lrs)), lrs))

    minimum = lrs[_lowest(losses, skip_start)]
    return {
        "steepest slope": rate(steepest),
        "steepest slope, lag taken off": rate(steepest - lag()),
        "steepest slope, smoothed both ways": rate(skip_start + int(both_ways.argmin())),
        "valley": rate(skip_start + _valley(seen)),
        "slide": rate(skip_start + _slide(seen)),
        "minimum / 10": minimum / 10,
        "minimum": minimum,
    }


def lag(share: float = SMOOTH) -> float:
    """How many steps a smoothed loss trails behind the loss, where that falls in a straight line.

    The mean age of what it is the mean of: Σ k · share · (1 - share)^k = (1 - share) / share.
    """
    expect("share", share, 0 < share <= 1, "above 0, and 1 at most")
    return (1 - share) / share


def _lowest(losses: list[float], skip_start: int) -> int:
    return skip_start + int(np.argmin(losses[skip_start:]))


def _steepest(losses: list[float], skip_start: int, skip_end: int) -> int | None:
    """The step of the steepest fall before the lowest point; None where there is no fall."""
    end = _end_of_descent(losses, skip_start, skip_end)
    slopes = np.gradient(np.array(losses[skip_start:end]))
    return skip_start + int(slopes.argmin()) if slopes.min() < 0 else None


def _end_of_descent(losses: list[float], skip_start: int, skip_end: int) -> int:
    """Where to stop looking: behind the lowest point, and before those that are left out."""
    behind_lowest = _lowest(losses, skip_start) + 1
    first_two = skip_start + 2  # fewer tell no slope
    return min(max(behind_lowest, first_two), len(losses) - skip_end)


def _smoothed_back(losses: list[float], share: float = SMOOTH) -> np.ndarray:
    """The mean that forgets slowly, from the last loss to the first: it runs ahead of the losses by
    as much as theirs trails behind.
    """
    total = weight = 0.0
    means = []
    for loss in reversed(losses):
        total = share * loss + (1 - share) * total
        weight = share + (1 - share) * weight
        means.append(total / weight)  # a true mean from its first loss on
    return np.array(means[::-1])


def _valley(losses: list[float]) -> int:
    """The middle of the longest fall, in which a point may be left out for being too high."""
    lengths: list[int] = []  # of the longest fall that ends at each point
    for loss in losses:
        before = [length for length, each in zip(lengths, losses, strict=False) if each > loss]
        lengths.append(1 + max(before, default=0))

    end = int(np.argmax(lengths))
    start = end - lengths[end]
    third = (end - start) / 3
    return start + int(third) + int(third / 2)


def _slide(losses: list[float], width: int = 15, alike: float = 0.005) -> float:
    """Slide a window in from the right until the slopes at its ends are alike: its left end."""
    first = len(losses) - 1 - width
    if first < 0:
        return math.nan

    slopes = np.gradient(np.array(losses))
    left = first
    while left >= 0 and abs(slopes[left + width] - slopes[left]) > alike:
        left -= 1
    return min(left + 1, first)  # the last place where they still differed


def _finite_points(
    lrs: list[float], losses: list[float], skip_start: int, skip_end: int
) -> tuple[list[float], list[float]]:
    """The points before the first loss that is NaN or infinite. Raises CourseError for too few."""
    is_finite = np.isfinite(losses)
    end = len(losses) if is_finite.all() else int(is_finite.argmin())  # the first False

    needed = _needed(skip_start, skip_end)
    if end < needed:
        raise CourseError(
            f"only {end} steps, for no more were asked for or the loss ran away: {needed} are "
            "needed to read a learning rate from. Begin lower, or take more steps."
        )
    return list(lrs[:end]), list(losses[:end])


def _needed(skip_start: int, skip_end: int) -> int:
    """Points: two between those that are left out tell whether the loss falls."""
    for name, points in (("skip_start", skip_start), ("skip_end", skip_end)):
        expect(name, points, points >= 0, "0 or more points")
    return skip_start + skip_end + 2
