"""One small training, as the tests of the loop and of its checkpoints run it again and again."""

import functools
import signal
from itertools import count
from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_lib.data import AlbumentationsLoader, Augment, BatchLoader, pipelines, toy_shapes
from course_lib.runtime import seed_everything
from course_lib.training import Callbacks, Checkpoint, CrossEntropy, fit, optim, schedules

CPU = torch.device("cpu")
BATCHES, EPOCHS = 6, 3  # of 20 pictures at 16 pixels
STEPS = BATCHES * EPOCHS

SCHEDULES = {
    "one_cycle": lambda optimizer, lr, steps: schedules.one_cycle(optimizer, lr, steps),
    "cosine": lambda optimizer, lr, steps: schedules.cosine(
        optimizer, EPOCHS, steps // EPOCHS, 0.5, 1
    ),
    "steps": lambda optimizer, lr, steps: schedules.steps(optimizer, (1, 2), steps // EPOCHS, 0.5),
    "plateau": lambda optimizer, lr, steps: schedules.on_plateau(optimizer, patience=0),
    "constant": lambda optimizer, lr, steps: schedules.constant(optimizer),
}


@functools.cache
def toys():
    return SimpleNamespace(
        train=toy_shapes("train", size=16, count=120),
        tune=toy_shapes("tune", size=16, count=45),
        other=toy_shapes("val", size=16, count=120),
    )


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


class Breaks(nn.Module):
    """A network that gives NaN in its training batch ``at``, from 0 on."""

    def __init__(self, at):
        super().__init__()
        self.net, self.at, self.batches = small_net(dropout=0.3), at, 0

    def forward(self, x):
        self.batches += self.training
        breaks = self.training and self.batches == self.at + 1
        return self.net(x) * (float("nan") if breaks else 1)


def batch_loader(store, batch_size, seed):
    return BatchLoader(store, batch_size, seed=seed, augment=Augment(pad=2))


def albumentations_loader(store, batch_size, seed):
    pipeline = pipelines.pad_crop_flip(16, 2)
    return AlbumentationsLoader(store, pipeline, batch_size, workers=0, seed=seed)


def student_loader(count=60, batch_size=20, kind=DataLoader, **options):
    """A plain loader, as a student's own code makes it, of pictures of 16 pixels."""
    generator = torch.Generator().manual_seed(9)
    x = torch.rand(count, 3, 16, 16, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    return kind(TensorDataset(x, labels), batch_size, shuffle=True, **options)


def held_out(batch_size=20):
    return BatchLoader(toys().tune, batch_size, augment=False)


def train(
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
    loss=None,
    resume=True,
    settings=None,
    **options,
):
    """One training from fixed weights: ``.model``, ``.history`` and the ``.lines`` reported.

    ``ctrl_c_at``: the number of the batch, from 0 on, in which Ctrl-C is pressed.
    """
    seed_everything(weights_from)
    model = make_model()
    loader = make_loader(getattr(toys(), split), batch_size, seed)
    if ctrl_c_at is not None:
        press_ctrl_c(loader, ctrl_c_at)

    optimizer = optim.sgd(model, lr, weight_decay=weight_decay)
    lines = []
    history = fit(
        model,
        loader,
        held_out(),
        sizes=sizes,
        optimizer=optimizer,
        scheduler=SCHEDULES[schedule](optimizer, lr, len(sizes) * len(loader)),
        loss=loss or CrossEntropy(),
        checkpoint=path and Checkpoint(path, resume, settings),
        callbacks=Callbacks(report=lines.append),
        **options,
    )
    return SimpleNamespace(model=model, history=history, lines=lines, optimizer=optimizer)


@functools.cache
def whole():
    """The training that is not interrupted, to hold the others against."""
    return train()


def press_ctrl_c(loader, batch, times=1):
    """While the loader makes its ``batch``-th batch, counted from now and 0 on."""
    numbers = count()

    class Pressed(type(loader)):
        def __iter__(self):
            for x, labels in super().__iter__():
                if next(numbers) == batch:
                    for _ in range(times):
                        signal.raise_signal(signal.SIGINT)
                yield x, labels

    loader.__class__ = Pressed


def rows(history):
    """The rows, without what differs from run to run."""
    return [
        {key: value for key, value in row.items() if "seconds" not in key} for row in history.rows
    ]


def assert_same_weights(first, second):
    """Not a bit of difference in weights and statistics."""
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def assert_same_training(first, second):
    """Nor in the history."""
    assert_same_weights(first.model, second.model)
    assert first.history.steps == second.history.steps
    assert rows(first.history) == rows(second.history)
