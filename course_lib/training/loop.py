"""The training loop: one epoch, many epochs, and the evaluation that does not average averages."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from course_lib.files import CourseError
from course_lib.runtime import Precision, progress_bar
from course_lib.training import checkpoint as ckpt
from course_lib.training import processes
from course_lib.training.history import History
from course_lib.training.interrupts import StopAfterBatch
from course_lib.training.step import Extras, Trainer

LOOK_EVERY = {"cpu": 1}  # batches between two looks at the loss; a GPU has to wait for each


class TrainingError(CourseError):
    """A training that cannot go on: a loss that is no number, too little memory."""


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
    """Loss, top-1 and top-5 over every *picture* of ``loader``.

    Summed, then divided once: the mean of batch means gives a short last batch too much weight. The model's
    mode is put back afterwards. mirrored: look at each picture's mirror image too, and take the mean of the logits.
    With fewer than five classes top-5 is 1. Raises CourseError for a loader without a picture.
    """
    precision = precision or Precision(next(model.parameters()).device)
    was_training = model.training
    model.eval()
    sums, images = (
        torch.zeros(3, dtype=torch.float64, device=precision.device),
        0,
    )  # loss, top-1, top-5
    try:
        for x, labels in loader:
            with precision.autocast():
                logits = (model(x) + model(x.flip(-1))) / 2 if mirrored else model(x)
            logits = logits.float()  # (B, classes)
            ranked = (
                logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
            )  # (B, 5)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            sums += torch.stack([loss, ranked[:, 0].sum(), ranked.sum()])
            images += len(labels)
    finally:
        model.train(was_training)
    loss, top1, top5, images = processes.total(
        torch.cat([sums, sums.new_tensor([images])])
    ).tolist()
    if not images:
        raise CourseError("nothing to evaluate: the loader gave no picture")
    return Metrics(loss / images, top1 / images, top5 / images, int(images))


def train_one_epoch(
    trainer: Trainer,
    loader,
    history: History,
    *,
    name: str = "train",
    totals: dict | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict:
    """Every batch of ``loader`` once. Returns the totals: loss and right answers summed over pictures.

    ``totals`` continues an epoch that was interrupted; ``stop`` is asked after every batch. The loss is
    fetched from a GPU only every tenth batch, for each look makes it wait. Raises TrainingError when
    the loss is no longer a number.
    """
    totals = totals or {"batches": 0, "images": 0, "loss": 0.0, "right": 0.0, "seconds": 0.0}
    trainer.model.train()
    look_every = LOOK_EVERY.get(loader.device.type, 10)
    started, before = time.perf_counter(), totals["seconds"]
    sums, seen = (
        torch.zeros(2, dtype=torch.float64, device=loader.device),
        0,
    )  # loss, right: exact, wherever cut
    with progress_bar(
        len(loader) * loader.batch_size, name, " img", shown=processes.rank() == 0
    ) as bar:
        bar.update(totals["images"])
        for x, labels in loader:
            totals["lr"] = lr = trainer.lr
            loss, right = trainer.step(x, labels)
            sums += torch.stack([loss.double() * len(labels), right])
            seen += len(labels)
            totals["batches"] += 1
            bar.update(len(labels) * processes.count())
            if trainer.steps % look_every == 0 or totals["batches"] == len(loader):
                value, asked = processes.agree(
                    loss.double() + 0 * sums[0], stop()
                )  # 0 × NaN is NaN: none slips by
                if not math.isfinite(value) or trainer.stands_still:
                    found = "a number, but its gradients are not" if math.isfinite(value) else value
                    seen_from = max(1, totals["batches"] - look_every + 1)
                    raise TrainingError(
                        _not_finite(
                            found, f"{name}, batch {_range(seen_from, totals['batches'])}", lr
                        )
                    )
                if trainer.steps % 10 == 0:
                    history.steps.append([trainer.steps, lr, value])
                bar.set_postfix_str(
                    f"loss {value:.3f}, top-1 {sums[1].item() / seen:.1%}, lr {lr:.3g}"
                )
                if asked:
                    break
    everywhere = processes.total(torch.cat([sums, sums.new_tensor([seen])])).tolist()
    for key, value in zip(("loss", "right", "images"), everywhere, strict=True):
        totals[key] += value
    totals["seconds"] = before + time.perf_counter() - started
    return totals


def _range(first: int, last: int) -> str:
    return str(last) if first == last else f"{first} to {last}"


def _not_finite(value: float | str, where: str, lr: float) -> str:
    return (
        f"the loss is {value} in {where}, at learning rate {lr:.3g}. Choose a lower learning "
        "rate (a range test shows where the loss turns up), a longer warm-up, or fp32. The last good "
        "checkpoint is untouched."
    )


def _nothing(_) -> None:
    pass


def fit(
    model: nn.Module,
    train_loader,
    val_loader,
    *,
    sizes: Sequence[int | None],
    optimizer,
    scheduler,
    precision: Precision | None = None,
    label_smoothing: float = 0.0,
    extras: Extras | None = None,
    checkpoint: Path | None = None,
    anew: bool = False,
    settings: dict | None = None,
    before_epoch: Callable[[int], None] = _nothing,
    after_epoch: Callable[[History], None] = _nothing,
    report: Callable[[str], None] = print,
) -> History:
    """Train for ``len(sizes)`` epochs, epoch e on pictures of ``sizes[e]`` pixels (None: as stored).

    After every epoch the model is evaluated on ``val_loader`` at the size it was just trained at, and a line
    is reported. With a ``checkpoint`` path the training can be interrupted at any batch (Ctrl-C) and goes
    on there when called again, a killed one after its last whole epoch; one that has finished is reused.
    ``anew=True`` starts over. ``settings``: plain data that the training depends on besides, kept in the
    checkpoint and compared. ``before_epoch`` gets the epoch's number (from 0), ``after_epoch`` the history.
    Averaged weights (``extras``) are evaluated in place of the others, and are in ``model`` at the end.
    Raises TrainingError for a loss that is no number or too little memory, CheckpointError for a checkpoint of
    another training, KeyboardInterrupt after saving.
    """
    precision, extras = precision or Precision(next(model.parameters()).device), extras or Extras()
    mix = extras.mix(len(train_loader.store.classes))
    trainer = Trainer(model, optimizer, scheduler, precision, label_smoothing, extras, mix)
    trainer.network = processes.network(model, extras.compile, report)
    identity = ckpt.identity(sizes, train_loader, trainer, settings)
    saved = None if anew or checkpoint is None else ckpt.load(checkpoint, identity)
    history, totals = (
        _resume(saved, trainer, len(sizes), checkpoint, report) if saved else (History(), None)
    )
    train_loader.first_batch = totals["batches"] if totals else 0
    with StopAfterBatch(enabled=checkpoint is not None) as stop:
        for epoch in range(len(history), len(sizes)):
            before_epoch(epoch)
            train_loader.epoch, name = epoch, f"epoch {epoch + 1}/{len(sizes)}"
            train_loader.picture_size = val_loader.picture_size = sizes[epoch]
            with _memory(name, train_loader):
                totals = train_one_epoch(
                    trainer, train_loader, history, name=name, totals=totals, stop=stop
                )
            if totals["batches"] < len(train_loader):
                if not all(
                    p.isfinite().all() for p in model.parameters()
                ):  # by the step behind the last loss
                    raise TrainingError(
                        _not_finite("a number, but weights are not", name, trainer.lr)
                    )
                _save(checkpoint, trainer, history, totals, identity)
                raise KeyboardInterrupt(
                    f"stopped after batch {totals['batches']} of {name}; saved in "
                    f"{checkpoint}: run again to go on from there"
                )
            with _memory(f"the evaluation after {name}", val_loader):
                history.rows.append(_finish_epoch(trainer, val_loader, epoch, sizes[epoch], totals))
            totals, train_loader.first_batch = None, 0
            _save(checkpoint, trainer, history, None, identity)
            report(_line(history.last, len(sizes)))
            after_epoch(history)
        _, asked = processes.agree(torch.zeros((), device=precision.device), stop())
        if asked:  # too late for a batch, but what comes after the training was not wanted either
            raise KeyboardInterrupt(f"stopped after the last epoch; saved in {checkpoint}")
    if trainer.average:
        model.load_state_dict(trainer.evaluated.state_dict())
    return history


@contextlib.contextmanager
def _memory(name: str, loader) -> Iterator[None]:
    """Out of memory, with the batch size to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # a CPU's has no class of its own
        if not isinstance(
            error, MemoryError | torch.OutOfMemoryError
        ) and "DefaultCPUAllocator" not in str(error):
            raise
        raise TrainingError(
            f"out of memory in {name} with {loader.batch_size} pictures a batch: "
            f"try batch_size={max(1, loader.batch_size // 2)}"
        ) from error


