"""What a run costs, in a unit that holds from one machine to the next, and what the next one will.

The unit is an epoch of the reference network over TinyImageNet: ``resnet18_small``, 200 classes,
64 px, batch 64.
"""

import os
import subprocess
import sys
import time

import numpy as np
import torch

from course_lib.experiments.record import results
from course_lib.files import CourseError
from course_lib.models import create_model
from course_lib.runtime import Precision, Runtime
from course_lib.training import Trainer, loop, optim, processes, schedules

REFERENCE_IMAGES = 100_000  # one epoch over TinyImageNet
BATCH = 64


def price(record: dict) -> float | None:
    """What a run cost: seconds × reference_rate / 100,000. None where no rate was timed."""
    rate = record["reference_rate"]
    return None if rate is None else record["seconds"] * rate / REFERENCE_IMAGES


def reference_rate(rt: Runtime) -> float:
    """Pictures per second that this machine trains the reference network at.

    On a CPU in a process of its own, which keeps no memory: a unit must not shrink with what makes
    trainings faster (``course_lib.memory``). Raises CourseError where that process fails.
    """
    if rt.device.type != "cpu":
        return time_reference(rt.precision)

    command = [sys.executable, "-c", APART, rt.precision.name, str(torch.get_num_threads())]
    here = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # the same library
    timed = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=os.environ | here
    )

    if timed.returncode:
        why = (timed.stderr.strip().splitlines() or [f"it ended with {timed.returncode}"])[-1]
        raise CourseError(
            f"the reference network could not be timed: {why}. Try again, or leave it out: "
            "--no-price, or run(…, priced=False)"
        )
    return float(timed.stdout.split()[-1])


APART = """
import sys
import torch
from course_lib.experiments import price
from course_lib.runtime import Precision

precision, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
bf16 = torch.bfloat16 if precision == "bf16" else None
print(price.time_reference(Precision(torch.device("cpu"), bf16)))
"""


def time_reference(precision: Precision, rounds: int = 4) -> float:
    """The same, in this process.

    In the precision and the memory format of the run. The median of ``rounds``, after one to warm
    up, each of as many steps as a training makes between two looks at the loss.
    """
    device = precision.device
    model = create_model("resnet18_small", 200).to(device, memory_format=torch.channels_last)
    optimizer = optim.sgd(model, 0.01)
    trainer = Trainer(model.train(), optimizer, schedules.constant(optimizer), precision)

    x = torch.randn(BATCH, 3, 64, 64, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH, dtype=torch.int64, device=device)

    steps = loop.look_every(device)
    seconds = []

    for _ in range(1 + rounds):
        started = time.perf_counter()
        for _ in range(steps):
            loss, _ = trainer.step(x, labels)
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - started)

    return BATCH * steps / float(np.median(seconds[1:]))


def rate_of_all(rt: Runtime) -> float:
    """The reference rate; of several processes, all that they do at the same time."""
    rate = torch.tensor(reference_rate(rt), dtype=rt.precision.sum_dtype, device=rt.device)
    return processes.total(rate).item()


def forecast(name: str, profile: str, rate: float) -> str:
    """How long a recipe will take at ``rate`` reference pictures a second, in words.

    From the mean price of its committed runs: those of this profile, if there are any.
    """
    prices = [price(record) for record in committed(name, profile) if record["reference_rate"]]

    if not prices:
        return (
            f"{name}: no run measured yet, so no forecast; this machine trains {rate:,.0f} "
            "reference pictures/s"
        )

    mean = float(np.mean(prices))
    minutes = mean * REFERENCE_IMAGES / rate / 60
    return (
        f"{name}: price {mean:.2f}, at {rate:,.0f} reference pictures/s about {minutes:,.0f} "
        "minutes here"
    )


def took(name: str, profile: str) -> str:
    """How long the committed runs of a recipe took, and on which machine, in words.

    For a run that times no rate, and so cannot tell how long it will take here.
    """
    seconds: dict[str, list[float]] = {}
    for record in committed(name, profile):
        seconds.setdefault(record["device"], []).append(record["seconds"])

    if not seconds:
        return f"{name}: no run measured yet, so no forecast"

    # the run that other work on the machine disturbed least
    said = [
        f"{min(each) / 60:,.0f} minutes at best on {device}" for device, each in seconds.items()
    ]
    return f"{name}: took {' and '.join(said)}"


def committed(name: str, profile: str) -> list[dict]:
    """The records of a recipe, wherever they lie: those of the profile, if any, else all."""
    records = results(name)
    for folder in ("ablations", "studies", "grid"):
        records = records or results(f"{folder}/{name}")
    return [record for record in records if record["profile"] == profile] or records
