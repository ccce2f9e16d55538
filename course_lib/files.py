"""Files: whole or not at all, one process at a time, and where data and runs lie.

The lowest floor: everything may import it, and it knows nothing of the course but its errors.
"""

import base64
import glob
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path

from filelock import FileLock, Timeout

REPO = Path(__file__).resolve().parents[1]
WINDOWS = os.name == "nt"

KAGGLE_INPUT = Path("/kaggle/input")
KAGGLE_OUTPUT = Path("/kaggle/working")  # packed, file by file, when a notebook is saved
SPARE = Path(tempfile.gettempdir()) / "course_data"  # if nothing else can be written
PARTS = ("train", "val")  # side by side, they are a data set


class CourseError(RuntimeError):
    """An error that the course raises on purpose: its message names the cure."""


class DataError(CourseError):
    """A data set that is broken, or that cannot be had."""


class DiskError(DataError):
    """A disk that takes no decoded pictures: another copy of the data set would not help."""


# --- whole or not at all ------------------------------------------------------------------------


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; the file is then moved into place, or removed.

    So ``path`` is whole at every moment, or not there. What a process left that was killed while
    writing is swept away by the next. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    aside = path.with_name(f"{path.name}.partial-{os.getpid()}")

    try:
        yield aside

        flush(aside)  # on the disk before it takes its name
        move_into_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until the file is on the disk: a power cut would leave zeros in its place."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def move_into_place(aside: Path, path: Path) -> None:
    """``os.replace``, with ten seconds of patience on Windows. Raises OSError.

    Windows refuses to rename a file as long as a virus scanner reads it.
    """
    give_up = time.monotonic() + (10 if WINDOWS else 0)
    while True:
        try:
            return os.replace(aside, path)
        except PermissionError:
            if time.monotonic() >= give_up:
                raise
            time.sleep(0.1)


def _sweep(path: Path) -> None:
    """Remove what dead processes left of their attempts to write ``path``."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.partial-*"):
        owner = left.name.rpartition("-")[2]
        if owner.isdecimal() and not _is_alive(int(owner)):
            with suppress(OSError):  # Windows keeps what a living process holds open
                left.unlink()


def _is_alive(process: int) -> bool:
    """Whether a process of that number runs. On Windows nobody may ask: asking would end it."""
    if WINDOWS:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def write_json(path: Path, content: dict, kept: str = "") -> None:
    """Whole or not at all. Raises CourseError for a disk that is full or cannot be written.

    kept: what is not lost then, in words for that error.
    """
    try:
        with written_whole(path) as aside:
            aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        comfort = f": {kept}" if kept else ""
        raise CourseError(
            f"cannot write {path} ({error.strerror or error}). Make room, or see that the folder "
            f"can be written, and run again{comfort}."
        ) from error


def read_json(path: Path) -> dict:
    """What ``write_json`` wrote; empty where there is nothing, or nothing readable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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


# --- the screen ---------------------------------------------------------------------------------


def picture_tag(png: bytes, alt: str, width: int) -> str:
    """HTML with the picture inside, so that it needs no file beside it. width: on the page."""
    data = base64.b64encode(png).decode()
    return (
        f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}" '
        f'width="{width}" style="max-width:100%;height:auto">'
    )


def speak_utf8() -> None:
    """A tick or a ± can be printed, also where Windows takes what is piped for cp1252.

    Jupyter's streams are left alone: they take every sign.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")


def show_each_line() -> None:
    """A log shows each line when it is printed, though nobody looks at a screen."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


# --- disks, in words ----------------------------------------------------------------------------


def reason(error: OSError) -> str:
    """What the system refused, and of which file."""
    what = error.strerror or str(error)
    return f"{what}: {error.filename}" if error.filename else what


def first_line(error: Exception) -> str:
    """What an error says, in one line; the name of its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def full_disk(what: str, folder: Path, needed: float) -> str:
    """What a full disk lacks: bytes, or, where enough of them are free, files.

    needed: bytes.
    """
    free = shutil.disk_usage(folder).free
    sizes = f"{what} needs {needed / 1e6:,.0f} MB in {folder}, {free / 1e6:,.0f} are free"
    if free > needed:
        sizes += ", but no more files fit on it (inodes), or a quota is used up"

    return (
        f"the disk is full: {sizes}. Make room, or set COURSE_DATA to a folder on a larger disk, "
        "and run again."
    )


def refuse_dangling(path: Path) -> None:
    """Raises DataError for a link to something that is not there: it can be neither read nor made.

    Most often its disk is not connected.
    """
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path} is a link to {os.readlink(path)}, which is not there. Connect its disk, or "
            "remove the link, and run again."
        )


# --- where things lie ---------------------------------------------------------------------------


def search_roots() -> list[Path]:
    """Folders to search for data, in order.

    Raises DataError if COURSE_DATA names no folder, or one inside a data set.
    """
    roots = [_near(), KAGGLE_INPUT, SPARE]

    if asked := os.environ.get("COURSE_DATA"):
        roots.insert(0, _asked_folder(asked))
    return roots


def _near() -> Path:
    installed = not (REPO / "pyproject.toml").exists()  # as a package, without the repository
    return (Path.cwd() if installed else REPO) / "data"


def weights_home() -> Path:
    """Where the weights of trained networks lie that come with the course."""
    return _near() / "weights"


def _asked_folder(asked: str) -> Path:
    # In the repository a relative path counts from its root: a notebook works in notebooks/.
    start = REPO if Path.cwd().is_relative_to(REPO) else Path.cwd()
    folder = start / Path(asked).expanduser()

    if not os.path.isdir(folder):
        raise DataError(
            f"COURSE_DATA is {asked!r}, but {folder} is no folder. Create it, set COURSE_DATA to "
            "the folder that holds the data sets, or unset it."
        )

    for outer in (folder, *folder.parents):
        beside = [os.path.isdir(outer.parent / part) for part in PARTS]
        if outer.name in PARTS and all(beside):
            raise DataError(
                f"COURSE_DATA is {asked!r}, which lies inside a data set: set it to "
                f"{outer.parent}, or to the folder that holds that."
            )
    return folder


def data_home() -> Path:
    """Where data lands: the first writable of COURSE_DATA, ``data/`` and a temporary folder.

    A ``data/`` in Kaggle's output goes last: what can be fetched again is no output.
    """
    *asked, near, _kaggle_input, spare = search_roots()
    in_output = near.is_relative_to(KAGGLE_OUTPUT)
    return _first_writable([*asked, spare, near] if in_output else [*asked, near, spare])


def runs_home() -> Path:
    """Where trainings are kept: ``runs`` beside the data; on Kaggle in the output.

    Nothing else stays there when the session ends, wherever the course and its data lie.
    """
    *homes, _kaggle_input, spare = search_roots()
    if KAGGLE_OUTPUT.is_dir():
        homes = [home for home in homes if home.is_relative_to(KAGGLE_OUTPUT)]
        homes.append(KAGGLE_OUTPUT)
    return _first_writable([*homes, spare]) / "runs"


def _first_writable(homes: list[Path]) -> Path:
    for home in homes:
        if writable(home):
            return home
    raise DataError(
        "no folder to put data in: none of these can be written: "
        f"{', '.join(map(str, homes))}. Set COURSE_DATA to a folder that can."
    )


def writable(folder: Path) -> bool:
    """Try it: permission bits mean nothing to root or on a read-only mount."""
    try:
        folder.mkdir(parents=True, exist_ok=True)

        # By hand, since tempfile would try for ever on Windows (gh-66305).
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
