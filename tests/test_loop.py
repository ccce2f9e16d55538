"""The loop: what it promises when all goes well, when it is interrupted, and when not."""

import contextlib
import copy
import functools
import math
import signal
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import FakeData
from toy_training import (
    BATCHES,
    CPU,
    EPOCHS,
    SCHEDULES,
    STEPS,
    Breaks,
    albumentations_loader,
    assert_same_training,
    assert_same_weights,
    batch_loader,
    held_out,
    no_norm,
    press_ctrl_c,
    rows,
    small_net,
    student_loader,
    toys,
    train,
    whole,
)

from course_lib.data import BatchLoader, toy_shapes
from course_lib.files import CourseError
from course_lib.models import create_model
from course_lib.runtime import Precision, pick_precision, seed_everything
from course_lib.training import (
    Callbacks,
    Checkpoint,
    CheckpointError,
    CrossEntropy,
    Extras,
    History,
    Trainer,
    TrainingError,
    checkpoint,
    evaluate,
    fit,
    loop,
    optim,
    schedules,
    train_one_epoch,
)
from course_lib.training.interrupts import StopAfterBatch

pytestmark = pytest.mark.usefixtures("same_start")


def forbid_steps(monkeypatch):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=AssertionError("a step was trained")))


def count_steps(monkeypatch):
    """A list that grows with every step."""
    steps, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(1) or step(self, *batch))
    return steps


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


