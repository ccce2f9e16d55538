"""Grad-CAM against pytorch-grad-cam, in one process, in turn; and the memory of both.

``make bench`` runs this; the figures go to ``figures/results/benchmarks/explain.json``. Each side
is called as its users call it, with the predicted classes, at the last stage. Times and ratios are
medians over the rounds; memory is the peak of what torch allocates during the call, beyond weights
and pictures.
"""

import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM

from benchmarks.test_lambda import in_turn, peak_megabytes
from course_lib.experiments.record import RESULTS
from course_lib.explain import explain
from course_lib.files import write_json
from course_lib.models import create_model
from course_lib.runtime import this_cpu

CASES = [  # network, side of the pictures, how many; at least so many times as fast
    ("resnet18", 64, 64, 5),
    ("resnet50", 224, 16, 6),
]
ROUNDS = 11

figures: dict[str, dict] = {}


@pytest.fixture(scope="module", autouse=True)
def machine():
    """The figures are kept even where a bar is missed, if all were taken."""
    yield
    if len(figures) < len(CASES):
        return  # a part of the tests, by -k: the record stays whole

    record = {
        "benchmark": "explain",
        "machine": this_cpu(),
        "threads": 2,
        "what": "Grad-CAM at the last stage, predicted classes, float32; median of rounds in turn, "
        "ratio of each round",
        "rounds": ROUNDS,
        "cases": figures,
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "grad-cam": version("grad-cam"),
        },
    }
    write_json(RESULTS / "benchmarks" / "explain.json", record)


@pytest.mark.parametrize("name, side, pictures, bar", CASES)
def test_grad_cam_outruns_pytorch_grad_cam_on_no_more_memory(name, side, pictures, bar):
    torch.manual_seed(0)
    model = create_model(name, 200).eval()
    images = torch.randn(pictures, 3, side, side)

    peer = GradCAM(model, [model.layer4])
    sides = {
        "ours": lambda: explain(model, images),
        "pytorch-grad-cam": lambda: peer(images, None),
    }

    ours, peers = (run() for run in sides.values())
    np.testing.assert_allclose(ours, peers, atol=1e-4)  # else two things would be compared

    seconds, ratios = in_turn(sides, ROUNDS)
    ratio = ratios["pytorch-grad-cam"]
    model.zero_grad()  # those that the package leaves would hide what it allocates
    memory = {name: peak_megabytes(run) for name, run in sides.items()}

    figures[f"{name}, {side} px, batch {pictures}"] = {
        "bar": bar,
        "missed": ratio < bar,
        "ratio": ratio,
        "seconds": seconds,
        "peak_megabytes": memory,
    }
    assert memory["ours"] <= memory["pytorch-grad-cam"]
    assert ratio >= bar
