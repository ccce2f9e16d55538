"""The grid of session 4 as rows and lines: network × loss, and in each a cell for every level."""

from itertools import product

from course_lib.experiments import session4
from course_lib.report.numbers import by_machine, measured

LEVELS = sorted({noise for noise, _ in session4.CELLS})  # percent of wrong labels


def cells(network: str, remedy: str) -> dict[int, str]:
    """Level → name of the cell, of those that the grid has."""
    levels = [noise for noise, of in session4.CELLS if of == remedy]
    return {noise: session4.cell(network, noise, remedy).name for noise in sorted(levels)}


def in_words(network: str, remedy: str) -> tuple[str, str]:
    return session4.IN_WORDS[network], session4.IN_WORDS[remedy]


# (network, remedy): all networks as they are, then all with each remedy
LINES = [(network, remedy) for remedy, network in product(session4.REMEDIES, session4.NETWORKS)]


def by_level(network: str, remedy: str) -> dict[str, dict[int, list[dict]]]:
    """Machine → level → records, of what was trained."""
    found: dict[str, dict[int, list[dict]]] = {}
    for noise, name in cells(network, remedy).items():
        for machine, group in by_machine(measured(f"grid/{name}")).items():
            found.setdefault(machine, {})[noise] = group
    return found
