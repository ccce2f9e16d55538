"""What every network here offers: features, a head that can be replaced, stages to look into."""

import torch
from torch import nn

from course_lib.checks import check_whole


class Classifier(nn.Module):
    """A network in three steps: ``features`` makes a map, pooling a vector, ``head`` the logits."""

    head_name = "fc"  # the attribute that holds the head

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → the last feature map, (B, D, H', W')."""
        raise NotImplementedError

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → the pooled features, (B, D): what the head is given."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → logits, (B, num_classes)."""
        raise NotImplementedError

    @property
    def stages(self) -> dict[str, nn.Module]:
        """What Grad-CAM can point at, by name and in order; the last one gives ``features``."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Linear:
        return getattr(self, self.head_name)

    def replace_head(self, num_classes: int) -> None:
        """A fresh head for ``num_classes``, on the same device; every other weight stays."""
        check_classes(num_classes)
        old = self.head
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
        setattr(self, self.head_name, new.to(old.weight.device, old.weight.dtype))


def check_classes(num_classes: int) -> None:
    """ValueError without a class: elsewhere that asks for a network without a head."""
    if num_classes == 0:
        raise ValueError(
            "num_classes is 0: expected 1 or more; model.embed(x) gives the pooled features, "
            "whatever the head"
        )
    check_whole(num_classes=num_classes)
