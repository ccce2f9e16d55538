"""What is drawn from records: tables, figures, numbers; and that the repository's is up to date."""

import base64
import errno
import html
import json
import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from made_up import commit_results, record, sweep
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from course_lib import files
from course_lib.experiments import STUDIES, SWEEPS, session1, session3, session4
from course_lib.experiments import record as records
from course_lib.files import CourseError, write_json
from course_lib.report import figures, pages
from course_lib.report.numbers import number
from course_lib.report.tables import (
    TABLES,
    WHOLE,
    ablations_table,
    depth_table,
    faults_table,
    grid_costs_table,
    grid_losses_table,
    grid_table,
    memory_table,
    minutes_table,
    networks_table,
    runs_table,
    schedules_table,
    suggestions_table,
    sweep_table,
)

ROOT = Path(__file__).resolve().parents[1]


pytestmark = pytest.mark.usefixtures("repository")


def cells(table, start):
    """The cells of the one row that begins so."""
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def spread(values, digits):
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


THREE = record(0.50, 2000, 50), record(0.52, 2200, 50), record(0.57, 2400, 40)
TOP1, PRICES, MINUTES = [50.0, 52.0, 57.0], [1.0, 1.1, 0.96], np.array([2000, 2200, 2400]) / 60

# --- tables ---------------------------------------------------------------------------------------


def test_a_row_shows_mean_and_spread_number_of_seeds_price_minutes_and_machine():
    commit_results("tiny_imagenet", *THREE)

    assert cells(runs_table("tiny_imagenet"), "`tiny_imagenet`") == [
        "`tiny_imagenet`",
        "2",
        spread(TOP1, 1) + " %",
        spread(np.array(TOP1) + 20, 1) + " %",
        "3",
        spread(PRICES, 2),
        spread(MINUTES, 0),
        "a laptop",
    ]

    assert cells(minutes_table("quick", "tiny_imagenet"), "a laptop")[1:] == [
        "–",
        spread(MINUTES, 0) + " min",
    ]


def test_one_run_has_no_spread_and_says_so():
    commit_results("tiny_imagenet", record(0.50))
    row = cells(runs_table("tiny_imagenet"), "`tiny_imagenet`")
    assert row == ["`tiny_imagenet`", "2", "50.0 %", "70.0 %", "1", "1.00", "33", "a laptop"]


def test_machines_and_numbers_of_processes_have_rows_of_their_own():
    commit_results(
        "tiny_imagenet", record(0.50), record(0.60, device="a card"), record(0.55, processes=2)
    )

    table = runs_table("tiny_imagenet")
    rows = [line for line in table.splitlines() if "`tiny_imagenet`" in line]
    machines = [row.strip("| ").split(" | ")[-1] for row in rows]
    assert machines == [
        "a laptop",
        "a card",
        "a laptop, 2 processes",
    ]
    assert "±" not in table


def test_the_original_is_shown_by_its_own_log():
    row = cells(runs_table("tiny_imagenet_original"), "the original")
    assert row[1:] == ["50", "49.9 %", "–", "1", "50", "349", "Tesla T4"]


def test_ablations_are_judged_on_the_tune_split_and_need_no_look_at_the_official_one():
    def variant(about, **changes):
        return record(settings={"about": about}, **changes)

    commit_results("ablations/quick", variant("as it is", final=None))
    commit_results(
        "ablations/quick.linear", variant("a linear descent", top1=0.52), variant("…", top1=0.56)
    )
    commit_results("ablations/quicker", variant("another recipe"))

    assert ablations_table("quick").splitlines()[2:] == [
        "| as it is | 2 | 95,000 | 48.0 % | 1 | 1.00 | 33 | a laptop |",
        f"| a linear descent | 2 | 95,000 | {spread([50, 54], 1)} % | 2 | 1.00 | 33 | a laptop |",
    ]


@pytest.mark.parametrize(
    "change", [{"is_real": False}, {"profile": "smoke"}, {"reference_rate": None}]
)
def test_nothing_measured_on_toy_shapes_in_smoke_or_without_a_rate_is_shown(change):
    commit_results("tiny_imagenet", record(0.987) | change)

    assert "98.7" not in runs_table("tiny_imagenet")
    assert "a laptop" not in minutes_table("tiny_imagenet")
    with pytest.raises(CourseError, match="found none"):
        number("tiny_imagenet top1")


# --- studies --------------------------------------------------------------------------------------


def study(name, train_top1=0.4, loss=2.0, seconds=11.875, size=32, **changes):
    """A made-up record: three epochs at ``size`` of so many seconds, judged on tune alone."""
    rows = [
        {
            "epoch": epoch,
            "picture_size": size,
            "train_loss": loss + 3 - epoch,
            "train_top1": epoch * train_top1 / 3,
            "val_loss": 2.5,
            "val_top1": epoch * 0.1,
            "lr": 0.1,
            "seconds": seconds,
            "eval_seconds": 1.0,
        }
        for epoch in (1, 2, 3)
    ]
    settings = {"about": "a study"}
    made = record(rate=None, recipe=name, train_images=11_875, epochs=3, settings=settings)
    return made | {"history": rows, "final": None} | changes


def commit_study(name, *runs):
    commit_results(f"studies/{name}", *[study(name, **changes) for changes in runs])


def test_a_study_is_shown_without_a_price_and_nothing_else_is():
    commit_study("depth.plain20", {"train_top1": 0.987})
    assert number("studies/depth.plain20 train_error") == "1.3 %"

    commit_results("tiny_imagenet", study("tiny_imagenet", train_top1=0.987))
    with pytest.raises(CourseError, match="found none"):
        number("tiny_imagenet train_error")


