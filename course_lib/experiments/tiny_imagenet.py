"""TinyImageNet: what its trainings train with, and the trials that their settings come from.

What is not set here is at its default in ``recipe.Recipe``; ``TINY_IMAGENET.settings()`` lists
every value. A new recipe is written below and entered in RECIPES; a trial in TRIALS.
"""

from dataclasses import replace

from course_lib.data import Augment
from course_lib.experiments.recipe import Recipe, trial
from course_lib.training import Extras

TINY_IMAGENET = Recipe(
    name="tiny_imagenet",
    about="TinyImageNet: session ResNet, thirteen epochs from 32 to 64 px",
    # the pictures
    sizes=(32, 32, 32, 32, 40, 40, 40, 40, 48, 48, 48, 56, 64),  # 32 px: a quarter of the pixels
    dataset="tiny_imagenet",
    data_options={"held_out": 5},  # of 500 a class: nothing is left to choose, learn from the rest
    augment=Augment(
        pad=4,
        flip="alternating",  # two epochs show each picture both ways (Jordan 2024, §3.6)
    ),
    batch_size=256,
    # the network
    model="session_resnet",
    model_options={
        "stem": "strided",  # a quarter of the work of the 3×3 stem made for 32 px
        "logit_scale": 0.125,  # soft first steps, in spite of the high rate
    },
    whiten=True,  # each filter of the stem sees something of its own from the first step on
    # SGD, and how its rate moves
    lr=0.4,
    schedule="one_cycle",
    warm_up=0.2,
    anneal="linear",  # straight up and straight down, as the speed records on CIFAR-10 do it
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,  # conv and linear weights only
    bias_lr=8.0,  # biases are few and safe to hurry (Page 2019, "How to train your ResNet 8")
    # the loss: cross-entropy
    label_smoothing=0.1,
)

# Half the price: six epochs fewer, none at the full size; choices are made on it, so all of tune is
# held out.
TINY_IMAGENET_QUICK = replace(
    TINY_IMAGENET,
    name="tiny_imagenet_quick",
    about="TinyImageNet at half the price: seven epochs from 32 to 56 px",
    sizes=(32, 32, 32, 40, 48, 48, 56),
    data_options={"held_out": 25},
)

# Network, batch, rate and momentum by its log; its crop did nothing, this one crops. The peak is
# the rate of least loss in its range test, ten times too high.
TINY_IMAGENET_ORIGINAL = Recipe(
    name="tiny_imagenet_original",
    about="The session that this course grew from: ResNet-18 at 64 px, fifty epochs",
    # the pictures
    sizes=(64,) * 50,
    dataset="tiny_imagenet",
    augment=Augment(pad=4, flip="random"),
    batch_size=256,
    # the network
    model="resnet18_small",
    # SGD, and how its rate moves
    lr=0.9,
    schedule="one_cycle",
    warm_up=0.2,
    anneal="cos",
    momentum=0.95,
    nesterov=True,
    weight_decay=5e-4,
    # the loss: cross-entropy
    label_smoothing=0.0,
)

RECIPES = [TINY_IMAGENET, TINY_IMAGENET_QUICK, TINY_IMAGENET_ORIGINAL]


# Five epochs in place of seven. The last trial below changes one setting of this one.
SHORTER = trial(
    TINY_IMAGENET_QUICK,
    "shorter",
    "five epochs, 32 to 56 px",
    sizes=(32, 32, 40, 48, 56),
)

TRIALS = [
    trial(
        TINY_IMAGENET,
        "held_out",
        "95,000 pictures, otherwise as it stands",
        data_options={"held_out": 25},
    ),
    trial(
        TINY_IMAGENET_QUICK,
        "averaged",
        "the mean of the weights over about a hundred steps",
        extras=Extras(averaging=0.99),
    ),
    trial(
        TINY_IMAGENET_QUICK,
        "one_size",
        "four epochs, all at 56 px",
        sizes=(56,) * 4,
    ),
    SHORTER,
    replace(
        SHORTER,
        name="tiny_imagenet_quick.shorter_cosine",
        about="five epochs, 32 to 56 px, half a cosine down",
        anneal="cos",
    ),
]
