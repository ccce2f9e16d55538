"""The training loop: one epoch, many epochs, and the evaluation that does not average averages."""

import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from course_lib.runtime import CourseError, Precision, progress_bar
from course_lib.training import checkpoint as ckpt
from course_lib.training.history import History


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
def evaluate(model: nn.Module, loader, *, precision: Precision | None = None) -> Metrics:
    """Loss, top-1 and top-5 over every *picture* of ``loader``.

    Summed, then divided once: the mean of batch means gives a short last batch too much weight. The model's
    mode is put back afterwards.
    """
    precision = precision or Precision(next(model.parameters()).device)
    was_training = model.training
    model.eval()
    loss = top1 = top5 = torch.zeros((), dtype=torch.float64)
    images = 0
    try:
        for x, labels in loader:
            with precision.autocast():
                logits = model(x)
            logits = logits.float()  # (B, classes)
            ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]  # (B, 5)
            loss = loss + F.cross_entropy(logits, labels, reduction="sum").cpu()
            top1 = top1 + ranked[:, 0].sum().cpu()
            top5 = top5 + ranked.sum().cpu()
            images += len(labels)
    finally:
        model.train(was_training)
    if not images:
        raise CourseError("nothing to evaluate: the loader gave no picture")
    return Metrics(loss.item() / images, top1.item() / images, top5.item() / images, images)


@dataclass
class Trainer:
    """What one training consists of. ``scheduler``: stepped after every batch, but ReduceLROnPlateau
    after every epoch, with the validation loss."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | ReduceLROnPlateau
    precision: Precision
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        self.scaler = self.precision.scaler()
        self.steps = 0

    def step(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch forward, backward and into the weights. Returns (loss, number right), on the device."""
        with self.precision.autocast():
            logits = self.model(x)
        logits = logits.float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()
            self.optimizer.step()
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        self.steps += 1
        return loss.detach(), (logits.argmax(1) == labels).sum()

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def state(self) -> dict:
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        state = {name: part.state_dict() for name, part in parts.items()}
        return state | {"scaler": self.scaler.state_dict() if self.scaler else None, "steps": self.steps}

    def load_state(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]


def train_one_epoch(trainer: Trainer, loader, history: History, *, name: str = "train",
                    totals: dict | None = None, stop: Callable[[], bool] = lambda: False) -> dict:
    """Every batch of ``loader`` once. Returns the totals: loss and right answers summed over pictures.

    ``totals`` continues an epoch that was interrupted; ``stop`` is asked after every batch. The loss is
    fetched from a GPU only every tenth batch, for each look makes it wait. Raises TrainingError when
    the loss is no longer a number.
    """
    totals = totals or {"batches": 0, "images": 0, "loss": 0.0, "right": 0.0, "seconds": 0.0}
    trainer.model.train()
    look_every = 1 if loader.device.type == "cpu" else 10
    started, before = time.perf_counter(), totals["seconds"]
    loss_sum = torch.zeros((), dtype=torch.float64, device=loader.device)  # exact, wherever the epoch is cut in two
    right, seen = torch.zeros((), device=loader.device), 0
    with progress_bar(len(loader) * loader.batch_size, name, " img") as bar:
        bar.update(totals["images"])
        for x, labels in loader:
            lr = trainer.lr
            loss, batch_right = trainer.step(x, labels)
            loss_sum, right, seen = loss_sum + loss.double() * len(labels), right + batch_right, seen + len(labels)
            totals["batches"] += 1
            bar.update(len(labels))
            last, asked = totals["batches"] == len(loader), stop()
            if trainer.steps % look_every == 0 or last or asked:
                value = loss.item()
                if not math.isfinite(value):
                    raise TrainingError(_not_finite(value, name, totals["batches"], lr))
                if trainer.steps % 10 == 0:
                    history.steps.append([trainer.steps, lr, value])
                bar.set_postfix_str(f"loss {value:.3f}, top-1 {right.item() / seen:.1%}, lr {lr:.3g}")
            if asked:
                break
    totals["loss"] += loss_sum.item()
    totals["right"] += right.item()
    totals["images"] += seen
    totals["seconds"] = before + time.perf_counter() - started
    return totals


def _not_finite(value: float, name: str, batch: int, lr: float) -> str:
    return (f"the loss is {value} in {name}, batch {batch}, at learning rate {lr:.3g}. Choose a lower learning "
            "rate (a range test shows where the loss turns up), a longer warm-up, or fp32. The last good "
            "checkpoint is untouched.")


