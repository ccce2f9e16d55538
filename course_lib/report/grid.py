"""The grid of session 4 as rows and lines: network × loss, and in each a cell for every level."""

from collections.abc import Callable
from itertools import product

from course_lib.experiments import session4
from course_lib.report.numbers import by_machine, measured

Find = Callable[[str], list[dict]]

LEVELS = sorted({noise for noise, _ in session4.CELLS})  # percent of wrong labels


def cells(network: str, remedy: str) -> dict[int, str]:
    """Level → name of the cell, of those that the grid has."""
    levels = [noise for noise, of in session4.CELLS if of == remedy]
    return {noise: session4.cell(network, noise, remedy).name for noise in sorted(levels)}


def in_words(network: str, remedy: str) -> tuple[str, str]:
    return session4.IN_WORDS[network], session4.IN_WORDS[remedy]


# (network, remedy): all networks as they are, then all with each remedy
LINES = [(network, remedy) for remedy, network in product(session4.REMEDIES, session4.NETWORKS)]


def by_level(network: str, remedy: str, find: Find = measured) -> dict[str, dict[int, list[dict]]]:
    """Machines → level → records of what was trained; ``find(folder)`` gives a folder's records.

    Those of one ``kind`` belong together, wherever they ran: accuracies and losses have no clock,
    and another processor changes them as another seed does, by the rounding of its sums.
    """
    kinds: dict[tuple, dict[int, list[dict]]] = {}
    for noise, name in cells(network, remedy).items():
        for record in find(f"grid/{name}"):
            kinds.setdefault(kind(record), {}).setdefault(noise, []).append(record)

    rows: dict[str, dict[int, list[dict]]] = {}
    for (profile, precision), levels in kinds.items():
        words = machines([record for records in levels.values() for record in records])
        if words in rows:  # the same processors, trained another way
            words = f"{words}, {profile}, {precision}"
        rows[words] = levels
    return rows


def kind(record: dict) -> tuple[str, str]:
    """Profile and precision."""
    return record["profile"], record["precision"]


def machines(records: list[dict]) -> str:
    """All on which they were trained, in words."""
    return "; ".join(sorted(by_machine(records)))
