"""The exercises of session 3, the learning rate finder.

For each: the solution, the inputs it is tried on, and the usual mistakes with their names. The
solutions stand as they do in the notebook, so that they can be read one after the other.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from course_lib.exercises import shares
from course_lib.exercises.checker import Exercise, Unreadable, read_number
from course_lib.exercises.given import Given, expect_unchanged


def _read_numbers(result: Any, expected: int, kind: str) -> torch.Tensor:
    """As many numbers as expected, out of a list or an array. kind: their name, "rate"."""
    if isinstance(result, np.ndarray | torch.Tensor):
        if result.ndim != 1:
            raise Unreadable(
                f"it returns values of shape {tuple(result.shape)}, expected a list of numbers"
            )
        result = result.tolist()
    if not isinstance(result, list | tuple):
        raise Unreadable(f"it returns a {type(result).__name__}, expected a list of numbers")

    numbers = [_number(entry) for entry in result]
    if len(result) != expected:
        kinds = kind if len(result) == 1 else f"{kind}s"
        raise Unreadable(f"it returns {len(result)} {kinds}, expected {expected}")

    return torch.tensor(numbers, dtype=torch.float64)


def _number(entry: Any) -> float:
    try:
        if not isinstance(entry, str):
            return float(entry)
    except (TypeError, ValueError, RuntimeError):  # the last of a tensor of several
        pass
    raise Unreadable(f"the list holds a {type(entry).__name__}, expected numbers")


# --- sgd_step -----------------------------------------------------------------------------------


def sgd_step(
    weights: list[torch.Tensor],
    gradients: list[torch.Tensor],
    velocities: list[torch.Tensor],
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """One step of SGD with momentum, in place, as torch.optim.SGD makes it.

    For each tensor: g = gradient + weight_decay · weight, then v = momentum · v + g, and then
    weight = weight − lr · v, or with nesterov weight − lr · (g + momentum · v).
    velocities: the v of each tensor from the step before, zeros at first. Opens
    torch.no_grad() itself, changes weights and velocities in place, leaves gradients as they are,
    and returns nothing.
    """
    with torch.no_grad():  # a step is no part of what is differentiated
        for weight, gradient, velocity in zip(weights, gradients, velocities, strict=True):
            # a new tensor, so that the given one stays as it is
            gradient = gradient.add(weight, alpha=weight_decay)

            # older gradients fade, by the same factor at every step
            velocity.mul_(momentum).add_(gradient)

            # Nesterov looks one step ahead: once more the velocity, and the gradient in full
            step = gradient.add(velocity, alpha=momentum) if nesterov else velocity
            weight.sub_(step, alpha=lr)


class Tensors(list):
    """A list that knows which tensors it was given, and what stood in them."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        super().__init__(tensors)
        self.given = tensors
        self.at_first = [tensor.detach().clone() for tensor in tensors]

    def moved(self) -> bool:
        return not all(map(torch.equal, self.given, self.at_first))


def _weights(*values: Any) -> Tensors:
    return Tensors(*(torch.tensor(value, requires_grad=True) for value in values))


def _tensors(*values: Any) -> Tensors:
    return Tensors(*map(torch.tensor, values))


def _sgd_cases() -> list[tuple]:
    weight, gradient = _weights([2.0]), _tensors([1.0])
    at_rest, moving = _tensors([0.0]), _tensors([4.0])

    two_weights = _weights([2.0], [[1.0, -1.0]])
    two_gradients = _tensors([1.0], [[3.0, 0.5]])
    two_velocities = _tensors([4.0], [[-2.0, 1.0]])

    shapes = [(3,), (2, 3), (2, 1, 2, 2)]
    many_weights = Tensors(*(torch.randn(shape, requires_grad=True) for shape in shapes))
    many_gradients, many_velocities = (Tensors(*map(torch.randn, shapes)) for _ in range(2))

    one = (weight, gradient, moving)
    two = (two_weights, two_gradients, two_velocities)
    many = (many_weights, many_gradients, many_velocities)

    return [
        ("a velocity is left from the step before", *one, 0.5),
        ("it is the first step, so that the velocity is zero", weight, gradient, at_rest, 0.5),
        ("the learning rate is lower than a step before", *one, 0.1),
        ("momentum is not the default", *one, 0.5, 0.5),
        ("there is no momentum", *one, 0.5, 0.0),
        ("there is weight decay", weight, gradient, at_rest, 0.5, 0.0, 0.1),
        ("there are weight decay and momentum", *one, 0.5, 0.9, 0.1),
        ("nesterov is true", *one, 0.5, 0.9, 0.0, True),
        ("nesterov is true, and there is weight decay", *one, 0.5, 0.9, 0.1, True),
        ("there are two tensors", *two, 0.5),
        ("there are many numbers", *many, 0.3, 0.8, 0.05),
        ("there are many numbers, and nesterov is true", *many, 0.3, 0.8, 0.05, True),
    ]


def _read_sgd(result: Any, args: list) -> dict[str, torch.Tensor]:
    """What stands in the weights and velocities afterwards; what is returned does not count."""
    weights, gradients, velocities = args[:3]
    momentum = args[4] if len(args) > 4 else 0.9

    _expect_the_same_weights(weights)
    if gradients.moved():
        raise Unreadable(
            "it changes the gradients, which the caller may still need; gradient + … makes a new "
            "tensor, gradient += … does not"
        )
    if any(velocity.requires_grad for velocity in velocities):
        raise Unreadable(
            "the velocities are tracked by autograd, whose graph grows with every step; put the "
            "whole step under torch.no_grad()"
        )
    _expect_the_same_velocities(velocities)
    if not weights.moved():
        raise Unreadable(
            "no weight changes: change each in place, as weight -= … or weight.sub_(…) do; "
            "weight = … gives a new tensor an old name"
        )

    found = {"weights": weights} | ({"velocities": velocities} if momentum else {})
    return {
        f"in {name}[{number}]": tensor.detach().clone()
        for name, tensors in found.items()
        for number, tensor in enumerate(tensors)
    }


def _expect_the_same_weights(weights: Tensors) -> None:
    for number, given in enumerate(weights.given):
        if number >= len(weights) or weights[number] is not given:
            raise Unreadable(
                f"weights[{number}] is another tensor than before, and the network keeps the old "
                "one; change that in place, as weight -= … or weight.sub_(…) do"
            )
        if not given.requires_grad:
            raise Unreadable(
                "a weight no longer requires a gradient, so that the next backward passes it by; "
                "torch.no_grad() leaves that as it is"
            )


def _expect_the_same_velocities(velocities: Tensors) -> None:
    """A new one in the old list would do for a loop that keeps the list, and fail all others."""
    for number, given in enumerate(velocities.given):
        if number >= len(velocities) or velocities[number] is not given:
            raise Unreadable(
                f"velocities[{number}] is another tensor than before, and whoever holds the old "
                "one sees no change; change that in place, as velocity.mul_(…) and add_(…) do"
            )


SGD_STEP = Exercise(
    reference=sgd_step,
    hint="three lines for each tensor, under torch.no_grad(): gradient, velocity, weight.",
    cases=_sgd_cases,
    read=_read_sgd,
    in_place=True,
)


def _with_decay(gradient, weight, weight_decay):
    return gradient + weight_decay * weight


def _velocity(velocity, gradient, momentum):
    return momentum * velocity + gradient


def _step(gradient, velocity, momentum, nesterov):
    return gradient + momentum * velocity if nesterov else velocity


