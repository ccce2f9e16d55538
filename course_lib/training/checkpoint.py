"""Checkpoints that survive whatever interrupts them."""

import ast
import copy
import errno
import random
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from course_lib.files import CourseError, first_line, writable, written_whole
from course_lib.runtime import is_out_of_memory
from course_lib.training import processes
from course_lib.training.history import EpochSoFar, History
from course_lib.training.step import Trainer

FORM = 3  # of what a checkpoint holds: one of another form is refused
DELETE = "Delete it to train from the beginning."

PASSING = {  # what a whole file may answer with
    errno.EIO,  # a disk or a connection that is gone
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EMFILE,  # too many open files
    errno.ENFILE,
}


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
    """A loader whose batches follow from (seed, epoch, batch), as those of ``course_lib.data`` do.

    With it a training that was stopped inside an epoch goes on with exactly the batches that were
    left.
    """

    # set before each pass:
    epoch: int  # from 0
    first_batch: int  # where the pass begins; 0 but for the rest of a broken epoch

    # two runs in which one of these differs are not the same training:
    store: object  # with name, split and classes
    images: int  # in one epoch
    batch_size: int
    seed: int


# --- the checkpoint of one training -------------------------------------------------------------


class Saver:
    """Keeps one training on disk, and finds it there again. ``None``: it is kept nowhere.

    Of several processes the first one writes, and all read.
    """

    def __init__(
        self, checkpoint: Checkpoint | Path | str | None, trainer: Trainer, loader, sizes: Sequence
    ) -> None:
        self.trainer, self.loader, self.epochs = trainer, loader, len(sizes)
        self.first_epoch = loader.epoch if isinstance(loader, Resumable) else 0
        self.path = None
        if checkpoint is None:
            return

        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(checkpoint)
        self.path = Path(checkpoint.path)
        if self.path.is_dir():
            raise CheckpointError(f"{self.path} is a folder: give the name of a file in it")
        self.goes_on = checkpoint.resume
        self.identity = identity(sizes, loader, trainer, checkpoint.settings)

    def save(self, history: History, so_far: EpochSoFar | None = None) -> None:
        """Write where the training stands; so_far: in an epoch that was stopped."""
        if self.path is None:
            return

        random_states = processes.gather(random_state())
        if processes.rank() == 0:
            state = {
                "trainer": self.trainer.state(),
                "history": history.to_dict(),
                "so_far": asdict(so_far) if so_far else None,
                "first_epoch": self.first_epoch,
                "identity": self.identity,
                "random": random_states,
            }
            save(self.path, state)
        processes.wait()

    def resume(self, report: Callable[[str], None]) -> tuple[History, EpochSoFar | None]:
        """Put what is on disk into the trainer: the history, and an epoch that was begun."""
        state = load(self.path, self.identity) if self.path and self.goes_on else None
        if state is None:
            self._check_place()
            return History(), None

        self.first_epoch = state["first_epoch"]
        self.trainer.load_state(state["trainer"])
        set_random_state(state["random"][processes.rank()])
        history = History.from_dict(state["history"])
        so_far = EpochSoFar(**state["so_far"]) if state["so_far"] else None

        report(self._found(len(history), so_far))
        if len(history) < self.epochs:
            self._check_place()
        return history, so_far

    def _check_place(self) -> None:
        """CheckpointError where none could be saved: before the first step, not after hours."""
        if self.path is None or processes.rank():
            return

        if not writable(self.path.parent):
            raise CheckpointError(
                f"cannot save {self.path}: the folder cannot be written. Choose another one"
            )
        plain(self.trainer.state())  # for what it raises

    def _found(self, epochs: int, so_far: EpochSoFar | None) -> str:
        if epochs == self.epochs:
            found = f"this training has already finished: reusing {self.path.name}"
        else:
            batch = f", batch {so_far.batches}" if so_far else ""
            found = f"going on after epoch {epochs}{batch}, from {self.path.name}"
        return f"{found} (resume=False, or --no-resume on the command line, starts over)"

    def stopped(self, name: str, history: History, so_far: EpochSoFar) -> KeyboardInterrupt:
        """Ctrl-C inside an epoch: save what can be gone on with, and say so."""
        if not isinstance(self.loader, Resumable):
            kept = "the checkpoint of the last epoch is kept" if history else "nothing is kept yet"
            return KeyboardInterrupt(
                f"stopped in {name}: this loader cannot go on inside an epoch, so {kept}"
            )

        self.save(history, so_far)
        return KeyboardInterrupt(
            f"stopped after batch {so_far.batches} of {name}; saved in {self.path}: run again to "
            "go on from there"
        )


# --- the file -----------------------------------------------------------------------------------


def save(path: Path, state: dict) -> None:
    """Write ``state``, once it is ``plain``, to ``path``, whole or not at all.

    ``torch.save`` over an existing file destroys it when the write fails half-way. Raises
    CheckpointError; the older file is still there.
    """
    state = plain(state)
    try:
        with written_whole(path) as aside, open(aside, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch turns some failed writes into a RuntimeError
        raise _not_saved(path, error) from error


def _not_saved(path: Path, error: Exception) -> CheckpointError:
    if _disk_is_full(error):
        cause, cure = "the disk is full", "Free some space"
    else:
        cause, cure = first_line(error), "See that the folder can be written"

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
    if _is_passing(error):
        return CheckpointError(
            f"{path} cannot be read now ({error}): it was left as it is. Mend its rights or the "
            "connection, make room in memory, or close other programs, and run again."
        )
    return CheckpointError(f"{path} is not a readable checkpoint ({first_line(error)}). {DELETE}")


def _is_passing(error: Exception) -> bool:
    """Whether the file may be whole: other OSErrors come from one that was cut short."""
    is_refused = isinstance(error, PermissionError)
    return is_refused or is_out_of_memory(error) or getattr(error, "errno", None) in PASSING


PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)


