"""Maps that were graded against boxes and masks, as rows of tables and panels of a figure.

Lead: the mean difference to the spot in the middle on the same pictures, in standard errors of that
difference. Above zero the map is better than the spot, above 2 hardly by accident.
"""

from course_lib.experiments import record as records
from course_lib.experiments.localize import BASELINES, IN_WORDS, errors_over_middle
from course_lib.report.numbers import measured

GRADES = ("pointing game", "energy", "IoU")
BY_PIXELS = {"deletion": -1, "insertion": 1}  # of the first, less is better

LEGEND = (
    "± one standard error. Lead: mean difference to the spot in the middle on the same pictures, "
    "in its standard errors. Small objects cover less than a quarter of the picture."
)


def graded(is_real: bool) -> list[dict]:
    """The records over real pictures, or those over toy shapes, small pictures first.

    The two never share a table.
    """
    if is_real:
        found = measured("localization")
    else:
        everything = records.results("localization")
        found = [each for each in everything if not each["is_real"] and each["profile"] != "smoke"]

    return small_first(found)


def small_first(found: list[dict]) -> list[dict]:
    return sorted(found, key=lambda record: record["picture_size"])


def title(record: dict) -> str:
    """``session ResNet, TinyImageNet at 64 px``"""
    network = record["network"].replace("_resnet", " ResNet")
    return f"{network}, {record['dataset']} at {record['picture_size']} px"


def rows(record: dict) -> list[tuple]:
    """The head, and a row for each way to make maps that was graded, baselines first."""
    columns = [column for grade in GRADES for column in (f"{grade}, %", "lead")]
    table = [("map", "n", *columns, "ms a picture")]

    for key, found in in_order(record):
        cells = [cell for grade in GRADES for cell in _cells(key, found[grade])]
        milliseconds = 1000 * found["seconds"] / found["timed"]
        time = "–" if key in BASELINES else f"{milliseconds:.1f}"
        table.append((found["words"], f"{found['n']:,}", *cells, time))
    return table


def rows_of_small_objects(record: dict) -> list[tuple]:
    """The same of objects that cover less than a quarter of the picture, without the time."""
    columns = [column for grade in GRADES for column in (f"{grade}, %", "lead")]
    table = [("small objects", "n", *columns)]

    for key, each in in_order(record):
        if found := each["small"]:
            cells = [cell for grade in GRADES for cell in _cells(key, found[grade])]
            table.append((each["words"], f"{found['n']:,}", *cells))
    return table


def rows_by_pixels(record: dict) -> list[tuple]:
    """The same of deletion and insertion; the head alone where nothing was graded by them."""
    heads = {"deletion": "deletion, % (less is better)", "insertion": "insertion, %"}
    columns = [column for grade in BY_PIXELS for column in (heads[grade], "lead")]
    table = [("by pixels", "n", *columns)]

    for key, each in in_order(record):
        if found := each["by_pixels"]:
            cells = [
                cell
                for grade, sign in BY_PIXELS.items()
                for cell in _cells(key, found[grade], sign)
            ]
            table.append((each["words"], f"{found['n']:,}", *cells))
    return table


def in_order(record: dict) -> list[tuple[str, dict]]:
    """In the order of the course, whatever the order in which they were graded."""
    return [(key, record["maps"][key]) for key in IN_WORDS if key in record["maps"]]


def _cells(key: str, found: dict, sign: int = 1) -> tuple[str, str]:
    grade = f"{100 * found['mean']:.1f} ± {100 * found['error']:.1f}"
    lead = "–" if key == "middle" else f"{sign * errors_over_middle(found):+.1f}"
    return grade, lead
