"""Recipes and their records: what a run leaves behind, what it costs, and the tables drawn from it."""

import argparse
import errno
import inspect
import json
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from filelock import FileLock
from torch import nn

from course_lib import files, runtime
from course_lib import train as command
from course_lib.data import Augment, toy_shapes
from course_lib.experiments import record as records
from course_lib.experiments import run as training
from course_lib.experiments.recipe import (
    DATASETS,
    RECIPES,
    SCHEDULES,
    VARIANTS,
    Recipe,
    find_recipe,
)
from course_lib.files import CourseError
from course_lib.models import list_models
from course_lib.report import pages as report
from course_lib.runtime import Precision, Runtime
from course_lib.training import Extras, Trainer, schedules

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {"train": 128, "tune": 40, "val": 50}
FIELDS = {
    "recipe",
    "seed",
    "profile",
    "dataset",
    "is_real",
    "train_images",
    "val_images",
    "device",
    "processes",
    "versions",
    "epochs",
    "seconds",
    "reference_rate",
    "history",
    "final",
    "commit",
}
ROW = {"train_loss", "train_top1", "val_loss", "val_top1", "lr", "seconds"}
FINAL = {"val_loss", "val_top1", "val_top5"}

TINY = Recipe(
    "tiny",
    "two epochs of very little",
    sizes=(16, 16),
    batch_size=32,
    lr=0.05,
    model_options={"stem": "strided", "logit_scale": 0.125},
)
SMOKE = Runtime(
    "local", "smoke", "asked for", torch.device("cpu"), Precision(torch.device("cpu")), 0
)


