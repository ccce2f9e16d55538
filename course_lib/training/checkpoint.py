"""Checkpoints that survive whatever interrupts them."""

import ast
import errno
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

import numpy as np
import torch

from course_lib.files import CourseError, written_whole
from course_lib.training import processes
from course_lib.training.history import EpochSoFar, History
from course_lib.training.step import Trainer

FORM = 2  # of what a checkpoint holds: one of another form is refused


class CheckpointError(CourseError):
    """A checkpoint that cannot be written or read."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept, and whether it goes on from there.

    settings: plain data that it depends on besides; with other settings it is another training.
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
    first_batch: int  # where that pass begins


# --- the checkpoint of one training -------------------------------------------------------------


class Saver:
    """Keeps one training on disk, and finds it there again. ``None``: it is kept nowhere.

    Of several processes the first one writes, and all read.
    """

    def __init__(
        self, checkpoint: Checkpoint | Path | str | None, trainer: Trainer, loader, sizes: Sequence
    ) -> None:
        self.trainer, self.loader, self.epochs = trainer, loader, len(sizes)
        self.path = None
        if checkpoint is None:
            return

        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(checkpoint)
        self.path = Path(checkpoint.path)
        self.goes_on = checkpoint.resume
        self.identity = identity(sizes, loader, trainer, checkpoint.settings)

    def save(self, history: History, so_far: EpochSoFar | None = None) -> None:
        if self.path is None:
            return

        random_states = processes.gather(random_state())
        if processes.rank() == 0:
            state = {
                "trainer": self.trainer.state(),
                "history": history.to_dict(),
                "so_far": asdict(so_far) if so_far else None,
                "identity": self.identity,
                "random": random_states,
            }
            save(self.path, state)
        processes.wait()

    def resume(self, report: Callable[[str], None]) -> tuple[History, EpochSoFar | None]:
        """Put what is on disk into the trainer: the history, and an epoch that was begun."""
        state = load(self.path, self.identity) if self.path and self.goes_on else None
        if state is None:
            return History(), None

        self.trainer.load_state(state["trainer"])
        set_random_state(state["random"][processes.rank()])
        history = History.from_dict(state["history"])
        so_far = EpochSoFar(**state["so_far"]) if state["so_far"] else None

        report(self._found(len(history), so_far))
        return history, so_far

    def _found(self, epochs: int, so_far: EpochSoFar | None) -> str:
        if epochs == self.epochs:
            found = f"this training has already finished: reusing {self.path.name}"
        else:
            batch = f", batch {so_far.batches}" if so_far else ""
            found = f"going on after epoch {epochs}{batch}, from {self.path.name}"
        return f"{found} (resume=False, or --no-resume on the command line, starts over)"

    def stop(self, name: str, history: History, so_far: EpochSoFar) -> NoReturn:
        """Ctrl-C inside an epoch: save what can be gone on with. Raises KeyboardInterrupt."""
        if not isinstance(self.loader, Resumable):
            kept = "the checkpoint of the last epoch is kept" if history else "nothing is kept yet"
            raise KeyboardInterrupt(
                f"stopped in {name}: this loader cannot go on inside an epoch, so {kept}"
            )
        self.save(history, so_far)
        raise KeyboardInterrupt(
            f"stopped after batch {so_far.batches} of {name}; saved in {self.path}: run again to "
            "go on from there"
        )


# --- the file -----------------------------------------------------------------------------------


def save(path: Path, state: dict) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) to ``path``, whole or not at all.

    ``torch.save`` over an existing file destroys it when the write fails half-way. Raises
    CheckpointError; the older file is still there.
    """
    try:
        with written_whole(path) as aside, open(aside, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch turns some failed writes into a RuntimeError
        raise _not_saved(path, error) from error


def _not_saved(path: Path, error: Exception) -> CheckpointError:
    if _disk_is_full(error):
        cause, cure = "the disk is full", "Free some space"
    else:
        cause, cure = str(error).splitlines()[0], "See that the folder can be written"

    kept = "the checkpoint of the epoch before is still there"
    if not path.exists():
        kept = "none was there before"
    return CheckpointError(
        f"cannot save {path}: {cause}; {kept}. {cure} and run again: training goes on from the "
        "last checkpoint."
    )


def _disk_is_full(error: Exception) -> bool:
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def load(path: Path, identity: dict | None = None) -> dict | None:
    """The state saved in ``path``, or None where there is none. Tensors arrive on the CPU.

    Only plain data is read (``weights_only``): a checkpoint cannot run code. Raises CheckpointError
    for a file that is not a checkpoint, and for one of a training other than ``identity`` says.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # the unpickler answers garbage with anything
        raise _not_read(path, error) from error

    if identity is not None:
        _compare(path, state, identity)
    return state


def _not_read(path: Path, error: Exception) -> CheckpointError:
    if _passes(error):
        return CheckpointError(
            f"{path} cannot be read now ({error}): it was left as it is. Mend its rights or the "
            "connection, or make room in memory, and run again."
        )
    cause = (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(f"{path} is not a readable checkpoint ({cause}). {_DELETE}")


_DELETE = "Delete it to train from the beginning."


def _passes(error: Exception) -> bool:
    """Whether it says nothing about the file: other OSErrors come from one that was cut short."""
    no_connection = getattr(error, "errno", None) in (errno.EIO, errno.ENOTCONN)
    no_memory = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
    return no_connection or no_memory or isinstance(error, PermissionError)


# --- which training it is -----------------------------------------------------------------------


def identity(sizes: Sequence, loader, trainer: Trainer, settings: dict | None = None) -> dict:
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
    """A parameter group's settings. Of its rate, which moves, where it began: schedules note it."""
    began = group.get("initial_lr", group["lr"])
    numbers = {key: value for key, value in group.items() if isinstance(value, int | float)}
    del numbers["lr"]
    return numbers | {"initial_lr": began}


def _name(function: Callable) -> str:
    """Its repr, without the place in memory that it has this time."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(function))


def _compare(path: Path, state: object, identity: dict) -> None:
    kept = state.get("identity") if isinstance(state, dict) else None
    if kept is None:
        raise CheckpointError(f"{path} is not a checkpoint of a training. {_DELETE}")

    differs = []
    for key, value in identity.items():
        differs += _differences(key, kept.get(key, "not set"), value)
    if differs:
        raise CheckpointError(
            f"{path} belongs to another training ({'; '.join(differs[:3])}): resume=False "
            "(--no-resume on the command line) starts over, and another path keeps both"
        )


def _differences(name: str, was, now) -> list[str]:
    """What changed, in words; of settings, those that did."""
    if was == now:
        return []
    if not isinstance(was, dict) or not isinstance(now, dict):
        return [f"{name} was {was}, is {now}"]

    found = []
    for key in dict.fromkeys([*was, *now]):
        found += _differences(f"{name}, {key}", was.get(key, "not set"), now.get(key, "not set"))
    return found


# --- where the random numbers stand -------------------------------------------------------------


def random_state() -> dict:
    """Of all generators, as plain data."""
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


@contextmanager
def random_state_kept() -> Iterator[None]:
    """What draws random numbers inside changes none of those that come afterwards."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
