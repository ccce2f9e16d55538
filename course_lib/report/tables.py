"""The tables of README and notebooks: ``<!-- table: NAME ARGUMENTS -->``.

A new one is a function that returns Markdown, and a line in ``TABLES`` or, where it takes no
arguments, in ``WHOLE`` at the end of this file.
"""

import math
import statistics
from collections.abc import Callable, Iterator
from functools import cache

import torch

from course_lib.experiments import (
    GRID,
    STUDIES,
    SWEEPS,
    Recipe,
    find_recipe,
    session1,
    session3,
    session4,
)
from course_lib.experiments import record as records
from course_lib.files import CourseError, read_json
from course_lib.models import Summary, summary
from course_lib.report import grid, localization, platforms
from course_lib.report.numbers import by_machine, cuts, mean, measured, untrained
from course_lib.training.grades import NEAR, best_rate, grade

# What others measured, by their own log: last epoch, one run. A row of the table of runs.
LOGGED = {
    "tiny_imagenet_original": (
        "the original session, by its log",
        50,  # epochs
        "49.9 %",  # top-1
        "–",  # top-5 was not logged
        1,  # run
        50,  # price: its own network is the unit
        349,  # minutes
        "Tesla T4",
    )
}

CLASSES = 10  # of Imagenette
UNIT_EPOCHS = 10  # of ResNet-20, whose training is the unit of the others' time


def table(asked: str) -> str:
    """A table by its name, and the recipes that it is of. Raises CourseError for unknown ones."""
    name, *recipes = asked.split() or [""]
    if name in WHOLE and not recipes:
        return WHOLE[name]()
    if name in WHOLE:
        raise CourseError(f"table {name!r} is always whole: expected `table: {name}` alone")

    if name not in TABLES:
        known = ", ".join([*TABLES, *WHOLE])
        raise CourseError(f"unknown table {name!r}: expected one of {known}")
    if not recipes:
        raise CourseError(f"table {name!r} of no recipe: expected `table: {name} RECIPE`")

    for recipe in recipes:
        has_runs = (records.RESULTS / recipe).is_dir()  # also of a recipe that is gone
        if not has_runs:
            find_recipe(recipe)

    return TABLES[name](*recipes)


def runs_table(*recipes: str) -> str:
    """Accuracy of the last epoch on official val, price, minutes, machine; n runs in a row."""
    rows = [("run", "epochs", "top-1", "top-5", "n", "price", "minutes", "machine")]
    for name in recipes:
        rows += _rows(f"`{name}`", measured(name), "top1", "top5")
        if name in LOGGED:
            rows.append(LOGGED[name])
    return _markdown_or_how_to_train(rows, recipes[0])


def ablations_table(*recipes: str) -> str:
    """Each recipe and its trials, in ``ablations/``, judged on the tune split."""
    rows = [("variant", "epochs", "pictures", "tune top-1", "n", "price", "minutes", "machine")]
    for recipe in recipes:
        rows += _rows(f"`{recipe}` as it stands", measured(recipe), "pictures", "tune")

        for name in _ablations_of(recipe):
            runs = measured(f"ablations/{name}")
            about = runs[0]["settings"]["about"] if runs else name
            rows += _rows(about, runs, "pictures", "tune")
    return _markdown(rows)


def minutes_table(*recipes: str) -> str:
    """What runs took, by machine: a column for each recipe."""
    columns = [by_machine(measured(name)) for name in recipes]

    machines = []  # in the order in which they are met
    for groups in columns:
        machines += [machine for machine in groups if machine not in machines]

    rows = [("machine", *recipes)]
    for machine in machines:
        cells = [
            f"{mean(groups[machine], 'minutes')} min" if machine in groups else "–"
            for groups in columns
        ]
        rows.append((machine, *cells))
    return _markdown(rows)


def depth_table(*studies: str) -> str:
    """What each network of a study learns of its own training pictures, and of others."""
    reached = ("training error", "training loss", "tune top-1")
    rows = [("network", "parameters", *reached, "n", "machine")]

    for name in studies:
        parameters = f"{_counted(name).parameters:,}"

        for machine, group in by_machine(measured(f"studies/{name}")).items():
            values = [mean(group, value) for value in ("train_error", "train_loss", "tune")]
            rows.append((session1.IN_WORDS[name], parameters, *values, len(group), machine))
    return _markdown(rows)


