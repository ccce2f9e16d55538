"""What session 2 shows of the library is what the library does."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from rules import ROOT, read
from torch import nn

from course_lib.runtime import Precision
from course_lib.training import Trainer, optim, schedules


@pytest.mark.parametrize(
    "dtype", [None, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"]
)
def test_the_loop_that_the_notebook_writes_makes_the_librarys_steps(dtype):
    notebook = read(ROOT / "notebooks" / "02_tinyimagenet_onecycle.ipynb")
    (source,) = [cell.source for cell in notebook.cells if cell.source.startswith("def train_for(")]
    precision = Precision(torch.device("cpu"), dtype)
    exec(source, shown := {"rt": SimpleNamespace(precision=precision), "F": F})
    torch.manual_seed(0)
    first = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(10, (8,))) for _ in range(5)]
    second = copy.deepcopy(first)
    sides = [
        (model, optimizer, schedules.one_cycle(optimizer, 0.1, 5))
        for model in (first, second)
        for optimizer in [optim.sgd(model, 0.1)]
    ]
    losses = shown["train_for"](first, batches, *sides[0][1:], batches=5, label_smoothing=0.1)
    trainer = Trainer(second.train(), *sides[1][1:], precision, label_smoothing=0.1)
    assert losses == [trainer.step(*batch)[0].item() for batch in batches]
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