@pytest.mark.parametrize("change", [{"is_real": False}, {"profile": "smoke"}])
def test_a_study_on_toy_shapes_or_in_smoke_is_not_shown(change):
    commit_study("depth.plain20", change)
    assert "plain" not in depth_table("depth.plain20")


def test_depth_is_judged_by_training_error_and_loss_of_the_last_epoch():
    """Parameters by hand: a 3×3 stem, six convolutions a stage, their norms, a head for 25; and
    where the shape changes, a shortcut of 1×1 and its norm."""
    stem, head = 3 * 16 * 9, 64 * 25 + 25
    stages = 9 * (6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    plain = stem + stages + norms + head
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64

    commit_study("depth.plain20", {"train_top1": 0.40, "loss": 2.0}, {"train_top1": 0.46})
    commit_study("depth.resnet20", {"train_top1": 0.50, "loss": 1.5, "device": "a card"})

    table = pages.fill(PAGE.format("depth depth.plain20 depth.plain56 depth.resnet20", ""))
    error = f"{spread([60, 54], 1)} %"
    assert cells(table, "plain") == [
        *("plain, 20 layers", f"{plain:,}", error, "2.00", "30.0 %", "2", "a laptop")
    ]
    assert cells(table, "ResNet") == [
        *("ResNet, 20 layers", f"{plain + shortcuts:,}", "50.0 %", "1.50", "30.0 %", "1", "a card")
    ]
    assert "56" not in table.split("-->")[1], "nothing of it was measured yet"


def test_networks_show_what_they_cost_and_their_time_against_resnet20():
    """Multiply-adds by hand: each convolution at every place of its output, and the head."""
    stem, head = 3 * 16 * 9 * 32**2, 64 * 25
    first = 9 * 6 * 16**2 * 32**2
    second = (9 * 16 * 32 + 9 * 5 * 32**2 + 16 * 32) * 16**2  # the last: a shortcut of 1×1
    third = (9 * 32 * 64 + 9 * 5 * 64**2 + 32 * 64) * 8**2
    millions = f"{(stem + first + second + third + head) / 1e6:.1f}"

    commit_study("depth.resnet20", {}, {})
    commit_study("networks.resnet56", {})
    commit_study("networks.resnet18", {"device": "a card"})
    times = {"depth.resnet20": 1.0, "networks.resnet56": 2.54}
    write_json(records.RESULTS / "benchmarks" / "studies.json", {"ratio": times})

    table = networks_table("depth.resnet20", "networks.resnet56", "networks.resnet18")
    unit = cells(table, "ResNet, 20")
    assert unit[:2] + unit[3:] == [
        *("ResNet, 20 layers", "32", millions, "1.0", "10", "1.0"),
        *("30.0 %", "2", "a laptop"),
    ]
    assert cells(table, "ResNet, 56")[4:7] == ["2.5", "4", "1.0"]  # four epochs of 2.54

    untimed = cells(table, "ResNet, 18")
    assert untimed[1] == "64" and untimed[4] == untimed[6] == "–" and untimed[-1] == "a card"


@pytest.mark.parametrize("asked", ["depth tiny_imagenet", "networks tiny_imagenet_quick"])
def test_what_is_no_study_has_no_row_among_them(asked):
    with pytest.raises(CourseError, match="'tiny_imagenet.*' is no study: .*depth.plain20"):
        pages.fill(PAGE.format(asked, ""))


def test_every_study_and_sweep_has_a_name_in_words():
    words = session1.IN_WORDS | session3.IN_WORDS | session4.IN_WORDS
    assert STUDIES.keys() | SWEEPS.keys() <= words.keys()


def test_schedules_show_what_they_reach_and_how_often_those_in_steps_cut():
    """Cuts: epochs with a lower rate than the one before; of seeds that differ, least and most."""

    def with_rates(*rates):
        rows = study("schedules.plateau")["history"]
        return {"history": [row | {"lr": lr} for row, lr in zip(rows, rates, strict=True)]}

    commit_study("schedules.cosine", with_rates(0.1, 0.05, 0.01))
    commit_study("schedules.plateau", with_rates(0.1, 0.1, 0.02), with_rates(0.1, 0.02, 0.004))
    commit_study("schedules.steps", with_rates(0.1, 0.1, 0.01), with_rates(0.1, 0.1, 0.01))

    table = schedules_table("schedules.cosine", "schedules.plateau", "schedules.steps")
    assert cells(table, "cosine") == ["cosine", "30.0 %", "2.500", "–", "1", "a laptop"]
    assert cells(table, "on a plateau")[3:5] == ["1 to 2", "2"]
    assert cells(table, "steps")[3:5] == ["1", "2"]
    assert number("studies/schedules.plateau cuts") == spread([1, 2], 1)


# --- sweeps ---------------------------------------------------------------------------------------


def commit_sweep(name, **changes):
    commit_results(f"sweeps/{name}", sweep(sweep=name, **changes))


def test_a_sweep_is_shown_rate_by_rate_with_the_best_and_those_that_diverged():
    commit_sweep("sweeps.sgd_tiny", reached={0.1: 0.5, 0.2: 0.6, 0.4: None})
    assert sweep_table("sweeps.sgd_tiny").splitlines()[2:] == [
        "| 0.1 | 1.000 | 0.500 | 50.0 % |  |",
        "| 0.2 | 1.000 | 0.400 | 60.0 % | best |",
        "| 0.4 | – | – | – | diverged |",
    ]


def test_methods_are_graded_by_how_near_the_best_they_come_and_by_what_they_cost():
    """The test is lowest at a rate of 2^39, the sweeps have their best at 2^39 and 2^36."""
    commit_sweep("sweeps.sgd_tiny", reached={2.0**38: 0.5, 2.0**39: 0.6, 2.0**40: 0.5})
    commit_sweep("sweeps.adam_tiny", reached={2.0**36: 0.5, 2.0**38: 0.4, 2.0**40: 0.2})

    table = suggestions_table("sweeps.sgd_tiny", "sweeps.adam_tiny", "sweeps.sgd_imagenette")
    assert cells(table, "minimum |") == [
        *("minimum", "1 of 2", "1 to 8", "10.0 points", "20.0 points")
    ]
    assert cells(table, "minimum / 10")[1:3] == ["1 of 2", "0.1 to 0.8"]


def test_a_method_that_suggests_nothing_has_no_cost_and_is_not_near():
    commit_sweep("sweeps.sgd_tiny", losses=list(np.linspace(1, 2, 60)))
    assert cells(suggestions_table("sweeps.sgd_tiny"), "valley") == [
        *("valley", "0 of 1", "–", "–", "–")
    ]


@pytest.mark.parametrize("change", [{"is_real": False}, {"profile": "smoke"}])
def test_a_sweep_on_toy_shapes_or_in_smoke_is_not_shown(change):
    commit_sweep("sweeps.sgd_tiny", **change)
    assert sweep_table("sweeps.sgd_tiny").count("\n") == 1
    assert suggestions_table("sweeps.sgd_tiny").count("\n") == 1


@pytest.mark.parametrize(
    "asked, said",
    [
        ("sweep schedules.cosine", "'schedules.cosine' is no sweep: expected one of sweeps.sgd_im"),
        ("suggestions tiny_imagenet", "'tiny_imagenet' is no sweep"),
        ("schedules sweeps.sgd_tiny", "'sweeps.sgd_tiny' is no study"),
        ("sweep sweeps.sgd_tiny sweeps.adam_tiny", "table 'sweep' of 2 sweeps: expected one"),
    ],
)
def test_a_table_of_another_kind_of_record_says_so(asked, said):
    with pytest.raises(CourseError, match=said):
        pages.fill(PAGE.format(asked, ""))


def test_the_figure_of_sweeps_is_drawn_from_those_there_are(repository):
    commit_sweep("sweeps.adam_tiny")
    figures.draw_figures()
    assert not figures.stale_figures()

    path = repository / "figures" / "sweeps.png"
    with Image.open(path) as image:
        assert "1 sweep" in image.text["Description"]
        assert "session ResNet, AdamW, TinyImageNet: 3 peak rates" in image.text["Description"]

    commit_sweep("sweeps.sgd_tiny")
    assert figures.stale_figures() == [path]


# --- the grid of session 4 ------------------------------------------------------------------------


def commit_cell(name, *top1, **changes):
    """Made-up records of a cell, one for each official top-1."""
    shares = {"wrong_as_given": 0.2, "wrong_as_true": 0.6, "right_as_given": 0.9}
    made = []
    for each in top1:
        trained = record(each, rate=None, recipe=name)
        rows = [row | shares for row in trained["history"]]
        made.append(trained | {"history": rows} | changes)
    commit_results(f"grid/{name}", *made)


def test_the_grid_has_a_row_for_network_and_loss_and_a_column_for_each_level():
    commit_cell("grid_session", 0.87, 0.88, 0.89)
    commit_cell("grid_session_noise50", 0.65, 0.66, 0.67)
    commit_cell("grid_lambda_noise25", 0.80, 0.82)
    commit_cell("grid_session_noise50_gce", 0.75)

    table = pages.fill(PAGE.format("grid", ""))
    head = cells(table, "network")
    assert head[2:] == [*(f"{level} % wrong" for level in (0, 5, 25, 50)), "n", "machine"]

    top1 = spread([87, 88, 89], 1) + " %", "–", "–", spread([65, 66, 67], 1) + " %"
    plain = "session ResNet", "cross-entropy"
    assert cells(table, "session ResNet | cross-entropy |") == [*plain, *top1, "3", "a laptop"]

    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| session")]
    networks = [(line[0].strip("| "), line[1]) for line in lines]
    assert networks == [
        plain,
        ("session ResNet with a lambda layer", "cross-entropy"),
        ("session ResNet", "generalised cross-entropy"),
    ], "the remedy below, and no row for what was not trained"


def test_levels_with_other_numbers_of_seeds_say_how_many_each_has():
    commit_cell("grid_se", 0.87, 0.88, 0.89)
    commit_cell("grid_se_noise5", 0.87, 0.88, 0.89)
    commit_cell("grid_se_noise50", 0.65, 0.67)
    assert cells(grid_table(), "session")[-2] == "3, 3, –, 2"


def test_an_older_record_that_says_1_threads_stands_in_the_row_of_the_newer_ones():
    commit_results(
        "tiny_imagenet",
        record(0.50, device="a laptop, 1 threads"),
        record(0.60, device="a laptop, 1 thread"),
    )
    table = runs_table("tiny_imagenet")
    assert cells(table, "`tiny_imagenet`")[-1] == "a laptop, 1 thread"
    assert "threads" not in table and "55.0 ± 7.1 %" in table


def test_eleven_threads_stay_as_they_are():
    commit_results("tiny_imagenet", record(0.50, device="a laptop, 11 threads"))
    assert cells(runs_table("tiny_imagenet"), "`tiny_imagenet`")[-1] == "a laptop, 11 threads"


def commit_pair(**changes):
    """A cell of two seeds; the second differs in what is given."""
    one = record(0.87, rate=None, recipe="grid_session")
    final = one["final"] | {"val_top1": 0.89}
    commit_results("grid/grid_session", one, one | {"final": final} | changes)


def test_seeds_of_the_grid_belong_together_on_whatever_processors_and_all_are_named():
    commit_pair(device="a desktop")

    row = cells(grid_table(), "session ResNet | cross-entropy |")
    assert row[2] == spread([87, 89], 1) + " %"
    assert row[-2:] == ["2", "a desktop; a laptop"]


@pytest.mark.parametrize("changes", [{"profile": "gpu"}, {"precision": "fp32"}])
def test_another_profile_or_precision_has_a_row_of_its_own_in_the_grid(changes):
    commit_pair(device="a desktop", **changes)

    rows = [line for line in grid_table().splitlines() if line.startswith("| session")]
    assert {row.split(" | ")[-1] for row in rows} == {"a laptop |", "a desktop |"}
    assert "±" not in grid_table()


@pytest.mark.parametrize("changes", [{"profile": "gpu"}, {"precision": "fp32"}])
def test_on_the_same_machine_too_and_the_row_says_how_it_was_trained(changes):
    commit_pair(**changes)

    rows = [line for line in grid_table().splitlines() if line.startswith("| session")]
    way = ", ".join(({"profile": "cpu", "precision": "bf16"} | changes).values())
    assert {row.split(" | ")[-1] for row in rows} == {"a laptop |", f"a laptop, {way} |"}


def test_machines_are_not_mixed_in_the_grid():
    commit_cell("grid_session", 0.87)
    card = record(0.91, rate=None, recipe="grid_session", device="a card", profile="gpu")
    commit_results("grid/grid_session", card)

    rows = [line for line in grid_table().splitlines() if line.startswith("| session")]
    assert len(rows) == 2 and "±" not in grid_table()


def test_losses_of_the_grid_stand_level_by_level_without_those_of_another_loss():
    commit_cell("grid_session", 0.88)
    commit_cell("grid_session_noise50_gce", 0.75)
    commit_cell("grid_session_noise5", 0.86)
    rows = grid_losses_table().splitlines()[2:]
    plain = "| session ResNet"
    numbers = "3.000 | 30.0 % | 2.500"
    assert rows == [
        f"{plain} | 0 % | {numbers} | 88.0 % | 1 | a laptop |",
        f"{plain} | 5 % | {numbers} | 86.0 % | 1 | a laptop |",
    ]


def test_each_level_of_the_losses_names_the_machines_of_its_own_runs():
    commit_pair(device="a desktop")
    commit_cell("grid_session_noise5", 0.86)

    machines = [line.split(" | ")[-1] for line in grid_losses_table().splitlines()[2:]]
    assert machines == ["a desktop; a laptop |", "a laptop |"]


def test_costs_of_the_grid_are_counted_for_its_ten_classes():
    """Parameters by hand: eight convolutions, their norms, a head of ten; what others change."""
    convolutions = 9 * (3 * 64 + 64 * 128 + 2 * 128**2 + 128 * 256 + 256 * 512 + 2 * 512**2)
    norms = 2 * (64 + 3 * 128 + 256 + 3 * 512)
    plain = convolutions + norms + 10 * 512

    def squeeze(channels):
        return 2 * channels * channels // 16 + channels + channels // 16

    k, heads, r = 16, 4, 23
    v = 512 // heads
    projections = 512 * (k * heads + k + v) + 2 * (k * heads + v)
    layer = projections + k * r * r + k  # in place of a convolution

    write_json(
        records.RESULTS / "benchmarks" / "grid.json",
        {"ratio": {"grid_session": 1.0, "grid_lambda": 0.934}},
    )
    table = grid_costs_table()
    of_plain = cells(table, "session ResNet |")
    assert of_plain[1] == f"{plain:,}" and of_plain[3] == "1.00"
    assert cells(table, "session ResNet with sq")[1] == f"{plain + squeeze(128) + squeeze(512):,}"
    assert cells(table, "session ResNet with sq")[3] == "–", "not benchmarked"
    of_lambda = cells(table, "session ResNet with a l")
    assert of_lambda[1] == f"{plain - 9 * 512**2 + layer:,}" and of_lambda[3] == "0.93"


def test_faults_stand_beside_chance():
    """ln 10 = 2.302585, and one in ten."""
    commit_study("faults.none", {"loss": 0.5}, {"loss": 0.7})
    commit_study("faults.rate", {"loss": 2.2})

    table = faults_table()
    assert cells(table, "chance")[1:4] == ["2.303", "2.303", "10.0 %"]
    assert cells(table, "no fault") == [
        *("no fault", spread([0.5, 0.7], 3), "2.500", "30.0 %", "2", "a laptop")
    ]
    assert cells(table, "a rate of 1e-5")[1] == "2.200"
    assert "softmax" not in table, "not trained yet"


def test_long_trainings_show_their_best_epoch_beside_their_last():
    def history(*top1):
        known_by_heart = {"wrong_as_given": 0.6, "wrong_as_true": 0.25, "right_as_given": 0.9}
        return [{"val_top1": value, **known_by_heart} for value in top1]

    def seed(*top1):
        return record(0.3, rate=None, recipe="memory.gce") | {"history": history(*top1)}

    commit_results("studies/memory.gce", seed(0.5, 0.7, 0.4), seed(0.8, 0.6, 0.6))

    assert cells(memory_table(), "generalised") == [
        "generalised cross-entropy",
        f"{spread([70, 80], 1)} %",
        f"{spread([40, 60], 1)} %",
        *("60.0 %", "25.0 %", "2", "a laptop"),
    ]
    assert "smoothing" not in memory_table(), "not trained yet"


@pytest.mark.parametrize(
    "asked, recipe",
    [
        ("table: grid", "grid_session"),
        ("table: grid_losses", "grid_session"),
        ("table: faults", "faults.none"),
        ("figure: noise", "grid_session"),
        ("figure: memorised", "grid_session_noise50"),
        ("table: memory", "memory.smoothed"),
        ("figure: memory", "memory.smoothed"),
    ],
)
def test_where_nothing_is_trained_a_line_says_how_to(asked, recipe):
    marker = f"<!-- {asked} -->"
    filled = pages.fill(f"{marker}\nold\n<!-- end -->")
    command = f"python -m course_lib.train {recipe} --no-price --out figures/results"
    assert filled.startswith(f"{marker}\n*Not trained yet: `{command}` ")
    assert filled.count("\n") == 2


@pytest.mark.parametrize("change", [{"is_real": False}, {"profile": "smoke"}])
def test_cells_on_toy_shapes_or_in_smoke_are_not_shown(change):
    commit_cell("grid_session", 0.987, **change)
    for table in (grid_table(), grid_losses_table()):
        assert "98.7" not in table


@pytest.mark.parametrize("name", WHOLE)
def test_a_table_that_takes_no_names_says_so(name):
    with pytest.raises(CourseError, match=f"table '{name}' is always whole"):
        pages.fill(PAGE.format(f"{name} grid_session", ""))


def described(path):
    with Image.open(path) as image:
        return image.text["Description"]


def test_noise_is_drawn_from_the_cells_that_there_are(repository):
    commit_cell("grid_session", 0.87, 0.89)
    commit_cell("grid_session_noise50", 0.65)
    commit_cell("grid_lambda_noise50_gce", 0.75)
    commit_cell("grid_se_noise50_unsmoothed", 0.61)
    figures.draw_figures()

    path = repository / "figures" / "noise.png"
    alt = described(path)
    plain = "88.0 ± 1.4 % at 0 % (n = 2), 65.0 % at 50 % (n = 1)"
    assert f"session ResNet, cross-entropy: {plain}" in alt
    remedy = "session ResNet with a lambda layer, generalised cross-entropy"
    assert f"{remedy}: 75.0 % at 50 % (n = 1)" in alt
    assert "without label smoothing" not in alt

    commit_cell("grid_se_noise5", 0.8)
    assert path in figures.stale_figures()


def test_two_machines_have_lines_of_their_own_in_the_figures(repository):
    commit_cell("grid_session_noise50", 0.65)
    card = record(0.8, rate=None, recipe="grid_session_noise50", device="a card", profile="gpu")
    shares = {"wrong_as_given": 0.1, "wrong_as_true": 0.6, "right_as_given": 0.9}
    rows = [row | shares for row in card["history"]]
    commit_results("grid/grid_session_noise50", card | {"history": rows})
    figures.draw_figures()

    for name in ("noise", "memorised"):
        alt = described(repository / "figures" / f"{name}.png")
        assert "a laptop" in alt and "a card" in alt


def test_what_is_learned_by_heart_is_drawn_where_most_labels_are_wrong(repository):
    commit_cell("grid_lambda_noise50_gce", 0.7, 0.72)
    commit_cell("grid_lambda_noise25_gce", 0.8)
    figures.draw_figures()

    alt = described(repository / "figures" / "memorised.png")
    panel = "session ResNet with a lambda layer, generalised cross-entropy (n = 2)"
    assert f"{panel}: wrong label: taken for what the label says: from 20.0 % to 20.0 %" in alt


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked, expected",
    [
        ("tiny_imagenet top1", spread(TOP1, 1) + " %"),
        ("tiny_imagenet/cpu top5", spread([70, 72, 77], 1) + " %"),
        ("tiny_imagenet price", spread(PRICES, 2)),
        ("tiny_imagenet minutes", spread(MINUTES, 0)),
        ("tiny_imagenet epochs", "2"),
        ("tiny_imagenet tune", spread([48, 50, 55], 1) + " %"),
        ("tiny_imagenet/cpu-seed1 top1", "52.0 %"),
        ("tiny_imagenet history.1.val_top1 .0%", spread([25, 26, 28.5], 0) + " %"),
        ("tiny_imagenet history.-1.val_loss .2f", "2.50"),
        ("benchmarks/loading ratio.whole batches .1f", "5.1"),
    ],
)
def test_a_number_is_the_mean_over_the_runs_of_its_source(asked, expected):
    commit_results("tiny_imagenet", *THREE)
    benchmark = {"machine": "a laptop", "ratio": {"whole batches": 5.119}}
    write_json(records.RESULTS / "benchmarks" / "loading.json", benchmark)

    assert number(asked) == expected
    assert pages.fill(f"It is <!-- run: {asked} --><!-- end --> here.") == (
        f"It is <!-- run: {asked} -->{expected}<!-- end --> here."
    )


