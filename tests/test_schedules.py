"""Which weights decay, and how the learning rate moves."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.files import CourseError
from course_lib.models import create_model
from course_lib.training import optim, schedules

# --- parameter groups -----------------------------------------------------------------------------


def test_filters_decay_norms_and_biases_do_not_and_biases_have_a_rate_of_their_own():
    model = create_model("resnet20", 10, shortcut="B")
    first = next(model.parameters())
    first.requires_grad_(False)

    filters, scales, biases = optim.parameter_groups(model, 0.4, 5e-4, bias_lr=8)
    found = [{id(p) for p in group["params"]} for group in (filters, scales, biases)]

    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert found[0] == {id(m.weight) for m in [*convolutions, *linear]} - {id(first)}
    assert found[1] == {id(m.weight) for m in norms}
    assert found[2] == {id(m.bias) for m in [*norms, *linear]}

    everything = len(list(model.parameters()))
    assert sum(len(group["params"]) for group in (filters, scales, biases)) == everything - 1, (
        "each once; the frozen one nowhere"
    )
    assert [group["weight_decay"] for group in (filters, scales, biases)] == [5e-4, 0, 0]
    rates = [group["lr"] for group in (filters, scales, biases)]
    assert rates == pytest.approx([0.4, 0.4, 3.2])


@pytest.mark.parametrize(
    "how, named",
    [
        ({"weight_decay": -5e-4}, "weight_decay is -0.0005: expected 0 or more"),
        ({"bias_lr": -1}, "bias_lr is -1: expected 0 or more"),
        ({"momentum": 1.0}, "momentum is 1.0: expected from 0 to below 1"),
        ({"momentum": float("nan")}, "momentum is nan: expected"),
    ],
)
def test_an_optimizer_that_would_diverge_by_its_settings_is_refused(how, named):
    """torch checks its defaults, and not what a group brings."""
    with pytest.raises(CourseError, match=named):
        optim.sgd(nn.Linear(2, 2), 0.1, **how)


# --- schedules ------------------------------------------------------------------------------------


def rates_of(make, lr, steps, **how):
    return schedules.trace(lambda optimizer: make(optimizer, **how), lr, steps)


def one_cycle_by_hand(step, peak, steps, warm_up):
    """Two cosines: peak / 25 up to peak at warm_up, down to peak / 250,000 at the last step."""
    top, last = warm_up * steps - 1, steps - 1
    if step <= top:
        start, end, share = peak / 25, peak, step / top
    else:
        start, end, share = peak, peak / 25e4, (step - top) / (last - top)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize("steps, warm_up", [(100, 0.2), (40, 0.3), (371, 0.1)])
def test_one_cycle_rises_to_its_peak_where_asked_and_ends_near_zero(steps, warm_up):
    rates = rates_of(
        schedules.one_cycle, 0.4, steps, peak_lr=0.4, total_steps=steps, warm_up=warm_up
    )
    expected = [one_cycle_by_hand(step, 0.4, steps, warm_up) for step in range(steps)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)

    assert abs(int(np.argmax(rates)) - (warm_up * steps - 1)) < 1
    assert max(rates) == pytest.approx(0.4, rel=0.02) and rates[-1] < 1e-5 * max(rates)


def test_one_cycle_gives_every_group_its_own_peak_and_leaves_the_momentum():
    optimizer = optim.sgd(create_model("resnet20", 10), 0.4, bias_lr=8)
    scheduler = schedules.one_cycle(optimizer, 0.4, 50)

    peaks = np.zeros(3)
    for _ in range(50):
        peaks = np.maximum(peaks, [group["lr"] for group in optimizer.param_groups])
        assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(peaks, [0.4, 0.4, 3.2], rtol=1e-3)


def momenta_of(optimizer, steps, **how):
    """Momentum of every step, or Adam's beta1: one for each group."""
    scheduler = schedules.one_cycle(optimizer, 0.4, steps, **how)

    def momentum(group):
        return group["betas"][0] if "betas" in group else group["momentum"]

    momenta = []
    for _ in range(steps):
        momenta.append([momentum(group) for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return np.array(momenta)  # (steps, groups)


def test_momentum_runs_through_a_cycle_of_its_own_the_other_way_round():
    """Straight: 0.95 at the first step, 0.85 where the rate is highest, 0.95 at the last."""
    model = create_model("resnet20", 10)
    how = {"warm_up": 0.2, "anneal": "linear", "momentum": (0.95, 0.85)}
    expected = np.concatenate([np.linspace(0.95, 0.85, 10), np.linspace(0.85, 0.95, 41)[1:]])

    for optimizer in (optim.sgd(model, 0.4, bias_lr=8), torch.optim.AdamW(model.parameters())):
        momenta = momenta_of(optimizer, 50, **how)
        np.testing.assert_allclose(momenta, momenta[:, :1].repeat(momenta.shape[1], axis=1))
        np.testing.assert_allclose(momenta[:, 0], expected, rtol=1e-6)


def test_the_cycle_of_the_momentum_is_that_of_torch():
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.4, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.4, 40, pct_start=0.3)  # 0.95, 0.85
    expected = []
    for _ in range(40):
        expected.append(theirs.param_groups[0]["momentum"])
        theirs.step()
        scheduler.step()

    ours = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.4, momentum=0.9)
    momenta = momenta_of(ours, 40, warm_up=0.3, momentum=(0.95, 0.85))
    assert momenta[:, 0].tolist() == expected


def test_a_momentum_that_cycles_moves_no_rate():
    how = {"peak_lr": 0.4, "total_steps": 40}
    assert rates_of(schedules.one_cycle, 0.4, 40, momentum=(0.95, 0.85), **how) == rates_of(
        schedules.one_cycle, 0.4, 40, **how
    )


@pytest.mark.parametrize("anneal", ["linear", "cos"])
@pytest.mark.parametrize("ends_at", [0.01, 0.1, 1.0])
def test_one_cycle_may_end_higher_and_every_group_at_the_same_share_of_its_peak(ends_at, anneal):
    optimizer = optim.sgd(create_model("resnet20", 10), 0.4, bias_lr=8)
    scheduler = schedules.one_cycle(optimizer, 0.4, 50, anneal=anneal, ends_at=ends_at)

    rates = []
    for _ in range(50):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates[0], [0.016, 0.016, 0.128])
    np.testing.assert_allclose(rates[9], [0.4, 0.4, 3.2])
    np.testing.assert_allclose(rates[-1], np.multiply(rates[9], ends_at))


def test_the_end_of_one_cycle_is_torchs_where_nothing_else_is_asked():
    """Its own way of saying it, bit for bit: a 25th of the peak, and of that a 10,000th."""
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.4)
    how = {"div_factor": 25, "final_div_factor": 1e4, "cycle_momentum": False}
    scheduler = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.4, 40, pct_start=0.2, **how)

    expected = []
    for _ in range(40):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()
    assert rates_of(schedules.one_cycle, 0.4, 40, peak_lr=0.4, total_steps=40) == expected


@pytest.mark.parametrize("steps", [3, 4, 7])
def test_one_cycle_works_for_a_handful_of_steps(steps):
    rates = rates_of(schedules.one_cycle, 0.4, steps, peak_lr=0.4, total_steps=steps)
    assert np.isfinite(rates).all() and max(rates) == pytest.approx(0.4) and rates[-1] < 1e-5


def test_one_cycle_needs_three_steps_and_says_so():
    with pytest.raises(CourseError, match="needs 3 steps, not 2: train longer"):
        rates_of(schedules.one_cycle, 0.4, 2, peak_lr=0.4, total_steps=2)


@pytest.mark.parametrize(
    "how, named",
    [
        ({"warm_up": 1.0}, "warm_up is 1.0: expected a share of the training"),
        ({"warm_up": -0.1}, "warm_up is -0.1: expected a share"),
        ({"warm_up": 5}, "warm_up is 5: expected a share"),
        ({"warm_up": float("nan")}, "warm_up is nan: expected a share"),
        ({"peak_lr": 0.0}, "peak_lr is 0.0: expected a rate above 0"),
        ({"peak_lr": -0.1}, "peak_lr is -0.1"),
        (
            {"momentum": (0.85, 0.95)},
            r"momentum is \(0.85, 0.95\): expected None, or \(",
        ),
        ({"momentum": (1.0, 0.85)}, "momentum is .*from 0 to below 1"),
        ({"momentum": (0.9, -0.1)}, "momentum is .*from 0 to below 1"),
        ({"ends_at": 0}, "ends_at is 0: expected a share of the peak, above 0 and up to 1"),
        ({"ends_at": 1.5}, "ends_at is 1.5: expected a share of the peak"),
    ],
)
def test_one_cycle_out_of_range_is_refused_when_it_is_made(how, named):
    with pytest.raises(CourseError, match=named):
        rates_of(schedules.one_cycle, 0.4, 40, **{"peak_lr": 0.4, "total_steps": 40, **how})


@pytest.mark.parametrize("warm_up", [0, 0.97, 0.999])
@pytest.mark.parametrize("steps", [3, 40, np.int64(40)])
def test_one_cycle_has_a_rate_for_every_step_at_the_ends_of_its_range(warm_up, steps):
    rates = rates_of(
        schedules.one_cycle, 0.4, steps, peak_lr=0.4, total_steps=steps, warm_up=warm_up
    )
    assert len(rates) == steps and np.isfinite(rates).all() and rates[-1] < 1e-5


