"""Curves and bars: trainings, learning rates, and what a classifier gets right and wrong."""

from collections.abc import Mapping
from itertools import groupby
from math import ceil

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .picture import (
    Picture,
    _charts,
    _count,
    _cut,
    _house_style,
    _listing,
    _note,
    _number,
    _percent,
    _short,
    _span,
)

# Told apart by eyes of every kind (Petroff 2021, arXiv:2107.02270; matplotlib's "petroff10"), the dark ones first.
COLOURS = [
    "#3f90da",
    "#bd1f01",
    "#832db6",
    "#ffa90e",
    "#a96b59",
    "#e76300",
    "#717581",
    "#94a4a2",
    "#b9ac70",
    "#92dadd",
]
INK, PALE = "#222222", "#eceff3"


@_house_style
def history(runs, held_out: str = "tune") -> Picture:
    """One History: loss, accuracy and learning rate. A dict name -> History: the runs compared.

    ``held_out`` names the split behind the ``val_`` columns. Raises ValueError for an empty history.
    """
    if isinstance(runs, Mapping) and runs:
        return _compare({name: _table(run) for name, run in runs.items()}, held_out)
    table = _table(runs)
    sizes, epochs = table["picture_size"], np.arange(1, len(table["lr"]) + 1)
    lr_at, lr = _learning_rates(getattr(runs, "steps", None), epochs, table["lr"])
    figure, (loss, top1, rate) = _charts(3, 250)
    for ax, column, write in ((loss, "loss", _number), (top1, "top1", _percent)):
        for index, (split, prefix) in enumerate((("train", "train_"), (held_out, "val_"))):
            values = table[prefix + column]
            ax.plot(
                epochs,
                values,
                label=f"{split}, last {write(values[-1])}",
                **_line(index, len(epochs)),
            )
        ax.legend()
    rate.plot(lr_at, lr, color=INK, marker="o" if len(lr) <= len(epochs) else "")
    for ax, title, label, start in (
        (loss, "Loss", "cross-entropy, nats", 0.5),
        (top1, "Accuracy", "top-1, %", 0.5),
        (rate, "Learning rate", "learning rate", 0),
    ):
        _label(ax, title, "epoch", label, whole=True)
        _size_bands(ax, sizes, start)
    sized = "" if np.isnan(sizes).any() else f"; picture size {_span(np.unique(sizes))} px"
    return Picture(
        figure,
        (
            f"Training and {held_out} loss over {_count(epochs, 'epoch')}: {_span(table['train_loss'])} and "
            f"{_span(table['val_loss'])}; top-1 accuracy: {_span(table['train_top1'], _percent)} and "
            f"{_span(table['val_top1'], _percent)}; learning rate: highest {_number(max(lr))}, "
            f"last {_number(lr[-1])}{sized}"
        ),
    )


def _compare(tables: dict[str, dict], held_out: str) -> Picture:
    figure, panels = _charts(2, 280)
    for ax, key, title, label, write in (
        (panels[0], "val_top1", "accuracy", "top-1, %", _percent),
        (panels[1], "val_loss", "loss", "cross-entropy, nats", _number),
    ):
        for index, table in enumerate(tables.values()):
            points = len(table[key])
            ax.plot(np.arange(1, points + 1), table[key], **_line(index, points))
        _label(ax, f"{held_out.capitalize()} {title}", "epoch", label, whole=True)
        _end_labels(ax, {name: table[key] for name, table in tables.items()}, write)
    runs = "; ".join(
        f"{name}: {_span(table['val_top1'], _percent)} and {_span(table['val_loss'])}"
        for name, table in tables.items()
    )
    return Picture(
        figure,
        f"{held_out.capitalize()} accuracy and loss per epoch, {_count(tables, 'run')}. {runs}",
    )


@_house_style
def lr_range(lrs, losses, suggestion=None, minimum=None) -> Picture:
    """Learning-rate test: loss against rate; the steepest point is marked, and the tempting wrong one."""
    lrs, losses = np.asarray(lrs, float), np.asarray(losses, float)
    if lrs.shape != losses.shape or not np.isfinite(losses).any() or not (lrs > 0).all():
        raise ValueError(
            f"lr_range(): {lrs.shape} rates and {losses.shape} losses; expected as many of both, "
            "rates above zero, and not every loss NaN"
        )
    lrs, losses = lrs[np.isfinite(losses)], losses[np.isfinite(losses)]
    first, low = losses[0], losses.min()
    room = max(first - low, 0.05)
    figure, (ax,) = _charts(1, 300, width=620)
    ax.plot(lrs, losses, color=COLOURS[0])
    ax.set(xscale="log", ylim=(low - 0.3 * room, first + 0.5 * room))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    alt = (
        f"Learning-rate test from {_number(lrs[0])} to {_number(lrs[-1])}: the loss starts at "
        f"{_number(first)}, its lowest value is {_number(low)}"
    )
    for rate, words, marker, dashes, height, side in (
        (suggestion, "falls fastest at {}:\nstart here", "o", "--", 0.03, "bottom"),
        (minimum, "lowest at {}:\nnot this one", "X", ":", 0.98, "top"),
    ):
        if rate is not None:
            words = words.format(_number(rate))
            ax.axvline(rate, color=INK, linestyle=dashes, linewidth=1.2)
            ax.plot(
                rate,
                np.interp(np.log(rate), np.log(lrs), losses),
                marker,
                color=COLOURS[1],
                markersize=9,
            )
            ax.annotate(
                words,
                (rate, height),
                xycoords=("data", "axes fraction"),
                xytext=(-6, 0),
                ha="right",
                va=side,
                textcoords="offset points",
                bbox={"facecolor": "white", "linewidth": 0, "pad": 1},
            )
            alt += f"; {words}"
    _label(ax, "Which learning rate?", "learning rate (log scale)", "training loss, nats")
    return Picture(figure, alt)


@_house_style
def accuracy_by_price(runs: Mapping[str, list]) -> Picture:
    """Tune accuracy against what the training had cost by then, in epochs of the reference network.

    runs: name -> one list of (price, top-1 in 0..1) per seed, a point for each epoch; drawn are means over the
    seeds, with a bar of one standard deviation where there are several.
    """
    figure, (ax,) = _charts(1, 330, width=700)
    words = []
    for index, (name, seeds) in enumerate(runs.items()):
        price, top1 = np.mean(seeds, axis=0).T  # (epochs,)
        bars = 100 * np.std(seeds, axis=0, ddof=1)[:, 1] if len(seeds) > 1 else None
        style = _line(index, len(top1)) | {"markevery": 1}  # epochs are few, and each has its bar
        ax.errorbar(price, 100 * top1, bars, capsize=3, label=f"{name} (n = {len(seeds)})", **style)
        words.append(
            f"{name}, n = {len(seeds)}: {_span(100 * top1, _percent)}, at a price of {price[-1]:.2f}"
        )
    ax.legend(loc="lower right")
    ax.set(xlim=(0, None), ylim=(0, None))
    _label(ax, "What accuracy costs", "price, in epochs of the original's network", "tune top-1, %")
    return Picture(
        figure, f"Tune accuracy against price, a point for each epoch. {'; '.join(words)}"
    )


@_house_style
def schedules(rates: dict[str, list[float]]) -> Picture:
    """Learning rate per step, one line per schedule."""
    if not rates or not all(map(len, rates.values())):
        raise ValueError(
            "schedules() needs a dict name -> learning rates per step, none of them empty"
        )
    figure, (ax,) = _charts(1, 280, width=700)
    for index, (name, values) in enumerate(rates.items()):
        ax.plot(values, label=name, **_line(index, len(values)))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    _label(ax, "Learning-rate schedules", "step", "learning rate")
    return Picture(
        figure,
        "Learning rate per step. "
        + "; ".join(
            f"{name}: first {_number(values[0])}, highest {_number(max(values))} at step {np.argmax(values)}, "
            f"last {_number(values[-1])} at step {len(values) - 1}"
            for name, values in rates.items()
        ),
    )


@_house_style
def per_class(accuracies, classes: list[str], k: int = 10) -> Picture:
    """The best and the worst k classes; ``accuracies`` (C,) in 0..1, NaN for a class without pictures."""
    percent = 100 * np.asarray(accuracies, float)
    if percent.shape != (len(classes),) or np.isnan(percent).all():
        raise ValueError(
            f"per_class(): {percent.shape} accuracies for {len(classes)} classes; expected one "
            "number for every class, not all NaN"
        )
    order = [i for i in np.argsort(-percent, kind="stable") if not np.isnan(percent[i])]
    half, mean = ceil(len(order) / 2), np.nanmean(percent)
    parts = {"Best": order[: min(k, half)], "Worst": order[max(half, len(order) - k) :]}
    figure, panels = _charts(2, 75 + 22 * len(parts["Best"]))
    for index, (ax, (title, chosen)) in enumerate(zip(panels, parts.items(), strict=True)):
        _bars(ax, [_short(classes[i], 28) for i in chosen], percent[chosen], COLOURS[index], " %")
        _label(ax, f"{title} {len(chosen)} of {len(order)} classes\n", "top-1 accuracy, %", "")
        ax.set(xlim=(0, 112), xticks=range(0, 101, 20))
        ax.axvline(mean, color=INK, linestyle="--", linewidth=1.2)
        ax.text(
            mean,
            1.01,
            f"mean {_percent(mean)}",
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="bottom",
        )
    best, worst = (
        _listing([f"{_short(classes[i], 40)} {percent[i]:.0f} %" for i in chosen], 3)
        for chosen in (parts["Best"], parts["Worst"][::-1])
    )
    return Picture(
        figure,
        f"Accuracy per class, {_count(order, 'class', 'es')}, mean {_percent(mean)}. Best: {best}. "
        f"Worst: {worst}",
    )


