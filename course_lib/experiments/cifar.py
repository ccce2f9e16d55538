"""CIFAR-10 and CIFAR-100: as published, and as one would train today.

A new network is entered in PUBLISHED or MODERN, and is then trained on both data sets.
"""

from course_lib.data import Augment
from course_lib.experiments.recipe import Recipe

PUBLISHED = (
    "resnet20",
    "resnet56",
    "resnet110",
    "preact_resnet164",
    "resnet18_small",
    "preact_resnet18_small",
)
MODERN = (
    "resnet20",
    "resnet18_small",
    "preact_resnet18_small",
    "session_resnet",
    "lambda_resnet18",
)
OPTIONS = {
    "lambda_resnet18": {"stem": "small"},  # ImageNet's stem would shrink 32 px to 8 at once
}


def as_published(classes: int, model: str) -> Recipe:
    """As torch-resnet trains, after He et al. 2015 (arXiv:1512.03385, §4.2).

    It learns from all 50,000 pictures; these leave out the 5,000 of tune.
    """
    return Recipe(
        name=f"cifar{classes}_{model}",
        about=f"CIFAR-{classes}: {model}, 160 epochs as torch-resnet trained it",
        # the pictures
        sizes=(32,) * 160,
        dataset=f"cifar{classes}",
        augment=Augment(pad=4, border="zeros", flip="random"),  # black borders, as in the paper
        batch_size=128,
        # the network
        model=model,
        model_options=OPTIONS.get(model, {}),
        # SGD, and how its rate moves
        lr=0.1,
        schedule="steps",
        warm_up=1 / 160,  # one epoch at a tenth of the rate, without which the deepest do not start
        drops=(82, 123),  # a tenth after 32,000 and after 48,000 of 62,500 steps
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        label_smoothing=0.0,
    )


def modern(classes: int, model: str) -> Recipe:
    """Fewer epochs, five times the weight decay, Nesterov momentum and a cosine down to zero."""
    return Recipe(
        name=f"cifar{classes}_{model}_modern",
        about=(
            f"CIFAR-{classes}: {model}, 100 epochs with more weight decay, Nesterov momentum "
            "and a cosine"
        ),
        # the pictures
        sizes=(32,) * 100,
        dataset=f"cifar{classes}",
        augment=Augment(pad=4, border="mirror", flip="random"),
        batch_size=128,
        # the network
        model=model,
        model_options=OPTIONS.get(model, {}),
        # SGD, and how its rate moves
        lr=0.1,
        schedule="cosine",
        warm_up=0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        label_smoothing=0.0,
    )


def trained_both_ways(classes: int) -> list[Recipe]:
    published = [as_published(classes, model) for model in PUBLISHED]
    today = [modern(classes, model) for model in MODERN]

    return published + today


RECIPES = trained_both_ways(10) + trained_both_ways(100)
TRIALS: list[Recipe] = []
