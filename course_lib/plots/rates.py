"""Range tests, and what the rates that they suggest are worth."""

import math
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from course_lib.files import CourseError
from course_lib.plots import words
from course_lib.plots.charts import INK, PALE, look
from course_lib.plots.picture import Picture, house_style, large_letters, two_in_a_row
from course_lib.training import grades, lr_finder

# --- sweeps ---------------------------------------------------------------------------------------


@house_style
@large_letters
def sweeps(records: Mapping[str, dict]) -> Picture:
    """A panel for each sweep: accuracy against the peak rate, and where each suggestion falls.

    records: title → the record of a sweep. The band holds the rates that count as good: within a
    factor of 3 of the best one. Raises ValueError for no record.
    """
    if not records:
        raise ValueError("sweeps(): expected at least one record of a sweep")

    figure, panels = two_in_a_row(len(records), height=285, ratios=(1.7, 1))
    said = []

    for (curve, strip), (title, record) in zip(panels, records.items(), strict=True):
        best, rows = grades.best_rate(record), grades.grade(record)

        _accuracy_by_rate(curve, record)
        _where_suggestions_fall(strip, rows)
        for ax in (curve, strip):
            ax.axvspan(best / grades.NEAR, best * grades.NEAR, color=PALE, zorder=0)
            ax.axvline(best, color=INK, linestyle=":", linewidth=1.2, zorder=1)

        curve.set_title(textwrap.fill(title, 26))
        said.append(f"{title}: {_in_words(record, best, rows)}")

    for curve, _ in panels[::2]:
        curve.set_ylabel("tune top-1, %")
    for _, strip in panels[-2:]:
        strip.set_xlabel("peak learning rate")
    figure.legend(handles=_meanings(rows), loc="outside lower center", ncols=2)

    count = words.count(records, "sweep")
    return Picture(
        figure,
        f"Tune accuracy against the peak learning rate, {count}, and the rates that a range test "
        f"suggests. {'; '.join(said)}",
    )


def _accuracy_by_rate(ax: Axes, record: dict) -> None:
    """A point for each training; a cross at zero for one that diverged."""
    rates, top1 = map(np.array, grades.reached(record))
    diverged = np.isin(rates, [each["lr"] for each in record["runs"] if not each["history"]])

    ax.plot(rates, 100 * top1, "--", color=INK, linewidth=1.2)
    ax.plot(rates[~diverged], 100 * top1[~diverged], "o-", color=INK)
    ax.plot(rates[diverged], 100 * top1[diverged], "X", color=INK, markersize=9, zorder=3)

    ax.set(ylim=(-6, 110 * max(top1)), xscale="log")
    ax.tick_params(labelbottom=False)


def _where_suggestions_fall(ax: Axes, rows: list[dict]) -> None:
    """A line for each method, the first on top, so that no mark hides another."""
    for index, row in enumerate(rows):
        ax.axhline(index, color="#dddddd", linewidth=0.8, zorder=1)
        ax.plot(row["rate"], index, **_mark(index))

    ax.set(xscale="log", ylim=(len(rows) - 0.3, -0.7), yticks=[])
    ax.grid(visible=False, axis="y")
    _rates_at_powers_of_ten(ax)


def _mark(index: int) -> dict:
    return look(index) | {"markersize": 8, "linestyle": "", "zorder": 3}


def _meanings(rows: list[dict]) -> list:
    """What every mark stands for: the methods from top to bottom, in two columns."""
    trained = Line2D([], [], color=INK, marker="o", label="trained at this rate")
    diverged = Line2D([], [], color=INK, marker="X", markersize=9, linestyle="", label="diverged")
    best = Line2D([], [], color=INK, linestyle=":", linewidth=1.2, label="lowest tune loss")
    near = Patch(color=PALE, label=f"up to {grades.NEAR}× from it")

    methods = [Line2D([], [], label=row["method"], **_mark(i)) for i, row in enumerate(rows)]
    nothing = [Line2D([], [], linestyle="", label=" ")] * (len(methods) - 4)  # fills the column
    return [trained, diverged, best, near, *nothing, *methods]


