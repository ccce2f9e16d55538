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


@dataclass(frozen=True)
class GeneralizedCrossEntropy:
    """The mean over a batch of (1 - p(label)^q) / q.

    logits, targets: as ``CrossEntropy`` takes them; a share of a class counts as a part of a label.
    Its gradient is that of cross-entropy times p(label)^q: the less a network believes a label, the
    less it learns from it. q → 0 is cross-entropy; q = 1 is 1 - p, which forgives most and learns
    slowest (Zhang & Sabuncu 2018, arXiv:1805.07836, equation 6; §3.2 for the gradient).
    """

    q: float = 0.7  # above 0, at most 1; the paper's

    def __post_init__(self) -> None:
        expect("q", self.q, 0 < self.q <= 1, "above 0, at most 1")

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        log_p = F.log_softmax(logits, dim=1)  # (B, classes)
        losses = -torch.expm1(self.q * log_p) / self.q  # (1 - p^q) / q, without a loss of digits

        if targets.ndim == 1:
            return losses.gather(1, targets[:, None]).mean()
        return (losses * targets).sum(1).mean()