def _finish_epoch(trainer: Trainer, val_loader, epoch: int, size: int | None, totals: dict) -> dict:
    """Evaluate; returns the epoch's row of the history."""
    lr, started = totals["lr"], time.perf_counter()  # of the last step
    processes.same_statistics(trainer.evaluated)
    val = evaluate(trainer.evaluated, val_loader, precision=trainer.precision)
    if not math.isfinite(val.loss):
        raise TrainingError(_not_finite(val.loss, f"the evaluation after epoch {epoch + 1}", lr))
    if isinstance(trainer.scheduler, ReduceLROnPlateau):
        trainer.scheduler.step(val.loss)
    return {
        "epoch": epoch + 1,
        "picture_size": size,
        "train_loss": totals["loss"] / totals["images"],
        "train_top1": totals["right"] / totals["images"],
        "val_loss": val.loss,
        "val_top1": val.top1,
        "lr": lr,
        "seconds": totals["seconds"],
        "eval_seconds": time.perf_counter() - started,
    }


def _line(row: dict, epochs: int) -> str:
    size = f", {row['picture_size']} px" if row["picture_size"] else ""
    return (
        f"epoch {row['epoch']:>2}/{epochs}{size}: train loss {row['train_loss']:.3f}, "
        f"top-1 {row['train_top1']:.1%} · held out {row['val_loss']:.3f}, {row['val_top1']:.1%} · "
        f"{row['seconds']:.0f} s"
    )


def _save(
    path: Path | None, trainer: Trainer, history: History, totals: dict | None, identity: dict
) -> None:
    if path is None:
        return
    random = processes.gather(ckpt.random_state())
    if processes.rank() == 0:
        ckpt.save(
            path,
            {
                "trainer": trainer.state(),
                "history": history.to_dict(),
                "totals": totals,
                "identity": identity,
                "random": random,
            },
        )
    processes.wait()


def _resume(
    state: dict, trainer: Trainer, epochs: int, path: Path, report
) -> tuple[History, dict | None]:
    trainer.load_state(state["trainer"])
    ckpt.set_random_state(state["random"][processes.rank()])
    history, totals = History.from_dict(state["history"]), state["totals"]
    if len(history) == epochs:
        report(
            f"this training has already finished: reusing {path.name} (anew=True, or --no-resume, trains again)"
        )
    else:
        report(
            f"going on after epoch {len(history)}"
            + (f", batch {totals['batches']}" if totals else "")
            + f", from {path.name} (anew=True, or --no-resume, starts over)"
        )
    return history, totals