@pytest.fixture(scope="module")
def drawn():
    return {split: toy_shapes(split, count=count, size=32) for split, count in COUNTS.items()}


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch, drawn):
    """A folder for everything that is written, and drawn pictures in the place of TinyImageNet."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(
        DATASETS, "tiny_imagenet", lambda split, *, profile, held_out=25: drawn[split]
    )
    monkeypatch.setattr(runtime, "usable_gpu", lambda: (False, "no CUDA GPU found"))


@pytest.fixture
def real(drawn, monkeypatch, tmp_path):
    """The profile cpu, with pictures that pass for real, a rate of 50 pictures a second, and its timings counted."""
    monkeypatch.setitem(
        DATASETS,
        "tiny_imagenet",
        lambda split, *, profile, held_out=25: replace(drawn[split], is_real=True),
    )
    timed = Mock(return_value=50.0)
    monkeypatch.setattr(training, "reference_rate", timed)
    return SimpleNamespace(rt=replace(SMOKE, profile="cpu"), timed=timed, folder=tmp_path)


def record(top1=0.5, seconds=2000.0, rate=50.0, **changes):
    """A made-up record of one epoch."""
    row = {
        "epoch": 1,
        "picture_size": 32,
        "train_loss": 3.0,
        "train_top1": 0.3,
        "val_loss": 2.5,
        "val_top1": top1,
        "lr": 0.1,
        "seconds": seconds,
        "eval_seconds": 1.0,
    }
    return {
        "recipe": "tiny_imagenet",
        "seed": 0,
        "profile": "cpu",
        "dataset": "TinyImageNet",
        "is_real": True,
        "train_images": 95_000,
        "val_images": 10_000,
        "device": "a laptop, 2 threads",
        "processes": 1,
        "versions": {},
        "epochs": 1,
        "seconds": seconds,
        "reference_rate": rate,
        "history": [row],
        "steps": [],
        "final": {"val_loss": 2.5, "val_top1": top1, "val_top5": top1 + 0.2},
        "commit": None,
    } | changes


def commit_results(name, *runs):
    """As if these runs lay in figures/results."""
    for number, content in enumerate(runs):
        files.write_json(records.RESULTS / name / f"cpu-seed{number}.json", content)


# --- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong, meant",
    [
        ("tiny_imagent", "tiny_imagenet"),
        ("quick", "tiny_imagenet_quick"),
        ("tiny_imagenet_orig", "tiny_imagenet_original"),
        ("#", "tiny_imagenet"),
    ],
)
def test_an_unknown_recipe_is_answered_with_the_nearest(wrong, meant):
    with pytest.raises(CourseError, match=f"unknown recipe '{wrong}'.*{meant}"):
        find_recipe(wrong)


@pytest.mark.parametrize("name", RECIPES | VARIANTS)
def test_every_recipe_builds_its_network_optimizer_and_schedule(name):
    """Every name and option in it is one that models, data and schedules know."""
    recipe = find_recipe(name)
    assert recipe.name == name and recipe.dataset in DATASETS and recipe.schedule in SCHEDULES
    assert recipe.model in list_models()
    with torch.device("meta"):
        model = recipe.build_model(200, torch.device("meta"))
    optimizer = recipe.build_optimizer(model)
    schedule, rates = recipe.build_schedule(optimizer, 5), []
    for _ in range(5 * len(recipe.sizes)):
        rates.append(max(group["lr"] for group in optimizer.param_groups))
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(recipe.lr * max(1, recipe.bias_lr), rel=0.05)
    assert rates[-1] <= 0.011 * max(rates)
    taken = inspect.signature(DATASETS[recipe.dataset]).parameters
    assert recipe.data_options.keys() <= taken.keys() and "profile" in taken
    augments = [recipe.augment_at(epoch) for epoch in range(len(recipe.sizes))]
    assert augments[-1] == Augment(**recipe.augment)


def test_muons_rate_is_set_by_the_recipe():
    groups = (
        replace(TINY, optimizer="muon", turn=0.03)
        .build_optimizer(TINY.build_model(10, torch.device("cpu")))
        .param_groups
    )
    assert groups[-1]["lr"] == pytest.approx(0.03 * TINY.lr) and groups[0]["lr"] == TINY.lr


def test_an_unknown_optimizer_is_answered_with_those_there_are():
    with pytest.raises(
        CourseError, match="recipe tiny: unknown optimizer 'adam', expected one of sgd, muon"
    ):
        replace(TINY, optimizer="adam").build_optimizer(nn.Linear(2, 2))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_one_thing_changed(name):
    """But for Muon, which is given larger batches and fewer epochs, for what its step costs; against a variant, too."""
    of, _, ending = name.rpartition(".")
    of, ending = (f"{of}.shorter", "") if ending.startswith("shorter_") else (of, ending)
    was, now = asdict(find_recipe(of)), asdict(VARIANTS[name])
    changed = {key for key in now if now[key] != was[key]} - {"name", "about"}
    with_muon = {"optimizer", "batch_size", "lr", "sizes"}
    assert len(changed) == 1 or (ending.startswith("muon") and changed - {"turn"} == with_muon)


def test_a_variant_is_judged_on_the_tune_split_and_kept_with_the_others(
    real, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(VARIANTS, "tiny.slow", replace(TINY, name="tiny.slow", lr=0.01))
    monkeypatch.setattr(
        training, "_look_once", Mock(side_effect=AssertionError("official data was looked at"))
    )
    monkeypatch.setattr(runtime, "setup", lambda *asked: real.rt)
    assert command.main(["tiny.slow", "--out", str(tmp_path / "out")]) == 0
    found = json.loads(
        (tmp_path / "out" / "ablations" / "tiny.slow" / "cpu-seed0.json").read_text()
    )
    assert found["final"] is None and found["recipe"] == "tiny.slow"
    assert (
        f"tune split, last epoch: top-1 {found['history'][-1]['val_top1']:.2%}"
        in capsys.readouterr().out
    )


def test_cutout_and_crops_by_area_begin_where_the_recipe_says():
    recipe = replace(
        TINY, augment={"cutout": 0.25, "min_area": 0.5, "flip": "alternating"}, strong_from=1
    )
    assert recipe.augment_at(0) == Augment(flip="alternating")
    assert recipe.augment_at(1) == Augment(cutout=0.25, min_area=0.5, flip="alternating")


def test_extras_are_taken_from_the_recipe():
    wished = {
        "clip_norm": 1.0,
        "accumulate": 2,
        "averaging": 0.99,
        "mixup": 0.2,
        "cutmix": 1.0,
        "compile": True,
    }
    assert replace(TINY, **wished).extras == Extras(**wished) and TINY.extras == Extras()


def test_what_a_recipe_sets_reaches_the_training(real, monkeypatch):
    wished = replace(
        TINY,
        clip_norm=1.0,
        accumulate=2,
        averaging=0.9,
        mixup=0.2,
        cutmix=0.3,
        label_smoothing=0.2,
        sizes=(16, 20),
        schedule="plateau",
        strong_from=1,
        augment={"cutout": 0.25, "pad": 2},
    )
    fit, seen = training.fit, {}

    def watched(model, loader, watch, **how):
        seen.update(how, loader=loader, first=loader.augment, watched=watch.augment)
        return fit(model, loader, watch, **how)

    monkeypatch.setattr(training, "fit", watched)
    training.run(wished, real.rt)
    assert seen["extras"] == Extras(
        clip_norm=1.0, accumulate=2, averaging=0.9, mixup=0.2, cutmix=0.3
    )
    assert seen["label_smoothing"] == 0.2 and seen["sizes"] == (16, 20) and seen["watched"] is None
    assert isinstance(seen["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
    assert seen["first"] == Augment(pad=2) and seen["loader"].augment == Augment(pad=2, cutout=0.25)


def test_a_recipe_gives_warm_up_and_flat_part_as_shares_of_the_training():
    recipe = replace(TINY, schedule="cosine", warm_up=0.25, flat=0.5, sizes=(16,) * 4, lr=0.1)
    rates = schedules.trace(lambda optimizer: recipe.build_schedule(optimizer, 10), 0.1, 40)
    assert rates[0] == pytest.approx(0.1 / 25) and rates[5] < rates[9] < 0.1
    assert rates[10:31] == pytest.approx([0.1] * 21) and 0.1 > rates[32] > rates[36] > rates[39] > 0


@pytest.mark.parametrize("number", [10, 100])
def test_the_cifar_recipes_of_torch_resnet_follow_its_schedule(number):
    """Its README: 0.01 for 400 steps, then 0.1, a tenth after 32,000 and 48,000 steps; 160 epochs of 391 steps."""
    recipe = find_recipe(f"cifar{number}_resnet20")
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
    optimizer = recipe.build_optimizer(nn.Linear(2, 2))
    weights, _, biases = optimizer.param_groups
    assert (
        weights["weight_decay"],
        biases["weight_decay"],
        weights["momentum"],
        weights["nesterov"],
    ) == (1e-4, 0, 0.9, False)
    assert (recipe.batch_size, recipe.label_smoothing, recipe.sizes) == (128, 0, (32,) * 160)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_can_be_built_and_another_is_an_error(schedule):
    parameters = [nn.Parameter(torch.zeros(1))]
    replace(TINY, schedule=schedule).build_schedule(torch.optim.SGD(parameters, 0.1), 10)
    with pytest.raises(
        CourseError, match=f"recipe tiny: unknown schedule 'linear'.*{', '.join(SCHEDULES)}"
    ):
        replace(TINY, schedule="linear").build_schedule(torch.optim.SGD(parameters, 0.1), 10)


# --- a run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke_run(drawn):
    """A recipe of the course in its smoke form, which times nothing and is kept nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            DATASETS, "tiny_imagenet", lambda split, *, profile, held_out=25: drawn[split]
        )
        for owner, name in (
            (training, "reference_rate"),
            (training, "runs_home"),
            (records, "write_json"),
        ):
            patch.setattr(owner, name, Mock(side_effect=AssertionError(f"{name} was called")))
        return training.run("tiny_imagenet_quick", SMOKE, seed=3, quiet=True)


