"""Grad-CAM: where in a picture does the evidence for a class lie? And the map over its picture."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

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
    layer = _find_layer(model, layer)
    device = _check_input(model, images)
    outputs = []

    def begin_graph(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        """A hook: keep what the layer gives, and let the graph begin there."""
        _check_output(module, output)

        torch.set_grad_enabled(True)
        outputs.append(output.detach().requires_grad_())

        return outputs[-1].clone()  # an in-place ReLU behind the layer spares what is kept

    with (
        in_eval_mode(model),
        torch.inference_mode(False),
        torch.autocast(device.type, enabled=False),
        torch.no_grad(),  # until the layer is reached
        layer.register_forward_hook(begin_graph),
    ):
        logits = model(images.detach().to(device, torch.float32, copy=True))  # (B, classes)
        activations = _only_output(layer, outputs)  # (B, C, h, w)

        scores = _class_scores(logits, targets)  # (B,)
        (gradients,) = torch.autograd.grad(scores.sum(), activations)  # (B, C, h, w)

    # Equation 1: a channel's weight is its mean gradient. Equation 2: what speaks against the class
    # is cut off, after the sum.
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    maps = (weights * activations.detach()).sum(dim=1, keepdim=True).relu()  # (B, 1, h, w)
    _check_finite(logits, maps)

    # As pytorch-grad-cam has it: stretched before the resize, and again after it.
    maps = F.interpolate(_stretch(maps), size=images.shape[2:], mode="bilinear")
    return _stretch(maps)[:, 0].cpu().numpy()  # (B, H, W)


def overlay(image: np.ndarray, cam: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Lay a map over its picture in the colours of viridis, which rise evenly in brightness.

    image: uint8 (H, W, 3). cam: float (H, W), 0..1. alpha: opacity of the map, 0..1.
    Returns uint8 (H, W, 3). Raises CourseError for other shapes, types and ranges.
    """
    from matplotlib import colormaps

    _check_overlay(image, cam, alpha)

    colours = 255 * colormaps["viridis"](cam.astype(np.float64))[..., :3]  # (H, W, 3)
    mixed = (1 - alpha) * image + alpha * colours

    return np.rint(mixed).astype(np.uint8)


def _stretch(maps: torch.Tensor) -> torch.Tensor:
    """Each map of (B, 1, H, W), from zero up, to 0..1."""
    low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    stretched = (maps - low) / (high - low + 1e-7)

    # The same everywhere, but for rounding: there is nothing to stretch.
    flat = high - low <= 1e-6 * high  # (B, 1, 1, 1)
    return torch.where(flat, (high > 0).to(maps.dtype), stretched)


# --- which layer, which classes -----------------------------------------------------------------


def _find_layer(model: nn.Module, layer: str | nn.Module | None) -> nn.Module:
    if isinstance(layer, nn.Module):
        if not any(layer is module for module in model.modules()):
            raise CourseError(f"layer: this {type(layer).__name__} is not a part of the model")
        return layer
    if not isinstance(layer, str | None):
        raise CourseError(f"layer: expected a name or one module, got {type(layer).__name__}")

    stages = getattr(model, "stages", None)
    if not isinstance(stages, dict):
        raise CourseError(f"{type(model).__name__} has no dict `stages`: pass a module as layer=")
    if layer is None:
        return list(stages.values())[-1]
    if layer not in stages:
        raise CourseError(f"layer: unknown name {layer!r}, expected one of {', '.join(stages)}")
    return stages[layer]


def _only_output(layer: nn.Module, outputs: list[torch.Tensor]) -> torch.Tensor:
    """What the layer gave; of two outputs, nobody could say which one the map is of."""
    if len(outputs) != 1:
        raise CourseError(
            f"layer: this {type(layer).__name__} runs {len(outputs)} times in a forward pass; "
            "choose a module that runs once"
        )
    return outputs[0]


def _class_scores(logits: torch.Tensor, targets) -> torch.Tensor:
    """The logit of each picture's class, by default the predicted one. (B, classes) → (B,)."""
    classes = logits.argmax(dim=1) if targets is None else torch.as_tensor(targets)
    _check_classes(classes, *logits.shape)

    classes = classes.to(logits.device, torch.int64)
    return logits.gather(1, classes[:, None])[:, 0]


# --- what cannot be explained or drawn ----------------------------------------------------------


def _check_input(model: nn.Module, images: torch.Tensor) -> torch.device:
    """Returns the device of the model."""
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        raise CourseError(
            "images: expected normalised float (B, 3, H, W), B at least 1, "
            f"got {images.dtype} {tuple(images.shape)}"
        )

    weight = next(model.parameters(), None)
    if weight is None:
        return images.device
    if weight.dtype != torch.float32:
        raise CourseError(
            f"model: its weights are {weight.dtype}, and Grad-CAM runs in fp32: "
            "call model.float() first"
        )
    return weight.device


def _check_output(layer: nn.Module, output: torch.Tensor) -> None:
    if isinstance(output, torch.Tensor) and output.ndim == 4:
        return

    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    raise CourseError(
        "layer: expected a module with output (B, C, h, w), "
        f"this {type(layer).__name__} gives {found}"
    )


def _check_finite(logits: torch.Tensor, maps: torch.Tensor) -> None:
    if not (logits.isfinite().all() and maps.isfinite().all()):
        raise CourseError(
            "the network gives NaN or infinity for these pictures: are its weights and the "
            "pictures finite?"
        )


def _check_classes(classes: torch.Tensor, count: int, available: int) -> None:
    if classes.shape != (count,):
        raise CourseError(
            f"targets: expected {count} class indices, one for each picture, "
            f"got shape {tuple(classes.shape)}"
        )

    if classes.is_floating_point() or classes.dtype == torch.bool or (classes < 0).any():
        raise CourseError(
            f"targets: expected whole numbers from 0 on, got {classes.tolist()} ({classes.dtype})"
        )

    if (classes >= available).any():  # said here: on a GPU, nothing runs any more after the attempt
        raise IndexError(
            f"targets: the model has the classes 0..{available - 1}, got {classes.tolist()}"
        )


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
