"""Recipes: each can be trained, and its settings are all that a training depends on."""

import inspect
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from small import CPU, TINY
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from course_lib.data import Augment
from course_lib.experiments import (
    DATASETS,
    GRID,
    RECIPES,
    STUDIES,
    SWEEPS,
    TRIALS,
    Recipe,
    Sweep,
    find_recipe,
)
from course_lib.experiments.recipe import SCHEDULES
from course_lib.files import CourseError
from course_lib.models import SessionResNet, create_model, list_models, whiten_stem
from course_lib.training import Extras, schedules


@pytest.mark.parametrize(
    "wrong, meant",
    [
        ("tiny_imagent", "tiny_imagenet"),
        ("quick", "tiny_imagenet_quick"),
        ("tiny_imagenet_orig", "tiny_imagenet_original"),
        ("TINY_IMAGENET", "tiny_imagenet"),
        ("CIFAR100", "cifar100_"),
        ("#", "tiny_imagenet"),
    ],
)
def test_an_unknown_recipe_is_answered_with_the_nearest(wrong, meant):
    with pytest.raises(CourseError, match=f"unknown recipe '{wrong}'.*{meant}") as caught:
        find_recipe(wrong)
    assert len(str(caught.value)) < 250, "near ones, not all there are"


ENDS_HIGH = {
    "schedules.constant",
    "schedules.one_cycle_floor",
    "schedules.plateau",  # cut by what is held out
}


@pytest.mark.parametrize("name", RECIPES | TRIALS | STUDIES | GRID | SWEEPS)
def test_every_recipe_builds_its_network_optimizer_and_schedule(name):
    """Every name and option in it is one that models, data and schedules know."""
    recipe = find_recipe(name)
    if isinstance(recipe, Sweep):
        assert recipe.start < min(recipe.rates) < max(recipe.rates) < recipe.end
        recipe = recipe.recipe

    assert recipe.name == name and recipe.is_trial == (name not in RECIPES | GRID)
    assert recipe.model in list_models()
    assert recipe.schedule in SCHEDULES or name == "schedules.plateau"

    taken = inspect.signature(DATASETS[recipe.dataset]).parameters
    assert recipe.data_options.keys() <= taken.keys() and "profile" in taken

    with torch.device("meta"):
        model = recipe.build_model(200, torch.device("meta"))
    optimizer = recipe.build_optimizer(model)
    schedule = recipe.build_schedule(optimizer, 5)

    rates = []
    for _ in range(5 * len(recipe.sizes)):
        rates.append(max(group["lr"] for group in optimizer.param_groups))
        optimizer.step()
        if not isinstance(schedule, ReduceLROnPlateau):
            schedule.step()

    assert max(rates) == pytest.approx(recipe.lr * max(1, recipe.bias_lr), rel=0.05)
    assert rates[-1] <= 0.011 * max(rates) or name in ENDS_HIGH


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_is_one_thing_changed(name):
    """Of its recipe; of tiny_imagenet_quick.shorter, in its own trials."""
    of = name.rpartition(".")[0]
    if name.endswith(".shorter_cosine"):
        of += ".shorter"

    was, now = asdict(find_recipe(of)), asdict(TRIALS[name])
    changed = {key for key in now if now[key] != was[key]} - {"name", "about"}
    assert len(changed) == 1


def test_the_cifar_recipes_of_torch_resnet_follow_its_schedule():
    """Its README: 0.01 for 400 steps, then 0.1, a tenth after 32,000 and after 48,000."""
    recipe = find_recipe("cifar10_resnet20")
    rates = schedules.trace(
        lambda optimizer: recipe.build_schedule(optimizer, 391), recipe.lr, 160 * 391
    )
    for step, rate in (
        (0, 0.01),
        (380, 0.01),
        (400, 0.1),
        (31_900, 0.1),
        (32_100, 0.01),
        (47_900, 0.01),
        (48_100, 0.001),
        (62_500, 0.001),
    ):
        assert rates[step] == pytest.approx(rate), step

    weights, _, biases = recipe.build_optimizer(nn.Linear(2, 2)).param_groups
    assert weights["weight_decay"] == 1e-4 and biases["weight_decay"] == 0
    assert weights["momentum"] == 0.9 and weights["nesterov"] is False
    assert (recipe.batch_size, recipe.label_smoothing, recipe.sizes) == (128, 0, (32,) * 160)

    of_100 = find_recipe("cifar100_resnet20")
    its_own = {"name": recipe.name, "about": recipe.about, "dataset": "cifar10"}
    assert replace(of_100, **its_own) == recipe


def test_a_recipe_gives_its_warm_up_as_a_share_of_the_training():
    recipe = replace(TINY, schedule="cosine", warm_up=0.25, sizes=(16,) * 4, lr=0.1)
    rates = schedules.trace(lambda optimizer: recipe.build_schedule(optimizer, 10), 0.1, 40)

    assert rates[0] == pytest.approx(0.1 / 25) and rates[5] < rates[9] < 0.1
    assert rates[10] == pytest.approx(0.1)
    assert 0.1 > rates[12] > rates[26] > rates[39] > 0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_can_be_built_and_another_is_an_error(schedule):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    replace(TINY, schedule=schedule).build_schedule(optimizer, 10)

    with pytest.raises(
        CourseError, match=f"recipe tiny: unknown schedule 'linear'.*{', '.join(SCHEDULES)}"
    ):
        replace(TINY, schedule="linear").build_schedule(optimizer, 10)


