"""Grad-CAM through the library pytorch-grad-cam, made safe to call in the middle of a course.

Called bare, the library leaves the model in eval mode and its gradients gone, reads activations that
a later in-place ReLU has overwritten, fails under bf16, and answers too few targets with zero maps.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from course_lib.files import CourseError


def grad_cam(
    model: nn.Module, images: torch.Tensor, targets=None, layer: str | nn.Module | None = None
) -> np.ndarray:
    """Where in each picture the evidence for a class lies, as seen at one layer of the network.

    images: normalised float (B, 3, H, W). targets: class indices (B,), by default the predicted
    ones. layer: a name in ``model.stages`` or a module with output (B, C, h, w), by default the last
    stage. Returns float32 (B, H, W), each map stretched to 0..1 by itself, so that two maps cannot
    be compared in height; a map without any positive evidence is zero. Runs in fp32 and eval mode;
    modes, gradients and hooks of the model are afterwards as they were, also after an error.
    Raises CourseError for a missing library, wrong shapes, and a layer or targets that do not fit;
    IndexError for a class that the model does not have.
    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    GradCAM, ClassTarget = _library()
    layer = _find_layer(model, layer)
    weight = _check_input(model, images)
    if targets is not None:
        targets = [ClassTarget(index) for index in _class_indices(targets, len(images))]
    with ExitStack() as undo:
        undo.enter_context(_left_as_found(model))
        undo.enter_context(torch.inference_mode(False))
        undo.enter_context(torch.enable_grad())
        undo.enter_context(torch.autocast(weight.device.type, enabled=False))
        undo.callback(layer.register_forward_hook(_start_graph).remove)  # runs before the library's
        cam = GradCAM(model, [layer])  # not as `with GradCAM(...)`: that swallows an IndexError
        undo.callback(cam.activations_and_grads.release)
        undo.callback(
            layer.register_forward_hook(_pass_on_a_copy).remove
        )  # runs after the library's
        try:
            maps = cam(images.detach().float().clone(), targets)
        except (
            RuntimeError
        ):  # of the backward pass, where a layer that was not called left nothing to go back to
            if cam.activations_and_grads.activations or not hasattr(cam, "outputs"):
                raise
        runs = len(cam.activations_and_grads.activations)
    if runs != 1:
        raise CourseError(
            f"layer: this {type(layer).__name__} runs {runs} times in a forward pass; "
            "choose a module that runs once"
        )
    return maps


def overlay(image: np.ndarray, cam: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Lay a map over its picture in the colours of viridis, which rise evenly in brightness.

    image: uint8 (H, W, 3). cam: float (H, W), 0..1. alpha: opacity of the map, 0..1.
    Returns uint8 (H, W, 3). Raises CourseError for other shapes, types and ranges.
    """
    from matplotlib import colormaps

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
    colours = 255 * colormaps["viridis"](cam.astype(np.float64))[..., :3]
    return np.rint((1 - alpha) * image + alpha * colours).astype(np.uint8)


def _library() -> tuple[type, type]:
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise CourseError(
            f"Grad-CAM needs the package grad-cam ({error}). Install it: pip install grad-cam==1.5.7, "
            "on Colab and Kaggle pip install --no-deps ttach==0.0.3 grad-cam==1.5.7"
        ) from error
    return GradCAM, ClassifierOutputTarget


def _find_layer(model: nn.Module, layer: str | nn.Module | None) -> nn.Module:
    if isinstance(layer, nn.Module):
        if not any(layer is module for module in model.modules()):
            raise CourseError(f"layer: this {type(layer).__name__} is not a part of the model")
        return layer
    stages = getattr(model, "stages", None)
    if not isinstance(stages, dict):
        raise CourseError(f"{type(model).__name__} has no dict `stages`: pass a module as layer=")
    if layer is None:
        return list(stages.values())[-1]
    if layer not in stages:
        raise CourseError(f"layer: unknown name {layer!r}, expected one of {', '.join(stages)}")
    return stages[layer]


def _check_input(model: nn.Module, images: torch.Tensor) -> nn.Parameter:
    """Returns a weight of the model, which knows the device."""
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        raise CourseError(
            "images: expected normalised float (B, 3, H, W), B at least 1, "
            f"got {images.dtype} {tuple(images.shape)}"
        )
    weight = next(model.parameters())
    if weight.dtype != torch.float32:
        raise CourseError(
            f"model: its weights are {weight.dtype}, and Grad-CAM runs in fp32: "
            "call model.float() first"
        )
    return weight


def _class_indices(targets, count: int) -> list[int]:
    indices = torch.as_tensor(targets)
    if indices.shape != (count,):
        raise CourseError(
            f"targets: expected {count} class indices, one for each picture, "
            f"got shape {tuple(indices.shape)}"
        )
    if indices.is_floating_point() or indices.dtype == torch.bool or (indices < 0).any():
        raise CourseError(
            f"targets: expected whole numbers from 0 on, got {indices.tolist()} ({indices.dtype})"
        )
    return indices.tolist()


@contextmanager
def _left_as_found(model: nn.Module) -> Iterator[None]:
    """Freeze the model; at the end put back every mode, ``requires_grad`` and ``.grad``."""
    modes = [(module, module.training) for module in model.modules()]
    states = [(weight, weight.requires_grad, weight.grad) for weight in model.parameters()]
    try:
        model.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for weight, requires_grad, grad in states:
            weight.requires_grad_(requires_grad)
            weight.grad = grad


def _start_graph(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    """A forward hook. The gradient is needed at this layer and no deeper: the graph begins here."""
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise CourseError(
            "layer: expected a module with output (B, C, h, w), "
            f"this {type(module).__name__} gives {found}"
        )
    return output.detach().requires_grad_()


def _pass_on_a_copy(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    """A forward hook. In-place steps behind the layer then spare what the library has stored."""
    return output.clone()