def test_mirrored_logits_near_the_end_of_fp16_do_not_overflow():
    """Each of them fits (60,000 of 65,504), the sum of two does not."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2, bias=False))
    nn.init.constant_(model[2].weight[:1], 60_000)
    nn.init.constant_(model[2].weight[1:], -60_000)
    x, labels = torch.ones(4, 1, 3, 3), torch.zeros(4, dtype=torch.int64)

    found = evaluate(model, [(x, labels)], precision=Precision(CPU, torch.float16), mirrored=True)
    assert (found.loss, found.top1) == (0, 1)


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_puts_every_mode_back_and_leaves_statistics_and_gradients_alone(training):
    model = small_net(dropout=0.5).train(training)
    model[1].train(not training)  # a norm of another mode than the rest
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}

    assert evaluate(model, held_out()) == evaluate(model, held_out()), "no dropout"
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_evaluate_puts_the_mode_back_after_an_error_too():
    model = linear(3).train()
    with pytest.raises(ValueError):
        evaluate(model, iter(lambda: int("no batch"), None))
    assert model.training


def test_evaluate_in_bf16_sums_in_full_precision():
    model, batches = linear(10), batches_of([300, 45], 10)
    found = evaluate(model, batches, precision=Precision(CPU, torch.bfloat16))
    loss, top1, _ = by_hand(model, batches)
    assert found.loss == pytest.approx(loss, rel=0.01)
    assert found.top1 == pytest.approx(top1, abs=0.02)


def test_evaluating_nothing_is_an_error():
    with pytest.raises(CourseError, match="no picture"):
        evaluate(linear(3), [])


# --- the loop -------------------------------------------------------------------------------------


def test_fit_learns_toy_shapes_and_writes_one_row_and_one_line_an_epoch():
    history, lines = whole().history, whole().lines
    losses = history.column("train_loss")
    assert losses[-1] < 0.95 * losses[0]
    assert history.column("val_loss")[-1] < math.log(10), "better than chance on what is held out"

    assert [row["epoch"] for row in history.rows] == [1, 2, 3] and len(lines) == 3
    assert f"{history.last['val_top1']:.1%}" in lines[-1]
    assert all(row["seconds"] > 0 and row["eval_seconds"] > 0 for row in history.rows)


def test_the_steps_in_a_history_carry_the_rate_that_was_used():
    rates = schedules.trace(
        lambda optimizer: schedules.one_cycle(optimizer, 0.1, STEPS), 0.1, STEPS
    )
    steps = [(step, lr) for step, lr, _ in whole().history.steps]
    assert steps == [(10, pytest.approx(rates[9]))]


def test_each_epoch_is_trained_and_looked_at_in_its_own_picture_size():
    model, seen = small_net(), {True: set(), False: set()}
    model.register_forward_hook(
        lambda module, inputs, out: seen[module.training].add(tuple(inputs[0].shape[2:]))
    )
    history = train(sizes=(8, None, 12), make_model=lambda: model).history
    assert history.column("picture_size") == [8, None, 12]
    assert seen[True] == seen[False] == {(8, 8), (16, 16), (12, 12)}


def test_train_loss_and_accuracy_are_means_over_the_pictures():
    model = no_norm()
    loader = BatchLoader(toys().train, 20, augment=False, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)  # nothing moves: it is an evaluation
    trainer = Trainer(model, optimizer, schedules.constant(optimizer), Precision(CPU))

    done = train_one_epoch(trainer, loader, History())

    loss, top1, _ = by_hand(model, list(BatchLoader(toys().train, 120, augment=False)))
    assert done.loss / done.images == pytest.approx(loss, abs=1e-5)
    assert done.right / done.images == pytest.approx(top1)
    assert done.images == 120 and done.batches == BATCHES and not done.stopped


def test_a_plateau_is_watched_once_an_epoch_on_what_was_held_out(monkeypatch):
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    seen, step = [], plateau.step
    monkeypatch.setattr(
        plateau, "step", lambda self, value: seen.append(value) or step(self, value)
    )
    found = train(schedule="plateau", lr=1e-6, make_model=no_norm)  # too slow to get any better
    assert seen == found.history.column("val_loss")
    assert found.history.column("lr") == pytest.approx([1e-6, 1e-6, 2e-7])
    assert found.optimizer.param_groups[0]["lr"] == pytest.approx(4e-8)


def plateau_on(optimizer, mode):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, patience=0)


def test_a_plateau_of_what_shall_rise_is_watched_on_the_accuracy(monkeypatch):
    """The loss falls all the time: taken for what shall rise, it would end at a rate of nothing."""
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    seen, step = [], plateau.step
    monkeypatch.setattr(
        plateau, "step", lambda self, value: seen.append(value) or step(self, value)
    )
    monkeypatch.setitem(SCHEDULES, "max", lambda optimizer, *_: plateau_on(optimizer, "max"))
    found = train(schedule="max")
    assert seen == found.history.column("val_top1")


def test_a_norm_that_somebody_froze_stays_frozen_and_the_rest_trains():
    model = small_net(dropout=0.3)
    model[1].eval()
    before = copy.deepcopy(model)
    train(make_model=lambda: model)

    assert [module.training for module in model] == [module.training for module in before]
    assert torch.equal(model[1].running_mean, before[1].running_mean)
    assert not torch.equal(model[0].weight, before[0].weight)


def test_a_network_in_eval_mode_as_a_whole_is_trained_as_a_whole():
    evaluated = train(make_model=lambda: small_net(dropout=0.3).eval())
    assert_same_weights(evaluated.model, whole().model)
    assert evaluated.model[1].training


# --- how long -------------------------------------------------------------------------------------

LR_SCHEDULER = torch.optim.lr_scheduler
TOO_SHORT = {  # all made for fewer than the 18 steps of the training
    "one cycle": (lambda each, *_: schedules.one_cycle(each, 0.1, 12), 12),
    "torch's one cycle": (lambda each, *_: LR_SCHEDULER.OneCycleLR(each, 0.1, 17), 17),
    "cosine": (lambda each, *_: schedules.cosine(each, 2, 6), 13),
    "cosine with warm-up": (lambda each, *_: schedules.cosine(each, 2, 6, 0.5, 0.5), 13),
    "per epoch": (lambda each, *_: LR_SCHEDULER.CosineAnnealingLR(each, EPOCHS), 4),
    "one of a chain": (
        lambda each, *_: LR_SCHEDULER.ChainedScheduler(
            [LR_SCHEDULER.ConstantLR(each), LR_SCHEDULER.CosineAnnealingLR(each, 12)]
        ),
        13,
    ),
}


@pytest.mark.parametrize("make, length", TOO_SHORT.values(), ids=TOO_SHORT)
def test_a_schedule_that_ends_before_the_training_is_told_before_the_first_step(
    monkeypatch, make, length
):
    forbid_steps(monkeypatch)
    monkeypatch.setitem(SCHEDULES, "short", make)
    with pytest.raises(
        CourseError, match=f"ends after {length} steps, .* 18 to go: make it for ep"
    ):
        train(schedule="short")


ENOUGH = {
    "whole": lambda each, *_: LR_SCHEDULER.CosineAnnealingLR(each, STEPS),
    "with the last step at its bottom": lambda each, *_: LR_SCHEDULER.CosineAnnealingLR(each, 17),
    "longer": lambda each, *_: schedules.one_cycle(each, 0.1, 50),
    "without an end": lambda each, *_: LR_SCHEDULER.StepLR(each, 4),
    "meant to climb": lambda each, *_: LR_SCHEDULER.CosineAnnealingWarmRestarts(each, 4),
}


@pytest.mark.parametrize("make", ENOUGH.values(), ids=ENOUGH)
def test_a_schedule_that_lasts_is_taken(monkeypatch, make):
    monkeypatch.setitem(SCHEDULES, "enough", make)
    assert len(train(schedule="enough").history) == EPOCHS


def test_a_schedule_that_another_call_has_used_up_is_told(path):
    model, loader = small_net(), batch_loader(toys().train, 20, 0)
    optimizer = optim.sgd(model, 0.1)
    how = {
        "optimizer": optimizer,
        "scheduler": schedules.one_cycle(optimizer, 0.1, 2 * BATCHES),
        "callbacks": Callbacks(report=lambda line: None),
    }
    fit(model, loader, held_out(), epochs=1, **how)
    fit(model, loader, held_out(), epochs=1, **how)
    with pytest.raises(CourseError, match="ends after 0 steps, and the training has 6 to go"):
        fit(model, loader, held_out(), epochs=1, **how)


def test_a_schedule_goes_on_with_a_training_that_was_stopped(path):
    """What is left of it is held against what is left of the training."""
    with pytest.raises(KeyboardInterrupt):
        train(path, ctrl_c_at=2 * BATCHES + 1)
    assert_same_training(train(path, weights_from=77), whole())


@pytest.mark.parametrize("epochs", [0, -1, 2.5])
def test_a_number_of_epochs_that_is_none_is_an_error(epochs):
    with pytest.raises(CourseError, match=f"epochs is {epochs}: expected a whole number from 1"):
        fit_plain(epochs=epochs)


@pytest.mark.parametrize("size", [0, -8, 12.5])
def test_a_picture_size_that_is_none_is_an_error(size):
    with pytest.raises(CourseError, match=f"a picture size is {size}: expected whole pixels"):
        train(sizes=(16, size))


def test_numbers_of_numpy_are_numbers_too():
    assert fit_plain(epochs=np.int64(2)).history.column("picture_size") == [None, None]

    loader = batch_loader(toys().train, 20, 0)
    loader.picture_size = 16
    found = fit_plain(epochs=np.int64(2), loader=loader, val_loader=held_out())
    assert found.history.column("picture_size") == [16, 16]


# --- a second call --------------------------------------------------------------------------------


def orders(loader):
    """The row numbers of every batch that the loader has given, a list for each pass."""
    passes, batches = [], loader.batches

    def noted():
        passes.append([rows.tolist() for rows in batches()])
        return batches()

    loader.batches = noted
    return passes


def fit_again(loader, epochs, path=None, model=None):
    model = model or small_net(dropout=0.3)
    return fit(
        model,
        loader,
        held_out(),
        epochs=epochs,
        optimizer=optim.sgd(model, 0.1),
        checkpoint=path,
        callbacks=Callbacks(report=lambda line: None),
    )


def test_a_second_call_goes_on_with_the_next_epochs_of_the_loader():
    at_once, in_two = (batch_loader(toys().train, 20, 0) for _ in range(2))
    expected, found = orders(at_once), orders(in_two)
    fit_again(at_once, 5)
    fit_again(in_two, 2)
    fit_again(in_two, 3)
    assert found == expected and len({str(each) for each in found}) == 5

    in_two.epoch = 0
    fit_again(in_two, 1)
    assert found[5] == found[0], "the same batches again for who asks for them"


def test_two_calls_with_a_constant_rate_are_one_long_training():
    seed_everything(0)
    model, loader = small_net(dropout=0.3), batch_loader(toys().train, 20, 0)
    optimizer, quiet = optim.sgd(model, 0.1), Callbacks(report=lambda line: None)
    for _ in range(EPOCHS):
        fit(model, loader, held_out(), epochs=1, optimizer=optimizer, callbacks=quiet)
    assert_same_weights(model, train(schedule="constant").model)


@pytest.mark.parametrize("at", [None, 2 * BATCHES + 1])
def test_a_second_training_sees_the_same_batches_whether_the_first_was_reused_or_not(path, at):
    """``first`` and ``second`` in one script, called again by a process that knows nothing."""

    def script(loader):
        seed_everything(0)
        fit_again(loader, 3, path.with_name("first.pt"))
        return fit_again(loader, 2, path)

    expected = script(batch_loader(toys().train, 20, 0))
    path.unlink()
    if at is not None:
        path.with_name("first.pt").unlink()
        pressed = batch_loader(toys().train, 20, 0)
        press_ctrl_c(pressed, at)
        with pytest.raises(KeyboardInterrupt):
            script(pressed)

    loader = batch_loader(toys().train, 20, 0)
    found = orders(loader)
    again = script(loader)
    assert loader.epoch == 5 and len(again) == len(expected) == 2

    loader.epoch = 3
    assert found[-2] == [rows.tolist() for rows in loader.batches()]


def test_a_training_that_goes_on_with_the_same_loader_begins_where_it_began(path):
    """A later training has moved the loader on in between."""
    loader = batch_loader(toys().train, 20, 0)
    loader.epoch = 2
    pressed = batch_loader(toys().train, 20, 0)
    pressed.epoch = 2
    undisturbed = train(make_loader=lambda *_: loader)

    press_ctrl_c(pressed, BATCHES + 3)
    with pytest.raises(KeyboardInterrupt):
        train(path, make_loader=lambda *_: pressed)
    pressed.epoch = 40
    assert_same_training(train(path, make_loader=lambda *_: pressed), undisturbed)


def test_the_callbacks_see_every_epoch_before_and_after():
    seen, model = [], no_norm()
    callbacks = Callbacks(
        before_epoch=seen.append,
        after_epoch=lambda history: seen.append(f"after {history.last['epoch']}"),
        report=lambda line: None,
    )
    optimizer = optim.sgd(model, 0.1)
    loader = batch_loader(toys().train, 20, 0)
    fit(model, loader, held_out(), optimizer=optimizer, epochs=2, callbacks=callbacks)
    assert seen == [0, "after 1", 1, "after 2"]


# --- any loader -----------------------------------------------------------------------------------


def fit_plain(path=None, *, epochs=3, make_model=lambda: small_net(dropout=0.3), **options):
    seed_everything(0)
    model = make_model()
    loader = options.pop("loader") if "loader" in options else student_loader()
    val_loader = options.pop("val_loader", None) or DataLoader(loader.dataset, 45)
    lines = []
    history = fit(
        model,
        loader,
        val_loader,
        optimizer=options.pop("optimizer", optim.sgd)(model, 0.1),
        epochs=epochs,
        checkpoint=path,
        callbacks=Callbacks(report=lines.append),
        **options,
    )
    return SimpleNamespace(model=model, history=history, lines=lines)


def test_a_plain_loader_trains_as_a_loop_by_hand_does():
    found = fit_plain()

    seed_everything(0)
    model, loader = small_net(dropout=0.3), student_loader()
    optimizer, val_loader = optim.sgd(model, 0.1), DataLoader(loader.dataset, 45)
    for _ in range(3):
        model.train()
        for x, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
        list(val_loader)  # an evaluation draws a number from torch's generator, too

    assert_same_weights(found.model, model)
    assert found.history.column("picture_size") == [None] * 3
    assert found.history.column("lr") == [0.1] * 3, "without a scheduler the rate stays"


def test_fake_data_train_in_four_lines(capsys):
    data = FakeData(40, (3, 16, 16), 10, transforms.ToTensor())
    loader, model = DataLoader(data, 20, shuffle=True), create_model("resnet20", 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    history = fit(model, loader, loader, optimizer=optimizer, epochs=1)

    assert len(history) == 1 and history.last["train_loss"] > 0
    assert capsys.readouterr().out.startswith("epoch  1/1: train loss")


class OnMeta(Precision):
    """``meta`` stands for a GPU: nothing is computed there, and it has no autocast."""

    def autocast(self):
        return contextlib.nullcontext()


def test_batches_go_to_the_device_of_the_model():
    seen = []

    class SeenEnough(Exception):
        pass

    class Looks(nn.Linear):
        def forward(self, x):
            seen.append(x.device.type)
            raise SeenEnough

    model, precision = Looks(3, 10, device="meta"), OnMeta(torch.device("meta"))
    with pytest.raises(SeenEnough):
        evaluate(model, student_loader(), precision=precision)

    optimizer = torch.optim.SGD(model.parameters())
    trainer = Trainer(model, optimizer, schedules.constant(optimizer), precision)
    with pytest.raises(SeenEnough):
        train_one_epoch(trainer, student_loader(), History())
    assert seen == ["meta", "meta"]


def test_sizes_ask_for_a_loader_that_can_change_them_and_epochs_do_not():
    with pytest.raises(CourseError, match="DataLoader has no picture_size: give epochs=2 instead"):
        fit_plain(epochs=None, sizes=[8, 16])

    assert len(fit_plain(epochs=None, sizes=[None, None]).history) == 2, "as they come"


@pytest.mark.parametrize(
    "how, cause",
    [
        ({}, "give epochs, or sizes"),
        ({"epochs": 3, "sizes": [16, 16]}, "3 epochs, but 2 sizes"),
        ({"sizes": ()}, "sizes is empty: give the picture size of each epoch"),
    ],
)
def test_a_training_of_no_clear_length_is_an_error(how, cause):
    model, loader = no_norm(), batch_loader(toys().train, 20, 0)
    with pytest.raises(CourseError, match=cause):
        fit(model, loader, held_out(), optimizer=optim.sgd(model, 0.1), **how)


def test_epochs_alone_leave_the_picture_size_to_the_loaders():
    model, loader, val_loader = small_net(), batch_loader(toys().train, 20, 0), held_out()
    loader.picture_size, val_loader.picture_size = 12, 16
    seen = {True: set(), False: set()}
    model.register_forward_hook(
        lambda module, inputs, out: seen[module.training].add(inputs[0].shape[-1])
    )
    quiet = Callbacks(report=lambda line: None)
    optimizer = optim.sgd(model, 0.1)
    history = fit(model, loader, val_loader, optimizer=optimizer, epochs=2, callbacks=quiet)
    assert seen == {True: {12}, False: {16}} and history.column("picture_size") == [12, 12]


def test_a_loader_without_a_batch_is_an_error():
    with pytest.raises(CourseError, match="nothing to train on"):
        fit_plain(loader=student_loader(count=10, drop_last=True))


def test_pictures_of_a_plain_loader_are_mixed_for_as_many_classes_as_the_head_has():
    found = fit_plain(
        epochs=1, make_model=lambda: create_model("resnet20", 10), extras=Extras(mixup=0.2)
    )
    assert len(found.history) == 1

    with pytest.raises(CourseError, match="Sequential has no `head` with `out_features`"):
        fit_plain(extras=Extras(cutmix=1.0))


@pytest.mark.parametrize("at, workers", [(3, 0), (7, 0), (4, 2)])
def test_with_a_plain_loader_a_training_goes_on_after_its_last_whole_epoch(path, at, workers):
    """To the last bit, for torch's generators stand in the checkpoint: order and dropout are those
    of the training that was not stopped."""
    undisturbed = fit_plain(loader=student_loader(num_workers=workers))

    pressed = student_loader(num_workers=workers)
    press_ctrl_c(pressed, at)  # batches of three an epoch
    epoch = at // 3
    with pytest.raises(KeyboardInterrupt) as caught:
        fit_plain(str(path), loader=pressed)
    told = f"stopped in epoch {epoch + 1}/3: this loader cannot go on inside an epoch"
    assert told in str(caught.value) and "checkpoint of the last epoch is kept" in str(caught.value)
    assert len(checkpoint.load(path)["history"]["rows"]) == epoch

    resumed = fit_plain(path, loader=student_loader(num_workers=workers))
    assert f"going on after epoch {epoch}, from training.pt" in resumed.lines[0]
    assert_same_weights(resumed.model, undisturbed.model)
    assert rows(resumed.history) == rows(undisturbed.history)


def test_a_plain_loader_stopped_in_its_first_epoch_says_that_nothing_is_kept(path):
    loader = student_loader()
    press_ctrl_c(loader, 1)
    with pytest.raises(KeyboardInterrupt, match="stopped in epoch 1/3.*nothing is kept yet"):
        fit_plain(path, loader=loader)
    assert not path.exists()


@pytest.mark.parametrize("change", [{"batch_size": 30}, {"count": 80}])
def test_a_plain_loader_of_other_batches_is_another_training(path, change):
    fit_plain(path, epochs=1)
    with pytest.raises(CheckpointError, match="another training .*batch"):
        fit_plain(path, epochs=1, loader=student_loader(**change))


# --- losses ---------------------------------------------------------------------------------------


def test_label_smoothing_mixes_in_the_mean_over_all_classes():
    (x, labels), *_ = batches_of([16], 10)
    model = linear(10)
    with torch.no_grad():
        log_p = torch.log_softmax(model(x).double(), 1)
    expected = 0.9 * -log_p[torch.arange(16), labels].mean() + 0.1 * -log_p.mean()

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    constant = schedules.constant(optimizer)
    trainer = Trainer(model, optimizer, constant, Precision(CPU), CrossEntropy(0.1))
    loss, right = trainer.step(x, labels)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert right == (log_p.argmax(1) == labels).sum()


def squared(logits, targets):
    """Brier's score: another loss than cross-entropy, as somebody may bring it."""
    return (logits.softmax(1) - nn.functional.one_hot(targets, 10)).square().sum(1).mean()