def plain(value, name: str = ""):
    """``value`` in the types that ``load`` reads: numpy's numbers and paths become Python's.

    Raises CheckpointError for an object of any other type, with the ``name`` that it has.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, PurePath):
        return str(value)

    if isinstance(value, dict):
        items = {plain(key, name): plain(each, f"{name} {key}") for key, each in value.items()}
        return _of_the_kind(value, items)
    if type(value) in (list, tuple, set):
        return type(value)(plain(each, name) for each in value)

    if isinstance(value, torch.Tensor) or type(value) in PLAIN:
        return value
    raise CheckpointError(
        f"a checkpoint cannot hold{name}, of type {type(value).__name__}: it holds tensors, "
        "numbers, strings, lists and dicts. Leave it out, or give its numbers or its name"
    )


def _of_the_kind(value: dict, items: dict) -> dict:
    """``items`` as ``value`` holds them: a state dict has attributes, a schedule a Counter."""
    if type(value) not in (OrderedDict, Counter):
        return items
    found = copy.copy(value)
    found.clear()
    found.update(items)
    return found


# --- which training it is -----------------------------------------------------------------------


def identity(sizes: Sequence, loader, trainer: Trainer, settings: dict | None = None) -> dict:
    """What makes a training the one it is, as plain data: another value, another training."""
    found = {
        "form of checkpoint": FORM,
        "picture sizes": list(sizes),
        **_order(loader),
        "optimizer": type(trainer.optimizer).__name__,
        "schedule": type(trainer.scheduler).__name__,
        "parameters": _groups(trainer.optimizer),
        "schedule's settings": _schedule(trainer.scheduler),
        "schedule's factors": _factors(trainer.scheduler, len(sizes), len(loader)),
        "loss": _name(trainer.loss),
        "extras": asdict(trainer.extras),
        "processes": processes.count(),
        "settings": settings,
        "weights": {name: list(p.shape) for name, p in trainer.model.named_parameters()},
    }
    return {key: plain(value, f" {key}") for key, value in found.items()}


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


def _groups(optimizer: torch.optim.Optimizer) -> dict:
    """The settings of each parameter group."""
    groups = enumerate(optimizer.param_groups)
    return {f"group {number}": _settings(group) for number, group in groups}


def _settings(group: dict) -> dict:
    """What a group was made with. Its rate moves: of it, where it began, as schedules note it."""
    moves = {"lr"}
    if "max_momentum" in group:  # noted by a schedule that moves these, too
        moves |= {"momentum", "betas"}

    settings = {"initial_lr": float(group.get("initial_lr", group["lr"]))}
    for key, value in group.items():
        if key not in moves and isinstance(value, int | float | str | tuple | np.generic):
            settings.setdefault(key, value)  # initial_lr is there, as a float
    return settings


# what of a schedule's state changes from step to step, or is noted in the optimizer
MOVES = {
    "base_lrs",
    "last_epoch",
    "best",
    "cooldown_counter",
    "num_bad_epochs",
    "T_cur",
    "T_i",
    "_last_lr",
    "_step_count",
    "_is_initial",
    "_get_lr_called_within_step",
}


def _schedule(scheduler: LRScheduler) -> dict:
    """What it was made with, and its parts."""
    state = scheduler.state_dict()
    settings = {key: value for key, value in state.items() if key not in MOVES}

    if "_schedulers" in settings:
        parts = enumerate(scheduler._schedulers)
        settings["_schedulers"] = {
            f"{number} {type(part).__name__}": _schedule(part) for number, part in parts
        }
    return settings


def _factors(scheduler: LRScheduler, epochs: int, batches: int) -> list[list[float]]:
    """Of a LambdaLR, whose functions have no settings: their values as each epoch begins."""
    functions = _functions(scheduler)
    steps = range(0, epochs * batches, batches)
    return [[float(function(step)) for function in functions] for step in steps]


def _functions(scheduler: LRScheduler) -> list[Callable[[int], float]]:
    """Those of a LambdaLR, alone or as a part of other schedules."""
    functions = list(getattr(scheduler, "lr_lambdas", []))

    for part in getattr(scheduler, "_schedulers", []):
        functions += _functions(part)
    return functions


def _name(function: Callable) -> str:
    """Its repr, without the place in memory that it has this time."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(function))


def _compare(path: Path, state: object, identity: dict) -> None:
    """Raises CheckpointError for a file that is no checkpoint, and for another training's."""
    kept = state.get("identity") if isinstance(state, dict) else None
    if kept is None:
        raise CheckpointError(f"{path} is not a checkpoint of a training. {DELETE}")

    # called with more epochs than before it is the same training, prolonged
    before = len(kept.get("picture sizes", []))
    for each_epoch in ("picture sizes", "schedule's factors"):
        identity = identity | {each_epoch: identity[each_epoch][:before]}

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
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def set_random_state(state: dict) -> None:
    """Put the generators back to where ``random_state`` found them."""
    random.setstate(ast.literal_eval(state["python"]))

    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))

    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])

    mps = state.get("mps")  # older checkpoints have none
    if torch.backends.mps.is_available() and mps is not None:
        torch.mps.set_rng_state(mps)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """What draws random numbers inside changes none of those that come afterwards."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
