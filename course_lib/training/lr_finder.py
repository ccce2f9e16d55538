"""The learning rate range test (Smith 2015, arXiv:1506.01186), by torch-lr-finder, with its traps closed."""

import contextlib
import copy
import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from course_lib.files import CourseError
from course_lib.runtime import Precision
from course_lib.training.losses import CrossEntropy
from course_lib.training.step import Loss
from course_lib.training.step import _no_word_about_order as no_word_about_order

SKIP_START, SKIP_END = (
    10,
    5,
)  # the library's own: the first points are noise, the last ones divergence


@dataclass(frozen=True)
class LRRange:
    """lrs, losses: one value per step, the losses smoothed. suggestion: where the loss falls fastest.
    lowest: where it is lowest, which is the edge of divergence and ten times too high, as a rule."""

    lrs: list[float]
    losses: list[float]
    suggestion: float
    lowest: float


class _NotFinite(Exception):
    pass


def range_test(
    model: nn.Module,
    loader,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    end_lr: float = 10.0,
    steps: int = 100,
    precision: Precision | None = None,
    loss: Loss = CrossEntropy(),
) -> LRRange:
    """Raise the learning rate exponentially from the optimizer's to ``end_lr`` within ``steps`` batches.

    Works on a copy: the model, its mode and every random state stay as they are. A loss that is no number
    ends the test there. Raises CourseError when too few points are left to suggest anything.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library imports an experimental progress bar
        from torch_lr_finder import LRFinder, TrainDataLoaderIter

    def criterion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = loss(logits.float(), labels)
        if not math.isfinite(value.item()):
            raise _NotFinite  # the library would go on, and suggest the NaN
        return value

    precision = precision or Precision(next(model.parameters()).device)
    trial = copy.deepcopy(model)
    finder = LRFinder(
        trial,
        make_optimizer(trial),
        criterion,
        device=precision.device,
        amp_backend="torch",
        amp_config={
            "device_type": precision.device.type,
            "dtype": precision.dtype,
            "enabled": precision.dtype is not None,
        },
        grad_scaler=precision.scaler(),
    )
    devices = [precision.device] if precision.device.type == "cuda" else []
    quiet, no_widget = (
        contextlib.redirect_stdout(io.StringIO()),
        patch("torch_lr_finder.lr_finder.tqdm", iter),
    )
    with (
        torch.random.fork_rng(devices),
        quiet,
        no_widget,
        no_word_about_order(),
        contextlib.suppress(_NotFinite),
    ):
        finder.range_test(TrainDataLoaderIter(loader), end_lr=end_lr, num_iter=steps)
    return read(finder.history["lr"], finder.history["loss"])


def read(lrs: list[float], losses: list[float]) -> LRRange:
    """Suggestion and lowest point of a finished test. Raises CourseError for fewer than 17 points.

    The library looks for the steepest fall everywhere; past the lowest point the loss jumps up and down, and a
    fall there means nothing.
    """
    if len(lrs) < SKIP_START + SKIP_END + 2:
        raise CourseError(
            f"only {len(lrs)} steps, for no more were asked for or the loss ran away (far above its "
            f"lowest, NaN or infinite): {SKIP_START + SKIP_END + 2} are needed to read a learning rate. "
            "Begin lower, or take more steps."
        )
    lowest = int(np.argmin(losses))
    end = min(max(lowest + 1, SKIP_START + 2), len(losses) - SKIP_END)
    steepest = int(np.gradient(np.array(losses[SKIP_START:end])).argmin()) + SKIP_START
    return LRRange(list(lrs), list(losses), lrs[steepest], lrs[lowest])