@pytest.mark.parametrize("smoothing", [-0.1, 1, 1.5, float("nan")])
def test_label_smoothing_out_of_range_is_refused_when_it_is_given(smoothing):
    with pytest.raises(CourseError, match=f"label_smoothing is {smoothing}: expected from 0"):
        CrossEntropy(smoothing)


def test_any_function_of_logits_and_targets_is_a_loss(path):
    found = train(path, loss=squared)
    losses = found.history.column("train_loss")
    assert losses[-1] < losses[0] < 2, "two at most, where cross-entropy begins at 2.3"

    model = small_net(dropout=0.3)
    model.load_state_dict(found.model.state_dict())
    assert found.history.last["val_loss"] == pytest.approx(
        by_hand(model.eval(), list(held_out()))[0], abs=1e-5
    ), "what is evaluated stays cross-entropy, so that trainings can be compared"

    assert "already finished" in train(path, loss=squared).lines[0]
    with pytest.raises(CheckpointError, match="loss was <function squared>, is CrossEntropy"):
        train(path)


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_nan_between_two_looks_is_not_lost(path, monkeypatch):
    """On a GPU only every tenth loss is fetched; fp16's scaler leaves the weights alone when one is
    no number."""
    backward = Trainer.backward

    def breaks_once(self, x, labels):
        factor = float("nan") if self.steps == BATCHES + 1 else 1
        return [value * factor for value in backward(self, x, labels)]

    monkeypatch.setattr(loop, "look_every", lambda device: 10)
    monkeypatch.setattr(Trainer, "backward", breaks_once)
    with pytest.raises(TrainingError, match="loss is nan in epoch 2/3, batch 1 to 4"):
        train(path)
    assert len(checkpoint.load(path)["history"]["rows"]) == 1