def _wrong_sgd(
    weights: list[torch.Tensor],
    gradients: list[torch.Tensor],
    velocities: list[torch.Tensor],
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    *,
    decayed: Callable = _with_decay,
    collected: Callable = _velocity,
    step: Callable = _step,
    rate: Callable = lambda lr: lr,
) -> None:
    """The step with something in it that is not the default here."""
    with torch.no_grad():
        for weight, gradient, velocity in zip(weights, gradients, velocities, strict=True):
            gradient = decayed(gradient, weight, weight_decay)
            velocity.copy_(collected(velocity, gradient, momentum))
            weight.sub_(rate(lr) * step(gradient, velocity, momentum, nesterov))


_WRONG_STEPS = [
    (
        "weight decay is left out: weight_decay · weight is added to the gradient",
        {"decayed": lambda gradient, weight, decay: gradient},
    ),
    (
        "weight decay pulls away from zero; it is added to the gradient, not subtracted",
        {"decayed": lambda gradient, weight, decay: gradient - decay * weight},
    ),
    (
        "weight decay is doubled; weight_decay · weight is added to the gradient, once",
        {"decayed": lambda gradient, weight, decay: gradient + 2 * decay * weight},
    ),
    (
        "weight_decay is added to the gradient, and the weight itself is left out of the product",
        {"decayed": lambda gradient, weight, decay: gradient + decay},
    ),
    (
        "the new gradient is multiplied by 1 − momentum, as in a running mean; here it is added "
        "in full",
        {"collected": lambda velocity, gradient, m: m * velocity + (1 - m) * gradient},
    ),
    (
        "the old velocity is not multiplied by momentum, so that it never fades",
        {"collected": lambda velocity, gradient, m: velocity + gradient},
    ),
    (
        "momentum is multiplied with the gradient; it belongs to the old velocity",
        {"collected": lambda velocity, gradient, m: velocity + m * gradient},
    ),
    (
        "momentum and 1 − momentum are exchanged, and the gradient is to be added in full",
        {"collected": lambda velocity, gradient, m: (1 - m) * velocity + m * gradient},
    ),
    (
        "the earlier gradients are forgotten: the velocity is the new gradient alone",
        {"collected": lambda velocity, gradient, m: gradient},
    ),
    (
        "the step goes uphill: it is to be subtracted from the weight",
        {"rate": lambda lr: -lr},
    ),
    (
        "the learning rate is left out of the step",
        {"rate": lambda lr: 1.0},
    ),
    (
        "nesterov is ignored, or takes the old velocity, which comes to the same: with it the step "
        "is g + momentum · v, with the new v",
        {"step": lambda gradient, velocity, m, nesterov: velocity},
    ),
    (
        "every step is Nesterov's; without nesterov the step is v alone",
        {"step": lambda gradient, velocity, m, nesterov: gradient + m * velocity},
    ),
    (
        "nesterov is the other way round: with it the step is g + momentum · v, without it v",
        {
            "step": lambda gradient, velocity, m, nesterov: _step(
                gradient, velocity, m, not nesterov
            )
        },
    ),
    (
        "Nesterov's step lacks the gradient: it is g + momentum · v",
        {"step": lambda gradient, velocity, m, nesterov: velocity * (m if nesterov else 1)},
    ),
    (
        "Nesterov's step lacks the momentum: it is g + momentum · v",
        {"step": lambda gradient, velocity, m, nesterov: velocity + gradient * nesterov},
    ),
    (
        "the velocity is built, but the step is the gradient alone",
        {"step": lambda gradient, velocity, m, nesterov: gradient},
    ),
]

for _cause, _difference in _WRONG_STEPS:
    SGD_STEP.mistake(_cause)(partial(_wrong_sgd, **_difference))


def _wrong_order(cause: str) -> Callable:
    """Decorator for what is done with one tensor, in another order than the right one."""

    def note(change: Callable) -> Callable:
        @SGD_STEP.mistake(cause)
        def _(weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False):
            with torch.no_grad():
                for tensors in zip(weights, gradients, velocities, strict=True):
                    change(*tensors, lr, momentum, weight_decay, nesterov)

        return change

    return note


_RATE_INSIDE = (
    "the learning rate is inside the velocity; torch multiplies it in at the step, so that a new "
    "rate holds for older gradients, too"
)
_DECAY_BEHIND = (
    "the weight decay comes behind the velocity; it belongs to the gradient, which then goes into "
    "the velocity"
)
_VELOCITIES_STAY = (
    "the velocities stay as they were: velocity = … gives a new tensor an old name; change each in "
    "place, as velocity.mul_(…) and add_(…) do"
)


@_wrong_order(_RATE_INSIDE)
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    gradient = lr * _with_decay(gradient, weight, weight_decay)
    velocity.mul_(momentum).add_(gradient)
    weight.sub_(_step(gradient, velocity, momentum, nesterov))


@_wrong_order(_RATE_INSIDE)
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    gradient = lr * _with_decay(gradient, weight, weight_decay)
    velocity.mul_(momentum).sub_(gradient)
    weight.add_(_step(-gradient, velocity, momentum, nesterov))


@_wrong_order(_RATE_INSIDE)
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    velocity.mul_(momentum).add_(lr * _with_decay(gradient, weight, weight_decay))
    weight.sub_(velocity)


@_wrong_order(_RATE_INSIDE)
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    velocity.mul_(momentum).sub_(lr * _with_decay(gradient, weight, weight_decay))
    weight.add_(velocity)


@_wrong_order("the learning rate is multiplied in twice, into the velocity and at the step")
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    gradient = lr * _with_decay(gradient, weight, weight_decay)
    velocity.mul_(momentum).add_(gradient)
    weight.sub_(lr * _step(gradient, velocity, momentum, nesterov))


@_wrong_order("the velocity has the opposite sign: v = momentum · v + g")
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    gradient = _with_decay(gradient, weight, weight_decay)
    velocity.mul_(momentum).sub_(gradient)
    weight.add_(lr * _step(-gradient, velocity, momentum, nesterov))


@_wrong_order(_DECAY_BEHIND)
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    velocity.mul_(momentum).add_(gradient)
    weight.mul_(1 - lr * weight_decay)
    weight.sub_(lr * _step(gradient, velocity, momentum, nesterov))


@_wrong_order(_DECAY_BEHIND)
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    velocity.mul_(momentum).add_(gradient)
    weight.sub_(lr * _step(gradient, velocity, momentum, nesterov))
    weight.mul_(1 - lr * weight_decay)


@_wrong_order("Nesterov's step takes the gradient without its decay")
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    velocity.mul_(momentum).add_(_with_decay(gradient, weight, weight_decay))
    weight.sub_(lr * _step(gradient, velocity, momentum, nesterov))


@_wrong_order("Nesterov's step is kept as the velocity; it is for this step only")
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    gradient = _with_decay(gradient, weight, weight_decay)
    velocity.mul_(momentum).add_(gradient)
    velocity.copy_(_step(gradient, velocity, momentum, nesterov))
    weight.sub_(lr * velocity)


@_wrong_order(_VELOCITIES_STAY)
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    gradient = _with_decay(gradient, weight, weight_decay)
    velocity = momentum * velocity + gradient
    weight.sub_(lr * _step(gradient, velocity, momentum, nesterov))


@_wrong_order("momentum is left out: no velocity is built, and the step is the gradient alone")
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    weight.sub_(lr * _with_decay(gradient, weight, weight_decay))


@_wrong_order("the step is made with the velocity from before this gradient; update it first")
def _(weight, gradient, velocity, lr, momentum, weight_decay, nesterov):
    gradient = _with_decay(gradient, weight, weight_decay)
    weight.sub_(lr * _step(gradient, velocity, momentum, nesterov))
    velocity.mul_(momentum).add_(gradient)


