"""What every drawing shares: the picture with its text, the style, and the words for names and numbers."""

import base64
import io
from html import escape
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

DPI = 144  # shown at 72: one point is one pixel on the page, and sharp on a dense screen
WIDTH, GAP, LINE = (
    848,
    8,
    14,
)  # pixels on the page: a full figure, between two tiles, a line of text
_house_style = style.context(
    [
        "default",
        {
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
        },
    ]
)


class Picture:
    """A finished drawing: ``figure``, ``alt`` (what it shows, in words) and ``png`` (bytes)."""

    def __init__(self, figure: Figure, alt: str):
        self.figure, self.alt, self.png = figure, " ".join(alt.split()), _png(figure)

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        return (
            f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{data}" '
            f'width="{round(self.figure.get_figwidth() * 72)}" style="max-width:100%;height:auto">'
        )

    def save(self, path: str | Path, **texts: str) -> None:
        """As a PNG that carries ``texts`` and, under Description, what it shows."""
        carried = PngInfo()
        for key, value in {"Description": self.alt, **texts}.items():
            carried.add_itxt(key, value)
        Image.open(io.BytesIO(self.png)).save(path, "PNG", pnginfo=carried, optimize=True)


def _png(figure: Figure) -> bytes:
    """256 colours chosen for this page: a third of the bytes. k-means stops when under 10,000 pixels change."""
    canvas, file = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    page = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    page.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=10_000).save(file, "PNG", optimize=True)
    return file.getvalue()


def _charts(number: int, height: int, width: int = WIDTH):
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, figure.subplots(1, number, squeeze=False)[0]


def _note(words: str) -> Picture:
    figure, (ax,) = _charts(1, 40, width=480)
    ax.set_axis_off()
    ax.text(0, 0.5, words, va="center")
    return Picture(figure, words)


def _number(value: float) -> str:
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def _percent(value: float) -> str:
    return f"{value:.1f} %"


def _span(values, write=_number) -> str:
    return (
        write(values[0]) if len(values) == 1 else f"from {write(values[0])} to {write(values[-1])}"
    )


def _count(things, noun: str, plural: str = "s") -> str:
    return f"{len(things)} {noun}{plural * (len(things) != 1)}"


def _listing(items: list[str], limit: int, comma: str = ", ") -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return comma.join(map(str, items[:limit])) + more


def _short(name, limit: int = 16) -> str:
    """The first of several synonyms, cut to ``limit`` characters."""
    return _cut(str(name).split(",")[0].strip(), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
