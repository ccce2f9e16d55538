"""One step of a training, and everything that it changes."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course_lib.runtime import Precision


@dataclass(frozen=True)
class Extras:
    """What a step may do besides. All of it is off unless asked for.

    averaging: decay per step of an exponential average of the weights, which is then evaluated in their place
    (0.999 looks back about 1,000 steps). mixup, cutmix: alpha of Beta(alpha, alpha), the share that each of two
    pictures gets (Zhang et al. 2017, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899); both: one by chance.
    """

    clip_norm: float | None = (
        None  # the gradient of all parameters together is made no longer than this
    )
    accumulate: int = (
        1  # a batch goes through in so many parts, whose gradients add up: less memory
    )
    averaging: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    compile: bool = False

    def mix(self, classes: int) -> Callable | None:
        """(x, labels (B,)) → (x, labels (B, classes)), the pictures mixed in pairs; None where nothing mixes."""
        if not (self.mixup or self.cutmix):
            return None
        from torchvision.transforms import v2

        ways = [
            way(alpha=alpha, num_classes=classes)
            for way, alpha in ((v2.MixUp, self.mixup), (v2.CutMix, self.cutmix))
            if alpha
        ]
        return v2.RandomChoice(ways)


@dataclass
class Trainer:
    """What one training consists of. ``scheduler``: stepped after every batch, but ReduceLROnPlateau
    after every epoch, with the validation loss. ``mix``: as ``Extras.mix`` makes it.

    The average takes in the norms' running statistics too: weights and statistics then look back equally far,
    at no cost, where ``update_bn`` would ask for one more pass over the pictures.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | ReduceLROnPlateau
    precision: Precision
    label_smoothing: float = 0.0
    extras: Extras = Extras()
    mix: Callable | None = None

    def __post_init__(self) -> None:
        self.network = self.model  # what is called: fit may compile it, or spread it over processes
        self.scaler = self.precision.scaler()
        decay = self.extras.averaging
        self.average = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
            if decay
            else None
        )
        self.steps = 0

    def step(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch forward, backward and into the weights. Returns (loss, number right), on the device."""
        loss, right = self.backward(x, labels)
        if self.extras.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.extras.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.model)
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            with no_word_about_order() if self.steps == 0 else contextlib.nullcontext():
                self.scheduler.step()
        self.steps += 1
        return loss, right

    def backward(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient of the mean loss. Of mixed pictures the answer counts as right that has the larger share."""
        if self.mix:
            x, labels = self.mix(x, labels)  # labels: (B,) → (B, classes)
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.extras.accumulate
        loss_sum = right = 0
        for part, truth in zip(x.chunk(parts), labels.chunk(parts), strict=True):
            with self.precision.autocast():
                logits = self.network(part)
            logits = logits.float()  # (B / parts, classes)
            loss = F.cross_entropy(logits, truth, label_smoothing=self.label_smoothing) * (
                len(part) / len(x)
            )
            self.scaler.scale(loss).backward()
            loss_sum = loss_sum + loss.detach()
            right = (
                right + (logits.argmax(1) == (truth if truth.ndim == 1 else truth.argmax(1))).sum()
            )
        return loss_sum, right

    @property
    def stands_still(self) -> bool:
        """In fp16 the scaler leaves out a step whose gradients are not finite, and halves its scale: one step now and
        then, as a rule. Below 2⁻²⁴ it has left out forty in a row, and comes to none any more."""
        return self.scaler.get_scale() < 2**-24

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @property
    def evaluated(self) -> nn.Module:
        """The averaged weights where there are any, else the model itself."""
        return self.average.module if self.average else self.model

    @property
    def _parts(self) -> dict:
        parts = {
            "model": self.model,
            "average": self.average,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state(self) -> dict:
        return {name: part.state_dict() for name, part in self._parts.items()} | {
            "steps": self.steps
        }

    def load_state(self, state: dict) -> None:
        for name, part in self._parts.items():
            if state.get(name):  # a disabled scaler leaves nothing behind
                part.load_state_dict(state[name])
        self.steps = state["steps"]


@contextlib.contextmanager
def no_word_about_order() -> Iterator[None]:
    """In fp16 the scaler often leaves out the first step, and torch takes that for steps in the wrong order."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step\(\)` before")
        yield
