"""How the learning rate moves."""

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
    """Up for ``warm_up`` of the steps, down to (nearly) zero for the rest (Smith & Topin 2017,
    arXiv:1708.07120), along half a cosine each or, with anneal="linear", straight. The momentum stays as it is.
    Step it after every batch."""
    if total_steps < 3:
        raise CourseError(
            f"one cycle needs 3 steps, not {total_steps}: train longer, or in smaller batches"
        )
    peaks = [peak_lr * group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    warm_up = max(warm_up, 2 / total_steps)  # torch divides by the steps of the way up
    return OneCycleLR(
        optimizer,
        peaks,
        total_steps,
        pct_start=warm_up,
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
    """Half a cosine from the optimizer's rate down to zero (Loshchilov & Hutter 2016, arXiv:1608.03983), after
    ``warm_up`` epochs of a straight rise from a 25th and ``flat`` epochs at the full rate."""
    rise, top, total = (round(part * steps_per_epoch) for part in (warm_up, warm_up + flat, epochs))
    if total <= top:
        raise CourseError(
            f"nothing is left of {epochs:g} epochs for the descent after {warm_up:g} of warm-up and "
            f"{flat:g} at the full rate: shorten these"
        )
    parts = {
        0: LinearLR(optimizer, 1 / 25, total_iters=rise),
        rise: ConstantLR(optimizer, 1.0),
        top: CosineAnnealingLR(optimizer, total - top),
    }  # a part of no length gives way to the next
    return SequentialLR(optimizer, list(parts.values()), list(parts)[1:])


def steps(
    optimizer: torch.optim.Optimizer,
    drops: Sequence[float],
    steps_per_epoch: int,
    warm_up: float = 0.0,
) -> ChainedScheduler:
    """A tenth of the rate after each of the epochs ``drops``, and during the first ``warm_up`` epochs
    (He et al. 2015, arXiv:1512.03385, §4.2)."""
    whole = [round(epoch * steps_per_epoch) for epoch in (warm_up, *drops)]
    return ChainedScheduler(
        [
            ConstantLR(optimizer, 0.1 if whole[0] else 1.0, total_iters=whole[0]),
            MultiStepLR(optimizer, whole[1:]),
        ]
    )


def on_plateau(
    optimizer: torch.optim.Optimizer, patience: int = 1, factor: float = 0.2
) -> ReduceLROnPlateau:
    """LR × ``factor`` once the loss watched has not fallen for more than ``patience`` epochs."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # torch's other schedules note it, too
    return ReduceLROnPlateau(optimizer, patience=patience, factor=factor)


def constant(optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The learning rate that the optimizer was made with, all the way."""
    return ConstantLR(optimizer, factor=1.0)


def trace(
    make: Callable[[torch.optim.Optimizer], LRScheduler], lr: float, steps: int
) -> list[float]:
    """The learning rate at each of ``steps`` steps of the schedule that ``make`` gives an optimizer."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates
