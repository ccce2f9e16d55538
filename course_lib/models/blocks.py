"""The interface that every network here offers, and the residual blocks that most of them are built from."""

import torch
from torch import nn

from course_lib.models import layers
from course_lib.models.layers import conv1x1, conv3x3


class Classifier(nn.Module):
    """A network in two parts: ``features`` makes a map, ``head`` turns it into logits.

    ``stages``: name → module, in order, each of whose outputs Grad-CAM can point at; the last gives ``features``.
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


class Residual(nn.Module):
    """x → shortcut(x) + branch(x), (B, in_channels, H, W) → (B, out_channels, H / stride, W / stride).

    Four blocks say what the branch is. All take the same arguments:
    width: factor on the channels, in a bottleneck on the inner ones only (Zagoruyko & Komodakis 2016,
        arXiv:1605.07146, §2.3).
    shortcut: the kind of way around, see ``layers.shortcut``.
    drop_rate: share of the values set to zero before the last convolution (same paper, §2.4).
    drop_path: probability with which a picture skips the branch in training (Huang et al. 2016, arXiv:1603.09382).
    se: let the mean of every channel decide how much of the channel passes (squeeze and excitation, Hu et al.
        2018, arXiv:1709.01507, equations 2 to 4, reduction 16).
    """

    expansion: int | None = None  # output channels over ``channels``; None: as many as inside
    last: str  # the layer whose weight, at zero, shuts the branch
    shortcut_norm = True

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        width: int = 1,
        shortcut: str = "B",
        drop_rate: float = 0.0,
        drop_path: float = 0.0,
        se: bool = False,
    ) -> None:
        super().__init__()
        inner = channels * width
        self.out_channels = channels * self.expansion if self.expansion else inner
        self.keeps_shape = stride == 1 and in_channels == self.out_channels
        self.add_branch(in_channels, inner, self.out_channels, stride)
        self.relu = nn.ReLU()  # not in place: dropout and Grad-CAM need what it was given
        self.dropout = nn.Dropout(drop_rate)
        self.se = _squeeze_excitation(self.out_channels) if se else nn.Identity()
        self.drop_path = _stochastic_depth(drop_path) if drop_path else nn.Identity()
        self.downsample = layers.shortcut(
            shortcut, in_channels, self.out_channels, stride, norm=self.shortcut_norm
        )

    def add_branch(self, in_channels: int, inner: int, out_channels: int, stride: int) -> None:
        raise NotImplementedError

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.downsample(x) + self.drop_path(self.se(self.branch(x))))

    def start_as_identity(self) -> None:
        """Shut the branch, and open the way around: what a convolution there is given, it hands on."""
        nn.init.zeros_(getattr(self, self.last).weight)
        if self.keeps_shape and isinstance(self.downsample, nn.Sequential):
            nn.init.dirac_(self.downsample[0].weight)
            norm = self.downsample[1] if self.shortcut_norm else self.bn1
            if isinstance(
                norm, nn.BatchNorm2d
            ):  # lifted so far that the ReLU behind it cuts off one value in 44
                nn.init.constant_(norm.bias, 2.0)


def _squeeze_excitation(channels: int) -> nn.Module:
    from torchvision.ops import SqueezeExcitation

    return SqueezeExcitation(channels, max(channels // 16, 1))


def _stochastic_depth(probability: float) -> nn.Module:
    from torchvision.ops import StochasticDepth

    return StochasticDepth(probability, mode="row")


class BasicBlock(Residual):
    """Two 3×3 convolutions (He et al. 2015, arXiv:1512.03385, figure 5, left)."""

    last = "bn2"

    def add_branch(self, in_channels: int, inner: int, out_channels: int, stride: int) -> None:
        self.conv1 = conv3x3(in_channels, inner, stride)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(self.dropout(x)))


class Bottleneck(Residual):
    """1×1 down, 3×3, 1×1 up (figure 5, right), the stride in the 3×3 as torchvision has it."""

    expansion = 4
    last = "bn3"

    def add_branch(self, in_channels: int, inner: int, out_channels: int, stride: int) -> None:
        self.conv1 = conv1x1(in_channels, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(self.dropout(x)))


class PreActivation(Residual):
    """Norm and ReLU before each convolution, and none behind the sum, so that the way around stays clear.

    A shortcut with a convolution starts from the activated input, as the branch does, and needs no norm of its
    own (He et al. 2016, arXiv:1603.05027, figure 4e).
    """

    shortcut_norm = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.relu(self.bn1(x))
        around = self.downsample(activated if isinstance(self.downsample, nn.Sequential) else x)
        return around + self.drop_path(self.se(self.branch(activated)))


class PreActBasicBlock(PreActivation):
    """BasicBlock with the norms first."""

    last = "conv2"

    def add_branch(self, in_channels: int, inner: int, out_channels: int, stride: int) -> None:
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, inner, stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, out_channels)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn2(self.conv1(x)))
        return self.conv2(self.dropout(x))


class PreActBottleneck(PreActivation):
    """Bottleneck with the norms first."""

    expansion = 4
    last = "conv3"

    def add_branch(self, in_channels: int, inner: int, out_channels: int, stride: int) -> None:
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, out_channels)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn2(self.conv1(x)))
        x = self.relu(self.bn3(self.conv2(x)))
        return self.conv3(self.dropout(x))
