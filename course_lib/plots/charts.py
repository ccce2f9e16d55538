"""Curves and bars: trainings, learning rates, and what a classifier gets right and wrong."""

from collections.abc import Callable, Mapping
from itertools import groupby
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from course_lib.plots import words
from course_lib.plots.picture import (
    NARROW,
    POINTS,
    Picture,
    charts,
    house_style,
    large_letters,
    note,
    write_plainly,
)

# Told apart by eyes of every kind (Petroff 2021, arXiv:2107.02270; matplotlib's "petroff10"), the
# dark ones first.
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
MARKERS = "os^DvPX*<>"
DASHES = ("-", "--", "-.", ":")
INK, PALE = "#222222", "#eceff3"
APART = 0.08  # two names beside an axis, as a fraction of its height


def look(number: int, dashes: int | None = None) -> dict:
    """Lines differ in colour, marker and dashes, so that they differ in grey too.

    dashes: the number of their kind, where it is not that of the line.
    """
    kind = number if dashes is None else dashes
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[kind % len(DASHES)],
    }


# Columns of a History that are drawn: by how much they are multiplied (accuracies become percent).
COLUMNS = {
    "picture_size": 1,
    "train_loss": 1,
    "train_top1": 100,
    "val_loss": 1,
    "val_top1": 100,
    "lr": 1,
}

# --- trainings ----------------------------------------------------------------------------------


@house_style
def history(runs, held_out: str = "tune") -> Picture:
    """One History: loss, accuracy and learning rate. A dict name → History: the runs compared.

    ``held_out`` names the split behind the ``val_`` columns. Raises ValueError for an empty
    history.
    """
    if isinstance(runs, Mapping) and runs:
        tables = {name: _table(run, "history") for name, run in runs.items()}
        return _compare(tables, held_out)

    table = _table(runs, "history")
    sizes = table["picture_size"]
    epochs = np.arange(1, len(table["lr"]) + 1)
    lr_at, lr = _learning_rates(getattr(runs, "steps", None), epochs, table["lr"])

    figure, (loss, top1, rate) = charts(3, 250)
    _train_and_held_out(loss, epochs, table, "loss", held_out, words.number)
    _train_and_held_out(top1, epochs, table, "top1", held_out, words.percent)
    rate.plot(lr_at, lr, color=INK, marker="o" if len(lr) <= len(epochs) else "")

    _label(loss, "Loss", "epoch", "cross-entropy, nats", whole=True)
    _label(top1, "Accuracy", "epoch", "top-1, %", whole=True)
    _label(rate, "Learning rate", "epoch", "learning rate", whole=True)

    # An epoch's mean stands in the middle of its band; a step stands where it was made.
    _size_bands(loss, sizes, start=0.5)
    _size_bands(top1, sizes, start=0.5)
    _size_bands(rate, sizes, start=0)

    alt = (
        f"Training and {held_out} loss over {words.count(epochs, 'epoch')}: "
        f"{words.span(table['train_loss'])} and {words.span(table['val_loss'])}; "
        f"top-1 accuracy: {words.span(table['train_top1'], words.percent)} and "
        f"{words.span(table['val_top1'], words.percent)}; "
        f"learning rate: highest {words.number(max(lr))}, last {words.number(lr[-1])}"
    )
    if not np.isnan(sizes).any():
        alt += f"; picture size {words.span(np.unique(sizes))} px"
    return Picture(figure, alt)


def _train_and_held_out(
    ax: Axes, epochs: np.ndarray, table: dict, column: str, held_out: str, write: Callable
) -> None:
    """Both lines, with their last values in the legend."""
    for index, (split, prefix) in enumerate((("train", "train_"), (held_out, "val_"))):
        values = table[prefix + column]
        label = f"{split}, last {write(values[-1])}"
        ax.plot(epochs, values, label=label, **_line(index, len(epochs)))
    ax.legend()