def test_in_fp16_gradients_that_are_never_numbers_stop_the_training(path, monkeypatch):
    """The loss stays finite, for the scaler leaves out every step and halves its scale: here from
    2⁻²², after three."""
    monkeypatch.setattr(
        Precision, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=2**-22)
    )

    def make_model():
        model = small_net()
        model[0].weight.register_hook(lambda gradient: gradient * float("nan"))
        return model

    said = (
        "^the loss in epoch 1/3, batch 3 is a number, but its gradients are not, at learning rate"
    )
    with pytest.raises(TrainingError, match=said):
        train(path, make_model=make_model, precision=Precision(CPU, torch.float16))
    assert not path.exists()


def test_ctrl_c_behind_a_step_that_broke_the_weights_keeps_the_last_good_checkpoint(
    path, monkeypatch
):
    step = Trainer.step

    def breaks(self, *batch):
        found = step(self, *batch)
        if self.steps == BATCHES + 2:
            nn.init.constant_(next(self.model.parameters()), float("nan"))
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(Trainer, "step", breaks)
    said = "^the loss in epoch 2/3 is a number, but weights are not, at .*checkpoint is untouched"
    with pytest.raises(TrainingError, match=said):
        train(path)
    assert checkpoint.load(path)["so_far"] is None


def test_a_loss_that_is_no_number_stops_with_batch_and_rate_and_keeps_the_last_checkpoint(path):
    with pytest.raises(TrainingError) as caught:
        train(path, make_model=lambda: Breaks(at=BATCHES + 2))

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
    mended = train(path, make_model=lambda: Breaks(at=-1))
    assert_same_training(mended, train(make_model=lambda: Breaks(at=-1)))


