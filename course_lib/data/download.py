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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.error import HTTPError, URLError

from PIL import Image
from torch.hub import download_url_to_file

from course_lib import files
from course_lib.files import DataError, move_into_place
from course_lib.setup import detect_platform

DEPTH = 2  # <folder>/<folder>
KAGGLE_DEPTH = 5  # datasets/<owner>/<slug>/<folder>/<folder>
NOT_SEARCHED = {
    *("train", "test", "val", "images"),  # thousands of files and no data set below
    "__MACOSX",  # what a Mac packs beside a folder: its names, without its content
}

TIMEOUT = 15  # seconds to connect, and between two packets
ROOM = 3.2  # times the archive's bytes: itself, and pictures that each fill whole disk blocks

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
BAD_PICTURE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # Pillow's
BAD_ARCHIVE = (shutil.ReadError, zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError)

MEND = (
    "Put back what is missing, or move this folder elsewhere and run again: the profiles cpu and "
    "gpu fetch it anew."
)
PROXY = (
    "Behind a proxy, set HTTP_PROXY and HTTPS_PROXY. For an SSL error, set the clock; on a Mac\n"
    "run Install Certificates.command in Python's folder; or set SSL_CERT_FILE to a file of\n"
    "certificates that holds the proxy's (python -m certifi prints the usual one)."
)
KAGGLE = (
    "In the panel on the right, under 'Session options', switch 'Internet' on; or add the\n"
    "data set as an input."
)


class Unreachable(DataError):
    """No mirror answered at all: most likely there is no network."""


AS_TAKEN = 0  # a Source's side, where every picture has the one that it was taken with


@dataclass(frozen=True)
class Source:
    """A data set as published: one archive that holds one folder."""

    name: str
    folder: str

    urls: tuple[str, ...]  # tried in this order
    sha256: str
    bytes: int

    counts: dict[str, int]  # files that each pattern must match; with ** those of one name are one
    markers: tuple[str, ...]  # what tells the layout; folders end in a slash
    side: int | None = None  # pixels of the shorter side, where it tells one copy from another

    @property
    def archive(self) -> str:
        return Path(self.urls[0]).name


def locate(source: Source, download: bool) -> Path | None:
    """The verified folder of ``source``: from disk, else fetched if ``download``, else None.

    Without a network it says so, with what may help, and returns None. Raises DataError for a
    broken set on disk, a full disk, or mirrors that answer with something else.
    """
    if found := find(source):
        return found

    if broken := next(_candidates(source), None):
        verify(source, broken)  # says what is wrong with it

    if not download:
        return None

    home = files.data_home()
    try:
        return fetch(source, home)
    except Unreachable as error:
        cause = _cause(error.__cause__)
        print(f"{source.name}: no network, no mirror can be reached ({cause}).")
        print(_cure(source, home))
        return None


def looked_in() -> str:
    """Where data sets are searched, in words."""
    asked = os.environ.get("COURSE_DATA")
    roots = [str(root) for root in files.search_roots() if root.is_dir()]
    if asked:
        roots[0] += " (COURSE_DATA)"

    deep = f"and {DEPTH} folders deep below"
    if files.KAGGLE_INPUT.is_dir():
        deep += f" ({files.KAGGLE_INPUT}: {KAGGLE_DEPTH})"
    return f"{', '.join(dict.fromkeys(roots))}, {deep}" if roots else "no folder: there is none"


# --- find -----------------------------------------------------------------------------------------


def find(source: Source) -> Path | None:
    """The first folder that holds all of ``source``, in the order of the roots; None without one.

    A broken copy hides no whole one, wherever it lies.
    """
    return next(copies(source), None)


def copies(source: Source) -> Iterator[Path]:
    """Every folder that holds all of ``source``, in the order of the roots."""
    return (folder for folder in _candidates(source) if not _faults(source, folder))


def places() -> Iterator[Path]:
    """Every folder that is searched: root by root, and in each level by level."""
    for root in files.search_roots():
        yield from _folders(root)


def _candidates(source: Source) -> Iterator[Path]:
    """The folders with the layout of ``source``: root by root, in each those of its name first."""
    for root in files.search_roots():
        alike = [folder for folder in _folders(root) if _looks_like(source, folder)]
        yield from sorted(alike, key=lambda folder: folder.name != source.folder)


def _looks_like(source: Source, folder: Path) -> bool:
    there = [_there(folder, marker) for marker in source.markers]

    if folder.name == source.folder:
        return any(there)  # a half-extracted set is found too, so that it can be reported
    return all(there) and _may_be(source, folder)


def _there(folder: Path, marker: str) -> bool:
    is_there = os.path.isdir if marker.endswith("/") else os.path.isfile
    return is_there(folder / marker)


def _may_be(source: Source, folder: Path) -> bool:
    """Whether a folder of another name holds the set, or a part of it.

    Not another size of it, nor a larger set that has these folders among others, as ImageNet has
    those of Imagenette.
    """
    if _other_sides(source, folder):
        return False

    return all(
        _count(pattern, folder, most=expected + 1) <= expected
        for pattern, expected in source.counts.items()
    )


def _folders(root: Path) -> Iterator[Path]:
    """``root`` and what lies below, level by level, without hidden and unreadable folders."""
    level = [root]
    for _ in range(1 + (KAGGLE_DEPTH if root == files.KAGGLE_INPUT else DEPTH)):
        yield from level
        level = [child for folder in level for child in _subfolders(folder)]


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []

    searched = [name for name in names if name not in NOT_SEARCHED and not name.startswith(".")]
    return [folder / name for name in searched]