@SGD_STEP.mistake("only the first tensor makes a step: the return stands inside the loop")
def _(weights, gradients, velocities, *rest):
    sgd_step(weights[:1], gradients[:1], velocities[:1], *rest)


@SGD_STEP.mistake(
    "a weight that requires a gradient may not be changed in place while autograd watches; put the "
    "step under torch.no_grad()"
)
def _(weights, gradients, velocities, lr, *rest):
    weights[0].sub_(lr * gradients[0])  # raises what every change of a weight raises


@SGD_STEP.mistake(
    "weights, gradients and velocities are lists: take one tensor of each at a time, in a loop "
    "over zip(weights, gradients, velocities)"
)
def _(weights, *rest):
    0.5 * weights  # raises what a list raises under any number with a point


_WITHOUT_GRAD = "the tensors have no .grad here; the gradients are given beside them"


@SGD_STEP.mistake(_WITHOUT_GRAD)
def _(weights, gradients, velocities, *rest):
    weights[0].grad + 0 * weights[0]


@SGD_STEP.mistake(_WITHOUT_GRAD)
def _(weights, gradients, velocities, *rest):
    velocities[0].add_(weights[0].grad)


# --- range_rates --------------------------------------------------------------------------------


def range_rates(start: float, end: float, steps: int) -> list[float]:
    """The learning rates of an exponential range test: the same factor from each to the next.

    start, end: the first and the last rate, above 0. steps: how many rates, 2 or more.
    """
    gaps = steps - 1  # between the rates

    return [start * (end / start) ** (step / gaps) for step in range(steps)]


def _range_cases() -> list[tuple]:
    return [
        ("there are two rates", 1.0, 100.0, 2),
        ("there are three rates", 1.0, 100.0, 3),
        ("start is not 1", 2.0, 32.0, 5),
        ("the rates are not whole numbers", 0.5, 3.0, 4),
        ("start is below 1 and end above it", 0.01, 10.0, 7),
        ("start is far below 1", 0.001, 10.0, 9),
        ("there are many rates", 0.1, 10.0, 100),
    ]


def _read_rates(result: Any, args: list) -> torch.Tensor:
    return _read_numbers(result, expected=args[2], kind="rate")


RANGE_RATES = Exercise(
    reference=range_rates,
    hint="between `steps` rates lie steps − 1 factors, which multiply up to end / start.",
    cases=_range_cases,
    read=_read_rates,
)


@RANGE_RATES.mistake(
    "the rate grows by the same amount at every step; in an exponential test by the same factor"
)
def _(start, end, steps):
    return np.linspace(start, end, steps)


@RANGE_RATES.mistake(
    "it never reaches the end: between `steps` rates lie steps − 1 factors, not steps"
)
def _(start, end, steps):
    return np.geomspace(start, end, steps, endpoint=False)


@RANGE_RATES.mistake("the start is missing: the first rate has been multiplied already")
def _(start, end, steps):
    return np.geomspace(start, end, steps + 1)[1:]


@RANGE_RATES.mistake(
    "it goes one step too far: note the rate first, and multiply it for the next step"
)
def _(start, end, steps):
    growth = (end / start) ** (1 / (steps - 1))
    return growth * np.geomspace(start, end, steps)


@RANGE_RATES.mistake("the rates are rounded to whole numbers")
def _(start, end, steps):
    return np.floor(np.geomspace(start, end, steps) + 1e-9)


@RANGE_RATES.mistake("the rates are rounded to whole numbers")
def _(start, end, steps):
    return np.geomspace(start, end, steps).round()


for _digits in (1, 2, 3, 4):

    @RANGE_RATES.mistake("the rates are rounded; low ones lose most of their digits by it")
    def _(start, end, steps, digits=_digits):
        return np.geomspace(start, end, steps).round(digits)


@RANGE_RATES.mistake("the start is left out of the product: it is the first rate, not 1")
def _(start, end, steps):
    return np.geomspace(1, end / start, steps)


@RANGE_RATES.mistake("the factors have to multiply up to the ratio end / start, not to the end")
def _(start, end, steps):
    return start * np.geomspace(1, end, steps)


@RANGE_RATES.mistake(
    "logspace takes the exponents of 10, not the rates; math.log10 gives them, or use geomspace"
)
def _(start, end, steps):
    return np.logspace(start, end, steps)


@RANGE_RATES.mistake(
    "logspace takes exponents of 10, and the natural logarithm gives those of e; use math.log10"
)
def _(start, end, steps):
    return np.logspace(math.log(start), math.log(end), steps)


@RANGE_RATES.mistake("the rate grows tenfold at every step, whatever end and steps are")
def _(start, end, steps):
    return start * 10.0 ** np.arange(steps)


@RANGE_RATES.mistake("the whole factor at every step; end / start is for all steps together")
def _(start, end, steps):
    return start * (end / start) ** np.arange(float(steps))


@RANGE_RATES.mistake(
    "the factor is divided by the number of steps; factors multiply, so take a root"
)
def _(start, end, steps):
    return start * (end / start / (steps - 1)) ** np.arange(float(steps))


@RANGE_RATES.mistake("the rates run backwards, from the end to the start")
def _(start, end, steps):
    return np.geomspace(end, start, steps)


@RANGE_RATES.mistake(
    "the last rate is missing: after many products it is a hair above `end`, so `while lr <= end` "
    "stops before it; count the rates instead"
)
def _(start, end, steps):
    growth = (end / start) ** (1 / (steps - 1))
    rates = []
    while start <= end:
        rates.append(start)
        start = start * growth
    return rates


# --- smooth -------------------------------------------------------------------------------------


def smooth(losses: list[float], share: float = 0.05) -> list[float]:
    """A mean that forgets slowly: share · new loss + (1 − share) · last smoothed one.

    losses: one or more, left as they are. share: above 0, up to 1. Returns as many as it is given,
    the first of them as it is.
    """
    smoothed = [losses[0]]  # not zero, which the first losses would have to climb away from

    for loss in losses[1:]:
        last = smoothed[-1]
        smoothed.append(share * loss + (1 - share) * last)

    return smoothed


def _smooth_cases() -> list[tuple]:
    three, many = Given([4.0, 2.0, 8.0]), Given((torch.rand(12) * 5).tolist())

    return [
        ("there is one loss", Given([4.0])),
        ("there are two losses", Given([4.0, 2.0]), 0.25),
        ("there are three losses", three, 0.25),
        ("share is another one", three, 0.5),
        ("share is left at 0.05", three),
        ("share is 1, so that nothing is smoothed", three, 1.0),
        ("there are many losses", many, 0.1),
        ("there are many losses", many),
    ]


def _read_smoothed(result: Any, args: list) -> torch.Tensor:
    expect_unchanged(args[0], "losses")
    return _read_numbers(result, expected=len(args[0]), kind="value")


SMOOTH = Exercise(
    reference=smooth,
    hint="begin with the first loss as it is; every other one is mixed with the last of your list.",
    cases=_smooth_cases,
    read=_read_smoothed,
)


def _smoothed(losses: Sequence[float], first: float, old: float, new: float) -> list[float]:
    smoothed = [first]
    for loss in losses[1:]:
        smoothed.append(old * smoothed[-1] + new * loss)
    return smoothed


@SMOOTH.mistake("the shares are exchanged: the new loss has `share`, the last one 1 − share")
def _(losses, share=0.05):
    return smooth(losses, 1 - share)


@SMOOTH.mistake(
    "`share` is that of the new loss, 0.05 by default; here the last one has it, and 0.95"
)
def _(losses, share=0.95):
    return smooth(losses, 1 - share)


