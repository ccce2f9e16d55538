"""ResNets from one depth table (He et al. 2015, arXiv:1512.03385, table 1), torchvision's keys and outputs."""

import torch
from torch import nn

from course_lib.models.blocks import BasicBlock, Bottleneck, Classifier, conv3x3

DEPTHS = {  # blocks in each of the four stages
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
    200: (Bottleneck, (3, 24, 36, 3)),
}
STEMS = ("imagenet", "small")


class ResNet(Classifier):
    """Stem, four stages, global average pooling, one linear layer.

    stem: ``"imagenet"`` (7×7 stride 2, then max-pool: the map is a quarter of the picture, for 128 px and
    more) or ``"small"`` (3×3 stride 1, no pooling: for 32 to 64 px, at fifteen times the work).
    zero_init_residual: start each block as the identity (Goyal et al. 2017, arXiv:1706.02677, §5.1).
    """

    def __init__(self, depth: int, num_classes: int = 1000, *, in_channels: int = 3, stem: str = "imagenet",
                 zero_init_residual: bool = False) -> None:
        super().__init__()
        if stem not in STEMS:
            raise ValueError(f"unknown stem {stem!r}: expected one of {', '.join(STEMS)}")
        block, blocks = DEPTHS[depth]
        small = stem == "small"
        self.conv1 = conv3x3(in_channels, 64) if small else nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        width = 64
        for number, count in enumerate(blocks, start=1):
            channels = 64 * 2 ** (number - 1)
            strides = [1 if number == 1 else 2] + [1] * (count - 1)
            stage = []
            for stride in strides:
                stage.append(block(width, channels, stride))
                width = channels * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        self._initialise(zero_init_residual)

    def _initialise(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock | Bottleneck):
                    nn.init.zeros_(module.last_norm.weight)

    @property
    def stages(self) -> dict[str, nn.Module]:
        return {f"layer{number}": getattr(self, f"layer{number}") for number in (1, 2, 3, 4)}

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (B, 64, H/4, W/4), or H, W with the small stem
        for stage in self.stages.values():
            x = stage(x)  # channels double, height and width halve
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x)).flatten(1)  # (B, D)
        return self.fc(x)  # (B, num_classes)
