"""What session 2 shows of the library is what the library does."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from rules import ROOT, read
from toy_training import small_net

from course_lib.runtime import Precision
from course_lib.training import CrossEntropy, Trainer, optim, schedules

NOTEBOOK = ROOT / "notebooks" / "02_tinyimagenet_onecycle.ipynb"


def train_for(precision):
    """The loop as the notebook writes it, on a machine of that precision."""
    cells = read(NOTEBOOK).cells
    (source,) = [cell.source for cell in cells if cell.source.startswith("def train_for(")]

    names = {"rt": SimpleNamespace(precision=precision), "F": F}
    exec(source, names)
    return names["train_for"]


@pytest.mark.parametrize(
    "dtype", [None, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"]
)
def test_the_loop_that_the_notebook_writes_makes_the_librarys_steps(dtype):
    precision = Precision(torch.device("cpu"), dtype)
    torch.manual_seed(0)
    theirs = small_net()
    ours = copy.deepcopy(theirs)
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(10, (8,))) for _ in range(5)]

    optimizer = optim.sgd(theirs, 0.1)
    scheduler = schedules.one_cycle(optimizer, 0.1, 5)
    losses = train_for(precision)(
        theirs, batches, optimizer, scheduler, batches=5, label_smoothing=0.1
    )

    optimizer = optim.sgd(ours, 0.1)
    scheduler = schedules.one_cycle(optimizer, 0.1, 5)
    trainer = Trainer(ours.train(), optimizer, scheduler, precision, loss=CrossEntropy(0.1))
    assert losses == [trainer.step(*batch)[0].item() for batch in batches]

    for name, weights in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], weights), name
