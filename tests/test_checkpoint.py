"""Checkpoints: which training they belong to, and files that are damaged or cannot be written."""

import copy
import enum
import errno
import functools
import json
import os
import random
import re
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import (
    CPU,
    SCHEDULES,
    assert_same_training,
    batch_loader,
    held_out,
    small_net,
    toys,
    train,
    whole,
)

from course_lib.runtime import Precision, seed_everything
from course_lib.training import (
    Callbacks,
    Checkpoint,
    CheckpointError,
    CrossEntropy,
    Extras,
    History,
    Trainer,
    checkpoint,
    fit,
    optim,
    schedules,
)

pytestmark = pytest.mark.usefixtures("same_start")


# --- where it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("as_given", [str, Path, lambda path: Checkpoint(str(path))])
def test_a_place_may_be_a_string(path, as_given):
    def call():
        model, lines = small_net(), []
        fit(
            model,
            batch_loader(toys().train, 20, 0),
            held_out(),
            epochs=1,
            optimizer=optim.sgd(model, 0.1),
            checkpoint=as_given(path),
            callbacks=Callbacks(report=lines.append),
        )
        return lines

    call()
    assert path.is_file() and "already finished" in call()[0]


def test_a_finished_training_tells_its_epochs_again(path):
    def call():
        model, lines = small_net(), []
        fit(
            model,
            batch_loader(toys().train, 20, 0),
            held_out(),
            sizes=(16, 12),
            optimizer=optim.sgd(model, 0.1),
            checkpoint=path,
            callbacks=Callbacks(report=lines.append),
        )
        return lines

    trained = call()
    reused, *told = call()
    assert len(trained) == 2 and "already finished" in reused
    assert told == trained


# --- of which training ----------------------------------------------------------------------------


CHANGES = [
    ({"lr": 0.05}, "initial_lr"),
    ({"batch_size": 10}, "batch size was 20, is 10"),
    ({"sizes": (16, 16, 12)}, r"picture sizes was \[16, 16, 16\], is \[16, 16, 12\]"),
    ({"sizes": (16, 16)}, "picture sizes"),
    ({"seed": 1}, "seed was 0, is 1"),
    ({"loss": CrossEntropy(0.1)}, r"loss was .*label_smoothing=0\.0\), is .*label_smoothing=0\.1"),
    ({"weight_decay": 0.0}, "weight_decay"),
    ({"make_model": lambda: small_net(width=12)}, "weights"),
    ({"split": "other"}, "toy shapes val"),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_checkpoint_of_another_training_is_not_taken_and_the_difference_is_named(path, schedule):
    with pytest.raises(KeyboardInterrupt):
        train(path, schedule=schedule, ctrl_c_at=1)
    before = path.read_bytes()

    for change, named in CHANGES:
        with pytest.raises(CheckpointError, match=named) as caught:
            train(path, schedule=schedule, **change)
        for part in (str(path), "another training", "resume=False", "--no-resume"):
            assert part in str(caught.value)
    assert path.read_bytes() == before


def test_settings_are_compared_too(path):
    train(path, settings={"stem": "strided", "sizes": [16]})
    again = train(path, settings={"stem": "strided", "sizes": [16]})
    assert "already finished" in again.lines[0]

    with pytest.raises(CheckpointError, match="settings, stem was strided, is small"):
        train(path, settings={"stem": "small", "sizes": [16]})


def test_a_checkpoint_of_another_schedule_is_not_taken(path):
    with pytest.raises(KeyboardInterrupt):
        train(path, ctrl_c_at=1)
    with pytest.raises(CheckpointError, match="schedule was OneCycleLR, is ReduceLROnPlateau"):
        train(path, schedule="plateau")


def partly(step, total):
    """As others write a schedule: a function of the step, whose settings are bound to it."""
    return 1 - step / total


def straight(optimizer, total):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)


LR_SCHEDULER = torch.optim.lr_scheduler


def behind_a_warm_up(optimizer, schedule):
    up = LR_SCHEDULER.LinearLR(optimizer, 0.1, total_iters=3)
    return LR_SCHEDULER.SequentialLR(optimizer, [up, schedule], [3])