def test_an_evaluation_that_gives_no_number_stops_the_training_too(path):
    class BreaksOutside(Breaks):
        def forward(self, x):
            return self.net(x) * (1 if self.training else float("nan"))

    with pytest.raises(TrainingError, match="loss is nan in the evaluation after epoch 1"):
        train(path, make_model=lambda: BreaksOutside(at=-1))
    assert not path.exists()


class Even(nn.Module):
    """A network that has nothing to learn."""

    def forward(self, x):
        return x.new_zeros(len(x), 10)


def test_a_network_without_parameters_is_one_sentence():
    with pytest.raises(CourseError, match="Even has no parameters: there is nothing to train"):
        evaluate(Even(), held_out())

    weights = no_norm().parameters()
    with pytest.raises(CourseError, match="Even has no parameters"):
        fit(Even(), held_out(), held_out(), optimizer=torch.optim.SGD(weights, 0.1), epochs=1)

    found = evaluate(Even(), held_out(), precision=Precision(CPU))
    assert found.loss == pytest.approx(math.log(10)), "and it can be evaluated"


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried …"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: …"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GiB, …)"),
]


@pytest.mark.parametrize("error", FULL)
def test_running_out_of_memory_names_a_batch_size_to_try(monkeypatch, error):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=error))
    with pytest.raises(
        TrainingError, match="out of memory in epoch 1/3 with 20 pictures.*batch_size=10"
    ):
        train()


