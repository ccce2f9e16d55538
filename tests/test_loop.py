"""The loop, the schedules, the checkpoints and the range test: what they promise when all goes well, and when not."""

import errno
import json
import math
import os
import random
import signal
import warnings
from itertools import count
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.data import AlbumentationsLoader, Augment, BatchLoader, pipelines, toy_shapes
from course_lib.experiments.recipe import find_recipe
from course_lib.files import CourseError
from course_lib.models import create_model
from course_lib.runtime import Precision, pick_precision, seed_everything
from course_lib.training import (
    CheckpointError,
    History,
    Trainer,
    TrainingError,
    checkpoint,
    evaluate,
    fit,
    loop,
    lr_finder,
    optim,
    schedules,
    train_one_epoch,
)

CPU = torch.device("cpu")
BATCHES, EPOCHS = 6, 3  # of 20 pictures at 16 pixels
STEPS = BATCHES * EPOCHS


@pytest.fixture(scope="module")
def toys():
    return SimpleNamespace(
        train=toy_shapes("train", size=16, count=120),
        tune=toy_shapes("tune", size=16, count=45),
        other=toy_shapes("val", size=16, count=120),
    )


@pytest.fixture(autouse=True)
def same_start():
    """The same seeds, and Ctrl-C as a terminal has it; a shell's background jobs ignore it."""
    seed_everything(0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def small_net(dropout=0.0, width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, 10),
    )


def no_norm():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 10))


SCHEDULES = {
    "one_cycle": lambda optimizer, lr, steps: schedules.one_cycle(optimizer, lr, steps),
    "cosine": lambda optimizer, lr, steps: schedules.cosine(
        optimizer, EPOCHS, steps // EPOCHS, 0.5, 1
    ),
    "steps": lambda optimizer, lr, steps: schedules.steps(optimizer, (1, 2), steps // EPOCHS, 0.5),
    "plateau": lambda optimizer, lr, steps: schedules.on_plateau(optimizer, patience=0),
    "constant": lambda optimizer, lr, steps: schedules.constant(optimizer),
}


def batch_loader(store, batch_size, seed):
    return BatchLoader(store, batch_size, seed=seed, augment=Augment(pad=2))


def albumentations_loader(store, batch_size, seed):
    return AlbumentationsLoader(
        store, pipelines.pad_crop_flip(16, 2), batch_size, workers=0, seed=seed
    )


def train(
    toys,
    path=None,
    *,
    sizes=(16,) * EPOCHS,
    lr=0.1,
    batch_size=20,
    seed=0,
    schedule="one_cycle",
    weight_decay=5e-4,
    make_model=lambda: small_net(dropout=0.3),
    weights_from=0,
    make_loader=batch_loader,
    split="train",
    ctrl_c_at=None,
    **options,
):
    """One training from fixed weights: ``.model``, ``.history`` and the ``.lines`` that were reported.

    ``ctrl_c_at``: the number of the batch, from 0 on, in which Ctrl-C is pressed.
    """
    seed_everything(weights_from)
    model, loader = make_model(), make_loader(getattr(toys, split), batch_size, seed)
    if ctrl_c_at is not None:
        press_ctrl_c(loader, ctrl_c_at)
    optimizer = optim.sgd(model, lr, weight_decay=weight_decay)
    lines = []
    history = fit(
        model,
        loader,
        BatchLoader(toys.tune, 20, augment=False),
        sizes=sizes,
        optimizer=optimizer,
        scheduler=SCHEDULES[schedule](optimizer, lr, len(sizes) * len(loader)),
        checkpoint=path,
        report=lines.append,
        **options,
    )
    return SimpleNamespace(model=model, history=history, lines=lines, optimizer=optimizer)


def press_ctrl_c(loader, batch, times=1):
    to_input, batches = loader.to_input, count()

    def pressed(*images):
        if next(batches) == batch:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return to_input(*images)

    loader.to_input = pressed


def rows(history):
    """The rows, without what differs from run to run."""
    return [
        {key: value for key, value in row.items() if "seconds" not in key} for row in history.rows
    ]


def assert_same_training(first, second):
    """Not a bit of difference in weights, statistics and history."""
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert first.history.steps == second.history.steps
    assert rows(first.history) == rows(second.history)


@pytest.fixture(scope="module")
def whole(toys):
    """The training that is not interrupted, to hold the others against."""
    return train(toys)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "training.pt"


def forbid_steps(monkeypatch):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=AssertionError("a step was trained")))


# --- evaluation -----------------------------------------------------------------------------------


def linear(classes, features=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))


def batches_of(sizes, classes, features=6):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            3 * torch.randn(size, features, generator=generator),
            torch.randint(classes, (size,), generator=generator),
        )
        for size in sizes
    ]


