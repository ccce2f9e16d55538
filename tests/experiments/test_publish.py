"""``python -m course_lib.publish``: a finished run becomes a file that create_model loads."""

import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from small import SMOKE, TINY

from course_lib import publish as command
from course_lib import runtime
from course_lib.data import BatchLoader
from course_lib.experiments import RECIPES, SWEEPS, find_recipe, recipe, run
from course_lib.experiments.kept import Kept
from course_lib.experiments.recipe import trial
from course_lib.files import CourseError
from course_lib.models import create_model, model_options, weights_card
from course_lib.models import weights as weight_files
from course_lib.training import Extras, evaluate

NAMED = replace(
    TINY,
    name="named",
    model="resnet20",
    model_options={"shortcut": "A"},
    sizes=(16, 24),
    extras=Extras(averaging=0.9),
)


@pytest.fixture
def here(real, monkeypatch):
    """Pictures that pass for real, a network of the course, and a folder in place of its own."""
    monkeypatch.setattr(recipe, "create_model", create_model)
    monkeypatch.setattr(recipe, "model_options", model_options)
    monkeypatch.setitem(RECIPES, "named", NAMED)
    monkeypatch.setattr(runtime, "setup", lambda profile, seed: replace(real.rt, seed=seed))

    for module in (command, weight_files):
        monkeypatch.setattr(module, "weights_home", lambda: real.folder.parent / "weights")
    return real


def refused(capsys, said, *arguments):
    assert command.main(list(arguments or ["named"])) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


# --- what is kept ---------------------------------------------------------------------------------


def test_a_run_becomes_weights_with_a_card(here, capsys):
    """The averaged weights of that seed, for this recipe averages, and the accuracy it has seen."""
    finished = run(NAMED, here.rt, seed=1, quiet=True)
    assert command.main(["named", "--seed", "1"]) == 0

    said = capsys.readouterr().out
    assert "resnet20_tinyimagenet.safetensors: 0.6 MB; top-1 " in said

    model = create_model("resnet20", weights="tinyimagenet")
    for name, value in finished.model.state_dict().items():
        kept = model.state_dict()[name]
        assert torch.equal(kept, value.half().float() if value.ndim > 1 else value), name

    card = weights_card("resnet20", "tinyimagenet")
    record = finished.record
    assert card["official_top1"] == record["final"]["val_top1"]
    assert card["classes"] == here.stores["tune"].classes
    assert card["num_classes"] == len(card["classes"])
    assert (card["recipe"], card["seed"], card["picture_size"]) == ("named", 1, 24)
    assert card["model_options"]["shortcut"] == "A"
    assert card["torch"] == torch.__version__ and card["dataset"] == record["dataset"]


def test_the_card_tells_what_tune_says_of_both_precisions(here):
    finished = run(NAMED, here.rt, quiet=True)
    _, card = command.keep_weights(NAMED, here.rt, command.weights_home())

    loader = BatchLoader(here.stores["tune"], 40, augment=False)
    loader.picture_size = 24
    kept = create_model("resnet20", weights="tinyimagenet")
    assert card["tune_top1"] == evaluate(finished.model, loader).top1
    assert card["tune_top1_half"] == evaluate(kept, loader).top1


def test_the_official_pictures_are_not_looked_at_again(here, stores):
    run(NAMED, here.rt, quiet=True)
    stores({"tune": here.stores["tune"]})
    assert command.main(["named"]) == 0


# --- what is not ----------------------------------------------------------------------------------


def test_a_run_that_is_not_over_is_told_with_the_command_that_trains_it(here, capsys):
    said = "has no finished run of named, seed 3, profile cpu: train it with python -m "
    refused(capsys, f"{said}course_lib.train named --seed 3 --profile cpu", "named", "--seed", "3")


def test_a_run_whose_checkpoint_is_gone_is_not_over(here, capsys):
    run(NAMED, here.rt, quiet=True)
    Kept(here.folder, NAMED, here.rt).checkpoint.path.unlink()
    refused(capsys, "has no finished run of named")


def test_in_the_profile_smoke_nothing_was_kept(here):
    with pytest.raises(CourseError, match=r"profile smoke: train it .* --profile cpu"):
        command.keep_weights(NAMED, SMOKE, here.folder)


@pytest.mark.parametrize(
    "asked", [trial(NAMED, "slow", "a lower rate", lr=0.01), next(iter(SWEEPS.values()))]
)
def test_what_never_saw_the_official_pictures_is_refused(here, asked):
    with pytest.raises(CourseError, match=f"{asked.name} never looks at the official split"):
        command.keep_weights(asked, here.rt, here.folder)


def test_ctrl_c_ends_with_a_word_and_no_traceback(here, monkeypatch, capsys):
    monkeypatch.setattr(command, "keep_weights", Mock(side_effect=KeyboardInterrupt))
    assert command.main(["named"]) == 130
    assert capsys.readouterr().err.strip() == "stopped"


def test_an_unknown_recipe_is_told_with_the_nearest(here, capsys):
    refused(capsys, "nearest names are tiny_imagenet", "tiny_imagent")


def test_toy_shapes_are_refused(here, stores, drawn, capsys):
    run(NAMED, here.rt, quiet=True)
    stores(drawn)
    refused(capsys, "these pictures are toy shapes")


def test_a_file_that_is_too_large_is_refused(here, monkeypatch, capsys):
    run(NAMED, here.rt, quiet=True)
    monkeypatch.setattr(command, "LARGEST_FILE", 500_000)
    refused(capsys, "resnet20 takes 0.6 MB in half precision")
    assert not command.weights_home().exists()


def test_a_network_that_half_precision_changes_is_refused(here, stores, capsys):
    """Its head tells classes apart by less than half precision can: 1/16 between 64 and 128."""
    run(NAMED, here.rt, quiet=True)
    path = Kept(here.folder, NAMED, here.rt).checkpoint.path
    state = torch.load(path, weights_only=True)
    weights = state["trainer"]["average"]
    rows = torch.arange(10.0)[:, None]
    weights["module.fc.weight"] = (100 + 0.003 * rows).expand(10, 64).clone()  # the last one wins
    weights["module.fc.bias"] = 0.001 * (rows[:, 0] == 0)  # or, where they are equal, the first
    torch.save(state, path)

    tune = here.stores["tune"]
    stores({"tune": replace(tune, labels=np.full_like(tune.labels, 9))})
    said = "half precision changes the top-1 of named on tune from 100.00% to "
    refused(capsys, said)
    assert not command.weights_home().exists()


def test_the_networks_of_the_course_fit_into_a_file():
    """In bytes: two a weight, and a little for names."""
    for name in ("tiny_imagenet", "grid_session", "grid_lambda", "imagenette_session_lambda"):
        asked = find_recipe(name)
        model = create_model(asked.model, 200, **asked.model_options)
        assert len(weight_files.pack(model.state_dict())) < command.LARGEST_FILE


def test_a_card_is_plain_json(here):
    run(NAMED, here.rt, quiet=True)
    path, card = command.keep_weights(NAMED, here.rt, command.weights_home())
    assert json.loads(path.with_suffix(".json").read_text()) == card
