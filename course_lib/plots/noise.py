"""Wrong labels: what they cost, and what a network learns of them by heart."""

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from course_lib.plots import words
from course_lib.plots.charts import DASHES, INK, each_seed, look, mean_in_band
from course_lib.plots.picture import (
    NARROW,
    Picture,
    charts,
    house_style,
    large_letters,
    two_in_a_row,
)

# --- accuracy by noise ----------------------------------------------------------------------------


@house_style
@large_letters
def noise(runs: Mapping) -> Picture:
    """Top-1 against the percentage of wrong labels: the mean of the runs, and every single one.

    runs: name → {percent of wrong labels: the runs at that level}. A run is a record, or its top-1
    in 0..1. A name may be a pair, (network, loss): then lines of one network share a colour, and
    lines of one loss a kind of dashes; marks of the first loss are hollow. Raises ValueError for no
    name, and for one without a run.
    """
    lines = {_pair(name): _by_level(name, levels) for name, levels in runs.items()}
    if not lines:
        raise ValueError("noise(): expected at least one network")

    figure, (ax,) = charts(1, 400, width=NARROW)
    networks, losses = (list(dict.fromkeys(names)) for names in zip(*lines, strict=True))
    said = []

    for (network, loss), levels in lines.items():
        style = look(networks.index(network), losses.index(loss))

        # side by side, so that runs of one network hide none of another
        step = networks.index(network) - (len(networks) - 1) / 2
        _runs_and_mean(ax, levels, 1.3 * step, style | _filled(losses.index(loss), style["color"]))
        said.append(f"{_joined(network, loss)}: {_level_words(levels)}")

    percents = sorted({percent for levels in lines.values() for percent in levels})
    ax.set(xticks=percents, xlabel="wrong labels in the training set, %", ylabel="top-1, %")
    figure.legend(handles=_legend(networks, losses), loc="outside lower center")

    return Picture(
        figure,
        "Top-1 accuracy against the percentage of wrong training labels, mean over n runs and "
        f"every run as a point. {'; '.join(said)}",
    )


def _pair(name: str | tuple[str, str]) -> tuple[str, str]:
    return (name, "") if isinstance(name, str) else tuple(name)


def _joined(network: str, loss: str) -> str:
    return f"{network}, {loss}" if loss else network


def _by_level(name: object, levels: Mapping) -> dict[float, np.ndarray]:
    """Top-1 of every run in percent, by level of noise, in rising order."""
    found = {}
    for percent in sorted(levels):
        top1 = [_top1(run) for run in levels[percent]]
        if top1:
            found[percent] = 100 * np.array(top1, float)

    if not found:
        raise ValueError(f"noise(): {name!r} has no run; expected at least one, or leave it out")
    return found


def _top1(run) -> float:
    """On the official split, or, of a run that never looked at it, on tune."""
    if not isinstance(run, Mapping):
        return run
    return run["final"]["val_top1"] if run["final"] else run["history"][-1]["val_top1"]


def _filled(loss: int, colour: str) -> dict:
    """Marks of the first loss are clear inside: one that lies behind others is seen, too."""
    return {"markerfacecolor": colour if loss else "none"}


def _runs_and_mean(ax: Axes, levels: dict[float, np.ndarray], shift: float, style: dict) -> None:
    """A line with a bar at each mean, and a mark for each run, side by side."""
    at = np.array(list(levels), float) + shift
    means = [values.mean() for values in levels.values()]
    ax.plot(at, means, **style | {"marker": "_", "markersize": 14, "markeredgewidth": 2})

    single = style | {"linestyle": "", "markersize": 7, "markeredgewidth": 1.5, "zorder": 3}
    for x, values in zip(at, levels.values(), strict=True):
        beside = 0.4 * (np.arange(len(values)) - (len(values) - 1) / 2)
        ax.plot(x + beside, values, **single)