FORMS = {
    "anneal": [
        lambda each: schedules.one_cycle(each, 0.1, 18),
        lambda each: schedules.one_cycle(each, 0.1, 18, anneal="linear"),
    ],
    "warm-up of one cycle": [
        lambda each: schedules.one_cycle(each, 0.1, 18, warm_up=0.2),
        lambda each: schedules.one_cycle(each, 0.1, 18, warm_up=0.4),
    ],
    "warm-up": [
        lambda each: schedules.cosine(each, 3, 6, warm_up=1),
        lambda each: schedules.cosine(each, 3, 6, warm_up=0.5),
    ],
    "flat part": [
        lambda each: schedules.cosine(each, 3, 6),
        lambda each: schedules.cosine(each, 3, 6, flat=1),
    ],
    "floor": [
        lambda each: schedules.cosine(each, 3, 6),
        lambda each: schedules.cosine(each, 3, 6, floor=0.01),
    ],
    "length": [
        lambda each: schedules.cosine(each, 3, 6),
        lambda each: schedules.cosine(each, 4, 6),
    ],
    "drops": [
        lambda each: schedules.steps(each, (1, 2), 6),
        lambda each: schedules.steps(each, (2,), 6),
    ],
    "warm-up of steps": [
        lambda each: schedules.steps(each, (2,), 6),
        lambda each: schedules.steps(each, (2,), 6, warm_up=1),
    ],
    "factor": [
        lambda each: schedules.steps(each, (2,), 6),
        lambda each: schedules.steps(each, (2,), 6, factor=0.5),
    ],
    "patience": [
        lambda each: schedules.on_plateau(each, patience=0),
        lambda each: schedules.on_plateau(each, patience=1),
    ],
    "mode": [
        lambda each: LR_SCHEDULER.ReduceLROnPlateau(each, "min"),
        lambda each: LR_SCHEDULER.ReduceLROnPlateau(each, "max"),
    ],
    "functions": [lambda each: straight(each, 18), lambda each: straight(each, 24)],
    "bound functions": [
        lambda each: LR_SCHEDULER.LambdaLR(each, functools.partial(partly, total=18)),
        lambda each: LR_SCHEDULER.LambdaLR(each, functools.partial(partly, total=24)),
    ],
    "functions in a sequence": [
        lambda each: behind_a_warm_up(each, straight(each, 18)),
        lambda each: behind_a_warm_up(each, straight(each, 24)),
    ],
    "functions in a sequence in a chain": [
        lambda each: LR_SCHEDULER.ChainedScheduler([behind_a_warm_up(each, straight(each, 18))]),
        lambda each: LR_SCHEDULER.ChainedScheduler([behind_a_warm_up(each, straight(each, 24))]),
    ],
    "functions that multiply": [
        lambda each: LR_SCHEDULER.MultiplicativeLR(each, lambda step: 0.95),
        lambda each: LR_SCHEDULER.MultiplicativeLR(each, lambda step: 0.9),
    ],
}


@pytest.mark.parametrize("first, other", FORMS.values(), ids=FORMS)
def test_a_schedule_of_another_form_is_another_training(path, monkeypatch, first, other):
    """The type is the same, the rates are not."""
    rates = {"first": lambda each, *_: first(each), "other": lambda each, *_: other(each)}
    for name, make in rates.items():
        monkeypatch.setitem(SCHEDULES, name, make)

    train(path, schedule="first")
    assert "already finished" in train(path, schedule="first").lines[0]
    with pytest.raises(CheckpointError, match="another training .*schedule's"):
        train(path, schedule="other")


TORCHS = {
    "one cycle": lambda each: LR_SCHEDULER.OneCycleLR(each, 0.1, 18),  # its momentum cycles
    "cyclic": lambda each: LR_SCHEDULER.CyclicLR(each, 0.01, 0.1, 4),  # so does its
    "plateau": lambda each: LR_SCHEDULER.ReduceLROnPlateau(each, patience=0),
    "warm restarts": lambda each: LR_SCHEDULER.CosineAnnealingWarmRestarts(each, 4, 2),
    "cosine": lambda each: LR_SCHEDULER.CosineAnnealingLR(each, 18),
    "steps": lambda each: LR_SCHEDULER.StepLR(each, 6),
    "exponential": lambda each: LR_SCHEDULER.ExponentialLR(each, 0.9),
    "polynomial": lambda each: LR_SCHEDULER.PolynomialLR(each, 18),
    "function": lambda each: straight(each, 18),
    "sequence": lambda each: schedules.cosine(each, 3, 6, 1),
    "chain": lambda each: schedules.steps(each, (1, 2), 6, 1),
    "function in a sequence": lambda each: behind_a_warm_up(each, straight(each, 18)),
}


