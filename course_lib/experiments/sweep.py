"""One training at several learning rates, and the range test that should have foretold them."""

from dataclasses import replace
from pathlib import Path

from course_lib.data import ImageStore
from course_lib.experiments import record as records
from course_lib.experiments.recipe import Sweep
from course_lib.experiments.run import beginning, run
from course_lib.files import CourseError
from course_lib.runtime import Runtime
from course_lib.training import DivergedError, processes
from course_lib.training.grades import best_rate, grade, reached
from course_lib.training.lr_finder import LRRange, range_test

__all__ = ["best_rate", "committed", "grade", "range_test_of", "reached", "run_sweep"]

# --- making one -----------------------------------------------------------------------------------


def run_sweep(
    sweep: Sweep,
    rt: Runtime,
    *,
    resume: bool = True,
    tensorboard: Path | str | None = None,
    quiet: bool = False,
) -> dict:
    """Range test, then a training at every rate, as a record of its own kind.

    A training that has finished is reused, so that an interrupted sweep goes on. One whose loss is
    no number any more is a result, too: it stands in the record with its reason. resume,
    tensorboard, quiet, and what is raised: as in ``run``.
    """
    commit = records.commit()
    train = sweep.recipe.load("train", rt.profile)
    test = range_test_of(sweep, rt, train)

    trained = []
    for rate in sweep.rates:
        how = {"resume": resume, "tensorboard": tensorboard, "quiet": quiet, "priced": False}
        try:
            record = run(sweep.at(rate), rt, **how).record
            trained.append({"lr": rate, "ended": None, "history": record["history"]})
        except DivergedError as error:
            trained.append({"lr": rate, "ended": str(error), "history": []})

    return {
        # what was run, and on what
        "sweep": sweep.name,
        "settings": sweep.recipe.settings(),
        "seed": rt.seed,
        "profile": rt.profile,
        "dataset": train.name,
        "is_real": train.is_real,
        "train_images": len(train),
        # where
        "device": rt.machine,
        "precision": rt.precision.name,
        "processes": processes.count(),
        "versions": records.versions(),
        "commit": commit,
        # what came of it
        "range_test": {
            "start": sweep.start,
            "end": sweep.end,
            "lrs": test.lrs,
            "losses": test.losses,
        },
        "runs": trained,
    }


def range_test_of(
    sweep: Sweep, rt: Runtime, train: ImageStore | None = None, steps: int = 100
) -> LRRange:
    """The range test, from the weights, batches and settings that the trainings begin with."""
    recipe = sweep.recipe
    if train is None:
        train = recipe.load("train", rt.profile)

    model, loader = beginning(recipe, rt, train)
    loader.picture_size = recipe.sizes[0]

    gentle = replace(recipe, lr=sweep.start)
    return range_test(
        model,
        loader,
        gentle.build_optimizer,
        end_lr=sweep.end,
        steps=steps,
        precision=rt.precision,
        loss=recipe.build_loss(),
        extras=recipe.extras,
    )


# --- reading one ----------------------------------------------------------------------------------


def committed(name: str) -> dict:
    """The record of a sweep in figures/results, of the lowest seed.

    Raises CourseError where there is none.
    """
    found = records.results(f"sweeps/{name}")
    if not found:
        raise CourseError(
            f"no record of the sweep {name} lies in {records.RESULTS / 'sweeps'}: make it with "
            f"`python -m course_lib.train {name} --out figures/results`"
        )
    return min(found, key=lambda record: record["seed"])