def test_running_out_of_memory_with_batches_of_unknown_size_asks_for_smaller_ones(monkeypatch):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=FULL[0]))
    model, batches = no_norm(), list(student_loader())
    with pytest.raises(TrainingError, match="out of memory in epoch 1/1: try smaller batches"):
        fit(model, batches, batches, optimizer=optim.sgd(model, 0.1), epochs=1)


def test_running_out_of_memory_with_one_picture_a_batch_asks_for_another_cure(monkeypatch):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=FULL[0]))
    said = "in epoch 1/3 with 1 picture a batch: try smaller pictures or a smaller network"
    with pytest.raises(TrainingError, match=said):
        train(batch_size=1)


def test_running_out_of_memory_while_evaluating_names_the_batch_size_of_that_loader(monkeypatch):
    monkeypatch.setattr(loop, "evaluate", Mock(side_effect=FULL[0]))
    with pytest.raises(
        TrainingError, match="the evaluation after epoch 1/3 with 20 pictures.*batch_size=10"
    ):
        train()


# --- interrupted and resumed ----------------------------------------------------------------------


@functools.cache
def undisturbed(make_loader):
    return train(make_loader=make_loader)


@pytest.mark.parametrize("make_loader", [batch_loader, albumentations_loader])
@pytest.mark.parametrize("at", [0, BATCHES + 3, 2 * BATCHES - 1])
def test_a_training_stopped_by_ctrl_c_and_resumed_is_the_one_that_was_not_to_the_last_bit(
    path, make_loader, at
):
    with pytest.raises(KeyboardInterrupt, match="stopped after batch .*run again"):
        train(path, make_loader=make_loader, ctrl_c_at=at)

    resumed = train(path, make_loader=make_loader, weights_from=77)  # a fresh process has others
    assert "going on" in resumed.lines[0] and "training.pt" in resumed.lines[0]
    assert_same_training(resumed, undisturbed(make_loader))


