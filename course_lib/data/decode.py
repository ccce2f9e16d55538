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
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from course_lib.data.download import BAD_PICTURE, NO_ROOM, cure_for, places
from course_lib.files import (
    DataError,
    DiskError,
    flush,
    full_disk,
    move_into_place,
    one_at_a_time,
    reason,
    refuse_dangling,
)
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
NO_MAPS = {errno.ENODEV, errno.EINVAL, errno.ENOTSUP}  # from file systems that map no files
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

    folder: Path
    images: np.ndarray  # (N, H, W, 3) uint8, read-only, memory-mapped where that can be
    labels: np.ndarray
    classes: list[str]
    boxes: np.ndarray | None
    seconds: float  # that building it took


def decode_once(
    folder: Path,
    make_listing: Callable[[], Listing],
    size: tuple[int, int],
    fit: Callable | None = None,
    pictures: int | None = None,
) -> Decoded:
    """Open the store in ``folder``; build it first if there is none.

    size: (height, width) that every picture must have, or is given by ``fit(image, size)``.
    pictures: as many as a store must hold. Safe with two processes starting at once: one builds,
    the other waits. Raises DataError for corrupt pictures (all of them counted) and a list without
    one, DiskError for a full disk or a folder that cannot be written; nothing half-done is left
    behind.
    """
    if found := open_store(folder, pictures):
        return found

    _refuse_a_child()
    try:
        for path in (folder.parents[1], folder.parent, folder):
            refuse_dangling(path)

        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder.with_name(folder.name + ".lock")):
            found = open_store(folder, pictures)  # another process was first
            if not found:
                _build(folder, make_listing, size, fit)
    except OSError as error:
        needed = _bytes((pictures or 0, *size, 3))
        raise DiskError(_disk_message(error, folder, needed)) from error

    return found or open_store(folder)


def find_store(where: Path, pictures: int | None = None) -> Decoded | None:
    """The first store ``where`` in the places that are searched, such as ``stores/cats/train``.

    Raises DataError where there is none but one that cannot be read now.
    """
    unreadable = None
    for place in places():
        try:
            if found := open_store(place / where, pictures):
                return found
        except DataError as error:
            unreadable = unreadable or error

    if unreadable:
        raise unreadable
    return None


def open_store(folder: Path, pictures: int | None = None) -> Decoded | None:
    """The store, or None where there is none, an older format, or one that is not whole.

    Not whole: it lost bytes, or was made when a list of labels was cut, and holds other than
    ``pictures``. Raises DataError for one that cannot be read now: too many open files, a lost
    connection.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != FORMAT or pictures not in (None, meta["pictures"]):
            return None

        images = _mapped(folder / "images.npy")
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
    return Decoded(folder, images, labels, meta["classes"], boxes, meta["seconds"])


def _mapped(path: Path) -> np.ndarray:
    """The array as a memory map; in memory, with a word, where the file system maps no files."""
    try:
        return np.load(path, mmap_mode="r")
    except OSError as error:
        if error.errno not in NO_MAPS:
            raise

        size = path.stat().st_size / 1e6
        print(f"no file can be mapped in {path.parent}: its {size:,.0f} MB are read into memory")
        images = np.load(path)
        images.setflags(write=False)
        return images


# --- building -------------------------------------------------------------------------------------


def _build(
    folder: Path, make_listing: Callable[[], Listing], size: tuple[int, int], fit: Callable | None
) -> None:
    """Decode aside, then move into place. The caller holds the lock."""
    started = time.perf_counter()
    listing = make_listing()
    if not listing.paths:
        raise DataError(f"{folder}: the list of pictures is empty, so there is nothing to decode")
    shape = (len(listing.paths), *size, 3)

    try:
        with _aside(folder) as aside:
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
            (aside / "meta.json").write_text(json.dumps(meta), encoding="utf-8")

            for path in aside.iterdir():
                flush(path)  # on the disk before the store takes its name
            move_into_place(aside, folder)
    except OSError as error:
        raise DiskError(_disk_message(error, folder, _bytes(shape))) from error


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A name beside the store to build it under; it is removed, unless the store took its place."""
    aside = folder.with_name(f"{folder.name}.building-{os.getpid()}")
    _sweep(folder)
    try:
        yield aside
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
    workers = min(_cores(), len(tasks), most if _can_start_again() else 1)

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
        except BAD_PICTURE as error:
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
    pool = ProcessPoolExecutor(workers, initializer=_start_worker)
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


def _start_worker() -> None:
    """A worker ends of Ctrl-C, at once and without a traceback, and with its parent.

    A terminal and Jupyter send Ctrl-C to every process: the parent has the word. A parent that was
    killed has none: its workers would wait for tasks for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _can_start_again() -> bool:
    """Whether a worker that is not forked can run this script anew: not one from stdin."""
    script = getattr(sys.modules["__main__"], "__file__", None)  # none in Jupyter
    forks = multiprocessing.get_start_method() == "fork"
    return forks or script is None or os.path.isfile(script)


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


def _disk_message(error: OSError, folder: Path, needed: int) -> str:
    if error.errno in NO_ROOM:
        home = next(path for path in folder.parents if path.is_dir())
        return full_disk("the decoded store", home, needed)

    return (
        f"cannot write the decoded store to {folder.parent} ({reason(error)}). "
        "Point COURSE_DATA at a folder that can be written, and run again."
    )


def _broken_message(broken: list[str], paths: list[str]) -> str:
    cure = cure_for(
        Path(paths[0]).parent,
        "Replace these files, or move the data set elsewhere and run again: the profiles cpu and "
        "gpu fetch it anew.",
    )
    named = [f"  {fault}" for fault in sorted(broken)[:5]]
    more = ["  …"] if len(broken) > 5 else []
    title = f"{len(broken)} of {len(paths):,} pictures cannot be decoded:"

    return "\n".join([title, *named, *more, cure])