def by_hand(model, batches):
    """(loss, top-1, top-5) in numpy, float64, over all pictures at once."""
    with torch.no_grad():
        logits = torch.cat([model(x) for x, _ in batches]).double().numpy()
    labels = torch.cat([labels for _, labels in batches]).numpy()
    own = logits[np.arange(len(labels)), labels]
    loss = np.log(np.exp(logits).sum(1)) - own
    better = (logits > own[:, None]).sum(1)
    return loss.mean(), (better < 1).mean(), (better < 5).mean()


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
def test_evaluate_averages_over_pictures_whatever_the_batches(classes):
    model, batches = linear(classes), batches_of([10, 10, 3], classes)
    found = evaluate(model, batches)
    assert (found.loss, found.top1, found.top5) == pytest.approx(by_hand(model, batches), abs=1e-6)
    assert found.images == 23
    if classes <= 5:
        assert found.top5 == 1
    means = np.mean([by_hand(model, [batch])[:2] for batch in batches], 0)
    assert abs(means[0] - found.loss) > 1e-4, "the mean of batch means would be another number"


def test_evaluate_with_mirror_images_takes_the_mean_of_the_logits():
    model, flat = linear(10, 24), batches_of([30, 7], 10, 24)
    batches = [(x.view(-1, 2, 3, 4), labels) for x, labels in flat]  # (B, C, H, W)

    def both(x):
        return (model(x) + model(x[..., [3, 2, 1, 0]])) / 2

    found = evaluate(model, batches, mirrored=True)
    assert (found.loss, found.top1, found.top5) == pytest.approx(by_hand(both, batches), abs=1e-6)
    assert abs(found.loss - evaluate(model, batches).loss) > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_puts_the_mode_back_and_leaves_statistics_and_gradients_alone(toys, training):
    model = small_net(dropout=0.5).train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loader = BatchLoader(toys.tune, 20, augment=False)
    assert evaluate(model, loader) == evaluate(model, loader), "no dropout"
    assert model.training is training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_evaluate_in_bf16_sums_in_full_precision():
    model, batches = linear(10), batches_of([300, 45], 10)
    found = evaluate(model, batches, precision=Precision(CPU, torch.bfloat16))
    loss, top1, _ = by_hand(model, batches)
    assert found.loss == pytest.approx(loss, rel=0.01) and found.top1 == pytest.approx(
        top1, abs=0.02
    )


def test_evaluate_puts_the_mode_back_after_an_error_too():
    model = linear(3).train()
    with pytest.raises(ValueError):
        evaluate(model, iter(lambda: int("no batch"), None))
    assert model.training


def test_evaluating_nothing_is_an_error():
    with pytest.raises(CourseError, match="no picture"):
        evaluate(linear(3), [])


# --- parameters and schedules ---------------------------------------------------------------------


def test_filters_decay_norms_and_biases_do_not_and_biases_have_a_rate_of_their_own():
    model = create_model("resnet18", 10)
    model.conv1.weight.requires_grad_(False)
    filters, scales, biases = optim.parameter_groups(model, 0.4, 5e-4, bias_lr=8)
    names = {id(p): name for name, p in model.named_parameters()}
    named = [{names[id(p)] for p in group["params"]} for group in (filters, scales, biases)]
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {id(p) for p in filters["params"]} == {
        id(m.weight) for m in [*convolutions[1:], model.fc]
    }
    assert {id(p) for p in scales["params"]} == {id(m.weight) for m in norms}
    assert {id(p) for p in biases["params"]} == {id(m.bias) for m in [*norms, model.fc]}
    assert sum(map(len, named)) == len(set.union(*named)) == len(names) - 1, (
        "each once; the frozen one nowhere"
    )
    assert [g["weight_decay"] for g in (filters, scales, biases)] == [5e-4, 0, 0]
    assert [g["lr"] for g in (filters, scales, biases)] == pytest.approx([0.4, 0.4, 3.2])


@pytest.mark.parametrize("shape", [(32, 200), (200, 32), (64, 64)])
def test_the_orthogonal_matrix_next_to_another_turns_no_direction_and_evens_out_their_lengths(
    shape,
):
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(side, min(shape)))[0] for side in shape)
    matrix = left @ torch.diag(torch.linspace(0.05, 3, min(shape))) @ right.T
    lengths = left.T @ optim.orthogonal(matrix) @ right
    assert lengths.dtype == torch.float32
    assert 0.6 < lengths.diagonal().min() and lengths.diagonal().max() < 1.3
    assert (lengths - torch.diag(lengths.diagonal())).norm() < 0.05 * lengths.norm()
    assert optim.orthogonal(torch.zeros(shape)).eq(0).all()


def steps_of(optimizer, model, count):
    x, labels = (
        torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        torch.arange(6),
    )
    for _ in range(count):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()


def session_resnet():
    torch.manual_seed(0)
    return create_model("session_resnet", 10, stem="strided")


