"""What every drawing shares: the picture with its text, and the style."""

import io
import math
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from course_lib.files import CourseError, picture_tag, written_whole

POINTS = 72  # an inch: a point of a figure is a pixel on the page
DPI = 144  # twice as fine as shown: sharp on a dense screen
WIDTH = 848  # of a full figure, in pixels on the page
NARROW = 500  # of one that is read on a telephone, too

STYLE = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "figure.dpi": DPI,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 11,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.constrained_layout.w_pad": 0.1,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}

# A decorator: within it, our style and nothing that the reader set; outside, what was there before.
house_style = style.context(["default", STYLE])

LARGE = {  # still 10 px where a telephone shows a picture of 500 px at 400
    "font.size": 12.5,
    "axes.titlesize": 12.5,
    "axes.labelsize": 12.5,
    "xtick.labelsize": 12.5,
    "ytick.labelsize": 12.5,
    "legend.fontsize": 12.5,
}
large_letters = style.context(LARGE)


class Picture:
    """A finished drawing: ``figure``, ``alt`` (what it shows, in words) and ``png`` (bytes)."""

    def __init__(self, figure: Figure, alt: str):
        self.figure = figure
        self.alt = " ".join(alt.split())
        self.png = _png(figure)

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        """As a notebook shows it: HTML, since an image alone would have no alt text there."""
        width = round(self.figure.get_figwidth() * POINTS)
        return picture_tag(self.png, self.alt, width)

    def save(self, path: str | Path, **texts: str) -> None:
        """As a PNG that carries ``texts`` and, under Description, what it shows.

        Whole or not at all. Raises CourseError for a folder that cannot be written, or is full.
        """
        carried = PngInfo()
        for key, value in {"Description": self.alt, **texts}.items():
            carried.add_itxt(key, value)

        page = Image.open(io.BytesIO(self.png))
        try:
            with written_whole(Path(path)) as aside:
                page.save(aside, "PNG", pnginfo=carried, optimize=True)
        except OSError as error:
            raise CourseError(f"cannot write {path} ({error.strerror or error})") from error


def charts(number: int, height: int, width: int = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure with ``number`` axes side by side; sizes in pixels on the page."""
    figure = Figure(figsize=(width / POINTS, height / POINTS), layout="constrained")
    return figure, list(figure.subplots(1, number, squeeze=False)[0])


def two_in_a_row(
    number: int, height: int, ratios: tuple[float, ...] = (1,)
) -> tuple[Figure, list[tuple[Axes, ...]]]:
    """Two panels in a row, of ``height`` pixels and one axes above the other as ``ratios`` say."""
    columns = min(number, 2)
    rows = math.ceil(number / columns)
    size = (NARROW / POINTS, (rows * height + 90) / POINTS)

    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        rows * len(ratios),
        columns,
        squeeze=False,
        gridspec_kw={"height_ratios": ratios * rows},
    )

    panels = []
    for index in range(rows * columns):
        row, column = divmod(index, columns)
        axes = grid[row * len(ratios) : (row + 1) * len(ratios), column]
        for ax in axes[1:]:
            ax.sharex(axes[0])

        if index < number:
            panels.append(tuple(axes))
        else:
            for ax in axes:
                ax.set_axis_off()
    return figure, panels


def write_plainly(ax: Axes) -> None:
    """An upright logarithmic axis says 1.6, not 1.6 × 10⁰, also where it holds no power of ten."""
    lowest, highest = ax.get_ylim()
    is_short = highest < 10 * lowest

    ax.yaxis.set_major_locator(MaxNLocator(nbins=4) if is_short else LogLocator(numticks=6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def note(words: str) -> Picture:
    """A sentence in place of a picture, where there is nothing to draw."""
    figure, (ax,) = charts(1, 40, width=480)
    ax.set_axis_off()
    ax.text(0, 0.5, words, va="center")
    return Picture(figure, words)


def _png(figure: Figure) -> bytes:
    """In 256 colours chosen for this page, which takes a third of the bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    # k-means refines the colours until a round changes fewer than 100,000 pixels: a tenth of that
    # would take seconds more, and look the same.
    page = page.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=100_000)

    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()