def networks_table(*studies: str) -> str:
    """What each network of a study costs, by count and by clock, and what it reaches.

    Step and training are times over those of ResNet-20.
    """
    costs = ("picture, px", "parameters", "million multiply-adds", "step", "epochs", "training")
    times = _step_times("studies")
    rows = [("network", *costs, "tune top-1", "n", "machine")]

    for name in studies:
        sizes, counted = _study(name).sizes, _counted(name)
        multiply_adds = f"{counted.multiply_adds / 1e6:,.1f}"
        counts = sizes[-1], f"{counted.parameters:,}", multiply_adds

        step = training = "–"
        if name in times:
            step = f"{times[name]:.1f}"
            training = f"{times[name] * _epochs_at_the_last_size(sizes) / UNIT_EPOCHS:.1f}"

        for machine, group in by_machine(measured(f"studies/{name}")).items():
            reached = mean(group, "tune"), len(group), machine
            rows.append((session1.IN_WORDS[name], *counts, step, len(sizes), training, *reached))
    return _markdown(rows)


def schedules_table(*studies: str) -> str:
    """What each schedule reaches, and how often it cuts the rate where it does so in steps."""
    rows = [("schedule", "tune top-1", "tune loss", "cuts", "n", "machine")]

    for name in studies:
        in_steps = _study(name).schedule in ("steps", "plateau")

        for machine, group in by_machine(measured(f"studies/{name}")).items():
            reached = mean(group, "tune"), mean(group, "tune_loss")
            rows.append(
                (
                    session3.IN_WORDS[name],
                    *reached,
                    _each_once(map(cuts, group)) if in_steps else "–",
                    len(group),
                    machine,
                )
            )
    return _markdown(rows)


def sweep_table(*names: str) -> str:
    """What a sweep reached at every peak rate. The best one ended with the lowest tune loss."""
    if len(names) > 1:
        raise CourseError(f"table 'sweep' of {len(names)} sweeps: expected one")

    rows = [("peak rate", "training loss", "tune loss", "tune top-1", "")]
    for record in _sweeps(*names)[:1]:  # of several seeds the first: a row is of one training
        best = best_rate(record)
        for trained in record["runs"]:
            rows.append((f"{trained['lr']:g}", *_reached(trained, best)))
    return _markdown(rows)


def suggestions_table(*names: str) -> str:
    """Each way to read a range test, graded on the sweeps: how near the best rate, at what cost."""
    graded = [grade(record) for name in names for record in _sweeps(name)]
    near = f"within a factor of {NEAR} of the best"
    rows = [("method", near, "rate over the best", "mean cost", "highest cost")]

    for method in zip(*graded, strict=True):  # its row in every sweep
        suggested = [row for row in method if not math.isnan(row["rate"])]
        good = sum(1 / NEAR <= row["factor"] <= NEAR for row in suggested)
        cells = [method[0]["method"], f"{good} of {len(method)}"]

        if suggested:
            factors = [row["factor"] for row in suggested]
            costs = [100 * row["cost"] for row in suggested]
            cells += [
                f"{min(factors):.2g} to {max(factors):.2g}",
                f"{statistics.mean(costs):.1f} points",
                f"{max(costs):.1f} points",
            ]
        else:
            cells += ["–"] * 3
        rows.append(tuple(cells))
    return _markdown(rows)


def grid_table() -> str:
    """Official top-1 of the grid: a row for each network and loss, a column for each level."""
    levels = [f"{level} % wrong" for level in grid.LEVELS]
    rows = [("network", "loss", *levels, "n", "machine")]

    for line in grid.LINES:
        for machines, groups in grid.by_level(*line).items():
            reached = [
                mean(groups[level], "top1") if level in groups else "–" for level in grid.LEVELS
            ]
            rows.append((*grid.in_words(*line), *reached, _counts(groups), machines))
    return _markdown_or_how_to_train(rows, "grid_session")