@SMOOTH.mistake("it begins at zero; the first smoothed loss is the first loss as it is")
def _(losses, share=0.05):
    return _smoothed(losses, share * losses[0], 1 - share, share)


@SMOOTH.mistake("it begins at zero; the first smoothed loss is the first loss as it is")
def _(losses, share=0.05):
    return _smoothed(losses, 0.0, 1 - share, share)


@SMOOTH.mistake(
    "it is corrected for the bias of a beginning at zero, as Adam does; begin at the first loss"
)
def _(losses, share=0.05):
    from_zero = _smoothed(losses, share * losses[0], 1 - share, share)
    weights = 1 - (1 - share) ** np.arange(1, len(losses) + 1)
    return np.array(from_zero) / weights


@SMOOTH.mistake("it begins at the mean of all losses; at the first step only one is known")
def _(losses, share=0.05):
    first = share * losses[0] + (1 - share) * sum(losses) / len(losses)
    return _smoothed(losses, first, 1 - share, share)


@SMOOTH.mistake("it is the mean of all losses so far, in which old ones count as much as new ones")
def _(losses, share=0.05):
    return np.cumsum(losses) / np.arange(1, len(losses) + 1)


@SMOOTH.mistake("the new loss is mixed with the loss before, not the last smoothed one")
def _(losses, share=0.05):
    before = np.array([losses[0], *losses[:-1]])
    return share * np.array(losses) + (1 - share) * before


@SMOOTH.mistake("the last smoothed one is kept in full; its share is 1 − share")
def _(losses, share=0.05):
    return _smoothed(losses, losses[0], 1, share)


@SMOOTH.mistake("the new loss is added in full; its share is `share`")
def _(losses, share=0.05):
    return _smoothed(losses, losses[0], 1 - share, 1)


@SMOOTH.mistake("it runs from the end to the start, so that a loss is mixed with later ones")
def _(losses, share=0.05):
    return smooth(losses[::-1], share)[::-1]


@SMOOTH.mistake("the list comes back as it was")
def _(losses, share=0.05):
    return list(losses)


@SMOOTH.mistake("it stays at the first loss: the new ones have no share in it")
def _(losses, share=0.05):
    return losses[:1] * len(losses)


# --- steepest -----------------------------------------------------------------------------------


def steepest(
    lrs: list[float], losses: list[float], skip_start: int = 10, skip_end: int = 5
) -> float:
    """The rate at which the loss falls fastest from step to step, before its lowest point.

    lrs, losses: of an exponential test, left as they are. The first skip_start points are noise and
    the last skip_end, which may be 0, divergence: they suggest nothing. A fall lies between two
    points: the rate of either will do, and so will np.gradient, which takes both neighbours.
    """
    lowest = skip_start + int(np.argmin(losses[skip_start:]))
    end = min(lowest + 1, len(losses) - skip_end)  # behind it the loss jumps up and down

    slopes = np.gradient(losses[skip_start:end])
    return lrs[skip_start + int(slopes.argmin())]  # the most negative one


def _steepest_cases() -> list[tuple]:
    plain = _curve(5, 0.1, 0.3, 1.2, 1.4, 0.2, 0.1, -0.5)
    early = _curve(9, 0.1, 0.9, 0.8, 0.1, 0.2, 1.4, 1.5, 0.2, 0.1, -0.5)
    high = _curve(12, 0.1, 2.5, 2.4, 0.2, 0.1, 1.5, 1.7, 0.1, -0.5)
    rising = _curve(3, -1.9, -2.0, 0.1, 0.9, 1.3, 1.5, 0.9, 0.4, -0.3)
    behind = _curve(5, 0.1, 0.3, 1.2, 1.4, 0.2, -2.0, -2.5, 1.8, 1.9, -0.3, -2.0)
    begins = _curve(12, 2.8, 3.0, 0.1, 0.2, 1.2, 1.4, 0.2, 0.1, -0.5)
    ends = _curve(12, 0.1, 0.2, 1.2, 1.4, 0.2, 0.1, 0.1, 0.1, 2.5, 2.6)
    low_start = _curve(5, 3.0, -3.5, 0.1, 0.3, 1.2, 1.4, 0.2, 0.1, -0.5)
    sudden = _curve(9, 0.1, 1.1, 0.8, 0.1, 0.2, 1.4, 1.6, -0.5, -0.6, -0.4)

    noise = [2.0, -2.5, 1.8] * 3
    long = _curve(20, *noise, 0.2, 0.1, 0.3, 1.2, 1.4, 0.3, 0.1, -0.5, -0.8, 3.5, 3.4, -2.0)

    return [
        ("the loss falls and begins to rise", *plain, 0, 1),
        ("an earlier, smaller fall lies between closer rates", *early, 0, 1),
        ("a later, smaller fall begins at a lower loss", *high, 0, 1),
        ("the loss rises faster than it falls", *rising, 0, 1),
        ("a steeper fall lies behind the lowest point", *behind, 0, 1),
        ("a steeper fall lies in the points that skip_start leaves out", *begins, 3, 1),
        ("a steeper fall lies in the points that skip_end leaves out", *ends, 0, 3),
        ("the lowest loss of all is one of those that skip_start leaves out", *low_start, 2, 1),
        ("the steepest fall ends at the lowest point", *sudden, 0, 2),
        ("skip_end is 0", *plain, 1, 0),
        ("skip_start is 2", *plain, 2, 1),
        ("both skips are left at their defaults", *long),
    ]


def _curve(first: float, *falls: float) -> tuple[Given, Given]:
    """Rates that double at every step, and losses that fall so far from each to the next."""
    rates = 2.0 ** np.arange(len(falls) + 1)
    losses = first - np.cumsum([0.0, *falls])
    return Given(rates.tolist()), Given(losses.round(6).tolist())


def _read_steepest(result: Any, args: list) -> float:
    """The reference's rate for both ends of the steepest fall, and for what lies between them."""
    for given, name in zip(args, ("lrs", "losses"), strict=False):
        expect_unchanged(given, name)

    lrs, losses, skip_start, skip_end = [*args, 10, 5][:4] if len(args) == 2 else args
    rate = read_number(result, args)

    expected = steepest(lrs, losses, skip_start, skip_end)
    place = lrs.index(expected)
    falls_behind = losses[place + 1] - losses[place] < losses[place] - losses[place - 1]
    ends = lrs[place : place + 2] if falls_behind else lrs[place - 1 : place + 1]

    return expected if ends[0] * 0.999 <= rate <= ends[1] * 1.001 else rate


STEEPEST = Exercise(
    reference=steepest,
    hint="cut the list to the points that count, take its slopes, and mind where the cut began.",
    cases=_steepest_cases,
    read=_read_steepest,
)


def _before_the_lowest(losses: Sequence[float], skip_start: int, skip_end: int) -> slice:
    lowest = skip_start + int(np.argmin(losses[skip_start:]))
    return slice(skip_start, min(lowest + 1, len(losses) - skip_end))


def _falls_to_the_next(values: Sequence[float]) -> np.ndarray:
    return np.diff(values)


def _falls_from_the_last(values: Sequence[float]) -> np.ndarray:
    return np.diff(values, prepend=values[:1])