def check_record(found):
    """What design and tables rely on in every record."""
    assert FIELDS <= set(found)
    assert FINAL <= set(found["final"]) and all(ROW <= set(row) for row in found["history"])
    assert found["epochs"] == len(found["history"])
    for row in [*found["history"], found["final"]]:
        shares = [value for key, value in row.items() if key.endswith(("top1", "top5"))]
        assert all(0 <= share <= 1 for share in shares)
    assert found["final"]["val_top1"] <= found["final"]["val_top5"]
    assert found["seconds"] >= sum(row["seconds"] for row in found["history"])


def test_a_smoke_run_leaves_a_whole_record_that_says_it_is_not_real(smoke_run):
    found = smoke_run.record
    check_record(found)
    assert (
        not found["is_real"]
        and found["dataset"] == "toy shapes"
        and found["reference_rate"] is None
    )
    assert (found["recipe"], found["seed"], found["profile"]) == ("tiny_imagenet_quick", 3, "smoke")
    assert (found["train_images"], found["val_images"], found["epochs"]) == (128, 50, 3)
    assert found["versions"]["torch"] == torch.__version__
    assert found["settings"]["batch_size"] == 64, "as it was run, not as it stands in the recipe"
    assert smoke_run.price is None
    assert json.loads(json.dumps(found))["history"] == found["history"], "plain data"


