"""One training at several rates: what is trained, what is kept, what the record says."""

import json
from dataclasses import dataclass, replace

import pytest
from made_up import commit_results
from made_up import sweep as made_up
from small import SMOKE, TINY, check_sweep, count_steps, running
from torch import nn

from course_lib.data import BatchLoader
from course_lib.experiments import SWEEPS, Recipe, Sweep, run, run_sweep, sweep
from course_lib.files import CourseError
from course_lib.models import whiten_stem
from course_lib.runtime import seed_everything
from course_lib.training import (
    CrossEntropy,
    DivergedError,
    GeneralizedCrossEntropy,
    Trainer,
    TrainingError,
    lr_finder,
)

RATES = (0.02, 0.1)
SWEEP = Sweep(replace(TINY, name="sweeps.tiny"), RATES, 1e-3, 1.0)


def test_a_sweep_is_the_trainings_at_its_rates_and_its_range_test(real):
    found = run_sweep(SWEEP, real.rt, quiet=True)
    check_sweep(json.loads(json.dumps(found)))
    assert found["settings"] == SWEEP.recipe.settings() and found["is_real"]
    assert [each["lr"] for each in found["runs"]] == list(RATES)

    for trained in found["runs"]:
        alone = run(SWEEP.at(trained["lr"]), real.rt, resume=False, quiet=True, priced=False)
        ours, theirs = (
            [(row["train_loss"], row["val_loss"]) for row in rows]
            for rows in (trained["history"], alone.history.rows)
        )
        assert ours == theirs and max(row["lr"] for row in trained["history"]) <= trained["lr"]


def test_its_range_test_begins_with_the_weights_batches_and_settings_of_the_trainings(real):
    found = sweep.range_test_of(SWEEP, real.rt, steps=20)

    recipe = SWEEP.recipe
    loader = BatchLoader(real.stores["train"], recipe.batch_size, augment=recipe.augment)
    loader.picture_size = 16
    seed_everything(0)
    model = recipe.build_model(10, real.rt.device)
    gentle = replace(recipe, lr=1e-3)
    assert found == lr_finder.range_test(
        model,
        loader,
        gentle.build_optimizer,
        end_lr=1.0,
        steps=20,
        precision=real.rt.precision,
        loss=CrossEntropy(recipe.label_smoothing),
    )


@dataclass(frozen=True)
class Own(Recipe):
    """A recipe with a loss and an order of its own."""

    def build_loss(self):
        return GeneralizedCrossEntropy(0.5)

    def build_loader(self, train, device, seed):
        return BatchLoader(
            train, self.batch_size, augment=self.augment, shuffle=False, device=device, seed=seed
        )


def test_its_range_test_takes_loss_order_and_whitened_stem_from_the_recipe_too(real):
    recipe = Own(**{**vars(TINY), "whiten": True, "whiten_pictures": 30})
    found = sweep.range_test_of(Sweep(recipe, RATES, 1e-3, 1.0), real.rt, steps=20)

    train = real.stores["train"]
    seed_everything(0)
    model = recipe.build_model(10, real.rt.device)
    pictures = running.sample(train, 30, 16, real.rt.device)
    whiten_stem(model, pictures, recipe.whiten_floor)
    loader = BatchLoader(train, recipe.batch_size, augment=recipe.augment, shuffle=False)
    loader.picture_size = 16

    assert found == lr_finder.range_test(
        model,
        loader,
        replace(recipe, lr=1e-3).build_optimizer,
        end_lr=1.0,
        steps=20,
        precision=real.rt.precision,
        loss=GeneralizedCrossEntropy(0.5),
    )