def _wrong_steepest(
    lrs: list[float],
    losses: list[float],
    skip_start: int = 10,
    skip_end: int = 5,
    *,
    fall: Callable,
    kept: Callable = _before_the_lowest,
    slopes: Callable = lambda fall, losses, lrs: fall(losses),
    pick: Callable = np.argmin,
    give: Callable = lambda place, begin, lrs, losses, fall: lrs[begin + place],
) -> float:
    """The reading with something in it that is not the default here.

    fall: how a slope is taken, from one neighbour or from both.
    """
    part = kept(losses, skip_start, skip_end)
    place = int(pick(slopes(fall, losses[part], lrs[part])))
    return give(place, part.start, lrs, losses, fall)


_WRONG_READINGS = [
    (
        "it falls fastest for each unit of the rate; count it for each step, for the rates lie "
        "further and further apart",
        {"slopes": lambda fall, losses, lrs: fall(losses) / _gaps(fall, lrs)},
    ),
    (
        "it falls fastest as a share of itself, in logarithms of the loss; take the losses as "
        "they are",
        {"slopes": lambda fall, losses, lrs: fall(np.log(losses))},
    ),
    (
        "it is where the loss rises fastest: a fall is a negative slope, so look for the smallest",
        {"pick": np.argmax},
    ),
    (
        "the slope is taken without its sign, so that a rise counts as a fall",
        {"pick": lambda slopes: np.abs(slopes).argmax()},
    ),
    (
        "skip_start is ignored: the first points are noise",
        {
            "kept": lambda losses, skip_start, skip_end: slice(
                0, _before_the_lowest(losses, skip_start, skip_end).stop
            )
        },
    ),
    (
        "skip_end is ignored: the last points are divergence",
        {"kept": lambda losses, skip_start, skip_end: _before_the_lowest(losses, skip_start, 0)},
    ),
    (
        "both skips are ignored: the first points are noise, the last ones divergence",
        {"kept": lambda losses, skip_start, skip_end: _before_the_lowest(losses, 0, 0)},
    ),
    (
        "the fall lies behind the lowest point, where the loss jumps up and down; look before it",
        {"kept": lambda losses, skip_start, skip_end: slice(skip_start, len(losses) - skip_end)},
    ),
    (
        "the place of the lowest point counts from skip_start, too; add skip_start before you cut",
        {
            "kept": lambda losses, skip_start, skip_end: slice(
                skip_start,
                max(skip_start + 2, int(np.argmin(losses[skip_start:])) + 1),
            )
        },
    ),
    (
        "the lowest point is looked for among the points that skip_start leaves out, too; they are "
        "noise",
        {
            "kept": lambda losses, skip_start, skip_end: slice(
                skip_start, min(int(np.argmin(losses)) + 1, len(losses) - skip_end)
            )
        },
    ),
    (
        "skip_end is cut off in front of the lowest point; it counts from the end of the list",
        {
            "kept": lambda losses, skip_start, skip_end: slice(
                skip_start, skip_start + int(np.argmin(losses[skip_start:])) + 1 - skip_end
            )
        },
    ),
    (
        "the place in the cut list counts from skip_start; add skip_start to it",
        {"give": lambda place, begin, lrs, losses, fall: lrs[place]},
    ),
    (
        "it returns the step, not the rate there",
        {"give": lambda place, begin, lrs, losses, fall: begin + place},
    ),
    (
        "it returns the loss, not the rate there",
        {"give": lambda place, begin, lrs, losses, fall: losses[begin + place]},
    ),
    (
        "it returns the slope, not the rate there",
        {"give": lambda place, begin, lrs, losses, fall: fall(losses)[begin + place]},
    ),
]


def _gaps(fall: Callable, lrs: Sequence[float]) -> np.ndarray:
    return np.maximum(fall(lrs), 1e-9)  # none in front of the first


for _cause, _difference in _WRONG_READINGS:
    for _fall in (np.gradient, _falls_to_the_next, _falls_from_the_last):
        STEEPEST.mistake(_cause)(partial(_wrong_steepest, fall=_fall, **_difference))


for _fall in (np.gradient, np.diff):

    @STEEPEST.mistake("it returns the slope, not the rate there")
    def _(lrs, losses, skip_start=10, skip_end=5, *, fall=_fall):
        return fall(losses[_before_the_lowest(losses, skip_start, skip_end)]).min()


@STEEPEST.mistake(_WRONG_READINGS[0][0])
def _(lrs, losses, skip_start=10, skip_end=5):
    part = _before_the_lowest(losses, skip_start, skip_end)
    return lrs[skip_start + np.gradient(losses[part], lrs[part]).argmin()]


for _fall in (np.gradient, _falls_to_the_next):

    @STEEPEST.mistake(
        "it looks for a slope above 0, and gives the first rate where there is none: a fall is a "
        "negative slope"
    )
    def _(lrs, losses, skip_start=10, skip_end=5, *, fall=_fall):
        part = _before_the_lowest(losses, skip_start, skip_end)
        slopes = fall(losses[part])
        return lrs[skip_start + int(slopes.argmax() if slopes.max() > 0 else 0)]


_MINUS_ZERO = (
    "a slice [a:-0] is empty, and skip_end may be 0; cut up to len(losses) - skip_end instead"
)


@STEEPEST.mistake(_MINUS_ZERO)
def _(lrs, losses, skip_start=10, skip_end=5):
    np.argmin(losses[skip_start:-skip_end])
    return steepest(lrs, losses, skip_start, skip_end)


@STEEPEST.mistake(_MINUS_ZERO)
def _(lrs, losses, skip_start=10, skip_end=5):
    min(losses[skip_start:-skip_end])
    return steepest(lrs, losses, skip_start, skip_end)


@STEEPEST.mistake(_MINUS_ZERO)
def _(lrs, losses, skip_start=10, skip_end=5):
    np.gradient(losses[skip_start:-skip_end])
    return steepest(lrs, losses, skip_start, skip_end)


@STEEPEST.mistake(_MINUS_ZERO)
def _(lrs, losses, skip_start=10, skip_end=5):
    np.array(losses[skip_start:-skip_end]).argmin()
    return steepest(lrs, losses, skip_start, skip_end)


def _lowest(losses: Sequence[float], skip_start: int, skip_end: int) -> int:
    return skip_start + int(np.argmin(losses[skip_start : len(losses) - skip_end]))


def _lowest_behind(losses: Sequence[float], skip_start: int, skip_end: int) -> int:
    return skip_start + int(np.argmin(losses[skip_start:]))


def _lowest_of_all(losses: Sequence[float], skip_start: int, skip_end: int) -> int:
    return int(np.argmin(losses))


for _where in (_lowest, _lowest_behind, _lowest_of_all):

    @STEEPEST.mistake(
        "it is the rate of the lowest loss, which is the edge of divergence; look for the steepest "
        "fall"
    )
    def _(lrs, losses, skip_start=10, skip_end=5, *, where=_where):
        return lrs[where(losses, skip_start, skip_end)]

    @STEEPEST.mistake(
        "it is a tenth of the rate of the lowest loss, which is another method; look for the "
        "steepest fall"
    )
    def _(lrs, losses, skip_start=10, skip_end=5, *, where=_where):
        return lrs[where(losses, skip_start, skip_end)] / 10


@STEEPEST.mistake("it is the rate of the highest loss; look for the steepest fall")
def _(lrs, losses, skip_start=10, skip_end=5):
    highest = max(losses[skip_start : len(losses) - skip_end])
    return lrs[losses.index(highest)]


# --- take_off_lag -------------------------------------------------------------------------------


def take_off_lag(rate: float, share: float, start: float, end: float, steps: int) -> float:
    """The rate that an exponential test had as many steps earlier as its smoothing trails.

    The smoothed loss trails by (1 − share) / share steps, which need not be a whole number. rate:
    one of the test's. start, end, steps: of the test, as in range_rates. Never below start.
    """
    lag = (1 - share) / share  # steps
    growth = (end / start) ** (1 / (steps - 1))  # from each rate to the next

    return max(start, rate / growth**lag)


