"""Run a recipe and leave its result as data: ``python -m course_lib.train RECIPE``."""

import argparse
import sys
from pathlib import Path

from course_lib import runtime
from course_lib.experiments.recipe import RECIPES, VARIANTS, Recipe, find_recipe
from course_lib.experiments.run import run
from course_lib.files import CourseError, read_json, write_json
from course_lib.training import processes


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.train",
        description=__doc__,
        epilog="On several GPUs or processes, but not on "
        "Windows: torchrun --nproc-per-node N -m course_lib.train RECIPE. Each batch is shared out; the first writes.",
    )
    parser.add_argument("recipe", nargs="?", help="without it: the list of recipes")
    parser.add_argument(
        "--profile", choices=runtime.PROFILES, help="default: COURSE_PROFILE, else by the machine"
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, help="of weights, order and augmentation (default: 0)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the record, e.g. figures/results"
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with, or reuse, the run on disk (default); --no-resume trains anew",
    )
    parser.add_argument(
        "--tensorboard", type=Path, metavar="DIR", help="folder for TensorBoard's curves"
    )
    asked = parser.parse_args(arguments)
    if asked.recipe is None:
        width = max(map(len, RECIPES | VARIANTS)) + 2
        print(
            "\n".join(
                f"{recipe.name:{width}}{recipe.about}" for recipe in (RECIPES | VARIANTS).values()
            )
        )
        return 0
    try:
        with processes.together():
            return _main(find_recipe(asked.recipe), asked)
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return 130


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _main(recipe: Recipe, asked: argparse.Namespace) -> int:
    rt = runtime.setup(asked.profile, asked.seed)
    if processes.rank() == 0:
        print(rt.banner())
    finished = run(
        recipe, rt, seed=asked.seed, anew=not asked.resume, tensorboard=asked.tensorboard
    )
    if processes.rank():
        return 0
    final, cost = (
        finished.record["final"],
        "" if finished.price is None else f", price {finished.price:.3f}",
    )
    seen = (
        f"official validation set, last epoch: top-1 {final['val_top1']:.2%}, top-5 {final['val_top5']:.2%}"
        if final
        else f"tune split, last epoch: top-1 {finished.history.last['val_top1']:.2%}"
    )
    print(f"{recipe.name}: {seen}; {finished.record['seconds'] / 60:.1f} minutes{cost}")
    if asked.out and not finished.record["is_real"] and rt.profile != "smoke":
        print("not written to --out: these pictures were toy shapes", file=sys.stderr)
    elif asked.out:
        folder = asked.out / "ablations" if recipe.is_variant else asked.out
        path = folder / recipe.name / f"{rt.profile}-seed{asked.seed}.json"
        kept, here = read_json(path), {"device": rt.machine, "processes": processes.count()}
        if kept and not here.items() <= kept.items():
            raise CourseError(
                f"{path} is of another machine or number of processes ({kept.get('device')}; processes: "
                f"{kept.get('processes')}): move it, or name another folder"
            )
        write_json(path, finished.record)
    return 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(
            errors="replace", line_buffering=True
        )  # Windows' pipes lack signs; a log shows each epoch
    sys.exit(main())
