"""Memory that a step frees is kept for the next step, in large pages."""

import ctypes
import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc
MADV_HUGEPAGE, LARGE_PAGE = 14, 2**21  # linux/mman.h; bytes
MOST = 8 * 2**30  # bytes of address space


@cache
def reuse_memory() -> bool:
    """Let this process keep what it frees. Returns whether that was possible: with glibc, on Linux.

    glibc gets every large block from the kernel and gives it back, and a layer's activations are
    large. So each step of a training is given the same memory anew, zeroed, in pages of 4 kB:
    a fault for each of them. Kept, and in pages of 2 MB, it is there already
    (figures/results/benchmarks/memory_reuse.json). No number changes; but the process holds as much
    as it ever needed until it ends. See mallopt(3) and madvise(2).
    """
    if not sys.platform.startswith("linux"):
        return False

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # another C library, as on Alpine
        return False

    libc.mallopt(M_MMAP_MAX, 0)  # large blocks come out of the heap, as small ones do
    libc.mallopt(M_TRIM_THRESHOLD, -1)  # and the heap never shrinks

    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    _grow_heap_in_large_pages(libc, min(half, MOST))
    return True


def _grow_heap_in_large_pages(libc: ctypes.CDLL, size: int) -> None:
    """These are addresses alone: a page is taken up when something is written to it."""
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    block = libc.malloc(size)
    if block is None:  # the process may not have so many: then its pages stay small
        return

    first = -(-block // LARGE_PAGE) * LARGE_PAGE  # the next multiple
    libc.madvise(first, block + size - first, MADV_HUGEPAGE)  # a kernel that can't says so: no harm
    libc.free(block)
