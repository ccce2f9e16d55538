"""One training at several learning rates, and the range test that should have foretold them."""

from dataclasses import replace

from course_lib import runtime
from course_lib.data import BatchLoader
from course_lib.experiments import record as records
from course_lib.experiments.recipe import DATASETS, Sweep
from course_lib.experiments.run import run
from course_lib.runtime import Runtime
from course_lib.training import CrossEntropy, TrainingError
from course_lib.training.lr_finder import LRRange, range_test


def run_sweep(sweep: Sweep, rt: Runtime, *, quiet: bool = False) -> dict:
    """Range test, then a training at every rate, as a record of its own kind.

    A training that has finished is reused, so that an interrupted sweep goes on. One whose loss is
    no number any more is a result, too: it stands in the record with its reason. Raises CourseError
    as ``run`` does.
    """
    commit = records.commit()
    test = range_test_of(sweep, rt)

    trained, record = [], {}
    for rate in sweep.rates:
        try:
            record = run(sweep.at(rate), rt, priced=False, quiet=quiet).record
            trained.append({"lr": rate, "ended": None, "history": record["history"]})
        except TrainingError as error:
            trained.append({"lr": rate, "ended": str(error), "history": []})

    of_every_run = ("seed", "profile", "dataset", "is_real", "train_images", "device", "precision")
    return {
        "sweep": sweep.name,
        "settings": sweep.recipe.settings(),
        **{field: record.get(field) for field in (*of_every_run, "processes", "versions")},
        "commit": commit,
        "range_test": {
            "start": sweep.start,
            "end": sweep.end,
            "lrs": test.lrs,
            "losses": test.losses,
        },
        "runs": trained,
    }


def range_test_of(sweep: Sweep, rt: Runtime, steps: int = 100) -> LRRange:
    """The range test, from the weights, batches and settings that the trainings begin with."""
    recipe = sweep.recipe
    train = DATASETS[recipe.dataset]("train", profile=rt.profile, **recipe.data_options)
    loader = BatchLoader(
        train, recipe.batch_size, augment=recipe.augment, device=rt.device, seed=rt.seed
    )
    loader.picture_size = recipe.sizes[0]

    runtime.seed_everything(rt.seed)
    model = recipe.build_model(len(train.classes), rt.device)
    gentle = replace(recipe, lr=sweep.start)

    return range_test(
        model,
        loader,
        gentle.build_optimizer,
        end_lr=sweep.end,
        steps=steps,
        precision=rt.precision,
        loss=CrossEntropy(recipe.label_smoothing),
        extras=recipe.extras,
    )
