"""Where a data set comes from: find it on disk, count its files, or fetch it from its mirrors.

A folder that exists is not yet a data set: an interrupted download leaves one too, and training on
it runs without a word. So files are counted before a set is believed, and a fetched set appears in
one step, whole, or not at all.
"""

import errno
import glob
import hashlib
import http.client
import os
import shutil
import socket
import ssl
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.error import HTTPError, URLError

from torch.hub import download_url_to_file

from course_lib import files
from course_lib.files import DataError, move_into_place

DEPTH = 2  # <folder>/<folder>
KAGGLE_DEPTH = 5  # datasets/<owner>/<slug>/<folder>/<folder>
SPLIT_FOLDERS = {"train", "test", "val", "images"}  # thousands of files and no data set below

TIMEOUT = 15  # seconds to connect, and between two packets
ROOM = 3.2  # archive sizes: the archive, and pictures that each fill whole disk blocks

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
BAD_ARCHIVE = (shutil.ReadError, zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError)

CONNECT = (
    "Behind a proxy, set HTTP_PROXY and HTTPS_PROXY. For an SSL error, set the clock; on a Mac\n"
    "run Install Certificates.command in Python's folder; or set SSL_CERT_FILE to a file of\n"
    "certificates that holds the proxy's (python -m certifi prints the usual one).\n"
    "On Kaggle, switch Internet on."
)


class Unreachable(DataError):
    """No mirror answered at all: most likely there is no network."""


@dataclass(frozen=True)
class Source:
    """A data set as published: one archive that holds one folder."""

    name: str
    folder: str

    urls: tuple[str, ...]  # tried in this order
    sha256: str
    bytes: int

    counts: dict[str, int]  # files that each pattern must match
    markers: tuple[str, ...]  # what tells the layout; folders end in a slash
    not_named: tuple[str, ...] = ()  # folders that look alike and hold something else


def locate(source: Source, download: bool) -> Path | None:
    """The verified folder of ``source``: from disk, else fetched if ``download``, else None.

    Without a network it says so, with what may help, and returns None. Raises DataError for a
    broken set on disk, a full disk, or mirrors that answer with something else.
    """
    if found := find(source):
        verify(source, found)
        return found

    if not download:
        return None

    try:
        return fetch(source, files.data_home())
    except Unreachable as error:
        cause = _cause(error.__cause__)
        print(f"{source.name}: no network, no mirror can be reached ({cause}).\n{CONNECT}")
        return None


# --- find -----------------------------------------------------------------------------------------


def find(source: Source) -> Path | None:
    """The first folder with the layout of ``source``, root by root, level by level.

    One of its name goes first. Not a larger data set that has these folders among others, as
    ImageNet has those of Imagenette.
    """
    found = []
    for root in files.search_roots():
        depth = KAGGLE_DEPTH if root == files.KAGGLE_INPUT else DEPTH
        found += [folder for folder in _folders(root, depth) if _looks_like(source, folder)]

    return min(found, key=lambda folder: folder.name != source.folder, default=None)


def _looks_like(source: Source, folder: Path) -> bool:
    there = [_there(folder, marker) for marker in source.markers]

    if folder.name == source.folder:
        return any(there)  # a half-extracted set is found too, so that it can be reported
    return all(there) and _may_be(source, folder)


def _there(folder: Path, marker: str) -> bool:
    is_there = os.path.isdir if marker.endswith("/") else os.path.isfile
    return is_there(folder / marker)


def _may_be(source: Source, folder: Path) -> bool:
    """Whether a folder of another name holds no more files than the set has."""
    if folder.name in source.not_named:
        return False

    for pattern, expected in source.counts.items():
        matches = glob.iglob(pattern, root_dir=folder)
        if sum(1 for _ in islice(matches, expected + 1)) > expected:
            return False
    return True


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """``root`` and what lies below, level by level, without hidden and unreadable folders."""
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [child for folder in level for child in _subfolders(folder)]


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []

    searched = [name for name in names if name not in SPLIT_FOLDERS and not name.startswith(".")]
    return [folder / name for name in searched]


# --- count ----------------------------------------------------------------------------------------


def verify(source: Source, root: Path) -> None:
    """Count the files of the set in ``root``. Raises DataError unless all are there."""
    if faults := _faults(source, root):
        cure = cure_for(root, "Delete this folder and run again: it is then fetched anew.")
        raise DataError(_listed(f"{source.name} in {root} is not whole:", faults, cure))


def _faults(source: Source, root: Path) -> list[str]:
    """What is wrong with the set in ``root``, in words; empty if it is whole."""
    faults = [f"{path}: missing" for path in source.markers if not _there(root, path)]

    for pattern, expected in source.counts.items():
        found = sum(1 for _ in glob.iglob(pattern, root_dir=root))
        if found != expected:
            faults.append(f"{pattern}: {found:,} of {expected:,} files")
    return faults


