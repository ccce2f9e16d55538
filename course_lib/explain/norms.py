"""Norms whose backward pass is right for a single picture, too."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


@contextmanager
def safe_norms(model: nn.Module) -> Iterator[None]:
    """For a batch of one, let input and gradient of each BatchNorm2d lie in memory in order.

    Else its backward pass may be wrong for one picture: ``SafeBatchNorm2d`` in
    ``models/lambda_paths.py`` tells of this fault of torch, and spares the lambda layers from it.
    """

    def arrange(norm, inputs):
        if len(inputs) == 1 and len(inputs[0]) == 1:
            return inputs[0].contiguous()
        return None

    def arrange_gradient(norm, inputs, output):
        if len(output) == 1 and output.requires_grad:
            output.register_hook(torch.Tensor.contiguous)

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                hooks.enter_context(module.register_forward_pre_hook(arrange))
                hooks.enter_context(module.register_forward_hook(arrange_gradient))
        yield
