"""The training loop: an evaluation, one epoch, many epochs."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from course_lib.checks import whole
from course_lib.files import CourseError
from course_lib.models.modes import in_eval_mode
from course_lib.runtime import Precision, is_out_of_memory, progress_bar
from course_lib.training import processes, schedules
from course_lib.training.checkpoint import Checkpoint, Resumable, Saver
from course_lib.training.history import EpochSoFar, History
from course_lib.training.interrupts import StopAfterBatch
from course_lib.training.losses import CrossEntropy
from course_lib.training.step import Extras, Loss, Trainer, fp32, move_batch, train_mode


class TrainingError(CourseError):
    """A training that cannot go on: a loss that is no number, too little memory."""


class DivergedError(TrainingError):
    """A loss that is no number."""


# --- evaluate -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metrics:
    """Means over pictures. Accuracies are fractions."""

    loss: float
    top1: float
    top5: float
    images: int


@torch.inference_mode()
def evaluate(
    model: nn.Module, loader, *, precision: Precision | None = None, mirrored: bool = False
) -> Metrics:
    """Cross-entropy, top-1 and top-5 over every *picture* of ``loader``.

    Summed, then divided once: the mean of batch means gives a short last batch too much weight.
    mirrored: look at each picture's mirror image too, and take the mean of the logits. With fewer
    than five classes top-5 is 1. Raises CourseError for a loader without a picture.
    """
    precision = precision or fp32(model)
    # loss, top-1, top-5
    sums = torch.zeros(3, dtype=precision.sum_dtype, device=precision.device)
    images = 0

    with in_eval_mode(model):
        for x, labels in loader:
            x, labels = move_batch(x, labels, precision.device)

            with precision.autocast():
                # halved before they are added: fp16 ends at 65,504
                logits = model(x) / 2 + model(x.flip(-1)) / 2 if mirrored else model(x)
            logits = logits.float()  # (B, classes)

            loss = F.cross_entropy(logits, labels, reduction="sum")
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices  # (B, 5), best first
            hits = best == labels[:, None]  # (B, 5)
            sums += torch.stack([loss, hits[:, 0].sum(), hits.sum()])
            images += len(labels)

    loss, top1, top5, images = _everywhere(sums, images)
    if not images:
        raise CourseError("nothing to evaluate: the loader gave no picture")
    return Metrics(loss / images, top1 / images, top5 / images, int(images))


def _everywhere(sums: torch.Tensor, images: int) -> list[float]:
    """Sums and number of pictures over all processes."""
    return processes.total(torch.cat([sums, sums.new_tensor([images])])).tolist()


# --- one epoch ----------------------------------------------------------------------------------


def train_one_epoch(
    trainer: Trainer,
    loader,
    history: History,
    *,
    name: str = "train",
    so_far: EpochSoFar | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> EpochSoFar:
    """Every batch of ``loader`` once: the sums over the epoch, of all processes.

    loader: yields ``(x, labels)`` and has a length. history: its ``steps`` grow. so_far: an epoch
    that was stopped, and goes on. stop: whether to, asked whenever the loss is looked at, which
    ``look_every`` tells, and after the last batch. Raises TrainingError when the loss is no number
    any more.
    """
    totals = so_far or EpochSoFar()
    device = trainer.precision.device
    every = look_every(device)
    started = time.perf_counter()
    seen = 0  # pictures

    # loss, right: in float64 an epoch sums to the same number wherever it was stopped
    sums = torch.zeros(2, dtype=trainer.precision.sum_dtype, device=device)
    asked = False

    train_mode(trainer.model)
    shown = processes.rank() == 0
    with progress_bar(len(loader), name, " batch", shown, thousands=False) as bar:
        bar.update(totals.batches)

        for x, labels in loader:
            x, labels = move_batch(x, labels, device)
            totals.lr = trainer.lr
            loss, right = trainer.step(x, labels)

            # summed on the device
            sums += torch.stack([loss.to(sums.dtype) * len(labels), right])
            seen += len(labels)
            totals.batches += 1
            bar.update()

            # the rest only now and then, and after the last batch: for every number that is
            # fetched a GPU has to wait
            is_last = totals.batches == len(loader)
            if not is_last and trainer.steps % every:
                continue

            value, asked = processes.agree(_nan_if_any_was(loss, sums), stop())
            where = f"{name}, batch {_since(totals.batches, every)}"
            _check_goes_on(value, trainer, totals.lr, where)

            if trainer.steps % 10 == 0:
                history.steps.append([trainer.steps, totals.lr, value])
            top1 = sums[1].item() / seen
            bar.set_postfix_str(f"loss {value:.3f}, top-1 {top1:.1%}, lr {totals.lr:.3g}")

            if asked:
                break

    loss_sum, right, images = _everywhere(sums, seen)
    totals.loss += loss_sum
    totals.right += right
    totals.images += int(images)
    totals.seconds += time.perf_counter() - started
    totals.stopped = asked and totals.batches < len(loader)
    return totals


def look_every(device: torch.device) -> int:
    """Steps from one look at the loss to the next: a GPU has to wait for each."""
    return 1 if device.type == "cpu" else 10


def _nan_if_any_was(loss: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    """The loss; NaN if one of those summed before it was, for 0 × NaN is NaN."""
    return loss.to(sums.dtype) + 0 * sums[0]


def _check_goes_on(loss: float, trainer: Trainer, lr: float, where: str) -> None:
    """Raises DivergedError for a loss that is no number, and where fp16 makes no step any more."""
    if not math.isfinite(loss):
        raise _diverged(f"the loss is {loss} in {where}", lr)
    if trainer.scale_collapsed:
        raise _diverged(f"the loss in {where} is a number, but its gradients are not", lr)


def _since(last: int, every: int) -> str:
    """The batches since the last look."""
    first = max(1, last - every + 1)
    return str(last) if first == last else f"{first} to {last}"


def _diverged(what: str, lr: float) -> DivergedError:
    return DivergedError(
        f"{what}, at learning rate {lr:.3g}. Choose a lower learning rate (a range test shows "
        "where the loss turns up), a longer warm-up, or fp32. The last good checkpoint is "
        "untouched."
    )


# --- many epochs --------------------------------------------------------------------------------


Measure = Callable[[nn.Module, int | None], dict]  # (network, picture size) → more columns


def do_nothing(_) -> None:
    """As a callback: nobody is told."""


def no_measure(model: nn.Module, size: int | None) -> dict:
    """No more columns than a history has anyway."""
    return {}


@dataclass(frozen=True)
class Callbacks:
    """What ``fit`` calls on its way."""

    before_epoch: Callable[[int], None] = do_nothing  # with the epoch's number, from 0
    measure: Measure = no_measure  # after an epoch, into its row, with the network that is judged
    after_epoch: Callable[[History], None] = do_nothing
    report: Callable[[str], None] = print  # with a line an epoch


def fit(
    model: nn.Module,
    train_loader,
    val_loader,
    *,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | ReduceLROnPlateau | None = None,
    epochs: int | None = None,
    sizes: Sequence[int | None] | None = None,
    loss: Loss = CrossEntropy(),
    precision: Precision | None = None,
    extras: Extras = Extras(),
    checkpoint: Checkpoint | Path | str | None = None,
    callbacks: Callbacks = Callbacks(),
) -> History:
    """Train for some epochs, and evaluate on ``val_loader`` after each.

    Loaders: anything that yields ``(x, labels)`` and has a length. sizes: the picture size of each
    epoch in pixels, for loaders that have a ``picture_size``; epochs alone: pictures as they come.
    scheduler: stepped after every batch, and None keeps the rate; a ReduceLROnPlateau after every
    epoch, with the validation loss, or with the accuracy where its mode is "max". loss: ``(logits,
    targets) → mean``. precision: None is fp32. Modules in eval mode within a network in train mode,
    such as a frozen norm, stay so.

    A second call goes on: with the weights as they are, and with the batches of the loader's next
    epochs (``loader.epoch = 0`` begins with the first one's again). After one that broke off the
    loader stands where it stood before.

    With a checkpoint the training can be interrupted (Ctrl-C) and goes on when called again, at the
    very batch where the loader is ``Resumable``, else after its last whole epoch; one that has
    finished is reused, or prolonged when called with more epochs, where its schedule does not
    depend on their number. Averaged weights are evaluated in place of the others, and in ``model``
    at the end.

    Raises CourseError for a training of no epoch and a schedule that ends too early, TrainingError
    for a loss that is no number or too little memory, CheckpointError for a checkpoint of another
    training or a place that cannot be written, KeyboardInterrupt after saving.
    """
    plan = _plan(epochs, sizes, train_loader, val_loader)
    trainer = Trainer(
        model,
        optimizer,
        scheduler or schedules.constant(optimizer),
        precision or fp32(model),
        loss,
        extras,
        mix_for(model, train_loader, extras),
    )
    trainer.network = processes.network(model, extras.compile, callbacks.report)

    # from the beginning, or from where an earlier call came to
    saver = Saver(checkpoint, trainer, train_loader, plan)
    history, so_far = saver.resume(callbacks.report)
    for row in history.rows:  # trained by an earlier call, whose lines are gone
        callbacks.report(_line(row, len(plan)))
    _check_schedule(trainer, len(plan) * len(train_loader))

    with (
        StopAfterBatch(enabled=checkpoint is not None) as ctrl_c,
        _put_back_if_broken_off(train_loader, saver.first_epoch),
    ):
        for epoch in range(len(history), len(plan)):
            name = f"epoch {epoch + 1}/{len(plan)}"
            callbacks.before_epoch(epoch)
            if sizes is not None:
                _show_at(plan[epoch], train_loader, val_loader)

            first_batch = so_far.batches if so_far else 0
            with (
                _out_of_memory_told(name, train_loader),
                _standing_at(train_loader, saver.first_epoch + epoch, first_batch),
            ):
                trained = train_one_epoch(
                    trainer, train_loader, history, name=name, so_far=so_far, stop=ctrl_c
                )
            if trained.stopped:
                _check_weights(trainer, name)
                raise saver.stopped(name, history, trained)

            with _out_of_memory_told(f"the evaluation after {name}", val_loader):
                row = _history_row(
                    trainer, val_loader, epoch, plan[epoch], trained, callbacks.measure
                )
            history.rows.append(row)

            so_far = None  # what an earlier call had begun is at its end
            saver.save(history)

            callbacks.report(_line(row, len(plan)))
            callbacks.after_epoch(history)

        _stop_after_the_end(ctrl_c, saver, trainer)

    _go_to_epoch(train_loader, saver.first_epoch + len(plan))  # the next that a second call needs
    if trainer.average:
        model.load_state_dict(trainer.model_to_evaluate.state_dict())
    return history


def _plan(epochs: int | None, sizes: Sequence | None, *loaders) -> list[int | None]:
    """The picture size of each epoch; None: as the loader gives them."""
    if not len(loaders[0]):
        raise CourseError("fit: nothing to train on, the loader gives no batch")

    if sizes is None:
        if epochs is None:
            raise CourseError("fit: give epochs, or sizes with a picture size for each epoch")
        return [getattr(loaders[0], "picture_size", None)] * whole("epochs", epochs)

    if not len(sizes):
        raise CourseError("fit: sizes is empty: give the picture size of each epoch")
    if epochs not in (None, len(sizes)):
        raise CourseError(f"fit: {epochs} epochs, but {len(sizes)} sizes: leave epochs out")
    for loader in loaders:
        if any(sizes) and not hasattr(loader, "picture_size"):
            raise CourseError(
                f"fit: sizes are given, but {type(loader).__name__} has no picture_size: give "
                f"epochs={len(sizes)} instead, or take a BatchLoader"
            )
    return [_pixels(size) for size in sizes]


def _pixels(size: int | None) -> int | None:
    """A size as Python's number, also where it came as numpy's. Raises CourseError for others."""
    if size is None:
        return None
    return whole("a picture size", size, expected="whole pixels, from 1 on")


def _show_at(size: int | None, *loaders) -> None:
    for loader in loaders:
        if hasattr(loader, "picture_size"):
            loader.picture_size = size


def _check_schedule(trainer: Trainer, steps: int) -> None:
    to_go = steps - trainer.steps
    left = schedules.steps_left(trainer.scheduler)
    if to_go > left:
        raise CourseError(
            f"the schedule ends after {left} steps, and the training has {to_go} to go: make it "
            "for epochs * len(train_loader) steps, for it moves after every batch"
        )


@contextlib.contextmanager
def _standing_at(loader, epoch: int, batch: int) -> Iterator[None]:
    """The pass inside begins at that batch, where a loader can be told; later ones at the first."""
    if not isinstance(loader, Resumable):
        yield
        return

    loader.epoch, loader.first_batch = epoch, batch
    try:
        yield
    finally:
        loader.first_batch = 0


@contextlib.contextmanager
def _put_back_if_broken_off(loader, epoch: int) -> Iterator[None]:
    """After an error or Ctrl-C the loader is at ``epoch``: who starts over has the same batches."""
    try:
        yield
    except BaseException:
        _go_to_epoch(loader, epoch)
        raise


def _go_to_epoch(loader, epoch: int) -> None:
    if isinstance(loader, Resumable):
        loader.epoch = epoch


def mix_for(model: nn.Module, loader, extras: Extras) -> Callable | None:
    """What mixes the pictures of ``loader``, if anything does."""
    return extras.mix(_classes(model, loader)) if extras.mixes else None


def _classes(model: nn.Module, loader) -> int:
    """How many classes a mixed label has shares of."""
    if isinstance(loader, Resumable):
        return len(loader.store.classes)
    try:
        return model.head.out_features
    except AttributeError:
        raise CourseError(
            f"MixUp and CutMix have to know the number of classes, and {type(model).__name__} has "
            "no `head` with `out_features`: give it one"
        ) from None


def _history_row(
    trainer: Trainer,
    loader,
    epoch: int,
    size: int | None,
    trained: EpochSoFar,
    measure: Measure,
) -> dict:
    """The epoch's row of the history."""
    started = time.perf_counter()
    processes.same_statistics(trainer.model_to_evaluate)
    val = evaluate(trainer.model_to_evaluate, loader, precision=trainer.precision)
    if not math.isfinite(val.loss):
        what = f"the loss is {val.loss} in the evaluation after epoch {epoch + 1}"
        raise _diverged(what, trained.lr)

    if isinstance(trainer.scheduler, ReduceLROnPlateau):
        rises = trainer.scheduler.mode == "max"
        trainer.scheduler.step(val.top1 if rises else val.loss)

    more = measure(trainer.model_to_evaluate, size)

    return {
        "epoch": epoch + 1,
        "picture_size": size,
        "train_loss": trained.loss / trained.images,
        "train_top1": trained.right / trained.images,
        "val_loss": val.loss,
        "val_top1": val.top1,
        "lr": trained.lr,
        "seconds": trained.seconds,
        "eval_seconds": time.perf_counter() - started,
        **more,
    }


def _line(row: dict, epochs: int) -> str:
    size = f", {row['picture_size']} px" if row["picture_size"] else ""
    return (
        f"epoch {row['epoch']:>2}/{epochs}{size}: train loss {row['train_loss']:.3f}, "
        f"top-1 {row['train_top1']:.1%} · held out {row['val_loss']:.3f}, {row['val_top1']:.1%} · "
        f"{row['seconds']:.0f} s"
    )


# --- rare cases ---------------------------------------------------------------------------------


def _check_weights(trainer: Trainer, name: str) -> None:
    """A step's loss is computed before its update: the last update has not been seen yet."""
    if not all(p.isfinite().all() for p in trainer.model.parameters()):
        raise _diverged(f"the loss in {name} is a number, but weights are not", trainer.lr)


def _stop_after_the_end(ctrl_c: StopAfterBatch, saver: Saver, trainer: Trainer) -> None:
    """Ctrl-C in the last batch: what comes after the training was not wanted either."""
    _, asked = processes.agree(torch.zeros((), device=trainer.precision.device), ctrl_c())
    if asked:
        raise KeyboardInterrupt(f"stopped after the last epoch; saved in {saver.path}")


@contextlib.contextmanager
def _out_of_memory_told(name: str, loader) -> Iterator[None]:
    """Too little memory inside becomes a TrainingError, with the batch size to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"out of memory in {name}{_smaller(loader)}") from error


def _smaller(loader) -> str:
    """How many pictures a batch has now, and what to try."""
    batch_size = getattr(loader, "batch_size", None)
    if not batch_size:
        return ": try smaller batches"
    if batch_size == 1:
        return " with 1 picture a batch: try smaller pictures or a smaller network"
    return f" with {batch_size} pictures a batch: try batch_size={batch_size // 2}"
