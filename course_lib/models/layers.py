"""What residual blocks are made of: convolutions, and the five kinds of shortcut around them."""

import torch
import torch.nn.functional as F
from torch import nn

SHORTCUTS = ("A", "B", "C", "conv", "D")


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3×3, padded to keep the size; no bias, for the BatchNorm behind it has one."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class PadChannels(nn.Module):
    """Every stride-th pixel, with channels of zeros behind; the last channels fall away where there are too many.

    (B, C_in, H, W) → (B, out_channels, H / stride, W / stride), without a weight.
    """

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.out_channels - x.shape[1]))  # a negative pad cuts off


def shortcut(
    kind: str, in_channels: int, out_channels: int, stride: int = 1, *, norm: bool = True
) -> nn.Module:
    """The way around a block, (B, in_channels, H, W) → (B, out_channels, H / stride, W / stride).

    Where the shape stays, every kind but ``"C"`` is the identity. Where it changes: ``"A"`` pads with zeros,
    ``"B"`` is a 1×1 convolution, ``"C"`` one around every block (He et al. 2015, arXiv:1512.03385, §4.1),
    ``"conv"`` a 3×3, which sees the pixels that a strided 1×1 skips, ``"D"`` an average pool and then a 1×1,
    for the same reason (He et al. 2018, arXiv:1812.01187, figure 2c). norm: with BatchNorm behind a convolution.
    """
    if kind not in SHORTCUTS:
        raise ValueError(f"unknown shortcut {kind!r}: expected one of {', '.join(SHORTCUTS)}")
    if stride == 1 and in_channels == out_channels and kind != "C":
        return nn.Identity()
    if kind == "A":
        return PadChannels(out_channels, stride)
    if kind == "D":  # ceil_mode: an odd map shrinks as under a strided convolution
        layers = [
            nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False),
            conv1x1(in_channels, out_channels),
        ]
    else:
        layers = [(conv3x3 if kind == "conv" else conv1x1)(in_channels, out_channels, stride)]
    if norm:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers)
