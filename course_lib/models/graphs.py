"""Layers in the graphs that torch.fx records, for feature extractors and the like."""

import torch
from torch import fx, nn


def is_recorded(x: torch.Tensor) -> bool:
    """Whether torch.fx is recording: x then stands for a tensor, and has no size to ask for."""
    return isinstance(x, fx.Proxy)


def one_node(layer: nn.Module, x: fx.Proxy) -> fx.Proxy:
    """The layer as a whole in the graph, as torch's own layers are, whatever it does with sizes."""
    tracer = x.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (x,), {})
