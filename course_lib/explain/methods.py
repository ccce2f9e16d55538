"""Nine class activation maps, side by side.

All but FullGrad have one form. At a layer with activations A of C channels, h × w each,

    map = ReLU(Σ_c weights_c · A_c),

and they differ in the weights alone: from the gradients of the class's logit with respect to A, one
backward pass for the whole batch; from many forward passes without any gradient; or from A alone.
pytorch-grad-cam is what the tests hold them against.
"""

import difflib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.explain.checks import (
    as_tensor,
    check_finite,
    check_input,
    check_output,
    check_targets,
    class_scores,
    find_classes,
    find_layer,
    only_output,
)
from course_lib.explain.full_grad import full_grad
from course_lib.explain.grad_cam import enlarge, extremes, stretch
from course_lib.explain.norms import safe_norms
from course_lib.files import CourseError
from course_lib.models import LambdaResNet, ResNet
from course_lib.models.modes import in_eval_mode

CHUNK = 32  # channels that ScoreCAM and AblationCAM try at once: their memory does not grow with C
PIXELS = 64 * 64 * 64  # that a CPU explains at once: more, and the maps leave its cache
SMALL = 4 * 4  # positions of a map: up to here a convolution likes its channels apart


def explain(
    model: nn.Module, images: torch.Tensor, targets=None, method: str = "gradcam", layer=None
) -> np.ndarray:
    """Where in each picture the evidence for a class lies, by one of the nine ``METHODS``.

    images: normalised float (B, 3, H, W). targets: class indices (B,), by default the predicted
    ones (EigenCAM asks for none). layer: a name in ``model.stages``, a module with output
    (B, C, h, w), or a list of them, whose maps are averaged; by default the last stage. FullGrad
    looks at all layers. Returns float32 (B, H, W), each map stretched to 0..1 by itself, as
    ``grad_cam`` does.
    Runs in fp32 and eval mode, and leaves the model as it was, also after an error. Raises
    CourseError for an unknown method, wrong shapes, weights that are not fp32, a layer or targets
    that do not fit, and numbers that are not finite; IndexError for a class that the model has not.
    Sources: beside each method. The mean over several layers: as pytorch-grad-cam has it.
    """
    _check_method(method, layer)
    device = check_input(model, images)
    layers = [] if method == "fullgrad" else _find_layers(model, layer)

    with _borrowed(model, device):
        parts = _in_parts(images, targets, device)
        maps = [_explain(model, x, classes, method, layers) for x, classes in parts]

        return torch.cat(maps).cpu().numpy()


def _explain(
    model: nn.Module, images: torch.Tensor, targets, method: str, layers: list[nn.Module]
) -> torch.Tensor:
    """The maps, (B, H, W), of pictures that are where the model is."""
    if method == "fullgrad":
        logits, maps = full_grad(model, images, targets)
        maps = [maps]
    else:
        logits, maps = _weighted_maps(model, images, targets, method, layers)
    check_finite(logits, *maps)

    enlarged = [enlarge(stretch(each), images.shape[2:]) for each in maps]  # (B, 1, H, W) each
    return stretch(torch.stack(enlarged).mean(dim=0))[:, 0]


def _in_parts(images: torch.Tensor, targets, device: torch.device) -> Iterator[tuple]:
    """Pictures and their targets, as many as suit the device at once."""
    if targets is not None:
        targets = as_tensor(targets)
        check_targets(targets, len(images))

    count = len(images)
    if device.type == "cpu":
        count = max(1, PIXELS // images[0, 0].numel())

    for start in range(0, len(images), count):
        part = slice(start, start + count)
        # a copy, for the first layer may work in place
        x = images[part].detach().to(device, torch.float32, copy=True)
        yield x, None if targets is None else targets[part]


# --- weights from gradients -----------------------------------------------------------------------
#
# a: activations, g: gradients of the logit with respect to them, both (B, C, h, w).


def mean(t: torch.Tensor) -> torch.Tensor:
    return t.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)


def total(t: torch.Tensor) -> torch.Tensor:
    return t.sum(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)


