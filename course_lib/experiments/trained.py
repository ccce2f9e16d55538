"""A trained network, back from the files that its run left."""

import textwrap
from pathlib import Path

import torch
from torch import nn

from course_lib.experiments.kept import run_name
from course_lib.files import CourseError, read_json, runs_home
from course_lib.models import create_model


def load(path: Path | str) -> nn.Module:
    """The network that a run trained, on the CPU, in eval mode.

    path: a checkpoint (NAME.pt), or a record (NAME.json) whose checkpoint lies beside it or in
    ``runs`` beside the data. Averaged weights where the recipe asked for them; of a run that is not
    over, those it has by now.

    Raises CourseError for another file, a network that the library does not know today, and weights
    that do not fit it.
    """
    path = Path(path)
    if path.suffix == ".json":
        path = _checkpoint_of(path)

    state = _read(path)
    trained = _judged(state["trainer"])
    settings = state["identity"]["settings"] or {}
    if "model" not in settings:
        raise CourseError(
            f"{path} is of a training without a recipe, which does not name its network. Build "
            "that, and give its load_state_dict() what experiments.trained.weights(path) returns."
        )

    # options that a record of older code does not hold are at their defaults
    try:
        model = create_model(settings["model"], **settings["model_options"])
    except ValueError as error:
        raise CourseError(f"{path} is of another network than there are today: {error}") from error

    # the head counts the classes
    try:
        model.replace_head(len(trained[f"{model.head_name}.weight"]))
        model.load_state_dict(trained)
    except (KeyError, RuntimeError) as error:
        raise _do_not_fit(path, settings["model"], error) from error

    return model.to(memory_format=torch.channels_last).eval()


def weights(path: Path | str) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, averaged if the training averaged, on the CPU.

    Also of a checkpoint that ``fit`` wrote without a recipe. Raises CourseError for another file.
    """
    return _judged(_read(Path(path))["trainer"])


def _judged(trainer: dict) -> dict[str, torch.Tensor]:
    """The weights that every evaluation looked at: the averaged ones where there are any."""
    if average := trainer.get("average"):
        prefix = "module."  # torch keeps a count beside the averaged network
        return {
            name.removeprefix(prefix): value
            for name, value in average.items()
            if name.startswith(prefix)
        }
    return trainer["model"]


def _checkpoint_of(record: Path) -> Path:
    """Where the weights behind a record lie."""
    found = read_json(record)
    if not {"recipe", "settings", "profile", "seed"} <= found.keys():
        raise CourseError(f"{record} is not the record of a run, or is not there")

    settings = dict(found["settings"])
    settings.pop("about", None)
    name = run_name(found["recipe"], found["profile"], found["seed"], settings)

    places = [record.with_suffix(".pt"), runs_home() / f"{name}.pt"]
    for place in places:
        if place.exists():
            return place

    raise CourseError(
        f"the checkpoint of {record} is neither {places[0]} nor {places[1]}: put it there, or "
        f"train again with python -m course_lib.train {found['recipe']} "
        f"--profile {found['profile']} --seed {found['seed']}"
    )


def _read(path: Path) -> dict:
    """Plain data alone (``weights_only``): a file can run no code here."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler answers garbage with anything
        cause = getattr(error, "strerror", None) or type(error).__name__
        raise CourseError(f"{path} cannot be read as a checkpoint ({cause})") from error

    if not isinstance(state, dict) or not {"trainer", "identity"} <= state.keys():
        raise CourseError(
            f"{path} is not a checkpoint of a training: expected what fit or a run keeps, NAME.pt"
        )
    return state


def _do_not_fit(path: Path, model: str, error: Exception) -> CourseError:
    """torch names each weight in a line of its own, below one that says little."""
    *_, first = str(error).splitlines()[:2]
    return CourseError(
        f"the weights in {path} do not fit {model} as it is today "
        f"({textwrap.shorten(first, 120, placeholder=' …')}): use the commit that its record "
        "names, or train again"
    )
