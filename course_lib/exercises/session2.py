"""The exercises of session 02, TinyImageNet with OneCycle: solutions, the cases they are tried on, usual mistakes.

What a function takes and returns stands in its stub, in the notebook.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.exercises.checker import Exercise, read_number
from course_lib.models.session_resnet import TrimmedConv3x3


def top_k_accuracy(logits: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    """Share of the pictures whose label is among the k largest logits, 0..1. logits: (B, C), labels: (B,)."""
    guesses = logits.topk(k, dim=1).indices  # (B, k)
    hits = (guesses == labels[:, None]).any(dim=1)  # (B,)
    return hits.float().mean().item()


def _top_k_cases() -> list[tuple]:
    logits, pair = torch.tensor([[0.1, 0.7, 0.2]]), torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    many, labels = torch.randn(64, 10), torch.randint(10, (64,))
    return [
        ("k is 1 and the label has the largest logit", logits, torch.tensor([1]), 1),
        ("k is 2 and the label has the second largest logit", logits, torch.tensor([2]), 2),
        ("k is 2 and the label has the largest logit", logits, torch.tensor([1]), 2),
        ("k is C, so that every class counts", logits, torch.tensor([0]), 3),
        ("one of two labels is hit", pair, torch.tensor([0, 1]), 1),
        *[("there are many pictures and classes", many, labels, k) for k in (1, 3, 5)],
    ]


_TOP_K_EDITS = [
    ("only the largest logit is looked at, whatever k is", "topk(k", "topk(1"),
    ("the hits are counted, but not divided by the number of pictures", ".mean()", ".sum()"),
    ("the hits are divided by B · k; a picture is hit or not, so divide by B", ".any(dim=1)", ""),
    (
        "the largest logits are sought down the batch (dim=0), not along the classes (dim=1)",
        "k, dim=1",
        "k, dim=0",
    ),
    ("the k smallest logits are taken, not the k largest", "k, dim=1", "k, dim=1, largest=False"),
    (
        "only the k-th guess is looked at, not all guesses up to the k-th",
        ".indices",
        ".indices[:, -1:]",
    ),
    ("it gives percent; a share in 0..1 is asked for", ".item()", ".item() * 100"),
]


def one_cycle_lr(
    step: int, total_steps: int, peak_lr: float, warm_up: float = 0.3, start_div: float = 25
) -> float:
    """Half a cosine up to the peak at step warm_up · total_steps − 1, half a cosine down, as torch's OneCycleLR."""

    def cosine(begin: float, end: float, part: float) -> float:  # part: 0 at begin, 1 at end
        return end + (begin - end) * (1 + math.cos(math.pi * part)) / 2

    start_lr, peak_step = peak_lr / start_div, warm_up * total_steps - 1
    if step <= peak_step:
        return cosine(start_lr, peak_lr, step / peak_step)
    return cosine(peak_lr, start_lr / 1e4, (step - peak_step) / (total_steps - 1 - peak_step))


def _one_cycle_cases() -> list[tuple]:
    return [
        ("the schedule begins", 0, 10, 1.0),
        ("the peak is reached, at step 0.3 · 10 − 1 = 2", 2, 10, 1.0),
        ("the last step comes", 9, 10, 1.0),
        ("the last step comes, at a 10,000th of the first rate", 9, 10, 10.0),
        ("the rate is on its way down", 4, 10, 1.0),
        ("the rate is on its way up", 1, 20, 1.0),
        *[("the peak falls between two steps", step, 12, 0.4) for step in range(12)],
        *[
            ("warm_up and start_div are not the defaults", step, 7, 1.0, 0.5, 10.0)
            for step in range(7)
        ],
        ("start_div is not the default, and the last step comes", 6, 7, 10.0, 0.5, 10.0),
    ]


_WAVE, _PEAK = "(1 + math.cos(math.pi * part)) / 2", "warm_up * total_steps - 1"
_LINE, _QUARTER = "(1 - part)", "math.cos(math.pi / 2 * part)"
_SINE = f"(1 - math.sin(math.pi / 2 * part) if begin < end else {_QUARTER})"
_ONE_CYCLE_EDITS = [
    (
        "it ends at the starting rate; the last rate is a 10,000th of that, near zero",
        "start_lr / 1e4",
        "start_lr",
    ),
    ("it ends at zero; the last rate is a 10,000th of the first", "start_lr / 1e4", "0.0"),
    (
        "the last rate is a 10,000th of the peak, not of the starting rate",
        "start_lr / 1e4",
        "peak_lr / 1e4",
    ),
    (
        "the peak comes one step late: steps count from 0, so it lies at warm_up · total_steps − 1",
        _PEAK,
        _PEAK[:-4],
    ),
    (
        "the end comes one step late: steps count from 0, so the last one is total_steps − 1",
        "s - 1 -",
        "s -",
    ),
    (
        "the peak and the end come one step late: steps count from 0, so subtract 1 from both",
        "_steps - 1",
        "_steps",
    ),
    ("the step of the peak is rounded; the peak may lie between two steps", _PEAK, f"int({_PEAK})"),
    ("the rate is linear; it follows half a cosine on either way", _WAVE, _LINE),
    (
        "the way up is linear; it follows half a cosine",
        _WAVE,
        f"({_LINE} if begin < end else {_WAVE})",
    ),
    (
        "the way down is linear; it follows half a cosine",
        _WAVE,
        f"({_LINE} if begin > end else {_WAVE})",
    ),
    (
        "only a quarter of the wave is used, cos over 0..π/2; either way runs over 0..π",
        _WAVE,
        _QUARTER,
    ),
    (
        "only a quarter of the wave is used, sin, then cos over 0..π/2; either way runs over 0..π",
        _WAVE,
        _SINE,
    ),
    (
        "the cosine runs over 0..π/2, so that the rate goes half of the way; it runs over 0..π",
        "pi * p",
        "pi / 2 * p",
    ),
    ("the warm-up is missing: it starts at the peak", _PEAK, "-1e-9"),  # just before the first step
    (
        "the warm-up is missing: it goes from the peak to zero",
        f"peak_lr / start_div, {_PEAK}",
        "0.0, -1e-9",
    ),
]


