"""A trained network comes back from its checkpoint or its record."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import TINY, SmallNet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_lib.experiments import (
    GRID,
    RECIPES,
    STUDIES,
    SWEEPS,
    TRIALS,
    find_recipe,
    load,
    run,
    trained,
)
from course_lib.files import CourseError
from course_lib.models import create_model
from course_lib.training import Extras, fit

AVERAGED = replace(TINY, extras=Extras(averaging=0.9))


@pytest.fixture
def small_by_name(small, monkeypatch):
    """The small network, for those too who ask for it by the name in the settings."""
    monkeypatch.setattr(trained, "create_model", lambda name, **options: SmallNet(1000, **options))


def files(folder, ending):
    return [path for path in folder.iterdir() if path.name.partition(".")[2] == ending]


def same_weights(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# --- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [TINY, AVERAGED], ids=["last weights", "averaged weights"])
@pytest.mark.parametrize("ending", ["pt", "json"])
def test_a_run_gives_its_network_back_ready_to_classify(real, small_by_name, recipe, ending):
    """With the very weights of the run's own end, averaged if it averaged."""
    finished = run(recipe, real.rt)
    (path,) = files(real.folder, ending)

    model = load(str(path))
    assert same_weights(model, finished.model) and not model.training

    x = torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(model(x), finished.model.eval()(x))


def test_a_record_that_lies_elsewhere_finds_its_checkpoint_among_the_runs(
    real, small_by_name, tmp_path
):
    finished = run(TINY, real.rt)
    record = tmp_path / "cpu-seed0.json"
    record.write_text(json.dumps(finished.record))
    assert same_weights(load(record), finished.model)


@pytest.mark.parametrize(
    "name", ["tiny_imagenet", "cifar10_resnet20", "cifar10_lambda_resnet18_modern"]
)
def test_the_settings_of_a_recipe_are_enough_to_build_its_network(name, tmp_path):
    """As a file holds them, with lists for tuples, and with the classes counted by the head."""
    recipe = find_recipe(name)
    model = recipe.build_model(7, torch.device("cpu")).eval()
    path = keep(tmp_path, model, json.loads(json.dumps(recipe.settings())))

    found = load(path)
    x = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert found(x).shape == (2, 7) and torch.equal(found(x), model(x))


def test_the_settings_of_every_recipe_name_a_network():
    recipes = [
        *(RECIPES | TRIALS | STUDIES | GRID).values(),
        *(each.recipe for each in SWEEPS.values()),
    ]
    every = [recipe.settings() for recipe in recipes]
    networks = {json.dumps([each["model"], each["model_options"]]) for each in every}

    for name, options in map(json.loads, networks):
        with torch.device("meta"):
            create_model(name, 10, **options)


def test_weights_of_a_fit_without_a_recipe_come_back_too(tmp_path):
    pictures = TensorDataset(torch.randn(8, 4), torch.arange(8) % 2)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    loader = DataLoader(pictures, 4)
    path = tmp_path / "a.pt"
    extras = Extras(averaging=0.5)
    fit(model, loader, loader, optimizer=optimizer, epochs=2, extras=extras, checkpoint=path)

    with pytest.raises(CourseError, match=r"a\.pt is of a training without a recipe.*weights"):
        load(path)

    again = nn.Linear(4, 2)
    again.load_state_dict(trained.weights(path))
    assert same_weights(again, model)


# --- what does not --------------------------------------------------------------------------------


def keep(folder, model, settings):
    """A checkpoint as a run leaves one, as far as its network goes."""
    path = folder / "kept.pt"
    torch.save({"trainer": {"model": model.state_dict()}, "identity": {"settings": settings}}, path)
    return path


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_a_file_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, write in (("zip.pt", torch.save), ("pickle.pt", _pickle)):
        write({"trainer": Harmful(), "identity": {}}, tmp_path / name)
        with pytest.raises(CourseError, match=f"{name} cannot be read as a checkpoint"):
            load(tmp_path / name)
    assert not (tmp_path / "harm").exists()


def _pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04", b"\x80\x02."])
def test_a_file_that_is_none_is_named_and_nobody_is_told_to_delete_it(tmp_path, content):
    path = tmp_path / "notes.pt"
    path.write_bytes(content)
    with pytest.raises(CourseError, match=r"notes\.pt cannot be read as a checkpoint") as caught:
        load(path)
    assert "elete" not in str(caught.value)


def test_a_checkpoint_that_was_cut_is_named(tmp_path):
    path = keep(tmp_path, nn.Linear(100, 100), None)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(CourseError, match=r"kept\.pt cannot be read"):
        load(path)


@pytest.mark.parametrize(
    "name, said",
    [("nowhere.pt", "No such file"), ("tiny_imagenet", "No such file"), (".", "Is a directory")],
)
def test_where_there_is_no_file_that_is_said(tmp_path, name, said):
    with pytest.raises(CourseError, match=f"cannot be read as a checkpoint .{said}"):
        load(tmp_path / name)


def test_plain_weights_are_no_checkpoint_of_a_training(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CourseError, match=r"weights\.pt is not a checkpoint of a training"):
        load(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"model": "resnet19"}, "unknown model 'resnet19'.*resnet18"),
        ({"model_options": {"gone": 1}}, "no option 'gone'"),
    ],
)
def test_a_network_that_is_unknown_today_is_named_with_the_nearest(tmp_path, change, said):
    settings = find_recipe("cifar10_resnet20").settings()
    path = keep(tmp_path, create_model("resnet20", 10), settings | change)
    with pytest.raises(CourseError, match=f"another network than there are today: .*{said}"):
        load(path)


@pytest.mark.parametrize(
    "other", [lambda: create_model("resnet32", 10), lambda: nn.Linear(2, 2)], ids=["32", "linear"]
)
def test_weights_that_do_not_fit_are_said_in_one_line(tmp_path, other):
    path = keep(tmp_path, other(), find_recipe("cifar10_resnet20").settings())
    with pytest.raises(CourseError, match=r"kept\.pt do not fit resnet20 as it is today") as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [None, "{", "[]", '{"ratio": 3}'])
def test_a_json_that_is_no_record_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    if content:
        path.write_text(content)
    with pytest.raises(CourseError, match=r"a\.json is not the record of a run, or is not there"):
        load(path)


def test_a_record_whose_checkpoint_is_gone_says_where_it_was_sought(real, tmp_path):
    record = tmp_path / "cpu-seed0.json"
    record.write_text(json.dumps(run(TINY, real.rt).record))
    (checkpoint,) = files(real.folder, "pt")
    checkpoint.unlink()

    with pytest.raises(CourseError) as caught:
        load(record)
    said = str(caught.value)
    assert str(record.with_suffix(".pt")) in said and str(checkpoint) in said
    assert "course_lib.train tiny --profile cpu --seed 0" in said
