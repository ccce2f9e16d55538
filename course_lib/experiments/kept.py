"""What a run keeps on disk: its checkpoint, its record, the rate it was begun at, and a lock."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from course_lib.experiments import price
from course_lib.experiments.recipe import Recipe
from course_lib.experiments.record import as_of_today
from course_lib.files import CourseError, read_json, write_json
from course_lib.runtime import Runtime
from course_lib.training import Checkpoint, processes

Report = Callable[[str], None]


def run_name(recipe: str, profile: str, seed: int, settings: dict) -> str:
    """Recipe, profile and seed in words, and a digest of everything else that a run depends on."""
    text = json.dumps(settings, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]

    return f"{recipe}-{profile}-seed{seed}-{digest}"


class Kept:
    """The files of one run.

    With other settings it is another run, in files of another name: what the old one left stays.
    """

    def __init__(self, folder: Path, recipe: Recipe, rt: Runtime) -> None:
        settings = recipe.settings()
        name = run_name(recipe.name, rt.profile, rt.seed, settings)
        without_digest = name.rpartition("-")[0]

        self.folder = folder
        self.checkpoint = Checkpoint(folder / f"{name}.pt", settings=settings)
        self.record = folder / f"{name}.json"
        self.rate = folder / f"{name}.rate.json"
        self.lock = folder / f"{name}.lock"
        self._any_settings = f"{without_digest}-*.pt"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Two processes on one checkpoint would overwrite each other's epochs.

        Raises CourseError where another one trains already, and for a folder that cannot be made.
        Of the processes of one training the first holds the lock for all.
        """
        if processes.rank():
            yield
            return

        lock = FileLock(self.lock, timeout=0)
        try:
            # no parents: a drive that is not mounted must not become a folder
            self.folder.mkdir(exist_ok=True)
            lock.acquire()
        except Timeout:
            raise CourseError(self._is_held()) from None
        except OSError as error:
            raise CourseError(self._cannot_write(error)) from error

        try:
            yield
        finally:
            lock.release()

    def begin(self, resume: bool, report: Report) -> None:
        """Leave nothing that may pass for what this run has still to do."""
        if processes.rank() == 0:
            if not resume:
                self.checkpoint.path.unlink(missing_ok=True)
                self.rate.unlink(missing_ok=True)

            if not self.checkpoint.path.exists():
                self.record.unlink(missing_ok=True)  # of a run whose weights are gone
                self._tell_of_other_settings(report)

        processes.wait()

    def finished(self) -> dict:
        """The record of a run that has ended; empty if it has not."""
        return read_json(self.record)

    def write_record(self, record: dict) -> None:
        if processes.rank() == 0:
            write_json(self.record, record, "the training itself is kept")

    def rate_at_the_start(self, rt: Runtime, report: Report) -> float | None:
        """Timed when a run begins, and kept: one that goes on does not begin again.

        None for one that goes on elsewhere: its seconds are of two machines.
        """
        here = {"device": rt.machine, "processes": processes.count()}
        kept = as_of_today(read_json(self.rate))
        is_known = here.items() <= kept.items()
        kept, is_known = processes.gather((kept, is_known))[0]  # all do what the first one does

        if is_known:
            return kept["rate"]

        if kept and self.checkpoint.path.exists():
            report(f"begun on another machine ({kept.get('device')}): there will be no price")
            return None

        rate = price.rate_of_all(rt)
        if processes.rank() == 0:
            write_json(self.rate, here | {"rate": rate})
        return rate

    # --- in words ---------------------------------------------------------------------------------

    def _tell_of_other_settings(self, report: Report) -> None:
        others = sorted(path.name for path in self.folder.glob(self._any_settings))
        if others:
            report(
                f"{', '.join(others)} was made with other settings, or by older code, and stays as "
                "it is: this run trains from the start"
            )

    def _is_held(self) -> str:
        return (
            f"another process is training {self.checkpoint.path.stem} and holds {self.lock}: "
            "wait for it, or stop it"
        )

    def _cannot_write(self, error: OSError) -> str:
        return (
            f"cannot write to {self.folder} ({error.strerror or error}): "
            "make that folder, or choose another one"
        )


class KeptNowhere:
    """A run of seconds: it is never interrupted, never reused, and has no price."""

    checkpoint = None

    def alone(self) -> AbstractContextManager:
        return nullcontext()

    def begin(self, resume: bool, report: Report) -> None:
        pass

    def finished(self) -> dict:
        return {}

    def rate_at_the_start(self, rt: Runtime, report: Report) -> None:
        return None

    def write_record(self, record: dict) -> None:
        pass
