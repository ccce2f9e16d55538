"""Imagenette: ResNets and lambda ResNets side by side, on clean labels and on wrong ones.

A new recipe is entered in RECIPES.
"""

from dataclasses import replace

from course_lib.data import Augment
from course_lib.experiments.recipe import Recipe


def ten_epochs(model: str, noise: int = 0) -> Recipe:
    """The same training for every network, so that the networks differ and nothing else.

    noise: percent of the training labels that are wrong.
    """
    ending = f"_noise{noise}" if noise else ""
    wrong = f", {noise} % of the labels wrong" if noise else ""

    return Recipe(
        name=f"imagenette_{model}{ending}",
        about=f"Imagenette: {model}, ten epochs at 96 px{wrong}",
        # the pictures
        sizes=(96,) * 10,
        dataset="imagenette",
        data_options={"noise": noise},
        augment=Augment(resized_crop=(0.35, 1.0)),  # stored at 160 px: there is room to crop
        batch_size=64,  # 8,969 pictures: 140 steps an epoch
        # the network
        model=model,
        # SGD, and how its rate moves
        lr=0.1,  # a quarter of TinyImageNet's rate, for a quarter of its batch
        schedule="one_cycle",
        warm_up=0.2,
        anneal="cos",
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        label_smoothing=0.1,
    )


def fifty_layers(model: str) -> Recipe:
    """The same for deeper networks, which need a gentler rate and start."""
    return replace(
        ten_epochs(model),
        # each block starts as the identity: without that a first epoch ends above chance (Goyal et
        # al. 2017, arXiv:1706.02677, §5.1)
        model_options={"zero_init_residual": True},
        # a tenth for 256 pictures (§2.1), so a quarter of it for 64: at 0.1 the loss rises, and
        # what is too large a lambda layer squares in evaluation, up to NaN
        lr=0.025,
    )


RECIPES = [
    ten_epochs("resnet18"),
    ten_epochs("resnet18", noise=1),
    ten_epochs("resnet18", noise=5),
    ten_epochs("resnet18", noise=25),
    ten_epochs("resnet18", noise=50),
    ten_epochs("lambda_resnet18"),
    ten_epochs("lambda_resnet18", noise=1),
    ten_epochs("lambda_resnet18", noise=5),
    ten_epochs("lambda_resnet18", noise=25),
    ten_epochs("lambda_resnet18", noise=50),
    fifty_layers("resnet50"),
    fifty_layers("lambda_resnet50"),
]
TRIALS: list[Recipe] = []