def cure_for(folder: Path, mend: str) -> str:
    """What to do about broken files in ``folder``: ``mend``, where it can be written."""
    if files.writable(folder):
        return mend
    return "The folder is read-only: attach another copy, or set COURSE_DATA to one."


def _listed(title: str, items: list[str], cure: str) -> str:
    return "\n".join([title, *(f"  {item}" for item in items), cure])


# --- fetch ----------------------------------------------------------------------------------------


def fetch(source: Source, home: Path) -> Path:
    """Download, check, extract and verify ``source``; returns ``home / source.folder``.

    The archive stays beside the folder; one that was put there by hand is used. Two processes may
    start at once: one fetches, the other waits. Raises Unreachable if no mirror answers, DataError
    for wrong answers, a bad archive or a full disk, and leaves nothing half-done.
    """
    home.mkdir(parents=True, exist_ok=True)
    target = home / source.folder
    archive = home / Path(source.urls[0]).name

    with files.one_at_a_time(home / f".{source.folder}.lock"):
        if target.exists():  # another process was first, or nothing in it tells the layout
            verify(source, target)
            return target

        with _disk_checked(source, home), _swept(home, archive) as aside:
            if not _is_whole(source, archive):
                _download(source, archive)

            _extract(source, archive, aside)
            move_into_place(aside / source.folder, target)
    return target


def _is_whole(source: Source, archive: Path) -> bool:
    """Whether the right archive lies there already, put there by hand or by an earlier run."""
    if not archive.exists():
        return False

    with open(archive, "rb") as file:
        whole = hashlib.file_digest(file, "sha256").hexdigest() == source.sha256
    if not whole:
        size = archive.stat().st_size
        print(
            f"{archive} is not the published file ({size:,} of {source.bytes:,} bytes, or "
            "changed): it is fetched anew."
        )
    return whole


def _download(source: Source, archive: Path) -> None:
    """Each mirror in turn: torch streams into a .partial file, hashes it, moves it into place."""
    print(f"downloading {source.name} ({source.bytes / 1e6:,.0f} MB) to {archive}")

    errors: dict[str, Exception] = {}
    for url in source.urls:
        try:
            with _timeout(TIMEOUT):
                download_url_to_file(url, str(archive), hash_prefix=source.sha256)
            return
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise  # no other mirror would help
            errors[url] = error
            if not _refused(error):
                print(f"mirror rejected: {url}: {_cause(error)}")

    kind = Unreachable if all(map(_refused, errors.values())) else DataError
    causes = [f"{url}: {_cause(error)}" for url, error in errors.items()]
    cure = f"{CONNECT}\nOr download the file by hand to {archive} and run again."
    raise kind(_listed(f"{source.name} could not be downloaded:", causes, cure)) from errors[url]


def _extract(source: Source, archive: Path, aside: Path) -> None:
    """Extract into ``aside`` and verify there, before anything takes its final name."""
    print(f"extracting {archive.name}")
    cure = f"Delete {archive} and run again: it is then fetched anew."

    try:
        shutil.unpack_archive(archive, aside)
    except BAD_ARCHIVE as error:
        raise DataError(f"{archive} cannot be extracted ({error}). {cure}") from error

    if faults := _faults(source, aside / source.folder):
        raise DataError(_listed(f"{archive} does not hold {source.name}:", faults, cure))


# --- what may go wrong ----------------------------------------------------------------------------


def _refused(error: Exception) -> bool:
    """Whether no connection came about.

    Not a bad answer, and not a certificate that is not believed: there the network is.
    """
    no_answer = isinstance(error, URLError) and not isinstance(error, HTTPError)
    return no_answer and not isinstance(error.reason, ssl.SSLError)


def _cause(error: Exception) -> str:
    if isinstance(error, RuntimeError):  # torch.hub found another checksum
        return "not the published file (wrong size or checksum): cut short on the way, or changed"
    return str(error) or type(error).__name__


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """``download_url_to_file`` takes no timeout, but new sockets take the default one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _disk_checked(source: Source, home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise

        needed, free = ROOM * source.bytes / 1e6, shutil.disk_usage(home).free / 1e6
        raise DataError(
            f"the disk is full: {source.name} needs about {needed:,.0f} MB in {home}, {free:,.0f} "
            "are free. Make room, or set COURSE_DATA to a folder on a larger disk."
        ) from error


@contextmanager
def _swept(home: Path, archive: Path) -> Iterator[Path]:
    """A place to extract to; what this or a killed process leaves half-done is removed."""
    aside = home / f".{archive.name}.extracting"

    def sweep() -> None:
        shutil.rmtree(aside, ignore_errors=True)
        for partial in home.glob(f"{archive.name}.*.partial"):
            partial.unlink()

    sweep()
    try:
        yield aside
    finally:
        sweep()