def _lag_cases() -> list[tuple]:
    return [
        ("the lag is 1 step", 8.0, 0.5, 1.0, 16.0, 5),
        ("the lag is 3 steps", 16.0, 0.25, 1.0, 16.0, 5),
        ("the lag is a tenth of a step", 8.0, 1 / 1.1, 1.0, 16.0, 5),
        ("share is 1, so that there is no lag", 8.0, 1.0, 1.0, 16.0, 5),
        ("start is not 1", 24.0, 0.5, 3.0, 48.0, 5),
        ("the lag is 1.5 steps", 8.0, 0.4, 1.0, 16.0, 5),
        ("the lag is 1.7 steps", 8.0, 1 / 2.7, 1.0, 16.0, 5),
        ("the lag reaches back beyond the start", 2.0, 0.25, 1.0, 16.0, 5),
        ("the lag reaches back beyond a start that is not 1", 6.0, 0.25, 3.0, 48.0, 5),
        ("there are 100 steps", 50.0, 0.05, 0.1, 100.0, 100),
        ("there are 50 steps", 50.0, 0.05, 0.1, 100.0, 50),
        ("the end is another one", 50.0, 0.05, 0.1, 1000.0, 100),
    ]


def _read_rate(result: Any, args: list) -> torch.Tensor:
    """As a tensor, in which the last digits, of rates in float32, do not count."""
    return torch.tensor(read_number(result, args), dtype=torch.float64)


TAKE_OFF_LAG = Exercise(
    reference=take_off_lag,
    hint="a step earlier is the rate divided by the factor between two neighbours, once for each.",
    cases=_lag_cases,
    read=_read_rate,
)


def _lag(share: float) -> float:
    return (1 - share) / share


def _growth(start: float, end: float, steps: int) -> float:
    return (end / start) ** (1 / (steps - 1))


def _wrong_lag(
    rate: float,
    share: float,
    start: float,
    end: float,
    steps: int,
    *,
    lag: Callable = _lag,
    growth: Callable = _growth,
    bounded: Callable = max,
) -> float:
    """The rate with something in it that is not the default here."""
    return bounded(start, rate / growth(start, end, steps) ** lag(share))


def _half_life(share: float) -> float:
    return math.log(0.5) / math.log(1 - share) if share < 1 else 0.0


_WRONG_LAGS = [
    (
        "it goes to a later rate: the smoothed loss trails, so the fall itself was earlier",
        {"lag": lambda share: -_lag(share)},
    ),
    (
        "it goes to a later rate: the smoothed loss trails, so the fall itself was earlier",
        {"lag": lambda share: -_lag(share), "bounded": lambda start, rate: rate},
    ),
    (
        "the lag is taken to be 1 / share; it is (1 − share) / share, a step less",
        {"lag": lambda share: 1 / share},
    ),
    (
        "the lag is upside down: it is (1 − share) / share",
        {"lag": lambda share: share / (1 - share) if share < 1 else math.inf},
    ),
    (
        "the lag is taken to be 1 − share; that has to be divided by share",
        {"lag": lambda share: 1 - share},
    ),
    (
        "the lag is rounded to whole steps; it may lie between two",
        {"lag": lambda share: int(_lag(share))},
    ),
    (
        "the lag is rounded to whole steps; it may lie between two",
        {"lag": lambda share: round(_lag(share))},
    ),
    (
        "it is the lag after which half of a loss is forgotten; asked for is (1 − share) / share",
        {"lag": _half_life},
    ),
    (
        "one step is taken off, whatever share is",
        {"lag": lambda share: 1},
    ),
    (
        "19 steps are taken off, whatever share is; 19 is the lag of a share of 0.05",
        {"lag": lambda share: 19},
    ),
    (
        "one of the steps is not taken off: the lag is (1 − share) / share",
        {"lag": lambda share: _lag(share) - 1},
    ),
    (
        "between `steps` rates lie steps − 1 factors, not steps",
        {"growth": lambda start, end, steps: (end / start) ** (1 / steps)},
    ),
    (
        "the start is left out of the ratio: the factors multiply up to end / start",
        {"growth": lambda start, end, steps: end ** (1 / (steps - 1))},
    ),
    (
        "the rate falls tenfold for every step, whatever start, end and steps are",
        {"growth": lambda start, end, steps: 10},
    ),
    (
        "end / start is taken for one step; the factor of a step is its root, "
        "(end / start) ** (1 / (steps − 1)), brackets included",
        {"growth": lambda start, end, steps: end / start},
    ),
    (
        "end / start is taken for one step; the factor of a step is its root, "
        "(end / start) ** (1 / (steps − 1)), brackets included",
        {"growth": lambda start, end, steps: end / start ** (1 / (steps - 1))},
    ),
    (
        "it may fall below start, where there was no test; max(start, …) keeps it there",
        {"bounded": lambda start, rate: rate},
    ),
    (
        "min takes the lower of start and the rate; the higher one is asked for",
        {"bounded": min},
    ),
    (
        "the start is added to the rate; it is its lowest value",
        {"bounded": lambda start, rate: start + rate},
    ),
]

for _cause, _difference in _WRONG_LAGS:
    TAKE_OFF_LAG.mistake(_cause)(partial(_wrong_lag, **_difference))


@TAKE_OFF_LAG.mistake(
    "the same amount is subtracted for every step; in an exponential test divide by the same factor"
)
def _(rate, share, start, end, steps):
    return max(start, rate - _lag(share) * (end - start) / (steps - 1))


@TAKE_OFF_LAG.mistake(
    "the rate is divided by the lag itself; divide by the factor of a step, once for each step"
)
def _(rate, share, start, end, steps):
    return max(start, rate / _lag(share)) if share < 1 else rate / 1e-9


@TAKE_OFF_LAG.mistake(
    "the factor of a step is multiplied by the lag; divide by it once for each step: factor ** lag"
)
def _(rate, share, start, end, steps):
    return max(start, rate / (_growth(start, end, steps) * _lag(share))) if share < 1 else rate


@TAKE_OFF_LAG.mistake(
    "between two steps the rate is read off a straight line; it is divided by a part of the factor"
)
def _(rate, share, start, end, steps):
    place = math.log(rate / start) / math.log(_growth(start, end, steps))
    return np.interp(place - _lag(share), np.arange(steps), np.geomspace(start, end, steps))


@TAKE_OFF_LAG.mistake("the rate is multiplied with the share; the lag is a number of steps")
def _(rate, share, start, end, steps):
    return max(start, rate * share)


@TAKE_OFF_LAG.mistake("the rate comes back as it was")
def _(rate, share, start, end, steps):
    return rate


@TAKE_OFF_LAG.mistake("it returns the lag, not the rate that lies so many steps earlier")
def _(rate, share, start, end, steps):
    return _lag(share)


@TAKE_OFF_LAG.mistake("it returns the factor, not the rate divided by it")
def _(rate, share, start, end, steps):
    return _growth(start, end, steps) ** _lag(share)


# --- cycle_momentum -----------------------------------------------------------------------------


