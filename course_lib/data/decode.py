"""JPEGs into one uint8 array on disk, once, that every worker and every later run shares.

A JPEG takes far longer to decode than to copy. The first run decodes each picture once and writes
its bytes into one ``images.npy``; from then on an epoch is a walk through a memory map. A store is
a folder: ``images.npy`` (N, H, W, 3), ``annotations.npz`` (labels, boxes), ``meta.json``.
"""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from course_lib.data.download import cure_for
from course_lib.files import DataError, move_into_place, one_at_a_time
from course_lib.runtime import progress_bar

FORMAT = 2  # of the arrays, and of the order of their rows
CHUNK = 512  # pictures per task: long enough to hide the hand-over, short enough for a smooth bar

LOST_BYTES = (  # what a store raises that is not there, or not whole
    FileNotFoundError,
    NotADirectoryError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    zipfile.BadZipFile,
)
BROKEN_PICTURE = (OSError, ValueError, SyntaxError)  # what Pillow raises on broken files
GUARD = 'put its code under if __name__ == "__main__":'


@dataclass(frozen=True)
class Listing:
    """What a store is built from: one path, label and box per picture."""

    paths: list[str]
    labels: np.ndarray  # int64 (N,), or (N, L) where a picture has L labels
    classes: list[str]
    boxes: np.ndarray | None = None  # int16 (N, 4)


@dataclass(frozen=True)
class Decoded:
    """An opened store folder."""

    images: np.ndarray  # (N, H, W, 3) uint8, read-only memory map
    labels: np.ndarray
    classes: list[str]
    boxes: np.ndarray | None
    seconds: float  # that building it took


def decode_once(
    folder: Path,
    make_listing: Callable[[], Listing],
    size: tuple[int, int],
    fit: Callable | None = None,
) -> Decoded:
    """Open the store in ``folder``; build it first if there is none.

    size: (height, width) that every picture must have, or is given by ``fit(image, size)``. Safe
    with two processes starting at once: one builds, the other waits. Raises DataError for corrupt
    pictures (all of them counted), a full disk or a folder that cannot be written; nothing
    half-done is left behind.
    """
    if found := open_store(folder):
        return found

    _refuse_a_child()
    with ExitStack() as until_built:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = folder.with_name(folder.name + ".lock")
            until_built.enter_context(one_at_a_time(lock))
        except OSError as error:
            raise DataError(_disk_message(error, folder)) from error

        if found := open_store(folder):  # another process was first
            return found
        _build(folder, make_listing, size, fit)
    return open_store(folder)


