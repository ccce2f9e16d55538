"""What every network here offers: features, a head that can be replaced, stages to look into."""

import torch
from torch import nn


class Classifier(nn.Module):
    """A network in two parts: ``features`` makes a map, ``head`` turns it into logits."""

    head_name = "fc"  # the attribute that holds the head

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → the last feature map, (B, D, H', W')."""
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
        old = self.head
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
        setattr(self, self.head_name, new.to(old.weight.device, old.weight.dtype))
