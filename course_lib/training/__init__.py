"""The training loop and what it needs."""

from course_lib.training.checkpoint import CheckpointError
from course_lib.training.engine import Metrics, Trainer, TrainingError, evaluate, fit, train_one_epoch
from course_lib.training.history import History

__all__ = ["CheckpointError", "History", "Metrics", "Trainer", "TrainingError", "evaluate", "fit",
           "train_one_epoch"]