def _compare(tables: dict[str, dict], held_out: str) -> Picture:
    """Accuracy and loss of several runs on the held-out split, a line for each run."""
    split = held_out.capitalize()
    figure, (top1, loss) = charts(2, 280)

    for ax, column, write in ((top1, "val_top1", words.percent), (loss, "val_loss", words.number)):
        for index, table in enumerate(tables.values()):
            points = len(table[column])
            ax.plot(np.arange(1, points + 1), table[column], **_line(index, points))
        _end_labels(ax, {name: table[column] for name, table in tables.items()}, write)

    _label(top1, f"{split} accuracy", "epoch", "top-1, %", whole=True)
    _label(loss, f"{split} loss", "epoch", "cross-entropy, nats", whole=True)

    runs = []
    for name, table in tables.items():
        accuracy = words.span(table["val_top1"], words.percent)
        runs.append(f"{name}: {accuracy} and {words.span(table['val_loss'])}")

    count = words.count(tables, "run")
    return Picture(figure, f"{split} accuracy and loss per epoch, {count}. {'; '.join(runs)}")


@house_style
def training_curves(runs: Mapping[str, list], held_out: str = "tune") -> Picture:
    """A row for each training: its loss at the left, its accuracy at the right, both splits.

    runs: name → a History, or its rows. The accuracies of all share one scale, and so do the
    losses, on a logarithmic one; trainings whose loss grows to ten times the lowest of all share
    one of their own, so that they flatten no other. Raises ValueError for no run, and for an empty
    history.
    """
    if not runs:
        raise ValueError("training_curves(): expected at least one training")
    tables = {name: _table(run, "training_curves") for name, run in runs.items()}

    figure = Figure(figsize=(480 / POINTS, (55 + 118 * len(tables)) / POINTS), layout="constrained")
    grid = figure.subplots(len(tables), 2, sharex=True, squeeze=False)
    scales = _scales_of_losses(tables)
    said = []

    for row, (name, table) in zip(grid, tables.items(), strict=True):
        for ax, column in zip(row, ("loss", "top1"), strict=True):
            for index, prefix in enumerate(("train_", "val_")):
                values = table[prefix + column]
                epochs = np.arange(1, len(values) + 1)
                ax.plot(epochs, values, **_line(index, len(values)))
        row[0].set_ylabel(
            words.cut(name, 12), rotation=0, ha="right", va="center", fontsize=14, weight="bold"
        )
        row[0].set(yscale="log", ylim=scales[name])
        write_plainly(row[0])
        row[1].set_ylim(0, 100)
        said.append(_last_values(name, table, held_out))

    loss, top1 = grid[0]
    is_split = len(set(scales.values())) > 1
    loss.set_title("Loss (two log scales)" if is_split else "Loss (log scale)")
    top1.set_title("Accuracy, %")
    for ax in grid[-1]:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    figure.legend(top1.lines, ["train", held_out], loc="outside lower center", ncols=2)

    count = words.count(tables, "training")
    return Picture(figure, f"Loss and accuracy per epoch of {count}. {'; '.join(said)}")


def _scales_of_losses(tables: Mapping[str, dict]) -> dict[str, tuple | None]:
    """Lowest and highest place of the axis for each training; None where no loss is a number."""
    losses = {
        name: _finite(table["train_loss"], table["val_loss"]) for name, table in tables.items()
    }
    lowest = min((each.min() for each in losses.values() if each.size), default=0.0)
    is_huge = {name: each.size > 0 and each.max() > 10 * lowest for name, each in losses.items()}

    scales = {}
    for name in tables:
        alike = [each for other, each in losses.items() if is_huge[other] == is_huge[name]]
        together = np.concatenate(alike)
        if not together.size:
            scales[name] = None
            continue
        margin = (together.max() / together.min()) ** 0.08 * 1.01
        scales[name] = (together.min() / margin, together.max() * margin)
    return scales


def _finite(*columns: np.ndarray) -> np.ndarray:
    """What a logarithmic axis can show of them."""
    values = np.concatenate(columns)
    return values[np.isfinite(values) & (values > 0)]


def _last_values(name: str, table: dict, held_out: str) -> str:
    parts = []
    for split, prefix in (("train", "train_"), (held_out, "val_")):
        loss, top1 = table[prefix + "loss"], table[prefix + "top1"]
        parts.append(f"{split} loss {words.span(loss)}, accuracy {words.span(top1, words.percent)}")
    return f"{name}: {', '.join(parts)}"