def _legend(networks: list[str], losses: list[str]) -> list[Line2D]:
    """What colours mean, what dashes mean, and where a mean is."""
    handles = []
    for number, name in enumerate(networks):
        handles.append(Line2D([], [], label=name, **look(number, 0)))

    if losses != [""]:
        for dashes, name in enumerate(losses):
            style = {"color": INK, "linestyle": DASHES[dashes % len(DASHES)], "marker": "o"}
            handles.append(Line2D([], [], label=name, **style | _filled(dashes, INK)))

    bar = {"color": INK, "marker": "_", "markersize": 14, "markeredgewidth": 2, "linestyle": ""}
    return [*handles, Line2D([], [], label="mean of the runs; every mark is a run", **bar)]


def _level_words(levels: dict[float, np.ndarray]) -> str:
    said = []
    for percent, values in levels.items():
        spread = f" ± {values.std(ddof=1):.1f}" if len(set(values)) > 1 else ""  # as in the tables
        said.append(f"{values.mean():.1f}{spread} % at {percent:g} % (n = {len(values)})")
    return ", ".join(said)


# --- by heart -------------------------------------------------------------------------------------

COUNTED = {  # column of a History: what it counts
    "wrong_as_given": "wrong label: taken for what the label says",
    "wrong_as_true": "wrong label: taken for what the picture shows",
    "right_as_given": "right label: taken for what the label says",
}


@house_style
@large_letters
def memorised(runs: Mapping[str, object]) -> Picture:
    """What a network says of its own training pictures, epoch by epoch: a panel for each training.

    runs: title → a History with the three columns of ``experiments.memorised``, its rows, or a list
    of those of several seeds: drawn is the mean, in a band from the lowest to the highest. Raises
    ValueError for no training, seeds of different length, and a history without these columns.
    """
    if not runs:
        raise ValueError("memorised(): expected at least one training")
    tables = {title: _shares(title, seeds) for title, seeds in runs.items()}

    figure, panels = two_in_a_row(len(tables), height=215)
    said = []

    for (ax,), (title, shares) in zip(panels, tables.items(), strict=True):
        for number, seeds in enumerate(shares.values()):
            markers = {"markevery": max(1, seeds.shape[1] // 6)}
            mean_in_band(ax, seeds, look(number) | markers)

        ax.set(
            title=textwrap.fill(title, 26, break_on_hyphens=False),
            ylim=(-4, 104),
            yticks=range(0, 101, 25),
        )
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        said.append(_share_words(title, shares))

    for (ax,) in panels[::2]:
        ax.set_ylabel("of these pictures, %")
    for (ax,) in panels[-2:]:
        ax.set_xlabel("epoch")

    meanings = [
        Line2D([], [], label=counted, **look(number))
        for number, counted in enumerate(COUNTED.values())
    ]
    figure.legend(handles=meanings, loc="outside lower center")

    return Picture(
        figure,
        f"What a network takes its own training pictures for, by epoch. {'; '.join(said)}",
    )


def _shares(title: str, runs) -> dict[str, np.ndarray]:
    """Column → (seeds, epochs), in percent; NaN where there was nothing to count."""
    seeds = [getattr(run, "rows", run) for run in each_seed(runs)]

    lengths = {len(rows) for rows in seeds}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"memorised(): {title!r} has seeds of {sorted(lengths)} epochs; expected at least one "
            "seed and one epoch, and as many epochs of each seed"
        )

    missing = [column for column in COUNTED if column not in seeds[0][0]]
    if missing:
        raise ValueError(
            f"memorised(): the history of {title!r} has no column {', '.join(missing)}; expected "
            "that of a training that counted them (experiments.memorised)"
        )

    shares = {}
    for column in COUNTED:
        values = [[row[column] for row in rows] for rows in seeds]
        shares[column] = 100 * np.array(values, float)
    return shares


def _share_words(title: str, shares: dict[str, np.ndarray]) -> str:
    said = []
    for column, seeds in shares.items():
        mean = seeds.mean(axis=0)  # (epochs,)
        if np.isnan(mean).all():
            said.append(f"{COUNTED[column]}: no such picture")
        else:
            said.append(f"{COUNTED[column]}: {words.span(mean, words.percent)}")
    count = next(iter(shares.values())).shape[0]
    return f"{title} (n = {count}): {', '.join(said)}"