def test_muon_turns_the_inner_filters_at_a_rate_of_their_own_and_leaves_the_rest_to_sgd():
    model, other = session_resnet(), session_resnet()
    optimizer = optim.muon(model, 0.4, turn=0.2, bias_lr=8)
    steps_of(optimizer, model, 1)
    steps_of(optim.sgd(other, 0.4, bias_lr=8), other, 1)
    turned = {id(p) for p in optimizer.param_groups[-1]["params"]}
    filters = [p for p in model.parameters() if p.ndim == 4]
    assert turned == {id(p) for p in filters[1:]} and optimizer.param_groups[-1][
        "lr"
    ] == pytest.approx(0.08)
    for p, by_sgd in zip(model.parameters(), other.parameters(), strict=True):
        if id(p) not in turned:
            assert torch.equal(p, by_sgd)
    fresh = [p for p in session_resnet().parameters() if p.ndim == 4]
    for before, after in zip(fresh[1:], filters[1:], strict=True):
        step = ((before - after) / optimizer.param_groups[-1]["lr"]).detach().flatten(1)
        assert 0.6 < torch.linalg.svdvals(step).max() < 1.3


def test_muon_keeps_the_length_of_filters_and_lets_those_grow_that_were_zero():
    torch.manual_seed(0)
    model = create_model("preact_resnet20", 10, zero_init_residual=True)
    optimizer = optim.muon(model, 0.1)
    turned = optimizer.param_groups[-1]["params"]
    before = [p.norm().item() for p in turned]
    steps_of(optimizer, model, 3)
    for p, length in zip(turned, before, strict=True):
        assert p.isfinite().all() and 0 < p.norm() < 1.2 * length + 0.2 * len(p) ** 0.5
    assert before.count(0) == 9


def test_muon_takes_the_gradients_of_a_closure():
    model, other = session_resnet(), session_resnet()
    steps_of(optim.muon(model, 0.1), model, 1)
    optimizer = optim.muon(other, 0.1)

    def closure():
        optimizer.zero_grad()
        x, labels = (
            torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
            torch.arange(6),
        )
        loss = F.cross_entropy(other(x), labels)
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0 and all(
        map(torch.equal, model.parameters(), other.parameters())
    )


def test_muon_goes_on_from_its_state_as_if_nothing_had_happened():
    whole, halves = session_resnet(), session_resnet()
    steps_of(optim.muon(whole, 0.1), whole, 4)
    first = optim.muon(halves, 0.1)
    steps_of(first, halves, 2)
    second = optim.muon(halves, 0.1)
    second.load_state_dict(first.state_dict())
    steps_of(second, halves, 2)
    assert all(map(torch.equal, whole.parameters(), halves.parameters()))


def one_cycle_by_hand(step, peak, steps, warm_up):
    """Two cosines: peak / 25 up to peak at warm_up, down to peak / 250,000 at the last step."""
    top, last = warm_up * steps - 1, steps - 1
    start, end, share = (
        (peak / 25, peak, step / top)
        if step <= top
        else (peak, peak / 25e4, (step - top) / (last - top))
    )
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize("steps, warm_up", [(100, 0.2), (40, 0.3), (371, 0.1)])
def test_one_cycle_rises_to_its_peak_where_asked_and_ends_near_zero(steps, warm_up):
    rates = schedules.trace(
        lambda optimizer: schedules.one_cycle(optimizer, 0.4, steps, warm_up), 0.4, steps
    )
    np.testing.assert_allclose(
        rates, [one_cycle_by_hand(step, 0.4, steps, warm_up) for step in range(steps)], rtol=1e-6
    )
    assert abs(int(np.argmax(rates)) - (warm_up * steps - 1)) < 1
    assert max(rates) == pytest.approx(0.4, rel=0.02) and rates[-1] < 1e-5 * max(rates)


def test_one_cycle_gives_every_group_its_own_peak_and_leaves_the_momentum():
    optimizer = optim.sgd(create_model("session_resnet", 10), 0.4, bias_lr=8)
    scheduler, peaks = schedules.one_cycle(optimizer, 0.4, 50), np.zeros(3)
    for _ in range(50):
        peaks = np.maximum(peaks, [group["lr"] for group in optimizer.param_groups])
        assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(peaks, [0.4, 0.4, 3.2], rtol=1e-3)


@pytest.mark.parametrize("steps", [3, 4, 7])
def test_one_cycle_works_for_a_handful_of_steps(steps):
    rates = schedules.trace(
        lambda optimizer: schedules.one_cycle(optimizer, 0.4, steps), 0.4, steps
    )
    assert np.isfinite(rates).all() and max(rates) == pytest.approx(0.4) and rates[-1] < 1e-5


def test_one_cycle_can_go_straight():
    rates = schedules.trace(
        lambda optimizer: schedules.one_cycle(optimizer, 0.4, 50, 0.2, anneal="linear"), 0.4, 50
    )
    np.testing.assert_allclose(
        np.diff(rates[:10]), (0.4 - 0.016) / 9, rtol=1e-6
    )  # up from a 25th of the peak
    np.testing.assert_allclose(np.diff(rates[9:]), -0.4 / 40, rtol=1e-4)  # down to all but nothing


