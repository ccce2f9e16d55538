"""The pieces that networks are built from, and the interface that every network here offers."""

import torch
from torch import nn


class Classifier(nn.Module):
    """A network in two parts: ``features`` makes a map, ``head`` turns it into logits.

    ``stages``: name → module, in order, each of whose outputs Grad-CAM can point at.
    ``head_name``: the attribute that holds the head, a Linear layer.
    """

    head_name = "fc"

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → the last feature map, (B, D, H', W')."""
        raise NotImplementedError

    @property
    def stages(self) -> dict[str, nn.Module]:
        raise NotImplementedError

    @property
    def head(self) -> nn.Linear:
        return getattr(self, self.head_name)

    def replace_head(self, num_classes: int) -> None:
        """A fresh head for ``num_classes``, on the same device; every other weight stays."""
        old = self.head
        fresh = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
        setattr(self, self.head_name, fresh.to(old.weight.device, old.weight.dtype))


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3×3, padded to keep the size; no bias, for the BatchNorm behind it has one."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and the way around them (He et al. 2015, arXiv:1512.03385, figure 2).

    (B, C_in, H, W) → (B, channels, H / stride, W / stride).
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample = projection(in_channels, channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn2


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up (He et al. 2015, figure 5), the stride in the 3×3 as torchvision has it.

    (B, C_in, H, W) → (B, 4 · channels, H / stride, W / stride).
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.bn3


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Shortcut B: a 1×1 convolution where the shape changes, nothing (None) where it does not."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))
