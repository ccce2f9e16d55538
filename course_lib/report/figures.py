"""The figures of README and notebooks: ``<!-- figure: NAME -->`` shows ``figures/NAME.png``.

Notebooks call ``recorded("NAME")`` instead: opened alone, on Colab or Kaggle, a page has no file
beside it, and the output of a cell has the picture inside.

A new one is a function that draws from the records in some folders, and a line in ``FIGURES`` at
the end of this file.
"""

import hashlib
import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from course_lib.experiments import SWEEPS, session1, session3, session4
from course_lib.experiments.price import price
from course_lib.files import REPO, CourseError, picture_tag
from course_lib.report import grid
from course_lib.report import localization as graded_maps
from course_lib.report.numbers import by_machine, measured, untrained

FOLDER = REPO / "figures"
FINENESS = 2  # pixels of the file for one on the page


class Figure(NamedTuple):
    """What it shows; it is out of date as soon as a record in its folders changes."""

    draw: Callable  # folder → its records, to a plots.Picture, or None where there is no record
    folders: tuple[str, ...]  # in figures/results, one for each recipe


def accuracy_by_price(runs: dict[str, list[dict]]):
    """Tune accuracy against price: a curve for each recipe and machine."""
    from course_lib import plots  # here, since --check needs no matplotlib

    curves = {}
    for recipe, records in runs.items():
        for machine, group in by_machine(records).items():
            curves[f"{recipe}, {machine}"] = [price_and_top1(record) for record in group]
    return plots.accuracy_by_price(curves) if curves else None


def depth(runs: dict[str, list[dict]]):
    """Training error by epoch, with shortcuts and without: a line for each network."""
    from course_lib import plots

    lines = {}
    for folder, records in runs.items():
        if records:
            name = folder.removeprefix("studies/")
            lines[session1.IN_WORDS[name]] = [record["history"] for record in records]
    return plots.depth(lines) if lines else None


def sweeps(runs: dict[str, list[dict]]):
    """Accuracy against the peak rate, and where a range test's suggestions fall: a panel each."""
    from course_lib import plots

    panels = {}
    for folder, records in runs.items():
        if records:
            name = folder.removeprefix("sweeps/")
            panels[session3.IN_WORDS[name]] = records[0]
    return plots.sweeps(panels) if panels else None


def noise(runs: dict[str, list[dict]]):
    """Official accuracy against wrong labels: a line for each network and loss."""
    from course_lib import plots

    lines = {}
    for line in ON_NOISE:
        network, loss = grid.in_words(*line)
        for machines, groups in _by_level(runs, line).items():
            lines[f"{network}{machines}", loss] = groups
    return plots.noise(lines) if lines else None


def memorised(runs: dict[str, list[dict]]):
    """What is learned by heart where most labels are wrong: a panel for each network and loss."""
    from course_lib import plots

    panels = {}
    for line in BY_HEART:
        network, loss = grid.in_words(*line)
        for machines, groups in _by_level(runs, line).items():
            panels[f"{network}, {loss}{machines}"] = [each["history"] for each in groups[MOST]]
    return plots.memorised(panels) if panels else None


def memory(runs: dict[str, list[dict]]):
    """What is learned by heart in a long training: a panel for each loss."""
    from course_lib import plots

    panels = {}
    for folder, records in runs.items():
        if records:
            name = folder.removeprefix("studies/")
            panels[session4.IN_WORDS[name]] = [record["history"] for record in records]
    return plots.memorised(panels) if panels else None


def localization(runs: dict[str, list[dict]]):
    """How far the maps of each method lie on the object: a row of panels for each record."""
    from course_lib import plots

    panels = {}
    for record in graded_maps.small_first(runs["localization"]):
        in_order = dict(graded_maps.in_order(record))
        panels[graded_maps.title(record)] = record | {"maps": in_order}
    return plots.localization(panels) if panels else None


def _by_level(runs: dict[str, list[dict]], line: tuple[str, str]) -> dict[str, dict]:
    """Words for the machines, empty where all runs are of one kind → level → records."""
    groups = grid.by_level(*line, find=lambda folder: runs.get(folder, []))

    everything = [record for records in runs.values() for record in records]
    several = len({grid.kind(record) for record in everything}) > 1
    return {f", {machines}" if several else "": levels for machines, levels in groups.items()}


