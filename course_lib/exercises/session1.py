"""The exercises of session 1, ResNet from scratch.

For each: the solution, the inputs it is tried on, and the usual mistakes with their names.
"""

from collections import OrderedDict
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.exercises.checker import Exercise

# --- conv_cost ----------------------------------------------------------------------------------


def conv_cost(
    in_channels: int, out_channels: int, kernel: int, stride: int, height: int, width: int
) -> tuple[int, int]:
    """Parameters and multiply-adds of a square convolution without bias, padded by kernel // 2.

    kernel: odd. height, width: of the input map, not always multiples of the stride.
    Returns (parameters, multiply-adds for one picture).
    """
    # each output channel has a window of weights, kernel × kernel, for each input channel
    parameters = out_channels * in_channels * kernel * kernel

    # how often the window fits into the padded map, in steps of the stride
    padding = kernel // 2
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1

    # every weight is used once at every position of the output
    multiply_adds = parameters * out_height * out_width

    return parameters, multiply_adds


# --- training_step ------------------------------------------------------------------------------


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> float:
    """One step of SGD with cross-entropy, in train mode. Returns the mean loss before the step.

    images: (B, C, H, W). labels: int64 (B,). Gradients may be left over from before the call.
    """
    model.train()  # norms take the statistics of the batch

    logits = model(images)  # (B, classes)
    loss = F.cross_entropy(logits, labels)  # a mean over the batch

    optimizer.zero_grad()  # backward adds to what is there, so begin with nothing
    loss.backward()  # fills .grad of every parameter
    optimizer.step()  # moves every parameter against its gradient

    return loss.item()


# --- accuracy -----------------------------------------------------------------------------------


def accuracy(model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Share of the pictures whose largest logit is that of their label, 0..1.

    batches: pairs of images (B, C, H, W) and labels (B,), B may differ from one to the next.
    The model is asked in eval mode, and has afterwards the mode that it had before.
    """
    was_training = model.training
    model.eval()  # norms take their running statistics and leave them as they are

    right, total = 0, 0
    with torch.no_grad():  # no backward follows: nothing needs to be kept for it
        for images, labels in batches:
            guesses = model(images).argmax(dim=1)  # (B, classes) → (B,)
            right += (guesses == labels).sum().item()
            total += len(labels)

    model.train(was_training)
    return right / total


# --- residual_block -----------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """x → ReLU(shortcut(x) + branch(x)), with two 3×3 convolutions in the branch.

    The stride is that of the first convolution. Where the shape changes, the shortcut is a 1×1
    convolution with a norm. No convolution has a bias. Names as in torchvision: conv1, bn1, conv2,
    bn2, downsample.
    (B, in_channels, H, W) → (B, channels, H / stride, W / stride).
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.out_channels = channels

        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

        self.downsample = nn.Identity()
        if stride != 1 or in_channels != channels:  # else x cannot be added to the branch
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.downsample(x)  # (B, channels, H/stride, W/stride)

        x = self.relu(self.bn1(self.conv1(x)))  # (B, channels, H/stride, W/stride)
        x = self.bn2(self.conv2(x))  # (B, channels, H/stride, W/stride)

        return self.relu(shortcut + x)  # the sum first, then the ReLU


# --- block_parameters ---------------------------------------------------------------------------


def block_parameters(in_channels: int, channels: int, stride: int) -> int:
    """What ``ResidualBlock(in_channels, channels, stride)`` has to learn, counted by hand.

    Convolutions have no bias. A norm learns two numbers for each channel.
    """
    conv1 = in_channels * channels * 3 * 3
    conv2 = channels * channels * 3 * 3
    norm = 2 * channels
    branch = conv1 + norm + conv2 + norm

    if stride == 1 and in_channels == channels:  # the shortcut is x itself
        return branch

    projection = in_channels * channels + norm  # 1×1
    return branch + projection


# --- shortcut_a ---------------------------------------------------------------------------------


def shortcut_a(x: torch.Tensor, out_channels: int, stride: int) -> torch.Tensor:
    """Every stride-th pixel in both directions, and zeros for the channels that x lacks.

    (B, C, H, W) → (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉) of the same dtype: the channels of
    x come first. He et al. 2015, arXiv:1512.03385, section 4.1, option A.
    """
    x = x[:, :, ::stride, ::stride]  # (B, C, ⌈H/stride⌉, ⌈W/stride⌉)

    batch, channels, height, width = x.shape
    zeros = x.new_zeros(batch, out_channels - channels, height, width)  # dtype and device of x

    return torch.cat([x, zeros], dim=1)  # (B, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)


# --- resnet -------------------------------------------------------------------------------------


def resnet(block: type[nn.Module], counts: tuple[int, ...], num_classes: int) -> nn.Module:
    """A ResNet with ImageNet's stem and torchvision's names: conv1, bn1, layer1 to layer4, fc.

    block: a class called as block(in_channels, channels, stride); what it makes has out_channels,
    in a bottleneck four times its channels. counts: the number of blocks in each of four stages.
    (B, 3, H, W) → (B, num_classes). He et al. 2015, arXiv:1512.03385, table 1.
    """
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),  # (B, 64, H/2, W/2)
            bn1=nn.BatchNorm2d(64),
            relu=nn.ReLU(),
            maxpool=nn.MaxPool2d(3, stride=2, padding=1),  # (B, 64, H/4, W/4)
        )
    )
    in_channels = 64

    for stage, count in enumerate(counts):
        channels = 64 * 2**stage  # 64, 128, 256, 512
        blocks = []

        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1  # the map halves where a stage begins
            blocks.append(block(in_channels, channels, stride))
            in_channels = blocks[-1].out_channels  # what the next block is given

        network.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    network.add_module("avgpool", nn.AdaptiveAvgPool2d(1))  # (B, D, 1, 1)
    network.add_module("flatten", nn.Flatten())  # (B, D)
    network.add_module("fc", nn.Linear(in_channels, num_classes))  # (B, num_classes)
    return network


# --- receptive_field ----------------------------------------------------------------------------


def receptive_field(layers: list[tuple[int, int]]) -> int:
    """Height of the piece of the picture, in pixels, that one value of the last layer depends on.

    layers: (kernel, stride) of each layer, first to last.
    """
    field, step = 1, 1  # step: pixels of the picture between two neighbours in the map

    for kernel, stride in layers:
        field += (kernel - 1) * step  # a kernel reaches over kernel - 1 such steps
        step *= stride  # counts for the layers behind this one

    return field


EXERCISES: list[Exercise] = []