def grad_cam_plus_plus(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Positions with a small gradient count as much as those with a large one."""
    g = g.relu()  # α counts only where g is positive; elsewhere its denominator may be zero
    alpha = g**2 / (2 * g**2 + total(a) * g**3 + 1e-6)
    return total(alpha * g)


FROM_GRADIENTS = {
    # Selvaraju et al. 2017, arXiv:1610.02391, equation 1: the mean of g
    "gradcam": lambda a, g: mean(g),
    # Chattopadhay et al. 2018, arXiv:1710.11063, equations 7 and 19: Σ α · ReLU(g)
    "gradcam++": grad_cam_plus_plus,
    # Draelos & Carin 2020, arXiv:2011.08891: g itself, so that every position counts as it is
    "hirescam": lambda a, g: g,
    # Fu et al. 2020, arXiv:2008.02312: Σ g · a / Σ a, the mean of g with the activations' weight
    "xgradcam": lambda a, g: total(g * a) / (total(a) + 1e-7),
    # Jiang et al. 2021, doi:10.1109/TIP.2021.3089943: ReLU(g), position by position
    "layercam": lambda a, g: g.relu(),
}


# --- weights from many forward passes -------------------------------------------------------------
#
# For one picture: a (C, h, w), and the score of its class for a batch of inputs. Returns (C,).


def score_cam(model, layer, image, a, score_of) -> torch.Tensor:
    """How sure the network is of the class where it sees only what a channel sees; softmax over C.

    Wang et al. 2020, arXiv:1910.01279, algorithm 1. The baseline that they subtract is the same for
    all channels, and softmax takes it away.
    """
    scores = []
    for channels in a.split(CHUNK):  # (n, h, w)
        masks = F.interpolate(  # corners on corners, as pytorch-grad-cam has it
            channels[:, None], image.shape[1:], mode="bilinear", align_corners=True
        )
        low, high = extremes(masks)
        masks = (masks - low) / (high - low + 1e-8)  # (n, 1, H, W), 0..1

        scores.append(score_of(model(image * masks)))

    return torch.cat(scores).softmax(dim=0)


def ablation_cam(model, layer, image, a, score_of) -> torch.Tensor:
    """How far the score falls where a channel is set to zero.

    Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360: (y - y_k) / y. The division is left
    out: it only stretches the map, which is done later, and turns it over where y is negative.
    """
    drops = []
    for channels in torch.arange(len(a), device=a.device).split(CHUNK):
        ablated = a.repeat(len(channels) + 1, 1, 1, 1)  # (n + 1, C, h, w), the last one whole
        ablated[torch.arange(len(channels)), channels] = 0

        # The layers in front see the picture once; those behind, once for each channel.
        with layer.register_forward_hook(lambda *_, ablated=ablated: ablated):
            scores = score_of(model(image[None]))
        drops.append(scores[-1] - scores[:-1])

    return torch.cat(drops)


FROM_MANY_PASSES = {"scorecam": score_cam, "ablationcam": ablation_cam}


# --- from the activations alone -------------------------------------------------------------------


def eigen_cam(a: torch.Tensor) -> torch.Tensor:
    """The first principal component of the activations. (B, C, h, w) → (B, 1, h, w).

    Muhammad & Yeasin 2020, arXiv:2008.00299: A V₁; centred, as pytorch-grad-cam has it. The
    sign of a component is arbitrary: its strongest place is taken as positive (Chung & Ying 2025,
    doi:10.3390/app15137562, equation 13).
    """
    pixels = a.flatten(2).transpose(1, 2)  # (B, h·w, C)
    pixels = pixels - pixels.mean(dim=1, keepdim=True)

    u, s, _ = torch.linalg.svd(pixels, full_matrices=False)
    maps = (u[:, :, 0] * s[:, :1]).view(len(a), 1, *a.shape[2:])

    low, high = extremes(maps)
    return torch.where(low.abs() > high.abs(), -maps, maps)


METHODS = (*FROM_GRADIENTS, "eigencam", *FROM_MANY_PASSES, "fullgrad")


# --- from weights to maps -------------------------------------------------------------------------


def _weighted_maps(
    model: nn.Module, images: torch.Tensor, targets, method: str, layers: list[nn.Module]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The logits, and the map of each layer before it is stretched, (B, 1, h, w)."""
    if method in FROM_GRADIENTS:
        logits, activations, gradients = _gradients(model, images, targets, layers)
        weights_of = FROM_GRADIENTS[method]
        weights = [weights_of(a, g) for a, g in zip(activations, gradients, strict=True)]
    else:
        logits, activations = _forward(model, images, layers)
        classes = find_classes(logits, targets)
        check_finite(logits, *activations)

    if method == "eigencam":
        return logits, [eigen_cam(a).relu() for a in activations]

    if method in FROM_MANY_PASSES:
        weights_of = FROM_MANY_PASSES[method]
        weights = []
        for layer, a in zip(layers, activations, strict=True):
            each = [
                weights_of(model, layer, image, maps, lambda logits, c=c: logits[:, c])
                for image, maps, c in zip(images, a, classes, strict=True)
            ]
            weights.append(torch.stack(each)[:, :, None, None])  # (B, C, 1, 1)

    # the form of all of them: ReLU(Σ_c weights_c · A_c), (B, 1, h, w)
    maps = [(w * a).sum(1, keepdim=True).relu() for w, a in zip(weights, activations, strict=True)]
    return logits, maps


def _gradients(
    model: nn.Module, images: torch.Tensor, targets, layers: list[nn.Module]
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """The logits; of each layer the activations, and the gradients of the class's logit by them."""
    if not _ends_in_mean_and_linear(model, layers):
        logits, activations = _forward(model, images, layers, with_graph=True)

        with torch.enable_grad():  # the pass is over, and with it its own grad mode
            score = class_scores(logits, targets).sum()
        gradients = torch.autograd.grad(score, activations)
        return logits, [a.detach() for a in activations], list(gradients)

    # The logit is linear in the last map: its gradient is known without a backward pass (CAM, Zhou
    # et al. 2016, arXiv:1512.04150, equation 2).
    logits, (activations,) = _forward(model, images, layers)
    height, width = activations.shape[2:]
    weights = model.head.weight[find_classes(logits, targets)]  # (B, C)
    gradients = (weights / (height * width))[:, :, None, None].expand_as(activations)
    return logits, [activations], [gradients]


def _ends_in_mean_and_linear(model: nn.Module, layers: list[nn.Module]) -> bool:
    """Whether behind the layer there is global average pooling and one linear layer, no more."""
    if type(model) not in (ResNet, LambdaResNet) or type(model.head) is not nn.Linear:
        return False
    if type(model.avgpool) is not nn.AdaptiveAvgPool2d:  # somebody has put another pooling in
        return False

    last = list(model.stages.values())[-1]
    return len(layers) == 1 and layers[0] is last


def _forward(
    model: nn.Module, images: torch.Tensor, layers: list[nn.Module], *, with_graph: bool = False
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """One forward pass: the logits, and what each layer gives, (B, C, h, w).

    with_graph: from the first of the layers on, and not before, so that the backward pass ends
    there. Neither pass touches a parameter's gradient.
    """
    outputs = {layer: [] for layer in layers}

    def keep(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        check_output(module, output)

        if with_graph and not output.requires_grad:
            torch.set_grad_enabled(True)
            output = output.detach().requires_grad_()

        outputs[module].append(output)
        return output.clone()  # an in-place ReLU behind the layer spares what is kept

    with ExitStack() as hooks, torch.no_grad():
        for layer in outputs:
            hooks.enter_context(layer.register_forward_hook(keep))
        logits = model(images)

    return logits, [only_output(layer, outputs[layer]) for layer in layers]


@contextmanager
def _borrowed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode, fp32, no graph; afterwards everything is as it was."""
    with (
        in_eval_mode(model),
        torch.inference_mode(False),
        torch.autocast(device.type, enabled=False),
        torch.no_grad(),
        _best_layout(model, device),
        safe_norms(model),
    ):
        yield


@contextmanager
def _best_layout(model: nn.Module, device: torch.device) -> Iterator[None]:
    """On a CPU: each convolution gets its map in the memory layout that it is faster with.

    Large maps with the channels of a pixel side by side, as norms and max-pooling behind it like
    them too; maps up to 4×4 channel by channel. The result is the same.
    """

    def arrange(conv, inputs):
        if len(inputs) != 1 or inputs[0].ndim != 4:
            return None

        large = inputs[0].shape[2:].numel() > SMALL
        layout = torch.channels_last if large else torch.contiguous_format
        return inputs[0].contiguous(memory_format=layout)

    with ExitStack() as hooks:
        for module in model.modules() if device.type == "cpu" else ():
            if isinstance(module, nn.Conv2d):
                hooks.enter_context(module.register_forward_pre_hook(arrange))
        yield


# --- what is asked for ----------------------------------------------------------------------------


def _find_layers(model: nn.Module, layer) -> list[nn.Module]:
    if not isinstance(layer, list | tuple):
        return [find_layer(model, layer)]
    if not layer:
        raise CourseError("layer: expected at least one name or module, got an empty list")
    return [find_layer(model, each) for each in layer]


def _check_method(method: str, layer) -> None:
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=3, cutoff=0.5) or METHODS
        raise CourseError(f"unknown method {method!r}; the nearest names are {', '.join(near)}")
    if method == "fullgrad" and layer is not None:
        raise CourseError("layer: fullgrad looks at all layers, so leave it out")
