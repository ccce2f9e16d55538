"""Train or eval: the mode of a network, borrowed and given back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Eval mode inside; every module's own mode comes back afterwards, also after an error."""
    modes = {module: module.training for module in model.modules()}

    try:
        yield model.eval()
    finally:
        for module, training in modes.items():
            module.training = training