@pytest.mark.parametrize("warm_up, flat", [(0, 0), (2, 0), (0, 3), (2, 3), (0.5, 0.25)])
def test_the_cosine_comes_after_the_rise_and_the_flat_part_all_in_epochs(warm_up, flat):
    epochs, per_epoch = 8, 20
    steps = epochs * per_epoch
    rates = schedules.trace(
        lambda optimizer: schedules.cosine(optimizer, epochs, per_epoch, warm_up, flat), 0.3, steps
    )

    def by_hand(epoch):
        if epoch < warm_up:
            return 0.3 / 25 + (0.3 - 0.3 / 25) * epoch / warm_up
        down = max(0, epoch - warm_up - flat) / (epochs - warm_up - flat)
        return 0.3 * (1 + math.cos(math.pi * down)) / 2

    np.testing.assert_allclose(
        rates, [by_hand(step / per_epoch) for step in range(steps)], rtol=1e-6
    )


def test_a_cosine_without_room_for_its_descent_is_an_error_with_a_cure():
    with pytest.raises(
        CourseError, match="nothing is left of 6 epochs.*2 of warm-up and 4.*shorten"
    ):
        schedules.trace(
            lambda optimizer: schedules.cosine(optimizer, 6, 10, warm_up=2, flat=4), 0.1, 1
        )


@pytest.mark.parametrize("warm_up", [0, 1, 1.5])
def test_steps_fall_to_a_tenth_after_the_epochs_that_were_named(warm_up):
    rates = schedules.trace(
        lambda optimizer: schedules.steps(optimizer, (4, 6), 10, warm_up), 0.3, 80
    )
    expected = [
        0.03 if step < warm_up * 10 else 0.3 if step < 40 else 0.03 if step < 60 else 0.003
        for step in range(80)
    ]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


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


# --- the loop -------------------------------------------------------------------------------------


def test_fit_learns_toy_shapes_and_writes_one_row_and_one_line_an_epoch(whole):
    losses = whole.history.column("train_loss")
    assert losses[-1] < 0.95 * losses[0]
    assert whole.history.column("val_loss")[-1] < math.log(10), (
        "better than chance on what was held out"
    )
    assert [row["epoch"] for row in whole.history.rows] == [1, 2, 3] and len(whole.lines) == 3
    assert f"{whole.history.last['val_top1']:.1%}" in whole.lines[-1]
    assert all(row["seconds"] > 0 and row["eval_seconds"] > 0 for row in whole.history.rows)


def test_the_steps_in_a_history_carry_the_rate_that_was_used(whole):
    rates = schedules.trace(
        lambda optimizer: schedules.one_cycle(optimizer, 0.1, STEPS), 0.1, STEPS
    )
    assert [(step, lr) for step, lr, _ in whole.history.steps] == [(10, pytest.approx(rates[9]))]


def test_each_epoch_is_trained_and_looked_at_in_its_own_picture_size(toys):
    model, seen = small_net(), {True: set(), False: set()}
    model.register_forward_hook(
        lambda module, inputs, out: seen[module.training].add(tuple(inputs[0].shape[2:]))
    )
    history = train(toys, sizes=(8, None, 12), make_model=lambda: model).history
    assert history.column("picture_size") == [8, None, 12]
    assert seen[True] == seen[False] == {(8, 8), (16, 16), (12, 12)}


def test_train_loss_and_accuracy_are_means_over_the_pictures(toys):
    model = no_norm()
    loader = BatchLoader(toys.train, 20, augment=False, shuffle=True)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.0
    )  # nothing moves: the epoch is an evaluation
    trainer = Trainer(model, optimizer, schedules.constant(optimizer), Precision(CPU))
    totals = train_one_epoch(trainer, loader, History())
    loss, top1, _ = by_hand(model, list(BatchLoader(toys.train, 120, augment=False)))
    assert totals["loss"] / totals["images"] == pytest.approx(loss, abs=1e-5)
    assert totals["right"] / totals["images"] == pytest.approx(top1)
    assert totals["images"] == 120 and totals["batches"] == BATCHES


def test_label_smoothing_mixes_in_the_mean_over_all_classes():
    (x, labels), *_ = batches_of([16], 10)
    model = linear(10)
    with torch.no_grad():
        log_p = torch.log_softmax(model(x).double(), 1)
    expected = 0.9 * -log_p[torch.arange(16), labels].mean() + 0.1 * -log_p.mean()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss, right = Trainer(
        model, optimizer, schedules.constant(optimizer), Precision(CPU), 0.1
    ).step(x, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert right == (log_p.argmax(1) == labels).sum()


def test_a_plateau_is_watched_once_an_epoch_on_what_was_held_out(toys, monkeypatch):
    seen, step = [], torch.optim.lr_scheduler.ReduceLROnPlateau.step
    monkeypatch.setattr(
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        "step",
        lambda self, value: seen.append(value) or step(self, value),
    )
    found = train(
        toys, schedule="plateau", lr=1e-6, make_model=no_norm
    )  # too slow to get any better
    assert seen == found.history.column("val_loss")
    assert found.history.column("lr") == pytest.approx([1e-6, 1e-6, 2e-7])
    assert found.optimizer.param_groups[0]["lr"] == pytest.approx(4e-8)


def test_a_nan_between_two_looks_is_not_lost(toys, path, monkeypatch):
    """On a GPU only every tenth loss is fetched; fp16's scaler leaves the weights alone when one is no number."""
    monkeypatch.setattr(loop, "LOOK_EVERY", {})
    monkeypatch.setattr(
        Trainer,
        "backward",
        lambda self, x, labels, found=Trainer.backward: [
            value * (float("nan") if self.steps == BATCHES + 1 else 1)
            for value in found(self, x, labels)
        ],
    )
    with pytest.raises(TrainingError, match="loss is nan in epoch 2/3, batch 1 to 4"):
        train(toys, path)
    assert len(checkpoint.load(path)["history"]["rows"]) == 1


def test_in_fp16_gradients_that_are_never_numbers_stop_the_training(toys, path, monkeypatch):
    """The loss stays finite, for the scaler leaves out every step and halves its scale: here from 2⁻²², after three."""
    monkeypatch.setattr(
        Precision, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=2**-22)
    )

    def make_model():
        model = small_net()
        model[0].weight.register_hook(lambda gradient: gradient * float("nan"))
        return model

    with pytest.raises(
        TrainingError, match="gradients are not in epoch 1/3, batch 3, at learning rate"
    ):
        train(toys, path, make_model=make_model, precision=Precision(CPU, torch.float16))
    assert not path.exists()


