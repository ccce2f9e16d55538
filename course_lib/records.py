"""Results as data: one JSON for each run, what it cost, and how long the next one will take."""

import json
import subprocess
from pathlib import Path

import numpy as np

from course_lib import runtime
from course_lib.runtime import CourseError

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "figures" / "results"
REFERENCE_IMAGES = 100_000  # one epoch over TinyImageNet


def price(record: dict) -> float | None:
    """What a run cost, in epochs of the reference network: seconds × reference_rate / 100,000.

    Minutes differ from one machine to the next; this unit is meant to hold. None where no rate was timed.
    """
    rate = record["reference_rate"]
    return None if rate is None else record["seconds"] * rate / REFERENCE_IMAGES


def results(name: str) -> list[dict]:
    """The committed records of a recipe, in order of file name."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / name).glob("*.json"))]


def forecast(name: str, profile: str, rate: float) -> str:
    """How long a recipe will take at ``rate``, from the prices of its committed runs: of this profile, if any."""
    records = results(name) or results(f"ablations/{name}")
    records = [record for record in records if record["profile"] == profile] or records
    prices = [cost for cost in map(price, records) if cost]
    if not prices:
        return f"{name}: no run measured yet, so no forecast; this machine trains {rate:,.0f} reference pictures/s"
    cost = float(np.mean(prices))
    minutes = cost * REFERENCE_IMAGES / rate / 60
    return f"{name}: price {cost:.2f}, at {rate:,.0f} reference pictures/s about {minutes:,.0f} minutes here"


def write_json(path: Path, content: dict) -> None:
    """Whole or not at all. Raises CourseError for a disk that is full or cannot be written."""
    try:
        with runtime.written_whole(path) as aside:
            aside.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise CourseError(f"cannot write {path} ({error.strerror or error}). Make room, or see that the folder can be "
                          "written, and run again: the training itself is kept.") from error


def read_json(path: Path) -> dict:
    """What ``write_json`` wrote; empty where there is nothing, or nothing readable."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def commit() -> str | None:
    """The revision of the code, with a + where it was changed since; None outside git."""
    try:
        found = subprocess.run(["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"], text=True,
                               cwd=REPOSITORY, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
