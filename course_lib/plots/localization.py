"""Maps that were graded: do they lie on the object more than a spot in the middle does?"""

import textwrap
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from course_lib.explain.localization import REACH
from course_lib.plots.charts import COLOURS, INK
from course_lib.plots.picture import NARROW, POINTS, Picture, house_style, large_letters

GRADES = {"pointing game": ("o", COLOURS[0]), "energy": ("D", COLOURS[1])}
BASELINES = {"middle": "--", "chance": ":"}  # the lines of the maps that know nothing


@house_style
@large_letters
def localization(records: Mapping[str, dict]) -> Picture:
    """A row for each method, its grade as a dot in its 95 % interval; middle spot and chance as
    lines. A panel for each record and grade.

    records: title → a record of ``experiments.localize``. Raises ValueError for no record, and for
    one that holds no method.
    """
    if not records:
        raise ValueError("localization(): expected at least one record")
    for name, record in records.items():
        if not _methods(record):
            raise ValueError(f"localization(): {name!r} holds no method; expected at least one")

    heights = [len(_methods(record)) + 2 for record in records.values()]
    size = (NARROW / POINTS, (60 + 24 * sum(heights)) / POINTS)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(
        len(records), len(GRADES), squeeze=False, sharex="col", height_ratios=heights
    )
    said = []

    for pair, (title, record) in zip(panels, records.items(), strict=True):
        for ax, grade in zip(pair, GRADES, strict=True):
            _panel(ax, record, grade)
            said.append(f"{title}, {grade}: {_in_words(record, grade)}")

        methods = _labels(record)
        pair[0].set_yticks(range(len(methods)), methods)
        pair[1].set_yticks(range(len(methods)), [])
        pair[0].set_title(textwrap.fill(title, 40), loc="left")

    for ax, grade in zip(panels[-1], GRADES, strict=True):
        ax.set_xlabel(f"{grade}, %")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=2)

    return Picture(
        figure,
        "How far class activation maps lie on the object, by method, beside chance and a spot in "
        f"the middle. {'; '.join(said)}",
    )


def _panel(ax: Axes, record: dict, grade: str) -> None:
    marker, colour = GRADES[grade]

    for name, dashes in BASELINES.items():
        if name in record["maps"]:
            mean = 100 * record["maps"][name][grade]["mean"]
            ax.axvline(mean, color=INK, linestyle=dashes, linewidth=1.4, zorder=1)

    found = [method[grade] for method in _methods(record).values()]
    ax.errorbar(
        [100 * each["mean"] for each in found],
        range(len(found)),
        xerr=[_reach(each) for each in found],
        fmt=marker,
        color=colour,
        capsize=3,
    )
    ax.set_ylim(len(found) - 0.4, -0.6)  # the first on top
    ax.grid(axis="y", visible=False)


def _methods(record: dict) -> dict[str, dict]:
    return {key: found for key, found in record["maps"].items() if key not in BASELINES}


def _labels(record: dict) -> list[str]:
    """The number of pictures stands where it is below that of the others."""
    methods = _methods(record).values()
    most = max(found["n"] for found in methods)
    return [
        found["words"] if found["n"] == most else f"{found['words']}, n = {found['n']:,}"
        for found in methods
    ]


def _legend() -> list[Line2D]:
    marks = {"color": INK, "marker": "o", "linestyle": ""}
    return [
        Line2D([], [], label="spot in the middle", color=INK, linestyle=BASELINES["middle"]),
        Line2D([], [], label="chance", color=INK, linestyle=BASELINES["chance"]),
        Line2D([], [], label="a method, 95 % interval", **marks),
    ]


def _in_words(record: dict, grade: str) -> str:
    return ", ".join(
        f"{found['words']} {100 * found[grade]['mean']:.1f} ± {_reach(found[grade]):.1f} %"
        for found in record["maps"].values()
    )


def _reach(found: dict) -> float:
    """Of the 95 % interval to either side of the mean, in percent."""
    return 100 * REACH * found["error"]
