"""Benchmarks compute with two threads, as a learner's machine does; the other tests with one."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def two_threads():
    yield from threads(2)


@pytest.fixture
def one_thread(two_threads):
    """Where the two sides are compared at what one thread does."""
    yield from threads(1)


def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)