def test_ctrl_c_behind_a_step_that_broke_the_weights_keeps_the_last_good_checkpoint(
    toys, path, monkeypatch
):
    step = Trainer.step

    def breaks(self, *batch):
        found = step(self, *batch)
        if self.steps == BATCHES + 2:
            nn.init.constant_(next(self.model.parameters()), float("nan"))
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(Trainer, "step", breaks)
    with pytest.raises(TrainingError, match="weights are not.*epoch 2/3.*checkpoint is untouched"):
        train(toys, path)
    assert checkpoint.load(path)["totals"] is None


class Breaks(nn.Module):
    """A network that gives NaN in its training batch ``at``, from 0 on."""

    def __init__(self, at):
        super().__init__()
        self.net, self.at, self.batches = small_net(dropout=0.3), at, 0

    def forward(self, x):
        self.batches += self.training
        return self.net(x) * (float("nan") if self.training and self.batches == self.at + 1 else 1)


def test_a_loss_that_is_no_number_stops_with_batch_and_rate_and_keeps_the_last_checkpoint(
    toys, path
):
    with pytest.raises(TrainingError) as caught:
        train(toys, path, make_model=lambda: Breaks(at=BATCHES + 2))
    rates = schedules.trace(
        lambda optimizer: schedules.one_cycle(optimizer, 0.1, STEPS), 0.1, STEPS
    )
    for part in (
        "loss is nan",
        "epoch 2/3",
        "batch 3",
        f"{rates[BATCHES + 2]:.3g}",
        "lower learning rate",
    ):
        assert part in str(caught.value)
    assert len(checkpoint.load(path)["history"]["rows"]) == 1
    mended = train(toys, path, make_model=lambda: Breaks(at=-1))
    assert_same_training(mended, train(toys, make_model=lambda: Breaks(at=-1)))


def test_an_evaluation_that_gives_no_number_stops_the_training_too(toys, path):
    class BreaksOutside(Breaks):
        def forward(self, x):
            return self.net(x) * (1 if self.training else float("nan"))

    with pytest.raises(TrainingError, match="loss is nan in the evaluation after epoch 1"):
        train(toys, path, make_model=lambda: BreaksOutside(at=-1))
    assert not path.exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried …"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried …"
        ),
    ],
)
def test_running_out_of_memory_names_a_batch_size_to_try(toys, monkeypatch, error):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=error))
    with pytest.raises(
        TrainingError, match="out of memory in epoch 1/3 with 20 pictures.*batch_size=10"
    ):
        train(toys)


# --- interrupted and resumed ----------------------------------------------------------------------


@pytest.mark.parametrize("make_loader", [batch_loader, albumentations_loader])
@pytest.mark.parametrize("at", [0, BATCHES + 3, 2 * BATCHES - 1])
def test_a_training_stopped_by_ctrl_c_and_resumed_is_the_one_that_was_not_to_the_last_bit(
    toys, path, make_loader, at
):
    with pytest.raises(KeyboardInterrupt, match="stopped after batch .*run again"):
        train(toys, path, make_loader=make_loader, ctrl_c_at=at)
    resumed = train(
        toys, path, make_loader=make_loader, weights_from=77
    )  # as a fresh process has others
    assert "going on" in resumed.lines[0] and "training.pt" in resumed.lines[0]
    assert_same_training(resumed, train(toys, make_loader=make_loader))


@pytest.mark.parametrize("schedule", ["cosine", "steps", "plateau", "constant"])
def test_every_schedule_goes_on_where_it_was(toys, path, schedule):
    with pytest.raises(KeyboardInterrupt):
        train(toys, path, schedule=schedule, ctrl_c_at=2 * BATCHES + 1)
    resumed = train(toys, path, schedule=schedule, weights_from=77)
    assert_same_training(resumed, train(toys, schedule=schedule))