def cycle_momentum(
    step: int,
    total_steps: int,
    warm_up: float = 0.2,
    highest: float = 0.95,
    lowest: float = 0.85,
) -> float:
    """Momentum of one cycle: straight down while the rate rises, straight up while it falls.

    step: 0..total_steps − 1. The momentum is the highest at step 0, the lowest at the rate's peak,
    step warm_up · total_steps − 1 (not rounded, so perhaps between two steps), and the highest at
    the last step again. Source: torch's OneCycleLR with anneal_strategy="linear".
    """
    peak_step = warm_up * total_steps - 1
    last_step = total_steps - 1

    if step <= peak_step:
        part = step / peak_step  # of the way down, 0 to 1
        return highest + (lowest - highest) * part

    part = (step - peak_step) / (last_step - peak_step)  # of the way back up
    return lowest + (highest - lowest) * part


def _momentum_cases() -> list[tuple]:
    between = "the rate's peak falls between two steps"
    others = "warm_up, highest and lowest are not the defaults"

    return [
        ("the cycle begins", 0, 10),
        ("the rate has its peak, at step 0.2 · 10 − 1 = 1", 1, 10),
        ("the last step comes", 9, 10),
        ("the rate falls", 5, 10),
        ("the rate rises", 1, 20),
        ("the cycle begins, and highest is not the default", 0, 10, 0.2, 1.0),
        ("the rate has its peak, and lowest is not the default", 1, 10, 0.2, 0.95, 0.5),
        ("warm_up is not the default", 5, 10, 0.7),
        *[(between, step, 13) for step in range(13)],
        *[(others, step, 7, 0.5, 1.0, 0.0) for step in range(7)],
    ]


CYCLE_MOMENTUM = Exercise(
    reference=cycle_momentum,
    hint="on a straight line from a to b, a share `part` of the way lies at a + (b − a) · part.",
    cases=_momentum_cases,
    read=read_number,
)


def _wrong_momentum(
    step: int,
    total_steps: int,
    warm_up: float = 0.2,
    highest: float = 0.95,
    lowest: float = 0.85,
    *,
    down: Callable = shares.line,
    up: Callable = shares.line,
    late: int = 0,
    end_late: int = 0,
    rounded: Callable = float,
    ends: Callable = lambda highest, lowest: (highest, lowest, highest),
) -> float:
    """The cycle with something in it that is not the default here.

    ends: the momentum at the first step, at the rate's peak and at the last step.
    """
    first, middle, last = ends(highest, lowest)
    peak_step = rounded(warm_up * total_steps - 1 + late)
    last_step = total_steps - 1 + end_late

    if step <= peak_step:
        return first + (middle - first) * down(step / peak_step)
    return middle + (last - middle) * up((step - peak_step) / (last_step - peak_step))


_WRONG_MOMENTA = [
    (
        "it moves in the same direction as the rate; it goes down while the rate rises",
        {"ends": lambda highest, lowest: (lowest, highest, lowest)},
    ),
    (
        "it never comes back up: at the last step it is the highest again",
        {"ends": lambda highest, lowest: (highest, lowest, lowest)},
    ),
    (
        "it stays at the highest, whatever the step is",
        {"ends": lambda highest, lowest: (highest, highest, highest)},
    ),
    (
        "it stays at the lowest, whatever the step is",
        {"ends": lambda highest, lowest: (lowest, lowest, lowest)},
    ),
    (
        "the lowest point comes one step late: steps count from 0, so it lies at "
        "warm_up · total_steps − 1",
        {"late": 1},
    ),
    (
        "the end comes one step late: steps count from 0, so the last one is total_steps − 1",
        {"end_late": 1},
    ),
    (
        "the lowest point and the end come one step late: steps count from 0, so subtract 1 from "
        "both",
        {"late": 1, "end_late": 1},
    ),
    (
        "the step of the lowest point is rounded; it may lie between two steps",
        {"rounded": int},
    ),
    (
        "the step of the lowest point is rounded; it may lie between two steps",
        {"rounded": round},
    ),
    (
        "the step of the lowest point is rounded; it may lie between two steps",
        {"rounded": math.ceil},
    ),
    (
        "it follows half a cosine on either way, as torch's does by default; here both ways are "
        "straight lines",
        {"down": shares.half_cosine, "up": shares.half_cosine},
    ),
    (
        "the way down follows half a cosine; it is a straight line",
        {"down": shares.half_cosine},
    ),
    (
        "the way up follows half a cosine; it is a straight line",
        {"up": shares.half_cosine},
    ),
    (
        "the way down is run backwards, from the lowest to the highest",
        {"down": shares.backwards},
    ),
    (
        "the way up is run backwards, from the highest to the lowest",
        {"up": shares.backwards},
    ),
]

for _cause, _difference in _WRONG_MOMENTA:
    CYCLE_MOMENTUM.mistake(_cause)(partial(_wrong_momentum, **_difference))


def _between(share: float, highest: float, lowest: float) -> float:
    """The lowest at 0, the highest at 1."""
    return lowest + (highest - lowest) * share


@CYCLE_MOMENTUM.mistake("the lowest point lies half way; it lies at the rate's peak")
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    half = (total_steps - 1) / 2
    return _between(abs(step - half) / half, highest, lowest)


@CYCLE_MOMENTUM.mistake("there is no way down: it rises from the first step to the last")
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    return _between(step / (total_steps - 1), highest, lowest)


@CYCLE_MOMENTUM.mistake("there is no way back up: it falls from the first step to the last")
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    return _between(1 - step / (total_steps - 1), highest, lowest)


@CYCLE_MOMENTUM.mistake(
    "behind the lowest point it jumps to the highest; the way up is a line, too"
)
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    if step <= warm_up * total_steps - 1:
        return cycle_momentum(step, total_steps, warm_up, highest, lowest)
    return highest


@CYCLE_MOMENTUM.mistake(
    "the lowest point lies at warm_up · (total_steps − 1); multiply first, it is at "
    "warm_up · total_steps − 1"
)
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    last_step = total_steps - 1
    corners = [0, warm_up * last_step, last_step]
    return np.interp(step, corners, [highest, lowest, highest])


@CYCLE_MOMENTUM.mistake("the way up is measured from step 0; it is counted from the lowest point")
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    if step <= warm_up * total_steps - 1:
        return cycle_momentum(step, total_steps, warm_up, highest, lowest)
    return _between(step / (total_steps - 1), highest, lowest)


@CYCLE_MOMENTUM.mistake(
    "the way up is divided by the steps of the whole cycle; from the lowest point to the end there "
    "are fewer"
)
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    peak_step = warm_up * total_steps - 1
    if step <= peak_step:
        return cycle_momentum(step, total_steps, warm_up, highest, lowest)
    return _between((step - peak_step) / (total_steps - 1), highest, lowest)


@CYCLE_MOMENTUM.mistake(
    "warm_up, a share of the steps, 0.2, is compared with the step itself; multiply it by "
    "total_steps"
)
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    if step <= warm_up:
        return _between(1 - step / warm_up, highest, lowest)
    return _between((step - warm_up) / (total_steps - 1 - warm_up), highest, lowest)


