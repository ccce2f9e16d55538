"""What a suggestion is worth: arithmetic on a sweep that nobody trained."""

import math

import numpy as np
import pytest
from made_up import sweep

from course_lib.files import CourseError
from course_lib.training import grades, lr_finder


def row_of(record, method="minimum"):
    (row,) = [row for row in grades.grade(record) if row["method"] == method]
    return row


def test_every_method_is_graded_in_the_order_of_the_suggestions():
    record = sweep()
    test = record["range_test"]
    suggested = lr_finder.suggestions(test["lrs"], test["losses"])
    assert {row["method"]: row["rate"] for row in grades.grade(record)} == suggested


def test_the_best_rate_is_that_of_the_lowest_tune_loss_and_not_of_the_luckiest_top1():
    record = sweep({0.1: 0.61, 0.2: 0.6})
    for trained, loss in zip(record["runs"], (1.2, 1.1), strict=True):
        trained["history"][-1]["val_loss"] = loss
    assert grades.best_rate(record) == 0.2

    diverged = sweep({0.1: 0.5, 0.2: None})
    assert grades.best_rate(diverged) == 0.1


def test_where_every_training_diverged_there_is_no_best_rate():
    with pytest.raises(CourseError, match="no training of sweeps.sgd_imagenette reached its end"):
        grades.best_rate(sweep({0.1: None, 0.2: None}))


def test_a_rate_that_was_trained_is_worth_what_it_reached():
    """The lowest loss of the test lies at 2^39."""
    row = row_of(sweep({2.0**38: 0.7, 2.0**39: 0.4, 2.0**40: 0.1}))
    assert row["rate"] == 2.0**39 and row["factor"] == pytest.approx(2)
    assert row["top1"] == pytest.approx(0.4) and row["cost"] == pytest.approx(0.3)


def test_between_two_rates_it_is_a_straight_line_over_the_logarithm():
    """2^39 lies three quarters of the way from 2^36 to 2^40."""
    row = row_of(sweep({2.0**36: 0.8, 2.0**40: 0.4}))
    assert row["top1"] == pytest.approx(0.5) and row["factor"] == pytest.approx(8)
    assert row_of(sweep({2.0**40: 0.4, 2.0**36: 0.8})) == row, "in whatever order they were trained"


def test_towards_a_training_that_diverged_accuracy_falls_to_nothing():
    row = row_of(sweep({2.0**38: 0.6, 2.0**40: None}))
    assert row["top1"] == pytest.approx(0.3) and row["cost"] == pytest.approx(0.3)
    assert grades.reached(sweep({2.0**38: 0.6, 2.0**40: None})) == ([2.0**38, 2.0**40], [0.6, 0])


def test_beyond_the_ends_of_a_sweep_it_is_what_the_end_reached():
    assert row_of(sweep({2.0**40: 0.6, 2.0**41: 0.5}))["top1"] == 0.6
    assert row_of(sweep({2.0**30: 0.6, 2.0**31: 0.5}))["top1"] == 0.5


def test_a_method_that_suggests_nothing_is_worth_no_number():
    for row in grades.grade(sweep(losses=np.linspace(1, 2, 60))):
        assert all(math.isnan(row[key]) for key in ("rate", "factor", "top1", "cost"))