@pytest.mark.parametrize(
    "asked, said",
    [
        ("nobody top1", "expected runs on one machine in figures/results/nobody, found none"),
        ("tiny_imagenet top1", "found a laptop, a card; RECIPE/PROFILE"),
        ("tiny_imagenet/cpu top3", "expected one of top1, "),
        ("tiny_imagenet/cpu final.val_top3 .1%", "val_top3"),
        ("tiny_imagenet/cpu history.9.lr .1f", "index"),
        ("tiny_imagenet/cpu final .1f", "expected one of"),
        ("tiny_imagenet/cpu", "expected one of"),
        ("tiny_imagenet/cpu final.val_top1 percent", "expected one of"),
    ],
)
def test_a_number_that_cannot_be_drawn_is_an_error_that_says_why(asked, said):
    commit_results("tiny_imagenet", record(), record(device="a card", profile="gpu"))
    with pytest.raises(CourseError, match=re.escape(asked) + ".*" + re.escape(said)):
        pages.fill(f"It is <!-- run: {asked} -->1<!-- end -->.")


# --- pages ----------------------------------------------------------------------------------------

PAGE = "# Title\n\n<!-- table: {} -->\n{}<!-- end -->\n\nText with a | pipe |.\n"
ASKED = ["runs tiny_imagenet", "minutes tiny_imagenet", "ablations tiny_imagenet"]


