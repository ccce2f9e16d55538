"""FullGrad: the evidence of the input and of every bias in the network, added up in one map.

Srinivas & Fleuret 2019, arXiv:1905.00780. A network of convolutions, norms and ReLUs is linear
around each input, and its logit is, without remainder,

    logit = x · ∂logit/∂x + Σ_layers bias · ∂logit/∂bias.

The first term lies on the picture, a bias on every position of its layer's map. Each layer is asked
by a hook of its own, so that neither the order of registration nor an unused layer matters.
"""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import nn

from course_lib.explain.checks import class_scores
from course_lib.explain.grad_cam import enlarge, extremes
from course_lib.files import CourseError
from course_lib.models import LambdaLayer


def full_grad(model: nn.Module, images: torch.Tensor, targets) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits (B, classes), and Σ of ψ(term) over the terms that lie on a map, (B, 1, H, W).

    ψ takes the absolute value of each channel, stretches it to 0..1 and enlarges it. model: in eval
    mode. Raises CourseError where no bias lies on a map.
    """
    size = images.shape[2:]
    maps = images.new_zeros(len(images), 1, *size)

    def add(term: torch.Tensor) -> None:  # (B, C, h, w)
        term = term.abs()
        low, high = extremes(term)
        scaled = (term - low) / (high - low + 1e-7)

        # Summed first: to enlarge is linear, and one map a layer is cheaper than C.
        maps.add_(enlarge(scaled.sum(dim=1, keepdim=True), size))

    logits = full_gradients(model, images, targets, add)
    return logits, maps


def full_gradients(
    model: nn.Module,
    images: torch.Tensor,
    targets,
    visit: Callable[[torch.Tensor], None],
) -> torch.Tensor:
    """Call ``visit`` with every term of the equation above that lies on a map, (B, C, h, w): all
    but the bias of the head. Returns the logits.

    model: in eval mode, for the bias of a norm is that of its running statistics. In a lambda layer
    the biases of its two norms and that of its position lambdas are counted; it is not linear in
    its input, so there the sum is not the whole logit.
    """
    images = images.detach().requires_grad_()  # the caller's stay as they are
    found = []

    def watch(layer: nn.Module, output: torch.Tensor, term_of: Callable) -> None:
        if output.requires_grad:  # else nothing of the picture has come this way
            found.append(layer)
            output.register_hook(lambda gradient: visit(term_of(gradient)))

    def see_bias(layer, inputs, output):
        bias = bias_of(layer)[:, None, None]  # (C, 1, 1)
        watch(layer, output, lambda gradient: bias * gradient)

    queries = {}

    def see_lambda(layer, inputs, output):
        q = queries.pop(layer).unflatten(1, (layer.heads, layer.dim_k))  # (B, h, k, H, W)

        def term_of(gradient):  # the bias is added to λ, and y = λᵀ q
            gradient = gradient.unflatten(1, (layer.heads, layer.dim_v))  # (B, h, v, H, W)
            by_position = torch.einsum("bhvij, bhkij -> bkij", gradient, q)
            return layer.bias[:, None, None] * by_position

        watch(layer, output, term_of)

    with ExitStack() as hooks, torch.enable_grad():
        for module in model.modules():
            if has_bias(module):
                hooks.enter_context(module.register_forward_hook(see_bias))

            if isinstance(module, LambdaLayer) and module.bias is not None:

                def keep(norm, inputs, output, layer=module):
                    queries[layer] = output.detach()

                hooks.enter_context(module.norm_q.register_forward_hook(keep))
                hooks.enter_context(module.register_forward_hook(see_lambda))

        logits = model(images.clone())  # a copy, for the first layer may work in place
        scores = class_scores(logits, targets)
        if not found:
            raise CourseError(
                f"fullgrad: {type(model).__name__} has no convolution or norm whose bias lies on a "
                "map (B, C, h, w)"
            )
        (gradient,) = torch.autograd.grad(scores.sum(), images)

    visit((images * gradient).detach())
    return logits.detach()


def has_bias(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm2d):
        return module.running_mean is not None
    return isinstance(module, nn.Conv2d) and module.bias is not None


def bias_of(module: nn.Module) -> torch.Tensor:
    """What the layer adds to each channel, whatever its input: (C,)."""
    if isinstance(module, nn.Conv2d):
        return module.bias.detach()

    # BatchNorm in eval mode: weight · (x - mean) / std + bias.
    shift = -module.running_mean / (module.running_var + module.eps).sqrt()
    if module.affine:
        shift = shift * module.weight + module.bias
    return shift.detach()