def grid_losses_table() -> str:
    """Loss and top-1 of the last epoch, without a remedy: of the training pictures as they are
    labelled, and of the official ones.
    """
    columns = ("training loss", "training top-1", "official loss", "official top-1")
    values = (
        "history.-1.train_loss .3f",
        "history.-1.train_top1 .1%",
        "final.val_loss .3f",
        "top1",
    )
    rows = [("network", "wrong labels", *columns, "n", "machine")]

    for network in session4.NETWORKS:
        words = session4.IN_WORDS[network]
        for groups in grid.by_level(network, "").values():
            for level, group in groups.items():
                reached = [mean(group, value) for value in values]
                machine = grid.machines(group)
                rows.append((words, f"{level} %", *reached, len(group), machine))
    return _markdown_or_how_to_train(rows, "grid_session")


def grid_costs_table() -> str:
    """What each network of the grid costs, by count and by clock: a step over the plain one's."""
    rows = [("network", "parameters", "million multiply-adds", "step")]
    times = _step_times("grid")

    for network in session4.NETWORKS:
        name = session4.cell(network, 0, "").name
        counted = _counted_in_the_grid(name)
        multiply_adds = f"{counted.multiply_adds / 1e6:,.1f}"
        step = f"{times[name]:.2f}" if name in times else "–"
        rows.append((session4.IN_WORDS[network], f"{counted.parameters:,}", multiply_adds, step))
    return _markdown(rows)


def faults_table() -> str:
    """Each fault of session 4 alone, on tune, below what guessing reaches."""
    reached = ("training loss", "tune loss", "tune top-1")
    of_chance = f"{math.log(CLASSES):.3f}"
    rows = [
        ("fault", *reached, "n", "machine"),
        (f"chance, {CLASSES} classes", of_chance, of_chance, f"{100 / CLASSES:.1f} %", "–", "–"),
    ]

    for study in session4.FAULT_STUDIES:
        for machine, group in by_machine(measured(f"studies/{study.name}")).items():
            values = ("history.-1.train_loss .3f", "tune_loss", "tune")
            numbers = [mean(group, value) for value in values]
            rows.append((session4.IN_WORDS[study.name], *numbers, len(group), machine))

    if len(rows) == 2:
        return untrained(session4.FAULT_STUDIES[0].name)
    return _markdown(rows)


def memory_table() -> str:
    """Each loss in a training long enough to learn by heart: its best epoch on tune, and its last,
    and there what it says of wrongly labelled training pictures.
    """
    values = ("best_tune", "tune", "history.-1.wrong_as_given .1%", "history.-1.wrong_as_true .1%")
    last = ("tune top-1 at the end", "wrong as given", "wrong as true")
    rows = [("loss", "tune top-1, best epoch", *last, "n", "machine")]

    for study in session4.LONG_STUDIES:
        for machine, group in by_machine(measured(f"studies/{study.name}")).items():
            numbers = [mean(group, value) for value in values]
            rows.append((session4.IN_WORDS[study.name], *numbers, len(group), machine))
    return _markdown_or_how_to_train(rows, session4.LONG_STUDIES[0].name)


def localization_table() -> str:
    """Class activation maps over TinyImageNet, beside chance and a spot in the middle."""
    return _localization(is_real=True)


def localization_toys_table() -> str:
    """The same over toy shapes, whose masks are the truth; their numbers stand alone."""
    return _localization(is_real=False)


def _localization(is_real: bool) -> str:
    """For each network and size three tables: all objects, small ones, deletion and insertion."""
    found = localization.graded(is_real)
    if not found:
        return untrained("localization")

    parts = []
    for record in found:
        parts.append(f"**{localization.title(record)}** ({record['device']})")
        parts.append(_markdown(localization.rows(record)))

        more = localization.rows_of_small_objects(record), localization.rows_by_pixels(record)
        for rows in more:
            if len(rows) > 1:  # more than the head
                parts.append(_markdown(rows))
    return "\n\n".join([*parts, localization.LEGEND])


def platforms_table() -> str:
    """What Colab and Kaggle ship, and when the notebooks last ran on it."""
    return _verified(platforms.rows())


def ways_table() -> str:
    """Which notebooks reached their end, by how they get the course."""
    return _verified(platforms.rows_of_ways())


def _verified(rows: list[tuple]) -> str:
    return _markdown(rows) if len(rows) > 1 else "Not verified yet: `make drift`."


def _markdown_or_how_to_train(rows: list[tuple], recipe: str) -> str:
    return _markdown(rows) if len(rows) > 1 else untrained(recipe)


