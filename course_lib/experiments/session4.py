"""What session 4 compares: networks x wrong labels x remedies; long trainings; three faults.

The grid is judged on the official split, once, after its last epoch; whatever is chosen for it is
chosen on tune. Long trainings and faults, each of them alone, are judged on tune. A new network is
entered in NETWORKS, a new remedy in REMEDIES and in CELLS or LONG, a new fault in FAULTS, and what
a table calls them in IN_WORDS.
"""

from dataclasses import dataclass, replace

import torch

from course_lib.checks import expect
from course_lib.data import Augment, BatchLoader, ImageStore
from course_lib.experiments.memorised import Memorised
from course_lib.experiments.recipe import Recipe, trial
from course_lib.experiments.session3 import AdamRecipe
from course_lib.runtime import Precision
from course_lib.training import GeneralizedCrossEntropy, Measure
from course_lib.training.step import Loss


@dataclass(frozen=True)
class NoisyLabelRecipe(Recipe):
    """A loss for wrong labels, and after each epoch a look at what was learned of them by heart."""

    gce_q: float = 0.0  # of generalised cross-entropy; 0, its limit, is cross-entropy itself
    watched: int = 500  # wrongly labelled training pictures that are looked at, and as many right

    def __post_init__(self) -> None:
        smoothing = self.label_smoothing
        expect("label_smoothing", smoothing, not (self.gce_q and smoothing), "0 with gce_q")

    def build_loss(self) -> Loss:
        return GeneralizedCrossEntropy(self.gce_q) if self.gce_q else super().build_loss()

    def build_measure(self, train: ImageStore, precision: Precision) -> Measure:
        return Memorised(train, self.watched, precision)


# --- the grid -------------------------------------------------------------------------------------

NETWORKS = {  # in the name of a cell: the network
    "session": "session_resnet",
    "se": "session_resnet_se",
    "lambda": "session_resnet_lambda",
}
REMEDIES = {  # in the name of a cell: what it changes
    "": {},
    "unsmoothed": {"label_smoothing": 0.0},
    "gce": {"label_smoothing": 0.0, "gce_q": 0.7},
}
CELLS = [  # percent of wrong labels, remedy
    (0, ""),
    (5, ""),
    (25, ""),
    (50, ""),
    (25, "gce"),
    (50, "gce"),
    (25, "unsmoothed"),  # what of the gain is smoothing that was left out
    (50, "unsmoothed"),
]


def cell(network: str, noise: int, remedy: str) -> NoisyLabelRecipe:
    """The same training for every network, level of noise and remedy."""
    name = "_".join(filter(None, ["grid", network, f"noise{noise}" if noise else "", remedy]))
    wrong = f", {noise} % of the labels wrong" if noise else ""
    loss = f", {IN_WORDS[remedy]}" if remedy else ""

    settings = {
        # the pictures: small ones first, for they are cheap
        "sizes": (48,) * 5 + (64,) * 3 + (80,) * 2,
        "dataset": "imagenette",
        "data_options": {"noise": noise},
        "augment": Augment(resized_crop=(0.25, 1.0), brightness=0.1, contrast=0.2),
        "batch_size": 128,  # 8,969 pictures: 70 steps an epoch
        # the network, soft in its first steps, with a first layer that needs no training
        "model": NETWORKS[network],
        "model_options": {"stem": "strided", "logit_scale": 0.125},
        "whiten": True,
        # SGD, its rate straight up and straight down
        "lr": 0.2,
        "schedule": "one_cycle",
        "warm_up": 0.2,
        "anneal": "linear",
        "bias_lr": 8.0,
        "weight_decay": 5e-4,
        # the loss, unless a remedy says otherwise
        "label_smoothing": 0.1,
    }
    return NoisyLabelRecipe(
        name=name,
        about=f"Imagenette, ten epochs: {IN_WORDS[network]}{wrong}{loss}",
        **settings | REMEDIES[remedy],
    )


