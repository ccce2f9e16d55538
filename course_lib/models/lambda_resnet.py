"""LambdaResNet: a ResNet whose 3×3 convolutions look further.

Bello 2021, "LambdaNetworks", arXiv:2102.08602, §5.1 and table 13.
"""

from torch import nn

from course_lib.models.blocks import BasicBlock, Bottleneck
from course_lib.models.lambda_layer import LambdaLayer, check_reach, height_and_width
from course_lib.models.resnet import IMAGENET, ResNet

STAGES = ("c2", "c3", "c4", "c5")  # the paper's names of layer1 to layer4

LAMBDA = {  # depth: block, blocks in each stage, stages with lambda layers
    18: (BasicBlock, IMAGENET[18][1], ("c4", "c5")),
    26: (Bottleneck, (2, 2, 2, 2), ("c4", "c5")),
    34: (BasicBlock, IMAGENET[34][1], ("c4", "c5")),
    50: (Bottleneck, IMAGENET[50][1], STAGES),
    101: (Bottleneck, IMAGENET[101][1], STAGES),
    152: (Bottleneck, IMAGENET[152][1], STAGES),
}


class LambdaResNet(ResNet):
    """A ResNet with lambda layers in place of 3×3 convolutions.

    In each block of ``lambda_stages`` one is replaced: the only one of a bottleneck, the second one
    of a basic block.

    lambda_stages: of "c2" to "c5". In "c4" and "c5" alone they keep most of the gain for a fraction
        of the time (Bello 2021, §5.3), and a basic block has no narrow middle to put them in, so
        small networks have them there.
    dim_k, heads, dim_u, r: see ``LambdaLayer``.
    size: (H, W) of the pictures, for global layers (with r=None).
    zero_init_residual: True alone, each block starts as the identity. A lambda layer multiplies its
        input by itself, q by λ, so that in eval mode, where norms do not follow their input, its
        output grows with the square. Fresh networks without it are NaN there from 34 layers on.
    The others: see ``ResNet``. Raises ValueError for an unknown stage, for r and size that do not
    fit, and for another start.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        counts: tuple[int, ...],
        num_classes: int = 1000,
        *,
        lambda_stages: tuple[str, ...] = STAGES,
        dim_k: int = 16,
        heads: int = 4,
        dim_u: int = 1,
        r: int | None = 23,
        size: tuple[int, int] | None = None,
        in_channels: int = 3,
        stem: str = "imagenet",
        shortcut: str = "B",
        drop_rate: float = 0.0,
        drop_path: float = 0.0,
        se: bool = False,
        zero_init_residual: bool = True,
    ) -> None:
        _check(lambda_stages, zero_init_residual)
        super().__init__(
            block,
            counts,
            64,
            num_classes,
            in_channels=in_channels,
            stem=stem,
            shortcut=shortcut,
            drop_rate=drop_rate,
            drop_path=drop_path,
            se=se,
            zero_init_residual=zero_init_residual,
        )
        check_reach(r, size)
        size = height_and_width(size)

        def in_place_of(conv: nn.Conv2d, shrunk: int) -> nn.Module:
            """The layer for a convolution whose map is ``shrunk`` times as small as the picture."""
            layer = LambdaLayer(
                conv.in_channels,
                conv.out_channels,
                dim_k=dim_k,
                heads=heads,
                dim_u=dim_u,
                r=r,
                size=size and tuple(-(-side // shrunk) for side in size),
            )
            if conv.stride == (1, 1):
                return layer
            # ceil_mode: on odd maps the shortcut keeps the last row, too
            return nn.Sequential(layer, nn.AvgPool2d(2, ceil_mode=True))

        shrunk = 1 if stem == "small" else 4
        for name, stage in zip(STAGES, self.stages.values(), strict=True):
            for each in stage:
                conv = each.conv2
                shrunk *= each.conv1.stride[0]  # a basic block has its stride here,
                if name in lambda_stages:
                    each.conv2 = in_place_of(conv, shrunk)
                shrunk *= conv.stride[0]  # a bottleneck here


def _check(lambda_stages: tuple[str, ...], zero_init_residual: bool) -> None:
    if not set(lambda_stages) <= set(STAGES):
        raise ValueError(f"lambda_stages is {lambda_stages}: expected some of {', '.join(STAGES)}")

    if not zero_init_residual:
        raise ValueError(
            "lambda networks start as the identity: leave zero_init_residual at True, without it "
            "fresh ones of 34 layers and more have logits of NaN in eval mode"
        )
