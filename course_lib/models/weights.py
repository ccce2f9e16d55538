"""Weights of trained networks: a safetensors file, and beside it a card that describes it.

``data/weights/<model>_<data>.safetensors`` holds numbers and ``….json`` words: neither can run code
when it is read, as a pickle (.pt, .pth) can. ``fill`` holds the file against its card before it
copies a weight. ``python -m course_lib.publish`` makes both.
"""

import hashlib
import json
import os
from pathlib import Path

import torch
from torch import nn

from course_lib.files import CourseError, weights_home, write_json, written_whole

ENDING = ".safetensors"

NEEDED = {  # of a card, in order to load what it describes
    "model": str,
    "model_options": dict,
    "num_classes": int,
    "classes": list,
    "bytes": int,
    "sha256": str,
}

AGAIN = "fetch both files again"
MAKE = "or make both with python -m course_lib.publish"

Tensors = dict[str, torch.Tensor]


def weights_card(name: str, weights: str | Path) -> dict:
    """What is known of the weights that ``create_model(name, weights=weights)`` loads.

    Among others ``classes`` (readable names), ``picture_size`` (pixels a side), ``mean`` and
    ``std`` (of the pictures in 0..1, per channel), ``official_top1`` (a fraction), ``recipe`` and
    ``seed``. Raises CourseError as ``create_model``.
    """
    return read_card(find_weights(name, weights), name)


# --- find, read, check, fill in -------------------------------------------------------------------


def find_weights(model: str, weights: str | Path) -> Path:
    """The safetensors file. Raises CourseError where there is none, with those there are."""
    if not isinstance(weights, str | Path):
        raise CourseError(
            f"weights is {weights!r}: expected a name, such as 'tinyimagenet', or the path of a "
            f"{ENDING} file"
        )

    if _is_name(weights):
        path = weights_home() / f"{model}_{weights}{ENDING}"
        if not path.exists() and not card_of(path).exists():
            raise CourseError(f"no weights {weights!r} for {model}: {_those_there_are(model)}")
    else:
        path = Path(weights).expanduser()
        if path.suffix != ENDING:
            raise CourseError(
                f"{path} is no {ENDING} file, and nothing else is read, for it could run code. The "
                "checkpoint of a run (.pt) comes back with course_lib.experiments.load(path)."
            )

    if not path.is_file():
        raise CourseError(f"{path} is not there: get it from the course's repository, {MAKE}")
    return path


def read_card(path: Path, model: str) -> dict:
    """The card of a safetensors file.

    Raises CourseError where there is none that is whole, and where it is of another network.
    """
    card_path = card_of(path)
    if not card_path.is_file():
        raise CourseError(
            f"{card_path} is not there, the card that says of which network {path.name} is: put it "
            f"beside that, {MAKE}"
        )

    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CourseError(f"{card_path} cannot be read as a card ({error}): {AGAIN}") from error

    card = card if isinstance(card, dict) else {}
    lacks = [field for field, kind in NEEDED.items() if not isinstance(card.get(field), kind)]
    if lacks:
        raise CourseError(f"{card_path} is no card: it lacks {', '.join(lacks)}; {AGAIN}")

    if card["model"] != model:
        raise CourseError(
            f'{path} is of {card["model"]}, not of {model}: create_model("{card["model"]}", '
            "weights=…) loads it"
        )
    return card


def check_asked(
    path: Path,
    num_classes: int | None,
    options: dict[str, object],
    trained_for: int,
    trained_with: dict[str, object],
) -> None:
    """Raises CourseError for other classes or options than the network was trained with."""
    if num_classes not in (None, trained_for):
        raise CourseError(
            f"num_classes is {num_classes!r}, but {path.name} is of {trained_for} classes: leave "
            "it out, and for classes of your own call model.replace_head(num_classes) afterwards"
        )

    for option, value in options.items():
        plain = list(value) if isinstance(value, tuple) else value  # as JSON has it
        if plain != trained_with[option]:
            raise CourseError(
                f"{option} is {value!r}, but {path.name} was trained with "
                f"{trained_with[option]!r}: leave the option out, or the weights"
            )


