"""Networks by name: each is one line of configuration."""

import difflib
from collections.abc import Callable
from functools import partial

from course_lib.models.blocks import Classifier
from course_lib.models.resnet import DEPTHS, ResNet
from course_lib.models.session_resnet import SessionResNet

_MODELS: dict[str, Callable[..., Classifier]] = {
    "session_resnet": SessionResNet,
    **{f"resnet{depth}": partial(ResNet, depth) for depth in DEPTHS},
    **{f"resnet{depth}_small": partial(ResNet, depth, stem="small") for depth in (18, 34, 50, 101)},
}


def list_models() -> list[str]:
    """The names that ``create_model`` knows."""
    return sorted(_MODELS)


def create_model(name: str, num_classes: int = 1000, **options) -> Classifier:
    """A network by name, with fresh random weights.

    Raises ValueError for an unknown name, with the nearest ones, and for an option that the family does not
    have.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=4, cutoff=0.4) or list_models()
        raise ValueError(f"unknown model {name!r}; the nearest names are {', '.join(near)}")
    try:
        return _MODELS[name](num_classes=num_classes, **options)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