def test_final_is_the_official_validation_set_seen_by_the_weights_of_the_last_epoch(
    smoke_run, drawn
):
    val = drawn["val"]
    images = torch.from_numpy(val.images).permute(0, 3, 1, 2).double() / 255
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (val.mean, val.std)
    )
    x = ((images - mean) / std).float()
    size = smoke_run.history.last["picture_size"]
    x = torch.nn.functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    labels = torch.from_numpy(val.labels)
    with torch.inference_mode():
        logits = smoke_run.model.eval()(x)
    final = smoke_run.record["final"]
    assert final["val_loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-3
    )
    assert final["val_top1"] == pytest.approx(
        (logits.argmax(1) == labels).double().mean().item(), abs=0.021
    )


def test_the_same_seed_gives_the_same_run_and_another_seed_another(monkeypatch):
    recipe = replace(TINY, whiten=True)
    monkeypatch.setattr(Recipe, "for_smoke", lambda self: self)
    runs = [training.run(recipe, SMOKE, seed=seed, quiet=True) for seed in (1, 1, 2)]
    first, again, other = (run.record["final"] for run in runs)
    assert first == again != other


def test_a_run_on_real_pictures_keeps_checkpoint_and_record_and_prints_its_forecast(
    real, tmp_path, capsys
):
    found = training.run(TINY, real.rt, seed=4)
    folder = tmp_path / "runs"
    kept = {
        path.name.partition(".")[2]: path
        for path in folder.glob("tiny-cpu-seed4-*")
        if path.suffix != ".lock"
    }
    assert set(kept) == {"pt", "json", "rate.json"}
    kept = json.loads(kept["json"].read_text())
    assert kept == json.loads(json.dumps(found.record))
    assert kept["is_real"] and kept["reference_rate"] == 50
    assert found.price == pytest.approx(kept["seconds"] * 50 / 100_000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny: no run measured yet") and "epoch  2/2" in lines[-1]


def test_a_finished_run_is_reused_as_it_was_without_timing_training_or_looking_again(
    real, monkeypatch, capsys
):
    first = training.run(TINY, real.rt)
    timings = real.timed.call_count
    for owner, name in ((Trainer, "step"), (training, "_look_once")):
        monkeypatch.setattr(owner, name, Mock(side_effect=AssertionError(f"{name} was called")))
    monkeypatch.setattr(records, "commit", lambda: "another revision")
    again = training.run(TINY, real.rt)
    assert real.timed.call_count == timings
    assert again.record == json.loads(json.dumps(first.record))
    assert "already finished" in capsys.readouterr().out
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_the_price_is_of_the_mean_rate_before_the_run_and_after_it(real):
    real.timed.side_effect = [50.0, 30.0]
    found = training.run(TINY, real.rt)
    assert found.record["reference_rates"] == [50, 30] and found.record["reference_rate"] == 40
    assert found.price == pytest.approx(found.record["seconds"] * 40 / 100_000)


def test_anew_times_trains_and_looks_again(real):
    training.run(TINY, real.rt)
    timings = real.timed.call_count
    again = training.run(TINY, real.rt, anew=True)
    assert real.timed.call_count == 2 * timings and again.record["epochs"] == 2


def stop_at_the_sixth_step(real, monkeypatch):
    """Of eight: in the second epoch."""
    step, steps = Trainer.step, []

    def interrupted(self, *batch):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(self, *batch)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.run(TINY, real.rt)


def test_an_interrupted_run_goes_on_with_the_rate_that_was_timed_first(real, monkeypatch):
    stop_at_the_sixth_step(real, monkeypatch)
    real.timed.return_value = 20.0
    step, steps = Trainer.step, []
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(1) or step(self, *batch))
    found = training.run(TINY, real.rt).record
    assert found["reference_rates"] == [50, 20] and real.timed.call_count == 2
    assert len(steps) == 4, "the first epoch was not trained again"


