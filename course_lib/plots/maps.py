"""Class activation maps as numbers: for and against, graded, and compared with one another."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from course_lib.explain import Score
from course_lib.plots import words
from course_lib.plots.charts import COLOURS, INK, look
from course_lib.plots.galleries import GAP
from course_lib.plots.lambdas import SIGNED
from course_lib.plots.localization import BASELINES
from course_lib.plots.picture import NARROW, POINTS, Picture, charts, house_style, large_letters

KNOW_NOTHING = ("chance", "middle")  # the rows that every other one has to beat


@house_style
@large_letters
def evidence(images, maps: Mapping[str, np.ndarray], titles: Sequence[str]) -> Picture:
    """A row per picture: the picture, then signed maps of it, red for and blue against.

    images: uint8 (N, H, W, 3); maps: name → (N, h, w), of either sign. The maps of one picture
    share one scale, so that they can be compared. Raises ValueError for numbers that do not fit.
    """
    images = np.asarray(images)
    arrays = {name: np.asarray(each, float) for name, each in maps.items()}
    counts = {len(images), len(titles), *map(len, arrays.values())}
    are_maps = arrays and all(each.ndim == 3 and each.size for each in arrays.values())
    if len(counts) != 1 or not are_maps:
        shapes = {name: each.shape for name, each in arrays.items()}
        raise ValueError(
            f"evidence(): {len(titles)} titles and maps {shapes} for {len(images)} pictures; "
            "expected at least one picture, and a title and at least one map (h, w) for each"
        )

    columns = 1 + len(arrays)
    side = NARROW / columns
    size = (NARROW / POINTS, (len(images) * (side + 22) + GAP) / POINTS)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(images), columns, squeeze=False)

    said = []
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        ax, *others = grid[i]
        ax.imshow(image, interpolation="nearest")
        ax.set_title(words.cut(title, int(side / 7.5)), loc="center", pad=4)

        largest = max(float(np.abs(each[i]).max()) for each in arrays.values()) or 1.0
        for other, (name, each) in zip(others, arrays.items(), strict=True):
            other.imshow(each[i], cmap=SIGNED, vmin=-largest, vmax=largest, interpolation="nearest")
            other.set_title(name, loc="center", pad=4)

        spans = [
            f"{name} from {words.number(each[i].min())} to {words.number(each[i].max())}"
            for name, each in arrays.items()
        ]
        said.append(f"{title}: {', '.join(spans)}")

    for ax in grid.ravel():
        ax.grid(visible=False)
        ax.set(xticks=[], yticks=[])

    return Picture(
        figure,
        f"Evidence for the class (red) and against it (blue) at each position of "
        f"{words.count(images, 'picture')}. {words.listing(said, 6, '; ')}",
    )


@house_style
@large_letters
def grades(table: Mapping[str, Mapping[str, Score]]) -> Picture:
    """What ``explain.grade`` gives: a row for each map, its mean and interval by grade.

    The rows "chance" and "middle" are drawn as lines from top to bottom. Raises ValueError for a
    table without another row.
    """
    rows = [name for name in table if name not in KNOW_NOTHING]
    if not rows:
        raise ValueError("grades(): expected at least one row beside chance and middle")

    columns = list(table[rows[0]])
    height = len(columns) * (22 * len(rows) + 66) + 30
    figure = Figure(figsize=(NARROW / POINTS, height / POINTS), layout="constrained")
    panels = figure.subplots(len(columns), 1, squeeze=False)[:, 0]

    for ax, column in zip(panels, columns, strict=True):
        for name in KNOW_NOTHING:
            if name in table:
                mean = table[name][column].mean
                ax.axvline(mean, color=INK, linestyle=BASELINES[name], label=name)

        scores = [table[name][column] for name in rows]
        below = [each.mean - each.low for each in scores]
        above = [each.high - each.mean for each in scores]
        means = [each.mean for each in scores]
        ax.errorbar(
            means, range(len(rows)), xerr=[below, above], fmt="o", color=COLOURS[0], capsize=3
        )

        ax.set(title=column, ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticks(range(len(rows)), rows)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6))

    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles[:2], labels[:2], loc="outside lower center", ncols=2)

    said = []
    for name, scores in table.items():
        parts = [f"{column} {scores[column].mean:.3f}" for column in columns]
        said.append(f"{name}: {', '.join(parts)}")
    count = table[rows[0]][columns[0]].n
    return Picture(
        figure,
        f"Means of {count} pictures with 95 % intervals, beside chance and a spot in the middle. "
        f"{'; '.join(said)}",
    )


@house_style
@large_letters
def agreement(steps: Sequence[str], curves: Mapping[str, Sequence[float]]) -> Picture:
    """How alike maps stay while a network is changed step by step: a line for each method.

    steps: what has been changed by then, in order. curves: name → as many rank correlations, from
    −1 to 1. Raises ValueError for other numbers, and for no line or step.
    """
    lengths = {name: len(each) for name, each in curves.items()}
    if set(lengths.values()) != {len(steps)} or not len(steps):
        raise ValueError(
            f"agreement(): {lengths} for {len(steps)} steps, expected as many of each, and at "
            "least one line and one step"
        )

    figure, (ax,) = charts(1, 330, width=NARROW)
    ax.axhline(0, color=INK, linewidth=1)
    for number, (name, values) in enumerate(curves.items()):
        ax.plot(range(len(steps)), values, label=name, **look(number))

    lowest = min(map(min, curves.values()))
    ax.set(ylabel="rank correlation", ylim=(min(-0.1, lowest - 0.05), 1.05))
    ax.set_xticks(range(len(steps)), steps)
    figure.legend(loc="outside lower center", ncols=2)

    said = [
        f"{name} {', '.join(f'{value:.2f}' for value in values)}" for name, values in curves.items()
    ]
    return Picture(
        figure,
        f"Rank correlation with the maps of the network as trained, by what was changed "
        f"({', '.join(steps)}): {'; '.join(said)}",
    )
