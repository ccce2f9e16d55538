"""Our ResNets against torchvision's and timm's: the same weights, in one process, in turn.

And the session ResNet with and without its trimmed convolutions, as session 2 trains it. ``make
bench`` runs this; the figures go to ``figures/results/benchmarks/models.json``. Forward and
backward pass in training mode, float32 if nothing else is said. Times and ratios are medians over
the rounds; memory is the peak of torch's allocations in a step.
"""

import copy
import functools
import sys

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision

from benchmarks.test_lambda import in_turn, peak_megabytes
from course_lib.experiments.record import RESULTS
from course_lib.files import write_json
from course_lib.models import create_model
from course_lib.models.trimmed_conv import TrimmedConv3x3
from course_lib.runtime import this_cpu

BATCH, SIZE, ROUNDS = 16, 128, 9
SIDES = {
    "ours": create_model,
    "torchvision": torchvision.models.get_model,
    "timm": timm.create_model,
}
PEERS = ("torchvision", "timm")

figures: dict[str, dict] = {}
trimmed: dict[str, float] = {}


@pytest.fixture(scope="module", autouse=True)
def machine():
    """The figures are kept even where a bar is missed, if all were taken."""
    yield
    if len(figures) < 2 or len(trimmed) < 3:
        return  # a part of the tests, by -k: the record stays whole

    record = {
        "benchmark": "models",
        "machine": this_cpu(),
        "threads": 2,
        "rounds": ROUNDS,
        "what": "forward and backward of whole networks in training mode, float32; "
        "ratios: the peer's over ours",
        "batch_size": BATCH,
        "size": SIZE,
        "networks": figures,
        "trimmed": {
            "what": "session ResNet, strided stem, 200 classes, batches of 256, bf16 autocast, "
            "channels_last; ratio: torch's convolution over the trimmed one, by picture size",
            "ratio": trimmed,
        },
        "versions": {
            "python": sys.version.split()[0],
            **{library.__name__: library.__version__ for library in (torch, torchvision, timm)},
        },
    }
    write_json(RESULTS / "benchmarks" / "models.json", record)


def with_the_same_weights(name: str) -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    models = {side: make(name, num_classes=1000).train() for side, make in SIDES.items()}
    for side in PEERS:
        models[side].load_state_dict(models["ours"].state_dict())
    return models


def step(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Forward and backward; returns the logits."""
    model.zero_grad()
    logits = model(x)
    labels = torch.arange(len(x)) % logits.shape[1]
    F.cross_entropy(logits, labels).backward()
    return logits.detach()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_our_resnets_are_as_fast_and_as_lean_as_the_peers(name):
    models, x = with_the_same_weights(name), torch.randn(BATCH, 3, SIZE, SIZE)

    # All sides do the same work.
    logits = {side: step(model, x) for side, model in models.items()}
    ours = list(models["ours"].parameters())
    for side in PEERS:
        torch.testing.assert_close(logits[side], logits["ours"], rtol=1e-4, atol=1e-4)
        for our_p, their_p in zip(ours, models[side].parameters(), strict=True):
            assert (our_p.grad - their_p.grad).norm() <= 1e-2 * their_p.grad.norm()

    runs = {side: lambda model=model: step(model, x) for side, model in models.items()}
    seconds, ratio = in_turn(runs, ROUNDS)
    memory = {side: peak_megabytes(run) for side, run in runs.items()}
    figures[name] = {"seconds": seconds, "ratio": ratio, "peak_megabytes": memory}

    assert min(ratio.values()) >= 0.95
    assert memory["ours"] <= 1.02 * min(memory[side] for side in PEERS)


# Pictures whose last maps have 2, 3 and 4 pixels a side.
@pytest.mark.parametrize("size, least", [(32, 1.1), (48, 1.02), (64, 0.98)])
def test_trimmed_convolutions_are_worth_it(size, least):
    torch.manual_seed(0)
    trim = create_model("session_resnet", 200, stem="strided").train()
    trim = trim.to(memory_format=torch.channels_last)

    full = copy.deepcopy(trim)
    for conv in full.modules():
        if isinstance(conv, TrimmedConv3x3):
            conv.forward = functools.partial(torch.nn.Conv2d.forward, conv)

    x = torch.randn(256, 3, size, size).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(step(trim, x[:32]), step(full, x[:32]), rtol=1e-4, atol=1e-4)

    def in_bf16(model):
        with torch.autocast("cpu", torch.bfloat16):
            return step(model, x)

    _, ratio = in_turn({"trim": lambda: in_bf16(trim), "full": lambda: in_bf16(full)}, ROUNDS)
    trimmed[str(size)] = ratio["full"]
    assert trimmed[str(size)] >= least