@house_style
def accuracy_by_price(runs: Mapping[str, list]) -> Picture:
    """Tune accuracy against what the training had cost by then, in epochs of the reference network.

    runs: name → one list of (price, top-1 in 0..1) per seed, a point for each epoch. Drawn are
    means over the seeds, with a bar of one standard deviation where there are several. Raises
    ValueError for no run, seeds of different length, and prices that are no numbers.
    """
    if not runs:
        raise ValueError("accuracy_by_price(): expected at least one run")
    curves = {name: _seeds(name, seeds) for name, seeds in runs.items()}

    figure, (ax,) = charts(1, 330, width=700)
    said = []

    for index, (name, points) in enumerate(curves.items()):
        price, top1 = points.mean(axis=0).T  # (epochs,)
        bars = 100 * points.std(axis=0, ddof=1)[:, 1] if len(points) > 1 else None

        style = _line(index, len(top1))
        style["markevery"] = 1  # epochs are few, and each has its bar
        label = f"{name} (n = {len(points)})"
        ax.errorbar(price, 100 * top1, bars, capsize=3, label=label, **style)

        accuracy = words.span(100 * top1, words.percent)
        said.append(f"{name}, n = {len(points)}: {accuracy}, at a price of {price[-1]:.2f}")

    ax.legend(loc="lower right")
    ax.set(xlim=(0, None), ylim=(0, None))
    _label(ax, "What accuracy costs", "price, in epochs of the original's network", "tune top-1, %")

    alt = f"Tune accuracy against price, a point for each epoch. {'; '.join(said)}"
    return Picture(figure, alt)


def _seeds(name: str, seeds: list) -> np.ndarray:
    """(seeds, epochs, 2): price and top-1 of every epoch of a run."""
    lengths = {len(epochs) for epochs in seeds}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"accuracy_by_price(): {name!r} has seeds of {sorted(lengths)} epochs; expected at "
            "least one seed and one epoch, and as many epochs of each seed"
        )

    points = np.array(seeds, float)
    if not np.isfinite(points[..., 0]).all():
        raise ValueError(f"accuracy_by_price(): a price of {name!r} is no number")
    return points


# --- depth --------------------------------------------------------------------------------------


@house_style
def depth(runs: Mapping[str, object]) -> Picture:
    """Training error per epoch, a line for each network; names that begin with "plain" are dashed.

    runs: name → one History, or a list of those of several seeds (or their rows): drawn is the
    mean, in a band from the lowest to the highest. Raises ValueError for no run, seeds of different
    length, and an empty history.
    """
    if not runs:
        raise ValueError("depth(): expected at least one run")
    errors = {name: _training_errors(name, seeds) for name, seeds in runs.items()}

    figure, (ax,) = charts(1, 320, width=NARROW)
    said = []

    for index, (name, seeds) in enumerate(errors.items()):
        mean_in_band(ax, seeds, _plain_or_not(index, name, seeds.shape[1]))
        mean = words.span(seeds.mean(axis=0), words.percent)
        said.append(f"{name}, n = {len(seeds)}: {mean}")

    means = {f"{name}:": seeds.mean(axis=0) for name, seeds in errors.items()}
    _end_labels(ax, means, words.percent)
    _label(ax, "Training error", "epoch", "training error, %", whole=True)

    alt = f"Training error per epoch, mean over n seeds. {'; '.join(said)}"
    return Picture(figure, alt)


def _training_errors(name: str, seeds) -> np.ndarray:
    """(seeds, epochs): in percent."""
    tables = [_table(seed, "depth") for seed in each_seed(seeds)]

    lengths = {len(table["train_top1"]) for table in tables}
    if len(lengths) != 1:
        raise ValueError(
            f"depth(): {name!r} has seeds of {sorted(lengths)} epochs; expected at least one seed, "
            "and as many epochs of each"
        )
    return 100 - np.array([table["train_top1"] for table in tables])


@house_style
def gradient_norms(norms: Mapping[str, list[float]]) -> Picture:
    """Length of the loss's gradient for each convolution, on a log scale, a line for each network.

    norms: name → one for each convolution, from the first to the last; names that begin with
    "plain" are dashed. A line leaves out zeros and what is not finite, and its label counts them.
    Raises ValueError for no norm, and for one below zero.
    """
    lines = {name: np.asarray(values, float) for name, values in norms.items()}  # (layers,) each
    for name, values in lines.items():
        if values.ndim != 1 or not len(values) or (values < 0).any():
            raise ValueError(
                f"gradient_norms(): {name!r} has norms {values}; expected a list of at least one, "
                "none below zero"
            )
    if not lines:
        raise ValueError("gradient_norms(): expected at least one network")

    figure, (ax,) = charts(1, 350, width=NARROW)
    labels, said = [], []

    for index, (name, values) in enumerate(lines.items()):
        on_a_log_scale = np.isfinite(values) & (values > 0)
        at = np.flatnonzero(on_a_log_scale)

        left_out = len(values) - len(at)
        label = words.cut(name, 40) + (f", {left_out} of them zero or NaN" if left_out else "")
        labels.append(label)

        ax.plot(at + 1, values[at], label=label, **_plain_or_not(index, name, len(at)))
        said.append(f"{label}: {words.count(values, 'convolution')}, {words.span(values)}")

    ax.set_yscale("log")
    columns = 2 if max(map(len, labels)) <= 30 else 1
    figure.legend(loc="outside lower center", ncols=columns)
    _label(ax, "How much of the gradient arrives", "convolution", "length of its gradient", True)

    return Picture(figure, f"Length of each convolution's gradient, log scale. {'; '.join(said)}")


