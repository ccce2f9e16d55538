"""Recipes, runs and their records.

``recipe.py`` says what a recipe is. ``tiny_imagenet.py``, ``imagenette.py`` and ``cifar.py`` hold
those there are; ``session1.py``, ``session3.py`` and ``session4.py`` the studies, sweeps and the
grid that a session compares; ``catalogue.py`` finds each by its name.

``run.py`` trains one and ``sweep.py`` one at several rates; ``kept.py`` keeps it on disk;
``memorised.py`` counts what it learned by heart; ``record.py`` and ``price.py`` tell what came of
it; ``trained.py`` gives the network back. ``layer_cost.py`` measures a single layer,
``localize.py`` grades class activation maps.
"""

from course_lib.experiments.catalogue import GRID, RECIPES, STUDIES, SWEEPS, TRIALS, find_recipe
from course_lib.experiments.recipe import DATASETS, Recipe, Sweep
from course_lib.experiments.run import Run, run
from course_lib.experiments.sweep import run_sweep
from course_lib.experiments.trained import load

__all__ = [
    "DATASETS",
    "GRID",
    "RECIPES",
    "STUDIES",
    "SWEEPS",
    "TRIALS",
    "Recipe",
    "Run",
    "Sweep",
    "find_recipe",
    "load",
    "run",
    "run_sweep",
]