def test_a_training_may_be_stopped_again_and_again(toys, path, whole):
    for at in (2, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            train(toys, path, ctrl_c_at=at)
    assert_same_training(train(toys, path), whole)


def test_ctrl_c_in_the_last_batch_finishes_the_training_and_stops_what_comes_after(
    toys, path, whole
):
    with pytest.raises(KeyboardInterrupt, match="after the last epoch; saved in .*training.pt"):
        train(toys, path, ctrl_c_at=STEPS - 1)
    again = train(toys, path)
    assert_same_training(again, whole)
    assert len(again.lines) == 1, "reused"


def test_a_checkpoint_of_another_form_is_not_taken(toys, path, monkeypatch):
    train(toys, path)
    monkeypatch.setattr(checkpoint, "FORM", 2)
    with pytest.raises(CheckpointError, match="form of checkpoint was 1, is 2.*--no-resume"):
        train(toys, path)


def test_without_a_checkpoint_ctrl_c_stops_at_once(toys, monkeypatch):
    steps, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(1) or step(self, *batch))
    with pytest.raises(KeyboardInterrupt):
        train(toys, ctrl_c_at=3)
    assert len(steps) == 3


def test_a_second_ctrl_c_stops_at_once(toys, path):
    loader = batch_loader(toys.train, 20, 0)
    press_ctrl_c(loader, 3, times=2)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(toys, path, make_loader=lambda *_: loader)
    assert str(caught.value) == "" and not path.exists()


@pytest.mark.parametrize("ctrl_c_at", [None, 3])
def test_ctrl_c_means_what_it_meant_once_the_training_is_over(toys, path, ctrl_c_at):
    before = signal.getsignal(signal.SIGINT)
    try:
        train(toys, path, ctrl_c_at=ctrl_c_at)
    except KeyboardInterrupt:
        assert ctrl_c_at == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_training_is_reused_with_a_word_and_without_a_step(
    toys, path, whole, monkeypatch
):
    train(toys, path)
    forbid_steps(monkeypatch)
    again = train(toys, path, weights_from=77)
    assert_same_training(again, whole)
    assert len(again.lines) == 1
    for part in ("already finished", "reusing training.pt", "anew=True"):
        assert part in again.lines[0]


def test_anew_trains_again_and_replaces_the_checkpoint(toys, path, monkeypatch):
    train(toys, path)
    first, steps, step = path.read_bytes(), [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(1) or step(self, *batch))
    again = train(toys, path, anew=True, lr=0.05)
    assert len(steps) == STEPS and len(again.lines) == EPOCHS and path.read_bytes() != first
    assert_same_training(train(toys, path, lr=0.05), again)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "change, named",
    [
        ({"lr": 0.05}, "initial_lr"),
        ({"batch_size": 10}, "batch size was 20, is 10"),
        ({"sizes": (16, 16, 12)}, r"picture sizes was \[16, 16, 16\], is \[16, 16, 12\]"),
        ({"sizes": (16, 16)}, "picture sizes"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"label_smoothing": 0.1}, r"label smoothing was 0\.0, is 0\.1"),
        ({"weight_decay": 0.0}, "weight_decay"),
        ({"make_model": lambda: small_net(width=12)}, "weights"),
        ({"split": "other"}, "toy shapes val"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_another_training_is_not_taken_and_the_difference_is_named(
    toys, path, schedule, change, named
):
    with pytest.raises(KeyboardInterrupt):
        train(toys, path, schedule=schedule, ctrl_c_at=1)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=named) as caught:
        train(toys, path, schedule=schedule, **change)
    for part in (str(path), "another training", "anew=True"):
        assert part in str(caught.value)
    assert path.read_bytes() == before


def test_settings_are_compared_too(toys, path):
    train(toys, path, settings={"stem": "strided", "sizes": [16]})
    assert (
        "already finished"
        in train(toys, path, settings={"stem": "strided", "sizes": [16]}).lines[0]
    )
    with pytest.raises(CheckpointError, match="settings, stem was strided, is small"):
        train(toys, path, settings={"stem": "small", "sizes": [16]})


def test_a_checkpoint_of_another_schedule_is_not_taken(toys, path):
    with pytest.raises(KeyboardInterrupt):
        train(toys, path, ctrl_c_at=1)
    with pytest.raises(CheckpointError, match="schedule was OneCycleLR, is ReduceLROnPlateau"):
        train(toys, path, schedule="plateau")


# --- checkpoint files -----------------------------------------------------------------------------