def test_a_run_without_its_old_checkpoint_that_was_stopped_and_goes_on_keeps_its_rate(
    real, monkeypatch, tmp_path
):
    """The record of the run before it still lies there, and must not be taken for its own."""
    training.run(TINY, real.rt)
    for checkpoint in tmp_path.glob("runs/*.pt"):
        checkpoint.unlink()  # as a message advises where it cannot be read
    real.timed.return_value = 40.0
    stop_at_the_sixth_step(real, monkeypatch)
    real.timed.return_value = 20.0
    found = training.run(TINY, real.rt).record
    assert found["reference_rates"] == [50, 20] and len(found["history"]) == 2


def test_a_run_anew_that_dies_at_once_leaves_nothing_of_the_old_one(real, monkeypatch):
    training.run(TINY, real.rt)
    with monkeypatch.context() as context:
        context.setattr(Trainer, "step", Mock(side_effect=RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            training.run(TINY, real.rt, anew=True)
    real.timed.return_value = 20.0
    step, steps = Trainer.step, []
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(1) or step(self, *batch))
    assert training.run(TINY, real.rt).record["reference_rates"] == [50, 20], (
        "timed when it was begun anew"
    )
    assert len(steps) == 8, "two epochs from the start"


def test_a_run_that_goes_on_elsewhere_has_no_price_and_says_so(real, monkeypatch, capsys):
    """Its seconds are those of two machines. One that has finished is reused with the price it had."""
    stop_at_the_sixth_step(real, monkeypatch)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(Runtime, "machine", property(lambda self: "another machine"))
        assert training.run(TINY, real.rt).price is None and real.timed.call_count == 1
        assert "begun on another machine" in capsys.readouterr().out
    whole = training.run(TINY, real.rt, seed=1).price
    monkeypatch.setattr(Runtime, "machine", property(lambda self: "another machine"))
    assert (
        training.run(TINY, real.rt, seed=1).price == whole
        and "begun" not in capsys.readouterr().out
    )


def test_the_timing_changes_no_number_of_the_training(real):
    """Killed in its first epoch, a run has its rate but no checkpoint: the next one does not time again."""
    mixed = replace(TINY, mixup=0.5, sizes=(16,))
    training.reference_rate.side_effect = lambda rt: float(torch.rand(1)) + 50
    first = training.run(mixed, real.rt)
    next((real.folder / "runs").glob("*.pt")).unlink()
    again = training.run(mixed, real.rt)
    assert again.history.last["train_loss"] == first.history.last["train_loss"]
    assert again.record["reference_rates"][0] == first.record["reference_rates"][0]


def test_the_seed_of_the_runtime_is_the_default(real):
    assert training.run(TINY, replace(real.rt, seed=7)).record["seed"] == 7


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.1},
        {"sizes": (16, 24)},
        {"batch_size": 64},
        {"label_smoothing": 0.0},
        {"schedule": "constant"},
        {"warm_up": 0.4},
        {"whiten": True},
        {"bias_lr": 4.0},
        {"model_options": {"stem": "small", "logit_scale": 0.125}},
        {"model_options": {"stem": "strided"}},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_recipe_that_was_changed_is_another_run_and_the_old_one_stays(real, change, monkeypatch):
    first = training.run(TINY, real.rt)
    other = training.run(replace(TINY, **change), real.rt)
    assert other.history.last["train_loss"] != first.history.last["train_loss"]
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=AssertionError("a step was trained")))
    assert training.run(TINY, real.rt).record == json.loads(json.dumps(first.record))


def test_a_setting_that_is_added_later_changes_no_run_of_before():
    assert set(training._plain(TINY)) == {"name", "sizes", "batch_size", "lr", "model_options"}


def test_another_description_is_no_other_recipe(real, monkeypatch):
    training.run(TINY, real.rt)
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=AssertionError("a step was trained")))
    training.run(replace(TINY, about="the same in other words"), real.rt)


