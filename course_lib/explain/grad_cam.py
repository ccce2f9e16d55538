"""Grad-CAM: where in a picture does the evidence for a class lie? And the map over its picture.

``grad_cam`` is written out to be read. ``explain(…, method="gradcam")`` in ``methods.py`` gives the
same maps, takes several layers, and has eight more methods.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.explain.checks import (
    check_finite,
    check_input,
    check_output,
    class_scores,
    find_layer,
    only_output,
)
from course_lib.explain.norms import safe_norms
from course_lib.files import CourseError
from course_lib.models.modes import in_eval_mode


def grad_cam(
    model: nn.Module, images: torch.Tensor, targets=None, layer: str | nn.Module | None = None
) -> np.ndarray:
    """Where in each picture the evidence for a class lies, as seen at one layer of the network.

    images: normalised float (B, 3, H, W). targets: class indices (B,), by default the predicted
    ones. layer: a name in ``model.stages`` or a module with output (B, C, h, w), by default the
    last stage. Returns float32 (B, H, W), each map stretched to 0..1 by itself, so that the heights
    of two maps cannot be compared; a map without any evidence for the class is zero, one with the
    same evidence everywhere, as of a layer of 1×1, is one.
    Runs in fp32 and eval mode, and leaves model and gradients as they were, also after an error.
    Raises CourseError for wrong shapes, weights that are not fp32, a layer or targets that do not
    fit, and logits or maps that are not finite; IndexError for a class that the model has not.
    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    layer = find_layer(model, layer)
    device = check_input(model, images)
    outputs = []

    def begin_graph(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        """A hook: keep what the layer gives, and let the graph begin there."""
        check_output(module, output)

        torch.set_grad_enabled(True)
        outputs.append(output.detach().requires_grad_())

        return outputs[-1].clone()  # an in-place ReLU behind the layer spares what is kept

    with (
        in_eval_mode(model),
        torch.inference_mode(False),
        torch.autocast(device.type, enabled=False),
        torch.no_grad(),  # until the layer is reached
        safe_norms(model),
        layer.register_forward_hook(begin_graph),
    ):
        # a copy, for the first layer may work in place
        x = images.detach().to(device, torch.float32, copy=True)  # (B, 3, H, W)
        logits = model(x)  # (B, classes)
        activations = only_output(layer, outputs)  # (B, C, h, w)

        scores = class_scores(logits, targets)  # (B,)
        (gradients,) = torch.autograd.grad(scores.sum(), activations)  # (B, C, h, w)

    # Equation 1: a channel's weight is its mean gradient. Equation 2: what speaks against the class
    # is cut off, after the sum.
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    maps = (weights * activations.detach()).sum(dim=1, keepdim=True).relu()  # (B, 1, h, w)
    check_finite(logits, maps)

    # As pytorch-grad-cam has it: stretched before the resize, and again after it.
    maps = enlarge(stretch(maps), images.shape[2:])  # (B, 1, H, W)
    return stretch(maps)[:, 0].cpu().numpy()  # (B, H, W)


def overlay(image: np.ndarray, cam: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Lay a map over its picture in the colours of viridis, which rise evenly in brightness.

    image: uint8 (H, W, 3). cam: float (H, W), 0..1. alpha: opacity of the map, 0..1.
    Returns uint8 (H, W, 3). Raises CourseError for other shapes, types and ranges.
    """
    from matplotlib import colormaps  # here: a map itself needs no matplotlib

    _check_overlay(image, cam, alpha)

    colours = 255 * colormaps["viridis"](cam.astype(np.float64))[..., :3]  # (H, W, 3)
    mixed = (1 - alpha) * image + alpha * colours

    return np.rint(mixed).astype(np.uint8)


def stretch(maps: torch.Tensor) -> torch.Tensor:
    """Each map of (B, 1, H, W), from zero up, to 0..1."""
    low, high = extremes(maps)
    stretched = (maps - low) / (high - low + 1e-7)

    # The same everywhere, but for rounding: there is nothing to stretch.
    flat = high - low <= 1e-6 * high  # (B, 1, 1, 1)
    return torch.where(flat, (high > 0).to(maps.dtype), stretched)


def extremes(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest and the largest value of each map of (B, C, H, W): (B, C, 1, 1) each."""
    return maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)


def enlarge(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, C, h, w) → (B, C, *size), the values in between on straight lines."""
    return F.interpolate(maps, size=size, mode="bilinear")


def _check_overlay(image: np.ndarray, cam: np.ndarray, alpha: float) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise CourseError(f"image: expected uint8 (H, W, 3), got {image.dtype} {image.shape}")

    if cam.shape != image.shape[:2]:
        raise CourseError(
            f"cam: expected the shape of the picture, {image.shape[:2]}, got {cam.shape}"
        )

    for name, value in (("cam", cam), ("alpha", np.asarray(alpha))):
        low, high = value.min(), value.max()
        if not (low >= 0 and high <= 1):  # said this way round, NaN fails too
            raise CourseError(f"{name}: expected values in 0..1, got {low:g}..{high:g}")
