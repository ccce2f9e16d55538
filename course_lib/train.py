"""Run a recipe and leave its result as data: ``python -m course_lib.train RECIPE``."""

import argparse
import sys
from pathlib import Path

from course_lib import runtime
from course_lib.experiments import (
    GRID,
    RECIPES,
    STUDIES,
    SWEEPS,
    TRIALS,
    Recipe,
    Run,
    Sweep,
    find_recipe,
    run,
    run_sweep,
)
from course_lib.experiments.record import as_of_today
from course_lib.files import (
    CourseError,
    read_json,
    show_each_line,
    speak_utf8,
    writable,
    write_json,
)
from course_lib.runtime import Runtime, seed_argument
from course_lib.training import processes

SEVERAL = (
    "On several GPUs or processes, but not on Windows: "
    "torchrun --nproc-per-node N -m course_lib.train RECIPE. "
    "Each batch is shared out; the first process writes."
)


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    if asked.recipe is None:
        print(_list_of_recipes())
        return 0

    try:
        with processes.together():
            return _train(find_recipe(asked.recipe), asked)
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return 130


def _train(recipe: Recipe | Sweep, asked: argparse.Namespace) -> int:
    rt = runtime.setup(asked.profile, asked.seed)
    is_first = processes.rank() == 0
    if is_first:
        print(rt.banner())

    # what stands in the way of the record is told before the hour, not after it
    path = _path(asked.out, recipe, rt) if asked.out and is_first else None
    if path:
        _refuse_what_cannot_be_written(path, rt)

    how = {"resume": asked.resume, "tensorboard": asked.tensorboard}
    if isinstance(recipe, Sweep):
        record = run_sweep(recipe, rt, **how)
        said = _sweep_in_words(record)
    else:
        finished = run(recipe, rt, priced=asked.price, **how)
        record = finished.record
        said = _in_words(recipe, finished)

    if is_first:
        print(said)
    if path:
        _write(record, path)
    return 0


def _in_words(recipe: Recipe, finished: Run) -> str:
    if final := finished.record["final"]:
        top1, top5 = final["val_top1"], final["val_top5"]
        seen = f"official validation set, last epoch: top-1 {top1:.2%}, top-5 {top5:.2%}"
    else:
        seen = f"tune split, last epoch: top-1 {finished.history.last['val_top1']:.2%}"

    minutes = finished.record["seconds"] / 60
    cost = "" if finished.price is None else f", price {finished.price:.3f}"
    return f"{recipe.name}: {seen}; {minutes:.1f} minutes{cost}"


def _sweep_in_words(record: dict) -> str:
    each = []
    for trained in record["runs"]:
        history = trained["history"]
        top1 = f"{history[-1]['val_top1']:.1%}" if history else "diverged"
        each.append(f"{trained['lr']:g}: {top1}")
    return f"{record['sweep']}: tune split, last epoch, top-1 by peak rate: {', '.join(each)}"


def _path(out: Path, recipe: Recipe | Sweep, rt: Runtime) -> Path:
    folder = out
    if recipe.name in TRIALS:
        folder = out / "ablations"
    if recipe.name in STUDIES:
        folder = out / "studies"
    if recipe.name in GRID:
        folder = out / "grid"
    if recipe.name in SWEEPS:
        folder = out / "sweeps"
    return folder / recipe.name / f"{rt.profile}-seed{rt.seed}.json"


def _refuse_what_cannot_be_written(path: Path, rt: Runtime) -> None:
    """Raises CourseError for a folder that cannot be written, and a record of another machine."""
    if not writable(path.parent):
        raise CourseError(f"cannot write to {path.parent}: mend that, or name another folder")

    kept = as_of_today(read_json(path))
    here = {"device": rt.machine, "processes": processes.count()}
    if kept and not here.items() <= kept.items():
        raise CourseError(
            f"{path} is of another machine or number of processes ({kept.get('device')}; "
            f"processes: {kept.get('processes')}): move it, or name another folder"
        )


def _write(record: dict, path: Path) -> None:
    """Raises CourseError for what was measured on toy shapes, and for a full disk.

    A record of the profile smoke says so; tables leave it out.
    """
    if not record["is_real"]:
        raise CourseError(
            f"{path} was not written: these pictures were toy shapes, and nothing measured on them "
            "may lie among results. README says how to get the real data."
        )

    is_kept = record["profile"] != "smoke"
    write_json(path, record, "the training itself is kept" if is_kept else "")


# --- what one can ask for -------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.train", description=__doc__, epilog=SEVERAL
    )
    parser.add_argument("recipe", nargs="?", help="without it: the list of recipes")
    parser.add_argument(
        "--profile", choices=runtime.PROFILES, help="default: COURSE_PROFILE, else by the machine"
    )
    parser.add_argument(
        "--seed",
        type=seed_argument,
        default=0,
        help="of weights, order and augmentation (default: 0)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the record, e.g. figures/results; not for one of toy shapes",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with, or reuse, the run on disk (default); --no-resume trains from the start",
    )
    parser.add_argument(
        "--price",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="time the reference network, too, for minutes (default, but for sweeps); "
        "--no-price leaves it out",
    )
    parser.add_argument(
        "--tensorboard", type=Path, metavar="DIR", help="folder for TensorBoard's curves"
    )
    return parser


def _list_of_recipes() -> str:
    recipes = RECIPES | TRIALS | STUDIES | GRID | SWEEPS
    width = max(map(len, recipes)) + 2
    return "\n".join(f"{recipe.name:{width}}{recipe.about}" for recipe in recipes.values())


if __name__ == "__main__":
    speak_utf8()
    show_each_line()
    sys.exit(main())
