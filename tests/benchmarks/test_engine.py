"""The step against a loop by hand, and 16-bit arithmetic against fp32: one process, in turn.

``make bench`` runs this; the figures go to ``figures/results/benchmarks/engine.json``.
"""

import copy
import statistics
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import runtime
from course_lib.data import BatchLoader, toy_shapes
from course_lib.experiments.record import RESULTS
from course_lib.files import write_json
from course_lib.models import create_model
from course_lib.runtime import Precision, this_cpu
from course_lib.training import History, Trainer, optim, schedules, train_one_epoch

SIZE, BATCH, BATCHES, ROUNDS = 32, 64, 6, 25
LR = 0.05
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batches():
    """Made before the clock runs."""
    loader = BatchLoader(toy_shapes("train", count=BATCH * BATCHES, size=SIZE), BATCH)
    return [(x.clone(memory_format=torch.channels_last), labels) for x, labels in loader]


def network(precision: Precision) -> nn.Module:
    torch.manual_seed(0)
    layout = torch.contiguous_format if precision.dtype is None else torch.channels_last
    return create_model("session_resnet", 10, stem="strided").to(memory_format=layout).train()


def engine(model: nn.Module, precision: Precision):
    optimizer = optim.sgd(model, LR)
    trainer = Trainer(model, optimizer, schedules.constant(optimizer), precision)
    return lambda batches: train_one_epoch(trainer, batches, History())


def by_hand(model: nn.Module, precision: Precision):
    """What a tutorial writes; it looks at the loss after every batch, as ``fit`` does on a CPU."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    spared = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, LR, momentum=0.9, nesterov=True)

    def epoch(batches):
        for x, labels in batches:
            # before the forward pass, as the engine does: the gradients' memory is free again
            optimizer.zero_grad()
            with torch.autocast("cpu", precision.dtype, enabled=precision.dtype is not None):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), labels)
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def in_turn(sides: dict, batches: dict) -> dict[str, list[float]]:
    """Seconds of each round of each side; the first round warms up and does not count."""
    seconds = {name: [] for name in sides}
    for number in range(ROUNDS + 1):
        names = list(sides)
        if number % 2 == 0:
            names.reverse()  # whoever comes second finds warm caches
        for name in names:
            started = time.perf_counter()
            sides[name](batches[name])
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


@pytest.fixture(scope="module")
def figures():
    """Filled by each test, written when all are done."""
    found = {}
    yield found
    if found.keys() != {"step", "bf16"}:
        return  # a part of the tests, by -k, or a machine without bf16: the record stays whole
    versions = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    write_json(
        RESULTS / "benchmarks" / "engine.json",
        {
            "benchmark": "engine",
            "machine": this_cpu(),
            "what": "training steps of the session ResNet, strided stem; median of rounds in turn, "
            "ratio of each round",
            "picture_size": SIZE,
            "batch_size": BATCH,
            "batches": BATCHES,
            "rounds": ROUNDS,
            **found,
            "versions": versions,
        },
    )


def test_the_engine_costs_at_most_three_percent_over_a_loop_by_hand(batches, figures):
    precision = runtime.pick_precision(CPU)
    model = network(precision)
    sides = {
        "engine": engine(copy.deepcopy(model), precision),
        "by hand": by_hand(model, precision),
    }
    seconds = in_turn(sides, dict.fromkeys(sides, batches))
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    figures["step"] = {
        "precision": precision.name,
        "ratio": ratio,
        "seconds": {name: statistics.median(each) for name, each in seconds.items()},
    }
    assert ratio <= 1.03


@pytest.mark.skipif(not runtime.cpu_has_bf16(), reason="this CPU has no bf16 of its own")
def test_bf16_and_channels_last_are_one_and_a_half_times_as_fast_as_plain_fp32(batches, figures):
    plain, fast = Precision(CPU), Precision(CPU, torch.bfloat16)
    sides = {
        "fp32, contiguous": engine(network(plain), plain),
        "bf16, channels_last": engine(network(fast), fast),
    }
    contiguous = [(x.contiguous(), labels) for x, labels in batches]
    seconds = in_turn(sides, dict(zip(sides, (contiguous, batches), strict=True)))
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    figures["bf16"] = {
        "ratio": ratio,
        "seconds": {name: statistics.median(each) for name, each in seconds.items()},
    }
    assert ratio >= 1.5


def test_both_loops_train_the_same_weights(batches):
    """Else the comparison would be of two different things."""
    precision = Precision(CPU)
    first = network(precision)
    second = copy.deepcopy(first)
    engine(first, precision)(batches)
    by_hand(second, precision)(batches)
    for (name, p), q in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5), name