@pytest.mark.parametrize("schedule", ["cosine", "steps", "plateau", "constant"])
def test_every_schedule_goes_on_where_it_was(path, schedule):
    with pytest.raises(KeyboardInterrupt):
        train(path, schedule=schedule, ctrl_c_at=2 * BATCHES + 1)
    resumed = train(path, schedule=schedule, weights_from=77)
    assert_same_training(resumed, train(schedule=schedule))


def test_a_training_may_be_stopped_again_and_again(path):
    for at in (2, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            train(path, ctrl_c_at=at)
    assert_same_training(train(path), whole())


def test_a_loader_begins_at_its_first_batch_again_when_the_training_is_over(path):
    with pytest.raises(KeyboardInterrupt):
        train(path, ctrl_c_at=2 * BATCHES + 1)  # in the last epoch
    loader = batch_loader(toys().train, 20, 0)
    train(path, make_loader=lambda *_: loader)
    assert loader.first_batch == 0 and len(list(loader)) == BATCHES


def test_a_loader_begins_at_its_first_batch_again_after_a_resumed_epoch_was_stopped_too(path):
    with pytest.raises(KeyboardInterrupt):
        train(path, ctrl_c_at=1)

    loader = batch_loader(toys().train, 20, 0)
    press_ctrl_c(loader, 1)
    with pytest.raises(KeyboardInterrupt, match="after batch 4 of epoch 1"):
        train(path, make_loader=lambda *_: loader)
    assert loader.first_batch == 0 and len(list(loader)) == BATCHES


def test_a_loader_begins_at_its_first_batch_again_after_a_resumed_epoch_failed(path):
    with pytest.raises(KeyboardInterrupt):
        train(path, ctrl_c_at=1, make_model=lambda: Breaks(at=-1))

    loader = batch_loader(toys().train, 20, 0)
    with pytest.raises(TrainingError, match="epoch 1/3, batch 5"):
        train(path, make_loader=lambda *_: loader, make_model=lambda: Breaks(at=2))
    assert loader.first_batch == 0 and len(list(loader)) == BATCHES


@pytest.mark.parametrize("stop", ["Ctrl-C", "an error"])
def test_a_training_that_broke_off_and_starts_over_sees_the_same_batches_again(path, stop):
    """With the same loader, as in a notebook; it began at the loader's third epoch."""
    loader = batch_loader(toys().train, 20, 0)
    loader.epoch = 2
    found = orders(loader)

    if stop == "Ctrl-C":
        press_ctrl_c(loader, BATCHES + 2)
        with pytest.raises(KeyboardInterrupt):
            train(path, make_loader=lambda *_: loader)
    else:
        with pytest.raises(TrainingError):
            train(path, make_loader=lambda *_: loader, make_model=lambda: Breaks(at=BATCHES + 2))

    train(path, make_loader=lambda *_: loader, resume=False)
    first, second, *again = found
    assert again[:2] == [first, second] and len(again) == EPOCHS


def test_a_ctrl_c_that_was_not_set_from_python_is_put_back_as_the_system_has_it(monkeypatch):
    put = Mock(return_value=None)  # as signal.signal answers there
    monkeypatch.setattr(signal, "signal", put)
    with StopAfterBatch(enabled=True):
        pass
    assert put.call_args.args == (signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_in_the_last_batch_finishes_the_training_and_stops_what_comes_after(path):
    with pytest.raises(KeyboardInterrupt, match="after the last epoch; saved in .*training.pt"):
        train(path, ctrl_c_at=STEPS - 1)
    again = train(path)
    assert_same_training(again, whole())
    assert len(again.lines) == 1 + EPOCHS, "reused"


def test_without_a_checkpoint_ctrl_c_stops_at_once(monkeypatch):
    steps = count_steps(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(ctrl_c_at=3)
    assert len(steps) == 3


def test_a_second_ctrl_c_stops_at_once(path):
    loader = batch_loader(toys().train, 20, 0)
    press_ctrl_c(loader, 3, times=2)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(path, make_loader=lambda *_: loader)
    assert str(caught.value) == "" and not path.exists()


@pytest.mark.parametrize("ctrl_c_at", [None, 3])
def test_ctrl_c_means_what_it_meant_once_the_training_is_over(path, ctrl_c_at):
    before = signal.getsignal(signal.SIGINT)
    try:
        train(path, ctrl_c_at=ctrl_c_at)
    except KeyboardInterrupt:
        assert ctrl_c_at == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_training_is_reused_with_a_word_and_without_a_step(path, monkeypatch):
    train(path)
    forbid_steps(monkeypatch)
    again = train(path, weights_from=77)
    assert_same_training(again, whole())
    assert len(again.lines) == 1 + EPOCHS
    for part in ("already finished", "reusing training.pt", "resume=False", "--no-resume"):
        assert part in again.lines[0]


def test_resume_false_trains_again_and_replaces_the_checkpoint(path, monkeypatch):
    train(path)
    first, steps = path.read_bytes(), count_steps(monkeypatch)
    again = train(path, resume=False, lr=0.05)
    assert len(steps) == STEPS and len(again.lines) == EPOCHS and path.read_bytes() != first
    assert_same_training(train(path, lr=0.05), again)


def test_a_training_whose_rate_has_fallen_on_a_plateau_is_recognised_when_called_again(path):
    model = no_norm()
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    scheduler, lines = schedules.on_plateau(optimizer, patience=0), []
    for _ in range(2):
        fit(
            model,
            batch_loader(toys().train, 20, 0),
            held_out(),
            epochs=3,
            optimizer=optimizer,
            scheduler=scheduler,
            checkpoint=Checkpoint(path),
            callbacks=Callbacks(report=lines.append),
        )
    assert optimizer.param_groups[0]["lr"] < 1e-6 and "already finished" in lines[3]


# --- it learns ------------------------------------------------------------------------------------


def test_the_session_resnet_learns_toy_shapes_in_a_smoke_run():
    """Three short epochs at 24 px: at least three times chance on pictures it has never seen."""
    precision = pick_precision(CPU)
    loader = BatchLoader(toy_shapes("train", count=384), 64)
    model = create_model("session_resnet", 10, stem="strided", logit_scale=0.125)
    model = model.to(memory_format=torch.channels_last)
    optimizer = optim.sgd(model, 0.1, bias_lr=8)

    fit(
        model,
        loader,
        BatchLoader(toy_shapes("tune", count=100), 100, augment=False),
        sizes=(24,) * 3,
        optimizer=optimizer,
        scheduler=schedules.one_cycle(optimizer, 0.1, 3 * len(loader)),
        precision=precision,
        loss=CrossEntropy(0.1),
        callbacks=Callbacks(report=lambda line: None),
    )

    val = BatchLoader(toy_shapes("val", count=200), 200, augment=False)
    val.picture_size = 24
    assert evaluate(model, val, precision=precision).top1 >= 0.3
