"""How the learning rate moves. Each is stepped after every batch, ``on_plateau`` after every epoch.

Every parameter group keeps its ratio to the others. ``trace`` gives the rate of any step. Each
raises CourseError for a setting that is out of range.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from course_lib.checks import expect
from course_lib.files import CourseError


def one_cycle(
    optimizer: torch.optim.Optimizer,
    peak_lr: float,
    total_steps: int,
    warm_up: float = 0.2,
    anneal: str = "cos",
    momentum: tuple[float, float] | None = None,
    ends_at: float = 1 / 250_000,
) -> OneCycleLR:
    """Up for the share ``warm_up`` (below 1) of the steps, then down to (nearly) zero.

    From peak / 25 to the peak to peak / 250,000 (Smith & Topin 2017, arXiv:1708.07120), along half
    a cosine each or, with anneal="linear", straight. momentum: (highest, lowest) of its own cycle,
    the other way round: lowest where the rate is highest; Adam's is its beta1. None: it stays as it
    is. ends_at: the last rate, as a share of the peak. Raises CourseError for fewer than 3 steps,
    too.
    """
    expect("peak_lr", peak_lr, peak_lr > 0, "a rate above 0")
    expect("warm_up", warm_up, 0 <= warm_up < 1, "a share of the training, from 0 to below 1")
    highest, lowest = momentum or (0, 0)
    falls = 0 <= lowest <= highest < 1
    expect("momentum", momentum, falls, "None, or (highest, lowest), from 0 to below 1")
    expect("ends_at", ends_at, 0 < ends_at <= 1, "a share of the peak, above 0 and up to 1")
    if total_steps < 3:
        raise CourseError(
            f"one cycle needs 3 steps, not {total_steps}: train longer, or in smaller batches"
        )

    peaks = [peak_lr * group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        peaks,
        int(total_steps),
        pct_start=max(warm_up, 2 / total_steps),  # torch divides by the steps of the way up
        div_factor=25,
        final_div_factor=1 / (25 * ends_at),  # torch counts it from the first rate, peak / 25
        cycle_momentum=momentum is not None,
        max_momentum=highest,
        base_momentum=lowest,
        anneal_strategy=anneal,
    )


def cosine(
    optimizer: torch.optim.Optimizer,
    epochs: float,
    steps_per_epoch: int,
    warm_up: float = 0.0,
    flat: float = 0.0,
    floor: float = 0.0,
) -> SequentialLR:
    """lr · (1 + cos πt) / 2 for t from 0 to 1 (Loshchilov & Hutter 2016, arXiv:1608.03983).

    Before it come ``warm_up`` epochs of a straight rise from lr / 25 and ``flat`` epochs at lr.
    floor: the rate that every group ends at, instead of zero. Raises CourseError where nothing is
    left of the epochs for the descent, too.
    """
    lowest = min(group["lr"] for group in optimizer.param_groups)
    expect("warm_up", warm_up, warm_up >= 0, "0 or more epochs")
    expect("flat", flat, flat >= 0, "0 or more epochs")
    expect("floor", floor, 0 <= floor <= lowest, f"0 to the optimizer's rate, {lowest:g}")

    rise = round(warm_up * steps_per_epoch)
    top = round((warm_up + flat) * steps_per_epoch)
    total = round(epochs * steps_per_epoch)
    if total <= top:
        raise CourseError(
            f"nothing is left of {epochs:g} epochs for the descent after {warm_up:g} of warm-up "
            f"and {flat:g} at the full rate: shorten these"
        )

    up = LinearLR(optimizer, 1 / 25, total_iters=rise)
    stay = ConstantLR(optimizer, 1.0)
    down = CosineAnnealingLR(optimizer, total - top, eta_min=floor)

    # by the step that each begins at: of two that begin together the first has no length, and goes
    begins = {0: up}
    begins[rise] = stay
    begins[top] = down

    _, *milestones = begins
    return SequentialLR(optimizer, list(begins.values()), milestones)


def steps(
    optimizer: torch.optim.Optimizer,
    drops: Sequence[float],
    steps_per_epoch: int,
    warm_up: float = 0.0,
    factor: float = 0.1,
) -> ChainedScheduler:
    """lr · ``factor`` after each of the epochs ``drops``; lr / 10 in the first ``warm_up`` epochs.

    As in He et al. 2015, arXiv:1512.03385, §4.2.
    """
    expect("drops", list(drops), all(epoch > 0 for epoch in drops), "epochs, each above 0")
    expect("warm_up", warm_up, warm_up >= 0, "0 or more epochs")
    expect("factor", factor, 0 < factor < 1, "above 0 and below 1")

    low = round(warm_up * steps_per_epoch)
    falls = [round(epoch * steps_per_epoch) for epoch in drops]

    begin = ConstantLR(optimizer, 0.1 if low else 1.0, total_iters=low)
    return ChainedScheduler([begin, MultiStepLR(optimizer, falls, gamma=factor)])


def on_plateau(
    optimizer: torch.optim.Optimizer, patience: int = 1, factor: float = 0.2
) -> ReduceLROnPlateau:
    """lr · ``factor`` once the validation loss has not fallen for more than ``patience`` epochs."""
    expect("patience", patience, patience >= 0, "0 or more epochs")
    expect("factor", factor, 0 < factor < 1, "above 0 and below 1")

    # noted, as torch's other schedules do: by it a checkpoint knows its training after a cut, too
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return ReduceLROnPlateau(optimizer, patience=patience, factor=factor)


def constant(optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The learning rate that the optimizer was made with, all the way."""
    return ConstantLR(optimizer, factor=1.0)


def steps_left(scheduler: LRScheduler) -> float:
    """How many more steps a schedule is meant for; inf where it has no end.

    After its end a cosine climbs again, and one cycle raises.
    """
    if isinstance(scheduler, ChainedScheduler):
        return min(steps_left(part) for part in scheduler._schedulers)

    length = _length(scheduler)
    return length if length == math.inf else length - scheduler.last_epoch


def _length(scheduler: LRScheduler) -> float:
    if isinstance(scheduler, OneCycleLR):
        return scheduler.total_steps
    if isinstance(scheduler, CosineAnnealingLR):
        return scheduler.T_max + 1  # the bottom may be stood on for a step
    if isinstance(scheduler, SequentialLR):
        begins = [0, *scheduler._milestones]
        return begins[-1] + _length(scheduler._schedulers[-1])
    return math.inf


def trace(
    make: Callable[[torch.optim.Optimizer], LRScheduler], lr: float, steps: int
) -> list[float]:
    """The rate of each of ``steps`` steps, under the schedule that ``make`` gives an optimizer.

    Raises CourseError for ``on_plateau``, whose rates follow from a training.
    """
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    scheduler = make(optimizer)

    if isinstance(scheduler, ReduceLROnPlateau):
        raise CourseError(
            "trace: a schedule on a plateau falls with the validation loss, which only a training "
            'has: take the "lr" of its history instead'
        )

    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates
