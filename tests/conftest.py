"""What holds for every test: one thread, no windows, and no network."""

import os
import socket

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors; two threads wait for each other
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402

from course_lib.data.download import find  # noqa: E402
from course_lib.data.tiny_imagenet import TINY_IMAGENET  # noqa: E402

HERE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that looks up any other host fails, even where the code would catch an OSError."""
    look_up = socket.getaddrinfo

    def local_only(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if name not in HERE:
            pytest.fail(f"this test asked for the network ({name}): unit tests never download")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local_only)


def pytest_collection_modifyitems(items):
    waiting = [item for item in items if item.get_closest_marker("real_data")]
    if waiting and find(TINY_IMAGENET) is None:
        for item in waiting:
            item.add_marker(pytest.mark.skip(reason="no TinyImageNet in COURSE_DATA or data/"))
