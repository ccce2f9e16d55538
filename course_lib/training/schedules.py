"""How the learning rate moves. Each is stepped after every batch, ``on_plateau`` after every epoch.

Every parameter group keeps its ratio to the others. ``trace`` gives the rate of any step.
"""

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

from course_lib.files import CourseError


def one_cycle(
    optimizer: torch.optim.Optimizer,
    peak_lr: float,
    total_steps: int,
    warm_up: float = 0.2,
    anneal: str = "cos",
) -> OneCycleLR:
    """Up for the share ``warm_up`` of the steps, then down to (nearly) zero.

    From peak / 25 to the peak to peak / 250,000 (Smith & Topin 2017, arXiv:1708.07120), along half
    a cosine each or, with anneal="linear", straight. The momentum stays as it is.
    """
    if total_steps < 3:
        raise CourseError(
            f"one cycle needs 3 steps, not {total_steps}: train longer, or in smaller batches"
        )

    peaks = [peak_lr * group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        peaks,
        total_steps,
        pct_start=max(warm_up, 2 / total_steps),  # torch divides by the steps of the way up
        div_factor=25,
        final_div_factor=1e4,
        cycle_momentum=False,
        anneal_strategy=anneal,
    )


def cosine(
    optimizer: torch.optim.Optimizer,
    epochs: float,
    steps_per_epoch: int,
    warm_up: float = 0.0,
    flat: float = 0.0,
) -> SequentialLR:
    """lr · (1 + cos πt) / 2 for t from 0 to 1 (Loshchilov & Hutter 2016, arXiv:1608.03983).

    Before it come ``warm_up`` epochs of a straight rise from lr / 25 and ``flat`` epochs at lr.
    """
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
    down = CosineAnnealingLR(optimizer, total - top)

    begins = {0: up, rise: stay, top: down}  # a part of no length gives way to the next
    return SequentialLR(optimizer, list(begins.values()), list(begins)[1:])


def steps(
    optimizer: torch.optim.Optimizer,
    drops: Sequence[float],
    steps_per_epoch: int,
    warm_up: float = 0.0,
) -> ChainedScheduler:
    """A tenth of the rate after each of the epochs ``drops``, and during the first ``warm_up``.

    As in He et al. 2015, arXiv:1512.03385, §4.2.
    """
    low = round(warm_up * steps_per_epoch)
    falls = [round(epoch * steps_per_epoch) for epoch in drops]

    begin = ConstantLR(optimizer, 0.1 if low else 1.0, total_iters=low)
    return ChainedScheduler([begin, MultiStepLR(optimizer, falls, gamma=0.1)])


def on_plateau(
    optimizer: torch.optim.Optimizer, patience: int = 1, factor: float = 0.2
) -> ReduceLROnPlateau:
    """lr · ``factor`` once the validation loss has not fallen for more than ``patience`` epochs."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # torch's other schedules note it, too
    return ReduceLROnPlateau(optimizer, patience=patience, factor=factor)


def constant(optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The learning rate that the optimizer was made with, all the way."""
    return ConstantLR(optimizer, factor=1.0)


def trace(
    make: Callable[[torch.optim.Optimizer], LRScheduler], lr: float, steps: int
) -> list[float]:
    """The rate of each of ``steps`` steps, under the schedule that ``make`` gives an optimizer."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    scheduler = make(optimizer)

    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates
