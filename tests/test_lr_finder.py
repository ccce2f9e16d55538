"""The range test, held against torch-lr-finder."""

import copy
import math
import random
import warnings
from contextlib import contextmanager
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from toy_training import (
    CPU,
    Breaks,
    batch_loader,
    small_net,
    student_loader,
    toys,
)

from course_lib.files import CourseError
from course_lib.runtime import Precision, seed_everything
from course_lib.training import CrossEntropy, Extras, checkpoint, evaluate, lr_finder, optim

PRECISIONS = {"fp32": Precision(CPU), "bf16": Precision(CPU, torch.bfloat16)}


@pytest.fixture(autouse=True)
def same_start():
    seed_everything(0)


def loader():
    return batch_loader(toys().train, 20, 0)


def plain_loader(store, kind=DataLoader, **options):
    """A student's loader, of pictures from which something can be learned."""
    x = torch.from_numpy(store.images).permute(0, 3, 1, 2) / 255  # (N, 3, 16, 16)
    pictures = TensorDataset(x, torch.from_numpy(store.labels))
    return kind(pictures, 20, shuffle=True, **options)


def sgd_from(lr, **how):
    return lambda model: optim.sgd(model, lr, **how)


def one_group(model):
    return torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)


# --- the peer -------------------------------------------------------------------------------------


def peer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports an experimental progress bar
        import torch_lr_finder
    return torch_lr_finder


def peers_history(model, batches, make_optimizer, precision, loss, **how):
    """(rates, smoothed losses) of torch-lr-finder, on a copy."""
    model = copy.deepcopy(model)

    def criterion(logits, labels):
        return loss(logits.float(), labels)

    finder = peer().LRFinder(
        model,
        make_optimizer(model),
        criterion,
        device=CPU,
        amp_backend="torch",
        amp_config={
            "device_type": "cpu",
            "dtype": precision.dtype,
            "enabled": precision.dtype is not None,
        },
        grad_scaler=precision.scaler(),
    )
    finder.range_test(peer().TrainDataLoaderIter(batches), **how)
    return finder.history["lr"], finder.history["loss"]


def peers_suggestion(lrs, losses, skip_end=5):
    """What torch-lr-finder itself makes of a history."""
    model = nn.Linear(1, 1)
    finder = peer().LRFinder(model, torch.optim.SGD(model.parameters(), 1e-3), None, device="cpu")
    finder.history = {"lr": list(lrs), "loss": list(losses)}
    return finder.plot(skip_end=skip_end, ax=MagicMock())[1]


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rates_and_losses_are_the_peers(precision, smoothing):
    """Forty steps over six batches, with dropout: the loader begins again, in the same order."""
    model, loss = small_net(dropout=0.3), CrossEntropy(smoothing)
    how = {"precision": precision, "loss": loss}
    seed_everything(4)
    found = lr_finder.range_test(model, loader(), one_group, end_lr=1.0, steps=40, **how)
    seed_everything(4)
    lrs, losses = peers_history(model, loader(), one_group, end_lr=1.0, num_iter=40, **how)
    assert len(found.lrs) == len(lrs) == 40
    assert found.lrs == lrs and found.losses == losses


def test_a_loss_that_runs_away_ends_the_test_where_the_peer_ends():
    model = small_net()
    found = lr_finder.range_test(model, loader(), one_group, end_lr=1e4, steps=60)
    lrs, losses = peers_history(
        model, loader(), one_group, PRECISIONS["fp32"], CrossEntropy(), end_lr=1e4, num_iter=60
    )
    assert len(lrs) < 60 and found.lrs == lrs and found.losses == losses


def test_a_plain_loader_is_tested_like_the_peer_tests_it():
    plain, model = student_loader(), small_net()
    seed_everything(4)
    found = lr_finder.range_test(model, plain, one_group, end_lr=1.0, steps=30)
    seed_everything(4)
    lrs, losses = peers_history(
        model, plain, one_group, PRECISIONS["fp32"], CrossEntropy(), end_lr=1.0, num_iter=30
    )
    assert found.lrs == lrs and found.losses == losses


@pytest.mark.parametrize("mode", ["exp", "linear"])
def test_judged_on_pictures_held_out_it_is_the_peers_test_too(mode):
    """Smith's own is the linear one. The loaders draw from generators of their own: the peer begins
    to evaluate before the first step, and would draw another order from a common one."""
    model = small_net(dropout=0.3)
    batches, held_out = (
        plain_loader(store, generator=torch.Generator().manual_seed(3))
        for store in (toys().train, toys().tune)
    )
    how = {"end_lr": 1.0, "val_loader": held_out}

    seed_everything(4)
    found = lr_finder.range_test(
        model, batches, one_group, steps=40, linear=mode == "linear", **how
    )
    seed_everything(4)
    lrs, losses = peers_history(
        model,
        batches,
        one_group,
        PRECISIONS["fp32"],
        CrossEntropy(),
        num_iter=40,
        step_mode=mode,
        **how,
    )
    assert len(found.lrs) == len(lrs) == 40
    np.testing.assert_allclose(found.lrs, lrs, rtol=1e-9)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)


def test_the_held_out_loss_is_that_of_all_pictures_and_of_the_weights_behind_the_step():
    """Of one step by hand, from a first one that is not smoothed."""
    model, held_out = small_net(), batch_loader(toys().tune, 20, 0)
    found = lr_finder.range_test(model, loader(), one_group, steps=40, val_loader=held_out)

    model.train()
    optimizer = one_group(model)
    x, labels = next(iter(loader()))
    nn.functional.cross_entropy(model(x), labels).backward()
    optimizer.step()
    assert found.losses[0] == pytest.approx(evaluate(model, held_out).loss, rel=1e-6)


# --- what the peer does not do --------------------------------------------------------------------


@pytest.mark.parametrize("bias_lr", [1, 8])
def test_every_group_keeps_its_ratio_to_the_others(bias_lr):
    """As in the training that follows; the peer drives all groups to one rate."""
    seen = []

    def watched(model):
        optimizer = optim.sgd(model, 1e-4, bias_lr=bias_lr)
        optimizer.register_step_pre_hook(
            lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
        )
        return optimizer

    found = lr_finder.range_test(small_net(), loader(), watched, end_lr=0.1, steps=40)
    np.testing.assert_allclose(found.lrs, 1e-4 * 1000 ** (np.arange(40) / 39), rtol=1e-9)
    np.testing.assert_allclose(seen, np.outer(found.lrs, [1, 1, bias_lr]), rtol=1e-9)


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_the_suggestion_is_the_peers_before_the_lowest_point(precision):
    found = lr_finder.range_test(
        small_net(), loader(), sgd_from(1e-4), end_lr=1.0, steps=40, precision=precision
    )
    assert len(found.lrs) == len(found.losses) > 17 and np.isfinite(found.losses).all()

    lowest = int(np.argmin(found.losses))
    assert found.lowest == found.lrs[lowest] and found.suggestion <= found.lowest
    behind = max(5, len(found.losses) - 1 - lowest)
    assert found.suggestion == peers_suggestion(found.lrs, found.losses, skip_end=behind)


@pytest.mark.parametrize("seed", range(5))
def test_on_a_curve_that_falls_to_its_end_the_suggestion_is_the_peers(seed):
    steps = np.arange(60)
    losses = 2.3 - 1.5 / (1 + np.exp(-(steps - 35) / 4)) - 0.001 * steps
    losses += np.random.default_rng(seed).normal(0, 2e-4, 60).cumsum() / 60
    losses[-1] = 0.1
    lrs = list(1e-4 * 1.2**steps)
    assert lr_finder.read(lrs, list(losses)).suggestion == peers_suggestion(lrs, losses)


def test_a_jump_past_the_lowest_point_does_not_mislead_the_suggestion():
    steps = np.arange(60)
    losses = 2.3 - 1.5 / (1 + np.exp(-(steps - 25) / 4))
    losses[40:] = np.where(steps[40:] % 4 < 2, 9.0, 2.0)  # diverged: up and down
    lrs = list(1e-4 * 1.2**steps)

    found = lr_finder.read(lrs, list(losses))
    assert peers_suggestion(lrs, losses) > lrs[39], "the peer falls for it"
    assert found.suggestion == pytest.approx(lrs[25], rel=0.3) and found.lowest == lrs[39]


# --- what stays as it was -------------------------------------------------------------------------


def all_random_states():
    return repr(checkpoint.random_state()["numpy"]), random.getstate(), torch.get_rng_state()


class DrawsEverywhere(DataLoader):
    """A student's loader, whose pictures take random numbers from all three generators."""

    def __iter__(self):
        for x, labels in super().__iter__():
            yield x + random.random() + np.random.rand() + torch.rand(1), labels


def place_of(loader):
    """Size of pictures, epoch and batch, of a loader that has them."""
    return {key: getattr(loader, key, None) for key in ("picture_size", "epoch", "first_batch")}


def seeded_loader():
    """A student's loader with a generator of its own, for the order and for its pictures."""
    generator = torch.Generator().manual_seed(3)
    return plain_loader(toys().train, kind=DrawsEverywhere, generator=generator)


class FailsAt(DrawsEverywhere):
    """A loader that ends in an error, in its third batch."""

    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 2:
                raise RuntimeError("a broken picture")
            yield batch


LOADERS = {"plain": seeded_loader, "course": loader}
MODES = {
    "exponential": {},
    "linear": {"linear": True},
    "held out": {"val_loader": "plain"},
    "linear, held out": {"linear": True, "val_loader": "course"},
    "bf16": {"precision": PRECISIONS["bf16"]},
    "fp16": {"precision": Precision(CPU, torch.float16)},
    "averaged, clipped, mixed": {"extras": Extras(clip_norm=1.0, averaging=0.9, cutmix=1.0)},
}


def everything(model, optimizer, *loaders):
    """All that a test could leave changed, to the last bit; as text, but for the tensors."""
    generators = [getattr(each, "generator", None) for each in loaders]
    text = [
        [module.training for module in model.modules()],
        [parameter.grad is None for parameter in model.parameters()],
        {key: value for key, value in optimizer.state_dict().items() if key != "state"},
        [place_of(each) for each in loaders],
        all_random_states()[:2],
    ]
    tensors = [
        *model.state_dict().values(),  # statistics of norms included
        *(value for state in optimizer.state.values() for value in state.values()),
        *(each.get_state() for each in generators if each is not None),
        torch.get_rng_state(),
    ]
    return text, [tensor.clone() for tensor in tensors]


@contextmanager
def nothing_changes(model, optimizer, *loaders):
    text, tensors = everything(model, optimizer, *loaders)
    yield
    after, tensors_after = everything(model, optimizer, *loaders)
    assert after == text
    assert all(map(torch.equal, tensors, tensors_after)) and len(tensors) == len(tensors_after)


class WithHead(nn.Sequential):
    """As CutMix asks for it."""

    head = property(lambda self: self[-1])


def begun():
    """A network in the middle of a training, with a norm that somebody froze; its optimizer."""
    model = WithHead(*small_net(dropout=0.3))
    optimizer = one_group(model)
    model(torch.randn(20, 3, 16, 16)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    model[1].eval()
    return model, optimizer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("mode", MODES)
def test_model_optimizer_modes_loaders_and_random_states_stay_to_the_last_bit(mode, kind, training):
    model, optimizer = begun()
    model.training = training
    batches, how = LOADERS[kind](), dict(MODES[mode])
    if "val_loader" in how:
        how["val_loader"] = LOADERS[how["val_loader"]]()

    with nothing_changes(model, optimizer, batches, how.get("val_loader")):
        lr_finder.range_test(model, batches, sgd_from(1e-4), end_lr=0.05, steps=40, **how)


@pytest.mark.parametrize("where", ["training", "evaluation"])
def test_so_they_stay_when_an_error_ends_the_test_in_the_middle(where):
    model, optimizer = begun()
    broken = student_loader(kind=FailsAt, generator=torch.Generator().manual_seed(3))
    loaders = (broken, None) if where == "training" else (seeded_loader(), broken)

    with nothing_changes(model, optimizer, *loaders):
        with pytest.raises(RuntimeError, match="a broken picture"):
            lr_finder.range_test(model, loaders[0], sgd_from(1e-3), val_loader=loaders[1])


def test_an_optimizer_of_other_weights_is_refused_before_its_rate_rises():
    """Its steps would move nothing, for the copy's gradients are not its weights'."""
    model, optimizer = begun()
    with nothing_changes(model, optimizer):
        with pytest.raises(CourseError, match="optimizer of another model's weights: expected one"):
            lr_finder.range_test(model, loader(), lambda _: optimizer)


def test_a_second_range_test_gives_the_same_curve():
    model, batches = small_net(dropout=0.3), loader()
    first, second = (
        lr_finder.range_test(model, batches, sgd_from(1e-4), steps=20) for _ in range(2)
    )
    assert first == second


# --- when it ends early ---------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_range_test_there():
    found = lr_finder.range_test(Breaks(at=25), loader(), sgd_from(1e-4), end_lr=0.01, steps=60)
    assert len(found.losses) == 25 and np.isfinite(found.losses).all()
    assert math.isfinite(found.suggestion)


def test_too_few_steps_to_read_a_rate_from_are_an_error_with_a_cure():
    with pytest.raises(CourseError, match="only 5 steps.*17 are.*Begin lower, or take more"):
        lr_finder.range_test(Breaks(at=5), loader(), sgd_from(1e-4), steps=60)


def test_a_loader_without_a_batch_is_an_error():
    with pytest.raises(CourseError, match="gives no batch"):
        lr_finder.range_test(small_net(), [], sgd_from(1e-4))


class Steep(nn.Module):
    """A network whose first gradients, times the scaler's 65,536, are too large for fp16."""

    def __init__(self):
        super().__init__()
        self.net = small_net()

    def forward(self, x):
        return self.net(x) * 300


def test_a_first_step_that_fp16s_scaler_leaves_out_is_no_reason_for_a_warning():
    precision = Precision(CPU, torch.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lr_finder.range_test(
            Steep(), loader(), sgd_from(1e-6), end_lr=1e-4, steps=40, precision=precision
        )


def test_steps_that_fp16s_scaler_leaves_out_are_no_points():
    """The weights have not moved with these rates."""
    moved = []

    def watched(model):
        optimizer = optim.sgd(model, 1e-6)
        optimizer.register_step_post_hook(
            lambda optimizer, *_: moved.append(optimizer.param_groups[0]["lr"])
        )
        return optimizer

    found = lr_finder.range_test(
        Steep(), loader(), watched, end_lr=1e-4, steps=40, precision=Precision(CPU, torch.float16)
    )
    assert 17 < len(moved) < 40 and found.lrs == moved and len(found.losses) == len(moved)


@pytest.mark.parametrize("steps", [1, 16, 0])
def test_too_few_steps_are_one_sentence_before_the_first(steps):
    with pytest.raises(CourseError, match=f"steps is {steps}: expected 17 or more"):
        lr_finder.range_test(Breaks(at=0), loader(), sgd_from(1e-4), steps=steps)


@pytest.mark.parametrize(
    "lr, end_lr", [(0.0, 1.0), (1e-3, 1e-3), (1e-3, 1e-4), (1e-3, math.nan), (1e-3, math.inf)]
)
@pytest.mark.parametrize("linear", [False, True])
def test_rates_that_cannot_rise_are_one_sentence(lr, end_lr, linear):
    with pytest.raises(CourseError, match=f"the optimizer's rate is {lr}: expected above 0, and"):
        lr_finder.range_test(small_net(), loader(), sgd_from(lr), end_lr=end_lr, linear=linear)


def test_a_network_without_parameters_is_one_sentence():
    with pytest.raises(CourseError, match="Flatten has no parameters: there is nothing to train"):
        lr_finder.range_test(nn.Flatten(), loader(), sgd_from(0.1))


# --- what a curve says ----------------------------------------------------------------------------


def falling(steps=60, at=25):
    """(rates, losses) of a test as it should be: a fall, steepest at ``at``, and a rise."""
    points = np.arange(steps)
    losses = 2.3 - 1.5 / (1 + np.exp(-(points - at) / 4)) + np.exp((points - steps) / 2)
    return list(1e-4 * 1.2**points), list(losses)


@pytest.mark.parametrize("none", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_where_a_curve_ends(none):
    lrs, losses = falling()
    losses[50:] = [none, 0.1, *losses[52:]]
    found = lr_finder.read(lrs, losses)
    assert found == lr_finder.read(lrs[:50], losses[:50])
    assert found.lowest == lrs[int(np.argmin(losses[:50]))]

    with pytest.raises(CourseError, match="only 3 steps"):
        lr_finder.read(lrs, [*losses[:3], none, *losses[4:]])


CLIMBS = {
    "only rises": np.linspace(2, 4, 60),
    "flat": np.full(60, 2.3),
    "falls only among the first points": np.abs(np.arange(60) - 6.0),
    "lowest at its first point": np.concatenate([[0.5], np.linspace(2, 4, 59)]),
    "falls only among the last points": np.concatenate([np.linspace(2, 4, 57), [1, 0.5, 0.1]]),
}


@pytest.mark.parametrize("losses", CLIMBS.values(), ids=CLIMBS)
def test_a_curve_that_does_not_fall_suggests_nothing(losses):
    lrs, _ = falling()
    with pytest.raises(CourseError, match="the loss does not fall between the rates 0.0006.*Begin"):
        lr_finder.read(lrs, losses)


def test_a_lucky_first_batch_does_not_hide_the_fall_that_comes():
    """The first point is one batch, for there is nothing to smooth it with."""
    lrs, losses = falling()
    assert lr_finder.read(lrs, [0.01, *losses[1:]]).lowest == lr_finder.read(lrs, losses).lowest
    assert lr_finder.read(lrs, [0.01, *losses[1:]]).suggestion == pytest.approx(lrs[25], rel=0.3)


def test_other_points_can_be_left_out_as_the_peer_leaves_them_out():
    lrs, losses = falling(steps=12, at=4)
    with pytest.raises(CourseError, match="only 12 steps"):
        lr_finder.read(lrs, losses)

    found = lr_finder.read(lrs, losses, skip_start=0, skip_end=0)
    assert found.suggestion == pytest.approx(lrs[4], rel=0.3)


@pytest.mark.parametrize("name", ["skip_start", "skip_end"])
def test_fewer_than_no_points_cannot_be_left_out(name):
    """Python counts from the end, and a rate from behind the lowest point would be suggested."""
    lrs, losses = falling()
    for ask in (lr_finder.read, lr_finder.suggestions):
        with pytest.raises(CourseError, match=f"{name} is -3: expected 0 or more points"):
            ask(lrs, losses, **{name: -3})
    with pytest.raises(CourseError, match=f"{name} is -3: expected 0 or more points"):
        lr_finder.range_test(Breaks(at=0), loader(), sgd_from(1e-4), **{name: -3})


# --- suggestions ----------------------------------------------------------------------------------

METHODS = [
    "steepest slope",
    "steepest slope, lag taken off",
    "steepest slope, smoothed both ways",
    "valley",
    "slide",
    "minimum / 10",
    "minimum",
]
WHOLE = {"skip_start": 0, "skip_end": 0}


def steps_of(losses, **how):
    """The step, of a test in which each one doubles the rate, that every method suggests."""
    lrs = list(2.0 ** np.arange(len(losses)))
    found = lr_finder.suggestions(lrs, list(losses), **how)
    assert list(found) == METHODS
    return {method: math.log2(rate) for method, rate in found.items()}


def fall(before=10, down=30, after=20):
    """Level, then down by 0.1 a step, then up by 0.3 a step."""
    level = np.full(before, 5.0)
    falling = 5.0 - 0.1 * np.arange(1, down + 1)
    return np.concatenate([level, falling, falling[-1] + 0.3 * np.arange(1, after + 1)])


def test_the_minimum_is_the_lowest_loss_and_its_tenth_a_tenth():
    found = steps_of(fall(), **WHOLE)
    assert found["minimum"] == 39
    assert found["minimum / 10"] == pytest.approx(39 - math.log2(10))


def test_the_steepest_slope_is_that_of_read_and_without_its_lag_19_steps_earlier():
    losses = fall()
    losses[30:] -= 0.5  # one step of 0.6
    found = steps_of(losses)
    assert found["steepest slope"] in (29, 30), "the slope of a point is that of its neighbours"
    without = found["steepest slope"] - found["steepest slope, lag taken off"]
    assert without == pytest.approx(19)

    rates = list(1e-4 * 1.2 ** np.arange(60))
    assert lr_finder.read(rates, losses).suggestion == pytest.approx(
        rates[round(found["steepest slope"])]
    )


def test_earlier_is_a_step_and_not_a_factor_and_never_before_the_first():
    """In a linear test, too."""
    losses = fall()
    losses[30:] -= 0.5
    rates = list(0.1 * np.arange(1, 61))
    found = lr_finder.suggestions(rates, list(losses))
    difference = found["steepest slope"] - found["steepest slope, lag taken off"]
    assert difference == pytest.approx(19 * 0.1)

    early = fall()
    early[12:] -= 0.5
    assert steps_of(early)["steepest slope, lag taken off"] == 0


def test_the_valley_is_the_middle_of_the_longest_fall():
    """Of 31 points, a level one and 30 behind it, that end at step 39: 8 + 10 + 5, as fastai has
    it. A point that is too high is left out of the fall, and ends it not."""
    losses = fall()
    assert steps_of(losses, **WHOLE)["valley"] == 23

    losses[20] = 9.0  # 30 points: 9 + 10 + 5
    assert steps_of(losses, **WHOLE)["valley"] == 24
    assert steps_of(fall(before=20), skip_start=10, skip_end=0)["valley"] == 33


def test_of_two_falls_the_longer_one_is_the_valley_though_the_other_is_steeper():
    steep = np.linspace(9, 5, 8)
    losses = np.concatenate([steep, 8 - 0.1 * np.arange(30), np.full(12, 9.0)])
    middle = steps_of(losses, **WHOLE)["valley"]
    assert 8 + 10 <= middle <= 8 + 20


def test_slide_stops_where_the_slopes_at_both_ends_of_its_window_are_alike():
    """Down to step 20, level to step 40, then up faster and faster. The window is 15 wide: with
    its right end at step 40 it still meets a slope (0.05), and one step before it does not."""
    steps = np.arange(60.0)
    losses = 5 - 0.1 * np.minimum(steps, 20) + 0.1 * np.maximum(steps - 40, 0) ** 2
    assert steps_of(losses, **WHOLE)["slide"] == 40 - 15

    straight = np.concatenate([5 - 0.1 * np.arange(30), 2 + 0.2 * np.arange(1, 31)])
    assert steps_of(straight, **WHOLE)["slide"] == 59 - 15, "alike at once: where it begins"

    curved = 5 - 1e-2 * steps**2  # never alike: at the first point
    assert steps_of(curved, **WHOLE)["slide"] == 0


def test_slide_needs_sixteen_points():
    assert math.isnan(steps_of(fall(down=20, after=0))["slide"])
    assert not math.isnan(steps_of(fall(down=21, after=0))["slide"])


@pytest.mark.parametrize("losses", CLIMBS.values(), ids=CLIMBS)
def test_where_the_loss_does_not_fall_no_method_suggests_a_rate(losses):
    lrs, _ = falling()
    found = lr_finder.suggestions(lrs, losses)
    assert list(found) == METHODS and all(map(math.isnan, found.values()))


def test_suggestions_need_as_many_points_as_reading_does():
    lrs, losses = falling()
    with pytest.raises(CourseError, match="only 16 steps"):
        lr_finder.suggestions(lrs, [*losses[:16], math.nan, *losses[17:]])


# --- the lag of the smoothing ---------------------------------------------------------------------


def smoothed(losses, share):
    """What the test keeps of them, written as a sum over all that were."""
    kept = []
    for now in range(len(losses)):
        ages = np.arange(now)
        shares = share * (1 - share) ** ages  # of the loss of ``ages`` steps ago
        newest_first = losses[now:0:-1]
        kept.append(shares @ newest_first + (1 - share) ** now * losses[0])
    return np.array(kept)


@pytest.mark.parametrize("share, steps", [(0.05, 19), (0.1, 9), (0.02, 49), (0.5, 1), (1, 0)])
def test_a_smoothed_ramp_is_the_ramp_of_so_many_steps_ago(share, steps):
    ramp = -0.01 * np.arange(800.0)
    trailing = smoothed(ramp, share)[-1]
    assert trailing == pytest.approx(ramp[-1 - steps], abs=1e-5)
    assert lr_finder.lag(share) == pytest.approx(steps)


def test_a_kink_shows_19_steps_late_in_the_losses_that_a_test_keeps():
    """Level to step 200, then straight down: the line that the smoothed losses fall along, followed
    back up, meets the level at step 219."""
    losses = 5 - 0.01 * np.maximum(np.arange(600.0) - 200, 0)
    kept = smoothed(losses, lr_finder.SMOOTH)
    slope = kept[-1] - kept[-2]
    meets = 599 + (5 - kept[-1]) / slope
    assert meets == pytest.approx(200 + lr_finder.lag(), abs=0.01)
    assert lr_finder.lag() == pytest.approx(19)


@pytest.mark.parametrize("at", [45, 60, 75])
@pytest.mark.parametrize("width", [2, 6])
def test_smoothed_both_ways_the_steepest_slope_is_where_the_loss_itself_falls_fastest(at, width):
    """A fall the same on both sides of its middle. Smoothed as a test keeps it, it is steepest some
    steps too late, but fewer than the whole lag, which a short fall does not have."""
    losses = 2.3 - 1.5 / (1 + np.exp(-(np.arange(121) - at) / width))
    found = steps_of(smoothed(losses, lr_finder.SMOOTH), **WHOLE)

    assert found["steepest slope, smoothed both ways"] == pytest.approx(at, abs=2)
    late = found["steepest slope"] - at
    assert 2 < late < 19
    assert found["steepest slope, lag taken off"] == pytest.approx(at + late - 19)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, math.nan])
def test_a_share_that_is_none_has_no_lag(share):
    with pytest.raises(CourseError, match="share is .*: expected above 0, and 1 at most"):
        lr_finder.lag(share)


# --- in other ways --------------------------------------------------------------------------------


def test_a_linear_test_has_the_peers_rates_and_losses():
    model, how = small_net(), {"end_lr": 0.5}
    found = lr_finder.range_test(model, loader(), one_group, steps=40, linear=True, **how)
    peers = peers_history(
        model,
        loader(),
        one_group,
        PRECISIONS["fp32"],
        CrossEntropy(),
        num_iter=40,
        step_mode="linear",
        **how,
    )
    np.testing.assert_allclose(found.lrs, peers[0], rtol=1e-9)
    np.testing.assert_allclose(found.losses, peers[1], rtol=1e-4)


def test_a_batch_in_parts_gives_the_curve_of_the_whole_batch():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))  # no norm
    whole, parts = (
        lr_finder.range_test(
            model, loader(), one_group, end_lr=1.0, steps=40, extras=Extras(accumulate=count)
        )
        for count in (1, 4)
    )
    np.testing.assert_allclose(whole.losses, parts.losses, rtol=1e-4)


@pytest.mark.parametrize("extras", [Extras(clip_norm=0.01), Extras(mixup=5.0)])
def test_extras_work_in_a_test_as_in_the_training_to_come(extras):
    """Short steps get less far, and mixed labels cost more."""
    plain, changed = (
        lr_finder.range_test(small_net(), loader(), one_group, end_lr=1.0, steps=40, extras=each)
        for each in (Extras(), extras)
    )
    assert min(changed.losses) > min(plain.losses)


def test_a_frozen_norm_stays_frozen_in_the_copy_that_is_tested():
    seen, model = set(), small_net()
    model[1].eval()
    model[1].register_forward_hook(lambda module, *_: seen.add(module.training))
    lr_finder.range_test(model, loader(), one_group, end_lr=1.0, steps=40)
    assert seen == {False}
