"""Lists of labels: read line by line, and held against the published counts.

Pictures are counted before a set is believed. A list that was cut on the way loses classes and
pictures just as silently, so nothing of it is believed either.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from course_lib.data.download import cure_for
from course_lib.files import DataError, reason


def read_lines(path: Path) -> list[str]:
    """Its lines without blank ones; a byte-order mark and Windows' line ends do no harm.

    Raises DataError for a list that is not there, cannot be read, or is no UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise fault(path, "no UTF-8 text") from error
    except OSError as error:
        raise fault(path, f"cannot be read ({reason(error)})") from error

    return [line for line in text.splitlines() if line.strip()]


def read_table(path: Path, columns: int) -> list[list[str]]:
    """Its rows, split at tabs or blanks. Raises DataError for one with other than ``columns``."""
    rows = [line.split() for line in read_lines(path)]

    for row in rows:
        if len(row) != columns:
            raise fault(path, f"{len(row)} columns in {' '.join(row)!r}, expected {columns}")
    return rows


def check_rows(
    path: Path, pictures: Sequence[str], labels: Sequence[str], published: Mapping[str, int]
) -> None:
    """Each picture once, and as many of each class as published, which ``published`` says.

    Raises DataError.
    """
    found = Counter(labels)
    rows, expected = len(labels), sum(published.values())

    if (rows, len(found)) != (expected, len(published)):
        there = f"{rows:,} rows of {len(found)} classes"
        raise fault(path, f"{there}, expected {expected:,} of {len(published)}")

    for label, count in published.items():
        if found[label] != count:
            raise fault(path, f"{found[label]} rows of {label}, expected {count}")

    ((picture, times),) = Counter(pictures).most_common(1)
    if times > 1:
        raise fault(path, f"{picture} stands there {times} times")


def fault(path: Path, what: str) -> DataError:
    """A list that is not as published: its name, what is wrong, and the cure."""
    mend = "Put the published file back, or move the data set elsewhere and run again."
    return DataError(f"{path} is not as published: {what}. {cure_for(path.parent, mend)}")
