"""Results as data: one JSON for each run, what it cost, and how long the next one will take."""

import json
import subprocess

import numpy as np

from course_lib.files import REPO

RESULTS = REPO / "figures" / "results"
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


def commit() -> str | None:
    """The revision of the code, with a + where it was changed since; None outside git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            text=True,
            cwd=REPO,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
