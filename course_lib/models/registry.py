"""Networks by name: each is one line of configuration."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial

from course_lib.models.blocks import (
    BasicBlock,
    Bottleneck,
    Classifier,
    PreActBasicBlock,
    PreActBottleneck,
)
from course_lib.models.lambda_resnet import LAMBDA, LambdaResNet
from course_lib.models.resnet import CIFAR, IMAGENET, WIDE, ResNet
from course_lib.models.session_resnet import SessionResNet


def _resnets(prefix: str, **blocks) -> dict[str, Callable[..., Classifier]]:
    imagenet = {
        f"{prefix}resnet{depth}": partial(ResNet, blocks[kind], counts, 64)
        for depth, (kind, counts) in IMAGENET.items()
    }
    return {
        **imagenet,
        **{
            f"{prefix}resnet{depth}_small": partial(
                imagenet[f"{prefix}resnet{depth}"], stem="small"
            )
            for depth in (18, 34, 50, 101)
        },
        **{
            f"{prefix}resnet{depth}": partial(ResNet, blocks[kind], (count,) * 3, 16, stem="small")
            for depth, (kind, count) in CIFAR.items()
        },
        **{
            f"{prefix}wide_resnet{depth}": partial(
                ResNet, blocks["basic"], (count,) * 3, 16, stem="small", width=width
            )
            for depth, (count, width) in WIDE.items()
        },
    }


_MODELS: dict[str, Callable[..., Classifier]] = {
    "session_resnet": SessionResNet,
    **_resnets("", basic=BasicBlock, bottleneck=Bottleneck),
    **_resnets("preact_", basic=PreActBasicBlock, bottleneck=PreActBottleneck),
    "se_resnet18": partial(ResNet, BasicBlock, IMAGENET[18][1], 64, se=True),
    "se_resnet50": partial(ResNet, Bottleneck, IMAGENET[50][1], 64, se=True),
    **{
        f"lambda_resnet{depth}": partial(LambdaResNet, block, counts, lambda_stages=stages)
        for depth, (block, counts, stages) in LAMBDA.items()
    },
}


def list_models() -> list[str]:
    """The names that ``create_model`` knows."""
    return sorted(_MODELS)


def create_model(name: str, num_classes: int = 1000, **options) -> Classifier:
    """A network by name, with fresh random weights.

    Raises ValueError for an unknown name, with the nearest ones, for an option that the family does not have,
    with those it has, and for a value that the option does not take.
    """
    known = model_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    return _MODELS[name](num_classes=num_classes, **options)


def model_options(name: str) -> dict[str, object]:
    """The options that a name takes, each with its default. Raises ValueError for an unknown name."""
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=4, cutoff=0.4) or list_models()
        raise ValueError(f"unknown model {name!r}; the nearest names are {', '.join(near)}")
    return {
        each.name: each.default
        for each in inspect.signature(_MODELS[name]).parameters.values()
        if each.kind is each.KEYWORD_ONLY
    }
