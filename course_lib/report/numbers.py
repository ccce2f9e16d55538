"""Which records are worth showing, and a number as their mean and spread."""

import statistics
from collections.abc import Callable

from course_lib.experiments import GRID, RECIPES, STUDIES
from course_lib.experiments import record as records
from course_lib.experiments.price import price
from course_lib.experiments.record import results
from course_lib.files import CourseError

# Value by its short name: where it stands in a record, and its format. "%" asks for percent.
VALUES: dict[str, tuple[Callable[[dict], float], str]] = {
    "top1": (lambda record: record["final"]["val_top1"], ".1%"),
    "top5": (lambda record: record["final"]["val_top5"], ".1%"),
    "tune": (lambda record: record["history"][-1]["val_top1"], ".1%"),
    "best_tune": (lambda record: max(row["val_top1"] for row in record["history"]), ".1%"),
    "tune_loss": (lambda record: record["history"][-1]["val_loss"], ".3f"),
    "train_error": (lambda record: 1 - record["history"][-1]["train_top1"], ".1%"),
    "train_loss": (lambda record: record["history"][-1]["train_loss"], ".2f"),
    "price": (price, ".2f"),
    "minutes": (lambda record: record["seconds"] / 60, ".0f"),
    "epochs": (lambda record: record["epochs"], ".0f"),
    "cuts": (lambda record: cuts(record), ".1f"),
    "pictures": (lambda record: record["train_images"], ",.0f"),
}


def number(asked: str) -> str:
    """``SOURCE VALUE`` or ``SOURCE PATH FORMAT``: the mean over the runs of the source, ± their
    standard deviation.

    Raises CourseError for a source without runs, or with runs on several machines, and for an
    unknown value.
    """
    source, _, value = asked.partition(" ")

    machines = by_machine(_find(source))
    if len(machines) != 1:
        raise CourseError(
            f"run: {asked}: expected runs on one machine in figures/results/{source}, found "
            f"{', '.join(machines) or 'none'}; RECIPE/PROFILE names those of one profile, "
            "RECIPE/PROFILE-seedN a single one"
        )
    (runs,) = machines.values()

    try:
        return mean(runs, value)
    except (LookupError, TypeError, ValueError) as error:
        raise CourseError(
            f"run: {asked}: expected one of {', '.join(VALUES)}, or a path and a format, such as "
            f"history.8.val_top1 .1% ({error!r})"
        ) from None


def mean(runs: list[dict], value: str) -> str:
    """Of a value in VALUES, or of ``PATH FORMAT``. Raises LookupError, TypeError or ValueError."""
    if value in VALUES:
        find, form = VALUES[value]
        return _spread([find(record) for record in runs], form)

    path, _, form = value.rpartition(" ")
    return _spread([_at(record, path) for record in runs], form)


def measured(name: str) -> list[dict]:
    """The records that are worth a row, in the folder ``name``: real data, not smoke, and with a
    rate unless it is a study.
    """
    return [record for record in results(name) if _may_be_shown(record)]


def by_machine(runs: list[dict]) -> dict[str, list[dict]]:
    """Runs on one machine, with as many processes, belong together."""
    groups: dict[str, list[dict]] = {}
    for record in runs:
        # a benchmark says "machine"
        machine = record.get("device") or record.get("machine", "an unnamed machine")

        processes = record.get("processes", 1)
        if processes > 1:
            machine = f"{machine}, {processes} processes"

        groups.setdefault(machine, []).append(record)
    return groups


def cuts(record: dict) -> int:
    """How often the rate was lower in an epoch than in the one before."""
    rates = [row["lr"] for row in record["history"]]
    return sum(after < before for before, after in zip(rates, rates[1:], strict=False))


def untrained(name: str) -> str:
    """In place of a table or figure of runs that nobody made yet: how to make the first."""
    if name == "localization":
        return "*Not graded yet: `python -m course_lib.localize` makes the records.*"

    unpriced = "" if name in RECIPES else " --no-price"
    return (
        f"*Not trained yet: `python -m course_lib.train {name}{unpriced} --out figures/results` "
        "makes the first record.*"
    )


# --- helpers ------------------------------------------------------------------------------------


def _find(source: str) -> list[dict]:
    """Records of RECIPE, of RECIPE/PROFILE, or of one file, named without its ending."""
    paths = []
    for pattern in (f"{source}.json", f"{source}/*.json", f"{source}-seed*.json"):
        paths += sorted(records.RESULTS.glob(pattern))

    found = [records.read(path) for path in paths]
    return [record for record in found if _may_be_shown(record)]


def _may_be_shown(record: dict) -> bool:
    """Real data, not smoke, and a price but for studies and the grid's cells.

    A benchmark lacks the fields, and may.
    """
    is_real = record.get("is_real", True)
    is_smoke = record.get("profile") == "smoke"

    # these are compared by what they reach; another run without a rate cannot stand by its price
    has_rate = record.get("reference_rate", 1) is not None
    is_compared = record.get("recipe") in STUDIES | GRID

    return is_real and not is_smoke and (has_rate or is_compared)


def _at(record: dict, path: str) -> float:
    """A number by its keys, joined by dots. Rows count from 1, as epochs do; -1 is the last."""
    found = record
    for key in path.split("."):
        if isinstance(found, list):
            row = int(key)
            found = found[row - 1 if row > 0 else row]
        else:
            found = found[key]
    return found


def _spread(values: list[float], form: str) -> str:
    """The mean, and the standard deviation where values differ."""
    if form.endswith("%"):
        percent = [100 * value for value in values]
        return _spread(percent, form[:-1] + "f") + " %"

    middle = format(statistics.mean(values), form)
    if len(set(values)) == 1:
        return middle
    return f"{middle} ± {format(statistics.stdev(values), form)}"
