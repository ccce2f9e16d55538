"""On what of Colab and Kaggle the notebooks were run last, as rows: by `make drift`."""

from course_lib.experiments import record as records
from course_lib.files import read_json

NAMES = {"colab": "Colab", "kaggle": "Kaggle"}
VERSIONS = {
    "python": "Python",
    "torch": "torch",
    "numpy": "numpy",
    "ipython": "IPython",
    "matplotlib": "matplotlib",
}
WAYS = {  # tests/platforms/ways.py
    "cloned": "alone, online: it clones the course",
    "again": "after a restart, offline",
    "old": "offline, course and data attached, old layout",
    "new": "after a restart, new layout",
}


def rows() -> list[tuple]:
    """The head, and a row for each platform that was verified: from a whole checkout."""
    made = [("platform", "as shipped on", *VERSIONS.values(), "sessions", "last verified")]

    for name, seen in _recorded():
        versions = [seen["versions"][package] for package in VERSIONS]
        notebooks = _numbers(seen.get("minutes", {}))
        made.append((name, seen["shipped"], *versions, notebooks, seen.get("verified", "–")))
    return made


def rows_of_ways() -> list[tuple]:
    """The head, and for each platform the notebooks that reached their end in each way."""
    made = [("versions of", *WAYS.values(), "last verified")]

    for name, seen in _recorded():
        if ways := seen.get("ways"):
            reached = [_numbers(ways.get(way, {}).get("seconds", {})) for way in WAYS]
            made.append((name, *reached, max(way["verified"] for way in ways.values())))
    return made


def _recorded() -> list[tuple[str, dict]]:
    found = read_json(records.RESULTS / "platforms.json")
    return [(name, found[key]) for key, name in NAMES.items() if key in found]


def _numbers(notebooks: dict) -> str:
    """Of notebooks by their names: ``1 to 3, 5``; a dash for none."""
    spans: list[list[int]] = []
    for number in sorted(int(name[:2]) for name in notebooks):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    words = (f"{s[0]} to {s[-1]}" if len(s) > 2 else ", ".join(map(str, s)) for s in spans)
    return ", ".join(words) or "–"
