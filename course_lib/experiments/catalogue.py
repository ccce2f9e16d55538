"""Every recipe and trial by name. A new data set's file is entered here."""

import difflib

from course_lib.experiments import cifar, imagenette, session1, session3, session4, tiny_imagenet
from course_lib.experiments.recipe import Recipe, Sweep
from course_lib.files import CourseError

FILES = (tiny_imagenet, imagenette, cifar)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for file in FILES for recipe in file.RECIPES}

# Recipes with one setting changed, judged on the tune split alone.
TRIALS: dict[str, Recipe] = {
    trial.name: trial for file in (*FILES, session4) for trial in file.TRIALS
}

# Short trainings that a lesson compares, judged on the tune split alone, too.
STUDIES: dict[str, Recipe] = {
    study.name: study for file in (session1, session3, session4) for study in file.STUDIES
}

# One training at several rates.
SWEEPS: dict[str, Sweep] = {sweep.name: sweep for sweep in session3.SWEEPS}

# Networks x wrong labels x remedies, judged on the official split as recipes are.
GRID: dict[str, Recipe] = {cell.name: cell for cell in session4.GRID}


def find_recipe(name: str) -> Recipe | Sweep:
    """The recipe, trial, study, cell or sweep. Raises CourseError with the nearest names."""
    known = RECIPES | TRIALS | STUDIES | GRID | SWEEPS
    if name in known:
        return known[name]

    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.3) or list(RECIPES)[:3]
    raise CourseError(
        f"unknown recipe {name!r}; the nearest names are {', '.join(near)}; "
        "python -m course_lib.train lists all"
    )
