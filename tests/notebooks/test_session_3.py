"""What session 3 shows of rates, range tests and the library is so."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cells import cell_with, definitions
from rules import ROOT, markdown, read
from torch import nn

from course_lib import runtime
from course_lib.exercises import session3
from course_lib.experiments import STUDIES, SWEEPS
from course_lib.experiments.sweep import committed, grade, reached
from course_lib.training import lr_finder

NOTEBOOK = ROOT / "notebooks" / "03_lr_finder.ipynb"


def shown(*texts):
    """What these cells of the notebook define, the exercises by their references."""
    names = {"nn": nn, "F": F, "torch": torch, "np": np, "math": math, "runtime": runtime}
    names |= {"rt": SimpleNamespace(device=torch.device("cpu"))}
    return definitions(NOTEBOOK, texts, names)


def in_view():
    """The text that a reader sees without opening anything."""
    return re.sub(r"<details>.*?</details>", "", markdown(read(NOTEBOOK)), flags=re.DOTALL)


# --- what a rate does -----------------------------------------------------------------------------


def test_a_valley_holds_up_to_the_limit_that_the_words_name():
    """2 / h without momentum, 2 (1 + m) / h with it: h is 100."""
    steps_down = shown("def steps_down(")["steps_down"]
    for momentum, limit in ((0.0, 0.02), (0.9, 0.038)):
        assert "steps" in steps_down(0.98 * limit, momentum)
        assert steps_down(1.02 * limit, momentum) == "lost"


def test_with_momentum_low_rates_go_about_ten_times_as_fast():
    steps_down = shown("def steps_down(")["steps_down"]
    with_it = int(steps_down(0.0005, 0.9).split()[0])
    without = int(steps_down(0.005, 0.0).split()[0])
    assert with_it == pytest.approx(without, rel=0.1), "a tenth of the rate, as many steps"


def test_the_valley_takes_as_many_steps_as_the_words_say():
    """The flat weight alone counts: the steep one is gone long before."""
    steps = next(n for n in range(1, 10_000) if 0.995 ** (2 * n) / 2 < 1e-4)
    assert f"as plain descent needs at 0.005, which are {steps}." in in_view()

    steps_down = shown("def steps_down(")["steps_down"]
    assert f"at 0.0005 the valley takes {steps_down(0.0005, 0.9)}" in in_view()


def test_decay_under_momentum_needs_as_many_steps_as_the_words_say():
    """Of a weight that nothing else pulls, until a share of 1 / e is left."""
    weight, velocity = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    steps = 0
    while weight.item() > 1 / math.e:
        nothing = torch.zeros_like(weight)
        session3.sgd_step([weight], [nothing], [velocity], 0.1, 0.9, weight_decay=0.0005)
        steps += 1
    assert steps == pytest.approx(2000, rel=0.02)
    assert "at a rate of 0.1 and a decay of 0.0005, these are 2,000" in in_view()


# --- the range test by hand -----------------------------------------------------------------------


def made_up_batches(count=30, size=16):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, size, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (count, size), generator=generator)
    return list(zip(x, labels, strict=True))


@pytest.mark.parametrize("norms", [False, True])
def test_the_test_by_hand_is_the_librarys(norms):
    names = shown("def small_network(", "def range_test(")
    batches, rates = made_up_batches(), session3.range_rates(0.001, 1, 30)

    raw = names["range_test"](names["fresh"](norms=norms), batches, rates)

    def sgd(model):
        return torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)

    found = lr_finder.range_test(names["fresh"](norms=norms), batches, sgd, end_lr=1, steps=30)
    n = len(found.lrs)
    assert found.lrs == pytest.approx(rates[:n], rel=1e-12)
    assert found.losses == pytest.approx(session3.smooth(raw)[:n], rel=1e-5)


# --- the lag --------------------------------------------------------------------------------------


def test_the_lag_of_a_straight_fall_is_19_steps_and_that_of_a_sudden_one_none():
    straight = [2.3] * 30 + [2.3 - 0.01 * step for step in range(300)]
    smoothed = session3.smooth(straight)
    assert smoothed[329] == pytest.approx(straight[329 - 19], abs=1e-4)

    sudden = np.array([2.3] * 60 + [1.3] * 60)
    seen = np.gradient(session3.smooth(sudden.tolist())).argmin()
    assert abs(seen - np.gradient(sudden).argmin()) <= 1


def test_19_steps_are_a_factor_of_about_six():
    factor = 10_000 ** (lr_finder.lag() / 99)
    assert round(factor, 1) == 5.9
    assert round(10 ** (6 * 19 / 99)) == 14, "question 3"


# --- what we saw ----------------------------------------------------------------------------------


def range_test_of(network):
    """The committed range test on Imagenette: (rates, losses), and whether it came to its end."""
    test = committed(f"sweeps.{network}_imagenette")["range_test"]
    return np.array(test["lrs"]), np.array(test["losses"])


def test_what_we_saw_of_three_networks_stands_in_the_records():
    lrs, losses = range_test_of("sgd")
    assert len(lrs) == 100
    assert lrs[losses.argmin()] == pytest.approx(0.24, abs=0.005)
    assert 0.005 < lrs[(losses < losses[0] - 0.03).argmax()] < 0.015, "fell from about 0.01 on"
    past = losses[lrs > 1].max() - math.log(10)
    assert 0.1 < past < 0.5, "past the level of guessing, by a few tenths"
    assert losses[(lrs < 1) & (lrs > 0.24)].max() < math.log(10), "at rates above 1"

    lrs, losses = range_test_of("unnormed")
    assert len(lrs) == 79 and 1e14 < losses[-1] < 1e15, "a number of fifteen digits"
    assert losses[-10] < math.log(10), "some ten steps behind its lowest point"
    assert lrs[losses.argmin()] == pytest.approx(0.3, abs=0.03)

    adam, losses = range_test_of("adam")
    assert len(adam) == 100
    assert adam[losses.argmin()] == pytest.approx(0.013, abs=0.0005)
    given_back = (losses[-1] - losses.min()) / (losses[0] - losses.min())
    assert 0.5 < given_back < 0.65, "a little more than half of its fall"


@pytest.fixture(scope="module")
def graded():
    """Sweep → (method → its row), for all six."""
    return {name: {row["method"]: row for row in grade(committed(name))} for name in SWEEPS}


def lost(graded, method):
    return [rows[method]["cost"] for rows in graded.values()]


def test_half_the_steepest_slope_is_within_a_factor_of_three_of_the_best_in_every_sweep(graded):
    for name, rows in graded.items():
        assert 1 / 3 <= rows["steepest slope"]["factor"] / 2 <= 3, name


def test_half_the_steepest_slope_costs_less_at_worst_and_as_much_in_the_mean(graded):
    whole, half = lost(graded, "steepest slope"), []
    for name, rows in graded.items():
        swept, top1 = reached(committed(name))
        rate = rows["steepest slope"]["rate"] / 2
        half.append(max(top1) - np.interp(math.log(rate), np.log(swept), top1))

    assert (f"{100 * max(half):.1f}", f"{100 * max(whole):.1f}") == ("2.3", "3.0")
    assert f"{100 * np.mean(half):.1f}" == f"{100 * np.mean(whole):.1f}" == "1.3"


def test_the_two_that_lose_least_are_those_that_the_words_name(graded):
    methods = next(iter(graded.values()))
    mean = {method: np.mean(lost(graded, method)) for method in methods}
    both = {"steepest slope", "steepest slope, smoothed both ways"}
    assert set(sorted(mean, key=mean.get)[:2]) == both
    assert abs(np.subtract(*[mean[method] for method in both])) < 0.001, "about the same"

    late, early = ([rows[method]["factor"] for rows in graded.values()] for method in sorted(both))
    assert sum(factor > 3 for factor in late) == 1 and min(late) > 1 / 3
    assert sum(factor < 1 / 3 for factor in early) == 1 and min(early) < 1 / 5 and max(early) < 3


def test_the_whole_lag_is_too_much_in_all_sweeps_but_one(graded):
    steep = lost(graded, "steepest slope")
    corrected = lost(graded, "steepest slope, lag taken off")
    assert sum(one < other for one, other in zip(corrected, steep, strict=True)) == 1


def test_with_norms_the_minimum_is_four_to_thirteen_times_too_high(graded):
    factors = [rows["minimum"]["factor"] for name, rows in graded.items() if "unnormed" not in name]
    assert (round(min(factors)), round(max(factors))) == (4, 13)


def test_without_norms_there_is_a_cliff():
    rates, top1 = reached(committed("sweeps.unnormed_imagenette"))
    assert rates[6] / rates[5] == 2.5 and top1[5] == max(top1) and top1[6] < top1[5] / 2
    assert not committed("sweeps.unnormed_imagenette")["runs"][-1]["history"], "ended in NaN"

    rates, top1 = reached(committed("sweeps.sgd_imagenette"))
    assert rates[-1] / rates[0] == 200


def test_the_highest_rate_without_norms_ended_once_in_nan_and_once_in_a_dead_network():
    assert "the loss is nan" in committed("sweeps.unnormed_imagenette")["runs"][-1]["ended"]

    dead = committed("sweeps.unnormed_tiny")["runs"][-1]
    assert not dead["ended"] and len(dead["history"]) == 3
    for row in dead["history"]:
        assert row["val_loss"] == pytest.approx(math.log(25), abs=0.003), "no better than guessing"


def test_the_schedules_train_at_three_times_the_advice_where_their_sweep_is_flat(graded):
    advice = graded["sweeps.sgd_imagenette"]["steepest slope"]["rate"] / 2
    assert STUDIES["schedules.one_cycle"].lr == 0.1 == pytest.approx(3 * advice, rel=0.15)

    rates, top1 = reached(committed("sweeps.sgd_imagenette"))
    assert max(top1) - top1[rates.index(0.1)] < 0.01


def answers_to(rates, capsys):
    """What the cell of the reader's own rates says to these."""
    cell = re.sub(r"MY_RATES = .*", f"MY_RATES = {rates}", cell_with("MY_RATES = {", NOTEBOOK))
    exec(
        cell, {"SWEEPS": SWEEPS, "committed": committed, "reached": reached, "math": math, "np": np}
    )
    return capsys.readouterr().out.splitlines()


def test_a_rate_that_was_swept_gets_its_accuracy(capsys):
    first, second = answers_to({"with norms, SGD": 2}, capsys)
    for line, data in ((first, "imagenette"), (second, "tiny")):
        _, top1 = reached(committed(f"sweeps.sgd_{data}"))
        assert f"2 reached {top1[-1]:.1%}, the best of the eight {max(top1):.1%}" in line


@pytest.mark.parametrize("rate", [0.5, 1e-5, 0, -1])
def test_a_rate_beyond_those_that_were_swept_gets_none(rate, capsys):
    for line in answers_to({"with norms, AdamW": rate}, capsys):
        assert line.endswith(f"{rate:g} was not swept; the rates go from 0.0001 to 0.02.")


# --- words under a result -------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["not tested", "was not tried", "is not measured here", "TODO"])
def test_nothing_is_left_open_in_words(words):
    assert words not in markdown(read(NOTEBOOK))
