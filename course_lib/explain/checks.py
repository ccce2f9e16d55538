"""Which layer, which classes; and what no map can be made of, refused in words."""

import torch
from torch import nn

from course_lib.files import CourseError


def find_layer(model: nn.Module, layer: str | nn.Module | None) -> nn.Module:
    """A module of the model, by name in ``model.stages`` or as it is; by default the last stage."""
    if isinstance(layer, nn.Module):
        if not any(layer is module for module in model.modules()):
            raise CourseError(f"layer: this {type(layer).__name__} is not a part of the model")
        return layer
    if not isinstance(layer, str | None):
        raise CourseError(f"layer: expected a name or one module, got {type(layer).__name__}")

    stages = getattr(model, "stages", None)
    if not isinstance(stages, dict) or not stages:
        raise CourseError(
            f"{type(model).__name__} has no dict `stages` with a layer in it: pass a module as "
            "layer=, one that gives maps (B, C, h, w)"
        )
    if layer is None:
        return list(stages.values())[-1]
    if layer not in stages:
        raise CourseError(f"layer: unknown name {layer!r}, expected one of {', '.join(stages)}")
    return stages[layer]


def only_output(layer: nn.Module, outputs: list[torch.Tensor]) -> torch.Tensor:
    """What the layer gave; of two outputs, nobody could say which one the map is of."""
    if len(outputs) != 1:
        raise CourseError(
            f"layer: this {type(layer).__name__} runs {len(outputs)} times in a forward pass; "
            "choose a module that runs once"
        )
    return outputs[0]


def find_classes(logits: torch.Tensor, targets) -> torch.Tensor:
    """The class of each picture, by default the predicted one. (B, classes) → (B,)."""
    classes = logits.argmax(dim=1) if targets is None else as_tensor(targets)
    _check_classes(classes, *logits.shape)

    return classes.to(logits.device, torch.int64)


def class_scores(logits: torch.Tensor, targets) -> torch.Tensor:
    """The logit of each picture's class. (B, classes) → (B,)."""
    classes = find_classes(logits, targets)
    return logits.gather(1, classes[:, None])[:, 0]


# --- what cannot be explained ---------------------------------------------------------------------


def check_input(model: nn.Module, images: torch.Tensor) -> torch.device:
    """Returns the device of the model."""
    if images.ndim != 4 or not images.is_floating_point() or images.numel() == 0:
        raise CourseError(
            "images: expected normalised float (B, 3, H, W), B at least 1, "
            f"got {images.dtype} {tuple(images.shape)}"
        )

    weight = next(model.parameters(), None)
    if weight is None:
        return images.device
    if weight.dtype != torch.float32:
        raise CourseError(
            f"model: its weights are {weight.dtype}, and a network is explained in fp32: "
            "call model.float() first"
        )
    return weight.device


def check_output(layer: nn.Module, output: torch.Tensor) -> None:
    if isinstance(output, torch.Tensor) and output.ndim == 4:
        return

    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    raise CourseError(
        "layer: expected a module with output (B, C, h, w), "
        f"this {type(layer).__name__} gives {found}"
    )


def check_finite(*numbers: torch.Tensor) -> None:
    if not all(each.isfinite().all() for each in numbers):
        raise CourseError(
            "the network gives NaN or infinity for these pictures: are its weights and the "
            "pictures finite?"
        )


def as_tensor(targets) -> torch.Tensor:
    try:
        return torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CourseError(f"targets: expected class indices, got {targets!r}") from error


def check_targets(targets: torch.Tensor, count: int) -> None:
    if targets.shape != (count,):
        raise CourseError(
            f"targets: expected {count} class indices, one for each picture, "
            f"got shape {tuple(targets.shape)}"
        )


def _check_classes(classes: torch.Tensor, count: int, available: int) -> None:
    check_targets(classes, count)

    if classes.is_floating_point() or classes.dtype == torch.bool or (classes < 0).any():
        raise CourseError(
            f"targets: expected whole numbers from 0 on, got {classes.tolist()} ({classes.dtype})"
        )

    if (classes >= available).any():  # said here: on a GPU, nothing runs any more after the attempt
        raise IndexError(
            f"targets: the model has the classes 0..{available - 1}, got {classes.tolist()}"
        )
