"""The session ResNet: eight 3×3 convolutions, two of the stages with a residual pair.

The layout is that of David Page's ResNet-9 ("How to train your ResNet", 2018) with the second stage
wide and plain, as the session that this course grew from used it: 6,573,120 parameters for ten
classes.
"""

import torch
from torch import nn

from course_lib.checks import check_whole
from course_lib.models.blocks import BasicBlock
from course_lib.models.classifier import Classifier, check_classes
from course_lib.models.trimmed_conv import TrimmedConv3x3
from course_lib.models.variants import GeneralBasicBlock

STEMS = {"small": 1, "strided": 2}  # stride of the first convolution
BLOCKS = ("pair", "basic")
CHANNELS = {1: 128, 2: 256, 3: 512}  # of each stage


class SessionResNet(Classifier):
    """Stem, three pooled stages, global max-pooling, one linear layer without bias.

    stem: ``"small"`` (3×3, stride 1; the original, for 32 px) or ``"strided"`` (stride 2: a quarter
        of the work, for 64 px).
    residual_in: the stages that carry two more convolutions and a shortcut around them, of 1, 2, 3.
    block: ``"pair"`` (Page's: the sum comes after the ReLU) or ``"basic"`` (He's: before it).
    zero_init_residual: start each basic block as the identity; a pair would never leave it, its
        ReLU being shut.
    logit_scale: factor on the logits; 1/8 keeps the first steps of a fast schedule soft.
    Raises ValueError for values out of range.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        stem: str = "small",
        residual_in: tuple[int, ...] = (1, 3),
        block: str = "pair",
        zero_init_residual: bool = False,
        logit_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_classes(num_classes)
        check_whole(in_channels=in_channels)
        _check(stem, residual_in, block, zero_init_residual)
        self.logit_scale = logit_scale

        flow = 64  # channels between the stages
        self.stem = conv_norm_relu(in_channels, flow, stride=STEMS[stem])

        for number, channels in CHANNELS.items():
            stage = nn.Sequential(conv_norm_relu(flow, channels, pool=True))
            if number in residual_in:
                stage.append(residual(block, channels, zero_init_residual))
            self.add_module(f"stage{number}", stage)
            flow = channels

        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(flow, num_classes, bias=False)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)  # (B, 64, H, W); strided: (B, 64, H/2, W/2)
        x = self.stage1(x)  # (B, 128, H/2, W/2); strided: a quarter, and so on
        x = self.stage2(x)  # (B, 256, H/4, W/4)
        x = self.stage3(x)  # (B, 512, H/8, W/8)
        return x

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)  # (B, 512, H/8, W/8)
        return self.pool(x).flatten(1)  # (B, 512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)  # (B, 512)
        return self.fc(x) * self.logit_scale  # (B, num_classes)

    @property
    def stages(self) -> dict[str, nn.Module]:
        return {"stage1": self.stage1, "stage2": self.stage2, "stage3": self.stage3}


class UnnormedSessionResNet(SessionResNet):
    """The same layout without a norm: a bias behind every convolution, and He's initial weights.

    What a norm forgives, this one does not: with twice the weights in every layer its activations
    grow 2^8 times, and a learning rate that is too high ends in NaN. (He et al. 2015,
    arXiv:1502.01852, equation 10.)
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        stem: str = "small",
        logit_scale: float = 1.0,
    ) -> None:
        super().__init__(num_classes, in_channels=in_channels, stem=stem, logit_scale=logit_scale)

        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.Identity())
                if isinstance(child, nn.Conv2d):
                    child.bias = nn.Parameter(torch.zeros(child.out_channels))
                    nn.init.kaiming_normal_(child.weight, nonlinearity="relu")


def conv_norm_relu(
    in_channels: int, out_channels: int, *, stride: int = 1, pool: bool = False
) -> nn.Sequential:
    """3×3 convolution – max-pool 2, if asked for – BatchNorm – ReLU."""
    layers: list[nn.Module] = [TrimmedConv3x3(in_channels, out_channels, stride)]
    if pool:
        layers.append(nn.MaxPool2d(2))  # before the norm, which then has a quarter of the work
    return nn.Sequential(*layers, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class ResidualPair(nn.Module):
    """x + f(x), with f two rounds of convolution – norm – ReLU. (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm_relu(channels, channels),
            conv_norm_relu(channels, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def residual(kind: str, channels: int, start_as_identity: bool) -> nn.Module:
    """What a stage carries behind its first convolution. (B, C, H, W) → (B, C, H, W)."""
    if kind == "pair":
        return ResidualPair(channels)
    if not start_as_identity:
        return BasicBlock(channels, channels)

    block = GeneralBasicBlock(channels, channels)
    block.start_as_identity()
    return block


def _check(stem: str, residual_in: tuple[int, ...], block: str, zero_init_residual: bool) -> None:
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}: expected one of {', '.join(STEMS)}")
    if block not in BLOCKS:
        raise ValueError(f"unknown block {block!r}: expected one of {', '.join(BLOCKS)}")

    if not set(residual_in) <= {1, 2, 3}:
        raise ValueError(f"residual_in is {residual_in}: expected stages out of 1, 2, 3")
    if zero_init_residual and block != "basic":
        raise ValueError(
            "zero_init_residual needs block='basic': behind a ReLU, a zero stays a zero"
        )
