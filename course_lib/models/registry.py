"""Networks by name: each is one line of configuration."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from course_lib.files import CourseError
from course_lib.models.blocks import BasicBlock, Bottleneck
from course_lib.models.classifier import Classifier
from course_lib.models.lambda_resnet import LAMBDA, LambdaResNet
from course_lib.models.resnet import CIFAR, IMAGENET, WIDE, ResNet
from course_lib.models.session_forms import LambdaSessionResNet, SESessionResNet
from course_lib.models.session_resnet import SessionResNet, UnnormedSessionResNet
from course_lib.models.variants import PreActBasicBlock, PreActBottleneck
from course_lib.models.weights import check_asked, fill, find_weights, read_card

Builder = Callable[..., Classifier]


def create_model(
    name: str,
    num_classes: int | None = None,
    *,
    weights: str | Path | None = None,
    **options,
) -> Classifier:
    """A network by name, with fresh random weights or with those of a finished training.

    num_classes: by default 1000, and with weights those that it was trained for.
    weights: ``"tinyimagenet"``, ``"imagenette"`` or the path of a .safetensors file with a card
        beside it. The network is then built as its card says, and in eval mode.

    Raises ValueError for an unknown name, with the nearest ones, for an option that the family does
    not have, with those it has, and for a value that the option does not take. Raises CourseError
    for weights that are not there, are damaged or do not fit, and for classes or options that
    differ from the card's.
    """
    _check_options(name, options)
    if weights is not None:
        return _trained(name, num_classes, weights, options)

    num_classes = 1000 if num_classes is None else num_classes
    return _MODELS[name](num_classes=num_classes, **options)


def list_models() -> list[str]:
    """The names that ``create_model`` knows."""
    return sorted(_MODELS)


def model_options(name: str) -> dict[str, object]:
    """The options that a name takes, with their defaults. Raises ValueError for an unknown name."""
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=4, cutoff=0.4) or list_models()
        raise ValueError(f"unknown model {name!r}; the nearest names are {', '.join(near)}")

    parameters = inspect.signature(_MODELS[name]).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def _check_options(name: str, options: dict[str, object]) -> None:
    known = model_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known)}")


def _trained(
    name: str, num_classes: int | None, weights: str | Path, options: dict[str, object]
) -> Classifier:
    """Built as the card says, whatever was asked for: what differs from it is refused."""
    path = find_weights(name, weights)
    card = read_card(path, name)

    # options that an older card does not hold are at their defaults
    trained_with = model_options(name) | card["model_options"]
    check_asked(path, num_classes, options, card["num_classes"], trained_with)

    try:
        _check_options(name, trained_with)
        model = _MODELS[name](num_classes=card["num_classes"], **trained_with)
    except ValueError as error:
        raise CourseError(f"{path} is of a network that there is not today: {error}") from error

    fill(model, path, card)
    return model.eval()


def _resnets(
    prefix: str, basic: type[nn.Module], bottleneck: type[nn.Module]
) -> dict[str, Builder]:
    """All plain and wide ResNets of one pair of blocks."""
    blocks = {"basic": basic, "bottleneck": bottleneck}
    models: dict[str, Builder] = {}

    for depth, (kind, counts) in IMAGENET.items():
        models[f"{prefix}resnet{depth}"] = partial(ResNet, blocks[kind], counts, 64)

    for depth in (18, 34, 50, 101):
        large = models[f"{prefix}resnet{depth}"]
        models[f"{prefix}resnet{depth}_small"] = partial(large, stem="small")

    for depth, (kind, count) in CIFAR.items():
        counts = (count, count, count)
        model = partial(ResNet, blocks[kind], counts, 16, stem="small")
        if depth > 1000:
            # In eval mode, where fresh norms change nothing, so many sums would reach infinity.
            model = partial(model, zero_init_residual=True)
        models[f"{prefix}resnet{depth}"] = model

    for depth, (count, width) in WIDE.items():
        counts = (count, count, count)
        models[f"{prefix}wide_resnet{depth}"] = partial(
            ResNet, basic, counts, 16, stem="small", width=width
        )
    return models


def _lambda_resnets() -> dict[str, Builder]:
    return {
        f"lambda_resnet{depth}": partial(LambdaResNet, block, counts, lambda_stages=stages)
        for depth, (block, counts, stages) in LAMBDA.items()
    }


_MODELS: dict[str, Builder] = {
    "session_resnet": SessionResNet,
    "session_resnet_unnormed": UnnormedSessionResNet,
    "session_resnet_se": SESessionResNet,
    "session_resnet_lambda": LambdaSessionResNet,
    **_resnets("", BasicBlock, Bottleneck),
    **_resnets("preact_", PreActBasicBlock, PreActBottleneck),
    "se_resnet18": partial(ResNet, BasicBlock, IMAGENET[18][1], 64, se=True),
    "se_resnet50": partial(ResNet, Bottleneck, IMAGENET[50][1], 64, se=True),
    **_lambda_resnets(),
}
