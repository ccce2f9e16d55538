"""One weight on a parabola: where each step of a descent lands."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.plots import words
from course_lib.plots.charts import COLOURS, INK
from course_lib.plots.picture import NARROW, POINTS, Picture, house_style

EDGE = 2.2  # weights beyond it are out of sight


@house_style
def descents(paths: Mapping[str, list[float]]) -> Picture:
    """The loss w² / 2 over the weight w, a panel for each path, its steps joined.

    paths: title → the weight before the first step and behind every one. Raises ValueError for no
    path, and for an empty one.
    """
    if not paths or not all(len(path) for path in paths.values()):
        raise ValueError("descents(): expected at least one path, each with at least one weight")

    size = (NARROW / POINTS, 235 / POINTS)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(paths), sharey=True, squeeze=False)[0]
    said = []

    for ax, (title, path) in zip(panels, paths.items(), strict=True):
        _parabola(ax, np.asarray(path, float))
        ax.set_title(title, loc="center")
        steps = words.count(path[1:], "step")
        said.append(f"{title}: from {words.number(path[0])} to {words.number(path[-1])} in {steps}")

    panels[0].set_ylabel("loss")
    figure.supxlabel("weight", fontsize=11)
    return Picture(figure, f"One weight on the parabola w² / 2. {'; '.join(said)}")


def _parabola(ax: Axes, path: np.ndarray) -> None:
    across = np.linspace(-EDGE, EDGE, 101)
    ax.plot(across, across**2 / 2, color=INK, linewidth=1)

    inside = np.abs(path) <= EDGE
    seen = path[: len(path) if inside.all() else inside.argmin()]
    ax.plot(seen, seen**2 / 2, color=COLOURS[0], marker="o", linewidth=1)
    ax.plot(seen[0], seen[0] ** 2 / 2, color=COLOURS[1], marker="s", markersize=8)
    ax.set(xlim=(-EDGE, EDGE), ylim=(-0.1, EDGE**2 / 2), xticks=(-2, 0, 2), yticks=(0, 1, 2))