@pytest.mark.parametrize("make", TORCHS.values(), ids=TORCHS)
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_second_call_with_the_same_objects_knows_its_training_again(path, make, kind):
    """Whatever of them has moved since: rates, momentum, counters."""
    model, loader = small_net(), batch_loader(toys().train, 20, 0)
    made = {
        "sgd": lambda: optim.sgd(model, 0.1),
        "adam": lambda: torch.optim.Adam(model.parameters()),
    }
    optimizer = made[kind]()
    scheduler, lines = make(optimizer), []
    for _ in range(2):
        fit(
            model,
            loader,
            held_out(),
            epochs=3,
            optimizer=optimizer,
            scheduler=scheduler,
            checkpoint=path,
            callbacks=Callbacks(report=lines.append),
        )
    assert "already finished" in lines[3], "behind the lines of its three epochs"


@pytest.mark.parametrize(
    "first, other, named",
    [
        (torch.optim.Adam, torch.optim.AdamW, "optimizer was Adam, is AdamW"),
        (
            functools.partial(torch.optim.Adam, betas=(0.9, 0.99)),
            functools.partial(torch.optim.Adam, betas=(0.9, 0.999)),
            r"group 0, betas was \(0\.9, 0\.99\), is \(0\.9, 0\.999\)",
        ),
    ],
)
def test_another_optimizer_is_another_training(path, first, other, named):
    def call(make):
        model = small_net()
        optimizer = make(model.parameters(), 0.01)
        loader = batch_loader(toys().train, 20, 0)
        quiet = Callbacks(report=lambda line: None)
        how = {"epochs": 1, "checkpoint": path, "callbacks": quiet}
        return fit(model, loader, held_out(), optimizer=optimizer, **how)

    call(first)
    with pytest.raises(CheckpointError, match=named):
        call(other)


# --- prolonged ------------------------------------------------------------------------------------


LONGER = {
    "constant": lambda each, *_: schedules.constant(each),
    "plateau": lambda each, *_: schedules.on_plateau(each, patience=0),
    "steps": lambda each, *_: schedules.steps(each, (1, 3), 6),
    "the schedule of the whole": lambda each, *_: schedules.cosine(each, 4, 6),
}


@pytest.mark.parametrize("make", LONGER.values(), ids=LONGER)
def test_a_finished_training_goes_on_with_more_epochs_as_if_it_had_been_longer(
    path, monkeypatch, make
):
    monkeypatch.setitem(SCHEDULES, "longer", make)
    short, long = (16, 16), (16, 16, 12, 16)

    train(path, sizes=short, schedule="longer")
    prolonged = train(path, sizes=long, schedule="longer", weights_from=77)
    assert "going on after epoch 2, from training.pt" in prolonged.lines[0]
    assert_same_training(prolonged, train(sizes=long, schedule="longer"))

    with pytest.raises(CheckpointError, match=r"picture sizes was \[16, 16, 12, 16\], is"):
        train(path, sizes=short, schedule="longer")


@pytest.mark.parametrize(
    "make, named",
    [
        (lambda each, lr, steps: schedules.one_cycle(each, lr, steps), "total_steps was 12, is 24"),
        (lambda each, lr, steps: schedules.cosine(each, steps // 6, 6), "T_max was 12, is 24"),
        (lambda each, lr, steps: straight(each, steps), "schedule's factors was"),
    ],
)
def test_a_training_whose_schedule_knows_its_length_is_not_prolonged(
    path, monkeypatch, make, named
):
    monkeypatch.setitem(SCHEDULES, "of a length", make)
    train(path, sizes=(16, 16), schedule="of a length")
    with pytest.raises(CheckpointError, match=named):
        train(path, sizes=(16,) * 4, schedule="of a length")


def test_a_checkpoint_of_another_form_is_not_taken(path, monkeypatch):
    train(path)
    form = checkpoint.FORM
    monkeypatch.setattr(checkpoint, "FORM", form + 1)
    told = f"form of checkpoint was {form}, is {form + 1}.*--no-resume"
    with pytest.raises(CheckpointError, match=told):
        train(path)


def trainer_of(model, optimizer, loss=CrossEntropy(), schedule=schedules.constant):
    return Trainer(model, optimizer, schedule(optimizer), Precision(CPU), loss)


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.on_plateau,
        torch.optim.lr_scheduler.ReduceLROnPlateau,  # notes nothing in the optimizer
        schedules.constant,
    ],
)
def test_an_identity_changes_nothing_in_the_optimizer_that_it_describes(schedule):
    model, loader = small_net(), batch_loader(toys().train, 20, 0)
    trainer = trainer_of(model, optim.sgd(model, 0.1), schedule=schedule)
    before = copy.deepcopy(trainer.optimizer.state_dict())

    found = checkpoint.identity([16], loader, trainer)

    assert trainer.optimizer.state_dict() == before
    assert [group["initial_lr"] for group in found["parameters"].values()] == [0.1, 0.1, 0.1]


