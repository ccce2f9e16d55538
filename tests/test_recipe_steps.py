"""The first steps of every recipe, and an evaluation: no network starts where it cannot be trained.

On toy shapes: ten steps in small batches at the recipe's own rate, the first ones of its warm-up;
and the first epoch of its smoke form. By default one recipe of each family; ``pytest -m slow``
takes all of them.
"""

import functools
import math

import pytest
import torch

from course_lib.data import BatchLoader, toy_shapes
from course_lib.experiments.catalogue import GRID, RECIPES, STUDIES, SWEEPS, TRIALS
from course_lib.runtime import Precision, seed_everything
from course_lib.training import Callbacks, fit

CPU = torch.device("cpu")
FP32, BF16 = Precision(CPU), Precision(CPU, torch.bfloat16)

STEPS, BATCH, SIZE = 10, 32, 32
SMOKE_STEPS = 31  # an epoch of five hundred pictures in batches of 16
TWICE_CHANCE = 2 * math.log(10)  # the loss of a guess is ln 10

BY_DEFAULT = [
    "tiny_imagenet",
    "imagenette_resnet18",
    "imagenette_lambda_resnet18",
    "imagenette_lambda_resnet50",
    "cifar10_resnet20",
]
AT_THEIR_LOWEST = {name: sweep.at(min(sweep.rates)) for name, sweep in SWEEPS.items()}
SMOKE = {
    name: recipe.for_smoke()
    for name, recipe in (RECIPES | TRIALS | STUDIES | GRID | AT_THEIR_LOWEST).items()
}
SMOKE_BY_DEFAULT = [
    "tiny_imagenet",
    "imagenette_lambda_resnet18",
    "cifar10_resnet20",
    "depth.plain20",
]


@functools.cache
def toys(split, count, size):
    return toy_shapes(split, size=size, count=count)


def first_epoch(recipe, steps, batch, *, size=SIZE, precision=FP32, seed=0, steps_per_epoch=140):
    """Its row of the history, after ``steps`` of the many that the recipe's schedule is for."""
    drawn = max(size, 48)  # room to crop
    pictures = toys("train", steps * batch, drawn)
    train = BatchLoader(pictures, batch, augment=recipe.augment, seed=seed)
    tune = BatchLoader(toys("tune", 100, drawn), 100, augment=False)

    seed_everything(seed)
    model = recipe.build_model(10, CPU)
    optimizer = recipe.build_optimizer(model)

    history = fit(
        model,
        train,
        tune,
        sizes=[size],
        optimizer=optimizer,
        scheduler=recipe.build_schedule(optimizer, steps_per_epoch),
        loss=recipe.build_loss(),
        precision=precision,
        extras=recipe.extras,
        callbacks=Callbacks(report=lambda line: None),
    )
    return history.last


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [name if name in BY_DEFAULT else slow(name) for name in RECIPES])
def test_after_ten_steps_of_a_recipe_its_network_can_be_evaluated(name):
    """Finite: a third of the norms' statistics is still what they are made with."""
    row = first_epoch(RECIPES[name], STEPS, BATCH)
    assert math.isfinite(row["train_loss"]) and math.isfinite(row["val_loss"])


@pytest.mark.parametrize("seed", [0, slow(1), slow(2)])
@pytest.mark.parametrize("name", ["imagenette_lambda_resnet18", slow("imagenette_lambda_resnet50")])
def test_lambda_networks_can_be_evaluated_in_bf16_too(name, seed):
    row = first_epoch(RECIPES[name], STEPS, BATCH, precision=BF16, seed=seed)
    assert row["train_loss"] < TWICE_CHANCE and row["val_loss"] < TWICE_CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_fifty_lambda_layers_can_be_evaluated_in_fp32_at_their_own_picture_size(seed):
    """On maps of 24 × 24 as in the recipe, where most positions see one another."""
    recipe = RECIPES["imagenette_lambda_resnet50"]
    row = first_epoch(recipe, STEPS, BATCH, size=recipe.sizes[0], seed=seed)
    assert row["train_loss"] < TWICE_CHANCE and row["val_loss"] < TWICE_CHANCE


# Both are at a high rate when their first epoch ends, and the norms' running statistics are behind
# the weights. At the end, where the rate is low, they have caught up.
CATCHES_UP = {  # name: why
    # 120 held out, 2.13 with statistics taken anew; 2.10 after the second epoch
    "depth.plain56": "fifty-five layers without a shortcut multiply what the statistics are behind",
    # 16 held out after the first epoch, 1.15 after the second
    "tiny_imagenet_original": "its peak is ten times too high, as it was in the original",
}


def of_smoke(name):
    if name in CATCHES_UP:
        late = pytest.mark.xfail(reason=CATCHES_UP[name])
        return pytest.param(name, marks=[pytest.mark.slow, late])
    return name if name in SMOKE_BY_DEFAULT else slow(name)


@pytest.mark.parametrize("name", [of_smoke(name) for name in SMOKE])
def test_the_first_epoch_of_a_smoke_run_ends_below_twice_the_loss_of_a_guess(name):
    """Whatever the network: a rate that throws it off course shows in evaluation first."""
    recipe = SMOKE[name]
    row = first_epoch(
        recipe,
        SMOKE_STEPS,
        recipe.batch_size,
        size=recipe.sizes[0],
        steps_per_epoch=SMOKE_STEPS,
    )
    assert row["train_loss"] < TWICE_CHANCE and row["val_loss"] < TWICE_CHANCE