# --- session 3 ------------------------------------------------------------------------------------


def test_a_recipe_with_adam_decays_filters_alone_and_takes_its_momentum_for_beta1():
    recipe = find_recipe("sweeps.adam_imagenette").at(2e-3)
    model = recipe.build_model(10, CPU)
    optimizer = recipe.build_optimizer(model)

    assert type(optimizer) is torch.optim.AdamW
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-2, 0, 0]
    assert {group["lr"] for group in optimizer.param_groups} == {2e-3}

    everything = {id(parameter) for parameter in model.parameters()}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == everything


def test_a_recipe_on_a_plateau_cuts_its_rate_to_a_fifth_after_one_epoch_without_a_fall():
    recipe = find_recipe("schedules.plateau")
    optimizer = recipe.build_optimizer(nn.Linear(2, 2))
    schedule = recipe.build_schedule(optimizer, 100)

    rates = []
    for loss in (2.0, 1.5, 1.6, 1.4, 1.4):
        schedule.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.02, 0.02, 0.004])


def test_the_schedules_differ_in_nothing_but_the_schedule():
    settings = [recipe.settings() for name, recipe in STUDIES.items() if "schedules." in name]
    names = {"name", "schedule", "warm_up", "drops", "patience", "factor"}
    names |= {"ends_at", "momentum_cycle"}
    rest = [{key: each[key] for key in each.keys() - names} for each in settings]
    assert len(rest) == 9 and all(each == rest[0] for each in rest)


@pytest.mark.parametrize(
    "ending, peak, last, momenta",
    [
        ("", 223, 4e-7, (0.9, 0.9)),
        ("_early", 55, 4e-7, (0.9, 0.9)),
        ("_late", 559, 4e-7, (0.9, 0.9)),
        ("_momentum", 223, 4e-7, (0.85, 0.95)),
        ("_floor", 223, 0.01, (0.9, 0.9)),
    ],
)
def test_the_forms_of_one_cycle_differ_in_peak_end_or_momentum(ending, peak, last, momenta):
    """Eight epochs of 140 steps; the momentum is lowest at the peak, highest at both ends."""
    recipe = find_recipe(f"schedules.one_cycle{ending}")
    optimizer = recipe.build_optimizer(nn.Linear(2, 2))
    schedule = recipe.build_schedule(optimizer, 140)

    rates, seen = [], []
    for _ in range(8 * 140):
        rates.append(optimizer.param_groups[0]["lr"])
        seen.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        schedule.step()

    assert max(rates) == pytest.approx(0.1) == pytest.approx(rates[peak])
    assert rates[0] == pytest.approx(0.004) and rates[-1] == pytest.approx(last)

    lowest, highest = momenta
    assert (seen[0], seen[peak], seen[-1]) == pytest.approx((highest, lowest, highest))


@pytest.mark.parametrize("ending", ["_momentum", "_floor"])
def test_a_cycle_at_its_defaults_is_the_one_of_every_recipe(ending):
    """To the last bit: what it has besides is one thing changed, and no other."""
    plain, cycle = find_recipe("schedules.one_cycle"), find_recipe(f"schedules.one_cycle{ending}")
    cycle = replace(cycle, ends_at=1 / 250_000, momentum_cycle=None)

    def rates(recipe):
        return schedules.trace(lambda each: recipe.build_schedule(each, 140), recipe.lr, 8 * 140)

    assert rates(cycle) == rates(plain)


def test_the_sweeps_of_a_network_differ_in_nothing_but_the_data():
    for network in ("sgd", "unnormed", "adam"):
        one, other = (find_recipe(f"sweeps.{network}_{data}") for data in ("imagenette", "tiny"))
        assert one.rates == other.rates and len(one.rates) == 8
        assert (one.start, one.end) == (other.start, other.end)

        ours, theirs = one.recipe.settings(), other.recipe.settings()
        differ = {key for key in ours if ours[key] != theirs[key]}
        assert differ == {"name", "dataset", "data_options"}


def test_a_sweep_at_a_rate_is_a_trial_of_that_peak_under_a_name_of_its_own():
    recipe = find_recipe("sweeps.sgd_imagenette").at(0.05)
    assert recipe.name == "sweeps.sgd_imagenette.lr0.05" and recipe.lr == 0.05
    assert recipe.is_trial and recipe.schedule == "one_cycle"


# --- settings: everything that a training depends on ----------------------------------------------


def plain() -> Recipe:
    """A recipe that leaves all it can at its default."""
    return Recipe("plain", "", sizes=(16,), augment=Augment(), extras=Extras())