class Pickled:
    """What a file from elsewhere may hold: code that runs while it is read."""

    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return os.mkdir, (self.witness,)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "cut in half": half,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>"),
    "a pickled object": lambda path: torch.save({"trainer": Pickled(path.with_name("ran"))}, path),
    "other weights": lambda path: torch.save(small_net().state_dict(), path),
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_checkpoint_is_named_with_a_cure_and_runs_no_code(toys, path, damage):
    with pytest.raises(KeyboardInterrupt):
        train(toys, path, ctrl_c_at=1)
    DAMAGES[damage](path)
    with pytest.raises(CheckpointError) as caught:
        train(toys, path)
    assert str(path) in str(caught.value) and "Delete it" in str(caught.value)
    assert not path.with_name("ran").exists()


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EIO, "Input/output error"),
        MemoryError("full"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 123 bytes."
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_to_be_deleted(toys, path, monkeypatch, error):
    train(toys, path)
    monkeypatch.setattr(torch, "load", Mock(side_effect=error))
    with pytest.raises(CheckpointError, match="cannot be read now") as caught:
        train(toys, path)
    assert "elete" not in str(caught.value) and path.exists()


def test_where_there_is_no_checkpoint_there_is_nothing_to_load(path):
    assert checkpoint.load(path) is None


@pytest.mark.parametrize(
    "error, cause",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full.*Free some space"),
        (
            RuntimeError("[enforce fail] PytorchStreamWriter failed: No space left on device"),
            "disk is full",
        ),
        (
            OSError(errno.EROFS, "Read-only file system"),
            "Read-only file system.*the folder can be written",
        ),
    ],
)
def test_a_save_that_fails_half_way_keeps_the_older_checkpoint_and_leaves_nothing(
    toys, path, whole, monkeypatch, error, cause
):
    save, saves = torch.save, count()

    def fails_the_second_time(state, file):
        if next(saves) == 1:
            file.write(b"half of it")
            raise error
        save(state, file)

    with monkeypatch.context() as context:
        context.setattr(torch, "save", fails_the_second_time)
        with pytest.raises(CheckpointError, match=cause) as caught:
            train(toys, path)
    assert str(path) in str(caught.value) and "epoch before is still there" in str(caught.value)
    assert [file.name for file in path.parent.iterdir()] == ["training.pt"]
    assert len(checkpoint.load(path)["history"]["rows"]) == 1
    assert_same_training(train(toys, path), whole)


def test_a_checkpoint_is_on_the_disk_before_it_takes_its_name(path, monkeypatch):
    order = []

    def noted(name, function):
        monkeypatch.setattr(os, name, lambda *arguments: order.append(name) or function(*arguments))

    noted("fsync", os.fsync)
    noted("replace", os.replace)
    checkpoint.save(path, {"steps": 1})
    assert order == ["fsync", "replace"]


def test_what_a_dead_process_left_of_a_save_is_swept_away_and_a_living_ones_is_not(path):
    path.parent.mkdir()
    dead, alive = (
        path.with_name(f"training.pt.partial-{number}") for number in (2**22 + 1, os.getppid())
    )
    for left in (dead, alive):
        left.write_bytes(b"half of it")
    with open(alive, "rb"):
        checkpoint.save(path, {"steps": 1})
    assert not dead.exists() and alive.exists() and checkpoint.load(path) == {"steps": 1}


@pytest.mark.parametrize("copy", ["training.pt.partial-123 (1)", "training.pt.partial-7-LAPTOP"])
def test_a_copy_that_somebody_made_of_a_half_written_save_is_left_alone(path, copy):
    path.parent.mkdir()
    path.with_name(copy).touch()
    checkpoint.save(path, {"steps": 1})
    assert path.with_name(copy).exists() and checkpoint.load(path) == {"steps": 1}


def test_a_first_save_that_fails_says_that_there_is_none(path, monkeypatch):
    monkeypatch.setattr(
        torch, "save", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    )
    with pytest.raises(CheckpointError, match="disk is full; none was there before"):
        checkpoint.save(path, {"steps": 1})
    assert list(path.parent.iterdir()) == []


def test_random_states_travel_through_a_file(path):
    def draw():
        return (
            random.random(),
            random.gauss(0, 1),
            np.random.rand(),
            np.random.randn(),
            torch.randn(3).tolist(),
        )

    seed_everything(5)
    random.gauss(0, 1)  # this one and the next leave a second normal number waiting
    np.random.randn()
    checkpoint.save(path, checkpoint.random_state())
    expected = [draw(), draw()]
    seed_everything(6)
    checkpoint.set_random_state(checkpoint.load(path))
    assert [draw(), draw()] == expected


def test_a_history_travels_through_json_and_names_its_columns(whole):
    again = History.from_dict(json.loads(json.dumps(whole.history.to_dict())))
    assert again == whole.history and len(again) == 3 and again.last == again.rows[-1]
    with pytest.raises(KeyError, match="no column 'accuracy'.*val_top1"):
        again.column("accuracy")


# --- the range test -------------------------------------------------------------------------------


