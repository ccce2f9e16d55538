"""The session ResNet in other forms, with one thing changed in each, so that they can be compared.

A form is built as the plain network and then changed: with the same seed all its other weights are
those of the plain one, number for number.
"""

import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

from course_lib.models.lambda_layer import LambdaLayer
from course_lib.models.session_resnet import ResidualPair, SessionResNet

WITH_A_PAIR = (1, 3)  # the stages that carry a residual pair


class SESessionResNet(SessionResNet):
    """Squeeze and excitation at the end of each residual pair's branch.

    The mean of a channel decides how much of it passes, over a sixteenth of the channels (Hu et al.
    2018, arXiv:1709.01507, equations 2 to 4). Options: see ``SessionResNet``.
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

        for stage in WITH_A_PAIR:
            branch = pair_of(self, stage).body
            channels = branch[0][0].out_channels
            branch.append(SqueezeExcitation(channels, channels // 16))


class LambdaSessionResNet(SessionResNet):
    """A lambda layer in place of the second convolution of residual pairs.

    lambda_stages: those whose pair has one, of 1 and 3. In 3 alone, where maps are small, a step
        takes no longer than the plain network's.
    softmax_over: of the keys; ``"positions"``, as the paper has it, or ``"keys"``, see
        ``OverKeys``.
    Other options: see ``SessionResNet``. Raises ValueError for values out of range.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        stem: str = "small",
        logit_scale: float = 1.0,
        lambda_stages: tuple[int, ...] = (3,),
        softmax_over: str = "positions",
    ) -> None:
        super().__init__(num_classes, in_channels=in_channels, stem=stem, logit_scale=logit_scale)
        _check(lambda_stages, softmax_over)

        for stage in lambda_stages:
            second = pair_of(self, stage).body[1]  # convolution, norm, ReLU
            channels = second[0].out_channels
            second[0] = LAYERS[softmax_over](channels)

            # Positions that only larger pictures show come in later: without a say, not at random.
            nn.init.zeros_(second[0].pos_conv.weight)


class OverKeys(LambdaLayer):
    """A lambda layer with a mistake: the softmax runs over the numbers of a key.

    Every position then says equally much, and the sum over them grows with the map, where it should
    be a mean.
    """

    def normalise_keys(self, k: torch.Tensor) -> torch.Tensor:
        """(B, u, k, H, W) → (B, u, k, m), of sum 1 over k."""
        return k.flatten(3).softmax(2)


LAYERS = {"positions": LambdaLayer, "keys": OverKeys}


def pair_of(model: SessionResNet, stage: int) -> ResidualPair:
    """The last thing in a stage that has one."""
    return model.stages[f"stage{stage}"][-1]


def _check(lambda_stages: tuple[int, ...], softmax_over: str) -> None:
    if not set(lambda_stages) <= set(WITH_A_PAIR):
        raise ValueError(
            f"lambda_stages is {lambda_stages}: expected some of the stages with a residual pair, "
            f"{', '.join(map(str, WITH_A_PAIR))}"
        )
    if softmax_over not in LAYERS:
        raise ValueError(
            f"unknown softmax_over {softmax_over!r}: expected one of {', '.join(LAYERS)}"
        )