def fit(model: nn.Module, train_loader, val_loader, *, sizes: Sequence[int | None], optimizer, scheduler,
        precision: Precision | None = None, label_smoothing: float = 0.0, checkpoint: Path | None = None,
        anew: bool = False, settings: dict | None = None, report: Callable[[str], None] = print) -> History:
    """Train for ``len(sizes)`` epochs, epoch e on pictures of ``sizes[e]`` pixels (None: as stored).

    After every epoch the model is evaluated on ``val_loader`` at the size it was just trained at, and a line
    is reported. With a ``checkpoint`` path the training can be interrupted at any batch (Ctrl-C) and goes
    on there when called again; one that has finished is reused. ``anew=True`` starts over. ``settings``: plain
    data that the training depends on besides, kept in the checkpoint and compared. Raises TrainingError for a
    loss that is no number or too little memory, CheckpointError for a checkpoint of another training,
    KeyboardInterrupt after saving.
    """
    precision = precision or Precision(next(model.parameters()).device)
    trainer = Trainer(model, optimizer, scheduler, precision, label_smoothing)
    history, totals = History(), None
    identity = ckpt.identity(sizes, train_loader, trainer, settings)
    state = None if anew or checkpoint is None else ckpt.load(checkpoint, identity)
    if state:
        history, totals = _resume(state, trainer, len(sizes), checkpoint, report)
    train_loader.first_batch = totals["batches"] if totals else 0
    with _StopAfterBatch(enabled=checkpoint is not None) as stop:
        for epoch in range(len(history), len(sizes)):
            train_loader.epoch = epoch
            train_loader.picture_size = val_loader.picture_size = sizes[epoch]
            name = f"epoch {epoch + 1}/{len(sizes)}"
            try:
                totals = train_one_epoch(trainer, train_loader, history, name=name, totals=totals, stop=stop)
            except torch.OutOfMemoryError as error:
                raise TrainingError(f"out of memory in {name} with {train_loader.batch_size} pictures a batch: "
                                    f"try batch_size={max(1, train_loader.batch_size // 2)}") from error
            if totals["batches"] < len(train_loader):
                _save(checkpoint, trainer, history, totals, identity)
                raise KeyboardInterrupt(f"stopped after batch {totals['batches']} of {name}; saved in "
                                        f"{checkpoint}: run again to go on from there")
            history.rows.append(_finish_epoch(trainer, val_loader, epoch, sizes[epoch], totals))
            totals, train_loader.first_batch = None, 0
            _save(checkpoint, trainer, history, None, identity)
            report(_line(history.last, len(sizes)))
    return history


def _finish_epoch(trainer: Trainer, val_loader, epoch: int, size: int | None, totals: dict) -> dict:
    """Evaluate; returns the epoch's row of the history."""
    lr, started = trainer.lr, time.perf_counter()
    val = evaluate(trainer.model, val_loader, precision=trainer.precision)
    if not math.isfinite(val.loss):
        raise TrainingError(_not_finite(val.loss, f"the evaluation after epoch {epoch + 1}", totals["batches"], lr))
    if isinstance(trainer.scheduler, ReduceLROnPlateau):
        trainer.scheduler.step(val.loss)
    return {"epoch": epoch + 1, "picture_size": size, "train_loss": totals["loss"] / totals["images"],
            "train_top1": totals["right"] / totals["images"], "val_loss": val.loss, "val_top1": val.top1,
            "lr": lr, "seconds": totals["seconds"], "eval_seconds": time.perf_counter() - started}


def _line(row: dict, epochs: int) -> str:
    size = f", {row['picture_size']} px" if row["picture_size"] else ""
    return (f"epoch {row['epoch']:>2}/{epochs}{size}: train loss {row['train_loss']:.3f}, "
            f"top-1 {row['train_top1']:.1%} · held out {row['val_loss']:.3f}, {row['val_top1']:.1%} · "
            f"{row['seconds']:.0f} s")


def _save(path: Path | None, trainer: Trainer, history: History, totals: dict | None, identity: dict) -> None:
    if path is not None:
        ckpt.save(path, {"trainer": trainer.state(), "history": history.to_dict(), "totals": totals,
                         "identity": identity, "random": ckpt.random_state()})


def _resume(state: dict, trainer: Trainer, epochs: int, path: Path, report) -> tuple[History, dict | None]:
    trainer.load_state(state["trainer"])
    ckpt.set_random_state(state["random"])
    history, totals = History.from_dict(state["history"]), state["totals"]
    if len(history) == epochs:
        report(f"this training has already finished: reusing {path.name} (anew=True trains again)")
    else:
        report(f"going on after epoch {len(history)}" + (f", batch {totals['batches']}" if totals else "")
               + f", from {path.name} (anew=True starts over)")
    return history, totals


class _StopAfterBatch:
    """While inside, the first Ctrl-C only asks the loop to stop at the next batch; a second one is at once.

    Between batches the state is whole: weights, optimizer and schedule have all made the same steps.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled and threading.current_thread() is threading.main_thread()
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self):
        if self.enabled:
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception) -> None:
        if self.enabled:
            signal.signal(signal.SIGINT, self.before)