def _counts(groups: dict[int, list[dict]]) -> str:
    """``3``, or where levels differ the number of each, as ``3, 3, 2, –``."""
    if len({len(group) for group in groups.values()}) == 1:
        return str(len(next(iter(groups.values()))))
    return ", ".join(str(len(groups[level])) if level in groups else "–" for level in grid.LEVELS)


def _each_once(counts: Iterator[int]) -> str:
    """``2``, or ``1 to 3`` where the seeds differ."""
    counts = sorted(counts)
    return f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"


def _reached(trained: dict, best: float) -> tuple[str, ...]:
    if not trained["history"]:
        return "–", "–", "–", "diverged"

    last = trained["history"][-1]
    losses = f"{last['train_loss']:.3f}", f"{last['val_loss']:.3f}"
    return *losses, f"{100 * last['val_top1']:.1f} %", "best" if trained["lr"] == best else ""


def _sweeps(name: str) -> list[dict]:
    if name not in SWEEPS:
        raise CourseError(f"{name!r} is no sweep: expected one of {', '.join(SWEEPS)}")
    return measured(f"sweeps/{name}")


def _epochs_at_the_last_size(sizes: tuple[int, ...]) -> float:
    """As many of those would take the same time: work goes with the area."""
    return sum((size / sizes[-1]) ** 2 for size in sizes)


def _study(name: str) -> Recipe:
    if name not in STUDIES:
        raise CourseError(f"{name!r} is no study: expected one of {', '.join(STUDIES)}")
    return STUDIES[name]


@cache
def _counted(study: str) -> Summary:
    """Parameters, and multiply-adds of a picture of the last epoch."""
    recipe = _study(study)
    model = recipe.build_model(recipe.data_options["classes"], torch.device("cpu"))
    return summary(model, recipe.sizes[-1])


@cache
def _counted_in_the_grid(cell: str) -> Summary:
    recipe = GRID[cell]
    model = recipe.build_model(CLASSES, torch.device("cpu"))
    return summary(model, recipe.sizes[-1])


def _step_times(benchmark: str) -> dict[str, float]:
    """Of a training step, over that of the first, as benchmarked; empty where it was not."""
    path = records.RESULTS / "benchmarks" / f"{benchmark}.json"
    return read_json(path).get("ratio", {})


def _ablations_of(recipe: str) -> list[str]:
    """``RECIPE`` and ``RECIPE.VARIANT``, but not ``RECIPE_QUICK.VARIANT``."""
    folders = sorted((records.RESULTS / "ablations").glob(f"{recipe}*"))
    names = [folder.name for folder in folders]
    return [name for name in names if name == recipe or name.startswith(f"{recipe}.")]


def _rows(label: str, runs: list[dict], *values: str) -> Iterator[tuple]:
    """A row for each machine: label, epochs, the values, n, price, minutes, machine."""
    for machine, group in by_machine(runs).items():
        accuracies = [mean(group, value) for value in values]
        epochs, price, minutes = (mean(group, value) for value in ("epochs", "price", "minutes"))
        yield label, epochs, *accuracies, len(group), price, minutes, machine


def _markdown(rows: list[tuple]) -> str:
    """The first row is the head. In a wide table all but the first and last columns are numbers."""
    columns = len(rows[0])
    if columns > 3:
        rule = ["---"] + ["--:"] * (columns - 2) + ["---"]
    else:
        rule = ["---"] * columns

    head, *body = rows
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (head, rule, *body))


TABLES: dict[str, Callable[..., str]] = {
    "runs": runs_table,
    "ablations": ablations_table,
    "minutes": minutes_table,
    "depth": depth_table,
    "networks": networks_table,
    "schedules": schedules_table,
    "sweep": sweep_table,
    "suggestions": suggestions_table,
}

# Of all that sessions 4 and 5 measure, and of the platforms: they take no names.
WHOLE: dict[str, Callable[[], str]] = {
    "grid": grid_table,
    "grid_losses": grid_losses_table,
    "grid_costs": grid_costs_table,
    "memory": memory_table,
    "faults": faults_table,
    "localization": localization_table,
    "localization_toys": localization_toys_table,
    "platforms": platforms_table,
    "ways": ways_table,
}