def fill(model: nn.Module, path: Path, card: dict) -> None:
    """Copy the weights into a network, in its own precision.

    Raises CourseError for a file that is not the one on the card, or that is of another network.
    """
    tensors = _unpack(path, _read_whole(path, card))

    faults = _faults(model.state_dict(), tensors)
    if faults:
        raise CourseError(
            f"the weights in {path} do not fit {card['model']} as its card describes it "
            f"({'; '.join(faults)}): they are of another network, or of other code; {AGAIN}"
        )
    model.load_state_dict(tensors)


# --- write ----------------------------------------------------------------------------------------


def in_half(state: Tensors) -> Tensors:
    """Kernels and matrices in half precision.

    Vectors stay as they are: they take few bytes, and the variance that a norm remembers may be
    above 65,504, where half precision ends.
    """
    return {
        name: value.half() if value.is_floating_point() and value.ndim > 1 else value
        for name, value in state.items()
    }


def pack(state: Tensors) -> bytes:
    """A state dict in half precision, as the content of a safetensors file."""
    plain = {name: value.cpu().contiguous() for name, value in in_half(state).items()}
    return _safetensors().torch.save(plain)


def write_weights(path: Path, content: bytes, card: dict) -> dict:
    """What ``pack`` gave and its card, each whole or not at all; the card as written.

    Raises CourseError for a disk that is full or cannot be written.
    """
    card = card | {"bytes": len(content), "sha256": _sha256(content)}

    try:
        with written_whole(path) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise CourseError(
            f"cannot write {path} ({error.strerror or error}): make room, or see that the folder "
            "can be written"
        ) from error

    write_json(card_of(path), card)
    return card


# --- the file, and what may be wrong with it ------------------------------------------------------


def card_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _is_name(weights: str | Path) -> bool:
    """Or else a path: by its ending, or by the folders in it."""
    is_path = isinstance(weights, Path) or Path(weights).suffix or os.path.dirname(weights)
    return not is_path


def _those_there_are(model: str) -> str:
    """The names of its weights; of a network without any, those of the others."""
    home = weights_home()
    kept: dict[str, list[str]] = {}
    for path in sorted(home.glob(f"*{ENDING}")):
        name, _, data = path.stem.rpartition("_")  # a model's name may hold a _, a data set's not
        kept.setdefault(name, []).append(data)

    if not kept:
        return f"{home} holds none at all; get them from the course's repository, {MAKE}"
    if model in kept:
        return f"there are {', '.join(kept[model])}"

    others = [f"{name} ({', '.join(each)})" for name, each in kept.items()]
    return f"there are those of {', '.join(others)}"


def _read_whole(path: Path, card: dict) -> bytes:
    """Raises CourseError for another file than the card describes."""
    try:
        size = path.stat().st_size  # first: the wrong file may not fit into memory
        content = path.read_bytes() if size == card["bytes"] else b""
    except OSError as error:
        raise CourseError(f"{path} cannot be read ({error.strerror or error})") from error

    if size != card["bytes"]:
        differs = f"it has {size:,} bytes, and its card says {card['bytes']:,}"
    elif _sha256(content) != card["sha256"]:
        differs = "its sha256 is not that on its card"
    else:
        return content

    raise CourseError(f"{path} is damaged, or the card is of another file: {differs}; {AGAIN}")


def _unpack(path: Path, content: bytes) -> Tensors:
    safetensors = _safetensors()
    try:
        return safetensors.torch.load(content)
    except (
        safetensors.SafetensorError,
        KeyError,
    ) as error:  # KeyError: a format it has no name for
        raise CourseError(f"{path} cannot be read as safetensors ({error}): {AGAIN}") from error


def _faults(expected: Tensors, found: Tensors) -> list[str]:
    """How the weights in a file differ from those of a network: how many, and one of each kind."""
    missing = [name for name in expected if name not in found]
    strange = [name for name in found if name not in expected]
    reshaped = [
        f"{name} {tuple(found[name].shape)} in place of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]

    kinds = {"missing": missing, "unknown": strange, "of another shape": reshaped}
    return [f"{len(each)} {kind}, such as {each[0]}" for kind, each in kinds.items() if each]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _safetensors():
    """Imported here: networks without weights do without it."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise CourseError("safetensors is not installed: pip install safetensors") from error
    return safetensors
