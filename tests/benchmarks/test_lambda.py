"""The lambda layer against lambda-networks and timm, and LambdaResNet-50 against ResNet-50.

In one process, in turn. ``make bench`` runs this; the figures go to
``figures/results/benchmarks/lambda.json``. Forward and backward, float32, k = 16, h = 4, u = 1,
r = 23. Times and ratios are medians over the rounds; memory is the peak of what torch allocates
from the first line of the forward pass to the last of the backward pass, beyond weights, input and
the gradient fed in.
"""

import statistics
import sys
import time
import warnings
from importlib.metadata import version

import lambda_networks
import pytest
import torch
import torch.nn.functional as F
from timm.layers.lambda_layer import LambdaLayer as TimmLambdaLayer
from torch.profiler import ProfilerActivity, profile

from course_lib.experiments.record import RESULTS
from course_lib.files import write_json
from course_lib.models import LambdaLayer, create_model
from course_lib.runtime import this_cpu

MAPS = [  # channels, side of the map, pictures; at least so many times as fast as lambda-networks
    (512, 4, 32, 6),
    (512, 7, 8, 6),
    (256, 8, 32, 6),
    (256, 14, 8, 4),
    (128, 16, 32, 4),
    (128, 28, 8, 2),
    (64, 32, 8, 2),
    (64, 56, 4, 1),
]
PEERS = ("lambda-networks", "timm")
ROUNDS = {"layer": 15, "step": 9}
STEP = {"side": 128, "pictures": 16}

figures: dict[str, dict] = {}


@pytest.fixture(scope="module", autouse=True)
def machine():
    """The figures are kept even where a bar is missed, if all were taken."""
    yield
    if set(figures) != {"layer", "training_step"} or len(figures["layer"]) < len(MAPS):
        return  # a part of the tests, by -k: the record stays whole

    record = {
        "benchmark": "lambda",
        "machine": this_cpu(),
        "threads": 2,
        "what": "forward and backward of one layer, float32, k 16, h 4, u 1, r 23; "
        "training step of the networks",
        "rounds": ROUNDS,
        **figures,
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            **{name: version(name) for name in PEERS},
        },
    }
    write_json(RESULTS / "benchmarks" / "lambda.json", record)


def layers(channels: int) -> dict[str, torch.nn.Module]:
    """One function four times: as it runs on a CPU, by definition, and the two public layers."""
    torch.manual_seed(0)
    ours = LambdaLayer(channels)
    state = ours.state_dict()

    definition = LambdaLayer(channels, path="definition")
    definition.load_state_dict(state)

    with warnings.catch_warnings(action="ignore"):
        public = lambda_networks.LambdaLayer(channels, dim_k=16, r=23)
    public.load_state_dict({**state, "pos_conv.weight": state["pos_conv.weight"].unsqueeze(2)})

    # timm has q, k and v in one matrix, and the channel of its kernel last.
    timms = TimmLambdaLayer(channels, r=23)
    norms = {name: value for name, value in state.items() if name.startswith("norm")}
    projections = [state[f"to_{name}.weight"] for name in "qkv"]
    timms.load_state_dict(
        {
            **norms,
            "qkv.weight": torch.cat(projections),
            "conv_lambda.weight": state["pos_conv.weight"].unsqueeze(4),
            "conv_lambda.bias": state["pos_conv.bias"],
        }
    )
    return {"ours": ours, "definition": definition, "lambda-networks": public, "timm": timms}


def in_turn(sides: dict, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """The median seconds of each side, and the median ratio of each to the first side.

    They take turns; the first round warms up. The ratio is taken round by round, so that rounds in
    which the machine was slow do not shift it.
    """
    seconds = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            if number > 0:
                seconds[name].append(time.perf_counter() - started)

    first, *others = sides
    ratio = {}
    for name in others:
        ratios = [a / b for a, b in zip(seconds[name], seconds[first], strict=True)]
        ratio[name] = statistics.median(ratios)

    return {name: statistics.median(each) for name, each in seconds.items()}, ratio


def peak_megabytes(run) -> float:
    """The highest sum of allocations and releases since the start.

    ``run`` must have run once before, so that nothing is lazy.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()
    allocations = [event for event in events if event.name() == "[memory]"]

    held = peak = 0
    for event in sorted(allocations, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


@pytest.mark.parametrize("channels, side, pictures, bar", MAPS)
def test_the_layer_outruns_the_public_ones_on_less_memory(channels, side, pictures, bar):
    sides = layers(channels)
    x = torch.randn(pictures, channels, side, side, requires_grad=True)
    gradient = torch.randn(pictures, channels, side, side)

    def run(layer):
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y.backward(gradient)
        return y.detach(), x.grad

    values = {name: run(layer) for name, layer in sides.items()}
    for name, others in values.items():
        for mine, other in zip(values["ours"], others, strict=True):
            assert (mine - other).abs().max() < 1e-5 * other.abs().max(), name

    runs = {name: lambda layer=layer: run(layer) for name, layer in sides.items()}
    seconds, ratio = in_turn(runs, ROUNDS["layer"])
    memory = {name: peak_megabytes(run) for name, run in runs.items()}

    bars = {"lambda-networks": bar}
    if side <= 16:
        bars["timm"] = 6
    figures.setdefault("layer", {})[f"{channels} x {side} x {side}, batch {pictures}"] = {
        "bars": bars,
        "missed": [name for name, least in bars.items() if ratio[name] < least],
        "path": sides["ours"].chosen_path(side, side),
        "seconds": seconds,
        "peak_megabytes": memory,
        "ratio": ratio,
    }

    assert all(ratio[name] >= least for name, least in bars.items())
    assert memory["ours"] <= memory["lambda-networks"] * (0.5 if side <= 16 else 1)


def test_a_training_step_of_lambda_resnet50_takes_at_most_one_and_a_half_of_resnet50s():
    x = torch.randn(STEP["pictures"], 3, STEP["side"], STEP["side"])
    labels = torch.arange(STEP["pictures"])

    def step_of(name):
        model = create_model(name, 1000)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

        def run():
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()

        return run

    sides = {name: step_of(name) for name in ("resnet50", "lambda_resnet50")}
    seconds, ratios = in_turn(sides, ROUNDS["step"])
    ratio = ratios["lambda_resnet50"]

    figures["training_step"] = {
        **STEP,
        "seconds": seconds,
        "ratio": ratio,
        "bar": 1.5,
        "missed": ratio > 1.5,
    }
    assert ratio <= 1.5