def pad_crop(
    images: torch.Tensor, dy: torch.Tensor, dx: torch.Tensor, pad: int = 4
) -> torch.Tensor:
    """Mirror the border of uint8 (B, 3, H, W) outwards, then cut each picture's window out, from row dy, column dx."""
    height, width = images.shape[2:]
    padded = F.pad(images.float(), (pad, pad, pad, pad), mode="reflect")  # GPUs mirror floats only
    windows = [
        picture[:, y : y + height, x : x + width]  # (3, H, W)
        for picture, y, x in zip(padded, dy.tolist(), dx.tolist(), strict=True)
    ]
    return torch.stack(windows).to(images.dtype)


def _pad_crop_cases() -> list[tuple]:
    pair, (zero, one, two) = torch.arange(24).byte().view(2, 3, 2, 2), torch.arange(3)[:, None]
    many, dy, dx = (
        torch.randint(256, (4, 3, 9, 7)).byte(),
        torch.tensor([0, 8, 3, 5]),
        torch.tensor([8, 0, 6, 1]),
    )
    return [
        ("the window lies in the middle, which gives the picture back", pair[:1], one, one, 1),
        ("the window lies at the left border, half way down", pair[:1], one, zero, 1),
        (
            "two pictures have different windows",
            pair,
            torch.cat([one, two]),
            torch.cat([one, zero]),
            1,
        ),
        ("height and width differ, and pad is left at 4", many, dy, dx),
    ]


_CUT, _WINDOW, _FIRST = (
    "torch.stack(windows)",
    "y:y + height, x:x + width",
    "dy[0]:dy[0] + height, dx[0]:dx[0] + width",
)
_PAD_CROP_EDITS = [
    (
        "nothing is cropped; a window as large as the picture can only move once that is padded",
        _CUT,
        "images",
    ),
    ("the picture is padded, but no window is cut out of it", _CUT, "padded"),
    ("all pictures get the same window, that of the first; each has its own", _WINDOW, _FIRST),
    (
        "dy and dx are swapped; dy counts rows (dim 2), dx columns (dim 3)",
        "picture, y, x",
        "picture, x, y",
    ),
    (
        'the border is filled with zeros; it is to be mirrored, mode="reflect"',
        '"reflect"',
        '"constant"',
    ),
    (
        'the border repeats the last pixel; it is to be mirrored, mode="reflect"',
        '"reflect"',
        '"replicate"',
    ),
    (
        "the pixels are right, but no longer uint8; end in .to(images.dtype)",
        ".to(images.dtype)",
        "",
    ),
]


def weight_decay_groups(model: nn.Module) -> tuple[list, list]:
    """Every parameter in one of two lists: decayed (weights of convolutions, linear layers), not decayed (the rest)."""
    decayed = [p for p in model.parameters() if p.ndim > 1]  # (out, in, kh, kw) or (out, in)
    not_decayed = [p for p in model.parameters() if p.ndim <= 1]  # (C,)
    return decayed, not_decayed


def _group_cases() -> list[tuple]:
    conv, bare = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, bias=False)
    return [
        ("there is one linear layer", nn.Sequential(nn.Linear(2, 2))),
        ("there is a norm", nn.Sequential(conv, nn.BatchNorm2d(4))),
        (
            "layers without bias stand inside other layers",
            nn.Sequential(
                nn.Sequential(bare, nn.BatchNorm2d(4)),
                nn.GroupNorm(2, 4),
                nn.Linear(4, 2, bias=False),
            ),
        ),
        (
            "a convolution is of a class derived from Conv2d",
            nn.Sequential(TrimmedConv3x3(3, 4), nn.BatchNorm2d(4)),
        ),
    ]


