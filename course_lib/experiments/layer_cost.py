"""What one layer costs a training: the memory that it keeps, and the time that it takes."""

import statistics
import time

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from course_lib.checks import check_whole


@torch.enable_grad()
def kept_bytes(layer: nn.Module, x: torch.Tensor) -> int:
    """Bytes that ``layer(x)`` keeps until the backward pass, its own weights left out.

    A memory that several operations keep counts once; x counts, where it is kept. As in a network,
    x itself needs a gradient.
    """
    own = {_memory(tensor) for tensor in (*layer.parameters(), *layer.buffers())}
    kept = {}  # address → the memory, held so that no address is given out twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = _memory(tensor)
        if address not in own:
            kept[address] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        out = layer(x.detach().requires_grad_())  # its graph lives as long as ``out``

    size = sum(storage.nbytes() for storage in kept.values())
    del out
    return size


def _memory(tensor: torch.Tensor) -> int:
    """Where the numbers of a tensor lie: the same for all of its views."""
    return tensor.untyped_storage().data_ptr()


@torch.enable_grad()
def seconds(layer: nn.Module, x: torch.Tensor, repeats: int = 5) -> float:
    """Seconds of one forward and backward pass: the median of ``repeats``, after one to warm up.

    No gradient is left behind. Raises ValueError for less than one repeat.
    """
    check_whole(repeats=repeats)
    x = x.detach().requires_grad_()
    wanted = [x, *(weight for weight in layer.parameters() if weight.requires_grad)]
    taken = []

    for _ in range(1 + repeats):
        _wait(x.device)
        started = time.perf_counter()

        out = layer(x)
        torch.autograd.grad(out, wanted, torch.ones_like(out), allow_unused=True)

        _wait(x.device)
        taken.append(time.perf_counter() - started)

    return statistics.median(taken[1:])


def _wait(device: torch.device) -> None:
    """A GPU works on after Python has gone on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