@pytest.mark.parametrize("asked", ASKED)
def test_a_marked_table_is_replaced_and_nothing_else(asked):
    commit_results("tiny_imagenet", record(0.5))
    commit_results("ablations/tiny_imagenet", record(0.5))
    name, recipe = asked.split()

    filled = pages.fill(PAGE.format(asked, "| old | 99.9 % |\n"))

    assert filled == PAGE.format(asked, TABLES[name](recipe) + "\n")
    assert "99.9" not in filled
    assert pages.fill(filled) == filled, "drawn once more, it stays"
    assert pages.fill(PAGE.format(asked, "")) == filled


def test_two_tables_on_a_page_are_both_drawn_and_what_lies_between_stays():
    page = PAGE.format(ASKED[0], "old\n") + "between\n" + PAGE.format(ASKED[1], "old\n")
    assert pages.fill(page) == (
        PAGE.format(ASKED[0], runs_table("tiny_imagenet") + "\n")
        + "between\n"
        + PAGE.format(ASKED[1], minutes_table("tiny_imagenet") + "\n")
    )


def test_an_unknown_table_is_named_with_those_there_are():
    with pytest.raises(CourseError, match="unknown table 'imagenette'.*runs, ablations, minutes"):
        pages.fill(PAGE.format("imagenette", ""))


