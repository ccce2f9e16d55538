"""Keep the weights of a finished run for ``create_model``: ``python -m course_lib.publish RECIPE``.

They go to ``data/weights``, in half precision, with a card that says what is known of them.
"""

import argparse
import copy
import sys
from pathlib import Path

from torch import nn

from course_lib import runtime
from course_lib.data import BatchLoader, ImageStore
from course_lib.experiments import Recipe, Sweep, find_recipe, load
from course_lib.experiments.kept import Kept
from course_lib.files import CourseError, runs_home, speak_utf8, weights_home
from course_lib.models.weights import in_half, pack, write_weights
from course_lib.runtime import Runtime, seed_argument
from course_lib.training import evaluate

LARGEST_FILE = 15_000_000  # bytes: whoever clones the course fetches them all
LARGEST_CHANGE = 0.005  # of the top-1 on tune, by half precision


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)

    try:
        rt = runtime.setup(asked.profile, asked.seed)
        path, card = keep_weights(find_recipe(asked.recipe), rt, weights_home())
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130

    print(
        f"{path}: {card['bytes'] / 1e6:.1f} MB; top-1 {card['official_top1']:.2%} on the official "
        f"set, {card['tune_top1']:.2%} on tune, {card['tune_top1_half']:.2%} in half precision"
    )
    return 0


def keep_weights(recipe: Recipe | Sweep, rt: Runtime, folder: Path) -> tuple[Path, dict]:
    """Write the weights of a run that is over, and their card: (path, card).

    Averaged weights where the recipe asked for them. The official accuracy is the one that the run
    has seen; what half precision changes is measured on the tune split.

    Raises CourseError for a run that never looked at the official split or is not over, for toy
    shapes, for a file above 15 MB, and where half precision costs half a point.
    """
    checkpoint, record = _finished_run(recipe, rt)
    model = load(checkpoint).to(rt.device)
    tune = recipe.load("tune", rt.profile)
    if not tune.is_real:
        raise CourseError(
            "these pictures are toy shapes, and what half precision costs is measured on real "
            "ones: data/README.md says how to get them"
        )

    content = pack(model.state_dict())
    if len(content) > LARGEST_FILE:
        raise CourseError(
            f"{recipe.model} takes {len(content) / 1e6:.1f} MB in half precision, and a file may "
            f"have {LARGEST_FILE / 1e6:.0f} MB: keep a smaller network"
        )

    top1, top1_half = _in_both_precisions(model, tune, recipe.sizes[-1])
    if abs(top1_half - top1) >= LARGEST_CHANGE:
        raise CourseError(
            f"half precision changes the top-1 of {recipe.name} on tune from {top1:.2%} to "
            f"{top1_half:.2%}, half a point or more: keep another seed"
        )

    # no name of a data set holds a _, see models/weights.py
    path = folder / f"{recipe.model}_{recipe.dataset.replace('_', '')}.safetensors"
    card = _card(record, tune) | {"tune_top1": top1, "tune_top1_half": top1_half}
    return path, write_weights(path, content, card)


def _finished_run(recipe: Recipe | Sweep, rt: Runtime) -> tuple[Path, dict]:
    """Its checkpoint, and its record."""
    if isinstance(recipe, Sweep) or recipe.is_trial:
        raise CourseError(
            f"{recipe.name} never looks at the official split, and a card tells what was seen on "
            "it: name a recipe or a cell of the grid"
        )

    kept = Kept(runs_home(), recipe, rt)
    record = kept.finished()
    if not record or not kept.checkpoint.path.exists():
        profile = "cpu" if rt.profile == "smoke" else rt.profile  # smoke runs are kept nowhere
        raise CourseError(
            f"{kept.folder} has no finished run of {recipe.name}, seed {rt.seed}, profile "
            f"{rt.profile}: train it with python -m course_lib.train {recipe.name} --seed "
            f"{rt.seed} --profile {profile}, then ask for the same seed and profile here"
        )
    return kept.checkpoint.path, record


def _in_both_precisions(model: nn.Module, tune: ImageStore, size: int) -> tuple[float, float]:
    """Top-1 on tune with the weights as they are and as they are kept, computed in fp32."""
    halved = copy.deepcopy(model)
    halved.load_state_dict(in_half(model.state_dict()))

    device = next(model.parameters()).device
    loader = BatchLoader(tune, 500, augment=False, device=device)
    loader.picture_size = size
    return evaluate(model, loader).top1, evaluate(halved, loader).top1


def _card(record: dict, tune: ImageStore) -> dict:
    settings = record["settings"]
    return {
        # the network, and what it takes
        "model": settings["model"],
        "model_options": settings["model_options"],
        "num_classes": len(tune.classes),
        "picture_size": settings["sizes"][-1],
        "mean": list(tune.mean),
        "std": list(tune.std),
        # where the weights come from
        "recipe": record["recipe"],
        "about": settings["about"],
        "seed": record["seed"],
        "profile": record["profile"],
        "dataset": record["dataset"],
        "noise": record["noise"],
        "torch": record["versions"]["torch"],
        "commit": record["commit"],
        # what they reach
        "official_top1": record["final"]["val_top1"],
        "classes": tune.classes,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course_lib.publish", description=__doc__)
    parser.add_argument("recipe", help="a recipe or a cell of the grid whose run is over")
    parser.add_argument("--seed", type=seed_argument, default=0, help="of the run (default: 0)")
    parser.add_argument(
        "--profile",
        choices=runtime.PROFILES,
        help="of the run; default: COURSE_PROFILE, else by the machine",
    )
    return parser


if __name__ == "__main__":
    speak_utf8()
    sys.exit(main())
