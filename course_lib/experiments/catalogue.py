"""Every recipe and trial by name. A new data set's file is entered here."""

import difflib

from course_lib.experiments import cifar, imagenette, session1, tiny_imagenet
from course_lib.experiments.recipe import Recipe
from course_lib.files import CourseError

FILES = (tiny_imagenet, imagenette, cifar)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for file in FILES for recipe in file.RECIPES}

# Recipes with one setting changed, judged on the tune split alone.
TRIALS: dict[str, Recipe] = {trial.name: trial for file in FILES for trial in file.TRIALS}


# Short trainings that a lesson compares, judged on the tune split alone, too.
STUDIES: dict[str, Recipe] = {study.name: study for study in session1.STUDIES}


def find_recipe(name: str) -> Recipe:
    """The recipe, trial or study of that name. Raises CourseError with the nearest names."""
    known = RECIPES | TRIALS | STUDIES
    if name in known:
        return known[name]

    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.3) or list(RECIPES)[:3]
    raise CourseError(
        f"unknown recipe {name!r}; the nearest names are {', '.join(near)}; "
        "python -m course_lib.train lists all"
    )
