"""A run: what it trains with, what it looks at, and the record it leaves."""

import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import CPU, SMOKE, TINY, check_record, running

from course_lib.data import Augment, toy_shapes
from course_lib.experiments import DATASETS, Recipe, price, run
from course_lib.experiments.recipe import trial
from course_lib.training import CrossEntropy, Extras

pytestmark = pytest.mark.usefixtures("world")


# --- what reaches the training --------------------------------------------------------------------


def test_what_a_recipe_sets_reaches_the_training(real, monkeypatch):
    wished = replace(
        TINY,
        sizes=(16, 20),
        label_smoothing=0.2,
        augment=Augment(cutout=0.25, pad=2),
        extras=Extras(clip_norm=1.0, accumulate=2, averaging=0.9, mixup=0.2, cutmix=0.3),
    )
    fit, seen = running.fit, {}

    def watched(model, train_loader, val_loader, **how):
        seen.update(how, train=train_loader.augment, val=val_loader.augment)
        return fit(model, train_loader, val_loader, **how)

    monkeypatch.setattr(running, "fit", watched)
    run(wished, real.rt)

    assert seen["extras"] == wished.extras and seen["sizes"] == (16, 20)
    assert seen["loss"] == CrossEntropy(0.2)
    assert seen["train"] == wished.augment and seen["val"] is None
    assert seen["optimizer"].param_groups[0]["nesterov"]
    assert seen["checkpoint"].settings == wished.settings()


def test_the_stem_is_whitened_with_the_pictures_and_the_floor_of_the_recipe(real, monkeypatch):
    whitened = Mock(wraps=running.whiten_stem)
    monkeypatch.setattr(running, "whiten_stem", whitened)
    run(replace(TINY, whiten=True, whiten_pictures=20, whiten_floor=0.5), real.rt)

    _, pictures, floor = whitened.call_args.args
    assert pictures.shape == (20, 3, 16, 16) and floor == 0.5


def test_the_seed_of_the_runtime_is_the_default(real):
    assert run(TINY, replace(real.rt, seed=7)).record["seed"] == 7
    assert run(TINY, replace(real.rt, seed=7), seed=8).record["seed"] == 8


@pytest.mark.usefixtures("small")
def test_the_same_seed_gives_the_same_run_and_another_seed_another(monkeypatch):
    recipe = replace(TINY, whiten=True)
    monkeypatch.setattr(Recipe, "for_smoke", lambda self: self)

    runs = [run(recipe, SMOKE, seed=seed, quiet=True) for seed in (1, 1, 2)]
    first, again, other = (each.record["final"] for each in runs)
    assert first == again != other


@pytest.mark.parametrize("count", [10, 2000])
def test_a_sample_is_of_pictures_as_the_network_sees_them(drawn, count):
    x = running.sample(drawn["train"], count, 16, CPU)
    assert x.shape == (min(count, 128), 3, 16, 16)
    assert abs(x.mean()) < 0.5 and 0.5 < x.std() < 1.5


def test_a_quiet_run_prints_nothing(real, capsys):
    run(TINY, real.rt, quiet=True)
    assert capsys.readouterr().out == ""


# --- the record -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke_run(drawn):
    """A recipe of the course in its smoke form, which times nothing and is kept nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            DATASETS, "tiny_imagenet", lambda split, *, profile, held_out=25: drawn[split]
        )
        for owner, name in ((price, "reference_rate"), (running, "Kept"), (running, "runs_home")):
            patch.setattr(owner, name, Mock(side_effect=AssertionError(f"{name} was called")))
        return run("tiny_imagenet_quick", SMOKE, seed=3, quiet=True)


def test_a_smoke_run_leaves_a_whole_record_that_says_it_is_not_real(smoke_run):
    found = smoke_run.record
    check_record(found)
    assert not found["is_real"] and found["dataset"] == "toy shapes"
    assert found["reference_rate"] is None and smoke_run.price is None

    assert (found["recipe"], found["seed"], found["profile"]) == ("tiny_imagenet_quick", 3, "smoke")
    assert (found["train_images"], found["val_images"], found["epochs"]) == (128, 50, 2)
    assert found["versions"]["torch"] == torch.__version__
    assert found["settings"]["batch_size"] == 16, "as it was run, not as it stands in the recipe"
    assert json.loads(json.dumps(found)) == found, "plain data"


def test_final_is_the_official_validation_set_seen_by_the_weights_of_the_last_epoch(
    smoke_run, drawn
):
    val = drawn["val"]
    images = torch.from_numpy(val.images).permute(0, 3, 1, 2).double() / 255  # (B, 3, H, W)
    mean = torch.tensor(val.mean, dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor(val.std, dtype=torch.float64).view(3, 1, 1)
    x = ((images - mean) / std).float()

    size = smoke_run.history.last["picture_size"]
    x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    labels = torch.from_numpy(val.labels)
    with torch.inference_mode():
        logits = smoke_run.model.eval()(x)  # (B, classes)

    final = smoke_run.record["final"]
    loss, top1 = F.cross_entropy(logits, labels), (logits.argmax(1) == labels).double().mean()
    assert final["val_loss"] == pytest.approx(loss.item(), abs=1e-3)
    assert final["val_top1"] == pytest.approx(top1.item(), abs=0.021)


def test_settings_in_the_record_are_resolved_and_come_with_the_words(real):
    found = run(TINY, real.rt).record
    assert found["settings"] == TINY.settings() | {"about": "two epochs of very little"}


def test_the_seconds_of_a_run_count_the_decoding_too(real, stores):
    """Of train and val: tune lies in train's file."""
    taken = {"train": 1000.0, "tune": 1000.0, "val": 100.0}
    stores(
        {split: replace(real.stores[split], prepare_seconds=taken[split]) for split in real.stores}
    )
    assert 1100 < run(TINY, real.rt).record["seconds"] < 1900