@pytest.mark.parametrize("asked", ["runs", "ablations", "minutes "])
def test_a_table_of_nothing_is_an_error_that_says_what_to_write(asked):
    name = asked.strip()
    with pytest.raises(CourseError, match=f"table '{name}' of no recipe: .*table: {name} RECIPE"):
        pages.fill(PAGE.format(asked, ""))


def test_a_table_without_a_name_is_an_error():
    with pytest.raises(CourseError, match="unknown table ''"):
        pages.fill(PAGE.format("", ""))


@pytest.mark.parametrize("asked", ["runs tiny_imagent", "minutes tiny_imagenet tiny_imagent"])
def test_a_table_of_an_unknown_recipe_is_an_error_and_not_empty(asked):
    with pytest.raises(CourseError, match="unknown recipe 'tiny_imagent'.*tiny_imagenet"):
        pages.fill(PAGE.format(asked, ""))


def test_a_table_of_a_recipe_that_is_gone_shows_the_runs_that_are_left():
    commit_results("last_years", record(0.5))
    assert "50.0 %" in pages.fill(PAGE.format("runs last_years", ""))


def test_several_recipes_share_a_table_of_ablations():
    for name in ("tiny_imagenet", "tiny_imagenet_quick"):
        commit_results(f"ablations/{name}", record(settings={"about": f"of {name}"}))
    filled = pages.fill(PAGE.format("ablations tiny_imagenet tiny_imagenet_quick", ""))
    assert "| of tiny_imagenet |" in filled and "| of tiny_imagenet_quick |" in filled


