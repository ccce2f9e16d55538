"""What a training picture costs in the networks that session 1 compares, in turn, on one thread.

``make bench`` runs this; the figures go to ``figures/results/benchmarks/studies.json``, from where
the report takes its table. A step in bf16, channels_last, as the studies train.
"""

import sys

import torch

from benchmarks import this_cpu
from benchmarks.test_lambda import in_turn
from course_lib.experiments import STUDIES
from course_lib.experiments.record import RESULTS
from course_lib.files import write_json
from course_lib.runtime import Precision
from course_lib.training import Trainer, schedules

UNIT = "depth.resnet20"
COMPARED = [UNIT, "depth.resnet56", *(name for name in STUDIES if name.startswith("networks."))]
CLASSES, ROUNDS = 25, 9


def a_step(name: str):
    """One step of the study at its last size, on a batch of noise."""
    recipe = STUDIES[name]
    model = recipe.build_model(CLASSES, torch.device("cpu")).train()
    optimizer = recipe.build_optimizer(model)
    precision = Precision(torch.device("cpu"), torch.bfloat16)
    trainer = Trainer(model, optimizer, schedules.constant(optimizer), precision)

    x = torch.randn(recipe.batch_size, 3, recipe.sizes[-1], recipe.sizes[-1])
    x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(recipe.batch_size) % CLASSES
    return lambda: trainer.step(x, labels)


def test_what_a_picture_costs_in_each_network(one_thread):
    seconds, ratio = in_turn({name: a_step(name) for name in COMPARED}, ROUNDS)
    ratio = {UNIT: 1.0} | ratio

    record = {
        "benchmark": "studies",
        "machine": this_cpu(),
        "threads": 1,
        "rounds": ROUNDS,
        "what": f"a training step of a batch of 64 at the size of the last epoch, bf16 autocast, "
        f"channels_last; ratio: over that of {UNIT}",
        "seconds": seconds,
        "ratio": ratio,
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
    }
    write_json(RESULTS / "benchmarks" / "studies.json", record)

    # nearly three times the layers, and ImageNet's stem saves what twice the side costs
    assert 2 < ratio["depth.resnet56"] < 4
    assert ratio["networks.resnet18"] < ratio["networks.resnet18_small"]