def _read_groups(result, args: list) -> dict[str, list[str]] | str:
    """The parameters of both lists by name, sorted, so that the order in a list does not count."""
    names = {id(parameter): name for name, parameter in args[0].named_parameters()}
    if not (
        isinstance(result, list | tuple)
        and len(result) == 2
        and all(isinstance(r, list | tuple) for r in result)
    ):
        return "it does not return two lists, (decayed, not_decayed)"
    if strangers := [entry for group in result for entry in group if id(entry) not in names]:
        return f"the lists hold a {type(strangers[0]).__name__} that is not one of the model's parameters"
    decayed, not_decayed = (sorted(names[id(entry)] for entry in group) for group in result)
    times = {name: (decayed + not_decayed).count(name) for name in names.values()}
    if lost := [name for name in times if times[name] == 0]:
        return f"parameters are lost, they stand in neither list: {', '.join(lost)}"
    if doubled := [name for name in times if times[name] > 1]:
        return f"parameters stand in the lists more than once: {', '.join(doubled)}"
    return {"decayed": decayed, "not decayed": not_decayed}


_EACH, _NAMED = (
    "p for p in model.parameters() if p.ndim",
    "p for name, p in model.named_parameters() if 2 * ",
)
_OF_NORM = "hasattr(model.get_submodule(name.rpartition('.')[0]), 'eps')"  # every norm has one
_GROUP_EDITS = [
    ("everything is decayed; norms and biases are not to be", "p.ndim", "2 * p.ndim"),
    (
        "the weights of norms are decayed; they scale, not to be pulled to zero",
        _EACH,
        f"{_NAMED}('weight' in name)",
    ),
    (
        "the biases of convolutions and linear layers are decayed, not only their weights",
        _EACH,
        f"{_NAMED}(not {_OF_NORM})",
    ),
    (
        "the two lists are swapped; the decayed parameters come first",
        "return ",
        "return not_decayed, decayed  #",
    ),
    ("nothing is decayed", "p.ndim", "0 * p.ndim"),
]


def grad_cam_map(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2) of one picture, not normalised: (C, H, W) twice → (H, W)."""
    weights = gradients.mean(dim=(1, 2), keepdim=True)  # (C, 1, 1)
    return (weights * activations).sum(dim=0).relu()  # (H, W)


def _cam_cases() -> list[tuple]:
    one, two = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 2.0]], [[3.0, 1.0]]])
    return [
        ("there is one channel", one, torch.tensor([[[1.0, 3.0]]])),
        ("the gradient is negative: evidence against the class", one, -torch.ones(1, 1, 2)),
        (
            "two channels speak for and against the class",
            two,
            torch.tensor([[[2.0, 2.0]], [[-1.0, -1.0]]]),
        ),
        ("there are many channels", torch.rand(6, 4, 5), torch.randn(6, 4, 5)),
    ]


_MEAN, _MAP = (
    "gradients.mean(dim=(1, 2), keepdim=True)",
    "(weights * activations).sum(dim=0).relu()",
)
_OTHER = "multiplied with the activations place by place. That is {}; Grad-CAM averages them over the places first"
_CAM_EDITS = [
    ("the ReLU at the end is missing: evidence against the class stays in the map", ".relu()", ""),
    (
        "a channel's weight is the maximum of its gradients, not their mean",
        "gradients.mean",
        "gradients.amax",
    ),
    (
        "a channel's weight is the sum of its gradients, not their mean",
        "gradients.mean",
        "gradients.sum",
    ),
    (
        "the ReLU is applied to the weights, or to each channel; it belongs to their sum",
        _MEAN,
        _MEAN + ".relu()",
    ),
    (
        "the absolute value is taken, not the ReLU: evidence against counts as evidence for it",
        ".relu()",
        ".abs()",
    ),
    ("the gradients are " + _OTHER.format("HiResCAM"), _MEAN, "gradients"),
    ("the positive gradients are " + _OTHER.format("LayerCAM"), _MEAN, "gradients.relu()"),
    ("the channels are averaged; they are to be summed", ".sum(dim=0)", ".mean(dim=0)"),
    (
        "the map is divided by its maximum; it is asked for as it is",
        _MAP,
        f"(m := {_MAP}) / m.max().clamp_min(1e-9)",
    ),
]

EXERCISES = [
    Exercise(
        top_k_accuracy,
        "logits.topk(k, dim=1).indices holds the k guesses for each picture.",
        _top_k_cases,
        _TOP_K_EDITS,
        read_number,
    ),
    Exercise(
        one_cycle_lr,
        "write one helper that goes from a to b along half a cosine, and use it twice.",
        _one_cycle_cases,
        _ONE_CYCLE_EDITS,
        read_number,
    ),
    Exercise(
        pad_crop,
        'torch.nn.functional.pad(…, mode="reflect") first, then one slice for each picture.',
        _pad_crop_cases,
        _PAD_CROP_EDITS,
    ),
    Exercise(
        weight_decay_groups,
        "look at the number of axes, parameter.ndim, of each kind of parameter.",
        _group_cases,
        _GROUP_EDITS,
        _read_groups,
    ),
    Exercise(
        grad_cam_map,
        "average the gradients over height and width first: one weight for a channel.",
        _cam_cases,
        _CAM_EDITS,
    ),
]