def test_the_seconds_of_a_run_count_the_decoding_too(real, drawn, monkeypatch):
    slow = {
        split: replace(drawn[split], is_real=True, prepare_seconds=seconds)
        for split, seconds in (("train", 1000.0), ("tune", 1000.0), ("val", 100.0))
    }  # tune lies in train's file
    monkeypatch.setitem(
        DATASETS, "tiny_imagenet", lambda split, *, profile, held_out=25: slow[split]
    )
    assert 1100 < training.run(TINY, real.rt).record["seconds"] < 1900


def test_on_toy_shapes_every_profile_runs_the_smoke_recipe_and_keeps_nothing(
    real, drawn, tmp_path, monkeypatch
):
    monkeypatch.setitem(
        DATASETS, "tiny_imagenet", lambda split, *, profile, held_out=25: drawn[split]
    )
    monkeypatch.setattr(Recipe, "for_smoke", lambda self: replace(self, sizes=(16,)))
    found = training.run(TINY, real.rt).record
    assert found["epochs"] == 1 and not found["is_real"] and found["reference_rate"] is None
    assert not real.timed.called and list(tmp_path.iterdir()) == []


def test_two_processes_do_not_train_the_same_run(real, tmp_path):
    training.run(TINY, real.rt)
    lock = training._Files(tmp_path / "runs", TINY, "cpu", 0).lock
    with (
        FileLock(lock),
        pytest.raises(CourseError, match="another process is training tiny-cpu-seed0"),
    ):
        training.run(TINY, real.rt)
    assert training.run(TINY, real.rt).record["epochs"] == 2, "once it is over, the next may"


def test_a_folder_whose_drive_is_not_there_is_not_made_in_its_place(real, tmp_path):
    with pytest.raises(
        CourseError, match="cannot write to .*no drive/runs .*make that folder, or choose another"
    ):
        training.run(TINY, real.rt, folder=tmp_path / "no drive" / "runs")
    assert not (tmp_path / "no drive").exists()


@pytest.mark.parametrize("ending", ["json", "rate.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_damaged_note_is_made_anew_and_costs_no_training(
    real, tmp_path, monkeypatch, ending, content
):
    first = training.run(TINY, real.rt).record
    path = next(
        each for each in (tmp_path / "runs").iterdir() if each.name.partition(".")[2] == ending
    )
    path.write_text(content)
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=AssertionError("a step was trained")))
    again = training.run(TINY, real.rt).record
    assert again["history"] == first["history"] and again["final"] == first["final"]
    assert again["reference_rate"] == 50


def test_a_record_that_cannot_be_written_is_an_error_that_leaves_the_older_one(
    tmp_path, monkeypatch
):
    path = tmp_path / "results" / "tiny" / "cpu-seed0.json"
    files.write_json(path, {"seed": 1})
    with monkeypatch.context() as context:
        context.setattr(
            files.os, "replace", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
        )
        with pytest.raises(CourseError, match="No space left on device") as caught:
            files.write_json(path, {"seed": 2})
    assert str(path) in str(caught.value)
    assert json.loads(path.read_text()) == {"seed": 1} and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("count", [10, 2000])
def test_a_sample_is_of_pictures_as_the_network_sees_them(drawn, count):
    x = training.sample(drawn["train"], count, 16, torch.device("cpu"))
    assert (
        x.shape == (min(count, COUNTS["train"]), 3, 16, 16)
        and abs(x.mean()) < 0.5
        and 0.5 < x.std() < 1.5
    )


