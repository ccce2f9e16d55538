"""The records in figures/results: whole, real, in their place, and of the recipes as they stand."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from small import check_localization, check_record, check_rows, check_sweep

from course_lib.data import Augment
from course_lib.experiments import (
    GRID,
    RECIPES,
    STUDIES,
    SWEEPS,
    TRIALS,
    Recipe,
    Sweep,
    find_recipe,
    record,
)
from course_lib.experiments.kept import run_name
from course_lib.experiments.localize import IN_WORDS
from course_lib.training import Extras

RESULTS = Path(__file__).resolve().parents[2] / "figures" / "results"


def named(paths):
    return {"argvalues": paths, "ids": [f"{path.parent.name}/{path.name}" for path in paths]}


OF_OTHER_KINDS = ("benchmarks", "localization")
RUNS = [path for path in sorted(RESULTS.glob("*/*.json")) if path.parent.name not in OF_OTHER_KINDS]
OF_MAPS = sorted((RESULTS / "localization").glob("*.json"))
OF_STUDIES = sorted((RESULTS / "studies").glob("*/*.json"))
OF_THE_GRID = sorted((RESULTS / "grid").glob("*/*.json"))
OF_SWEEPS = sorted((RESULTS / "sweeps").glob("*/*.json"))
OF_TODAY = [
    path
    for path in sorted(RESULTS.rglob("*.json"))
    if path.parent.name in RECIPES | TRIALS | STUDIES | GRID | SWEEPS
]


@pytest.mark.parametrize("path", **named(RUNS))
def test_every_committed_record_is_whole_real_and_in_its_place(path):
    found = json.loads(path.read_text())
    check_record(found)
    check_place(found, path)
    assert found["reference_rate"] > 0


@pytest.mark.parametrize("path", **named(OF_STUDIES))
def test_a_committed_study_is_whole_real_in_its_place_and_judged_on_tune_alone(path):
    found = json.loads(path.read_text())
    check_rows(found)
    check_place(found, path)
    assert path.parent.name in STUDIES
    assert found["final"] is None and found["val_images"] is None


@pytest.mark.parametrize("path", **named(OF_THE_GRID))
def test_a_committed_cell_is_whole_real_in_its_place_and_counts_what_was_learned_by_heart(path):
    found = json.loads(path.read_text())
    check_record(found)
    check_place(found, path)
    assert path.parent.name in GRID

    level = found["settings"]["data_options"]["noise"]
    assert found["noise"] == level
    assert found["wrong_labels"] == pytest.approx(level / 100, abs=2e-3)
    for row in found["history"]:
        assert (row["wrong_as_given"] is None) == (row["wrong_as_true"] is None) == (level == 0)


@pytest.mark.parametrize("name", sorted({path.parent.name for path in OF_STUDIES}))
def test_a_committed_study_is_of_one_machine_and_three_seeds_where_it_compares(name):
    found = [record.read(path) for path in OF_STUDIES if path.parent.name == name]
    seeds = sorted(each["seed"] for each in found)

    # a fault changes an accuracy by tens of points; a loss that stands alone is compared with none
    losses = {path.parent.name for path in OF_STUDIES if path.parent.name.startswith("memory.")}
    one_is_enough = name.startswith("faults.") or losses == {name}
    assert seeds == list(range(len(seeds) if one_is_enough else 3))
    assert len({(each["profile"], each["device"], each["processes"]) for each in found}) == 1


CARDS = sorted((RESULTS.parents[1] / "data" / "weights").glob("*.json"))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_the_run_behind_published_weights_is_committed(path):
    card = json.loads(path.read_text())
    runs = RESULTS.rglob(f"{card['recipe']}/{card['profile']}-seed{card['seed']}.json")
    reached = [record.read(run)["final"]["val_top1"] for run in runs]
    assert card["official_top1"] in reached


@pytest.mark.parametrize("path", **named(OF_SWEEPS))
def test_a_committed_sweep_is_whole_real_in_its_place_and_of_the_rates_as_they_stand(path):
    found = json.loads(path.read_text())
    check_sweep(found)
    assert found["is_real"] and found["profile"] != "smoke"
    assert found["sweep"] == path.parent.name
    assert path.stem == f"{found['profile']}-seed{found['seed']}"

    sweep = SWEEPS[found["sweep"]]
    assert [each["lr"] for each in found["runs"]] == list(sweep.rates)
    assert (found["range_test"]["start"], found["range_test"]["end"]) == (sweep.start, sweep.end)
    assert any(each["history"] for each in found["runs"])


@pytest.mark.parametrize("path", **named(OF_MAPS))
def test_committed_grades_of_maps_are_whole_in_their_place_and_beside_their_baselines(path):
    found = json.loads(path.read_text())
    check_localization(found)
    assert found["profile"] != "smoke"
    assert path.stem == f"{found['weights']}-{found['picture_size']}px"

    assert found["is_real"] == (found["dataset"] != "toy shapes")
    assert found["truth"] == ("boxes" if found["is_real"] else "masks")
    assert found["maps"].keys() <= IN_WORDS.keys()
    assert {"chance", "middle"} < found["maps"].keys()


@pytest.mark.parametrize(
    "path", **named([p for p in OF_MAPS if p.name == "session_resnet_tinyimagenet-64px.json"])
)
def test_maps_of_the_course_are_graded_on_the_whole_official_set_by_seven_methods(path):
    found = json.loads(path.read_text())
    whole = [key for key, each in found["maps"].items() if each["n"] == 10_000]
    assert len(set(whole) - {"chance", "middle"}) >= 7


def check_place(found, path):
    assert found["is_real"] and found["dataset"] != "toy shapes"
    assert found["profile"] != "smoke"

    assert found["recipe"] == path.parent.name
    assert path.stem == f"{found['profile']}-seed{found['seed']}"

    sizes = [row["picture_size"] for row in found["history"]]
    assert sizes == list(found["settings"]["sizes"])
    assert [row["epoch"] for row in found["history"]] == list(range(1, found["epochs"] + 1))


# What older records hold besides, at the value at which it did nothing: SGD and not Muon, whose
# inner filters turned at a share of the rate; augmentation from the first epoch on; no flat part.
GONE = {"optimizer": "sgd", "turn": 0.1, "strong_from": 0, "flat": 0.0}


def recipe_of(settings, kind=Recipe):
    """The recipe that a record was made with.

    What an older record lacks was at its default then, which is still today's.
    """
    assert {key: settings.get(key, value) for key, value in GONE.items()} == GONE
    values = {key: value for key, value in settings.items() if key not in GONE}

    names = {each.name for each in fields(Extras)}
    extras = values.pop("extras", {key: values.pop(key) for key in names & values.keys()})
    augment = values.pop("augment", {})

    return kind(**values, augment=Augment(**augment), extras=Extras(**extras))


@pytest.mark.parametrize("path", **named(OF_TODAY))
def test_committed_runs_were_made_with_the_recipe_as_it_stands(path):
    settings = json.loads(path.read_text())["settings"]
    recipe = recipe_named(path.parent.name)
    made_with = recipe_of({"about": ""} | settings, type(recipe))
    assert made_with.settings() == recipe.settings()


@pytest.mark.parametrize("path", **named([p for p in OF_STUDIES if "schedules." in str(p)]))
def test_forms_of_a_schedule_that_come_later_leave_the_files_of_the_others_as_they_are(path):
    """A run is found again by its settings, to the letter: a new default makes another file."""
    found = json.loads(path.read_text())
    made_with = {key: value for key, value in found["settings"].items() if key != "about"}
    recipe = STUDIES[found["recipe"]]

    names = [
        run_name(recipe.name, found["profile"], found["seed"], settings)
        for settings in (made_with, recipe.settings())
    ]
    assert names[0] == names[1]


def recipe_named(name):
    found = find_recipe(name)
    return found.recipe if isinstance(found, Sweep) else found


def test_a_record_is_of_the_recipe_that_it_was_made_with():
    """The way back from the settings in a record, of all there are."""
    for recipe in map(recipe_named, RECIPES | TRIALS | STUDIES | GRID | SWEEPS):
        settings = recipe.settings() | {"about": recipe.about}
        assert recipe_of(settings, type(recipe)).settings() == recipe.settings()


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
    found = json.loads((RESULTS / "benchmarks" / f"{benchmark}.json").read_text())
    for key in ratio.split("."):
        found = found[key]
    assert least <= found <= most
