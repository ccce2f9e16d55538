"""Imagenette: ResNets and lambda ResNets side by side, on clean labels and on wrong ones; and the
session ResNet in its forms, which learns more in less time.

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


def growing(
    name: str,
    about: str,
    *,
    model: str = "session_resnet",
    sizes: tuple[int, ...] = (48,) * 6 + (64,) * 6 + (80,) * 3 + (96,) * 2,
    **model_options,
) -> Recipe:
    """The session ResNet or a form of it, on pictures that grow, for the small ones are cheap."""
    return Recipe(
        name=f"imagenette_{name}",
        about=f"Imagenette: {about}, {len(sizes)} epochs at {sizes[0]} to {sizes[-1]} px",
        # the pictures
        sizes=sizes,
        dataset="imagenette",
        # crops from a quarter of the area on: fewer pictures than TinyImageNet has need more change
        augment=Augment(resized_crop=(0.25, 1.0), brightness=0.1, contrast=0.2),
        batch_size=128,  # 8,969 pictures: 70 steps an epoch
        # the network: soft in its first steps, with a first layer that needs no training
        model=model,
        model_options={"stem": "strided", "logit_scale": 0.125, **model_options},
        whiten=True,
        # SGD, and how its rate moves
        lr=0.2,  # half of TinyImageNet's rate, for half of its batch
        schedule="one_cycle",
        warm_up=0.2,
        anneal="linear",
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        bias_lr=8.0,  # for a training so short
        label_smoothing=0.1,
    )


LAMBDA = "session_resnet_lambda"

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
    growing("session", "session ResNet"),
    growing("session_se", "session ResNet with SE", model="session_resnet_se"),
    growing("session_lambda", "session ResNet with a lambda layer", model=LAMBDA),
    growing(
        "session_lambda_everywhere",
        "session ResNet with a lambda layer in both residual pairs",
        model=LAMBDA,
        lambda_stages=(1, 3),
    ),
    growing(
        "session_long",
        "session ResNet",
        sizes=(64,) * 12 + (80,) * 6 + (96,) * 6 + (128,) * 3,
    ),
]
TRIALS: list[Recipe] = []
