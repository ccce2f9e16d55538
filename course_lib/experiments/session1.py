"""What session 1 compares: depth with and without shortcuts, and networks side by side.

Short trainings on a part of TinyImageNet, judged on its tune split alone. A new network
is entered in DEPTH or in NETWORKS, and under its name in IN_WORDS.
"""

from course_lib.data import Augment
from course_lib.experiments.recipe import Recipe

DEPTH = {  # name: network and its options
    "plain20": ("resnet20", {"shortcut": "none"}),
    "plain56": ("resnet56", {"shortcut": "none"}),
    "resnet20": ("resnet20", {}),
    "resnet56": ("resnet56", {}),
}

# Epochs for about the time that depth.resnet20 takes for its ten (the table tells how nearly), at
# the picture size that the first layers were made for: ImageNet's halve the sides twice, CIFAR's
# never.
NETWORKS = {  # name: network, its options, the picture size of each epoch
    "session_resnet": ("session_resnet", {"stem": "strided"}, (32,) * 9),
    "resnet56": ("resnet56", {}, (32,) * 4),
    "wide_resnet16_2": ("wide_resnet16", {"width": 2}, (32,) * 7),
    "resnet18_small": ("resnet18_small", {}, (24, 32)),  # two at 32 px: 1.7 times as long
    "resnet18": ("resnet18", {}, (64,) * 4),
    "preact_resnet18": ("preact_resnet18", {}, (64,) * 4),
    "se_resnet18": ("se_resnet18", {}, (64,) * 4),
}

IN_WORDS = {  # name: as tables and figures call it
    "depth.plain20": "plain, 20 layers",
    "depth.plain56": "plain, 56 layers",
    "depth.resnet20": "ResNet, 20 layers",
    "depth.resnet56": "ResNet, 56 layers",
    "networks.session_resnet": "session ResNet",
    "networks.resnet56": "ResNet, 56 layers",
    "networks.wide_resnet16_2": "wide ResNet, 16 layers, width 2",
    "networks.resnet18_small": "ResNet, 18 layers, 3×3 stem",
    "networks.resnet18": "ResNet, 18 layers, ImageNet's stem",
    "networks.preact_resnet18": "pre-activation ResNet, 18 layers",
    "networks.se_resnet18": "squeeze-and-excitation ResNet, 18 layers",
}


def short_training(name: str, model: str, options: dict, sizes: tuple[int, ...]) -> Recipe:
    """The same training for every network, so that the networks differ and nothing else."""
    return Recipe(
        name=name,
        about=f"25 classes of TinyImageNet: {name}, {len(sizes)} epochs at {sizes[-1]} px",
        # the pictures
        sizes=sizes,
        dataset="tiny_imagenet_part",
        data_options={"classes": 25},
        augment=Augment(pad=4, flip="random"),
        batch_size=64,  # 11,875 pictures: 185 steps an epoch
        # the network
        model=model,
        model_options=options,
        # SGD, and how its rate moves
        lr=0.1,
        schedule="one_cycle",
        warm_up=0.2,
        anneal="linear",
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        # the loss: cross-entropy, bare, so that training errors can be compared
        label_smoothing=0.0,
    )


def of_depth(name: str) -> Recipe:
    """Ten epochs, for 20 layers and for 56 (He et al. 2015, arXiv:1512.03385, figure 1)."""
    model, options = DEPTH[name]
    return short_training(f"depth.{name}", model, options, sizes=(32,) * 10)


def in_five_minutes(name: str) -> Recipe:
    """What each network reaches in the same time."""
    model, options, sizes = NETWORKS[name]
    return short_training(f"networks.{name}", model, options, sizes)


STUDIES = [of_depth(name) for name in DEPTH] + [in_five_minutes(name) for name in NETWORKS]
