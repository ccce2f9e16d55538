"""Named trainings: data, model and schedule in one line each."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import torch
from torch import nn

from course_lib.data import Augment, ImageStore, cifar10, cifar100, imagenette, tiny_imagenet
from course_lib.files import CourseError
from course_lib.models import create_model
from course_lib.training import Extras, optim, schedules

DATASETS: dict[str, Callable[..., ImageStore]] = {
    "tiny_imagenet": tiny_imagenet,
    "imagenette": imagenette,
    "cifar10": cifar10,
    "cifar100": cifar100,
}
OPTIMIZERS = {"sgd": optim.sgd}
SCHEDULES = ("one_cycle", "cosine", "steps", "plateau", "constant")
STRONG = ("min_area", "cutout")  # what small pictures in early epochs do not need


@dataclass(frozen=True)
class Recipe:
    """Everything that a training depends on, but for the machine and the seed."""

    name: str
    about: str  # one line for the list of recipes
    sizes: tuple[int, ...]  # picture size of each epoch: small pictures first, for they are cheap
    dataset: str = "tiny_imagenet"
    model: str = "session_resnet"
    model_options: dict = field(default_factory=dict)
    data_options: dict = field(default_factory=dict)
    batch_size: int = 256
    augment: dict = field(default_factory=dict)  # changes to Augment()
    strong_from: int = 0  # first epoch, from 0, in which min_area and cutout act
    mixup: float = 0.0
    cutmix: float = 0.0
    schedule: str = "one_cycle"
    optimizer: str = "sgd"
    lr: float = 0.4  # the peak, where the schedule has one
    warm_up: float = 0.2  # share of the training
    flat: float = 0.0  # cosine: share of the training at the full rate
    drops: tuple[int, ...] = ()  # steps: the epochs after which the rate falls to a tenth
    anneal: str = "cos"  # one_cycle: "cos" or "linear"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    bias_lr: float = 1.0  # biases learn this many times faster
    turn: float = 0.1  # muon: the rate of the inner filters, as a share of lr
    clip_norm: float | None = None
    accumulate: int = 1
    averaging: float = 0.0  # decay per step of the averaged weights; 0: none
    compile: bool = False
    whiten: bool = False  # start with a whitening stem
    label_smoothing: float = 0.1

    @property
    def is_variant(self) -> bool:
        """Tried in order to choose, and so judged on the tune split alone."""
        return self.name in VARIANTS

    @property
    def extras(self) -> Extras:
        return Extras(**{each.name: getattr(self, each.name) for each in fields(Extras)})

    def augment_at(self, epoch: int) -> Augment:
        return Augment(
            **{
                key: value
                for key, value in self.augment.items()
                if key not in STRONG or epoch >= self.strong_from
            }
        )

    def build_model(self, num_classes: int, device: torch.device) -> nn.Module:
        model = create_model(self.model, num_classes, **self.model_options)
        return model.to(device, memory_format=torch.channels_last)

    def build_optimizer(self, model: nn.Module) -> torch.optim.SGD:
        if self.optimizer not in OPTIMIZERS:
            raise CourseError(
                f"recipe {self.name}: unknown optimizer {self.optimizer!r}, expected one of "
                f"{', '.join(OPTIMIZERS)}"
            )
        how = {"turn": self.turn} if self.optimizer == "muon" else {}
        return OPTIMIZERS[self.optimizer](
            model,
            self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            bias_lr=self.bias_lr,
            nesterov=self.nesterov,
            **how,
        )

    def build_schedule(self, optimizer: torch.optim.Optimizer, steps_per_epoch: int):
        """Stepped after every batch, but "plateau" after every epoch."""
        epochs = len(self.sizes)
        steps, warm_up = epochs * steps_per_epoch, epochs * self.warm_up
        makers = {
            "one_cycle": lambda: schedules.one_cycle(
                optimizer, self.lr, steps, self.warm_up, self.anneal
            ),
            "cosine": lambda: schedules.cosine(
                optimizer, epochs, steps_per_epoch, warm_up, epochs * self.flat
            ),
            "steps": lambda: schedules.steps(optimizer, self.drops, steps_per_epoch, warm_up),
            "plateau": lambda: schedules.on_plateau(optimizer),
            "constant": lambda: schedules.constant(optimizer),
        }
        if self.schedule not in makers:
            raise CourseError(
                f"recipe {self.name}: unknown schedule {self.schedule!r}, expected one of "
                f"{', '.join(SCHEDULES)}"
            )
        return makers[self.schedule]()

    def for_smoke(self) -> "Recipe":
        """The same training in seconds: three epochs, the last at the same size as ever, in small batches."""
        return replace(
            self,
            sizes=(32, 32, self.sizes[-1]),
            batch_size=64,
            lr=self.lr * 64 / self.batch_size,
            strong_from=min(self.strong_from, 1),
        )


_FAST = {
    "model_options": {"stem": "strided", "logit_scale": 0.125},
    "whiten": True,
    "bias_lr": 8.0,
    "anneal": "linear",
    "augment": {"flip": "alternating"},
}
_TINY = [
    Recipe(
        "tiny_imagenet",
        "TinyImageNet: session ResNet, thirteen epochs from 32 to 64 px",
        sizes=(32, 32, 32, 32, 40, 40, 40, 40, 48, 48, 48, 56, 64),
        data_options={"held_out": 5},
        **_FAST,
    ),
    Recipe(
        "tiny_imagenet_quick",
        "TinyImageNet at half the price: seven epochs from 32 to 56 px",
        sizes=(32, 32, 32, 40, 48, 48, 56),
        **_FAST,
    ),
    Recipe(
        "tiny_imagenet_original",
        "The session that this course grew from: ResNet-18 at 64 px, fifty epochs",
        sizes=(64,) * 50,
        model="resnet18_small",
        lr=0.9,
        momentum=0.95,
        label_smoothing=0.0,
    ),
]

_CROPS = {
    "dataset": "imagenette",
    "sizes": (96,) * 10,
    "batch_size": 64,
    "lr": 0.1,
    "augment": {"resized_crop": (0.35, 1.0)},
}
_IMAGENETTE = [
    Recipe(
        f"imagenette_{model}" + (f"_noise{noise}" if noise else ""),
        f"Imagenette: {model}, ten epochs at 96 px"
        + (f", {noise} % of the labels wrong" if noise else ""),
        model=model,
        data_options={"noise": noise} if noise else {},
        **_CROPS,
    )
    for model, levels in (
        ("resnet18", (0, 1, 5, 25, 50)),
        ("lambda_resnet18", (0, 1, 5, 25, 50)),
        ("resnet50", (0,)),
        ("lambda_resnet50", (0,)),
    )
    for noise in levels
]

# As torch-resnet trains, after He et al. 2015 (arXiv:1512.03385, §4.2): 160 epochs, a tenth of the rate in the first
# and after 32,000 and 48,000 of 62,500 steps. It trains on all 50,000 pictures, these leave out the 5,000 of tune.
_STEPS = {
    "sizes": (32,) * 160,
    "batch_size": 128,
    "schedule": "steps",
    "drops": (82, 123),
    "warm_up": 1 / 160,
    "lr": 0.1,
    "nesterov": False,
    "weight_decay": 1e-4,
    "label_smoothing": 0.0,
    "augment": {"border": "zeros"},
}
_COSINE = {
    "sizes": (32,) * 100,
    "batch_size": 128,
    "schedule": "cosine",
    "warm_up": 0.05,
    "lr": 0.1,
    "label_smoothing": 0.0,
}
_CIFAR = [
    Recipe(
        f"cifar{classes}_{model}{ending}",
        f"CIFAR-{classes}: {model}, {about}",
        dataset=f"cifar{classes}",
        model=model,
        **({"model_options": {"stem": "small"}} if model.startswith("lambda") else {}),
        **how,
    )
    for classes in (10, 100)
    for ending, about, how, models in (
        (
            "",
            "160 epochs as torch-resnet trained it",
            _STEPS,
            (
                "resnet20",
                "resnet56",
                "resnet110",
                "preact_resnet164",
                "resnet18_small",
                "preact_resnet18_small",
            ),
        ),
        (
            "_modern",
            "100 epochs with more weight decay, Nesterov momentum and a cosine",
            _COSINE,
            (
                "resnet20",
                "resnet18_small",
                "preact_resnet18_small",
                "session_resnet",
                "lambda_resnet18",
            ),
        ),
    )
    for model in models
]

RECIPES = {recipe.name: recipe for recipe in [*_TINY, *_IMAGENETTE, *_CIFAR]}


def _variant(of: str, ending: str, about: str, **changes) -> Recipe:
    return replace(RECIPES[of], name=f"{of}.{ending}", about=about, **changes)


# Muon's step costs as much for many pictures as for few: so it makes half as many, on twice the pictures each, at a
# rate √2 times as high. An epoch still costs more, and there are fewer.
_MUON = {"optimizer": "muon", "batch_size": 512, "lr": 0.56}

# Trials: a recipe with one setting changed (with Muon: those that go with it), judged on tune.
VARIANTS = {
    variant.name: variant
    for variant in (
        _variant(
            "tiny_imagenet", "held_out", "95,000 pictures, otherwise as it stands", data_options={}
        ),
        _variant(
            "tiny_imagenet_quick",
            "averaged",
            "the mean of the weights over about a hundred steps",
            averaging=0.99,
        ),
        _variant("tiny_imagenet_quick", "one_size", "four epochs, all at 56 px", sizes=(56,) * 4),
        _variant(
            "tiny_imagenet_quick",
            "muon",
            "Muon in batches of 512, six epochs",
            sizes=(32, 32, 40, 40, 48, 56),
            **_MUON,
        ),
        _variant(
            "tiny_imagenet_quick",
            "muon_slower",
            "the same, filters turning at 0.3 times that rate",
            sizes=(32, 32, 40, 40, 48, 56),
            turn=0.03,
            **_MUON,
        ),
        _variant(
            "tiny_imagenet_quick", "shorter", "five epochs, 32 to 56 px", sizes=(32, 32, 40, 48, 56)
        ),
        _variant(
            "tiny_imagenet_quick",
            "shorter_cosine",
            "five epochs, 32 to 56 px, half a cosine down",
            sizes=(32, 32, 40, 48, 56),
            anneal="cos",
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises CourseError with the nearest names."""
    known = RECIPES | VARIANTS
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or list(RECIPES)
        raise CourseError(f"unknown recipe {name!r}; the nearest names are {', '.join(near)}")
    return known[name]
