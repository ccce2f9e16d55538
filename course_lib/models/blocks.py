"""The two residual blocks that ResNets are built from: x → shortcut(x) + branch(x).

He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, figure 5. Blocks
with options (pre-activation, squeeze and excitation, other shortcuts, …) stand in ``variants``.
"""

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions. (B, in_channels, H, W) → (B, channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.out_channels = channels

        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()  # not in place: Grad-CAM needs what it was given
        self.downsample = projection(in_channels, channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.downsample(x)  # (B, channels, H/stride, W/stride)

        x = self.relu(self.bn1(self.conv1(x)))  # (B, channels, H/stride, W/stride)
        x = self.bn2(self.conv2(x))

        return self.relu(shortcut + x)


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up, the stride in the 3×3 as torchvision has it.

    (B, in_channels, H, W) → (B, 4 · channels, H / stride, W / stride).
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.out_channels = 4 * channels

        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, self.out_channels)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.relu = nn.ReLU()
        self.downsample = projection(in_channels, self.out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.downsample(x)  # (B, 4·channels, H/stride, W/stride)

        x = self.relu(self.bn1(self.conv1(x)))  # (B, channels, H, W)
        x = self.relu(self.bn2(self.conv2(x)))  # (B, channels, H/stride, W/stride)
        x = self.bn3(self.conv3(x))  # (B, 4·channels, H/stride, W/stride)

        return self.relu(shortcut + x)


def projection(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """The shortcut: x itself where the branch keeps the shape, else a 1×1 convolution of it."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        conv1x1(in_channels, out_channels, stride),
        nn.BatchNorm2d(out_channels),
    )


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3×3, padded to keep the size; no bias, for the BatchNorm behind it has one."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A linear map of the channels, the same at every position."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
