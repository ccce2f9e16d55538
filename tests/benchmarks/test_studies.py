"""What a training step costs in the networks that sessions 1 and 4 compare, in turn, on one thread.

``make bench`` runs this; the figures go to ``studies.json`` and ``grid.json`` in
``figures/results/benchmarks``, from where the report takes its tables. A step in bf16,
channels_last, as they train.
"""

import sys

import torch

from benchmarks.test_lambda import in_turn
from course_lib.experiments import STUDIES, find_recipe
from course_lib.experiments.record import RESULTS
from course_lib.files import write_json
from course_lib.runtime import Precision, this_cpu
from course_lib.training import Trainer, schedules

UNIT = "depth.resnet20"
COMPARED = [UNIT, "depth.resnet56", *(name for name in STUDIES if name.startswith("networks."))]
CLASSES, ROUNDS = 25, 9

PLAIN = "grid_session"
NETWORKS_OF_THE_GRID = [PLAIN, "grid_se", "grid_lambda"]
CLASSES_OF_THE_GRID = 10


def a_step(name: str, classes: int = CLASSES):
    """One step of a training at its last size, on a batch of noise."""
    recipe = find_recipe(name)
    model = recipe.build_model(classes, torch.device("cpu")).train()
    optimizer = recipe.build_optimizer(model)
    precision = Precision(torch.device("cpu"), torch.bfloat16)
    trainer = Trainer(model, optimizer, schedules.constant(optimizer), precision)

    x = torch.randn(recipe.batch_size, 3, recipe.sizes[-1], recipe.sizes[-1])
    x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(recipe.batch_size) % classes
    return lambda: trainer.step(x, labels)


def test_what_a_picture_costs_in_each_network(one_thread):
    seconds, ratio = in_turn({name: a_step(name) for name in COMPARED}, ROUNDS)
    ratio = {UNIT: 1.0} | ratio

    keep("studies", UNIT, "a batch of 64", seconds, ratio)

    # nearly three times the layers, and ImageNet's stem saves what twice the side costs
    assert 2 < ratio["depth.resnet56"] < 4
    assert ratio["networks.resnet18"] < ratio["networks.resnet18_small"]


def test_what_a_step_costs_in_each_network_of_the_grid(one_thread):
    steps = {name: a_step(name, CLASSES_OF_THE_GRID) for name in NETWORKS_OF_THE_GRID}
    seconds, ratio = in_turn(steps, ROUNDS)
    ratio = {PLAIN: 1.0} | ratio
    keep("grid", PLAIN, "a batch of 128 pictures of ten classes", seconds, ratio)

    assert ratio["grid_lambda"] <= 1.5, "what the grid allows a lambda layer"


def keep(benchmark: str, unit: str, batch: str, seconds: dict, ratio: dict) -> None:
    record = {
        "benchmark": benchmark,
        "machine": this_cpu(),
        "threads": 1,
        "rounds": ROUNDS,
        "what": f"a training step of {batch} at the size of the last epoch, bf16 autocast, "
        f"channels_last; ratio: over that of {unit}",
        "seconds": seconds,
        "ratio": ratio,
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
    }
    write_json(RESULTS / "benchmarks" / f"{benchmark}.json", record)
