"""Memory that is kept: in a process of its own, for it cannot be undone."""

import ctypes
import subprocess
import sys

import pytest
import torch

from course_lib import memory, runtime

FAULTS = """
import resource, sys
import torch
from course_lib.memory import reuse_memory

if "keep" in sys.argv:
    assert reuse_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for round in range(12):
    if round == 2:  # by then the heap has its size
        before = faults()
    x = torch.ones(16, 2**20)  # 64 MB
    y = x + 1
    del x, y
print(faults() - before)
"""


def count_faults(*arguments):
    command = [sys.executable, "-c", FAULTS, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


with_glibc = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "mallopt")),
    reason="glibc alone can be asked to keep memory",
)


@with_glibc
def test_memory_that_is_kept_costs_no_faults():
    pages = 10 * 2 * 2**26 // 2**12  # of ten rounds, two tensors each
    assert count_faults("keep") < pages / 100


@pytest.mark.parametrize("kind, kept", [("cpu", True), ("cuda", False)])
def test_a_course_keeps_memory_where_the_cpu_computes(monkeypatch, kind, kept):
    asked = []
    monkeypatch.setattr(runtime, "reuse_memory", lambda: asked.append(kind))
    monkeypatch.setattr(runtime, "find_device", lambda: (torch.device(kind), "for a test"))
    monkeypatch.setattr(runtime, "pick_precision", runtime.Precision)
    runtime.setup("smoke")
    assert bool(asked) is kept


@pytest.fixture
def afresh():
    """``reuse_memory`` as in a new process, before and after."""
    memory.reuse_memory.cache_clear()
    yield
    memory.reuse_memory.cache_clear()


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_elsewhere_nothing_happens(monkeypatch, afresh, system):
    monkeypatch.setattr(memory.sys, "platform", system)
    monkeypatch.setattr(memory.ctypes, "CDLL", pytest.fail)
    assert memory.reuse_memory() is False


def test_another_c_library_is_left_alone(monkeypatch, afresh):
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.reuse_memory() is False


@with_glibc
def test_a_limit_on_addresses_does_no_harm():
    """2 GB are enough to start, and far less than the heap asks for."""
    code = (
        "import resource; from course_lib import memory; "
        "memory.MOST = 2**36; memory.os.sysconf = lambda name: 2**18; "  # 64 GB
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); "
        "assert memory.reuse_memory(); print(len(bytearray(10**8)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "100000000\n", found.stderr