@pytest.mark.parametrize(
    "change, said",
    [({"device": "a phone"}, "a phone; processes: 1"), ({"processes": 2}, "processes: 2")],
)
def test_a_record_of_another_machine_is_not_written_over(
    real, tmp_path, monkeypatch, capsys, change, said
):
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    monkeypatch.setattr(runtime, "setup", lambda *asked: real.rt)
    path = tmp_path / "out" / "tiny" / "cpu-seed0.json"
    files.write_json(path, record(device=real.rt.machine) | change)
    kept = path.read_text()
    assert command.main(["tiny", "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err and path.read_text() == kept


def test_a_quiet_run_prints_nothing(real, capsys):
    training.run(TINY, real.rt, quiet=True)
    assert capsys.readouterr().out == ""


# --- price, rate and forecast ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds, rate, expected",
    [(2000, 50, 1.0), (3600, 26, 0.936), (60, 10_000, 6.0), (60, None, None)],
)
def test_the_price_is_seconds_times_rate_in_epochs_of_the_reference(seconds, rate, expected):
    assert records.price({"seconds": seconds, "reference_rate": rate}) == (
        expected and pytest.approx(expected)
    )


def test_the_reference_rate_is_that_of_the_reference_network_on_its_batch(monkeypatch):
    """A quick stand-in for the network, and a clock: 1 s to warm up, then 2 s, 4 s and 8 s."""
    made, batches = [], []

    class StandIn(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 200)

        def forward(self, x):
            batches.append(
                (tuple(x.shape), x.is_contiguous(memory_format=torch.channels_last), self.training)
            )
            return self.fc(x.mean((2, 3)))

    monkeypatch.setattr(training, "create_model", lambda *asked: made.append(asked) or StandIn())
    clock = iter([0, 1, 1, 3, 3, 7, 7, 15])
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert training.reference_rate(SMOKE, rounds=3) == pytest.approx(64 / 4)
    assert made == [("resnet18_small", 200)]
    assert batches == [((64, 3, 64, 64), True, True)] * 4
    clock = iter(
        [0, 1, 1, 21, 21, 61, 61, 141]
    )  # ten steps a round, where the device is waited for that often
    monkeypatch.setattr(training.loop, "LOOK_EVERY", {})
    assert (
        training.reference_rate(SMOKE, rounds=3) == pytest.approx(64 / 4) and len(batches) == 4 + 40
    )


def test_a_forecast_divides_the_mean_price_of_the_committed_runs_by_this_machines_rate():
    commit_results(
        "tiny_imagenet", record(seconds=2000, rate=50), record(seconds=1000, rate=80)
    )  # prices 1.0, 0.8
    assert records.forecast("tiny_imagenet", "cpu", 30.0) == (
        "tiny_imagenet: price 0.90, at 30 reference pictures/s about 50 minutes here"
    )  # 0.9 × 100,000 / 30 s


def test_the_forecast_of_a_variant_comes_from_where_variants_lie():
    commit_results("ablations/tiny_imagenet.slow", record(seconds=2000.0, rate=50.0))
    assert "price 1.00" in records.forecast("tiny_imagenet.slow", "cpu", 50.0)


@pytest.mark.parametrize("runs", [[], [record(rate=None)]])
def test_without_a_measured_run_there_is_no_forecast_and_it_says_so(runs):
    commit_results("tiny_imagenet", *runs)
    said = records.forecast("tiny_imagenet", "cpu", 1234.0)
    assert (
        "no run measured yet" in said
        and "1,234 reference pictures/s" in said
        and "minutes" not in said
    )


# --- the command ----------------------------------------------------------------------------------


def test_without_a_recipe_the_command_lists_them_all(capsys):
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    every = RECIPES | VARIANTS
    assert [line.split()[0] for line in lines] == list(every)
    assert all(recipe.about in line for recipe, line in zip(every.values(), lines, strict=True))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["tiny_imagent"], "nearest names are tiny_imagenet"),
        (["tiny_imagenet", "--profile", "gpu"], "no CUDA GPU"),
    ],
)
def test_a_wrong_wish_ends_with_code_1_and_one_line(capsys, arguments, said):
    assert command.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_an_unknown_profile_in_the_variable_ends_with_code_1(capsys, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    assert command.main(["tiny_imagenet"]) == 1
    assert "smoke, cpu, gpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    "main, options",
    [
        (command.main, ["recipe", "--profile", "--seed", "--out", "--resume", "--tensorboard"]),
        (report.main, ["--check"]),
    ],
)
def test_help_mentions_every_option(capsys, monkeypatch, main, options):
    made = []
    add = argparse.ArgumentParser.add_argument
    monkeypatch.setattr(
        argparse.ArgumentParser,
        "add_argument",
        lambda self, *names, **more: made.append(names[-1]) or add(self, *names, **more),
    )
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert set(made) - {"--help"} == set(options) and all(name in said for name in made)