IN_WORDS = {  # as tables and figures call them
    "session": "session ResNet",
    "se": "session ResNet with squeeze and excitation",
    "lambda": "session ResNet with a lambda layer",
    "": "cross-entropy",
    "unsmoothed": "cross-entropy without label smoothing",
    "gce": "generalised cross-entropy",
    "memory.smoothed": "cross-entropy",
    "memory.unsmoothed": "cross-entropy without label smoothing",
    "memory.gce": "generalised cross-entropy",
    "faults.none": "no fault",
    "faults.unshuffled": "not shuffled",
    "faults.rate": "a rate of 1e-5",
    "faults.softmax": "softmax over the keys",
}

GRID = [cell(network, *of) for of in CELLS for network in NETWORKS]

# --- trials, before the grid ----------------------------------------------------------------------

BY_NAME = {each.name: each for each in GRID}

TRIALS = [
    trial(
        BY_NAME["grid_lambda"],
        "everywhere",
        "a lambda layer in both residual pairs",
        model_options=BY_NAME["grid_lambda"].model_options | {"lambda_stages": (1, 3)},
    ),
    trial(BY_NAME["grid_session_noise50_gce"], "q05", "q = 0.5 in place of 0.7", gce_q=0.5),
    trial(BY_NAME["grid_session_noise50_gce"], "q09", "q = 0.9 in place of 0.7", gce_q=0.9),
]

# --- time to learn by heart -----------------------------------------------------------------------

LONG = {  # name: what it changes
    "smoothed": {},
    "unsmoothed": REMEDIES["unsmoothed"],
    "gce": REMEDIES["gce"],
}


def for_long(loss: str) -> NoisyLabelRecipe:
    """The grid's training with half of the labels wrong, four times as long.

    Small pictures, shifted and mirrored, but not cut to ever new sizes: each comes back nearly as
    it was, and can be known again.
    """
    name = f"memory.{loss}"
    return replace(
        cell("session", 50, ""),
        name=name,
        about=f"Imagenette, forty epochs at 32 px, 50 % of the labels wrong, {IN_WORDS[name]}",
        sizes=(32,) * 40,
        augment=Augment(pad=4),
        **LONG[loss],
    )


# --- faults ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FaultRecipe(AdamRecipe):
    """Adam, without weight decay, and the order of the pictures."""

    weight_decay: float = 0.0
    shuffle: bool = True  # False: in the order of the store, which is sorted by class

    def build_loader(self, train: ImageStore, device: torch.device, seed: int) -> BatchLoader:
        return BatchLoader(
            train,
            self.batch_size,
            augment=self.augment,
            shuffle=self.shuffle,
            device=device,
            seed=seed,
        )


SOFT = {"stem": "strided", "logit_scale": 0.125}

FAULTS = {  # name: what it changes
    "none": {},
    "unshuffled": {"shuffle": False},
    "rate": {"lr": 1e-5},
    "softmax": {"model_options": SOFT | {"softmax_over": "keys"}},
}


def with_fault(fault: str) -> FaultRecipe:
    """Five epochs of a lambda network, right but for one fault."""
    name = f"faults.{fault}"
    settings = {
        "sizes": (48,) * 5,
        "dataset": "imagenette",
        "augment": Augment(resized_crop=(0.25, 1.0)),
        "batch_size": 128,
        "model": "session_resnet_lambda",
        "model_options": SOFT,
        "lr": 1e-3,
        "schedule": "one_cycle",
        "warm_up": 0.2,
        "anneal": "linear",
        "label_smoothing": 0.0,
    }
    return FaultRecipe(
        name=name,
        about=f"Imagenette, five epochs at 48 px: {IN_WORDS[name]}",
        **settings | FAULTS[fault],
    )


LONG_STUDIES = [for_long(loss) for loss in LONG]
FAULT_STUDIES = [with_fault(fault) for fault in FAULTS]
STUDIES = LONG_STUDIES + FAULT_STUDIES
