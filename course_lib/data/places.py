"""Where data sets are looked for, and where data and trainings are kept: COURSE_DATA, ``data/``, Kaggle's folders."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from course_lib.runtime import CourseError

REPO = Path(__file__).resolve().parents[2]
KAGGLE_INPUT = Path("/kaggle/input")
KAGGLE_OUTPUT = Path("/kaggle/working")  # packed, file by file, when a notebook is saved
SPARE = Path(tempfile.gettempdir()) / "course_data"  # where neither COURSE_DATA nor data/ can be written


class DataError(CourseError):
    """A data set that is broken, or that cannot be had."""


def search_roots() -> list[Path]:
    """Folders to search, in order. Raises DataError if COURSE_DATA is set but is no folder."""
    installed = not (REPO / "pyproject.toml").exists()  # as a package, without the repository
    roots = [(Path.cwd() if installed else REPO) / "data", KAGGLE_INPUT, SPARE]
    if asked := os.environ.get("COURSE_DATA"):
        folder = Path(asked).expanduser()
        if not os.path.isdir(folder):
            raise DataError(
                f"COURSE_DATA is {asked!r}, but {folder.absolute()} is no folder. Create it, set "
                "COURSE_DATA to the folder that holds the data sets, or unset it.")
        roots.insert(0, folder)
    return roots


def data_home() -> Path:
    """Where data lands: the first writable of COURSE_DATA, ``data/`` and a temporary folder, which goes before a
    ``data/`` that lies in Kaggle's output: what can be fetched again is no output."""
    *asked, near, _, spare = search_roots()
    return _first_writable([*asked, spare, near] if near.is_relative_to(KAGGLE_OUTPUT) else [*asked, near, spare])


def runs_home() -> Path:
    """Where trainings are kept: ``runs`` beside the data, but in Kaggle's output, which outlives the kernel."""
    *homes, _, spare = search_roots()
    return _first_writable([*homes, spare]) / "runs"


def _first_writable(homes: list[Path]) -> Path:
    for home in homes:
        if writable(home):
            return home
    raise DataError("no folder to put data in: none of these can be written: "
                    f"{', '.join(map(str, homes))}. Set COURSE_DATA to a folder that can.")


def writable(folder: Path) -> bool:
    """Try it: permission bits mean nothing to root or on a read-only mount."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"  # tempfile would try for ever on Windows (gh-66305)
        probe.touch()
        probe.unlink()
        return True
    except OSError:
        return False


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Of several processes one goes on and the others wait, with a word. Raises OSError."""
    file = FileLock(lock)
    try:
        file.acquire(timeout=1)
    except Timeout:
        print(f"another process is at it and holds {lock}: waiting for it")
        file.acquire()
    try:
        yield
    finally:
        file.release()