def test_the_command_trains_prints_the_result_and_writes_the_record_where_it_was_asked_to(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    monkeypatch.setattr(Recipe, "for_smoke", lambda self: self)
    out = tmp_path / "out"
    assert command.main(["tiny", "--profile", "smoke", "--seed", "5", "--out", str(out)]) == 0
    (path,) = out.rglob("*.json")
    assert path == out / "tiny" / "smoke-seed5.json"
    found = json.loads(path.read_text())
    check_record(found)
    said = capsys.readouterr().out
    assert (
        "profile smoke" in said
        and f"top-1 {found['final']['val_top1']:.2%}" in said
        and "price" not in said
    )


def test_the_command_writes_no_record_of_toy_shapes_beside_real_ones(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    monkeypatch.setattr(Recipe, "for_smoke", lambda self: replace(self, sizes=(16,)))
    assert command.main(["tiny", "--profile", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert "not written" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "message, said",
    [("stopped after batch 3; run again", "stopped after batch 3; run again"), ("", "stopped")],
)
def test_ctrl_c_ends_the_command_with_code_130_and_a_word(monkeypatch, capsys, message, said):
    monkeypatch.setattr(
        training, "run", Mock(side_effect=KeyboardInterrupt(*filter(None, [message])))
    )
    assert command.main(["tiny_imagenet", "--profile", "smoke"]) == 130
    assert capsys.readouterr().err.strip() == said


@pytest.mark.parametrize(
    "argument, anew", [([], False), (["--resume"], False), (["--no-resume"], True)]
)
def test_the_command_goes_on_unless_told_to_train_anew(monkeypatch, argument, anew):
    run = Mock(return_value=training.Run(nn.Identity(), None, record()))
    monkeypatch.setattr(training, "run", run)
    assert (
        command.main(["tiny_imagenet", "--profile", "smoke", "--tensorboard", "curves", *argument])
        == 0
    )
    assert run.call_args.kwargs["anew"] is anew and run.call_args.kwargs["tensorboard"] == Path(
        "curves"
    )


# --- what is committed ----------------------------------------------------------------------------

COMMITTED = [
    path
    for path in sorted((ROOT / "figures" / "results").glob("*/*.json"))
    if path.parent.name != "benchmarks"
]


@pytest.mark.parametrize(
    "benchmark, ratio, least, most",
    [
        ("loading", "ratio.albumentations", 3, 20),
        ("loading", "ratio.whole batches", 8, 100),
        ("loading", "ratio.whole batches over albumentations", 2.5, 20),
        ("store_build", "ratio", 0.5, 1.3),
        ("engine", "step.ratio", 0.8, 1.03),
        ("engine", "bf16.ratio", 1.5, 10),
    ],
)
def test_the_committed_benchmarks_meet_their_bars(benchmark, ratio, least, most):
    """What lies beyond the other bound would be a mistake of the measurement."""
    found = json.loads(
        (ROOT / "figures" / "results" / "benchmarks" / f"{benchmark}.json").read_text()
    )
    assert least <= report._at(found, ratio) <= most


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_committed_record_is_whole_real_and_in_its_place(path):
    found = json.loads(path.read_text())
    check_record(found)
    assert found["is_real"] and found["dataset"] != "toy shapes" and found["reference_rate"] > 0
    assert (
        found["recipe"] == path.parent.name
        and path.stem == f"{found['profile']}-seed{found['seed']}"
    )
    assert found["profile"] != "smoke"
    settings = found["settings"]
    assert [row["picture_size"] for row in found["history"]] == list(settings["sizes"])
    assert [row["epoch"] for row in found["history"]] == list(range(1, found["epochs"] + 1))


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted((ROOT / "figures" / "results").rglob("*.json"))
        if path.parent.name in RECIPES | VARIANTS
    ],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_committed_runs_were_made_with_the_recipe_as_it_stands(path):
    """A field that a record lacks is younger than it, and was at its default then."""
    defaults = {
        each.name: each.default_factory() if each.default is MISSING else each.default
        for each in fields(Recipe)
        if (each.default, each.default_factory) != (MISSING, MISSING)
    }
    now = asdict(find_recipe(path.parent.name))
    then = defaults | json.loads(path.read_text())["settings"]
    assert json.loads(json.dumps(now | {"about": ""})) == json.loads(
        json.dumps(then | {"about": ""})
    )
