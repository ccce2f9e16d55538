"""A recipe: all that a training depends on, but for the machine and the seed.

The recipes themselves stand in ``tiny_imagenet``, ``imagenette`` and ``cifar``, by data set, and
those that a session compares in ``session1``, ``session3`` and ``session4``.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from course_lib.data import (
    Augment,
    BatchLoader,
    ImageStore,
    cifar10,
    cifar100,
    imagenette,
    imagewoof,
    tiny_imagenet,
    tiny_imagenet_part,
)
from course_lib.files import CourseError
from course_lib.models import create_model, model_options
from course_lib.runtime import Precision
from course_lib.training import CrossEntropy, Extras, Measure, no_measure, optim, schedules
from course_lib.training.step import Loss

DATASETS: dict[str, Callable[..., ImageStore]] = {
    "tiny_imagenet": tiny_imagenet,
    "tiny_imagenet_part": tiny_imagenet_part,
    "imagenette": imagenette,
    "imagewoof": imagewoof,
    "cifar10": cifar10,
    "cifar100": cifar100,
}
SCHEDULES = ("one_cycle", "cosine", "steps", "constant")


@dataclass(frozen=True)
class Recipe:
    """Everything that a training depends on, but for the machine and the seed."""

    name: str
    about: str  # one line for the list of recipes
    sizes: tuple[int, ...]  # picture size of each epoch: small pictures first, for they are cheap

    # the pictures
    dataset: str = "tiny_imagenet"
    data_options: dict = field(default_factory=dict)
    augment: Augment = Augment()
    batch_size: int = 256

    # the network
    model: str = "session_resnet"
    model_options: dict = field(default_factory=dict)
    whiten: bool = False  # start with a whitening stem
    whiten_pictures: int = 2000  # drawn from train: its filters follow from them
    whiten_floor: float = 0.05  # added to their variances

    # SGD, and how its rate moves
    lr: float = 0.4  # the peak
    schedule: str = "one_cycle"
    warm_up: float = 0.2  # share of the training
    anneal: str = "cos"  # one_cycle: "cos" or "linear"
    drops: tuple[int, ...] = ()  # steps: the epochs after which the rate falls to a tenth
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    bias_lr: float = 1.0  # biases learn this many times faster

    # the loss, and what a step does besides
    label_smoothing: float = 0.1
    extras: Extras = Extras()

    @property
    def is_trial(self) -> bool:
        """Tried in order to choose or to compare, and so judged on the tune split alone."""
        return "." in self.name

    def load(self, split: str, profile: str) -> ImageStore:
        """One split of its data set. Raises CourseError, as the data sets do."""
        return DATASETS[self.dataset](split, profile=profile, **self.data_options)

    def build_model(self, num_classes: int, device: torch.device) -> nn.Module:
        model = create_model(self.model, num_classes, **self.model_options)
        return model.to(device, memory_format=torch.channels_last)

    def build_loader(self, train: ImageStore, device: torch.device, seed: int) -> BatchLoader:
        """The training pictures, shuffled anew for each epoch."""
        return BatchLoader(train, self.batch_size, augment=self.augment, device=device, seed=seed)

    def build_loss(self) -> Loss:
        return CrossEntropy(self.label_smoothing)

    def build_measure(self, train: ImageStore, precision: Precision) -> Measure:
        """What is counted after each epoch, besides: here nothing."""
        return no_measure

    def build_optimizer(self, model: nn.Module) -> torch.optim.SGD:
        return optim.sgd(
            model,
            self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            bias_lr=self.bias_lr,
            nesterov=self.nesterov,
        )

    def build_schedule(self, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> LRScheduler:
        """The learning rate of every step, as ``training/schedules.py`` draws it.

        Raises CourseError for an unknown schedule.
        """
        epochs = len(self.sizes)

        if self.schedule == "one_cycle":
            steps = epochs * steps_per_epoch
            return schedules.one_cycle(optimizer, self.lr, steps, self.warm_up, self.anneal)

        if self.schedule == "cosine":
            return schedules.cosine(optimizer, epochs, steps_per_epoch, epochs * self.warm_up)

        if self.schedule == "steps":
            warm_up = epochs * self.warm_up
            return schedules.steps(optimizer, self.drops, steps_per_epoch, warm_up)

        if self.schedule == "constant":
            return schedules.constant(optimizer)

        raise CourseError(
            f"recipe {self.name}: unknown schedule {self.schedule!r}, expected one of "
            f"{', '.join(SCHEDULES)}"
        )

    def for_smoke(self) -> "Recipe":
        """The same training in seconds: two epochs in small batches, the last at its own size."""
        batch_size = 16  # thirty steps an epoch: enough for the norms' running statistics

        # On smaller ones the last maps would be a single pixel, and a norm would see no more than
        # sixteen numbers: ImageNet's stem and stages halve the sides five times.
        stem = (model_options(self.model) | self.model_options).get("stem")
        own, smallest = self.sizes[-1], 48 if stem == "imagenet" else 32
        first = min(own, max(smallest, own // 2))

        # As large a rate as fits the batch, and of that a quarter: sixty steps leave no time to
        # warm up, and a network that is thrown off course has none to come back.
        lr = self.lr * batch_size / self.batch_size / 4

        # The deepest do not start without an epoch at a tenth of the rate: of two, a half.
        warm_up = 1 / 2 if self.schedule == "steps" and self.warm_up else self.warm_up

        return replace(self, sizes=(first, own), batch_size=batch_size, lr=lr, warm_up=warm_up)

    def settings(self) -> dict:
        """What the training depends on as plain data, every default filled in.

        A default that changes anywhere, and not only here, thus makes another training.
        """
        resolved = asdict(self)
        del resolved["about"]  # words change no number

        resolved["model_options"] = model_options(self.model) | self.model_options
        resolved["data_options"] = data_options(self.dataset) | self.data_options

        return json.loads(json.dumps(resolved))  # as it comes back from a file: tuples are lists


@dataclass(frozen=True)
class Sweep:
    """One recipe at several peak rates, and the two ends of the range test before it."""

    recipe: Recipe
    rates: tuple[float, ...]
    start: float
    end: float

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def about(self) -> str:
        return self.recipe.about

    def at(self, rate: float) -> Recipe:
        """The recipe with ``rate`` as its peak, under a name of its own."""
        return replace(self.recipe, name=f"{self.name}.lr{rate:g}", lr=rate)


def data_options(dataset: str) -> dict[str, object]:
    """The options that a data set takes, each with its default."""
    parameters = inspect.signature(DATASETS[dataset]).parameters

    return {
        name: each.default
        for name, each in parameters.items()
        if name not in ("split", "profile")  # these come from the run
    }


def trial(of: Recipe, ending: str, about: str, **changes) -> Recipe:
    """``of`` with one setting changed, as RECIPE.ENDING."""
    return replace(of, name=f"{of.name}.{ending}", about=about, **changes)
