"""The residual blocks with their options: what people have changed about ``blocks`` since 2015.

Four blocks, each written out: the two of ``blocks`` and their pre-activation forms. All take the
same ``BlockOptions``, and with none set the first two are those of ``blocks``, weight for weight.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import SqueezeExcitation, StochasticDepth

from course_lib.models.blocks import BasicBlock, Bottleneck, conv1x1, conv3x3

SHORTCUTS = ("A", "B", "C", "conv", "D", "none")


@dataclass(frozen=True)
class BlockOptions:
    """What can be changed about a block.

    Zagoruyko & Komodakis 2016, arXiv:1605.07146, §2.3 and §2.4 (width, dropout); Huang et al. 2016,
    arXiv:1603.09382 (drop path); Hu et al. 2018, arXiv:1709.01507, equations 2 to 4 (SE).
    """

    width: int = 1  # factor on the channels, in a bottleneck on the inner ones only
    shortcut: str = "B"  # one of SHORTCUTS, see ``make_shortcut``
    drop_rate: float = 0.0  # share of the values set to zero before the last convolution
    drop_path: float = 0.0  # probability with which a picture skips the branch in training
    se: bool = False  # squeeze and excitation: the mean of a channel decides how much of it passes


PLAIN = BlockOptions()


class GeneralBlock(nn.Module):
    """What the four blocks share: the parts that come from the options, and the sum."""

    def add_parts(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        options: BlockOptions,
        *,
        shortcut_norm: bool = True,
    ) -> None:
        """To be called when the convolutions stand: keys and random weights keep their order."""
        self.out_channels = out_channels
        self.relu = nn.ReLU()  # not in place: dropout and Grad-CAM need what it was given

        self.dropout = nn.Dropout(options.drop_rate)
        self.se = nn.Identity()
        if options.se:
            self.se = SqueezeExcitation(out_channels, max(out_channels // 16, 1))
        self.drop_path = nn.Identity()
        if options.drop_path:
            self.drop_path = StochasticDepth(options.drop_path, mode="row")

        self.downsample = make_shortcut(
            options.shortcut, in_channels, out_channels, stride, norm=shortcut_norm
        )

    def add(self, shortcut: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """The sum, the branch weighed by squeeze and excitation and now and then left out."""
        return shortcut + self.drop_path(self.se(branch))

    def start_as_identity(self) -> None:
        """Shut the branch by a zero in its last layer, so that x is handed on as it is."""
        raise NotImplementedError


class GeneralBasicBlock(GeneralBlock):
    """Two 3×3 convolutions (He et al. 2015, arXiv:1512.03385, figure 5, left)."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, options: BlockOptions = PLAIN
    ) -> None:
        super().__init__()
        channels = channels * options.width

        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.add_parts(in_channels, channels, stride, options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.downsample(x)  # (B, channels, H/stride, W/stride)

        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(self.dropout(x)))

        return self.relu(self.add(shortcut, x))

    def start_as_identity(self) -> None:
        nn.init.zeros_(self.bn2.weight)
        hand_on(self.downsample)


