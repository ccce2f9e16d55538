"""The session ResNet: eight 3×3 convolutions, two of the stages with a residual pair.

The layout is that of David Page's ResNet-9 ("How to train your ResNet", 2018) with the second stage
wide and plain, as the session that this course grew from used it: 6,573,120 parameters for ten classes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.models.blocks import BasicBlock, Classifier

STEMS = {"small": 1, "strided": 2}  # stride of the first convolution
WIDTHS = {"stem": 64, "stage1": 128, "stage2": 256, "stage3": 512}


class TrimmedConv3x3(nn.Conv2d):
    """A padded 3×3 convolution without bias that, on tiny maps, leaves out the products with the padding.

    On a 2×2 map 20 of the 36 taps meet nothing but padding, on 3×3 32 of 81, on 4×4 44 of 144. Up to 3×3,
    on the CPU, every position of the output is therefore one matrix product: the pixels that its window has,
    (B, n·C_in), by their part of the kernel, (n·C_in, C_out), with n = 4, 6 or 9. Larger maps, GPUs and
    strides take the usual way. (B, C_in, H, W) → (B, C_out, H / stride, W / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        if max(height, width) > 3 or self.stride != (1, 1) or not x.is_cpu:
            return super().forward(x)
        pixels, kernel = (
            x.permute(0, 2, 3, 1),
            self.weight.to(x.dtype).permute(0, 2, 3, 1),
        )  # channels last
        out = []
        for i in range(height):
            for j in range(width):
                window = pixels[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
                taps = kernel[:, max(1 - i, 0) : height + 1 - i, max(1 - j, 0) : width + 1 - j]
                out.append(F.linear(window.flatten(1), taps.flatten(1)))
        return torch.stack(out, dim=1).view(len(x), height, width, -1).permute(0, 3, 1, 2)


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
            conv_norm_relu(channels, channels), conv_norm_relu(channels, channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


BLOCKS = {"pair": ResidualPair, "basic": lambda channels: BasicBlock(channels, channels)}


class SessionResNet(Classifier):
    """Stem, three pooled stages, global max-pooling, one linear layer without bias.

    stem: ``"small"`` (3×3, stride 1; the original, for 32 px) or ``"strided"`` (stride 2: a quarter of the
    work, for 64 px). residual_in: the stages that carry two more convolutions and a way around them, of 1, 2, 3.
    block: ``"pair"`` (Page's: the sum comes after the ReLU) or ``"basic"`` (He's BasicBlock: before it).
    zero_init_residual: start each basic block as the identity; a pair would never leave it, its ReLU being shut.
    logit_scale: factor on the logits; 1/8 keeps the first steps of a fast schedule soft (Page 2018).
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
        for name, value, known in (("stem", stem, STEMS), ("block", block, BLOCKS)):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}: expected one of {', '.join(known)}")
        if not set(residual_in) <= {1, 2, 3}:
            raise ValueError(f"residual_in is {residual_in}: expected stages out of 1, 2, 3")
        if zero_init_residual and block != "basic":
            raise ValueError(
                "zero_init_residual needs block='basic': behind a ReLU, a zero stays a zero"
            )
        self.logit_scale = logit_scale
        self.stem = conv_norm_relu(in_channels, WIDTHS["stem"], stride=STEMS[stem])
        width = WIDTHS["stem"]
        for number in (1, 2, 3):
            channels = WIDTHS[f"stage{number}"]
            stage = nn.Sequential(conv_norm_relu(width, channels, pool=True))
            if number in residual_in:
                stage.append(BLOCKS[block](channels))
            self.add_module(f"stage{number}", stage)
            width = channels
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(width, num_classes, bias=False)
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock):
                    module.start_as_identity()

    @property
    def stages(self) -> dict[str, nn.Module]:
        return {f"stage{number}": getattr(self, f"stage{number}") for number in (1, 2, 3)}

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)  # (B, 64, H, W), or half the size with the strided stem
        for stage in self.stages.values():
            x = stage(x)  # channels double, height and width halve
        return x  # (B, 512, H/8, W/8), or H/16, W/16

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.features(x)).flatten(1)  # (B, 512)
        return self.fc(x) * self.logit_scale  # (B, num_classes)
