"""What a training makes small: a loss is any function of (logits, targets) that gives the mean."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from course_lib.checks import expect


@dataclass(frozen=True)
class CrossEntropy:
    """The mean over a batch of -log p(label).

    logits: float (B, classes). targets: labels (B,), or shares of the classes (B, classes).
    With smoothing ε the label counts 1 - ε, and ε is spread evenly over all classes (Szegedy et al.
    2015, arXiv:1512.00567, §7).
    """

    label_smoothing: float = 0.0  # ε, from 0 to below 1: then nothing would be left of the label

    def __post_init__(self) -> None:
        smoothing = self.label_smoothing
        expect("label_smoothing", smoothing, 0 <= smoothing < 1, "from 0 to below 1")

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
