"""What session 3 compares: three networks at eight rates each, and nine schedules side by side.

Short trainings, judged on the tune split alone. A new network is entered in NETWORKS, a new
schedule in SCHEDULES, and what a table calls them in IN_WORDS.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from course_lib.data import Augment
from course_lib.experiments.recipe import Recipe, Sweep
from course_lib.training import optim, schedules


@dataclass(frozen=True)
class AdamRecipe(Recipe):
    """With AdamW in place of SGD (Loshchilov & Hutter 2017, arXiv:1711.05101)."""

    beta2: float = 0.999  # beta1 is the momentum
    weight_decay: float = 1e-2
    nesterov: bool = False

    def build_optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        groups = optim.parameter_groups(model, self.lr, self.weight_decay, self.bias_lr)
        return torch.optim.AdamW(groups, self.lr, betas=(self.momentum, self.beta2))


@dataclass(frozen=True)
class PlateauRecipe(Recipe):
    """The rate is cut where the held-out loss stops falling."""

    schedule: str = "plateau"
    patience: int = 0  # epochs without a fall that are borne
    factor: float = 0.2

    def build_schedule(
        self, optimizer: torch.optim.Optimizer, steps_per_epoch: int
    ) -> ReduceLROnPlateau:
        return schedules.on_plateau(optimizer, self.patience, self.factor)


@dataclass(frozen=True)
class CycleRecipe(Recipe):
    """One cycle that may end higher, and have a cycle of the momentum beside it."""

    ends_at: float = 1 / 250_000  # share of the peak
    momentum_cycle: tuple[float, float] | None = None  # highest, lowest

    def build_schedule(self, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> OneCycleLR:
        return schedules.one_cycle(
            optimizer,
            self.lr,
            len(self.sizes) * steps_per_epoch,
            self.warm_up,
            self.anneal,
            momentum=self.momentum_cycle,
            ends_at=self.ends_at,
        )


# --- what all of them share -----------------------------------------------------------------------

COMMON = {
    # the pictures
    "sizes": (32,) * 3,
    "augment": Augment(pad=4, flip="random"),
    "batch_size": 64,
    # the network: session 2's, soft in its first steps
    "model": "session_resnet",
    "model_options": {"stem": "strided", "logit_scale": 0.125},
    # how the rate moves
    "schedule": "one_cycle",
    "warm_up": 0.2,
    "anneal": "linear",
    # the loss: cross-entropy
    "label_smoothing": 0.0,
}

# --- sweeps ---------------------------------------------------------------------------------------

DATA = {  # name: data set and its options
    "imagenette": ("imagenette", {}),
    "tiny": ("tiny_imagenet_part", {"classes": 25}),
}
NETWORKS = {  # name: kind of recipe, network, rates of the sweep, where the range test begins, ends
    "sgd": (Recipe, "session_resnet", (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2), 1e-3, 10),
    "unnormed": (
        Recipe,
        "session_resnet_unnormed",
        (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
        1e-4,
        10,
    ),
    "adam": (
        AdamRecipe,
        "session_resnet",
        (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2),
        1e-6,
        1,
    ),
}


def sweep_of(network: str, data: str) -> Sweep:
    """Three epochs at each of eight rates, as the peak of one cycle."""
    kind, model, rates, start, end = NETWORKS[network]
    dataset, options = DATA[data]
    name = f"sweeps.{network}_{data}"

    recipe = kind(
        name=name,
        about=f"{IN_WORDS[name]}: three epochs at 32 px",
        **COMMON | {"model": model, "dataset": dataset, "data_options": options},
    )
    return Sweep(recipe, rates, start, end)


# --- schedules ------------------------------------------------------------------------------------

SCHEDULES = {  # name: kind of recipe, its settings
    "one_cycle": (Recipe, {}),  # its peak after a fifth, its end near zero
    "one_cycle_early": (Recipe, {"warm_up": 0.05}),
    "one_cycle_late": (Recipe, {"warm_up": 0.5}),
    "one_cycle_momentum": (CycleRecipe, {"momentum_cycle": (0.95, 0.85)}),
    "one_cycle_floor": (CycleRecipe, {"ends_at": 0.1}),
    "cosine": (Recipe, {"schedule": "cosine", "warm_up": 0.0}),
    "steps": (Recipe, {"schedule": "steps", "warm_up": 0.0, "drops": (4, 6)}),
    "plateau": (PlateauRecipe, {"schedule": "plateau"}),
    "constant": (Recipe, {"schedule": "constant"}),
}


def eight_epochs(schedule: str) -> Recipe:
    """The same training under each schedule, with the same highest rate."""
    kind, settings = SCHEDULES[schedule]
    name = f"schedules.{schedule}"

    return kind(
        name=name,
        about=f"Imagenette, eight epochs at 32 px: {IN_WORDS[name]}",
        **COMMON | {"dataset": "imagenette", "sizes": (32,) * 8, "lr": 0.1} | settings,
    )


IN_WORDS = {  # name: as tables and figures call it
    "sweeps.sgd_imagenette": "session ResNet, SGD, Imagenette",
    "sweeps.sgd_tiny": "session ResNet, SGD, TinyImageNet",
    "sweeps.unnormed_imagenette": "without norms, SGD, Imagenette",
    "sweeps.unnormed_tiny": "without norms, SGD, TinyImageNet",
    "sweeps.adam_imagenette": "session ResNet, AdamW, Imagenette",
    "sweeps.adam_tiny": "session ResNet, AdamW, TinyImageNet",
    "schedules.one_cycle": "one cycle",
    "schedules.one_cycle_early": "one cycle, peak after a twentieth",
    "schedules.one_cycle_late": "one cycle, peak after a half",
    "schedules.one_cycle_momentum": "one cycle, momentum from 0.95 to 0.85 and back",
    "schedules.one_cycle_floor": "one cycle, down to a tenth of the peak",
    "schedules.cosine": "cosine",
    "schedules.steps": "steps",
    "schedules.plateau": "on a plateau",
    "schedules.constant": "constant",
}

SWEEPS = [sweep_of(network, data) for network in NETWORKS for data in DATA]
STUDIES = [eight_epochs(schedule) for schedule in SCHEDULES]