def test_the_price_is_of_the_mean_rate_before_the_run_and_after_it(real):
    real.timed.side_effect = [50.0, 30.0]
    found = run(TINY, real.rt)
    assert found.record["reference_rates"] == [50, 30] and found.record["reference_rate"] == 40
    assert found.price == pytest.approx(found.record["seconds"] * 40 / 100_000)


@pytest.mark.parametrize("asked, wrong", [(0, 0), (25, 32), (25, 31)])
def test_noise_is_the_level_asked_for_and_wrong_labels_the_share_that_was_counted(
    real, monkeypatch, asked, wrong
):
    """Of 128 training labels; published files miss their level by a few."""
    train = real.stores["train"]
    labels = train.labels.copy()
    labels[:wrong] = (labels[:wrong] + 1) % 10
    found = real.stores | {"train": replace(train, labels=labels, clean_labels=train.labels)}

    monkeypatch.setitem(DATASETS, "imagenette", lambda split, noise=0, *, profile: found[split])
    options = {"noise": asked} if asked else {}
    record = run(replace(TINY, dataset="imagenette", data_options=options), real.rt).record
    assert record["noise"] == asked and record["wrong_labels"] == wrong / 128


def test_of_a_set_whose_true_labels_nobody_knows_no_share_is_told(real):
    record = run(TINY, real.rt).record
    assert record["noise"] == 0 and record["wrong_labels"] is None


# --- a trial --------------------------------------------------------------------------------------

SLOW = trial(TINY, "slow", "a lower rate", lr=0.01)


def test_a_trial_never_loads_the_official_split_and_is_not_billed_for_it(real, monkeypatch):
    def load(split, *, profile, held_out=25):
        assert split != "val", "the official split was decoded"
        return real.stores[split]

    monkeypatch.setitem(DATASETS, "tiny_imagenet", load)
    found = run(SLOW, real.rt).record
    assert found["final"] is None and found["val_images"] is None

    epochs = sum(row["seconds"] + row["eval_seconds"] for row in found["history"])
    assert found["seconds"] == pytest.approx(epochs + real.stores["train"].prepare_seconds)


def test_a_smoke_run_of_a_trial_does_not_load_it_either(small, drawn, monkeypatch):
    def load(split, *, profile, held_out=25):
        assert split != "val", "the official split was decoded"
        return drawn[split]

    monkeypatch.setitem(DATASETS, "tiny_imagenet", load)
    assert run(SLOW, SMOKE, quiet=True).record["final"] is None


# --- toy shapes -----------------------------------------------------------------------------------


def test_on_toy_shapes_every_profile_runs_the_smoke_recipe_and_keeps_nothing(
    real, drawn, stores, tmp_path, monkeypatch
):
    stores(drawn)
    monkeypatch.setattr(Recipe, "for_smoke", lambda self: replace(self, sizes=(16, 16)))

    found = run(TINY, real.rt).record
    assert found["epochs"] == 2 and not found["is_real"] and found["reference_rate"] is None
    assert not real.timed.called and list(tmp_path.iterdir()) == []


def test_a_smoke_run_takes_a_slice_of_every_split():
    """About five hundred to train on and a hundred to judge by; of fewer pictures, all."""
    store = toy_shapes("train", count=700, size=16)
    taken = [len(running._about(count, store)) for count in (1000, 500, 300, 100)]
    assert taken == [700, 700, 350, 100]


def test_a_slice_has_its_share_of_each_class_where_the_classes_take_turns():
    """As in tune: every fifth picture of all would be of two classes in ten."""
    store = toy_shapes("tune", count=500, size=16)
    store = replace(store, labels=np.tile(np.arange(10), 50))

    part = running._about(100, store)
    assert np.bincount(part.labels).tolist() == [10] * 10