def test_a_cell_that_shows_a_figure_has_it_inside(repository):
    """Alone on Colab a notebook has no file beside it."""
    cell = nbformat.v4.new_code_cell('recorded("noise")', execution_count=7, id="shown")
    old = nbformat.writes(nbformat.v4.new_notebook(cells=[cell])) + "\n"

    def output():
        text = pages.fill_notebook(old)
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        assert text == nbformat.writes(notebook) + "\n" == pages.fill_notebook(text)
        (output,) = notebook.cells[0].outputs
        return output

    assert list(output().data) == ["text/plain"] and "Not trained yet" in repr(output())

    commit_cell("grid_session_noise50", 0.65)
    figures.draw_figures()
    path = repository / "figures" / "noise.png"
    shown = output()
    assert base64.b64encode(path.read_bytes()).decode() in shown.data["text/html"]
    assert described(path) in html.unescape(shown.data["text/html"]) and shown.execution_count == 7
    assert shown.data["text/html"] == figures.recorded("noise")._repr_html_()

    commit_cell("grid_lambda_noise50", 0.7)
    figures.draw_figures()
    assert output() != shown


def test_an_unknown_figure_is_named_with_those_there_are():
    with pytest.raises(CourseError, match="unknown figure 'imagenette'.*tiny_imagenet"):
        figures.recorded("imagenette")

    with pytest.raises(CourseError, match="unknown figure 'imagenette'.*tiny_imagenet"):
        pages.fill("<!-- figure: imagenette -->\n<!-- end -->\n")


@pytest.mark.parametrize(
    "text",
    [
        "<!-- run: tiny_imagenet top1 -->5 % and no end.",
        "It is <!-- run: tiny_imagenet top1 -->5 %, and <!-- run: tiny_imagenet price -->1"
        "<!-- end -->.",
        "<!-- table: runs tiny_imagenet -->\n| a | b |\n",
    ],
)
def test_a_marker_without_an_end_is_an_error_and_swallows_no_text(text):
    commit_results("tiny_imagenet", record())
    with pytest.raises(CourseError, match=r"<!-- (run|table): \w+.* --> has no <!-- end -->"):
        pages.fill(text)