@CYCLE_MOMENTUM.mistake(
    "it is measured by the rate, which begins at peak_lr / 25 and not at zero, so that it begins "
    "below the highest"
)
def _(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    corners = [0, warm_up * total_steps - 1, total_steps - 1]
    rate = np.interp(step, corners, [1 / 25, 1, 1 / 25 / 1e4])
    return _between(1 - rate, highest, lowest)


# --- plateau ------------------------------------------------------------------------------------


def plateau(
    val_losses: list[float], lr: float, patience: int = 0, factor: float = 0.2
) -> list[float]:
    """The rate after each epoch, cut where the validation loss falls no more.

    An epoch is bad if its loss is not below the best so far. Once more than `patience` bad epochs
    have come in a row, the rate is multiplied by factor, and their count begins anew.
    val_losses: one per epoch, left as they are. lr: the rate of the first epoch. Source: torch's
    ReduceLROnPlateau with threshold=0.
    """
    best, bad_epochs = math.inf, 0
    rates = []

    for loss in val_losses:
        if loss < best:
            best, bad_epochs = loss, 0
        else:
            bad_epochs += 1

        if bad_epochs > patience:
            lr = lr * factor
            bad_epochs = 0  # the lower rate gets its time as well

        rates.append(lr)

    return rates


def _plateau_cases() -> list[tuple]:
    waves = Given([5.0, 4.0, 4.5, 4.2, 3.0, 3.5, 3.5, 3.2, 3.1, 2.9, 3.3, 3.3])
    long = Given((torch.rand(30) * 3 + 1).tolist())

    return [
        ("there is one epoch", Given([2.0]), 1.0),
        ("the loss falls", Given([2.0, 1.0]), 1.0),
        ("the loss rises", Given([1.0, 2.0]), 1.0),
        ("the loss stays as it is", Given([2.0, 2.0]), 1.0),
        ("the loss falls by very little", Given([1.0, 0.99995]), 1.0),
        ("the loss falls, but not below the best", Given([1.0, 3.0, 2.0]), 1.0),
        ("the loss falls below the best after a cut", Given([2.0, 3.0, 1.0, 0.5]), 1.0),
        ("there is patience for one epoch", Given([1.0, 2.0]), 1.0, 1),
        ("there is patience for one epoch, and two are bad", Given([1.0, 2.0, 2.0]), 1.0, 1),
        ("a better epoch lies between two bad ones", Given([3.0, 4.0, 2.0, 3.0]), 1.0, 1),
        ("there has been a cut, and patience is 1", Given([1.0, 2.0, 2.0, 2.0, 2.0]), 1.0, 1),
        ("factor is not the default", Given([1.0, 2.0]), 1.0, 0, 0.5),
        ("there are several cuts", Given([1.0, 2.0, 2.0]), 1.0, 0, 0.5),
        ("lr is not 1", Given([1.0, 2.0]), 3.0),
        ("the loss goes up and down", waves, 1.0),
        ("the loss goes up and down, and patience is 1", waves, 1.0, 1),
        ("the loss goes up and down, and patience is 2", waves, 1.0, 2),
        ("there are many epochs", long, 4.0, 2, 0.6),
    ]


def _read_plateau(result: Any, args: list) -> torch.Tensor:
    expect_unchanged(args[0], "val_losses")
    return _read_numbers(result, expected=len(args[0]), kind="rate")


PLATEAU = Exercise(
    reference=plateau,
    hint="keep two things from epoch to epoch: the best loss, and how many bad epochs in a row.",
    cases=_plateau_cases,
    read=_read_plateau,
)


def _wrong_plateau(
    val_losses: list[float],
    lr: float,
    patience: int = 0,
    factor: float = 0.2,
    *,
    best: Callable = lambda losses: math.inf,
    is_better: Callable = lambda loss, best: loss < best,
    keep: Callable = min,
    is_due: Callable = lambda bad, patience: bad > patience,
    cut: Callable = lambda lr, first, factor: lr * factor,
    after_a_cut: Callable = lambda bad: 0,
    best_after_a_cut: Callable = lambda loss, best: best,
    after_a_better_one: Callable = lambda bad: 0,
) -> list[float]:
    """The schedule with something in it that is not the default here."""
    first, lowest, bad = lr, best(val_losses), 0
    rates = []

    for loss in val_losses:
        bad = after_a_better_one(bad) if is_better(loss, lowest) else bad + 1
        lowest = keep(loss, lowest)
        if is_due(bad, patience):
            lr = cut(lr, first, factor)
            bad = after_a_cut(bad)
            lowest = best_after_a_cut(loss, lowest)
        rates.append(lr)
    return rates


_WRONG_PLATEAUS = [
    (
        "a loss as low as the best counts as better; it has to lie below it",
        {"is_better": lambda loss, best: loss <= best},
    ),
    (
        "a fall of less than a 10,000th counts as none, as torch has it by default; here every "
        "fall counts",
        {"is_better": lambda loss, best: loss < best * (1 - 1e-4)},
    ),
    (
        "a fall of less than a 10,000th counts as none, as torch has it by default; here every "
        "fall counts",
        {"is_better": lambda loss, best: loss < best - 1e-4},
    ),
    (
        "a higher loss counts as better; the lower, the better",
        {
            "best": lambda losses: -math.inf,
            "is_better": lambda loss, best: loss > best,
            "keep": max,
        },
    ),
    (
        "the loss is compared with that of the epoch before, not with the best so far",
        {"keep": lambda loss, best: loss},
    ),
    (
        "the best begins at zero, which no loss falls below; begin at math.inf",
        {"best": lambda losses: 0.0},
    ),
    (
        "the first epoch counts as bad: no loss lies below itself; begin at math.inf",
        {"best": lambda losses: losses[0]},
    ),
    (
        "it cuts an epoch late: more than `patience` bad epochs are enough",
        {"is_due": lambda bad, patience: bad > patience + 1},
    ),
    (
        "it cuts an epoch early: `patience` bad epochs are allowed",
        {"is_due": lambda bad, patience: bad > 0 and bad >= patience},
    ),
    (
        "it cuts as soon as there are `patience` bad epochs, with patience 0 after good ones, too; "
        "more than `patience` are needed",
        {"is_due": lambda bad, patience: bad >= patience},
    ),
    (
        "the best so far is forgotten at a cut; it stays the best",
        {"best_after_a_cut": lambda loss, best: math.inf},
    ),
    (
        "the best so far is forgotten at a cut; it stays the best",
        {"best_after_a_cut": lambda loss, best: loss},
    ),
    (
        "the count of bad epochs goes on after a cut, so that every further bad epoch cuts again; "
        "let it begin anew",
        {"after_a_cut": lambda bad: bad},
    ),
    (
        "the count of bad epochs goes on after a better one; only those in a row count",
        {"after_a_better_one": lambda bad: bad},
    ),
    (
        "each cut begins at the first rate again; multiply the rate that there is",
        {"cut": lambda lr, first, factor: first * factor},
    ),
    (
        "the rate is divided by factor, which raises it; multiply by it",
        {"cut": lambda lr, first, factor: lr / factor},
    ),
    (
        "the share `factor` is taken off the rate; it is what is left of it",
        {"cut": lambda lr, first, factor: lr * (1 - factor)},
    ),
    (
        "factor is subtracted from the rate; multiply by it",
        {"cut": lambda lr, first, factor: lr - factor},
    ),
    (
        "the rate is never cut",
        {"cut": lambda lr, first, factor: lr},
    ),
]

for _cause, _difference in _WRONG_PLATEAUS:
    PLATEAU.mistake(_cause)(partial(_wrong_plateau, **_difference))


@PLATEAU.mistake("it gives the rates before the epochs; a cut shows in the epoch that causes it")
def _(val_losses, lr, *rest):
    return [lr, *plateau(val_losses, lr, *rest)[:-1]]


@PLATEAU.mistake("the rate goes back up once the loss falls again; a cut stays")
def _(val_losses, lr, patience=0, factor=0.2):
    best, bad, rates = math.inf, 0, []
    for loss in val_losses:
        bad = 0 if loss < best else bad + 1
        best = min(best, loss)
        rates.append(lr * factor if bad > patience else lr)
    return rates


EXERCISES = [
    SGD_STEP,
    RANGE_RATES,
    SMOOTH,
    STEEPEST,
    TAKE_OFF_LAG,
    CYCLE_MOMENTUM,
    PLATEAU,
]
