"""The exercises of session 02 held against answers: hints, cases and usual mistakes."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.exercises.checker import (
    Case,
    Exercise,
    Failure,
    compare_dtypes,
    compare_numbers,
    compare_tensors,
    read_number,
    read_tensor,
)
from course_lib.exercises.onecycle import (
    grad_cam_map,
    one_cycle_lr,
    pad_crop,
    top_k_accuracy,
    weight_decay_groups,
)


def _top_k_cases() -> list[Case]:
    logits, many = torch.tensor([[0.1, 0.7, 0.2]]), torch.randn(64, 10)
    pair, labels = torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.randint(10, (64,))
    return [
        Case("k is 1 and the label has the largest logit", (logits, torch.tensor([1]), 1)),
        Case("k is 2 and the label has the second largest logit", (logits, torch.tensor([2]), 2)),
        Case("k is 2 and the label has the largest logit", (logits, torch.tensor([1]), 2)),
        Case("k is C, so that every class counts", (logits, torch.tensor([0]), 3)),
        Case("one of two labels is hit", (pair, torch.tensor([0, 1]), 1)),
        *[Case("there are many pictures and classes", (many, labels, k)) for k in (1, 3, 5)],
    ]


def _hits(guesses: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (guesses == labels[:, None]).float()  # (B, k)


_TOP_K_MISTAKES = {
    "only the largest logit is looked at, whatever k is":
        lambda logits, labels, k: top_k_accuracy(logits, labels, 1),
    "the hits are counted, but not divided by the number of pictures":
        lambda logits, labels, k: top_k_accuracy(logits, labels, k) * len(labels),
    "the hits are divided by B · k; a picture is hit or not, so divide by B":
        lambda logits, labels, k: _hits(logits.topk(k).indices, labels).mean(),
    "the largest logits are sought down the batch (dim=0), not along the classes (dim=1)":
        lambda logits, labels, k: _hits(logits.topk(k, dim=0).indices, labels).amax(1).mean(),
    "the k smallest logits are taken, not the k largest":
        lambda logits, labels, k: top_k_accuracy(-logits, labels, k),
    "only the k-th guess is looked at, not all guesses up to the k-th":
        lambda logits, labels, k: _hits(logits.topk(k).indices[:, -1:], labels).mean(),
    "it gives percent; a share in 0..1 is asked for":
        lambda logits, labels, k: top_k_accuracy(logits, labels, k) * 100,
}


def _one_cycle_cases() -> list[Case]:
    return [
        Case("the schedule begins", (0, 10, 1.0)),
        Case("the peak is reached, at step 0.3 · 10 − 1 = 2", (2, 10, 1.0)),
        Case("the last step comes", (9, 10, 1.0)),
        Case("the rate is on its way down", (4, 10, 1.0)),
        Case("the rate is on its way up", (1, 20, 1.0)),
        *[Case("the peak falls between two steps", (step, 12, 0.4)) for step in range(12)],
        *[Case("warm_up and start_div are not the defaults", (step, 7, 1.0, 0.5, 10.0))
          for step in range(7)],
    ]


def _half_wave(part: float) -> float:
    return (1 - math.cos(math.pi * part)) / 2


def _quarter_wave(part: float) -> float:
    return 1 - math.cos(math.pi / 2 * part)


def _line(part: float) -> float:
    return part


def _cycle_with(*, up: Callable = _half_wave, down: Callable = _half_wave, peak_shift: int = 0,
                last_shift: int = 0, whole_steps: bool = False, last_of_peak: bool = False,
                last_div: float = 1e4) -> Callable:
    """The schedule with something changed. ``up`` and ``down``: part of the time → part of the way."""
    def schedule(step, total_steps, peak_lr, warm_up=0.3, start_div=25):
        start_lr, peak_step = peak_lr / start_div, warm_up * total_steps - 1 + peak_shift
        peak_step = int(peak_step) if whole_steps else peak_step
        if step <= peak_step:
            return start_lr + (peak_lr - start_lr) * up(step / peak_step)
        last_lr = (peak_lr if last_of_peak else start_lr) / last_div
        part = (step - peak_step) / (total_steps - 1 + last_shift - peak_step)
        return peak_lr + (last_lr - peak_lr) * down(part)
    return schedule


_ONE_CYCLE_MISTAKES = {
    "it ends at the starting rate; the last rate is a 10,000th of that, near zero":
        _cycle_with(last_div=1),
    "the last rate is a 10,000th of the peak; it is a 10,000th of the starting rate":
        _cycle_with(last_of_peak=True),
    "the peak comes one step late: steps count from 0, so it lies at warm_up · total_steps − 1":
        _cycle_with(peak_shift=1),
    "the end comes one step late: steps count from 0, so the last one is total_steps − 1":
        _cycle_with(last_shift=1),
    "the peak and the end come one step late: steps count from 0, so subtract 1 from both":
        _cycle_with(peak_shift=1, last_shift=1),
    "the step of the peak is rounded; the peak may lie between two steps":
        _cycle_with(whole_steps=True),
    "the rate is linear; it follows half a cosine on either way":
        _cycle_with(up=_line, down=_line),
    "the way up is linear; it follows half a cosine": _cycle_with(up=_line),
    "the way down is linear; it follows half a cosine": _cycle_with(down=_line),
    "only a quarter of the wave is used, cos over 0..π/2; either way runs over 0..π":
        _cycle_with(up=_quarter_wave, down=_quarter_wave),
    "only a quarter of the wave is used, sin and then cos over 0..π/2; either way runs over 0..π":
        _cycle_with(up=lambda part: math.sin(math.pi / 2 * part), down=_quarter_wave),
    "the cosine runs over 0..π/2, so that the rate goes half of the way; it runs over 0..π":
        _cycle_with(up=lambda part: _half_wave(part / 2), down=lambda part: _half_wave(part / 2)),
    "the warm-up is missing: it starts at the peak":
        lambda step, total_steps, peak_lr, *options:
            peak_lr * (1 - _half_wave(step / (total_steps - 1))),
}


def _pad_crop_cases() -> list[Case]:
    small = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    pair = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    many = torch.randint(256, (4, 3, 9, 7), dtype=torch.uint8)
    dy, dx = torch.tensor([0, 8, 3, 5]), torch.tensor([8, 0, 6, 1])
    return [
        Case("the window lies in the middle, which gives the picture back",
             (small, torch.tensor([1]), torch.tensor([1]), 1)),
        Case("the window lies at the left border, half way down",
             (small, torch.tensor([1]), torch.tensor([0]), 1)),
        Case("two pictures have different windows",
             (pair, torch.tensor([1, 2]), torch.tensor([1, 0]), 1)),
        Case("height and width differ, and pad is left at 4", (many, dy, dx)),
    ]


def _pad(images: torch.Tensor, pad: int, mode: str = "reflect") -> torch.Tensor:
    return F.pad(images.float(), (pad, pad, pad, pad), mode=mode)


def _crop_from(mode: str) -> Callable:
    """The right windows, cut out of a border of another kind."""
    def crop(images, dy, dx, pad=4):
        return pad_crop(_pad(images, pad, mode), dy + pad, dx + pad, pad)[..., :-2 * pad, :-2 * pad]
    return crop


_PAD_CROP_MISTAKES = {
    "nothing is cropped; a window as large as the picture can only move once the picture is padded":
        lambda images, dy, dx, pad=4: images,
    "the picture is padded, but no window is cut out of it":
        lambda images, dy, dx, pad=4: _pad(images, pad),
    "all pictures get the same window, that of the first; each has its own":
        lambda images, dy, dx, *pad: pad_crop(images, dy[:1].expand_as(dy), dx[:1].expand_as(dx), *pad),
    "dy and dx are swapped; dy counts rows (dim 2), dx columns (dim 3)":
        lambda images, dy, dx, *pad: pad_crop(images, dx, dy, *pad),
    "the border is filled with zeros; it is to be mirrored, mode=\"reflect\"":
        _crop_from("constant"),
    "the border repeats the last pixel; it is to be mirrored, mode=\"reflect\"":
        _crop_from("replicate"),
    "the pixels are right, but no longer uint8; end in .to(images.dtype)":
        lambda images, dy, dx, *pad: pad_crop(images.float(), dy, dx, *pad),
}


def _group_cases() -> list[Case]:
    return [
        Case("there is one linear layer", (nn.Sequential(nn.Linear(2, 2)),)),
        Case("there is a norm", (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),)),
        Case("layers without bias stand inside other layers",
             (nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)),
                            nn.GroupNorm(2, 4), nn.Linear(4, 2, bias=False)),)),
    ]


Names = tuple[list[str], list[str]]


def _read_groups(result, args: tuple) -> Names:
    """The parameters of both lists by name, sorted, so that the order in a list does not count."""
    names = {id(parameter): name for name, parameter in args[0].named_parameters()}
    if not (isinstance(result, list | tuple) and len(result) == 2
            and all(isinstance(group, list | tuple) for group in result)):
        raise Failure("it does not return two lists, (decayed, not_decayed)")
    entries = [entry for group in result for entry in group]
    for entry in entries:
        if id(entry) not in names:
            raise Failure(f"the lists hold a {type(entry).__name__} that is not one of the model's "
                          "parameters")
    found = [names[id(entry)] for entry in entries]
    lost = sorted(set(names.values()) - set(found))
    if lost:
        raise Failure(f"parameters are lost, they stand in neither list: {', '.join(lost)}")
    doubled = sorted({name for name in found if found.count(name) > 1})
    if doubled:
        raise Failure(f"parameters stand in the lists more than once: {', '.join(doubled)}")
    decayed, not_decayed = (sorted(names[id(entry)] for entry in group) for group in result)
    return decayed, not_decayed


def _compare_groups(expected: Names, got: Names) -> str:
    if expected == got:
        return ""
    return f"expected decayed: {', '.join(expected[0])}; got {', '.join(got[0]) or 'none'}"


def _split(model: nn.Module, decayed: Callable[[nn.Module, str], bool]) -> tuple[list, list]:
    """Sort by the layer that holds a parameter, and its name there."""
    both: tuple[list, list] = [], []
    for layer in model.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            both[not decayed(layer, name)].append(parameter)
    return both


_GROUP_MISTAKES = {
    "everything is decayed; norms and biases are not to be":
        lambda model: (list(model.parameters()), []),
    "the weights of norms are decayed; they scale, and are not to be pulled to zero":
        lambda model: _split(model, lambda layer, name: name == "weight"),
    "the biases of convolutions and linear layers are decayed; only their weights are to be":
        lambda model: _split(model, lambda layer, name: isinstance(layer, nn.Conv2d | nn.Linear)),
    "the two lists are swapped; the decayed parameters come first":
        lambda model: weight_decay_groups(model)[::-1],
    "nothing is decayed": lambda model: ([], list(model.parameters())),
}


def _cam_cases() -> list[Case]:
    one = torch.tensor([[[1.0, 2.0]]])
    two = torch.tensor([[[1.0, 2.0]], [[3.0, 1.0]]])
    return [
        Case("there is one channel", (one, torch.tensor([[[1.0, 3.0]]]))),
        Case("the gradient is negative: evidence against the class", (one, -torch.ones(1, 1, 2))),
        Case("two channels speak for and against the class",
             (two, torch.tensor([[[2.0, 2.0]], [[-1.0, -1.0]]]))),
        Case("there are many channels", (torch.rand(6, 4, 5), torch.randn(6, 4, 5))),
    ]


def _mean(gradients: torch.Tensor) -> torch.Tensor:
    return gradients.mean((1, 2), keepdim=True)  # (C, 1, 1)


_CAM_MISTAKES = {
    "the ReLU at the end is missing: evidence against the class stays in the map":
        lambda a, g: (_mean(g) * a).sum(0),
    "a channel's weight is the maximum of its gradients, not their mean":
        lambda a, g: (g.amax((1, 2), keepdim=True) * a).sum(0).relu(),
    "a channel's weight is the sum of its gradients, not their mean":
        lambda a, g: (g.sum((1, 2), keepdim=True) * a).sum(0).relu(),
    "the ReLU is applied to the weights, or to each channel; it belongs to the sum over the channels":
        lambda a, g: (_mean(g).relu() * a).sum(0),
    "the absolute value is taken, not the ReLU: evidence against the class shows as evidence for it":
        lambda a, g: (_mean(g) * a).sum(0).abs(),
    "gradients and activations are multiplied place by place. That is HiResCAM; Grad-CAM averages a "
    "channel's gradients over the places first":
        lambda a, g: (g * a).sum(0).relu(),
    "the positive gradients are multiplied with the activations place by place. That is LayerCAM; "
    "Grad-CAM averages a channel's gradients over the places first":
        lambda a, g: (g.relu() * a).sum(0).relu(),
    "the channels are averaged; they are to be summed":
        lambda a, g: (_mean(g) * a).mean(0).relu(),
    "the map is divided by its maximum; it is asked for as it is":
        lambda a, g: grad_cam_map(a, g) / grad_cam_map(a, g).max().clamp_min(1e-12),
}


EXERCISES = {
    "top_k_accuracy": Exercise(
        top_k_accuracy, "logits.topk(k, dim=1).indices holds the k guesses for each picture.",
        _top_k_cases, _TOP_K_MISTAKES, read_number, compare_numbers),
    "one_cycle_lr": Exercise(
        one_cycle_lr, "write one helper that goes from a to b along half a cosine, and use it twice.",
        _one_cycle_cases, _ONE_CYCLE_MISTAKES, read_number, partial(compare_numbers, within=1e-5)),
    "pad_crop": Exercise(
        pad_crop, "torch.nn.functional.pad(…, mode=\"reflect\") first, then one slice for each picture.",
        _pad_crop_cases, _PAD_CROP_MISTAKES, read_tensor, compare_tensors, compare_dtypes),
    "weight_decay_groups": Exercise(
        weight_decay_groups, "look at the number of axes, parameter.ndim, of each kind of parameter.",
        _group_cases, _GROUP_MISTAKES, _read_groups, _compare_groups),
    "grad_cam_map": Exercise(
        grad_cam_map, "average the gradients over height and width first: one weight for a channel.",
        _cam_cases, _CAM_MISTAKES, read_tensor, compare_tensors),
}