def price_and_top1(record: dict) -> list[tuple[float, float]]:
    """(price so far, tune top-1) after each epoch."""
    rows = record["history"]
    taken = [row["seconds"] + row["eval_seconds"] for row in rows]

    # Decoding, and the last look at the official split, are counted before the first epoch.
    before = record["seconds"] - sum(taken)
    spent = list(accumulate(taken, initial=before))[1:]

    prices = [price(record | {"seconds": seconds}) for seconds in spent]
    return [(cost, row["val_top1"]) for cost, row in zip(prices, rows, strict=True)]


def figure(name: str, root: str = "") -> str:
    """The line that shows a figure, with the text that was drawn with it.

    ``root`` leads from the page to the repository. Raises CourseError for an unknown name.
    """
    _check_known(name)
    if _digest(name) is None:
        return _not_drawn(name)

    alt = _carried(name).get("Description", name)
    return f"![{alt}]({root}figures/{name}.png)"


class Recorded:
    """A figure as a notebook shows it; a sentence where there is no record yet."""

    def __init__(self, name: str):
        _check_known(name)
        self.file = _file(name)
        self.text = _carried(name).get("Description") or _not_drawn(name)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str | None:
        try:
            with Image.open(self.file) as image:
                width = image.width // FINENESS
        except OSError:  # not drawn yet
            return None
        return picture_tag(self.file.read_bytes(), self.text, width)


def recorded(name: str) -> Recorded:
    """``figures/NAME.png``, drawn from the records. Raises CourseError for an unknown name."""
    return Recorded(name)


def draw_figures() -> list[Path]:
    """All of them, for a digest tells of other records, and not of other code that draws.

    Each has the digest of its records inside; one without records is removed. Returns the files
    that are not as they were. Raises CourseError for records that do not go together, and for a
    full disk.
    """
    changed = []

    for name, (draw, _) in FIGURES.items():
        before = _bytes(name)
        try:
            picture = draw(_records(name))
        except ValueError as error:
            raise CourseError(f"figure {name} cannot be drawn: {error}") from error

        if picture is None:
            _file(name).unlink(missing_ok=True)
        else:
            picture.save(_file(name), Digest=_digest(name))

        if _bytes(name) != before:
            changed.append(_file(name))
    return changed


def stale_figures() -> list[Path]:
    """Those that were drawn from other records than there are now, by the digest they carry."""
    return [_file(name) for name in FIGURES if _carried(name).get("Digest") != _digest(name)]


def _check_known(name: str) -> None:
    if name not in FIGURES:
        raise CourseError(f"unknown figure {name!r}: expected one of {', '.join(FIGURES)}")


def _not_drawn(name: str) -> str:
    """In its place: how to make the first record."""
    recipe = FIGURES[name].folders[0].rpartition("/")[2]
    return untrained(recipe)


def _records(name: str) -> dict[str, list[dict]]:
    return {folder: measured(folder) for folder in FIGURES[name].folders}


def _digest(name: str) -> str | None:
    """Of the records, since pixels differ from one matplotlib to the next. None without records."""
    records = list(_records(name).values())
    if not any(records):
        return None
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()


def _carried(name: str) -> dict[str, str]:
    """The texts inside the PNG; empty where there is none, or a broken one."""
    try:
        with Image.open(_file(name)) as image:
            return dict(image.text)
    except (OSError, SyntaxError, AttributeError):  # AttributeError: of another kind than PNG
        return {}


def _bytes(name: str) -> bytes:
    """Empty where there is no such file."""
    return _file(name).read_bytes() if _file(name).exists() else b""


def _file(name: str) -> Path:
    return FOLDER / f"{name}.png"


MOST = max(grid.LEVELS)  # percent of wrong labels
ON_NOISE = [line for line in grid.LINES if line[1] in ("", "gce")]
BY_HEART = [(network, loss) for network in session4.NETWORKS for loss in ("", "gce")]

FIGURES = {
    "tiny_imagenet": Figure(accuracy_by_price, ("tiny_imagenet", "tiny_imagenet_quick")),
    "sweeps": Figure(sweeps, tuple(f"sweeps/{name}" for name in SWEEPS)),
    "depth": Figure(depth, tuple(f"studies/depth.{name}" for name in session1.DEPTH)),
    "noise": Figure(
        noise,
        tuple(f"grid/{name}" for line in ON_NOISE for name in grid.cells(*line).values()),
    ),
    "localization": Figure(localization, ("localization",)),
    "memorised": Figure(memorised, tuple(f"grid/{grid.cells(*line)[MOST]}" for line in BY_HEART)),
    "memory": Figure(memory, tuple(f"studies/{each.name}" for each in session4.LONG_STUDIES)),
}
