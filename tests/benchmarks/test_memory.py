"""Steps of a training with memory that is kept and without, in processes of their own, in turn.

``make bench`` runs this; the figures go to ``figures/results/benchmarks/memory_reuse.json``. A step
of the session ResNet as session 4 trains it, 128 random pictures, in the precision that a training
takes here. Ratios are medians over the rounds: the time without over the time with.
"""

import json
import statistics
import subprocess
import sys

from course_lib.experiments.record import RESULTS
from course_lib.files import write_json
from course_lib.runtime import setup, this_cpu

ROUNDS, STEPS, SIZES = 5, 6, (48, 64, 96)
SIDES = ("kept", "as it comes")

CHILD = """
import json, resource, sys, time
import torch
from course_lib import runtime
from course_lib.experiments import RECIPES
from course_lib.models import create_model
from course_lib.training import Trainer

keep, steps, *sizes = sys.argv[1:]
if keep != "kept":
    runtime.reuse_memory = lambda: False

rt = runtime.setup("cpu")
recipe = RECIPES["imagenette_session"]
model = recipe.build_model(10, rt.device)
optimizer = recipe.build_optimizer(model)
trainer = Trainer(model, optimizer, recipe.build_schedule(optimizer, 70), rt.precision)
labels = torch.arange(128) % 10


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


found = {}
for size in map(int, sizes):
    x = torch.randn(128, 3, size, size).contiguous(memory_format=torch.channels_last)
    seconds = []
    for step in range(2 + int(steps)):
        before, started = faults(), time.perf_counter()
        loss, _ = trainer.step(x, labels)
        seconds.append(time.perf_counter() - started)
    found[size] = {
        "seconds": sorted(seconds[2:])[len(seconds[2:]) // 2],
        "faults": faults() - before,
        "loss": loss.item(),
    }
print(json.dumps(found))
"""


def steps(side: str) -> dict[str, dict[str, float]]:
    """By picture size: the median seconds of a step, the page faults of one, and the last loss."""
    command = [sys.executable, "-c", CHILD, side, str(STEPS), *map(str, SIZES)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


def test_a_step_is_faster_where_memory_is_kept():
    rounds = [{side: steps(side) for side in SIDES} for _ in range(ROUNDS)]

    ratio = {}
    for size in map(str, SIZES):
        for each in rounds:
            assert each["kept"][size]["loss"] == each["as it comes"][size]["loss"], "the same"

        ratio[size] = statistics.median(
            each["as it comes"][size]["seconds"] / each["kept"][size]["seconds"] for each in rounds
        )

    write_json(
        RESULTS / "benchmarks" / "memory_reuse.json",
        {
            "benchmark": "memory_reuse",
            "machine": this_cpu(),
            "precision": setup("cpu").precision.name,
            "what": "a step of the session ResNet, 128 pictures, by picture size; ratio: the time "
            "of a step whose memory comes from the kernel over that of one whose memory was kept",
            "rounds": ROUNDS,
            "seconds": {
                side: {
                    size: statistics.median(each[side][size]["seconds"] for each in rounds)
                    for size in map(str, SIZES)
                }
                for side in SIDES
            },
            "faults": {
                side: {size: rounds[-1][side][size]["faults"] for size in map(str, SIZES)}
                for side in SIDES
            },
            "ratio": ratio,
        },
    )
    assert min(ratio.values()) >= 1.1
