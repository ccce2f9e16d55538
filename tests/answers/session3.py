"""Answers to the exercises of session 3."""

import math
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR, ReduceLROnPlateau

from answers import right, wrong

# --- sgd_step -----------------------------------------------------------------------------------


@right("sgd_step")
def of_torch_with_its_state(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    sgd = torch.optim.SGD(weights, lr, momentum, weight_decay=weight_decay, nesterov=nesterov)
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        w.grad = g
        if momentum:
            sgd.state[w]["momentum_buffer"] = v
    sgd.step()


@right("sgd_step")
def through_data_by_index(ws, gs, vs, lr, momentum=0.9, weight_decay=0.0, nesterov=False):
    for i in range(len(ws)):
        g = gs[i] + weight_decay * ws[i].data
        vs[i] *= momentum
        vs[i] += g
        ws[i].data -= lr * (g + momentum * vs[i] if nesterov else vs[i])


@right("sgd_step")
@torch.no_grad()
def decorated_and_copied(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        if weight_decay != 0:
            g = g + w * weight_decay
        v.copy_(v * momentum + g)
        if nesterov:
            g = g + v * momentum
        else:
            g = v
        w.copy_(w - g * lr)


@right("sgd_step")
def all_at_once(weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False):
    with torch.no_grad():
        pulls = torch._foreach_add(gradients, weights, alpha=weight_decay)
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, pulls)
        steps = torch._foreach_add(pulls, velocities, alpha=momentum) if nesterov else velocities
        torch._foreach_sub_(weights, steps, alpha=lr)


@right("sgd_step")
def in_numpys_arrays(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for weight, gradient, velocity in zip(weights, gradients, velocities, strict=True):
        w, v = weight.detach().numpy(), velocity.numpy()
        g = gradient.numpy() + weight_decay * w
        v[...] = momentum * v + g
        w -= lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", r"velocities\[0\] is another tensor than before")
def new_velocities_in_the_old_list(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
            g = g.add(w, alpha=weight_decay)
            velocities[i] = velocities[i] * momentum + g
            w.sub_(lr * (g + momentum * velocities[i] if nesterov else velocities[i]))
    return weights, velocities


@right("sgd_step")
def without_a_velocity_where_there_is_no_momentum(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    if momentum > 0:
        return decorated_and_copied(
            weights, gradients, velocities, lr, momentum, weight_decay, nesterov
        )
    for w, g in zip(weights, gradients, strict=True):
        w.data = w.data - lr * (g + weight_decay * w.data)


def step(
    *,
    pull=lambda g, w, decay: g + decay * w,
    collect=lambda v, g, m, lr: m * v + g,
    move=lambda w, v, g, lr, m, nesterov: w - lr * (g + m * v if nesterov else v),
):
    """Steps beside the right one: gradient with decay, then velocity, then weight."""

    def answer(weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False):
        with torch.no_grad():
            for w, g, v in zip(weights, gradients, velocities, strict=True):
                g = pull(g, w, weight_decay)
                v.copy_(collect(v, g, momentum, lr))
                w.copy_(move(w, v, g, lr, momentum, nesterov))

    return answer


def wrong_step(cause, **how):
    wrong("sgd_step", cause)(step(**how))


wrong_step("weight decay is left out", pull=lambda g, w, decay: g)
wrong_step("decay pulls away from zero", pull=lambda g, w, decay: g - decay * w)
wrong_step("weight decay is doubled", pull=lambda g, w, decay: g + 2 * decay * w)
wrong_step("weight itself is left out", pull=lambda g, w, decay: g + decay)
wrong_step("1 − momentum", collect=lambda v, g, m, lr: m * v + (1 - m) * g)
wrong_step("never fades", collect=lambda v, g, m, lr: v + g)
wrong_step("momentum is multiplied with the gradient", collect=lambda v, g, m, lr: v + m * g)
wrong_step("exchanged", collect=lambda v, g, m, lr: (1 - m) * v + m * g)
wrong_step("earlier gradients are forgotten", collect=lambda v, g, m, lr: g)
wrong_step("uphill", move=lambda w, v, g, lr, m, n: w + lr * (g + m * v if n else v))
wrong_step("learning rate is left out", move=lambda w, v, g, lr, m, n: w - (g + m * v if n else v))
wrong_step("nesterov is ignored", move=lambda w, v, g, lr, m, n: w - lr * v)
wrong_step("every step is Nesterov's", move=lambda w, v, g, lr, m, n: w - lr * (g + m * v))
wrong_step("other way round", move=lambda w, v, g, lr, m, n: w - lr * (v if n else g + m * v))
wrong_step("lacks the gradient", move=lambda w, v, g, lr, m, n: w - lr * (m * v if n else v))
wrong_step("lacks the momentum", move=lambda w, v, g, lr, m, n: w - lr * (g + v if n else v))
wrong_step("velocity is built, but", move=lambda w, v, g, lr, m, n: w - lr * g)


def inside(sign):
    """The velocity has the learning rate in it, and this sign."""
    return step(
        collect=lambda v, g, m, lr: m * v + sign * lr * g,
        move=lambda w, v, g, lr, m, n: w - lr * g - sign * m * v if n else w - sign * v,
    )


wrong("sgd_step", "rate is inside the velocity")(inside(1))


@wrong("sgd_step", "rate is inside the velocity")
def as_in_sutskevers_paper(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        g = g + weight_decay * w.data
        v.data = momentum * v - lr * g
        w.data += momentum * v - lr * g if nesterov else v


@wrong("sgd_step", "learning rate is multiplied in twice")
def rate_inside_and_outside(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        g = (g + weight_decay * w.data) * lr
        v *= momentum
        v += g
        w.data -= lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", "velocity has the opposite sign")
def velocity_downhill(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        g = g + weight_decay * w.data
        v.mul_(momentum).sub_(g)
        w.data.add_(momentum * v - g if nesterov else v, alpha=lr)


@wrong("sgd_step", "behind the velocity")
def decay_at_the_step(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for w, g, v in zip(weights, gradients, velocities, strict=True):
            v.mul_(momentum).add_(g)
            w -= lr * ((g + momentum * v if nesterov else v) + weight_decay * w)


@wrong("sgd_step", "behind the velocity")
def decoupled_as_in_adamw(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for w, g, v in zip(weights, gradients, velocities, strict=True):
            w *= 1 - lr * weight_decay
            v.mul_(momentum).add_(g)
            w -= lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", "behind the velocity")
def decayed_after_the_step(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for w, g, v in zip(weights, gradients, velocities, strict=True):
            v.mul_(momentum).add_(g)
            w -= lr * (g + momentum * v if nesterov else v)
            w *= 1 - lr * weight_decay


@wrong("sgd_step", "Nesterov's step takes the gradient without its decay")
def nesterov_without_decay(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        v.mul_(momentum).add_(g).add_(w.data, alpha=weight_decay)
        w.data -= lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", "Nesterov's step is kept as the velocity")
def nesterov_in_the_velocity(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        g = g + weight_decay * w.data
        v.mul_(momentum).add_(g)
        if nesterov:
            v.mul_(momentum).add_(g)
        w.data -= lr * v


@wrong("sgd_step", "velocities stay as they were")
def velocity_under_a_new_name(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for w, g, v in zip(weights, gradients, velocities, strict=True):
            g = g + weight_decay * w
            v = momentum * v + g
            w -= lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", "no weight changes")
def weight_under_a_new_name(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for w, g, v in zip(weights, gradients, velocities, strict=True):
            g = g + weight_decay * w
            v.mul_(momentum).add_(g)
            w = w - lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", "no weight changes")
def new_weights_returned(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    return [
        w - lr * (momentum * v + g) for w, g, v in zip(weights, gradients, velocities, strict=True)
    ]


@wrong("sgd_step", r"weights\[0\] is another tensor than before")
def new_weights_in_the_old_list(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for i in range(len(weights)):
        velocities[i] = momentum * velocities[i] + gradients[i] + weight_decay * weights[i].data
        weights[i] = weights[i] - lr * velocities[i]


@wrong("sgd_step", "momentum is left out")
def plain_descent(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for w, g in zip(weights, gradients, strict=True):
            w -= lr * (g + weight_decay * w)


@wrong("sgd_step", "velocity from before this gradient")
def velocity_too_late(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        g = g + weight_decay * w.data
        w.data -= lr * (g + momentum * v if nesterov else v)
        v.mul_(momentum).add_(g)


@wrong("sgd_step", "only the first tensor")
def return_inside_the_loop(weights, gradients, velocities, *rest):
    return decorated_and_copied(weights[:1], gradients[:1], velocities[:1], *rest)


@wrong("sgd_step", "changes the gradients")
def decay_into_the_gradient(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        g += weight_decay * w.data
        v.mul_(momentum).add_(g)
        w.data -= lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", "changes the gradients")
def gradients_used_up(weights, gradients, *rest):
    decorated_and_copied(weights, gradients, *rest)
    for g in gradients:
        g.zero_()


@wrong("sgd_step", r"torch.no_grad\(\)")
def without_no_grad(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        g = g + weight_decay * w.detach()
        v.mul_(momentum).add_(g)
        w -= lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", r"torch.no_grad\(\)")
def without_no_grad_and_sub(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        v.mul_(momentum).add_(g + weight_decay * w)
        w.sub_(v, alpha=lr)


@wrong("sgd_step", "velocities are tracked by autograd")
def velocities_with_a_history(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        g = g + weight_decay * w
        v.mul_(momentum).add_(g)
        w.data -= lr * (g + momentum * v if nesterov else v)


@wrong("sgd_step", "no longer requires a gradient")
def weights_frozen(weights, *rest):
    for w in weights:
        w.requires_grad = False
    decorated_and_copied(weights, *rest)


@wrong("sgd_step", "the tensors have no .grad here")
def gradients_of_the_tensors(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for w, v in zip(weights, velocities, strict=True):
            v.mul_(momentum).add_(w.grad + weight_decay * w)
            w -= lr * v


@wrong("sgd_step", "velocities stay as they were")
def torchs_with_a_state_of_its_own(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    sgd = torch.optim.SGD(weights, lr, momentum, weight_decay=weight_decay, nesterov=nesterov)
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        w.grad, sgd.state[w]["momentum_buffer"] = g, v.clone()
    sgd.step()


@wrong("sgd_step", "default of `momentum` is 0.0, expected 0.9")
def defaults_of_torch(
    weights, gradients, velocities, lr, momentum=0.0, weight_decay=0.0, nesterov=False
):
    through_data_by_index(weights, gradients, velocities, lr, momentum, weight_decay, nesterov)


@wrong("sgd_step", "are lists: take one tensor of each")
def lists_as_if_they_were_tensors(
    weights, gradients, velocities, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    velocities = momentum * velocities + gradients
    weights -= lr * velocities


@wrong("sgd_step", "does not come to an end")
def pops_nothing(weights, gradients, velocities, lr, *rest):
    left = len(weights)
    while left > 0:
        lr = lr / 2


@wrong("sgd_step", "rate is inside the velocity")
def classical_without_nesterov(ws, gs, vs, lr, momentum=0.9, weight_decay=0.0, nesterov=False):
    for i in range(len(ws)):
        vs[i] *= momentum
        vs[i] -= lr * (gs[i] + weight_decay * ws[i].data)
        ws[i].data += vs[i]


@wrong("sgd_step", "rate is inside the velocity")
def classical_downhill_without_nesterov(
    ws, gs, vs, lr, momentum=0.9, weight_decay=0.0, nesterov=False
):
    with torch.no_grad():
        for w, g, v in zip(ws, gs, vs, strict=True):
            v.copy_(v * momentum + lr * g + lr * weight_decay * w)
            w -= v


@wrong("sgd_step", "takes the old velocity")
def nesterov_with_the_old_velocity(ws, gs, vs, lr, momentum=0.9, weight_decay=0.0, nesterov=False):
    with torch.no_grad():
        for w, g, v in zip(ws, gs, vs, strict=True):
            g = g + w * weight_decay
            old = v.clone()
            v.mul_(momentum).add_(g)
            w.sub_((g + momentum * old if nesterov else v) * lr)


@wrong("sgd_step", "are lists: take one tensor of each")
def lists_taken_for_tensors(ws, gs, vs, lr, momentum=0.9, weight_decay=0.0, nesterov=False):
    g = gs + weight_decay * ws
    vs = momentum * vs + g
    ws -= lr * vs


@wrong("sgd_step", "are lists: take one tensor of each")
def lists_taken_for_tensors_without_decay(ws, gs, vs, lr, momentum=0.9, *rest):
    vs = vs * momentum + gs
    ws -= lr * vs


# --- range_rates --------------------------------------------------------------------------------


@right("range_rates")
def of_numpy(start, end, steps):
    return np.geomspace(start, end, steps)


@right("range_rates")
def of_torch_as_logarithms(start, end, steps):
    return torch.logspace(math.log10(start), math.log10(end), steps)


@right("range_rates")
def the_rate_grows(start, end, steps):
    factor = (end / start) ** (1 / (steps - 1))
    rates = [start]
    while len(rates) < steps:
        rates.append(rates[-1] * factor)
    return tuple(rates)


@right("range_rates")
def straight_in_logarithms(first, last, number):
    exponents = np.linspace(np.log(first), np.log(last), number)
    return list(np.exp(exponents))


@right("range_rates")
def of_torchs_scheduler(start, end, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=start)
    scheduler = ExponentialLR(optimizer, gamma=(end / start) ** (1 / (steps - 1)))
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@wrong("range_rates", "same amount")
def linear(start, end, steps):
    return np.linspace(start, end, steps).tolist()


@wrong("range_rates", "same amount")
def linear_in_a_loop(start, end, steps):
    return [start + (end - start) * i / (steps - 1) for i in range(steps)]


@wrong("range_rates", "never reaches the end")
def steps_instead_of_steps_minus_1(start, end, steps):
    return [start * (end / start) ** (i / steps) for i in range(steps)]


@wrong("range_rates", "never reaches the end")
def endpoint_left_out(start, end, steps):
    return np.geomspace(start, end, steps, endpoint=False)


@wrong("range_rates", "start is missing")
def counted_from_1(start, end, steps):
    return [start * (end / start) ** (i / steps) for i in range(1, steps + 1)]


@wrong("range_rates", "one step too far")
def multiplied_before_it_is_noted(start, end, steps):
    factor, rate, rates = (end / start) ** (1 / (steps - 1)), start, []
    for _ in range(steps):
        rate *= factor
        rates.append(rate)
    return rates


@wrong("range_rates", "rounded to whole numbers")
def ints(start, end, steps):
    return [int(rate + 1e-9) for rate in np.geomspace(start, end, steps)]


@wrong("range_rates", "rounded to whole numbers")
def rounded(start, end, steps):
    return np.geomspace(start, end, steps).round()


@wrong("range_rates", "returns 3 rates, expected 2")
def numpy_of_another_length(start, end, steps):
    return np.geomspace(start, end, steps + 1)


@wrong("range_rates", "returns 1 rate, expected 2")
def all_but_the_last(start, end, steps):
    return of_numpy(start, end, steps)[:-1]


@wrong("range_rates", "exponents")
def logspace_of_the_rates(start, end, steps):
    return np.logspace(start, end, steps)


@wrong("range_rates", "natural logarithm")
def wrong_base(start, end, steps):
    return np.logspace(np.log(start), np.log(end), steps)


@wrong("range_rates", "start is left out of the product")
def from_1(start, end, steps):
    return [(end / start) ** (i / (steps - 1)) for i in range(steps)]


@wrong("range_rates", "ratio end / start")
def end_is_the_factor(start, end, steps):
    return [start * end ** (i / (steps - 1)) for i in range(steps)]


@wrong("range_rates", "tenfold")
def ten_times_a_step(start, end, steps):
    return [start * 10**i for i in range(steps)]


@wrong("range_rates", "backwards")
def from_end_to_start(start, end, steps):
    return np.geomspace(end, start, steps)


@wrong("range_rates", "divided by the number of steps")
def factor_divided(start, end, steps):
    return [start * (end / start / (steps - 1)) ** i for i in range(steps)]


@wrong("range_rates", "whole factor at every step")
def factor_undivided(start, end, steps):
    return [start * (end / start) ** i for i in range(steps)]


@wrong("range_rates", "returns a float, expected a list")
def only_the_last(start, end, steps):
    return end


@wrong("range_rates", "returns a generator, expected a list")
def a_generator(start, end, steps):
    return (rate for rate in np.geomspace(start, end, steps))


@wrong("range_rates", "returns a dict, expected a list")
def by_step(start, end, steps):
    return dict(enumerate(np.geomspace(start, end, steps)))


@wrong("range_rates", "the list holds a str, expected numbers")
def as_words(start, end, steps):
    return [f"{rate:g}" for rate in np.geomspace(start, end, steps)]


@wrong("range_rates", r"values of shape \(1, 2\)")
def a_row(start, end, steps):
    return np.geomspace(start, end, steps)[None]


@wrong("range_rates", "the list holds a NoneType, expected numbers")
def appended(start, end, steps):
    rates = []
    return [rates.append(rate) for rate in np.geomspace(start, end, steps)]


@wrong("range_rates", "the list holds a Tensor, expected numbers")
def a_list_of_tensors(start, end, steps):
    return [torch.logspace(math.log10(start), math.log10(end), steps)] * steps


@wrong("range_rates", "does not come to an end")
def never_grows(start, end, steps):
    rates, rate = [], start
    while rate < end:
        rates.append(rate)
        rate * (end / start)
    return rates


@wrong("range_rates", "it raises TypeError: 'float' object cannot be interpreted")
def range_of_floats(start, end, steps):
    return list(range(start, end, steps))


@wrong("range_rates", "are rounded; low ones")
def four_decimals(start, end, steps):
    return [round(start * (end / start) ** (i / (steps - 1)), 4) for i in range(steps)]


@wrong("range_rates", "a hair above `end`")
def while_the_end_is_not_passed(start, end, steps):
    factor = (end / start) ** (1 / (steps - 1))
    rates, rate = [], start
    while rate <= end:
        rates += [rate]
        rate *= factor
    return rates


# --- smooth -------------------------------------------------------------------------------------


@right("smooth")
def a_running_variable(losses, share=0.05):
    mean, smoothed = losses[0], []
    for loss in losses:
        mean += share * (loss - mean)
        smoothed.append(mean)
    return smoothed


@right("smooth")
def accumulated(losses, share=0.05):
    return tuple(accumulate(losses, lambda last, new: (1 - share) * last + share * new))


@right("smooth")
def of_weights_in_a_matrix(values, alpha=0.05):
    n = len(values)
    age = np.arange(n)[:, None] - np.arange(n)
    weights = np.where(age >= 0, alpha * (1 - alpha) ** np.abs(age), 0.0)
    weights[:, 0] /= alpha
    return weights @ np.array(values)


@right("smooth")
def lerped(losses, share=0.05):
    smoothed = torch.tensor(losses)
    for i in range(1, len(losses)):
        smoothed[i] = torch.lerp(smoothed[i - 1], smoothed[i], share)
    return smoothed


@right("smooth")
def last_of_the_list(losses, share=0.05):
    smoothed = []
    for loss in losses:
        if smoothed:
            loss = share * loss + (1 - share) * smoothed[-1]
        smoothed.append(np.float64(loss))
    return smoothed


def ema(losses, share, *, first=lambda loss, share: loss):
    smoothed = [first(losses[0], share)]
    for loss in losses[1:]:
        smoothed.append(share * loss + (1 - share) * smoothed[-1])
    return smoothed


@wrong("smooth", "shares are exchanged")
def shares_swapped(losses, share=0.05):
    return ema(losses, 1 - share)


@wrong("smooth", "begins at zero")
def from_zero(losses, share=0.05):
    return ema(losses, share, first=lambda loss, share: share * loss)


@wrong("smooth", "begins at zero")
def zero_is_the_first(losses, share=0.05):
    mean, smoothed = 0, []
    for loss in losses:
        mean = share * loss + (1 - share) * mean
        smoothed.append(mean)
    return smoothed


@wrong("smooth", "bias")
def bias_corrected(losses, share=0.05):
    raw = from_zero(losses, share)
    return [value / (1 - (1 - share) ** (i + 1)) for i, value in enumerate(raw)]


@wrong("smooth", "mean of all losses so far")
def mean_so_far(losses, share=0.05):
    return np.cumsum(losses) / np.arange(1, len(losses) + 1)


@wrong("smooth", "mean of all losses so far")
def mean_of_a_slice(losses, share=0.05):
    return [sum(losses[: i + 1]) / (i + 1) for i in range(len(losses))]


@wrong("smooth", "changes the list `losses`")
def in_place(losses, share=0.05):
    for i in range(1, len(losses)):
        losses[i] = share * losses[i] + (1 - share) * losses[i - 1]
    return losses


@wrong("smooth", "loss before, not the last smoothed one")
def of_two_neighbours(losses, share=0.05):
    return [losses[0]] + [share * b + (1 - share) * a for a, b in pairwise(losses)]


@wrong("smooth", "returns 1 value, expected 2")
def first_left_out(losses, share=0.05):
    return ema(losses, share)[1:] or losses


@wrong("smooth", "returns 2 values, expected 1")
def first_twice(losses, share=0.05):
    return [losses[0], *ema(losses, share)]


@wrong("smooth", "returns a float, expected a list")
def only_the_last_one(losses, share=0.05):
    return ema(losses, share)[-1]


@wrong("smooth", "last smoothed one is kept in full")
def adds_up(losses, share=0.05):
    return list(accumulate(losses, lambda last, new: last + share * new))


@wrong("smooth", "new loss is added in full")
def adds_the_new_one_in_full(losses, share=0.05):
    return list(accumulate(losses, lambda last, new: (1 - share) * last + new))


@wrong("smooth", "from the end")
def backwards(losses, share=0.05):
    return ema(losses[::-1], share)[::-1]


@wrong("smooth", "comes back as it was")
def as_they_are(losses, share=0.05):
    return list(losses)


@wrong("smooth", "stays at the first loss")
def nothing_new(losses, share=0.05):
    return [losses[0] for _ in losses]


@wrong("smooth", "default of `share` is 0.1, expected 0.05")
def another_default(losses, share=0.1):
    return ema(losses, share)


@wrong("smooth", "default of `share` is 0.95, expected 0.05")
def share_of_the_old(losses, share=0.95):
    return ema(losses, share)


@wrong("smooth", "`share` makes no difference")
def share_of_its_own(losses, share=0.05):
    return ema(losses, 0.05)


@wrong("smooth", "begins at the mean of all losses")
def from_the_mean(losses, share=0.05):
    mean, smoothed = sum(losses) / len(losses), []
    for loss in losses:
        mean = share * loss + (1 - share) * mean
        smoothed.append(mean)
    return smoothed


@wrong("smooth", "list index out of range")
def nothing_to_begin_with(losses, share=0.05):
    smoothed = []
    for loss in losses:
        smoothed.append(share * loss + (1 - share) * smoothed[-1])
    return smoothed


@wrong("smooth", "does not come to an end")
def grows_with_what_it_reads(losses, share=0.05):
    smoothed = [losses[0]]
    for last in smoothed:
        smoothed.append((1 - share) * last + share * losses[-1])
    return smoothed


@wrong("smooth", "here the last one has it, and 0.95")
def share_of_the_last(losses, share=0.95):
    mean, means = losses[0], []
    for loss in losses:
        mean = share * mean + (1 - share) * loss
        means.append(mean)
    return means


# --- steepest -----------------------------------------------------------------------------------


@right("steepest")
def with_numpys_slopes(lrs, losses, skip_start=10, skip_end=5):
    lowest = skip_start + np.argmin(losses[skip_start:])
    end = min(lowest + 1, len(losses) - skip_end)
    return lrs[skip_start + np.gradient(losses[skip_start:end]).argmin()]


@right("steepest")
def whole_slopes_cut_afterwards(lrs, losses, skip_start=10, skip_end=5):
    slopes = np.gradient(np.asarray(losses))
    kept = range(skip_start, len(losses) - skip_end)
    lowest = min(kept, key=lambda i: losses[i])
    return np.float32(lrs[min(range(skip_start, lowest), key=lambda i: slopes[i])])


@right("steepest")
def difference_to_the_next(lrs, losses, skip_start=10, skip_end=5):
    best, rate = 0, None
    lowest = losses.index(min(losses[skip_start:]))
    for i in range(skip_start, min(lowest, len(losses) - skip_end - 1)):
        if losses[i + 1] - losses[i] < best:
            best, rate = losses[i + 1] - losses[i], lrs[i]
    return rate


@right("steepest")
def difference_to_the_one_before(lrs, losses, skip_start=10, skip_end=5):
    losses = torch.tensor(losses)[: len(losses) - skip_end]
    lowest = skip_start + losses[skip_start:].argmin()
    falls = losses[skip_start : lowest + 1].diff()
    return torch.tensor(lrs)[skip_start + 1 + falls.argmin()]


@right("steepest")
def per_decade(lrs, losses, skip_start=10, skip_end=5):
    end = len(losses) - skip_end
    lrs, losses = np.array(lrs[skip_start:end]), np.array(losses[skip_start:end])
    before = losses.argmin() + 1
    return lrs[np.gradient(losses, np.log10(lrs))[:before].argmin()].item()


@right("steepest")
def middle_of_the_steepest_stretch(lrs, losses, skip_start=10, skip_end=5):
    end = min(losses.index(min(losses[skip_start:])) + 1, len(losses) - skip_end)
    i = min(range(skip_start, end - 1), key=lambda i: losses[i + 1] - losses[i])
    return math.sqrt(lrs[i] * lrs[i + 1])


def central(losses):
    return np.gradient(np.array(losses))


def forward(losses):
    return np.diff(losses)


def steepest_of(lrs, losses, begin, end, slopes=central):
    return lrs[begin + slopes(losses[begin:end]).argmin()]


def before_the_lowest(losses, skip_start, skip_end):
    return min(skip_start + np.argmin(losses[skip_start:]) + 1, len(losses) - skip_end)


@wrong("steepest", "for each unit of the rate")
def per_rate(lrs, losses, skip_start=10, skip_end=5):
    end = before_the_lowest(losses, skip_start, skip_end)
    slopes = np.gradient(losses[skip_start:end], lrs[skip_start:end])
    return lrs[skip_start + slopes.argmin()]


@wrong("steepest", "for each unit of the rate")
def per_rate_to_the_next(lrs, losses, skip_start=10, skip_end=5):
    end = before_the_lowest(losses, skip_start, skip_end)
    slopes = np.diff(losses[skip_start:end]) / np.diff(lrs[skip_start:end])
    return lrs[skip_start + slopes.argmin()]


@wrong("steepest", "rises fastest")
def argmax(lrs, losses, skip_start=10, skip_end=5):
    end = before_the_lowest(losses, skip_start, skip_end)
    return lrs[skip_start + central(losses[skip_start:end]).argmax()]


@wrong("steepest", "without its sign")
def absolute(lrs, losses, skip_start=10, skip_end=5):
    end = before_the_lowest(losses, skip_start, skip_end)
    return lrs[skip_start + np.abs(forward(losses[skip_start:end])).argmax()]


@wrong("steepest", "skip_start is ignored")
def first_points_kept(lrs, losses, skip_start=10, skip_end=5):
    return steepest_of(lrs, losses, 0, before_the_lowest(losses, skip_start, skip_end), forward)


@wrong("steepest", "skip_end is ignored")
def last_points_kept(lrs, losses, skip_start=10, skip_end=5):
    end = skip_start + np.argmin(losses[skip_start:]) + 1
    return steepest_of(lrs, losses, skip_start, end)


@wrong("steepest", "both skips are ignored")
def all_points_kept(lrs, losses, skip_start=10, skip_end=5):
    return steepest_of(lrs, losses, 0, np.argmin(losses) + 1)


@wrong("steepest", "behind the lowest point")
def up_to_the_end(lrs, losses, skip_start=10, skip_end=5):
    return steepest_of(lrs, losses, skip_start, len(losses) - skip_end)


@wrong("steepest", "behind the lowest point")
def up_to_the_end_to_the_next(lrs, losses, skip_start=10, skip_end=5):
    return steepest_of(lrs, losses, skip_start, len(losses) - skip_end, forward)


@wrong("steepest", r"\[a:-0\] is empty")
def minus_zero(lrs, losses, skip_start=10, skip_end=5):
    kept = losses[skip_start:-skip_end]
    lowest = int(np.argmin(kept))
    return lrs[skip_start + np.gradient(kept[: lowest + 1]).argmin()]


@wrong("steepest", r"\[a:-0\] is empty")
def minus_zero_in_lists(lrs, losses, skip_start=10, skip_end=5):
    lrs, losses = lrs[skip_start:-skip_end], losses[skip_start:-skip_end]
    lowest = losses.index(min(losses))
    falls = [b - a for a, b in pairwise(losses[: lowest + 1])]
    return lrs[falls.index(min(falls))]


@wrong("steepest", "counts from skip_start")
def offset_forgotten(lrs, losses, skip_start=10, skip_end=5):
    end = before_the_lowest(losses, skip_start, skip_end)
    return lrs[np.gradient(losses[skip_start:end]).argmin()]


@wrong("steepest", "the step, not the rate")
def index(lrs, losses, skip_start=10, skip_end=5):
    end = before_the_lowest(losses, skip_start, skip_end)
    return int(skip_start + np.gradient(losses[skip_start:end]).argmin())


@wrong("steepest", "the loss, not the rate")
def loss_there(lrs, losses, skip_start=10, skip_end=5):
    end = before_the_lowest(losses, skip_start, skip_end)
    return losses[skip_start + np.gradient(losses[skip_start:end]).argmin()]


@wrong("steepest", "the slope, not the rate")
def slope_there(lrs, losses, skip_start=10, skip_end=5):
    end = before_the_lowest(losses, skip_start, skip_end)
    return np.gradient(losses[skip_start:end]).min()


@wrong("steepest", "rate of the lowest loss")
def lowest_loss(lrs, losses, skip_start=10, skip_end=5):
    end = len(losses) - skip_end
    return min(zip(losses[skip_start:end], lrs[skip_start:end], strict=True))[1]


@wrong("steepest", "a tenth of the rate")
def a_tenth_of_it(lrs, losses, skip_start=10, skip_end=5):
    return lowest_loss(lrs, losses, skip_start, skip_end) / 10


@wrong("steepest", "rate of the lowest loss")
def lowest_loss_of_all(lrs, losses, skip_start=10, skip_end=5):
    return lrs[losses.index(min(losses))]


@wrong("steepest", "rate of the lowest loss")
def lowest_loss_behind_the_first_points(lrs, losses, skip_start=10, skip_end=5):
    return lrs[skip_start + torch.tensor(losses[skip_start:]).argmin()]


@wrong("steepest", "a tenth of the rate")
def a_tenth_of_the_lowest_of_all(lrs, losses, skip_start=10, skip_end=5):
    return lrs[losses.index(min(losses))] / 10


@wrong("steepest", "among the points that skip_start leaves out")
def up_to_the_lowest_of_all(lrs, losses, skip_start=10, skip_end=5):
    end = min(losses.index(min(losses)) + 1, len(losses) - skip_end)
    return steepest_of(lrs, losses, skip_start, end)


@wrong("steepest", "among the points that skip_start leaves out")
def up_to_the_lowest_of_all_to_the_next(lrs, losses, skip_start=10, skip_end=5):
    end = min(int(np.argmin(losses)) + 1, len(losses) - skip_end)
    return steepest_of(lrs, losses, skip_start, end, forward)


@wrong("steepest", "counts from the end of the list")
def skip_end_in_front_of_the_lowest(lrs, losses, skip_start=10, skip_end=5):
    lowest = losses.index(min(losses[skip_start:]))
    return steepest_of(lrs, losses, skip_start, lowest + 1 - skip_end)


@wrong("steepest", "highest loss")
def highest_loss(lrs, losses, skip_start=10, skip_end=5):
    return lrs[losses.index(max(losses[skip_start : len(losses) - skip_end]))]


@wrong("steepest", "changes the list `losses`")
def cut_in_place(lrs, losses, skip_start=10, skip_end=5):
    lrs, losses[:] = lrs[skip_start:], losses[skip_start : len(losses) - skip_end]
    losses.append(losses[-1])
    return lrs[central(losses[: np.argmin(losses) + 1]).argmin()]


@wrong("steepest", "returns a tuple, expected a number")
def rate_and_loss(lrs, losses, skip_start=10, skip_end=5):
    step = lrs.index(with_numpys_slopes(lrs, losses, skip_start, skip_end))
    return lrs[step], losses[step]


@wrong("steepest", "default of `skip_start` is 0, expected 10")
def no_skips_by_default(lrs, losses, skip_start=0, skip_end=0):
    return with_numpys_slopes(lrs, losses, skip_start, skip_end)


@wrong("steepest", "fastest as a share of itself")
def logarithms_of_the_losses(lrs, losses, skip_start=10, skip_end=5):
    return with_numpys_slopes(lrs, np.log(losses).tolist(), skip_start, skip_end)


@wrong("steepest", "does not come to an end")
def step_never_moves(lrs, losses, skip_start=10, skip_end=5):
    step = skip_start
    while losses[step] > min(losses):
        fall = losses[step + 1] - losses[step]
    return fall


@wrong("steepest", "looks for a slope above 0")
def best_slope_above_zero(lrs, losses, skip_start=10, skip_end=5):
    end = len(losses) - skip_end
    rates, losses = lrs[skip_start:end], losses[skip_start:end]
    best, at = 0, 0
    for i in range(1, losses.index(min(losses))):
        slope = (losses[i + 1] - losses[i - 1]) / 2
        if slope > best:
            best, at = slope, i
    return rates[at]


# --- take_off_lag -------------------------------------------------------------------------------


@right("take_off_lag")
def in_logarithms(rate, share, start, end, steps):
    per_step = (math.log(end) - math.log(start)) / (steps - 1)
    earlier = math.log(rate) - (1 / share - 1) * per_step
    return max(start, math.exp(earlier))


@right("take_off_lag")
def by_the_step_it_stands_at(rate, share, start, end, steps):
    ratio = end / start
    step = (steps - 1) * np.log(rate / start) / np.log(ratio)
    step = max(step - (1 - share) / share, 0)
    return start * ratio ** (step / (steps - 1))


@right("take_off_lag")
def in_torch(rate, share, start, end, steps):
    growth = torch.tensor(end / start) ** (1 / (steps - 1))
    return (rate * growth ** ((share - 1) / share)).clamp(min=start)


@right("take_off_lag")
def with_an_if(lr, alpha, low, high, n):
    factor = (high / low) ** (1 / (n - 1))
    lr /= factor ** (1 / alpha) / factor
    if lr < low:
        return low
    return np.float32(lr)


def earlier(rate, share, start, end, steps, *, lag=None, gaps=1, floor=None):
    lag = (1 - share) / share if lag is None else lag
    growth = (end / start) ** (1 / (steps - gaps))
    return max(start if floor is None else floor, rate / growth**lag)


@wrong("take_off_lag", "later")
def multiplies(rate, share, start, end, steps):
    growth = (end / start) ** (1 / (steps - 1))
    return rate * growth ** ((1 - share) / share)


@wrong("take_off_lag", "1 / share")
def one_over_the_share(*args):
    return earlier(*args, lag=1 / args[1])


@wrong("take_off_lag", "upside down")
def upside_down(*args):
    return earlier(*args, lag=args[1] / (1 - args[1]))


@wrong("take_off_lag", "1 − share")
def share_of_the_old_one(*args):
    return earlier(*args, lag=1 - args[1])


@wrong("take_off_lag", "between `steps` rates lie steps − 1")
def steps_not_steps_minus_1(*args):
    return earlier(*args, gaps=0)


@wrong("take_off_lag", "subtracted")
def straight_line(rate, share, start, end, steps):
    return max(start, rate - (1 - share) / share * (end - start) / (steps - 1))


@wrong("take_off_lag", "below start")
def no_floor(*args):
    return earlier(*args, floor=0)


@wrong("take_off_lag", "start is added")
def start_added(rate, share, start, end, steps):
    return start + earlier(rate, share, start, end, steps, floor=0)


@wrong("take_off_lag", "divided by the lag itself")
def divided_by_the_lag(rate, share, start, end, steps):
    return max(start, rate / max((1 - share) / share, 1e-9))


@wrong("take_off_lag", "whole steps")
def whole_steps(*args):
    return earlier(*args, lag=int((1 - args[1]) / args[1]))


@wrong("take_off_lag", "whole steps")
def rounded_steps(*args):
    return earlier(*args, lag=round((1 - args[1]) / args[1]))


@wrong("take_off_lag", "half")
def half_life(*args):
    return earlier(*args, lag=math.log(0.5) / math.log(1 - args[1]))


@wrong("take_off_lag", "one step is taken off")
def one_step(*args):
    return earlier(*args, lag=1)


@wrong("take_off_lag", "one of the steps is not taken off")
def one_step_short(*args):
    return earlier(*args, lag=(1 - args[1]) / args[1] - 1)


@wrong("take_off_lag", "comes back as it was")
def nothing_taken_off(rate, share, start, end, steps):
    return rate


@wrong("take_off_lag", "tenfold")
def ten_times_a_step_here(rate, share, start, end, steps):
    return max(start, rate / 10 ** ((1 - share) / share))


@wrong("take_off_lag", "start is left out of the ratio")
def ratio_without_start(rate, share, start, end, steps):
    return max(start, rate / end ** ((1 - share) / share / (steps - 1)))


@wrong("take_off_lag", "read off a straight line")
def interpolated_between_the_rates(rate, share, start, end, steps):
    rates = np.geomspace(start, end, steps)
    step = np.interp(np.log(rate), np.log(rates), range(steps))
    return np.interp(step - (1 - share) / share, range(steps), rates)


@wrong("take_off_lag", "multiplied with the share")
def times_the_share(rate, share, start, end, steps):
    return max(start, rate * share)


@wrong("take_off_lag", "min takes the lower")
def min_for_max(*args):
    return min(args[2], earlier(*args, floor=0))


@wrong("take_off_lag", "the lag, not the rate")
def only_the_lag(rate, share, start, end, steps):
    return (1 - share) / share


@wrong("take_off_lag", "the factor, not the rate")
def only_the_factor(rate, share, start, end, steps):
    return (end / start) ** ((1 - share) / share / (steps - 1))


@wrong("take_off_lag", "returns a list, expected a number")
def all_rates(rate, share, start, end, steps):
    return list(np.geomspace(start, end, steps))


@wrong("take_off_lag", "it raises ZeroDivisionError")
def divides_by_what_is_nothing(rate, share, start, end, steps):
    return rate / (1 - share) * 0 + rate / (rate - rate)


@wrong("take_off_lag", "brackets included")
def brackets_forgotten(rate, share, start, end, steps):
    return max(start, rate / (end / start ** (1 / (steps - 1))) ** ((1 - share) / share))


@wrong("take_off_lag", "brackets included")
def no_root(rate, share, start, end, steps):
    return max(start, rate * (start / end) ** ((1 - share) / share))


@wrong("take_off_lag", "19 steps are taken off")
def always_nineteen(rate, share, start, end, steps):
    for _ in range(19):
        rate /= (end / start) ** (1 / (steps - 1))
    return rate if rate > start else start


@wrong("take_off_lag", "multiplied by the lag")
def factor_times_lag(rate, share, start, end, steps):
    lag = 1 / share - 1
    factor = math.exp(math.log(end / start) / (steps - 1))
    return max(start, rate / (factor * lag)) if lag > 0 else rate


# --- cycle_momentum -----------------------------------------------------------------------------


@right("cycle_momentum")
def of_torchs_one_cycle(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5)
    scheduler = OneCycleLR(
        optimizer,
        1.0,
        total_steps,
        pct_start=warm_up,
        base_momentum=lowest,
        max_momentum=highest,
        anneal_strategy="linear",
    )
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return optimizer.param_groups[0]["momentum"]


@right("cycle_momentum")
def interpolated(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    corners = [0, total * warm_up - 1, total - 1]
    return np.interp(step, corners, [highest, lowest, highest])


@right("cycle_momentum")
def the_higher_of_two_lines(step, total, warm_up=0.2, high=0.95, low=0.85):
    bottom, last = warm_up * total - 1, total - 1
    down = high + (low - high) * step / bottom
    up = high + (low - high) * (last - step) / (last - bottom)
    return max(down, up)


@right("cycle_momentum")
def lerped_in_float32(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    a, b = torch.tensor([highest, lowest])
    bottom = warm_up * total - 1
    if step < bottom:
        return torch.lerp(a, b, step / bottom)
    return torch.lerp(b, a, (step - bottom) / (total - 1 - bottom))


@right("cycle_momentum")
def from_the_rate(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    bottom = warm_up * total - 1
    height = step / bottom if step <= bottom else (total - 1 - step) / (total - 1 - bottom)
    return highest - (highest - lowest) * height


def straight(part):
    return part


def half_a_cosine(part):
    return 0.5 - 0.5 * math.cos(math.pi * part)


def momentum_of(*, shift=0, last=0, down=straight, up=straight, whole=float, ends=(0, 1, 0)):
    """Courses beside the right one; ends: 0 for the highest, 1 for the lowest momentum."""

    def answer(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
        first, middle, end = ((highest, lowest)[e] for e in ends)
        bottom = whole(warm_up * total - 1 + shift)
        if step <= bottom:
            return first + (middle - first) * down(step / bottom)
        return middle + (end - middle) * up((step - bottom) / (total - 1 + last - bottom))

    return answer


def wrong_momentum(cause, **how):
    wrong("cycle_momentum", cause)(momentum_of(**how))


wrong_momentum("same direction as the rate", ends=(1, 0, 1))
wrong_momentum("never comes back up", ends=(0, 1, 1))
wrong_momentum("stays at the highest", ends=(0, 0, 0))
wrong_momentum("stays at the lowest", ends=(1, 1, 1))
wrong_momentum("lowest point comes one step late", shift=1)
wrong_momentum("the end comes one step late", last=1)
wrong_momentum("lowest point and the end come one step late", shift=1, last=1)
wrong_momentum("is rounded", whole=int)
wrong_momentum("is rounded", whole=round)
wrong_momentum("half a cosine on either way", down=half_a_cosine, up=half_a_cosine)
wrong_momentum("way down follows half a cosine", down=half_a_cosine)
wrong_momentum("way up follows half a cosine", up=half_a_cosine)
wrong_momentum("way down is run backwards", down=lambda part: 1 - part)
wrong_momentum("way up is run backwards", up=lambda part: 1 - part)


@wrong("cycle_momentum", "half a cosine on either way")
def torchs_default(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5)
    momenta = {"base_momentum": lowest, "max_momentum": highest}
    scheduler = OneCycleLR(optimizer, 1.0, total, pct_start=warm_up, **momenta)
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return optimizer.param_groups[0]["momentum"]


@wrong("cycle_momentum", "same direction as the rate")
def ends_swapped(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    return interpolated(step, total, warm_up, lowest, highest)


@wrong("cycle_momentum", "`warm_up` makes no difference")
def lowest_at_a_fifth_always(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    return interpolated(step, total, 0.2, highest, lowest)


@wrong("cycle_momentum", "lowest point lies half way")
def lowest_half_way(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    return np.interp(step, [0, (total - 1) / 2, total - 1], [highest, lowest, highest])


@wrong("cycle_momentum", "`highest` and `lowest` make no difference")
def momenta_of_its_own(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    return interpolated(step, total, warm_up)


@wrong("cycle_momentum", "default of `warm_up` is 0.3, expected 0.2")
def warm_up_of_torch(step, total, warm_up=0.3, highest=0.95, lowest=0.85):
    return interpolated(step, total, warm_up, highest, lowest)


@wrong("cycle_momentum", "counted from the lowest point")
def way_up_from_step_0(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    if step <= warm_up * total - 1:
        return interpolated(step, total, warm_up, highest, lowest)
    return lowest + (highest - lowest) * step / (total - 1)


@wrong("cycle_momentum", "no way down")
def straight_up(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    return lowest + (highest - lowest) * step / (total - 1)


@wrong("cycle_momentum", "no way back up")
def straight_down(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    return highest + (lowest - highest) * step / (total - 1)


@wrong("cycle_momentum", "share of the steps, 0.2, is compared with the step")
def warm_up_as_a_step(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    if step <= warm_up:
        return highest - (highest - lowest) * step / warm_up
    return lowest + (highest - lowest) * (step - warm_up) / (total - 1 - warm_up)


@wrong("cycle_momentum", "begins at peak_lr / 25")
def by_the_height_of_the_rate(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    rate = np.interp(step, [0, warm_up * total - 1, total - 1], [1 / 25, 1, 1 / 25 / 1e4])
    return highest - (highest - lowest) * rate


@wrong("cycle_momentum", "a return is missing")
def only_the_way_down_returns(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    if step <= warm_up * total - 1:
        return interpolated(step, total, warm_up, highest, lowest)


@wrong("cycle_momentum", "returns a tuple, expected a number")
def rate_and_momentum(step, total, warm_up=0.2, highest=0.95, lowest=0.85):
    return 1.0, interpolated(step, total, warm_up, highest, lowest)


@wrong("cycle_momentum", "multiply first")
def share_of_the_last_step(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    last = total_steps - 1
    peak = warm_up * last
    if step < peak:
        return highest - (highest - lowest) * step / peak
    return highest - (highest - lowest) * (last - step) / (last - peak)


@wrong("cycle_momentum", "jumps to the highest")
def jumps_back(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    peak = warm_up * total_steps - 1
    return highest - (highest - lowest) * step / peak if step <= peak else highest


@wrong("cycle_momentum", "is rounded")
def rounded_up(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    peak, last = math.ceil(warm_up * total_steps) - 1, total_steps - 1
    if step <= peak:
        return highest - (highest - lowest) * step / peak
    return lowest + (highest - lowest) * (step - peak) / (last - peak)


@wrong("cycle_momentum", "divided by the steps of the whole cycle")
def way_up_over_the_whole_cycle(step, total_steps, warm_up=0.2, highest=0.95, lowest=0.85):
    corner = warm_up * total_steps - 1
    if step <= corner:
        return highest - step / corner * (highest - lowest)
    return lowest + (step - corner) / (total_steps - 1) * (highest - lowest)


# --- plateau ------------------------------------------------------------------------------------


@right("plateau")
def of_torchs_scheduler_on_plateau(val_losses, lr, patience=0, factor=0.2):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=0)
    rates = []
    for loss in val_losses:
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@right("plateau")
def counting_cuts(val_losses, lr, patience=0, factor=0.2):
    cuts, waited, best = [], 0, None
    for loss in val_losses:
        waited += 1
        if best is None or loss < best:
            best, waited = loss, 0
        cuts.append(waited == patience + 1)
        if cuts[-1]:
            waited = 0
    return lr * factor ** np.cumsum(cuts)


@right("plateau")
def by_the_epoch_of_the_best(losses, lr, patience=0, factor=0.2):
    since, rates = 0, torch.zeros(len(losses))
    for epoch in range(len(losses)):
        if epoch == 0 or losses[epoch] < min(losses[:epoch]):
            since = epoch
        if epoch - since > patience:
            lr *= factor
            since = epoch
        rates[epoch] = lr
    return rates


@right("plateau")
def with_an_iterator(val_losses, lr, patience=0, factor=0.2):
    losses = iter(val_losses)
    best, left, rates = next(losses), patience, [np.float64(lr)]
    for loss in losses:
        if loss < best:
            best, left = loss, patience
        elif left:
            left -= 1
        else:
            lr, left = lr * factor, patience
        rates.append(lr)
    return tuple(rates)


def scheduled(
    losses,
    lr,
    patience=0,
    factor=0.2,
    *,
    better=lambda loss, best: loss < best,
    keep=min,
    due=lambda bad, patience: bad > patience,
    cut=lambda lr, first, factor: lr * factor,
    reset_after_cut=True,
    reset_when_better=True,
    best=math.inf,
):
    first, bad, rates = lr, 0, []
    for loss in losses:
        if better(loss, best):
            bad = 0 if reset_when_better else bad
        else:
            bad += 1
        best = keep(loss, best)
        if due(bad, patience):
            lr = cut(lr, first, factor)
            bad = 0 if reset_after_cut else bad
        rates.append(lr)
    return rates


def wrong_plateau(cause, **how):
    def answer(losses, lr, patience=0, factor=0.2):
        return scheduled(losses, lr, patience, factor, **how)

    wrong("plateau", cause)(answer)


wrong_plateau("as low as the best", better=lambda loss, best: loss <= best)
wrong_plateau("an epoch late", due=lambda bad, patience: bad > patience + 1)
wrong_plateau("an epoch early", due=lambda bad, patience: bad and bad >= patience)
wrong_plateau("goes on after a cut", reset_after_cut=False)
wrong_plateau("goes on after a better one", reset_when_better=False)
wrong_plateau("epoch before, not with the best", keep=lambda loss, best: loss)
wrong_plateau("begins at the first rate again", cut=lambda lr, first, factor: first * factor)
wrong_plateau("divided by factor", cut=lambda lr, first, factor: lr / factor)
wrong_plateau("`factor` is taken off", cut=lambda lr, first, factor: lr * (1 - factor))
wrong_plateau("subtracted", cut=lambda lr, first, factor: lr - factor)
wrong_plateau("10,000th", better=lambda loss, best: loss < best * (1 - 1e-4))
wrong_plateau("10,000th", better=lambda loss, best: loss < best - 1e-4)
wrong_plateau("begins at zero", best=0)
wrong_plateau("higher loss", better=lambda loss, best: loss > best, keep=max, best=-math.inf)


@wrong("plateau", "before the epoch")
def rate_before_the_epoch(val_losses, lr, patience=0, factor=0.2):
    return [lr, *scheduled(val_losses, lr, patience, factor)[:-1]]


@wrong("plateau", "returns 2 rates, expected 1")
def first_rate_besides(val_losses, lr, patience=0, factor=0.2):
    return [lr, *scheduled(val_losses, lr, patience, factor)]


@wrong("plateau", "first epoch")
def first_epoch_is_bad(val_losses, lr, patience=0, factor=0.2):
    return scheduled(val_losses, lr, patience, factor, best=val_losses[0])


@wrong("plateau", "10,000th")
def threshold_of_torch(val_losses, lr, patience=0, factor=0.2):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience)
    rates = []
    for loss in val_losses:
        scheduler.step(loss)
        rates.append(scheduler.get_last_lr()[0])
    return rates


@wrong("plateau", "begins at the first rate again")
def a_single_cut(val_losses, lr, patience=0, factor=0.2):
    rates = scheduled(val_losses, lr, patience, factor)
    return [max(rate, lr * factor) for rate in rates]


@wrong("plateau", "never cut")
def constant(val_losses, lr, patience=0, factor=0.2):
    return [lr] * len(val_losses)


@wrong("plateau", "with patience 0 after good ones, too")
def at_least_so_many(val_losses, lr, patience=0, factor=0.2):
    best, bad, rates = math.inf, 0, []
    for loss in val_losses:
        if loss < best:
            best, bad = loss, 0
        else:
            bad += 1
        if bad >= patience:
            lr, bad = lr * factor, 0
        rates.append(lr)
    return rates


def forgetting(what_is_best):
    """The best so far begins anew at a cut."""

    def answer(val_losses, lr, patience=0, factor=0.2):
        best, bad, rates = math.inf, 0, []
        for loss in val_losses:
            if loss < best:
                best, bad = loss, 0
            else:
                bad += 1
            if bad > patience:
                lr, bad, best = lr * factor, 0, what_is_best(loss)
            rates.append(lr)
        return rates

    return answer


wrong("plateau", "best so far is forgotten at a cut")(forgetting(lambda loss: math.inf))
wrong("plateau", "best so far is forgotten at a cut")(forgetting(lambda loss: loss))


@wrong("plateau", "goes back up")
def back_up_when_it_falls(val_losses, lr, patience=0, factor=0.2):
    best, bad, rates = math.inf, 0, []
    for loss in val_losses:
        bad = 0 if loss < best else bad + 1
        best = min(loss, best)
        rates.append(lr * factor if bad > patience else lr)
    return rates


@wrong("plateau", "changes the list `val_losses`")
def pops(val_losses, lr, patience=0, factor=0.2):
    rates = scheduled(val_losses, lr, patience, factor)
    while val_losses:
        val_losses.pop(0)
    return rates


@wrong("plateau", "changes the list `val_losses`")
def writes_over_the_list(val_losses, lr, patience=0, factor=0.2):
    val_losses[:] = scheduled(val_losses, lr, patience, factor)
    return val_losses


@wrong("plateau", "returns a float, expected a list")
def the_last_rate(val_losses, lr, patience=0, factor=0.2):
    return scheduled(val_losses, lr, patience, factor)[-1]


@wrong("plateau", "default of `factor` is 0.1, expected 0.2")
def factor_of_torch(val_losses, lr, patience=0, factor=0.1):
    return scheduled(val_losses, lr, patience, factor)


@wrong("plateau", "default of `patience` is 10, expected 0")
def patience_of_torch(val_losses, lr, patience=10, factor=0.2):
    return scheduled(val_losses, lr, patience, factor)


@wrong("plateau", "`factor` makes no difference")
def factor_of_its_own(val_losses, lr, patience=0, factor=0.2):
    return scheduled(val_losses, lr, patience)


@wrong("plateau", "`patience` makes no difference")
def impatient(val_losses, lr, patience=0, factor=0.2):
    return scheduled(val_losses, lr, 0, factor)


@wrong("plateau", "does not come to an end")
def epoch_never_ends(val_losses, lr, patience=0, factor=0.2):
    epoch, rates = 0, []
    while epoch < len(val_losses):
        rates.append(lr)
    return rates
