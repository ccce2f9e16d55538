"""What holds for every test: one thread, no windows, no network, no waiting for the disk, and no
memory that is kept."""

import os
import signal
import socket
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors; two threads wait for each other
os.environ.setdefault("MPLBACKEND", "Agg")
if sys.platform == "darwin":  # what is held to the last bit is held so on CPUs
    os.environ.setdefault("COURSE_DEVICE", "cpu")

# What takes seconds to import is imported below: xdist's first process needs none of it.

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


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Only a power cut would tell the difference; a thousand saves wait 10 ms each for it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def no_memory_is_kept(monkeypatch):
    """A process that goes through all networks would hold what the largest of them took."""
    monkeypatch.setattr("course_lib.runtime.reuse_memory", lambda: False)


@pytest.fixture
def same_start():
    """Random numbers as in every other test, and Ctrl-C: a shell's background jobs ignore it."""
    from course_lib.runtime import seed_everything

    seed_everything(0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def path(tmp_path):
    """Where a training is kept."""
    return tmp_path / "runs" / "training.pt"


def pytest_collection_modifyitems(items):
    from course_lib.data.download import find
    from course_lib.data.tiny_imagenet import TINY_IMAGENET

    waiting = [item for item in items if item.get_closest_marker("real_data")]
    if waiting and find(TINY_IMAGENET) is None:
        for item in waiting:
            item.add_marker(pytest.mark.skip(reason="no TinyImageNet in COURSE_DATA or data/"))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty one, in which reports read and write everything."""
    from course_lib.experiments import record as records
    from course_lib.report import figures, pages

    monkeypatch.setattr(pages, "REPO", tmp_path)
    monkeypatch.setattr(figures, "FOLDER", tmp_path / "figures")
    monkeypatch.setattr(records, "RESULTS", tmp_path / "figures" / "results")
    (tmp_path / "figures").mkdir()
    return tmp_path


@pytest.fixture
def copied_to_cpu(monkeypatch):
    """The shapes of all tensors that are copied to the CPU from now on."""
    import torch

    shapes = []
    to_cpu = torch.Tensor.cpu

    def noting(tensor):
        shapes.append(tensor.shape)
        return to_cpu(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", noting)
    return shapes
