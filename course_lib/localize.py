"""Grade class activation maps against boxes and masks: ``python -m course_lib.localize``.

Every method over the official validation set of TinyImageNet and over toy shapes, with pictures of
64 and of 128 px: a record each, in figures/results/localization. Each method is kept as soon as it
is graded, and a second call goes on with those that are left.
"""

import argparse
import sys
from pathlib import Path

from course_lib import runtime
from course_lib.experiments.localize import (
    PICTURES,
    Study,
    localize,
    of_tiny_imagenet,
    of_toy_shapes,
)
from course_lib.experiments.record import RESULTS
from course_lib.files import CourseError, show_each_line, speak_utf8, writable
from course_lib.runtime import Runtime, seed_argument

DATA = ("tiny_imagenet", "toy_shapes")
FOLDER = RESULTS / "localization"


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)

    try:
        rt = runtime.setup(asked.profile, asked.seed)
        print(rt.banner())
        if not writable(asked.out):
            raise CourseError(f"cannot write to {asked.out}: mend that, or name another folder")

        for data in [asked.only] if asked.only else DATA:
            for size in asked.sizes:
                study = _study(data, size, asked, rt)
                path = asked.out / f"{study.name}.json"
                print(f"{path}: {study.val.describe()}, shown at {size} px")
                localize(study, rt, path, resume=asked.resume)

    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped: the same command goes on with the methods that are left", file=sys.stderr)
        return 130
    return 0


def _study(data: str, size: int, asked: argparse.Namespace, rt: Runtime) -> Study:
    if data == "toy_shapes":
        return of_toy_shapes(size, rt)
    return of_tiny_imagenet(asked.weights, asked.network, size, rt)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course_lib.localize", description=__doc__)
    parser.add_argument("--only", choices=DATA, help="default: both, one after the other")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        choices=PICTURES,
        default=list(PICTURES),
        help="of the pictures, in pixels a side (default: 64 128)",
    )
    parser.add_argument(
        "--network", default="session_resnet", help="for TinyImageNet (default: session_resnet)"
    )
    parser.add_argument(
        "--weights",
        default="tinyimagenet",
        help="its weights: a name, or the path of a .safetensors file (default: tinyimagenet)",
    )
    parser.add_argument(
        "--seed",
        type=seed_argument,
        default=0,
        help="of toy shapes and their network (default: 0)",
    )
    parser.add_argument(
        "--profile", choices=runtime.PROFILES, help="default: COURSE_PROFILE, else by the machine"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder for the records (default: figures/results/localization)",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with the record that is there (default); --no-resume begins afresh",
    )
    return parser


if __name__ == "__main__":
    speak_utf8()
    show_each_line()
    sys.exit(main())