def library_suggestion(lrs, losses, skip_end=5):
    """The suggestion that torch-lr-finder itself makes of a history."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_lr_finder import LRFinder

    model = nn.Linear(1, 1)
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), 1e-3), None, device="cpu")
    finder.history = {"lr": list(lrs), "loss": list(losses)}
    return finder.plot(skip_end=skip_end, ax=MagicMock())[1]


def sgd_from(lr):
    return lambda model: optim.sgd(model, lr)


@pytest.mark.parametrize("precision", [None, Precision(CPU, torch.bfloat16)], ids=["fp32", "bf16"])
def test_the_range_test_raises_the_rate_evenly_and_suggests_what_the_library_does(toys, precision):
    torch.manual_seed(0)
    found = lr_finder.range_test(
        small_net(),
        batch_loader(toys.train, 20, 0),
        sgd_from(1e-4),
        end_lr=1.0,
        steps=40,
        precision=precision,
    )
    np.testing.assert_allclose(found.lrs, 1e-4 * 1e4 ** (np.arange(len(found.lrs)) / 39), rtol=1e-6)
    assert len(found.lrs) == len(found.losses) > 17 and np.isfinite(found.losses).all()
    lowest = int(np.argmin(found.losses))
    assert found.lowest == found.lrs[lowest] and found.suggestion <= found.lowest
    behind = max(5, len(found.losses) - 1 - lowest)
    assert found.suggestion == library_suggestion(found.lrs, found.losses, skip_end=behind)


@pytest.mark.parametrize("seed", range(5))
def test_on_a_curve_that_falls_to_its_end_the_suggestion_is_the_librarys(seed):
    steps = np.arange(60)
    losses = 2.3 - 1.5 / (1 + np.exp(-(steps - 35) / 4)) - 0.001 * steps
    losses += np.random.default_rng(seed).normal(0, 2e-4, 60).cumsum() / 60
    losses[-1] = 0.1
    lrs = list(1e-4 * 1.2**steps)
    assert lr_finder.read(lrs, list(losses)).suggestion == library_suggestion(lrs, losses)


def test_a_jump_past_the_lowest_point_does_not_mislead_the_suggestion():
    steps = np.arange(60)
    losses = 2.3 - 1.5 / (1 + np.exp(-(steps - 25) / 4))
    losses[40:] = np.where(steps[40:] % 4 < 2, 9.0, 2.0)  # diverged: up and down
    lrs = list(1e-4 * 1.2**steps)
    found = lr_finder.read(lrs, list(losses))
    assert library_suggestion(lrs, losses) > lrs[39], "the library falls for it"
    assert found.suggestion == pytest.approx(lrs[25], rel=0.3) and found.lowest == lrs[39]


@pytest.mark.parametrize("training", [True, False])
def test_the_range_test_leaves_the_model_its_mode_and_every_random_state_alone(toys, training):
    model = small_net(dropout=0.3).train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    states = (
        repr(checkpoint.random_state()["numpy"]),
        random.getstate(),
        torch.get_rng_state().tolist(),
    )
    lr_finder.range_test(model, batch_loader(toys.train, 20, 0), sgd_from(1e-4), steps=20)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training is training and all(p.grad is None for p in model.parameters())
    assert states == (
        repr(checkpoint.random_state()["numpy"]),
        random.getstate(),
        torch.get_rng_state().tolist(),
    )


def test_a_second_range_test_gives_the_same_curve(toys):
    model, loader = small_net(), batch_loader(toys.train, 20, 0)
    first, second = (
        lr_finder.range_test(model, loader, sgd_from(1e-4), steps=20) for _ in range(2)
    )
    assert first == second


def test_a_loss_that_is_no_number_ends_the_range_test_there(toys):
    found = lr_finder.range_test(
        Breaks(at=25), batch_loader(toys.train, 20, 0), sgd_from(1e-4), end_lr=0.01, steps=60
    )
    assert len(found.losses) == 25 and np.isfinite(found.losses).all()
    assert math.isfinite(found.suggestion)


class Steep(nn.Module):
    """A network whose first gradients, times the scaler's 65,536, are too large for fp16."""

    def __init__(self):
        super().__init__()
        self.net = small_net()

    def forward(self, x):
        return self.net(x) * 300


def test_a_first_step_that_fp16s_scaler_leaves_out_is_no_reason_for_a_warning(toys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lr_finder.range_test(
            Steep(),
            batch_loader(toys.train, 20, 0),
            sgd_from(1e-6),
            end_lr=1e-4,
            steps=20,
            precision=Precision(CPU, torch.float16),
        )


def test_too_few_steps_to_read_a_rate_from_are_an_error_with_a_cure(toys):
    with pytest.raises(CourseError, match="only 5 steps.*17 are.*Begin lower, or take more"):
        lr_finder.range_test(
            Breaks(at=5), batch_loader(toys.train, 20, 0), sgd_from(1e-4), steps=60
        )


# --- it learns ------------------------------------------------------------------------------------


def test_the_session_resnet_learns_toy_shapes_in_a_smoke_run():
    """Three short epochs at 32 px: at least three times chance on pictures it has never seen."""
    recipe, precision = find_recipe("tiny_imagenet").for_smoke(), pick_precision(CPU)
    seed_everything(0)
    loader = BatchLoader(toy_shapes("train", count=640), recipe.batch_size)
    model = recipe.build_model(10, CPU)
    optimizer = recipe.build_optimizer(model)
    fit(
        model,
        loader,
        BatchLoader(toy_shapes("tune", count=200), 200, augment=False),
        sizes=(32,) * 3,
        optimizer=optimizer,
        scheduler=schedules.one_cycle(optimizer, recipe.lr, 3 * len(loader), recipe.warm_up),
        precision=precision,
        label_smoothing=recipe.label_smoothing,
        report=lambda line: None,
    )
    val = BatchLoader(toy_shapes("val", count=300), 300, augment=False)
    val.picture_size = 32
    assert evaluate(model, val, precision=precision).top1 >= 0.3