def _plain_or_not(index: int, name: str, points: int) -> dict:
    """A line of its own colour and marker: dashed without shortcuts, solid with them."""
    dashes = "--" if name.startswith("plain") else "-"
    return _line(index, max(points, 1)) | {"linestyle": dashes}


# --- learning rates -----------------------------------------------------------------------------


@house_style
@large_letters
def lr_range(lrs, losses, suggestion=None, minimum=None) -> Picture:
    """Learning-rate test: loss against rate, with the rate to start at and the tempting wrong one.

    lrs, losses: (steps,); suggestion: the rate at which the loss falls fastest; minimum: the rate
    at which it is lowest. Raises ValueError for rates and losses that do not fit.
    """
    lrs, losses = np.asarray(lrs, float), np.asarray(losses, float)
    _refuse_other_rates(lrs, losses, suggestion=suggestion, minimum=minimum)

    finite = np.isfinite(losses)
    lrs, losses = lrs[finite], losses[finite]
    first, lowest = losses[0], losses.min()

    figure, (ax,) = charts(1, 320, width=NARROW)
    ax.plot(lrs, losses, color=COLOURS[0])
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: words.number(rate)))

    # The last losses are huge: leave them out of sight, so that the descent fills the picture.
    descent = max(first - lowest, 0.05)
    ax.set_ylim(lowest - 0.3 * descent, first + 0.5 * descent)

    alt = (
        f"Learning-rate test from {words.number(lrs[0])} to {words.number(lrs[-1])}: the loss "
        f"starts at {words.number(first)}, its lowest value is {words.number(lowest)}"
    )
    if suggestion is not None:
        said = f"falls fastest\nat {words.number(suggestion)}"
        _mark_rate(ax, suggestion, _loss_at(suggestion, lrs, losses), said, "o", "--", "bottom")
        alt += f"; {said}"
    if minimum is not None:
        said = f"lowest at {words.number(minimum)}:\nnot this one"
        _mark_rate(ax, minimum, _loss_at(minimum, lrs, losses), said, "X", ":", "top")
        alt += f"; {said}"

    _label(ax, "Which learning rate?", "learning rate (log scale)", "training loss, nats")
    return Picture(figure, alt)


def _refuse_other_rates(lrs: np.ndarray, losses: np.ndarray, **marked: float | None) -> None:
    is_rate = (lrs > 0) & np.isfinite(lrs)
    if lrs.shape != losses.shape or not np.isfinite(losses).any() or not is_rate.all():
        raise ValueError(
            f"lr_range(): {lrs.shape} rates and {losses.shape} losses; expected as many of both, "
            "rates above zero, and not every loss NaN"
        )

    for name, rate in marked.items():
        if rate is not None and not 0 < rate < np.inf:
            raise ValueError(f"lr_range(): the {name} is {rate}, expected a rate above zero")


def _loss_at(rate: float, lrs: np.ndarray, losses: np.ndarray) -> float:
    return np.interp(np.log(rate), np.log(lrs), losses)