@_house_style
def confusions(pairs: list[tuple[str, str, int]]) -> Picture:
    """How often one class was taken for another: (true name, predicted name, count)."""
    if not pairs:
        return _note("No confusions to show: no picture was taken for another class.")
    names = [f"{_short(true, 26)} → {_short(said, 26)}" for true, said, _ in pairs]
    figure, (ax,) = _charts(1, 75 + 22 * len(pairs), width=700)
    _bars(ax, names, [number for *_, number in pairs], COLOURS[0])
    _label(ax, "True class → what the model said", "pictures", "", whole=True)
    cases = [f"{name}, {number}" for name, (*_, number) in zip(names, pairs, strict=True)]
    return Picture(figure, f"Confusions, true → predicted, with counts: {_listing(cases, 6, '; ')}")


def _line(index: int, points: int) -> dict:
    """Lines differ in colour, marker and dashes, so that they differ in grey too."""
    return {
        "color": COLOURS[index % 10],
        "marker": "os^DvPX*<>"[index % 10],
        "markevery": ceil(points / 12),
        "linestyle": ("-", "--", "-.", ":")[index % 4],
    }


def _label(ax, title: str, x: str, y: str, whole: bool = False) -> None:
    ax.set(title=title, xlabel=x, ylabel=y)
    if whole:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _bars(ax, names: list[str], values, colour: str, unit: str = "") -> None:
    bars = ax.barh(range(len(names)), values, color=colour, height=0.7)
    ax.bar_label(
        bars,
        [f"{value:.0f}{unit}" for value in values],
        padding=3,
        bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},
    )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")


def _end_labels(ax, lines: dict[str, np.ndarray], write, gap: float = 0.08) -> None:
    """Name every line at the right of the axes, level with its end or pushed apart from its neighbours."""
    low, high = ax.get_ylim()
    known = {name: np.flatnonzero(np.isfinite(values)) for name, values in lines.items()}
    ends = [
        (name, index, known[name][-1] + 1, lines[name][known[name][-1]])
        for index, name in enumerate(lines)
        if len(known[name])
    ]
    height = np.inf
    for rank, (name, index, x, y) in enumerate(sorted(ends, key=lambda end: -end[-1])):
        height = max(min((y - low) / (high - low), height - gap), gap * (len(ends) - 1 - rank))
        ax.annotate(
            f"{_cut(name, 30)} {write(y)}",
            (x, y),
            xytext=(1.08, height),
            va="center",
            textcoords="axes fraction",
            arrowprops={
                "arrowstyle": "-",
                "color": COLOURS[index % 10],
                "relpos": (0, 0.5),
                "shrinkB": 5,
            },
        )


def _size_bands(ax, sizes: np.ndarray, start: float) -> None:
    """Span all epochs, and shade them by picture size where it changes."""
    ax.set_xlim(start, start + len(sizes))
    if len(set(sizes)) < 2 or np.isnan(sizes).any():
        return
    ax.set_title(ax.get_title(loc="left"), pad=20)
    for number, (size, group) in enumerate(groupby(sizes)):
        end = start + len(list(group))
        ax.axvspan(start, end, color=PALE if number % 2 else "white", linewidth=0, zorder=0)
        ax.text(
            (start + end) / 2,
            1.0,
            f"{size:.0f}" + " px" * (number == 0),
            ha="center",
            va="bottom",
            transform=ax.get_xaxis_transform(),
            fontsize=10,
        )
        start = end


def _table(run) -> dict[str, np.ndarray]:
    """The columns of a History; accuracies in percent, NaN where a value is missing."""
    rows = getattr(run, "rows", run)
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], Mapping):
        raise ValueError(
            "history() needs a History with at least one epoch, or a dict name -> History; "
            f"got {run!r:.80}"
        )
    scales = {
        "picture_size": 1,
        "train_loss": 1,
        "train_top1": 100,
        "val_loss": 1,
        "val_top1": 100,
        "lr": 1,
    }
    return {
        key: scale * np.array([row.get(key) for row in rows], float)
        for key, scale in scales.items()
    }


def _learning_rates(steps, epochs: np.ndarray, lr: np.ndarray):
    """x in epochs and the rate at every step, or at every epoch where no steps were kept."""
    if not steps:
        return epochs, lr
    number, rate = np.array([step[:2] for step in steps], float).T
    return (number - number[0] + 1) / (number[-1] - number[0] + 1) * len(epochs), rate