# --- count ----------------------------------------------------------------------------------------


def verify(source: Source, root: Path) -> None:
    """Count the files of the set in ``root``. Raises DataError unless all are there."""
    if faults := _faults(source, root):
        cure = cure_for(root, MEND)
        raise DataError(_listed(f"{source.name} in {root} is not whole:", faults, cure))


def _faults(source: Source, root: Path) -> list[str]:
    """What is wrong with the set in ``root``, in words; empty if it is whole."""
    faults = [f"{path}: missing" for path in source.markers if not _there(root, path)]

    for pattern, expected in source.counts.items():
        found = _count(pattern, root)
        if found != expected:
            faults.append(f"{pattern}: {found:,} of {expected:,} files")

    for side in _other_sides(source, root):
        expected = "another for each" if source.side == AS_TAKEN else source.side
        faults.append(f"pictures whose shorter side has {side} pixels, expected {expected}")
    return faults


def _count(pattern: str, root: Path, most: int | None = None) -> int:
    """How many files match, up to ``most``.

    At any depth (**) those of one name are one: who sorts pictures into folders by class may have
    kept the originals.
    """
    found = set()
    for path in glob.iglob(pattern, root_dir=root, recursive=True):
        found.add(os.path.basename(path) if "**" in pattern else path)
        if len(found) == most:
            break
    return len(found)


def _other_sides(source: Source, root: Path) -> set[int]:
    """Shorter sides of pictures, in pixels, that the set has not."""
    if source.side is None:
        return set()

    sides = shorter_sides(source, root)
    if source.side == AS_TAKEN:
        return sides if len(sides) == 1 else set()  # all alike: somebody made them so
    return sides - {source.side}


def shorter_sides(source: Source, root: Path) -> set[int]:
    """Shorter sides of pictures, in pixels: a look at twenty of them."""
    sides = set()
    for path in islice(glob.iglob(next(iter(source.counts)), root_dir=root), 20):
        with suppress(*BAD_PICTURE), Image.open(root / path) as image:
            sides.add(min(image.size))
    return sides


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

    An archive that lies in a place that is searched, put there by hand or by an earlier run, is
    used. Two processes may start at once: one fetches, the other waits. Raises Unreachable if no
    mirror answers, DataError for all else that goes wrong, and leaves nothing half-done.
    """
    target = home / source.folder

    with _in_words(source, home):
        home.mkdir(parents=True, exist_ok=True)
        files.refuse_dangling(target)

        with files.one_at_a_time(home / f".{source.folder}.lock"):
            # another process was first; or a folder of that name has none of the markers
            if target.exists():
                verify(source, target)
                return target

            with _swept(source, home) as aside:
                archive = _find_archive(source) or _download(source, home)
                _extract(source, archive, aside)
                move_into_place(aside / source.folder, target)
    return target


def _find_archive(source: Source) -> Path | None:
    for place in places():
        archive = place / source.archive
        if archive.is_file() and _is_whole(source, archive):
            return archive
    return None


def _is_whole(source: Source, archive: Path) -> bool:
    with open(archive, "rb") as file:
        whole = hashlib.file_digest(file, "sha256").hexdigest() == source.sha256
    if not whole:
        size = archive.stat().st_size
        print(
            f"{archive} is not the published file ({size:,} of {source.bytes:,} bytes, or "
            "changed): it is not used."
        )
    return whole


def _download(source: Source, home: Path) -> Path:
    """Each mirror in turn: torch streams into a .partial file, hashes it, moves it into place."""
    archive = home / source.archive
    if archive.is_dir():  # what is fetched would be moved *into* it
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(archive))

    print(f"downloading {source.name} ({source.bytes / 1e6:,.0f} MB) to {archive}")

    errors: dict[str, Exception] = {}
    for url in source.urls:
        try:
            with _timeout(TIMEOUT):
                download_url_to_file(url, str(archive), hash_prefix=source.sha256)
            return archive
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise  # no other mirror would help
            errors[url] = error
            if not _refused(error):
                print(f"mirror rejected: {url}: {_cause(error)}")

    kind = Unreachable if all(map(_refused, errors.values())) else DataError
    causes = [f"{url}: {_cause(error)}" for url, error in errors.items()]
    failed = _listed(f"{source.name} could not be downloaded:", causes, _cure(source, home))
    raise kind(failed) from errors[url]


def _cure(source: Source, home: Path) -> str:
    connect = KAGGLE if detect_platform() == "Kaggle" else PROXY
    by_hand = f"Or download {source.urls[0]} by hand to {home / source.archive} and run again."
    return f"{connect}\n{by_hand}"


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
def _in_words(source: Source, home: Path) -> Iterator[None]:
    """Whatever the system refuses, as a DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DataError(files.full_disk(source.name, home, ROOM * source.bytes)) from error

        raise DataError(
            f"{source.name} cannot be put into {home} ({files.reason(error)}). Mend that, or set "
            "COURSE_DATA to another folder, and run again."
        ) from error


@contextmanager
def _swept(source: Source, home: Path) -> Iterator[Path]:
    """A place to extract to; what this or a killed process leaves half-done is removed."""
    aside = home / f".{source.archive}.extracting"

    def sweep() -> None:
        shutil.rmtree(aside, ignore_errors=True)
        for partial in home.glob(f"{source.archive}.*.partial"):
            partial.unlink()

    sweep()
    try:
        yield aside
    finally:
        sweep()
