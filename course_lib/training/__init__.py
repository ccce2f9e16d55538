"""The training loop and what it needs."""

from course_lib.training.checkpoint import Checkpoint, CheckpointError, Resumable
from course_lib.training.history import History, curves
from course_lib.training.loop import (
    Callbacks,
    DivergedError,
    Measure,
    Metrics,
    TrainingError,
    evaluate,
    fit,
    no_measure,
    train_one_epoch,
)
from course_lib.training.losses import CrossEntropy, GeneralizedCrossEntropy
from course_lib.training.step import Extras, Trainer

__all__ = [
    "Callbacks",
    "Checkpoint",
    "CheckpointError",
    "CrossEntropy",
    "DivergedError",
    "Extras",
    "GeneralizedCrossEntropy",
    "History",
    "Measure",
    "Metrics",
    "Resumable",
    "Trainer",
    "TrainingError",
    "curves",
    "evaluate",
    "fit",
    "no_measure",
    "train_one_epoch",
]
