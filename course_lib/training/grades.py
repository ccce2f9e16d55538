"""What the suggestions of a range test were worth, by the trainings of a sweep over the rates.

A record of a sweep, as ``python -m course_lib.train`` writes it, holds under ``runs`` the peak rate
(``lr``) and the ``history`` of each training, empty for one that diverged; and under ``range_test``
the ``lrs`` and ``losses`` of the test before them.
"""

import math

import numpy as np

from course_lib.files import CourseError
from course_lib.training import lr_finder

NEAR = 3  # times higher or lower than the best rate, or less: a good suggestion


def best_rate(record: dict) -> float:
    """The peak rate that ended with the lowest loss on the tune split.

    By loss and not by accuracy: on 500 pictures this has a standard error of two points, more than
    the rates of a plateau differ by. Raises CourseError where no training reached its end.
    """
    finished = [each for each in record["runs"] if each["history"]]
    if not finished:
        raise CourseError(f"no training of {record['sweep']} reached its end: sweep lower rates")

    best = min(finished, key=lambda each: each["history"][-1]["val_loss"])
    return best["lr"]


def reached(record: dict) -> tuple[list[float], list[float]]:
    """(peak rates, tune top-1 after each), rates rising. One that diverged counts as 0."""
    runs = sorted(record["runs"], key=lambda each: each["lr"])
    rates = [each["lr"] for each in runs]
    top1 = [each["history"][-1]["val_top1"] if each["history"] else 0.0 for each in runs]
    return rates, top1


def grade(record: dict) -> list[dict]:
    """What each way to read the range test of a sweep was worth: a row for each method.

    method, rate: as ``lr_finder.suggestions`` gives them. factor: rate over the best rate. top1:
    what the sweep reached at that rate, between two that were trained on a straight line over the
    logarithm, beyond the ends what was reached there; 0..1. cost: how much less than the highest.
    All but the method are NaN where it suggests none.
    """
    test = record["range_test"]
    suggested = lr_finder.suggestions(test["lrs"], test["losses"])

    best = best_rate(record)
    rates, top1 = reached(record)

    rows = []
    for method, rate in suggested.items():
        there = float(np.interp(math.log(rate), np.log(rates), top1))
        rows.append(
            {
                "method": method,
                "rate": rate,
                "factor": rate / best,
                "top1": there,
                "cost": max(top1) - there,
            }
        )
    return rows