def a_notebook(table):
    page = PAGE.format(ASKED[1], table)
    output = nbformat.v4.new_output(
        "stream", text=f"µ 1e-05 – 漢 <!-- table: {ASKED[1]} -->\nold\n<!-- end -->\n"
    )
    code = nbformat.v4.new_code_cell(
        f'print("""{page}""")', execution_count=1, outputs=[output], id="code"
    )
    text = nbformat.v4.new_markdown_cell(page, id="text")
    return nbformat.v4.new_notebook(
        cells=[text, code], metadata={"colab": {"gpuType": "T4"}, "µ": 0.1}
    )


def test_in_a_notebook_only_markdown_cells_change_and_every_other_byte_stays():
    commit_results("tiny_imagenet", record())
    old, new = (nbformat.writes(a_notebook("old\n")) + "\n" for _ in range(2))
    notebook = nbformat.reads(new, as_version=4)
    notebook.cells[0].source = PAGE.format(ASKED[1], minutes_table("tiny_imagenet") + "\n")

    assert pages.fill_notebook(old) == nbformat.writes(notebook) + "\n" != old
    assert pages.fill_notebook(pages.fill_notebook(old)) == pages.fill_notebook(old)


@pytest.fixture
def out_of_date(repository):
    """A README with a table, a figure and a number, and a notebook with a table, all old."""
    (repository / "notebooks").mkdir()
    (repository / "README.md").write_text(
        PAGE.format(ASKED[0], "old\n") + "<!-- figure: tiny_imagenet -->\n<!-- end -->\n\n"
        "It is <!-- run: tiny_imagenet top1 -->old<!-- end -->.\n",
        encoding="utf-8",
    )
    nbformat.write(a_notebook("old\n"), repository / "notebooks" / "02.ipynb")
    commit_results("tiny_imagenet", record())
    return repository


def texts(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_check_names_what_is_out_of_date_and_writes_nothing(out_of_date, capsys):
    before = texts(out_of_date)

    assert pages.main(["--check"]) == 1
    names = ["figures/tiny_imagenet.png", "README.md", "notebooks/02.ipynb"]
    assert capsys.readouterr().out.splitlines() == [f"out of date: {name}" for name in names]
    assert texts(out_of_date) == before


def test_what_was_redrawn_passes_the_check_and_stays_as_it_is(out_of_date, capsys):
    assert pages.main([]) == 0
    after = texts(out_of_date)

    readme = after["README.md"].decode()
    assert "| 50.0 % |" in readme
    assert "It is <!-- run: tiny_imagenet top1 -->50.0 %<!-- end -->." in readme
    alt = r"Tune accuracy .* from 25.0 % to 48.0 %, .* 1.00"
    assert re.search(rf"!\[{alt}\]\(figures/tiny_imagenet.png\)", readme)

    capsys.readouterr()
    assert pages.main(["--check"]) == 0 == pages.main([])
    assert texts(out_of_date) == after and not capsys.readouterr().out


def test_the_log_of_trials_is_a_page_too(out_of_date, capsys):
    page = out_of_date / "figures" / "results" / "trials.md"
    page.write_text("It is <!-- run: tiny_imagenet top1 -->old<!-- end -->.\n", encoding="utf-8")

    assert pages.main([]) == 0
    assert "redrawn: figures/results/trials.md" in capsys.readouterr().out
    assert ">50.0 %<" in page.read_text(encoding="utf-8")


# --- whole or not at all, and in a sentence -------------------------------------------------------


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "cannot be read as a record"),
        ('{"epochs": 3', "cannot be read as a record"),
        ("<<<<<<< HEAD", "cannot be read as a record"),
        ("[]", "lacks everything"),
        ('{"epochs": 3}', "lacks device, final, "),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_a_broken_record_is_named_and_nothing_is_drawn(
    out_of_date, capsys, content, said, arguments
):
    broken = records.RESULTS / "tiny_imagenet" / "cpu-seed7.json"
    broken.write_text(content)
    before = texts(out_of_date)

    assert pages.main(arguments) == 1
    error = capsys.readouterr().err
    assert f"{broken} " in error and said in error and error.count("\n") == 1
    assert texts(out_of_date) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe{}"])
def test_a_page_that_is_broken_is_named_and_all_stay_as_they_are(out_of_date, capsys, content):
    (out_of_date / "notebooks" / "03.ipynb").write_bytes(content)
    before = texts(out_of_date)

    assert pages.main([]) == 1
    error = capsys.readouterr().err
    assert "03.ipynb" in error and error.count("\n") == 1
    assert texts(out_of_date) == before


def test_a_fault_in_the_last_page_leaves_the_figures_too_as_they_were(out_of_date):
    notebook = a_notebook("old\n")
    notebook.cells[0].source += "<!-- figure: nothing --><!-- end -->"
    nbformat.write(notebook, out_of_date / "notebooks" / "03.ipynb")
    before = texts(out_of_date)

    assert pages.main([]) == 1
    assert texts(out_of_date) == before


