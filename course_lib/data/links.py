"""``python -m course_lib.data.links``: is every archive still there, at each of its addresses?

Nothing is fetched: each is asked for its size. Exit code 1 if one does not answer, or names another
size than the published one.
"""

import http.client
import sys
from collections.abc import Iterable
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from course_lib.data.cifar import CIFAR10, CIFAR100
from course_lib.data.download import Source
from course_lib.data.imagenette import IMAGENETTE
from course_lib.data.imagewoof import IMAGEWOOF
from course_lib.data.tiny_imagenet import TINY_IMAGENET
from course_lib.files import speak_utf8

SOURCES = (
    TINY_IMAGENET,
    *IMAGENETTE.archives.values(),
    *IMAGEWOOF.archives.values(),
    CIFAR10,
    CIFAR100,
)

TIMEOUT = 30  # seconds
HEAD_REFUSED = {403, 405, 501}  # by servers that answer a GET


def main(sources: Iterable[Source] = SOURCES) -> int:
    """Print a line for each address; returns the exit code."""
    alive = True
    for source in sources:
        print(f"\n{source.name}: {source.bytes:,} bytes")

        for url in source.urls:
            answer = ask(url, source.bytes)
            alive = alive and answer == "there"
            print(f"  {answer:<24} {url}", flush=True)
    return 0 if alive else 1


def ask(url: str, expected: int) -> str:
    """What became of the archive, in words: "there", or what is wrong."""
    try:
        size = size_at(url)
    except (OSError, http.client.HTTPException) as error:
        return f"DEAD ({getattr(error, 'reason', None) or error or type(error).__name__})"

    if size is None:
        return "there"  # it answers, and does not tell the size
    return "there" if size == expected else f"CHANGED ({size:,} bytes)"


def size_at(url: str) -> int | None:
    """In bytes, by the headers alone; None where they do not tell. Raises OSError."""
    try:
        return _length(url, "HEAD")
    except HTTPError as error:
        if error.code not in HEAD_REFUSED:
            raise
        return _length(url, "GET")  # closed before the content comes


def _length(url: str, method: str) -> int | None:
    asked = Request(url, method=method, headers={"User-Agent": "Mozilla/5.0"})
    with urlopen(asked, timeout=TIMEOUT) as answer:
        length = answer.headers.get("Content-Length")
    return None if length is None else int(length)


if __name__ == "__main__":
    speak_utf8()
    sys.exit(main())