class GeneralBottleneck(GeneralBlock):
    """1×1 down, 3×3, 1×1 up (figure 5, right), the stride in the 3×3 as torchvision has it."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, options: BlockOptions = PLAIN
    ) -> None:
        super().__init__()
        inner, out_channels = channels * options.width, channels * 4

        self.conv1 = conv1x1(in_channels, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.add_parts(in_channels, out_channels, stride, options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.downsample(x)  # (B, 4·channels, H/stride, W/stride)

        x = self.relu(self.bn1(self.conv1(x)))  # (B, inner, H, W)
        x = self.relu(self.bn2(self.conv2(x)))  # (B, inner, H/stride, W/stride)
        x = self.bn3(self.conv3(self.dropout(x)))  # (B, 4·channels, H/stride, W/stride)

        return self.relu(self.add(shortcut, x))

    def start_as_identity(self) -> None:
        nn.init.zeros_(self.bn3.weight)
        hand_on(self.downsample)


class PreActBlock(GeneralBlock):
    """Norm and ReLU before each convolution, none behind the sum, so that the shortcut stays clear.

    He et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027, figure 4e.
    """

    def shortcut_of(self, x: torch.Tensor, activated: torch.Tensor) -> torch.Tensor:
        """A convolution starts from the activated input, as the branch does, and needs no norm."""
        has_weights = isinstance(self.downsample, nn.Sequential)
        return self.downsample(activated if has_weights else x)


class PreActBasicBlock(PreActBlock):
    """The basic block with the norms first."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, options: BlockOptions = PLAIN
    ) -> None:
        super().__init__()
        channels = channels * options.width

        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.add_parts(in_channels, channels, stride, options, shortcut_norm=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.relu(self.bn1(x))  # (B, in_channels, H, W)
        shortcut = self.shortcut_of(x, activated)  # (B, channels, H/stride, W/stride)

        x = self.relu(self.bn2(self.conv1(activated)))
        x = self.conv2(self.dropout(x))

        return self.add(shortcut, x)

    def start_as_identity(self) -> None:
        nn.init.zeros_(self.conv2.weight)
        hand_on(self.downsample, norm_before=self.bn1)


class PreActBottleneck(PreActBlock):
    """The bottleneck with the norms first."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, options: BlockOptions = PLAIN
    ) -> None:
        super().__init__()
        inner, out_channels = channels * options.width, channels * 4

        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, out_channels)
        self.add_parts(in_channels, out_channels, stride, options, shortcut_norm=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.relu(self.bn1(x))  # (B, in_channels, H, W)
        shortcut = self.shortcut_of(x, activated)  # (B, 4·channels, H/stride, W/stride)

        x = self.relu(self.bn2(self.conv1(activated)))  # (B, inner, H, W)
        x = self.relu(self.bn3(self.conv2(x)))  # (B, inner, H/stride, W/stride)
        x = self.conv3(self.dropout(x))  # (B, 4·channels, H/stride, W/stride)

        return self.add(shortcut, x)

    def start_as_identity(self) -> None:
        nn.init.zeros_(self.conv3.weight)
        hand_on(self.downsample, norm_before=self.bn1)


def general_form(block: type[nn.Module]) -> type[GeneralBlock]:
    """The form that takes options of a block in ``blocks``; the blocks of this file do already."""
    return {BasicBlock: GeneralBasicBlock, Bottleneck: GeneralBottleneck}.get(block, block)


# --- shortcuts ------------------------------------------------------------------------------------


def make_shortcut(
    kind: str, in_channels: int, out_channels: int, stride: int = 1, *, norm: bool = True
) -> nn.Module:
    """(B, in_channels, H, W) → (B, out_channels, H / stride, W / stride).

    Where the shape stays, every kind but C and none is the identity. Where it changes:
    A pads with zeros, B is a 1×1 convolution, C is one around every block (He et al. 2015, §4.1);
    conv is a 3×3, which sees the pixels that a strided 1×1 skips; D an average pool and then a 1×1,
    for the same reason (He et al. 2018, arXiv:1812.01187, figure 2c); none leaves the shortcut out,
    which makes the plain network that ResNets are compared with (He et al. 2015, §3.3).
    norm: with BatchNorm behind the convolution. Raises ValueError for any other kind.
    """
    if kind not in SHORTCUTS:
        raise ValueError(f"unknown shortcut {kind!r}: expected one of {', '.join(SHORTCUTS)}")

    if kind == "none":
        return NoShortcut()

    keeps_shape = stride == 1 and in_channels == out_channels
    if keeps_shape and kind != "C":
        return nn.Identity()
    if kind == "A":
        return PadChannels(out_channels, stride)

    layers: list[nn.Module]
    if kind == "conv":
        layers = [conv3x3(in_channels, out_channels, stride)]
    elif kind == "D":
        # ceil_mode: an odd map shrinks as it does under a strided convolution
        pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
        layers = [pool, conv1x1(in_channels, out_channels)]
    else:
        layers = [conv1x1(in_channels, out_channels, stride)]

    if norm:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers)


class NoShortcut(nn.Module):
    """A zero in place of x: what is left of the sum is the branch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(())


class PadChannels(nn.Module):
    """Shortcut A: every stride-th pixel, with channels of zeros behind, and not one weight.

    (B, C_in, H, W) → (B, out_channels, H / stride, W / stride). Where there are too many channels,
    the last ones fall away.
    """

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride]  # (B, C_in, H/stride, W/stride)
        missing = self.out_channels - x.shape[1]
        return F.pad(x, (0, 0, 0, 0, 0, missing))  # a negative pad cuts off


def hand_on(shortcut: nn.Module, norm_before: nn.Module | None = None) -> None:
    """Where a shortcut C keeps the shape, let it start with handing on what it is given.

    norm_before: the norm in front of the convolution, in a pre-activation block.
    """
    conv = shortcut[0] if isinstance(shortcut, nn.Sequential) else None
    if not isinstance(conv, nn.Conv2d):
        return
    if conv.stride != (1, 1) or conv.in_channels != conv.out_channels:
        return

    nn.init.dirac_(conv.weight)
    norm = shortcut[1] if norm_before is None else norm_before
    if isinstance(norm, nn.BatchNorm2d):
        nn.init.constant_(norm.bias, 2.0)  # lifted so far that ReLU cuts off one value in 44