def mine(logits, targets, weight=1.0):
    return weight * nn.functional.cross_entropy(logits, targets)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: CrossEntropy(0.1), "CrossEntropy(label_smoothing=0.1)"),
        (lambda: mine, "<function mine>"),
        (
            lambda: functools.partial(mine, weight=0.5),
            "functools.partial(<function mine>, weight=0.5)",
        ),
        (lambda: nn.CrossEntropyLoss(), "CrossEntropyLoss()"),
        (lambda: Mine(), "<test_checkpoint.Mine object>"),
    ],
)
def test_an_identity_names_the_loss_alike_in_every_process(make, name):
    """An address in memory is another one each time."""
    model, loader = small_net(), batch_loader(toys().train, 20, 0)
    first, second = (trainer_of(model, optim.sgd(model, 0.1), make()) for _ in range(2))
    found = [checkpoint.identity([16], loader, each)["loss"] for each in (first, second)]
    assert found == [name, name]


class Mine:
    def __call__(self, logits, targets):
        return mine(logits, targets)


# --- plain data -----------------------------------------------------------------------------------


def test_numpys_numbers_and_paths_are_kept_as_pythons(path):
    numbers = {
        "sizes": np.linspace(8, 16, 3).astype(int),
        "lr": np.float64(0.1),
        "batch_size": np.int64(20),
        "seed": np.int64(0),
        "extras": Extras(clip_norm=np.float32(1), accumulate=np.int64(2)),
        "settings": {"data": path.parent, "grid": np.arange(3), Path("a"): np.str_("b")},
    }
    with pytest.raises(KeyboardInterrupt):
        train(path, ctrl_c_at=8, **numbers)
    resumed = train(path, **numbers)
    assert "going on after epoch 1, batch 3" in resumed.lines[0]
    assert "already finished" in train(path, **numbers).lines[0]
    assert resumed.history.column("picture_size") == [8, 12, 16]
    json.dumps(resumed.history.to_dict())


@pytest.mark.parametrize("schedule", TORCHS.values(), ids=TORCHS)
def test_every_state_of_a_schedule_comes_back_as_it_was(path, schedule):
    model = small_net()
    optimizer = optim.sgd(model, np.float64(0.1))
    before = schedule(optimizer).state_dict()
    checkpoint.save(path, {"scheduler": before, "model": model.state_dict()})

    found = checkpoint.load(path)
    assert repr(found["scheduler"]) == re.sub(r"np\.float64\((.*?)\)", r"\1", repr(before))
    assert type(found["model"]) is type(model.state_dict())
    assert found["model"]._metadata == model.state_dict()._metadata


class Odd(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"model": {"loss": nn.Identity()}}, "settings model loss, of type Identity"),
        ({"kind": Odd.ONE}, "settings kind, of type Odd"),
        ({"sizes": range(3)}, "settings sizes, of type range"),
        ({"when": np.datetime64("2020-01-01")}, "settings when, of type date"),
    ],
)
def test_what_could_never_be_read_again_is_refused_before_the_first_step(path, settings, named):
    with pytest.raises(CheckpointError, match=f"a checkpoint cannot hold {named}: it holds"):
        train(path, settings=settings)
    assert not path.exists()


