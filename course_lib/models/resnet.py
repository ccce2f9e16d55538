"""ResNets, from one depth table per family.

He et al. 2015 (arXiv:1512.03385, tables 1 and 6), He et al. 2016 (pre-activation,
arXiv:1603.05027), Zagoruyko & Komodakis 2016 (wide, arXiv:1605.07146). The names resnet18 to
resnet152 have torchvision's keys and outputs.
"""

from dataclasses import replace

import torch
from torch import nn

from course_lib.checks import check_whole
from course_lib.models.blocks import conv3x3
from course_lib.models.classifier import Classifier, check_classes
from course_lib.models.variants import PLAIN, BlockOptions, GeneralBlock, PreActBlock, general_form

IMAGENET = {  # depth: kind of block, blocks in each of the four stages
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}

CIFAR = {  # depth = 6 n + 2, with bottlenecks 9 n + 2: kind of block, n in each of three stages
    20: ("basic", 3),
    32: ("basic", 5),
    44: ("basic", 7),
    56: ("basic", 9),
    110: ("basic", 18),
    164: ("bottleneck", 18),
    1001: ("bottleneck", 111),
    1202: ("basic", 200),
}

WIDE = {  # depth = 6 n + 4: n in each of three stages, and the width of the paper's table 5
    16: (2, 8),
    28: (4, 10),
    40: (6, 4),
}

STEMS = ("imagenet", "small")

# Blocks whose sum fits into float32 where norms change nothing: each doubles the variance of x.
MOST_BLOCKS = 250


class ResNet(Classifier):
    """Stem, stages of residual blocks, global average pooling, one linear layer.

    block, counts, channels: the kind of block, how many in each stage, and the channels of the
        first stage, which double with every further one.
    stem: ``"imagenet"`` (7×7 stride 2, then max-pool: the map is a quarter of the picture,
        for 128 px and more) or ``"small"`` (3×3 stride 1, no pooling: for 32 to 64 px, at fifteen
        times the work).
    width, shortcut, drop_rate, se: see ``BlockOptions``.
    drop_path: of the last block; it grows in proportion to the depth (Huang et al. 2016, eq. 4).
    zero_init_residual: start each block as the identity (Goyal et al. 2017, arXiv:1706.02677).
        Those of shortcut C always do, and more than 250 blocks must.
    Raises ValueError for values out of range.
    """

    def __init__(
        self,
        block: type[nn.Module],
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
        check_classes(num_classes)
        check_whole(in_channels=in_channels, width=width)
        _check(stem, drop_rate=drop_rate, drop_path=drop_path)
        if shortcut == "none" and zero_init_residual:
            raise ValueError("without a shortcut no block can start as the identity")

        if stem == "small":
            self.conv1 = conv3x3(in_channels, channels)
        else:
            self.conv1 = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if stem == "small" else nn.MaxPool2d(3, stride=2, padding=1)

        # Where every shortcut is a convolution (C), norms make gradients grow from block to block
        # (Yang et al. 2019, arXiv:1902.08129), too large for 200 layers, unless they start shut.
        start_as_identity = zero_init_residual or shortcut == "C"
        depth = sum(counts)  # in blocks
        _check_depth(depth, start_as_identity or shortcut == "none")

        # The plain blocks take no options: whoever asks for one gets the general form.
        options = BlockOptions(width, shortcut, drop_rate, drop_path, se)
        general = start_as_identity or options != PLAIN or issubclass(block, GeneralBlock)
        number = 0  # of the block, from 1
        flow = channels  # channels between the blocks

        for stage, count in enumerate(counts):
            blocks = []
            for index in range(count):
                number += 1
                stride = 2 if stage > 0 and index == 0 else 1
                arguments = flow, channels * 2**stage, stride

                if general:
                    own = replace(options, drop_path=drop_path * number / depth)
                    blocks.append(general_form(block)(*arguments, own))
                else:
                    blocks.append(block(*arguments))
                flow = blocks[-1].out_channels

            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

        if issubclass(block, PreActBlock):
            # The stem has activated what the first block is given (He et al. 2016, appendix),
            # and the last sum is still bare.
            self.layer1[0].bn1 = nn.Identity()
            self.norm = nn.Sequential(nn.BatchNorm2d(flow), nn.ReLU())

        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(flow, num_classes)

        self._initialise(start_as_identity)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        # C: the channels of the first stage; behind a small stem the map keeps H and W
        x = self.relu(self.bn1(self.conv1(x)))  # (B, C, H/2, W/2)
        x = self.maxpool(x)  # (B, C, H/4, W/4)

        for stage in self.stages.values():
            # from the second on: twice the channels, half the height and width; a norm keeps both
            x = stage(x)
        return x  # (B, D, H', W')

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)  # (B, D, H', W')
        return self.avgpool(x).flatten(1)  # (B, D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)  # (B, D)
        return self.fc(x)  # (B, num_classes)

    @property
    def stages(self) -> dict[str, nn.Module]:
        # the norm behind pre-activation blocks too: ``features`` ends in it
        return {
            name: module
            for name, module in self.named_children()
            if name.startswith(("layer", "norm"))
        }

    def _initialise(self, start_as_identity: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

        if start_as_identity:
            for module in self.modules():
                if isinstance(module, GeneralBlock):
                    module.start_as_identity()


def _check(stem: str, **rates: float) -> None:
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}: expected one of {', '.join(STEMS)}")

    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name} is {rate}: expected a probability from 0 to below 1")


def _check_depth(blocks: int, is_bounded: bool) -> None:
    if blocks > MOST_BLOCKS and not is_bounded:
        raise ValueError(
            f"{blocks} blocks need zero_init_residual=True: in eval mode, where fresh norms change "
            "nothing, their sum would reach infinity"
        )
