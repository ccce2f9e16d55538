"""The price of a run, the reference rate behind it, and the forecast drawn from both."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_up import commit_results, record
from small import SMOKE
from torch import nn

from course_lib.experiments import price
from course_lib.files import CourseError
from course_lib.runtime import Precision

pytestmark = pytest.mark.usefixtures("world")


@pytest.mark.parametrize(
    "seconds, rate, expected",
    [(2000, 50, 1.0), (3600, 26, 0.936), (60, 10_000, 6.0), (60, None, None)],
)
def test_the_price_is_seconds_times_rate_in_epochs_of_the_reference(seconds, rate, expected):
    found = price.price({"seconds": seconds, "reference_rate": rate})
    assert found == (expected and pytest.approx(expected))


def test_the_reference_rate_is_that_of_the_reference_network_on_its_batch(monkeypatch):
    """A quick stand-in for the network, and a clock: 1 s to warm up, then 2 s, 4 s and 8 s."""
    made, batches = [], []

    class StandIn(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 200)

        def forward(self, x):
            is_channels_last = x.is_contiguous(memory_format=price.torch.channels_last)
            batches.append((tuple(x.shape), is_channels_last, self.training))
            return self.fc(x.mean((2, 3)))

    clock = iter([0, 1, 1, 3, 3, 7, 7, 15])
    monkeypatch.setattr(price, "create_model", lambda *asked: made.append(asked) or StandIn())
    monkeypatch.setattr(price, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

    assert price.time_reference(SMOKE.precision, rounds=3) == pytest.approx(64 / 4)
    assert made == [("resnet18_small", 200)]
    assert batches == [((64, 3, 64, 64), True, True)] * 4

    # ten steps a round, where the device is waited for that often
    clock = iter([0, 1, 1, 21, 21, 61, 61, 141])
    monkeypatch.setattr(price.loop, "look_every", lambda device: 10)
    assert price.time_reference(SMOKE.precision, rounds=3) == pytest.approx(64 / 4)
    assert len(batches) == 4 + 40


STAND_IN = """
from course_lib import memory
from course_lib.experiments import price

def time_reference(precision):
    kept = memory.reuse_memory.cache_info().currsize
    return 1000 * kept + (16 if precision.dtype else 32)

price.time_reference = time_reference
"""


@pytest.mark.parametrize("dtype, bits", [(torch.bfloat16, 16), (None, 32)])
def test_on_a_cpu_it_is_timed_in_a_process_that_keeps_no_memory(monkeypatch, dtype, bits):
    """What makes trainings faster must not make the unit smaller."""
    monkeypatch.setattr(price, "APART", STAND_IN + price.APART)
    rt = replace(SMOKE, precision=Precision(torch.device("cpu"), dtype))
    assert price.reference_rate(rt) == bits


def test_a_process_that_fails_is_told_in_words(monkeypatch):
    monkeypatch.setattr(price, "APART", "raise MemoryError('no room')")
    with pytest.raises(CourseError, match="could not be timed: MemoryError: no room. .*--no-price"):
        price.reference_rate(SMOKE)


def test_a_forecast_divides_the_mean_price_of_the_committed_runs_by_this_machines_rate():
    """Prices 1.0 and 0.8: 0.9 × 100,000 / 30 s."""
    runs = record(seconds=2000, rate=50), record(seconds=1000, rate=80)
    commit_results("tiny_imagenet", *runs)
    assert price.forecast("tiny_imagenet", "cpu", 30.0) == (
        "tiny_imagenet: price 0.90, at 30 reference pictures/s about 50 minutes here"
    )


def test_a_forecast_takes_the_runs_of_its_profile_where_there_are_any():
    runs = record(seconds=2000, rate=50), record(seconds=200, rate=50, profile="gpu")
    commit_results("tiny_imagenet", *runs)
    assert "price 0.10" in price.forecast("tiny_imagenet", "gpu", 30.0)


def test_the_forecast_of_a_trial_comes_from_where_trials_lie():
    commit_results("ablations/tiny_imagenet.slow", record(seconds=2000.0, rate=50.0))
    assert "price 1.00" in price.forecast("tiny_imagenet.slow", "cpu", 50.0)


def test_what_has_no_price_is_told_in_minutes_of_the_machine_it_ran_on():
    runs = record(seconds=600, rate=None), record(seconds=840, rate=None)
    commit_results("studies/depth.plain20", *runs)
    assert price.took("depth.plain20", "cpu") == (
        "depth.plain20: took 10 minutes at best on a laptop"
    )
    assert "no run measured yet" in price.forecast("depth.plain20", "cpu", 50.0)

    commit_results("studies/depth.plain20", *runs, record(seconds=120, device="a card"))
    assert price.took("depth.plain20", "cpu").endswith("a laptop and 2 minutes at best on a card")


def test_of_what_was_never_measured_no_minutes_are_told():
    assert price.took("depth.plain20", "cpu") == (
        "depth.plain20: no run measured yet, so no forecast"
    )


@pytest.mark.parametrize("runs", [[], [record(rate=None)]])
def test_without_a_measured_run_there_is_no_forecast_and_it_says_so(runs):
    commit_results("tiny_imagenet", *runs)
    said = price.forecast("tiny_imagenet", "cpu", 1234.0)
    assert "no run measured yet" in said and "1,234 reference pictures/s" in said
    assert "minutes" not in said