def _mark_rate(
    ax: Axes, rate: float, loss: float, said: str, marker: str, dashes: str, side: str
) -> None:
    """A line at the rate, a point where it meets the curve, and words at the top or bottom."""
    is_far_left = ax.transLimits.transform((np.log10(rate), loss))[0] < 0.35
    ax.axvline(rate, color=INK, linestyle=dashes, linewidth=1.2)
    ax.plot(rate, loss, marker, color=COLOURS[1], markersize=9)
    ax.annotate(
        said,
        (rate, 0.03 if side == "bottom" else 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(6 if is_far_left else -6, 0),
        textcoords="offset points",
        ha="left" if is_far_left else "right",
        va=side,
        bbox={"facecolor": "white", "linewidth": 0, "pad": 1},
    )


@house_style
@large_letters
def schedules(rates: dict[str, list[float]]) -> Picture:
    """Learning rate per step, a line for each schedule: name → rates, none of them empty.

    Raises ValueError for others, and for NaN.
    """
    lines = {name: np.asarray(values, float) for name, values in rates.items()}  # (steps,) each
    if not lines or not all(map(_is_line, lines.values())):
        raise ValueError(
            "schedules() needs a dict name -> learning rates per step, none of them empty or NaN"
        )

    columns = 2 if max(map(len, lines)) < 24 else 1
    rows = ceil(len(lines) / columns)
    figure, (ax,) = charts(1, 280 + 22 * rows, width=NARROW)
    said = []
    for index, (name, values) in enumerate(lines.items()):
        ax.plot(values, label=name, **_line(index, len(values)))
        said.append(
            f"{name}: first {words.number(values[0])}, "
            f"highest {words.number(max(values))} at step {np.argmax(values)}, "
            f"last {words.number(values[-1])} at step {len(values) - 1}"
        )

    figure.legend(loc="outside lower center", ncols=columns)
    _label(ax, "Learning-rate schedules", "step", "learning rate")
    return Picture(figure, f"Learning rate per step. {'; '.join(said)}")


def _is_line(values: np.ndarray) -> bool:
    return values.ndim == 1 and len(values) > 0 and bool(np.isfinite(values).all())


# --- right and wrong ----------------------------------------------------------------------------


@house_style
def per_class(accuracies, classes: list[str], k: int = 10) -> Picture:
    """The best and the worst k classes.

    accuracies: (C,) in 0..1, NaN for a class without pictures; classes: C names. Raises ValueError
    for other shapes, and a k below 1.
    """
    if k < 1:
        raise ValueError(f"per_class(): k is {k}, expected at least 1")

    percent = 100 * np.asarray(accuracies, float)
    if percent.shape != (len(classes),) or np.isnan(percent).all():
        raise ValueError(
            f"per_class(): {percent.shape} accuracies for {len(classes)} classes; expected one "
            "number for every class, not all NaN"
        )

    best_first = np.argsort(-percent, kind="stable")
    order = [i for i in best_first if not np.isnan(percent[i])]
    half = ceil(len(order) / 2)  # with few classes, none stands on both sides
    best = order[: min(k, half)]
    worst = order[max(half, len(order) - k) :]
    mean = np.nanmean(percent)

    figure, panels = charts(2, 75 + 22 * len(best))
    sides = (("Best", best, COLOURS[0]), ("Worst", worst, COLOURS[1]))
    for ax, (title, chosen, colour) in zip(panels, sides, strict=True):
        names = [words.short(classes[i], 28) for i in chosen]
        _bars(ax, names, percent[chosen], colour, " %")
        _label(ax, f"{title} {len(chosen)} of {len(order)} classes\n", "top-1 accuracy, %", "")
        ax.set(xlim=(0, 112), xticks=range(0, 101, 20))
        _mark_mean(ax, mean)

    def said(chosen: list[int]) -> str:
        return words.listing(
            [f"{words.short(classes[i], 40)} {percent[i]:.0f} %" for i in chosen], limit=3
        )

    return Picture(
        figure,
        f"Accuracy per class, {words.count(order, 'class', 'es')}, mean {words.percent(mean)}. "
        f"Best: {said(best)}. Worst: {said(worst[::-1])}",
    )


def _mark_mean(ax: Axes, mean: float) -> None:
    ax.axvline(mean, color=INK, linestyle="--", linewidth=1.2)
    ax.text(
        mean,
        1.01,
        f"mean {words.percent(mean)}",
        transform=ax.get_xaxis_transform(),
        ha="center",
        va="bottom",
    )


@house_style
def confusions(pairs: list[tuple[str, str, int]]) -> Picture:
    """How often one class was taken for another: (true name, predicted name, count)."""
    if not pairs:
        return note("No confusions to show: no picture was taken for another class.")

    names = [f"{words.short(true, 26)} → {words.short(said, 26)}" for true, said, _ in pairs]
    counts = [count for *_, count in pairs]

    figure, (ax,) = charts(1, 75 + 22 * len(pairs), width=700)
    _bars(ax, names, counts, COLOURS[0])
    _label(ax, "True class → what the model said", "pictures", "", whole=True)

    cases = [f"{name}, {count}" for name, count in zip(names, counts, strict=True)]
    listed = words.listing(cases, 6, "; ")
    return Picture(figure, f"Confusions, true → predicted, with counts: {listed}")


# --- lines, bars and labels ---------------------------------------------------------------------


def _line(index: int, points: int) -> dict:
    """A line with a dozen markers, however long it is."""
    return look(index) | {"markevery": ceil(points / 12)}


def mean_in_band(ax: Axes, seeds: np.ndarray, style: dict) -> None:
    """The mean of some seeds, (seeds, epochs), in a band from the lowest to the highest."""
    epochs = np.arange(1, seeds.shape[1] + 1)
    ax.plot(epochs, seeds.mean(axis=0), **style)

    if len(seeds) > 1:
        low, high = seeds.min(axis=0), seeds.max(axis=0)
        ax.fill_between(epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _label(ax: Axes, title: str, x: str, y: str, whole: bool = False) -> None:
    """``whole``: ticks of the x axis at whole numbers only."""
    ax.set(title=title, xlabel=x, ylabel=y)
    if whole:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _bars(ax: Axes, names: list[str], values, colour: str, unit: str = "") -> None:
    """Horizontal ones, the first on top, each with its value."""
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


def _end_labels(ax: Axes, lines: dict[str, np.ndarray], write: Callable) -> None:
    """Name every line at the right of the axes, level with its end or pushed apart from others."""
    ends = []  # (last value that is a number, epoch, index of the line, name)
    for index, (name, values) in enumerate(lines.items()):
        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            last = known[-1]
            ends.append((values[last], last + 1, index, name))
    ends.sort(key=lambda end: -end[0])

    low, high = ax.get_ylim()
    height = np.inf
    for rank, (value, epoch, index, name) in enumerate(ends):
        level = (value - low) / (high - low)
        room_below = APART * (len(ends) - 1 - rank)
        height = max(min(level, height - APART), room_below)

        ax.annotate(
            f"{words.cut(name, 30)} {write(value)}",
            (epoch, value),
            xytext=(1.08, height),
            textcoords="axes fraction",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": COLOURS[index % len(COLOURS)],
                "relpos": (0, 0.5),
                "shrinkB": 5,
            },
        )


def _size_bands(ax: Axes, sizes: np.ndarray, start: float) -> None:
    """Span all epochs, and shade them by picture size where it changes."""
    ax.set_xlim(start, start + len(sizes))
    if len(set(sizes)) < 2 or np.isnan(sizes).any():
        return

    ax.set_title(ax.get_title(loc="left"), pad=20)  # room for the sizes
    for number, (size, epochs) in enumerate(groupby(sizes)):
        end = start + len(list(epochs))
        ax.axvspan(start, end, color=PALE if number % 2 else "white", linewidth=0, zorder=0)

        unit = " px" if number == 0 else ""
        ax.text(
            (start + end) / 2,
            1.0,
            f"{size:.0f}{unit}",
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=10,
        )
        start = end


# --- what a History holds -----------------------------------------------------------------------


def each_seed(runs) -> list:
    """One History, or its rows, as a list of one; a list of those of several seeds as it is."""
    is_one = hasattr(runs, "rows") or (runs and isinstance(runs[0], Mapping))
    return [runs] if is_one else runs


def _table(run, function: str) -> dict[str, np.ndarray]:
    """The columns of a History, (epochs,) each: accuracies in percent, NaN where one is missing."""
    rows = getattr(run, "rows", run)
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], Mapping):
        raise ValueError(
            f"{function}() needs a History with at least one epoch, or a dict name -> History; "
            f"got {run!r:.80}"
        )

    table = {}
    for name, scale in COLUMNS.items():
        values = [row.get(name) for row in rows]
        table[name] = scale * np.array(values, float)
    return table


def _learning_rates(steps, epochs: np.ndarray, lr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x in epochs, and the rate at every step, or at every epoch where no steps were kept."""
    if not steps:
        return epochs, lr

    number, rate = np.array([step[:2] for step in steps], float).T  # (steps,)
    done = number - number[0] + 1
    return done / done[-1] * len(epochs), rate
