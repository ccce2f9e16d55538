"""Lambda layers: how they are wired, what they cost, and what they learned to listen to."""

from collections.abc import Mapping, Sequence
from math import ceil

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image
from torch import nn

from course_lib.plots import words
from course_lib.plots.charts import look
from course_lib.plots.diagrams import Box, Label, Layout, draw_page
from course_lib.plots.galleries import OUTLINE
from course_lib.plots.picture import (
    NARROW,
    POINTS,
    Picture,
    charts,
    house_style,
    large_letters,
    write_plainly,
)

# Blue below zero, white at it, red above: told apart by eyes of every kind. A page has 256 colours,
# so few of them are for weights and few for a picture, and white stays white.
SIGNED = matplotlib.colormaps["RdBu_r"].resampled(61)
OF_A_PICTURE = 96

# --- what it learned ------------------------------------------------------------------------------


@house_style
@large_letters
def position_kernels(layer: nn.Module) -> Picture:
    """The position kernels of a lambda layer: a square for each of the k numbers of a query.

    In the middle stands the weight of the query's own position, right of it that of the position to
    the right, and so on. Shown is the middle of the kernel, as far as any weight is not zero.
    Raises ValueError for a module without such a kernel.
    """
    kernel = getattr(layer, "kernel", None)
    if not isinstance(kernel, torch.Tensor) or kernel.ndim != 4:
        raise ValueError(
            f"position_kernels(): {type(layer).__name__} has no position kernel; expected a "
            "LambdaLayer, one layer of a network and not the network"
        )

    kernel = kernel.detach().float().cpu()  # (k, u, rows, columns)
    whole = kernel.shape[2:]
    kernel = _without_zeros_around(kernel)
    k, u, rows, columns = kernel.shape

    names = [f"{i + 1}" if u == 1 else f"{i + 1}, {j + 1}" for i in range(k) for j in range(u)]
    figure = _squares(dict(zip(names, kernel.flatten(0, 1).numpy(), strict=True)), columns=4)
    _offsets(figure.axes[4 * ((len(names) - 1) // 4)], rows, columns)  # of the last row

    cut = "" if (rows, columns) == whole else f", the middle of {whole[0]} × {whole[1]}"
    return Picture(
        figure,
        f"{words.count(names, 'position kernel')} of {rows} × {columns} offsets{cut}: weights from "
        f"{words.number(kernel.min().item())} to {words.number(kernel.max().item())}, blue below "
        "zero, red above",
    )


def _without_zeros_around(kernel: torch.Tensor) -> torch.Tensor:
    """The smallest window around the middle that holds every weight but zeros.

    Offsets that no picture of the training was large enough for are still as they began.
    """
    rows, columns = kernel.shape[2:]
    _, _, i, j = kernel.nonzero(as_tuple=True)
    if not len(i):
        return kernel

    tall = int((i - rows // 2).abs().max())
    wide = int((j - columns // 2).abs().max())
    top, left = rows // 2 - tall, columns // 2 - wide
    return kernel[:, :, top : rows - top, left : columns - left]


def _offsets(ax: Axes, rows: int, columns: int) -> None:
    """The ends and the middle of both axes, counted from the query's position."""
    down, right = rows // 2, columns // 2
    for axis, reach in ((ax.xaxis, right), (ax.yaxis, down)):
        ends = sorted({-reach, 0, reach})
        axis.set_ticks([reach + end for end in ends], [f"{end}".replace("-", "−") for end in ends])
    ax.tick_params(length=2)


@house_style
@large_letters
def listens_to(weights, image=None, at: tuple[int, int] | None = None) -> Picture:
    """How much the value of every position counts for one pixel of the map; a square for each head.

    weights: (H, W), or (heads, H, W). image: uint8 (h, w, 3), the picture, shown beside them.
    at: row and column of the pixel in the map, which is then outlined. Raises ValueError for other
    shapes, and for a pixel outside of the map.
    """
    weights = _map_of_weights(weights)
    heads, height, width = weights.shape
    if at is not None and not (0 <= at[0] < height and 0 <= at[1] < width):
        raise ValueError(f"listens_to(): at is {at}, expected a pixel of a {height} × {width} map")

    names = ["weights"] if heads == 1 else [f"head {i + 1}" for i in range(heads)]
    tiles = dict(zip(names, weights, strict=True))
    shown = [*weights] if image is None else [image, *weights]
    figure = _squares(tiles, 3 if len(shown) in (3, 5, 6) else 2, image)

    if at is not None:
        for ax, each in zip(figure.axes, shown, strict=False):  # behind them stands the scale
            _outline_pixel(ax, at, np.shape(each)[:2], (height, width))

    said = []
    for name, each in tiles.items():
        row, column = np.unravel_index(np.abs(each).argmax(), each.shape)
        said.append(
            f"{name}: from {words.number(each.min())} to {words.number(each.max())}, farthest from "
            f"zero at row {row}, column {column}"
        )
    where = "one pixel" if at is None else f"the pixel at row {at[0]}, column {at[1]}"
    return Picture(
        figure,
        f"What {where} of a {height} × {width} map listens to, blue below zero, red above. "
        f"{'; '.join(said)}",
    )


def _map_of_weights(weights) -> np.ndarray:
    """(heads, H, W)."""
    if isinstance(weights, torch.Tensor):
        weights = weights.detach().float().cpu()
    weights = np.asarray(weights, float)

    if weights.ndim == 2:
        weights = weights[None]
    if weights.ndim != 3 or not weights.size or not np.isfinite(weights).all():
        raise ValueError(
            f"listens_to(): weights of shape {weights.shape}; expected numbers of shape (H, W) or "
            "(heads, H, W), a number for every position of the map"
        )
    return weights


def _outline_pixel(
    ax: Axes, at: tuple[int, int], shown: tuple[int, ...], of_map: tuple[int, int]
) -> None:
    """Around the pixel; in the picture, around what lies under it."""
    tall, wide = shown[0] / of_map[0], shown[1] / of_map[1]
    corner = at[1] * wide - 0.5, at[0] * tall - 0.5
    for colour, width in OUTLINE:
        ax.add_patch(Rectangle(corner, wide, tall, fill=False, edgecolor=colour, linewidth=width))


def _squares(tiles: Mapping[str, np.ndarray], columns: int, image=None) -> Figure:
    """Signed numbers as colours, all on one scale around zero; before them a picture, if any."""
    count = len(tiles) + (image is not None)
    columns = min(columns, count)
    rows = ceil(count / columns)
    tall, wide = next(iter(tiles.values())).shape
    side = NARROW / columns

    size = (NARROW / POINTS, (rows * (side * min(tall / wide, 1.5) + 22) + 75) / POINTS)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in grid:
        ax.grid(visible=False)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(visible=True, color="#bbbbbb")
    for ax in grid[count:]:
        ax.remove()

    if image is not None:
        grid[0].imshow(_picture(image), interpolation="nearest")
        grid[0].set_title("picture", loc="center", pad=4)
        grid = grid[1:]

    largest = max(float(np.abs(each).max()) for each in tiles.values()) or 1.0
    for ax, (name, each) in zip(grid, tiles.items(), strict=False):
        drawn = ax.imshow(each, cmap=SIGNED, vmin=-largest, vmax=largest, interpolation="nearest")
        ax.set_title(name, loc="center", pad=4)

    bar = figure.colorbar(drawn, ax=figure.axes, location="bottom", shrink=0.7, aspect=30)
    bar.set_label("weight")
    bar.set_ticks([-largest, 0, largest], labels=map(words.number, (-largest, 0, largest)))
    return figure


def _picture(image) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"listens_to(): the image is {image.dtype} {image.shape}, expected uint8 (h, w, 3)"
        )
    few = Image.fromarray(image).quantize(OF_A_PICTURE)
    return np.asarray(few.convert("RGB"))


# --- what it costs --------------------------------------------------------------------------------


@house_style
@large_letters
def costs(measured: Mapping[str, Sequence[tuple[float, float, float]]]) -> Picture:
    """Time and memory of a layer by the side of the map, both on logarithmic scales.

    measured: name → (side in positions, seconds of forward and backward, bytes kept for backward),
    a point each; NaN where one was not measured. Raises ValueError for no layer and no point, and
    for a number that is not above zero.
    """
    lines = {name: _points(name, points) for name, points in measured.items()}
    if not lines:
        raise ValueError("costs(): expected at least one layer")

    figure, (time, memory) = charts(2, 330, width=NARROW)
    said = []

    for number, (name, (side, seconds, megabytes)) in enumerate(lines.items()):
        milliseconds = 1000 * seconds
        time.plot(side, milliseconds, **look(number))
        memory.plot(side, megabytes, label=name, **look(number))

        taken, kept = _span(milliseconds, "ms", "time"), _span(megabytes, "MB", "memory")
        said.append(f"{name}: side {words.span(side)}, {taken}, {kept}")

    sides = sorted({each for side, *_ in lines.values() for each in side})
    for ax, title in ((time, "Time, ms"), (memory, "Memory, MB")):
        ax.set(title=title, xlabel="side of the map")
        _log_scales(ax, sides)
    figure.legend(loc="outside lower center", ncols=2 if max(map(len, lines)) <= 22 else 1)

    return Picture(
        figure,
        "Time of forward and backward, and memory kept for backward, by the side of the map, log "
        f"scales. {'; '.join(said)}",
    )


def _points(name: str, points: Sequence) -> np.ndarray:
    """(3, points): side, seconds, megabytes, in order of the side."""
    points = np.array(points, float)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or (points <= 0).any():
        raise ValueError(
            f"costs(): {name!r} has points of shape {points.shape}; expected at least one "
            "(side, seconds, bytes), all above zero"
        )
    side, seconds, size = points[points[:, 0].argsort()].T
    return np.stack([side, seconds, size / 1e6])


def _span(values: np.ndarray, unit: str, noun: str) -> str:
    """``from 1 to 2 MB``: of what was measured."""
    known = values[~np.isnan(values)]
    if not len(known):
        return f"{noun} not measured"

    where = "" if len(known) == len(values) else " where it was measured"
    return f"{words.span(known)} {unit}{where}"


def _log_scales(ax: Axes, sides: list[float]) -> None:
    ax.set(xscale="log")

    # at most five, the largest among them, so that they do not run into each other
    shown = sides[:: -ceil(len(sides) / 5)]
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda side, _: f"{side:g}"))

    if np.isfinite(ax.dataLim.intervaly).all():
        ax.set(yscale="log")
        write_plainly(ax)
    else:  # nothing was measured
        ax.set(yticks=[])


# --- how it is wired ------------------------------------------------------------------------------

LETTERS = [
    "n, m: positions, H · W each; n asks, m answers",
    "k: numbers in a query, v: in a value; h: heads",
]

# Centres of the three columns, and of the rows, in pixels on the page.
KEYS, VALUES, QUERIES = 84, 240, 398
MAP, PROJECTED, SOFTMAX, LAMBDAS, SUM, READ, OUT = 28, 108, 186, 270, 348, 424, 488
WIDE, SLIM = 132, 116  # boxes


@house_style
def lambda_diagram() -> Picture:
    """The lambda layer from top to bottom: keys, values and queries, the two lambdas, the output.

    Shapes are of one picture (Bello 2021, arXiv:2102.08602, figure 3).
    """
    page = Layout(width=480, height=OUT + 24)
    _boxes_of_the_layer(page)
    _lines_of_the_layer(page)
    _shapes_of_the_layer(page)

    return draw_page(
        [page],
        "The lambda layer. From a map of C×H×W, three 1×1 convolutions make keys (k×m), values "
        "(v×m) and, for each position, h queries (k); values and queries are normalised, keys go "
        "through a softmax over the positions m. Content lambda: keys times values, summed over "
        "the positions, one k×v matrix for the picture. Position lambda: the values around "
        "position n, weighted by a learned kernel of the offset, a k×v matrix for each position. "
        "Their sum λ_n is read by the h queries of its position: v numbers for each head, joined "
        "to a map of h·v×H×W",
        LETTERS,
    )


def _boxes_of_the_layer(page: Layout) -> None:
    def box(kind: str, lines: str, x: float, y: float, width: float = SLIM) -> None:
        rows = tuple(lines.split("\n"))
        page.boxes.append(Box(kind, rows, x, y, width, height=15 * len(rows) + 8))

    box("map", "map C×H×W", VALUES, MAP, WIDE)
    box("conv", "1×1 conv\nkeys", KEYS, PROJECTED)
    box("conv", "1×1 conv, norm\nvalues", VALUES, PROJECTED)
    box("conv", "1×1 conv, norm\nqueries", QUERIES, PROJECTED)

    box("activation", "softmax\nover positions m", KEYS, SOFTMAX)
    box("attention", "content λ\nΣ key · value\nonce a picture", KEYS, LAMBDAS)
    box("attention", "position λ\nΣ kernel · value\nat each position", VALUES, LAMBDAS)

    page.boxes.append(Box("sum", ("+",), VALUES, SUM, 22, 22))
    box("attention", "read: λₙ times\neach query of n", VALUES, READ, WIDE)
    box("map", "map h·v×H×W", VALUES, OUT, WIDE)


def _lines_of_the_layer(page: Layout) -> None:
    def line(*corners: tuple[float, float]) -> None:
        page.lines.append(list(corners))

    below = MAP + 12
    fork = below + 14
    for x in (KEYS, VALUES, QUERIES):
        line((VALUES, below), (VALUES, fork), (x, fork), (x, PROJECTED - 19))

    line((KEYS, PROJECTED + 19), (KEYS, SOFTMAX - 19))
    line((KEYS, SOFTMAX + 19), (KEYS, LAMBDAS - 27))
    line((VALUES, PROJECTED + 19), (VALUES, LAMBDAS - 27))

    # values go into the content lambda, too
    across = KEYS + SLIM / 2
    line((VALUES, SOFTMAX + 19), (162, SOFTMAX + 19), (162, LAMBDAS), (across, LAMBDAS))

    line((KEYS, LAMBDAS + 27), (KEYS, SUM), (VALUES - 11, SUM))
    line((VALUES, LAMBDAS + 27), (VALUES, SUM - 11))
    line((VALUES, SUM + 11), (VALUES, READ - 19))
    line((QUERIES, PROJECTED + 19), (QUERIES, READ), (VALUES + WIDE / 2, READ))
    line((VALUES, READ + 19), (VALUES, OUT - 12))


def _shapes_of_the_layer(page: Layout) -> None:
    page.labels += [
        Label("k×m", KEYS, PROJECTED + 35),
        Label("v×m", VALUES, PROJECTED + 50),
        Label("h×k at each n", QUERIES, PROJECTED + 50),
        Label("k×v", KEYS, LAMBDAS + 44),
        Label("k×v at each n", VALUES, LAMBDAS + 44),
        Label("λₙ, k×v", VALUES, READ - 40),
    ]
