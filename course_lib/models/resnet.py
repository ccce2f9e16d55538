"""ResNets, from one depth table per family.

He et al. 2015 (arXiv:1512.03385, tables 1 and 6), He et al. 2016 (pre-activation, arXiv:1603.05027), Zagoruyko
& Komodakis 2016 (wide, arXiv:1605.07146). The names resnet18 to resnet152 have torchvision's keys and outputs.
"""

import torch
from torch import nn

from course_lib.models.blocks import Classifier, PreActivation, Residual
from course_lib.models.layers import conv3x3

IMAGENET = {  # depth: kind of block, blocks in each of the four stages
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}
CIFAR = {  # depth: kind of block, blocks in each of the three stages (depth = 6 n + 2, with bottlenecks 9 n + 2)
    20: ("basic", 3),
    32: ("basic", 5),
    44: ("basic", 7),
    56: ("basic", 9),
    110: ("basic", 18),
    164: ("bottleneck", 18),
    1001: ("bottleneck", 111),
    1202: ("basic", 200),
}
WIDE = {
    16: (2, 8),
    28: (4, 10),
    40: (6, 4),
}  # depth = 6 n + 4: n, and the width of the paper's table 5
STEMS = ("imagenet", "small")


class ResNet(Classifier):
    """Stem, stages of residual blocks, global average pooling, one linear layer.

    block, counts, channels: the kind of block, how many in each stage, and the channels of the first stage, which
    double with every further one.
    stem: ``"imagenet"`` (7×7 stride 2, then max-pool: the map is a quarter of the picture, for 128 px and
    more) or ``"small"`` (3×3 stride 1, no pooling: for 32 to 64 px, at fifteen times the work).
    drop_path: of the last block; it grows in proportion to the depth (Huang et al. 2016, equation 4).
    zero_init_residual: start each block as the identity (Goyal et al. 2017, arXiv:1706.02677, §5.1). With the
    shortcut C always: where no way around is an identity, norms make gradients grow from block to block (Yang et al.
    2019, arXiv:1902.08129), too large to learn with in a network of 200 layers.
    width, shortcut, drop_rate, se: see ``Residual``. Raises ValueError for values out of range.
    """

    def __init__(
        self,
        block: type[Residual],
        counts: tuple[int, ...],
        channels: int,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        stem: str = "imagenet",
        width: int = 1,
        shortcut: str = "B",
        drop_rate: float = 0.0,
        drop_path: float = 0.0,
        se: bool = False,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        _check(stem, width, drop_rate=drop_rate, drop_path=drop_path)
        small, preact = stem == "small", issubclass(block, PreActivation)
        self.conv1 = (
            conv3x3(in_channels, channels)
            if small
            else nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        blocks, flow = [], channels
        for stage, count in enumerate(counts):
            for stride in [1 if stage == 0 else 2] + [1] * (count - 1):
                blocks.append(
                    block(
                        flow,
                        channels * 2**stage,
                        stride,
                        width=width,
                        shortcut=shortcut,
                        se=se,
                        drop_rate=drop_rate,
                        drop_path=drop_path * (len(blocks) + 1) / sum(counts),
                    )
                )
                flow = blocks[-1].out_channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks[-count:]))
        if preact:
            blocks[
                0
            ].bn1 = (
                nn.Identity()
            )  # the stem has activated its input, for both ways (He et al. 2016, appendix)
            self.norm = nn.Sequential(
                nn.BatchNorm2d(flow), nn.ReLU()
            )  # and the last sum is still bare
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(flow, num_classes)
        self._initialise(zero_init_residual or shortcut == "C")

    def _initialise(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, Residual):
                    module.start_as_identity()

    @property
    def stages(self) -> dict[str, nn.Module]:
        return {
            name: module
            for name, module in self.named_children()
            if name.startswith(("layer", "norm"))
        }

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(
            self.relu(self.bn1(self.conv1(x)))
        )  # (B, 64, H/4, W/4), or H, W with the small stem
        for stage in self.stages.values():
            x = stage(x)  # channels double, height and width halve
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x)).flatten(1)  # (B, D)
        return self.fc(x)  # (B, num_classes)


def _check(stem: str, width: int, **rates: float) -> None:
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}: expected one of {', '.join(STEMS)}")
    if not (isinstance(width, int) and width > 0):
        raise ValueError(f"width is {width!r}: expected a whole number from 1 on")
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name} is {rate}: expected a probability from 0 to below 1")