def test_settings_hold_every_field_with_its_value_but_the_words():
    settings = plain().settings()
    assert settings.keys() == {each.name for each in fields(Recipe)} - {"about"}
    assert settings["augment"] == asdict(Augment()) and settings["extras"] == asdict(Extras())
    assert settings["weight_decay"] == 5e-4 and settings["sizes"] == [16]
    assert settings["model_options"]["residual_in"] == [1, 3]
    assert settings["data_options"] == {"held_out": 25}


def test_what_a_recipe_sets_stands_in_its_settings_in_place_of_the_default():
    settings = find_recipe("tiny_imagenet").settings()
    assert settings["augment"]["flip"] == "alternating" and settings["augment"]["pad"] == 4
    assert settings["model_options"]["stem"] == "strided"
    assert settings["model_options"]["block"] == "pair"
    assert settings["data_options"] == {"held_out": 5}

    noisy = find_recipe("imagenette_resnet18_noise25").settings()
    assert noisy["data_options"] == {"noise": 25, "size": 160}


@pytest.mark.parametrize(
    "kind, name, changed",
    [
        (Recipe, "weight_decay", 1e-4),
        (Augment, "pad", 0),
        (Extras, "accumulate", 2),
    ],
)
def test_a_default_that_changes_changes_the_settings(monkeypatch, kind, name, changed):
    before = plain().settings()

    initial = kind.__init__
    parameters = inspect.signature(initial).parameters.values()
    optional = [each.name for each in parameters if each.default is not each.empty]
    defaults = dict(zip(optional, initial.__defaults__, strict=True))
    monkeypatch.setattr(initial, "__defaults__", tuple((defaults | {name: changed}).values()))

    after = plain().settings()
    assert after != before and changed in [
        after.get(name),
        *after["augment"].values(),
        *after["extras"].values(),
    ]


def test_a_default_of_the_network_that_changes_changes_the_settings(monkeypatch):
    before = plain().settings()
    monkeypatch.setitem(SessionResNet.__init__.__kwdefaults__, "logit_scale", 0.5)
    assert plain().settings() == before | {
        "model_options": before["model_options"] | {"logit_scale": 0.5}
    }


def test_a_default_of_the_data_set_that_changes_changes_the_settings(monkeypatch):
    before = plain().settings()
    monkeypatch.setitem(DATASETS, "tiny_imagenet", lambda split, *, held_out=20, profile=None: None)
    assert plain().settings() == before | {"data_options": {"held_out": 20}}


def test_the_stem_of_a_recipe_is_whitened_as_the_lesson_does_it():
    floor = inspect.signature(whiten_stem).parameters["floor"].default
    settings = find_recipe("tiny_imagenet").settings()
    assert settings["whiten_floor"] == floor and settings["whiten_pictures"] == 2000


def test_a_recipe_builds_what_its_fields_say():
    recipe = replace(TINY, model="session_resnet", model_options={"stem": "strided"}, bias_lr=4.0)
    model = recipe.build_model(7, CPU)
    assert model.fc.out_features == 7 and model.stem[0].stride == (2, 2)

    weights, _, biases = recipe.build_optimizer(model).param_groups
    assert biases["lr"] == pytest.approx(4 * weights["lr"])


@pytest.mark.slow
def test_no_norm_of_a_smoke_run_sees_maps_of_a_single_pixel():
    """A batch of sixteen is then sixteen numbers a channel, and evaluation is off by far."""
    forms = set()
    for name in RECIPES | TRIALS | STUDIES | GRID | SWEEPS:
        recipe = find_recipe(name)
        smoke = (recipe.recipe if isinstance(recipe, Sweep) else recipe).for_smoke()
        forms.add((smoke.model, tuple(smoke.model_options.items()), min(smoke.sizes)))

    assert len(forms) > 10
    for model, options, size in forms:
        with torch.device("meta"):
            network = create_model(model, 10, **dict(options))
            maps = network.features(torch.randn(2, 3, size, size))
        assert min(maps.shape[2:]) > 1, (model, size)


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("tiny_imagenet", (32, 64)),
        ("imagenette_resnet18", (48, 96)),
        ("cifar10_resnet20", (32, 32)),
        ("networks.resnet18", (48, 64)),
    ],
)
def test_the_smoke_form_is_two_epochs_in_small_batches_at_a_gentle_rate(name, sizes):
    recipe = find_recipe(name)
    smoke = recipe.for_smoke()
    assert smoke.sizes == sizes and smoke.batch_size == 16
    assert smoke.lr / smoke.batch_size == pytest.approx(recipe.lr / recipe.batch_size / 4)
    assert smoke.name == recipe.name and smoke.augment == recipe.augment


def test_the_deepest_warm_up_for_an_epoch_in_smoke_too():
    """A share of a hundred and sixty epochs would be no step of two."""
    for name, epochs in (("cifar10_resnet110", 160), ("cifar100_preact_resnet164", 160)):
        recipe = find_recipe(name)
        assert recipe.warm_up * epochs == 1

        smoke, batches = recipe.for_smoke(), 31
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], smoke.lr)
        scheduler = smoke.build_schedule(optimizer, batches)
        rates = []
        for _ in range(2 * batches):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert rates == pytest.approx([smoke.lr / 10] * batches + [smoke.lr] * batches)