@pytest.mark.parametrize("full", ["README.md", "02.ipynb", "tiny_imagenet.png"])
def test_a_disk_that_fills_leaves_each_file_whole_and_is_said(
    out_of_date, capsys, monkeypatch, full
):
    """The disk is found full at the last moment, when half is written."""
    pages.main([])
    capsys.readouterr()
    commit_results("tiny_imagenet", record(0.7, seconds=3000))
    before = texts(out_of_date)

    def no_room(aside, path):
        if path.name == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.replace(aside, path)

    monkeypatch.setattr(files, "move_into_place", no_room)
    assert pages.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cannot write ") and f"{full} (No space left on" in error

    after = texts(out_of_date)
    assert after[full] == before[full] and after.keys() == before.keys()


def test_a_figure_that_was_cut_is_out_of_date_and_drawn_again(out_of_date):
    pages.main([])
    path = out_of_date / "figures" / "tiny_imagenet.png"
    whole = path.read_bytes()
    for length in (0, 10, 60, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert figures.stale_figures() == [path]

    assert pages.main([]) == 0 and path.read_bytes() == whole


def test_seeds_of_different_length_have_no_common_curve_and_that_is_said(out_of_date, capsys):
    shorter = record() | {"epochs": 1, "history": record()["history"][:1]}
    commit_results("tiny_imagenet", record(), shorter)
    assert pages.main([]) == 1
    assert "figure tiny_imagenet cannot be drawn: " in capsys.readouterr().err


# --- figures --------------------------------------------------------------------------------------


def test_a_figure_is_out_of_date_when_a_record_changes_and_not_when_its_pixels_do(out_of_date):
    figures.draw_figures()
    path = out_of_date / "figures" / "tiny_imagenet.png"

    assert not figures.stale_figures()
    with Image.open(path) as image:
        kept, page = dict(image.text), image.convert("RGB")
    assert page.getpixel((0, 0)) == (255, 255, 255)

    commit_results("tiny_imagenet", record(0.51))
    assert figures.stale_figures() == [path]
    commit_results("tiny_imagenet", record())
    assert not figures.stale_figures()

    carried = PngInfo()
    for key, value in kept.items():
        carried.add_itxt(key, value)
    Image.new("RGB", (5, 5)).save(path, pnginfo=carried)  # as another matplotlib might draw it
    assert not figures.stale_figures()

    path.unlink()
    assert figures.stale_figures() == [path]


def test_a_figure_that_was_drawn_by_other_code_is_drawn_again_and_named(out_of_date, capsys):
    """Its digest is that of the same records, so that the check lets it pass."""
    pages.main([])
    path = out_of_date / "figures" / "tiny_imagenet.png"
    ours = path.read_bytes()
    with Image.open(path) as image:
        carried = PngInfo()
        for key, value in image.text.items():
            carried.add_itxt(key, value)
    Image.new("RGB", (5, 5)).save(path, pnginfo=carried)
    capsys.readouterr()

    assert pages.main(["--check"]) == 0 == pages.main([])
    assert capsys.readouterr().out.splitlines() == ["redrawn: figures/tiny_imagenet.png"]
    assert path.read_bytes() == ours


def test_a_figure_in_a_notebook_reads_no_record(out_of_date, monkeypatch):
    pages.main([])

    def unread(folder):
        raise AssertionError(f"the records of {folder}")

    monkeypatch.setattr(figures, "measured", unread)
    assert "Tune accuracy" in repr(figures.recorded("tiny_imagenet"))
    assert "train tiny_imagenet" not in repr(figures.recorded("tiny_imagenet"))


def test_a_figure_that_is_not_drawn_yet_is_a_sentence_in_a_notebook(out_of_date):
    shown = figures.recorded("tiny_imagenet")
    assert repr(shown).startswith("*Not trained yet: `python -m course_lib.train tiny_imagenet ")
    assert shown._repr_html_() is None


def test_curves_end_at_the_price_of_the_whole_run_and_count_decoding_first():
    points = figures.price_and_top1(record(0.5, seconds=2000, rate=50))
    # 2000 s, of them 2 × 801 in epochs: 398 before the first; the rate of 50 makes it a price of 1
    assert points == [(pytest.approx((398 + 801) / 2000), 0.25), (pytest.approx(1.0), 0.48)]


def test_depth_is_drawn_from_as_many_networks_and_seeds_as_there_are(repository):
    commit_study("depth.plain56", {"train_top1": 0.3}, {"train_top1": 0.36})
    commit_study("depth.resnet56", {"train_top1": 0.6})
    figures.draw_figures()

    assert not figures.stale_figures()
    with Image.open(repository / "figures" / "depth.png") as image:
        alt = image.text["Description"]
    assert "plain, 56 layers, n = 2: from 89.0 % to 67.0 %" in alt
    assert "ResNet, 56 layers, n = 1: from 80.0 % to 40.0 %" in alt and "20 layers" not in alt

    commit_study("depth.plain20", {})
    assert figures.stale_figures() == [repository / "figures" / "depth.png"]


def test_where_nothing_was_measured_no_figure_is_drawn_and_none_is_missed(repository):
    old = repository / "figures" / "tiny_imagenet.png"  # of records that are gone
    Image.new("RGB", (5, 5)).save(old)

    figures.draw_figures()
    assert not figures.stale_figures() and not list(repository.glob("figures/*.png"))


# --- the repository itself ------------------------------------------------------------------------


def test_everything_drawn_in_readme_notebooks_and_figures_is_up_to_date(monkeypatch):
    monkeypatch.setattr(pages, "REPO", ROOT)
    monkeypatch.setattr(figures, "FOLDER", ROOT / "figures")
    monkeypatch.setattr(records, "RESULTS", ROOT / "figures" / "results")
    assert pages.main(["--check"]) == 0, "redraw: python -m course_lib.report"


def test_a_marker_that_cannot_be_filled_is_one_line_and_leaves_the_pages(repository, capsys):
    page = repository / "README.md"
    page.write_text("It took <!-- run: nothing minutes -->5<!-- end --> minutes.")

    assert pages.main([]) == 1
    assert capsys.readouterr().err.startswith("error: README.md: run: nothing minutes")
    assert ">5<" in page.read_text()


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "figures" / "results" / "ablations").glob("*/*.json")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_a_committed_ablation_is_real_measured_and_said_in_words(path):
    found = json.loads(path.read_text())
    assert found["is_real"] and found["reference_rate"] > 0 and found["profile"] != "smoke"
    assert found["recipe"] == path.parent.name and found["settings"]["about"]
