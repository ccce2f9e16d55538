"""Results as data: one JSON for each run. ``figures/results/README.md`` explains the fields."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from course_lib.data import ImageStore
from course_lib.experiments.recipe import Recipe
from course_lib.files import REPO, CourseError
from course_lib.runtime import Runtime
from course_lib.training import History, processes

RESULTS = REPO / "figures" / "results"

# What tables, figures and forecasts look at in the record of a run.
SHOWN = frozenset(
    (
        "profile",
        "is_real",
        "train_images",
        "device",
        "epochs",
        "seconds",
        "reference_rate",
        "history",
        "final",
    )
)

SHOWN_OF_SWEEPS = frozenset(
    ("sweep", "seed", "profile", "is_real", "device", "settings", "range_test", "runs")
)

SHOWN_OF_LOCALIZATION = frozenset(
    ("profile", "is_real", "device", "network", "dataset", "picture_size", "maps")
)

SHOWN_IN = {"sweeps": SHOWN_OF_SWEEPS, "localization": SHOWN_OF_LOCALIZATION}  # by folder


def make_record(
    recipe: Recipe,
    rt: Runtime,
    train: ImageStore,
    val: ImageStore | None,
    history: History,
    *,
    rates: list[float] | None,
    look: tuple[dict | None, float],
    commit: str | None,
) -> dict:
    """A run as data.

    val: None for a trial, which never looks at the official split. rates: pictures a second of the
    reference network, before the run and after it; None where they were not timed. look: what was
    seen on ``val``, and the seconds that it took.
    """
    final, look_seconds = look
    prepare_seconds = train.prepare_seconds + (0.0 if val is None else val.prepare_seconds)
    epoch_seconds = sum(history.column("seconds") + history.column("eval_seconds"))
    settings = recipe.settings()

    return {
        # what was run
        "recipe": recipe.name,
        "settings": settings | {"about": recipe.about},
        "seed": rt.seed,
        "profile": rt.profile,
        # on what
        "dataset": train.name,
        "is_real": train.is_real,
        "train_images": len(train),
        "val_images": None if val is None else len(val),
        "noise": settings["data_options"].get("noise", 0),
        "wrong_labels": wrong_labels(train),
        # where
        "device": rt.machine,
        "precision": rt.precision.name,
        "processes": processes.count(),
        "versions": versions(),
        "commit": commit,
        # what it took, and what came of it
        "epochs": len(history),
        "seconds": prepare_seconds + epoch_seconds + look_seconds,
        "reference_rate": sum(rates) / 2 if rates else None,
        "reference_rates": rates,
        "history": history.rows,
        "steps": history.steps,
        "final": final,
    }


def wrong_labels(store: ImageStore) -> float | None:
    """The share of the labels that are not the true ones, as counted: 0..1.

    None where the true ones are not known.
    """
    if store.clean_labels is None:
        return None

    return float(np.mean(store.labels != store.clean_labels))


def versions() -> dict[str, str]:
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def results(name: str) -> list[dict]:
    """The committed records in the folder of a recipe, in order of file name.

    Raises CourseError as ``read``.
    """
    shown = SHOWN_IN.get(name.split("/")[0], SHOWN)
    return [read(path, shown) for path in sorted((RESULTS / name).glob("*.json"))]


def read(path: Path, fields: frozenset[str] = frozenset()) -> dict:
    """Raises CourseError for a file that is no JSON, and for one that lacks one of ``fields``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CourseError(f"{path} cannot be read as a record ({error})") from error

    lacks = sorted(fields - found.keys()) if isinstance(found, dict) else ["everything"]
    if lacks:
        raise CourseError(f"{path} is no record of a run: it lacks {', '.join(lacks)}")
    return as_of_today(found)


def as_of_today(found: dict) -> dict:
    """With its machine as one would be called now: older records say "1 threads"."""
    names = {key: found[key] for key in ("device", "machine") if found.get(key)}
    return found | {key: re.sub(r"\b1 threads$", "1 thread", name) for key, name in names.items()}


def commit() -> str | None:
    """The revision of the code, with a + where it was changed since; None outside git."""
    if not (REPO / ".git").exists():
        return None  # installed: git would tell of whatever project it lies in

    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=REPO, capture_output=True, check=True, encoding="utf-8")
    except (OSError, subprocess.CalledProcessError):
        return None

    return found.stdout.strip()
