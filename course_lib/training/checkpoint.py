"""Checkpoints that survive whatever interrupts them."""

import ast
import errno
import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from course_lib.files import CourseError, written_whole
from course_lib.training import processes

FORM = 2  # of what a checkpoint holds: another one cannot be gone on with


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept, and whether it goes on from there.

    settings: plain data that it depends on besides; other settings are another training.
    """

    path: Path
    resume: bool = True
    settings: dict | None = None


@runtime_checkable
class Resumable(Protocol):
    """A loader whose batches follow from (seed, epoch, batch): an epoch can go on at any batch."""

    store: object  # with name, split and classes
    images: int  # in one epoch
    batch_size: int
    seed: int
    epoch: int  # of the next pass
    first_batch: int  # where it begins


class CheckpointError(CourseError):
    """A checkpoint that cannot be written or read."""


def save(path: Path, state: dict) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) to ``path``, whole or not at all.

    ``torch.save`` over an existing file destroys it when the write fails half-way: so the file is written
    beside, flushed to the disk, and moved into place. Raises CheckpointError; the older file is still there.
    """
    try:
        with written_whole(path) as aside, open(aside, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch turns some failed writes into a RuntimeError
        full = getattr(error, "errno", None) in (
            errno.ENOSPC,
            errno.EDQUOT,
        ) or "No space left" in str(error)
        cause = "the disk is full" if full else str(error).splitlines()[0]
        kept = (
            "the checkpoint of the epoch before is still there"
            if path.exists()
            else "none was there before"
        )
        cure = "Free some space" if full else "See that the folder can be written"
        raise CheckpointError(
            f"cannot save {path}: {cause}; {kept}. {cure} and run again: training "
            "goes on from the last checkpoint."
        ) from error


def load(path: Path, identity: dict | None = None) -> dict | None:
    """The state saved in ``path``, or None where there is none. Tensors arrive on the CPU.

    Only plain data is read (``weights_only``): a checkpoint cannot run code. Raises CheckpointError for a
    file that is not a checkpoint, and for one of a training other than ``identity`` says.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # the unpickler answers garbage with anything
        if _says_nothing_about_the_file(error):
            raise CheckpointError(
                f"{path} cannot be read now ({error}): it was left as it is. Mend its rights or the "
                "connection, or make room in memory, and run again."
            ) from error
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({cause}). Delete it to train from the beginning."
        ) from error
    if identity is None:
        return state
    kept = state.get("identity") if isinstance(state, dict) else None
    if kept is None:
        raise CheckpointError(
            f"{path} is not a checkpoint of a training. Delete it to train from the beginning."
        )
    differs = [
        each
        for key, value in identity.items()
        for each in _differences(key, kept.get(key, "not set"), value)
    ]
    if differs:
        raise CheckpointError(
            f"{path} belongs to another training ({'; '.join(differs[:3])}): resume=False "
            "(--no-resume on the command line) starts over; or give another path"
        )
    return state


def _says_nothing_about_the_file(error: Exception) -> bool:
    """Too little memory, no permission, a lost connection; other OSErrors come from a file that was cut short."""
    lost = getattr(error, "errno", None) in (errno.EIO, errno.ENOTCONN)
    return (
        lost
        or isinstance(error, PermissionError | MemoryError)
        or "DefaultCPUAllocator" in str(error)
    )


def _differences(name: str, was, now) -> list[str]:
    """What changed, in words; of settings, those that did."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [
            each
            for key in dict.fromkeys([*was, *now])
            for each in _differences(
                f"{name}, {key}", was.get(key, "not set"), now.get(key, "not set")
            )
        ]
    return [] if was == now else [f"{name} was {was}, is {now}"]


def identity(sizes: Sequence, loader, trainer, settings: dict | None = None) -> dict:
    """What makes a training the one it is, as plain data: another value, another training."""
    return {
        "form of checkpoint": FORM,
        "picture sizes": list(sizes),
        **_order(loader),
        "optimizer": [_numbers(group) for group in trainer.optimizer.param_groups],
        "schedule": type(trainer.scheduler).__name__,
        "loss": _name(trainer.loss),
        "extras": asdict(trainer.extras),
        "processes": processes.count(),
        "settings": settings,
        "weights": {name: list(p.shape) for name, p in trainer.model.named_parameters()},
    }


def _order(loader) -> dict:
    """What the batches follow from, as far as the loader tells."""
    if not isinstance(loader, Resumable):
        return {"batch size": getattr(loader, "batch_size", None), "batches": len(loader)}
    return {
        "batch size": loader.batch_size,
        "pictures": loader.images,
        "data": f"{loader.store.name} {loader.store.split}",
        "seed": loader.seed,
    }


def _numbers(group: dict) -> dict:
    """A parameter group's settings; of its rate, which moves, where it began."""
    began = group.get("initial_lr", group["lr"])  # noted by the schedule
    settings = {key: value for key, value in group.items() if isinstance(value, int | float)}
    del settings["lr"]
    return settings | {"initial_lr": began}


def _name(function) -> str:
    """Its repr, without where in memory it lies this time."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(function))


def random_state() -> dict:
    """Where all the generators stand, as plain data."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": repr(random.getstate()),
        "numpy": [kind, keys.tolist(), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def set_random_state(state: dict) -> None:
    """Put the generators back to where ``random_state`` found them."""
    random.setstate(ast.literal_eval(state["python"]))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