@pytest.mark.parametrize(
    "make, how, named",
    [
        (schedules.cosine, {"epochs": 6, "warm_up": -1}, "warm_up is -1: expected 0 or more"),
        (schedules.cosine, {"epochs": 6, "flat": -2}, "flat is -2: expected 0 or more epochs"),
        (schedules.cosine, {"epochs": 6, "floor": -0.1}, "floor is -0.1: expected 0 to the opti"),
        (schedules.cosine, {"epochs": 6, "floor": 0.5}, "floor is 0.5: .* the optimizer's rate, 0"),
        (schedules.steps, {"drops": (0, 4)}, r"drops is \[0, 4\]: expected epochs, each above 0"),
        (schedules.steps, {"drops": (4,), "warm_up": -1}, "warm_up is -1"),
        (schedules.steps, {"drops": (4,), "factor": 1.0}, "factor is 1.0: expected above 0 and"),
        (schedules.steps, {"drops": (4,), "factor": 0}, "factor is 0"),
    ],
)
def test_schedules_out_of_range_are_refused_when_they_are_made(make, how, named):
    with pytest.raises(CourseError, match=named):
        rates_of(make, 0.3, 1, steps_per_epoch=10, **how)


@pytest.mark.parametrize(
    "how, named",
    [
        ({"patience": -1}, "patience is -1: expected 0 or more epochs"),
        ({"factor": 0}, "factor is 0: expected above 0 and below 1"),
        ({"factor": 1.5}, "factor is 1.5"),
    ],
)
def test_a_plateau_out_of_range_is_refused_when_it_is_made(how, named):
    with pytest.raises(CourseError, match=named):
        schedules.on_plateau(optim.sgd(nn.Linear(2, 2), 0.1), **how)


def test_one_cycle_can_go_straight():
    rates = rates_of(
        schedules.one_cycle, 0.4, 50, peak_lr=0.4, total_steps=50, warm_up=0.2, anneal="linear"
    )
    up, down = np.diff(rates[:10]), np.diff(rates[9:])
    np.testing.assert_allclose(up, (0.4 - 0.016) / 9, rtol=1e-6)  # from a 25th of the peak
    np.testing.assert_allclose(down, -0.4 / 40, rtol=1e-4)  # to all but nothing


@pytest.mark.parametrize("warm_up, flat", [(0, 0), (2, 0), (0, 3), (2, 3), (0.5, 0.25)])
def test_the_cosine_comes_after_the_rise_and_the_flat_part_all_in_epochs(warm_up, flat):
    epochs, per_epoch = 8, 20
    steps = epochs * per_epoch
    rates = rates_of(
        schedules.cosine,
        0.3,
        steps,
        epochs=epochs,
        steps_per_epoch=per_epoch,
        warm_up=warm_up,
        flat=flat,
    )

    def by_hand(epoch):
        if epoch < warm_up:
            return 0.3 / 25 + (0.3 - 0.3 / 25) * epoch / warm_up
        down = max(0, epoch - warm_up - flat) / (epochs - warm_up - flat)
        return 0.3 * (1 + math.cos(math.pi * down)) / 2

    expected = [by_hand(step / per_epoch) for step in range(steps)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_a_cosine_can_end_at_a_floor_which_is_one_for_all_groups():
    """torchvision's --lr-min and timm's min_lr: floor + (lr - floor) (1 + cos πt) / 2."""
    optimizer = optim.sgd(create_model("resnet20", 10), 0.4, bias_lr=8)
    scheduler = schedules.cosine(optimizer, 5, 10, warm_up=1, floor=0.02)

    for step in range(50):
        t = (step - 10) / 40
        for group, lr in zip(optimizer.param_groups, (0.4, 0.4, 3.2), strict=True):
            if step >= 10:
                expected = 0.02 + (lr - 0.02) * (1 + math.cos(math.pi * t)) / 2
                assert group["lr"] == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02] * 3)


def test_steps_can_fall_by_another_factor():
    rates = rates_of(schedules.steps, 0.3, 80, drops=(4, 6), steps_per_epoch=10, factor=0.2)
    expected = [0.3] * 40 + [0.06] * 20 + [0.012] * 20
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_a_cosine_without_room_for_its_descent_is_an_error_with_a_cure():
    with pytest.raises(
        CourseError, match="nothing is left of 6 epochs.*2 of warm-up and 4.*shorten"
    ):
        rates_of(schedules.cosine, 0.1, 1, epochs=6, steps_per_epoch=10, warm_up=2, flat=4)


@pytest.mark.parametrize("warm_up", [0, 1, 1.5])
def test_steps_fall_to_a_tenth_after_the_epochs_that_were_named(warm_up):
    rates = rates_of(schedules.steps, 0.3, 80, drops=(4, 6), steps_per_epoch=10, warm_up=warm_up)

    def by_hand(step):
        if step < warm_up * 10:
            return 0.03
        return 0.3 if step < 40 else 0.03 if step < 60 else 0.003

    np.testing.assert_allclose(rates, [by_hand(step) for step in range(80)], rtol=1e-6)


def test_a_plateau_has_no_trace():
    with pytest.raises(CourseError, match="falls with the validation loss.*history"):
        schedules.trace(schedules.on_plateau, 0.3, 20)


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30),
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.5),
        schedules.constant,
    ],
)
def test_a_trace_is_what_torch_uses_step_by_step(make):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.3)
    scheduler, used = make(optimizer), []
    for _ in range(30):
        used += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert schedules.trace(make, 0.3, 30) == used


def test_the_constant_schedule_is_constant():
    assert schedules.trace(schedules.constant, 0.3, 20) == [0.3] * 20