def test_a_network_whose_state_could_never_be_read_again_is_refused_before_the_first_step(path):
    class Remembers(nn.Flatten):
        def get_extra_state(self):
            return Odd.ONE

    with pytest.raises(CheckpointError, match="model 0._extra_state, of type Odd"):
        train(path, make_model=lambda: nn.Sequential(Remembers(), nn.Linear(768, 10)))
    assert not path.exists()


# --- files ----------------------------------------------------------------------------------------


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
def test_a_file_that_is_no_checkpoint_is_named_with_a_cure_and_runs_no_code(path, damage):
    with pytest.raises(KeyboardInterrupt):
        train(path, ctrl_c_at=1)
    DAMAGES[damage](path)

    with pytest.raises(CheckpointError) as caught:
        train(path)
    assert str(path) in str(caught.value) and "Delete it" in str(caught.value)
    assert not path.with_name("ran").exists()


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENFILE, "Too many open files in system"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError(errno.ETIMEDOUT, "Connection timed out"),
        MemoryError("full"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_to_be_deleted(path, monkeypatch, error):
    checkpoint.save(path, {"steps": 1})
    monkeypatch.setattr(torch, "load", Mock(side_effect=error))
    with pytest.raises(CheckpointError, match="cannot be read now") as caught:
        train(path)
    assert "elete" not in str(caught.value) and path.exists()


@pytest.mark.parametrize("begun", [False, True])
def test_a_place_that_cannot_be_written_is_told_before_the_first_step(path, monkeypatch, begun):
    if begun:
        with pytest.raises(KeyboardInterrupt):
            train(path, ctrl_c_at=1)
    monkeypatch.setattr(checkpoint, "writable", lambda folder: False)
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=AssertionError("a step was trained")))
    with pytest.raises(CheckpointError, match="training.pt: the folder cannot be written"):
        train(path)


def test_a_finished_training_is_reused_from_a_place_that_cannot_be_written(path, monkeypatch):
    train(path)
    monkeypatch.setattr(checkpoint, "writable", lambda folder: False)
    assert "already finished" in train(path).lines[0]


def test_a_folder_in_place_of_the_file_is_named_and_not_to_be_deleted(path):
    path.mkdir(parents=True)
    with pytest.raises(CheckpointError, match="is a folder: give the name of a file in it"):
        train(path)


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
    path, monkeypatch, error, cause
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
            train(path)

    assert str(path) in str(caught.value) and "epoch before is still there" in str(caught.value)
    assert [file.name for file in path.parent.iterdir()] == ["training.pt"]
    assert len(checkpoint.load(path)["history"]["rows"]) == 1
    assert_same_training(train(path), whole())


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
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(torch, "save", Mock(side_effect=full))
    with pytest.raises(CheckpointError, match="disk is full; none was there before"):
        checkpoint.save(path, {"steps": 1})
    assert list(path.parent.iterdir()) == []


# --- what is in them ------------------------------------------------------------------------------


def test_random_states_travel_through_a_file(path):
    def draw():
        numbers = random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()
        return numbers, torch.randn(3).tolist()

    seed_everything(5)
    random.gauss(0, 1)  # this one and the next leave a second normal number waiting
    np.random.randn()
    checkpoint.save(path, checkpoint.random_state())
    expected = [draw(), draw()]

    seed_everything(6)
    checkpoint.set_random_state(checkpoint.load(path))
    assert [draw(), draw()] == expected


def test_the_random_numbers_of_apples_gpu_travel_too(path, monkeypatch):
    """A stand-in for the GPU, whose generator stands at a number."""
    here = {"state": torch.tensor([7], dtype=torch.uint8)}
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: here["state"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: here.update(state=state))

    checkpoint.save(path, checkpoint.random_state())
    here["state"] = torch.tensor([9], dtype=torch.uint8)
    checkpoint.set_random_state(checkpoint.load(path))
    assert here["state"].tolist() == [7]

    older = checkpoint.random_state()
    del older["mps"]
    here["state"] = torch.tensor([9], dtype=torch.uint8)
    checkpoint.set_random_state(older)
    assert here["state"].tolist() == [9], "a checkpoint of older code tells nothing of it"


def test_a_history_travels_through_json_and_names_its_columns():
    history = whole().history
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert again == history and len(again) == 3 and again.last == again.rows[-1]
    with pytest.raises(KeyError, match="no column 'accuracy'.*val_top1"):
        again.column("accuracy")
