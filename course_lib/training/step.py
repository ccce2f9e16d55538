"""One step of a training, and everything that it changes."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms import v2

from course_lib.checks import expect, whole
from course_lib.files import CourseError
from course_lib.runtime import Precision
from course_lib.training.losses import CrossEntropy

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (logits, targets) → mean loss
FP16_STANDSTILL = 2**-24  # a scale that began at 2**16 was halved forty times by then


@dataclass(frozen=True)
class Extras:
    """What a step may do besides. All of it is off unless asked for."""

    clip_norm: float | None = None  # the longest that all gradients together may be
    accumulate: int = 1  # parts that a batch goes through in, to save memory
    averaging: float = 0.0  # decay per step of averaged weights: 0.999 looks back 1,000 steps
    mixup: float = 0.0  # alpha of Beta(alpha, alpha), as in Zhang et al. 2017, arXiv:1710.09412
    cutmix: float = 0.0  # alpha of Beta(alpha, alpha), as in Yun et al. 2019, arXiv:1905.04899
    compile: bool = False  # by torch.compile, where it works

    def __post_init__(self) -> None:
        clip = self.clip_norm
        expect("clip_norm", clip, clip is None or clip > 0, "None or a length above 0")
        whole("accumulate", self.accumulate)
        expect("averaging", self.averaging, 0 <= self.averaging < 1, "from 0 to below 1")
        expect("mixup", self.mixup, self.mixup >= 0, "0 or more")
        expect("cutmix", self.cutmix, self.cutmix >= 0, "0 or more")

    @property
    def mixes(self) -> bool:
        return bool(self.mixup or self.cutmix)

    def mix(self, classes: int) -> Callable | None:
        """(x, labels (B,)) → (x, labels (B, classes)), mixed in pairs; None where nothing mixes.

        With both MixUp and CutMix each batch takes one of them, by chance.
        """
        if not self.mixes:
            return None

        ways = []
        if self.mixup:
            ways.append(v2.MixUp(alpha=float(self.mixup), num_classes=classes))
        if self.cutmix:
            ways.append(v2.CutMix(alpha=float(self.cutmix), num_classes=classes))
        return v2.RandomChoice(ways)


@dataclass
class Trainer:
    """What one training consists of, and how it makes a step.

    scheduler: stepped after every batch, but ReduceLROnPlateau after every epoch, by ``fit``.
    loss: ``(logits, targets) → mean``. mix: as ``Extras.mix`` makes it. Raises CourseError for
    extras that mix without it.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | ReduceLROnPlateau
    precision: Precision
    loss: Loss = CrossEntropy()
    extras: Extras = Extras()
    mix: Callable | None = None

    def __post_init__(self) -> None:
        if self.extras.mixes and self.mix is None:
            raise CourseError(
                "Trainer: the extras ask for MixUp or CutMix, but mix is not given: add "
                "mix=extras.mix(classes)"
            )

        # What is called: the model, which fit may compile or spread over processes. The weights are
        # the same, and stay the model's: those are clipped, averaged and saved.
        self.network = self.model
        self.scaler = self.precision.scaler()
        self.average = _average(self.model, self.extras.averaging)
        self.steps = 0

    def step(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch into the weights. Returns (mean loss, number right), left on the device.

        x: (B, C, H, W); labels: (B,).
        """
        # forward and backward: afterwards every parameter holds its gradient
        loss, right = self.backward(x, labels)

        # gradients that are too long together are shortened; fp16's scale is divided out first, so
        # that their true length is measured
        if self.extras.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.extras.clip_norm)

        # optimizer.step(), into the weights: outside of fp16 the scaler does just that, in fp16 it
        # leaves out a step whose gradients overflowed
        self.scaler.step(self.optimizer)
        self.scaler.update()

        # the average follows the weights, if there is one
        if self.average:
            self.average.update_parameters(self.model)

        # and the next step has the rate that comes next
        self._step_scheduler()
        self.steps += 1
        return loss, right

    def backward(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient of the mean loss. Returns (loss, number right)."""
        if self.mix:
            x, labels = self.mix(x, labels)  # labels: (B,) → (B, classes)

        # else this batch's gradient would be added to that of the last one
        self.optimizer.zero_grad(set_to_none=True)

        loss_sum = right = 0
        parts = int(self.extras.accumulate)
        for part, targets in zip(x.chunk(parts), labels.chunk(parts), strict=True):
            with self.precision.autocast():
                logits = self.network(part)
            logits = logits.float()  # (B / parts, classes); a softmax needs all its digits

            # parts add up to the mean over the batch
            share = len(part) / len(x)
            loss = self.loss(logits, targets) * share

            # in fp16 the scaler multiplies the loss, so that small gradients do not round to zero
            self.scaler.scale(loss).backward()

            # left on the device: a number fetched here would make a GPU wait
            loss_sum = loss_sum + loss.detach()
            right = right + (logits.argmax(1) == _labels(targets)).sum()

        return loss_sum, right

    def _step_scheduler(self) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            return  # a plateau can only be seen after an epoch

        with _no_word_about_order() if self.steps == 0 else contextlib.nullcontext():
            self.scheduler.step()

    @property
    def lr(self) -> float:
        """The first group's."""
        return self.optimizer.param_groups[0]["lr"]

    @property
    def model_to_evaluate(self) -> nn.Module:
        """The averaged weights where there are any, else the model itself."""
        return self.average.module if self.average else self.model

    @property
    def scale_collapsed(self) -> bool:
        """Whether fp16 makes no step any more.

        Now and then gradients overflow: that costs a step and halves the scale. A scale as small as
        this means that they always do.
        """
        return self.scaler.get_scale() < FP16_STANDSTILL

    # --- into a checkpoint and back ---

    def state(self) -> dict:
        state = {name: part.state_dict() for name, part in self._parts.items()}
        return state | {"steps": self.steps}

    def load_state(self, state: dict) -> None:
        for name, part in self._parts.items():
            if state.get(name):  # a disabled scaler leaves nothing behind
                part.load_state_dict(state[name])
        self.steps = state["steps"]

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


def fp32(model: nn.Module) -> Precision:
    """Plain arithmetic, where the model is. Raises CourseError where nothing tells where."""
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise CourseError(
            f"{type(model).__name__} has no parameters: there is nothing to train, and to evaluate "
            "it give the precision, which names the device"
        )
    return Precision(parameter.device)


def train_mode(model: nn.Module) -> nn.Module:
    """Train mode; where the model is in it already, parts that somebody froze stay in eval."""
    return model if model.training else model.train()


def move_batch(
    x: torch.Tensor, labels: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch where the model is. What the course's own loaders yield is there already."""
    return x.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _average(model: nn.Module, decay: float) -> AveragedModel | None:
    """An exponential average of the weights, and of the norms' running statistics.

    Both then look back equally far, at no cost; ``update_bn`` would ask for one more pass over
    the pictures.
    """
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _labels(targets: torch.Tensor) -> torch.Tensor:
    """(B,): of mixed labels (B, classes) those with the larger share."""
    return targets if targets.ndim == 1 else targets.argmax(1)


@contextlib.contextmanager
def _no_word_about_order() -> Iterator[None]:
    """In fp16 the first step is often left out, which torch takes for steps in the wrong order."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step\(\)` before")
        yield