def open_store(folder: Path) -> Decoded | None:
    """The store, or None where there is none, an older format, or one that lost bytes.

    Raises DataError for one that cannot be read now: too many open files, a lost connection.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["format"] != FORMAT:
            return None

        images = np.load(folder / "images.npy", mmap_mode="r")
        with np.load(folder / "annotations.npz") as arrays:
            labels = arrays["labels"]
            boxes = arrays["boxes"] if "boxes" in arrays else None
    except LOST_BYTES:
        return None
    except OSError as error:
        raise DataError(
            f"the decoded store {folder} cannot be read now ({error.strerror or error}): it was "
            "left as it is. Mend that, or delete the folder, and run again."
        ) from error

    if not len(images) == len(labels) == meta["pictures"]:
        return None
    return Decoded(images, labels, meta["classes"], boxes, meta["seconds"])


# --- building -------------------------------------------------------------------------------------


def _build(
    folder: Path, make_listing: Callable[[], Listing], size: tuple[int, int], fit: Callable | None
) -> None:
    """Decode aside, then move into place. The caller holds the lock."""
    started = time.perf_counter()
    listing = make_listing()
    shape = (len(listing.paths), *size, 3)

    aside = folder.with_name(f"{folder.name}.building-{os.getpid()}")
    _sweep(folder)
    try:
        _check_room(folder.parent, shape)
        aside.mkdir()

        _decode_all(listing.paths, aside / "images.npy", shape, fit)

        boxes = {} if listing.boxes is None else {"boxes": listing.boxes}
        np.savez(aside / "annotations.npz", labels=listing.labels, **boxes)

        meta = {
            "format": FORMAT,
            "pictures": len(listing.paths),
            "classes": listing.classes,
            "seconds": time.perf_counter() - started,
        }
        (aside / "meta.json").write_text(json.dumps(meta))

        move_into_place(aside, folder)
    except OSError as error:
        raise DataError(_disk_message(error, folder, _bytes(shape))) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """What a dead builder left (the lock is ours), and a store that cannot be opened."""
    for stale in folder.parent.glob(f"{folder.name}.building-*"):
        shutil.rmtree(stale, ignore_errors=True)

    shutil.rmtree(folder, ignore_errors=True)  # it must not take the room


def _decode_all(
    paths: list[str], target: Path, shape: tuple[int, ...], fit: Callable | None
) -> None:
    """Decode ``paths`` into the .npy file ``target``, each process writing its own rows of it."""
    with open(target, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        first = file.tell()

    picture = shape[1:]
    tasks = []
    for start in range(0, len(paths), CHUNK):
        offset = first + start * _bytes(picture)
        tasks.append((paths[start : start + CHUNK], picture, fit, target, offset))

    # Where processes are not forked, each of them imports torch first.
    most = 32 if multiprocessing.get_start_method() == "fork" else 8
    workers = min(_cores(), len(tasks), most)

    with progress_bar(len(paths), "decoding once", " pictures") as bar:
        if workers == 1:
            broken = _collect(map(_decode_chunk, tasks), bar)
        else:
            broken = _in_processes(workers, tasks, bar)

    if broken:
        raise DataError(_broken_message(broken, paths))


def _decode_chunk(task: tuple) -> tuple[int, list[str]]:
    """Decode some files and write them at their place; returns how many, and the faults."""
    paths, shape, fit, target, offset = task
    pixels, faults = np.zeros((len(paths), *shape), np.uint8), []

    for row, path in zip(pixels, paths, strict=True):
        try:
            row[:] = _decode(path, shape, fit)
        except BROKEN_PICTURE as error:
            faults.append(f"{path}: {error}")

    with open(target, "r+b") as file:
        file.seek(offset)
        file.write(pixels.data)
    return len(paths), faults


def _decode(path: str, shape: tuple[int, int, int], fit: Callable | None) -> np.ndarray:
    """One picture, uint8 (H, W, 3). Raises ValueError for one of another size."""
    with Image.open(path) as image:
        if image.mode != "RGB":
            image = image.convert("RGB")  # grayscale becomes three equal channels
        pixels = np.asarray(fit(image, shape[:2]) if fit else image)

    if pixels.shape != shape:
        height, width = pixels.shape[:2]
        raise ValueError(f"{width}×{height} pixels, expected {shape[1]}×{shape[0]}")
    return pixels


def _collect(results: Iterable[tuple[int, list[str]]], bar) -> list[str]:
    """The faults of all tasks."""
    broken = []
    for count, faults in results:
        broken += faults
        bar.update(count)
    return broken


# --- processes ------------------------------------------------------------------------------------


def _in_processes(workers: int, tasks: list[tuple], bar) -> list[str]:
    """The faults of all tasks; after an error or Ctrl-C no further one begins.

    Raises DataError if a process is killed.
    """
    pool = ProcessPoolExecutor(workers, initializer=_die_of_ctrl_c)
    try:
        return _collect(pool.map(_decode_chunk, tasks), bar)
    except BrokenProcessPool as error:
        raise DataError(
            f"one of the {workers} processes that decode was killed, most likely because the "
            "memory is full: close other notebooks and programs, and run again. If it is a script "
            f"that you run, {GUARD}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _die_of_ctrl_c() -> None:
    """At once and without a traceback.

    A terminal and Jupyter send it to every process: the parent has the word.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _cores() -> int:
    """The cores that this process may use: in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _refuse_a_child() -> None:
    """A helper that runs the script again would wait for ever for the lock of its parent."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise DataError(
            "a script that decodes pictures is started again in each process that helps: " + GUARD
        )


# --- disks, and what is said ----------------------------------------------------------------------


def _bytes(shape: tuple[int, ...]) -> int:
    """Of an array of uint8."""
    return int(np.prod(shape, dtype=np.int64))


def _check_room(home: Path, shape: tuple[int, ...]) -> None:
    if shutil.disk_usage(home).free < _bytes(shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(home))


def _disk_message(error: OSError, folder: Path, needed: int = 0) -> str:
    if error.errno == errno.ENOSPC:
        size = f"{needed / 1e6:,.0f} MB" if needed else "room"
        return (
            f"the disk is full: the decoded store needs {size} in {folder.parent}. "
            "Free that much, or point COURSE_DATA at a folder on a larger disk, and run again."
        )
    return (
        f"cannot write the decoded store to {folder.parent} ({error.strerror or error}). "
        "Point COURSE_DATA at a folder that can be written, and run again."
    )


def _broken_message(broken: list[str], paths: list[str]) -> str:
    cure = cure_for(
        Path(paths[0]).parent,
        "Replace these files, or delete the data set's folder and run again: it is then fetched "
        "anew.",
    )
    named = [f"  {fault}" for fault in sorted(broken)[:5]]
    more = ["  …"] if len(broken) > 5 else []
    title = f"{len(broken)} of {len(paths):,} pictures cannot be decoded:"

    return "\n".join([title, *named, *more, cure])