def _in_words(record: dict, best: float, rows: list[dict]) -> str:
    rates, top1 = grades.reached(record)
    diverged = [each for each in record["runs"] if not each["history"]]
    parts = [
        f"{words.count(rates, 'peak rate')} {words.span(rates)}, top-1 at most "
        f"{words.percent(100 * max(top1))}, lowest loss at {words.number(best)}"
    ]
    if diverged:
        parts.append(f"{words.count(diverged, 'training')} diverged")

    for row in rows:
        rate = "none" if math.isnan(row["rate"]) else words.number(row["rate"])
        parts.append(f"{row['method']} {rate}")
    return ", ".join(parts)


# --- range tests ----------------------------------------------------------------------------------


@house_style
@large_letters
def range_curves(tests: Mapping[str, object]) -> Picture:
    """A panel for each range test: the smoothed loss against the rate, and what is read from it.

    tests: title → an LRRange, or (rates, losses). Where rates rise by equal steps the axis is
    linear, else logarithmic. Raises ValueError for no test, and for rates and losses that do not
    fit.
    """
    if not tests:
        raise ValueError("range_curves(): expected at least one range test")

    curves = {title: _curve(title, test) for title, test in tests.items()}
    figure, panels = two_in_a_row(len(curves), height=215)
    said = []

    for (ax,), (title, (lrs, losses)) in zip(panels, curves.items(), strict=True):
        marks = _marks(lrs, losses)
        ax.plot(lrs, losses, color=INK)
        for name, rate in marks.items():
            at = np.interp(rate, lrs, losses)
            ax.plot(rate, at, **_mark(lr_finder.METHODS.index(name)) | ON_A_CURVE[name])

        # the last losses may be huge: out of sight, so that the descent fills the panel
        descent = max(losses[0] - losses.min(), 0.05)
        top = losses[0] + 0.5 * descent
        ax.set_ylim(losses.min() - 0.25 * descent, min(top, losses.max() + 0.25 * descent))
        if not _is_linear(lrs):
            _rates_at_powers_of_ten(ax)
        ax.set_title(textwrap.fill(title, 26))

        read = ", ".join(f"{name} {words.number(rate)}" for name, rate in marks.items())
        said.append(
            f"{title}: rates {words.span(lrs)}, loss {words.span(losses)}, lowest "
            f"{words.number(losses.min())}; {read or 'the loss does not fall'}"
        )

    for (ax,) in panels[::2]:
        ax.set_ylabel("smoothed loss")
    for (ax,) in panels[-2:]:
        ax.set_xlabel("learning rate")
    names = [
        Line2D([], [], label=name, **_mark(lr_finder.METHODS.index(name))) for name in ON_A_CURVE
    ]
    figure.legend(handles=names, loc="outside lower center")

    return Picture(figure, f"{words.count(tests, 'range test')}. {'. '.join(said)}")


# Smaller ones lie on top of larger ones, each in a white rim: all of them can be seen in one place.
ON_A_CURVE = {
    name: {"markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.8}
    for name, size in (
        ("steepest slope", 18),
        ("steepest slope, lag taken off", 14),
        ("steepest slope, smoothed both ways", 14),
        ("minimum", 8),
    )
}


def _marks(lrs: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Of the suggestions those that name a point of the curve; none where it has too few points,
    or does not fall.
    """
    try:
        found = lr_finder.suggestions(lrs, losses)
    except CourseError:
        return {}
    return {name: found[name] for name in ON_A_CURVE if not math.isnan(found[name])}


def _curve(title: str, test) -> tuple[np.ndarray, np.ndarray]:
    """Rates and losses up to the first loss that is no number."""
    lrs, losses = (test.lrs, test.losses) if hasattr(test, "lrs") else test
    lrs, losses = np.asarray(lrs, float), np.asarray(losses, float)

    if lrs.ndim != 1 or lrs.shape != losses.shape or not (lrs > 0).all():
        raise ValueError(
            f"range_curves(): {title!r} has {lrs.shape} rates and {losses.shape} losses; expected "
            "as many of both, and rates above zero"
        )

    is_none = ~np.isfinite(losses)
    end = int(is_none.argmax()) if is_none.any() else len(losses)
    if not end:
        raise ValueError(f"range_curves(): {title!r} has no loss that is a number")
    return lrs[:end], losses[:end]


def _is_linear(lrs: np.ndarray) -> bool:
    steps = np.diff(lrs)
    return len(steps) > 1 and bool(np.allclose(steps, steps[0], rtol=1e-3))


def _rates_at_powers_of_ten(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=5))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}".replace("e-0", "e-")))