@pytest.mark.usefixtures("world", "small")
@pytest.mark.parametrize("how", [lambda name: name, SWEEPS.get], ids=["name", "object"])
@pytest.mark.parametrize("name", SWEEPS)
def test_run_refuses_a_sweep_in_one_sentence_that_says_what_trains_it(name, how):
    said = (
        f'{name} is a sweep, 8 trainings.*run_sweep\\(SWEEPS\\["{name}"\\], rt\\).*'
        f'run\\(SWEEPS\\["{name}"\\]\\.at\\({SWEEPS[name].rates[0]:g}\\), rt\\)'
    )
    with pytest.raises(CourseError, match=said):
        run(how(name), SMOKE)


@pytest.mark.usefixtures("world", "small")
def test_in_smoke_a_sweep_takes_seconds_and_says_what_it_is():
    found = run_sweep(SWEEP, SMOKE, quiet=True)
    check_sweep(found)
    assert found["profile"] == "smoke" and not found["is_real"]


def test_a_sweep_that_was_interrupted_goes_on_and_a_finished_one_is_reused(real, monkeypatch):
    run(SWEEP.at(RATES[0]), real.rt, quiet=True, priced=False)
    monkeypatch.setattr(sweep, "range_test_of", lambda *_: lr_finder.LRRange([], [], 0.0, 0.0))
    steps = count_steps(monkeypatch)

    run_sweep(SWEEP, real.rt, quiet=True)
    assert len(steps) == 8, "the second rate alone"
    run_sweep(SWEEP, real.rt, quiet=True)
    assert len(steps) == 8

    run_sweep(SWEEP, real.rt, quiet=True, resume=False)
    assert len(steps) == 24


def fails_at(monkeypatch, rate, error):
    step = Trainer.step

    def failing(self, *batch):
        peak = self.optimizer.param_groups[0].get("max_lr")
        if peak == rate:
            raise error
        return step(self, *batch)

    monkeypatch.setattr(Trainer, "step", failing)


def test_a_training_that_diverges_is_a_result_with_its_reason(real, monkeypatch):
    fails_at(monkeypatch, RATES[1], DivergedError("the loss is nan in epoch 1"))
    found = run_sweep(SWEEP, real.rt, quiet=True)
    check_sweep(found)
    first, second = found["runs"]
    assert first["history"] and second == {
        "lr": RATES[1],
        "ended": "the loss is nan in epoch 1",
        "history": [],
    }
    assert sweep.best_rate(found) == RATES[0]


def test_a_sweep_of_which_every_training_diverges_still_says_where_and_on_what(real, monkeypatch):
    monkeypatch.setattr(sweep, "range_test_of", lambda *_: lr_finder.LRRange([], [], 0.0, 0.0))
    monkeypatch.setattr(Trainer, "step", nn.Identity())
    monkeypatch.setattr(sweep, "run", fails := _raises(DivergedError("the loss is nan")))
    found = run_sweep(SWEEP, real.rt, quiet=True)
    assert fails.rates == list(RATES) and found["is_real"] and found["device"] == real.rt.machine
    assert not any(each["history"] for each in found["runs"])


def _raises(error):
    def failing(recipe, *_, **__):
        failing.rates.append(recipe.lr)
        raise error

    failing.rates = []
    return failing


def test_too_little_memory_is_no_result(real, monkeypatch):
    """It says nothing about the rate."""
    fails_at(monkeypatch, RATES[1], TrainingError("out of memory in epoch 1"))
    with pytest.raises(TrainingError, match="out of memory"):
        run_sweep(SWEEP, real.rt, quiet=True)


@pytest.mark.usefixtures("world")
def test_a_committed_sweep_is_found_by_its_name_and_a_missing_one_is_said():
    other = made_up(sweep="sweeps.sgd_tiny") | {"seed": 1}
    commit_results("sweeps/sweeps.sgd_tiny", made_up(sweep="sweeps.sgd_tiny"), other)
    assert sweep.committed("sweeps.sgd_tiny")["seed"] == 0

    with pytest.raises(CourseError, match="no record of the sweep sweeps.adam_tiny lies in .*make"):
        sweep.committed("sweeps.adam_tiny")
