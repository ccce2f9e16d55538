"""Checkpoints: which training they belong to, and files that are damaged or cannot be written."""

import copy
import errno
import functools
import json
import os
import random
from itertools import count
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
    ctrl_c_as_a_terminal_has_it,
    small_net,
    toys,
    train,
    whole,
)

from course_lib.runtime import Precision, seed_everything
from course_lib.training import (
    CheckpointError,
    CrossEntropy,
    History,
    Trainer,
    checkpoint,
    optim,
    schedules,
)


@pytest.fixture(autouse=True)
def same_start():
    seed_everything(0)
    yield from ctrl_c_as_a_terminal_has_it()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "training.pt"


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


def test_a_checkpoint_of_another_form_is_not_taken(path, monkeypatch):
    train(path)
    monkeypatch.setattr(checkpoint, "FORM", 3)
    with pytest.raises(CheckpointError, match="form of checkpoint was 2, is 3.*--no-resume"):
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
    assert [group["initial_lr"] for group in found["optimizer"]] == [0.1, 0.1, 0.1]


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


def test_a_history_travels_through_json_and_names_its_columns():
    history = whole().history
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert again == history and len(again) == 3 and again.last == again.rows[-1]
    with pytest.raises(KeyError, match="no column 'accuracy'.*val_top1"):
        again.column("accuracy")
