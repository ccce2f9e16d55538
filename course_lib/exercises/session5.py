"""The exercises of session 5, maps that show where a network looks, and grades for them.

For each: the solution, the inputs it is tried on, and the usual mistakes with their names. The
solutions stand as they do in the notebook, so that they can be read one after the other.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from course_lib.exercises.checker import Exercise, Unreadable, read_number, read_tensor
from course_lib.exercises.given import expect_unchanged, given


def _randn(*shape: int) -> torch.Tensor:
    return given(torch.randn(shape))


def _as_it_is(t: torch.Tensor) -> torch.Tensor:
    return t


def _reader(*names: str) -> Callable[[Any, list], torch.Tensor]:
    """Reads a tensor, and looks whether the inputs of these names are still what they were."""

    def read(result: Any, args: list) -> torch.Tensor:
        for tensor, name in zip(args, names, strict=False):
            expect_unchanged(tensor, name)
        return read_tensor(result, args)

    return read


# --- class_activation_map -----------------------------------------------------------------------


def class_activation_map(
    features: torch.Tensor, weights: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """What each position adds to the logit of a class, for and against it.

    features: (B, C, h, w), the last maps before the pooling. weights: (classes, C), of the linear
    layer behind it. target: (B,), the class of each picture. Returns (B, h, w): the sum over the
    channels, each times its weight for the class. Source: Zhou et al. 2016, arXiv:1512.04150,
    equation 2.
    """
    class_weights = weights[target]  # (B, C), a row for each picture

    return torch.einsum("bchw, bc -> bhw", features, class_weights)


def _cam_cases() -> list[tuple]:
    row = given([[[[1.0, 2.0]]]])
    one_channel = given([[2.0], [-1.0]])
    two_channels = given([[[[1.0, -2.0]], [[3.0, 1.0]]]])
    weights = given([[1.0, 2.0], [-1.0, 3.0], [0.5, -2.0]])
    first, second = given([0]), given([1])

    return [
        ("there is one channel", row, one_channel, first),
        ("the weight is negative: evidence against the class", row, one_channel, second),
        ("a feature is negative", given([[[[-1.0, 2.0]]]]), one_channel, first),
        ("there are two channels", two_channels, weights, first),
        ("another class is asked for", two_channels, weights, given([2])),
        ("there are as many classes as channels", two_channels, given(weights[:2]), second),
        ("there are two rows", given(two_channels.mT.contiguous()), weights, first),
        ("there are two pictures", _randn(2, 2, 1, 2), weights, given([2, 0])),
        ("there are many channels", _randn(3, 7, 4, 6), _randn(5, 7), given([4, 0, 2])),
        ("B, C, h and w are alike", _randn(4, 4, 4, 4), _randn(4, 4), given([3, 1, 1, 0])),
    ]


CAM = Exercise(
    reference=class_activation_map,
    hint="weights[target] is (B, C); multiply each channel by its number, and sum over them.",
    cases=_cam_cases,
    read=_reader("features", "weights", "target"),
)


def _rows_of_target(weights: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return weights[target]


def _wrong_cam(
    features: torch.Tensor,
    weights: torch.Tensor,
    target: torch.Tensor,
    *,
    of_features: Callable = _as_it_is,
    of_weights: Callable = _as_it_is,
    pick: Callable = _rows_of_target,
    sums: str = "bchw, bc -> bhw",
    after: Callable = _as_it_is,
) -> torch.Tensor:
    """The steps with something in them that is not the default here."""
    picked = of_weights(pick(weights, target))
    return after(torch.einsum(sums, of_features(features), picked))


def _over_map(t: torch.Tensor) -> torch.Tensor:
    """Each of (B, h, w) to 0..1."""
    low, high = t.amin((1, 2), keepdim=True), t.amax((1, 2), keepdim=True)
    return (t - low) / (high - low).clamp_min(1e-12)


def _over_maximum(t: torch.Tensor) -> torch.Tensor:
    return t / t.amax((1, 2), keepdim=True).clamp_min(1e-12)


_COLUMNS = (
    "a column of the weights is taken; a class has a row of them, (classes, C): weights[target]"
)
_MAP_STRETCHED = "the map is stretched to 0..1; it is asked for as it is"
_PICTURES_SUMMED = "it sums over all pictures as well; each has a map of its own"

_WRONG_CAMS = [
    (
        "the summed channels stay as an axis of length 1: its shape is (B, 1, h, w)",
        {"after": lambda maps: maps[:, None]},
    ),
    (
        "the weights of all pictures are averaged; each has those of its own class",
        {"pick": lambda weights, target: weights[target].mean(0).expand(len(target), -1)},
    ),
    (
        "classes are counted from 1; they are counted from 0",
        {"pick": lambda weights, target: weights[target - 1]},
    ),
    (
        "the weights are divided by their length; they are taken as they are",
        {"of_weights": lambda weights: weights / weights.norm(dim=1, keepdim=True)},
    ),
    (
        "the largest map of all classes is given; that of the target is asked for",
        {
            "pick": lambda weights, target: weights,
            "sums": "bchw, kc -> bkhw",
            "after": lambda maps: maps.amax(1),
        },
    ),
    ("the map is squared; it is asked for as it is", {"after": torch.square}),
    (
        "a ReLU is applied to the map; what speaks against the class, below zero, belongs to it",
        {"after": torch.relu},
    ),
    (
        "the features go through a ReLU; they are taken as they are, also below zero",
        {"of_features": torch.relu},
    ),
    (
        "the weights go through a ReLU; those below zero speak against the class and count",
        {"of_weights": torch.relu},
    ),
    (
        "the absolute value of the weights is taken; those below zero speak against the class",
        {"of_weights": torch.abs},
    ),
    (
        "the absolute value of the features is taken; they count as they are",
        {"of_features": torch.abs},
    ),
    (
        "the absolute value of the map is taken; below zero it speaks against the class",
        {"after": torch.abs},
    ),
    ("the channels are not summed: they stay an axis", {"sums": "bchw, bc -> bchw"}),
    (
        "the class of the first picture is taken for all; each has its own target",
        {"pick": lambda weights, target: weights[target[:1]].expand(len(target), -1)},
    ),
    (
        "the first class is taken, whatever the target is",
        {"pick": lambda weights, target: weights[:1].expand(len(target), -1)},
    ),
    (
        "the weights of all classes are summed; those of the target count",
        {"pick": lambda weights, target: weights.sum(0).expand(len(target), -1)},
    ),
    (
        "the weights of all classes are averaged; those of the target count",
        {"pick": lambda weights, target: weights.mean(0).expand(len(target), -1)},
    ),
    (
        "the maps of all classes are given; only that of the target is asked for",
        {"pick": lambda weights, target: weights, "sums": "bchw, kc -> bkhw"},
    ),
    (_COLUMNS, {"pick": lambda weights, target: weights[:, target], "sums": "bchw, cb -> bhw"}),
    (_COLUMNS, {"pick": lambda weights, target: weights.T[target]}),
    (
        "the map is pooled, which gives the logit; keep the positions",
        {"sums": "bchw, bc -> b", "after": lambda sums: sums},
    ),
    (_PICTURES_SUMMED, {"sums": "bchw, bc -> hw"}),
    (_PICTURES_SUMMED, {"sums": "bchw, kc -> bhw"}),
    (
        "height and width are exchanged: its shape is (B, w, h), expected (B, h, w)",
        {"sums": "bchw, bc -> bwh"},
    ),
    (_MAP_STRETCHED, {"after": _over_map}),
    (_MAP_STRETCHED, {"after": lambda maps: _over_map(maps.relu())}),
    ("the map is divided by its maximum; it is asked for as it is", {"after": _over_maximum}),
    (
        "the map is divided by its maximum; it is asked for as it is",
        {"after": lambda maps: maps / maps.amax((1, 2), keepdim=True)},
    ),
    (
        "a softmax is applied to the weights; they are taken as they are",
        {"of_weights": lambda weights: weights.softmax(dim=1)},
    ),
    (
        "the sign is wrong: the map shows what speaks against the class",
        {"after": torch.neg},
    ),
    ("the map goes through a sigmoid; it is asked for as it is", {"after": torch.sigmoid}),
]

for _cause, _difference in _WRONG_CAMS:
    CAM.mistake(_cause)(partial(_wrong_cam, **_difference))


@CAM.mistake("the channels are averaged; they are to be summed")
def _(features, weights, target):
    return class_activation_map(features, weights, target) / features.shape[1]


@CAM.mistake("the map is divided by the number of positions; it is asked for as it is")
def _(features, weights, target):
    return class_activation_map(features, weights, target) / features[0, 0].numel()


@CAM.mistake("the map is pooled, which gives the logit; keep the positions")
def _(features, weights, target):
    return class_activation_map(features, weights, target).mean((1, 2))


@CAM.mistake("the predicted class is taken; the target may be another one")
def _(features, weights, target):
    logits = features.mean((2, 3)) @ weights.T
    return class_activation_map(features, weights, logits.argmax(1))


@CAM.mistake("the channel of the number of the class is given; all channels count, by weights")
def _(features, weights, target):
    return features[torch.arange(len(target)), target % features.shape[1]]


@CAM.mistake("the features are summed without their weights")
def _(features, weights, target):
    return features.sum(1)


@CAM.mistake("each channel writes over the one before, as = does in a loop; += adds them up")
def _(features, weights, target):
    return features[:, -1] * weights[target][:, -1, None, None]


@CAM.mistake("the largest of the weighted channels is taken; they are to be summed")
def _(features, weights, target):
    return (features * weights[target][:, :, None, None]).amax(1)


@CAM.mistake(
    "weights[target] is (B, C) and meets rows and columns here; [:, :, None, None] adds axes"
)
def _(features, weights, target):
    return (features * weights[target]).sum(1)


@CAM.mistake("the mean of the map is subtracted; it is asked for as it is")
def _(features, weights, target):
    maps = class_activation_map(features, weights, target)
    return maps - maps.mean((1, 2), keepdim=True)


@CAM.mistake("reshape or view does not move the channels to the end; permute does")
def _(features, weights, target):
    batch, channels, height, width = features.shape
    pixels = features.reshape(batch, height, width, channels)
    return torch.einsum("bhwc, bc -> bhw", pixels, weights[target])


@CAM.mistake("a softmax over the classes is applied at each position; the map is of plain logits")
def _(features, weights, target):
    maps = torch.einsum("bchw, kc -> bkhw", features, weights).softmax(1)
    return maps[torch.arange(len(target)), target]


@CAM.mistake("maps[:, target] pairs every picture with every class; each has one of its own")
def _(features, weights, target):
    return torch.einsum("bchw, kc -> bkhw", features, weights)[:, target]


@CAM.mistake("only the first picture is looked at")
def _(features, weights, target):
    return class_activation_map(features[:1], weights, target[:1])


# --- channel_weights ----------------------------------------------------------------------------


def channel_weights(gradients: torch.Tensor) -> torch.Tensor:
    """How much each channel counts for the class, by Grad-CAM: the mean of its gradients.

    gradients: (B, C, h, w), of the class's logit by the features. Returns (B, C), of either sign.
    Source: Selvaraju et al. 2017, arXiv:1610.02391, equation 1.
    """
    return gradients.mean(dim=(2, 3))  # over the map: height and width


def _weight_cases() -> list[tuple]:
    return [
        ("there is one channel", given([[[[1.0, 4.0]]]])),
        ("the gradients are of both signs", given([[[[1.0, -4.0]]]])),
        ("there are two rows", given([[[[1.0, -4.0], [2.0, 0.0]]]])),
        ("there are two channels", given([[[[1.0, 3.0]], [[-2.0, 5.0]]]])),
        ("the map is not square", given([[[[1.0, -4.0, 2.0], [3.0, 0.5, 6.0]]]])),
        ("there are two pictures", _randn(2, 2, 2, 3)),
        ("there are many channels", _randn(3, 7, 4, 6)),
    ]


WEIGHTS = Exercise(
    reference=channel_weights,
    hint="two axes go, the last two; the picture and the channel stay.",
    cases=_weight_cases,
    read=_reader("gradients"),
)


def _mean(t: torch.Tensor) -> torch.Tensor:
    return t.mean(dim=(2, 3))


_WRONG_WEIGHTS = [
    (
        "it is the standard deviation of the gradients; their mean is asked for",
        lambda g: g.std((2, 3)),
    ),
    (
        "the absolute values are summed; the mean of the gradients is asked for",
        lambda g: g.abs().sum((2, 3)),
    ),
    (
        "the means are summed over the channels; each has a weight of its own",
        lambda g: _mean(g).sum(1),
    ),
    ("the means go through a sigmoid; they are taken as they are", lambda g: _mean(g).sigmoid()),
    (
        "the sum is divided by the number of all gradients; divide it by that of the positions",
        lambda g: g.sum((2, 3)) / g.numel(),
    ),
    ("dim=(1, 3) are channels and columns; height and width are 2 and 3", lambda g: g.mean((1, 3))),
    (
        "it is the middle between the smallest and the largest gradient; their mean is asked for",
        lambda g: (g.amax((2, 3)) + g.amin((2, 3))) / 2,
    ),
    (
        "the gradients are summed; their mean is asked for",
        lambda g: g.sum((2, 3)),
    ),
    ("the largest gradient is taken; their mean is asked for", lambda g: g.amax((2, 3))),
    ("the smallest gradient is taken; their mean is asked for", lambda g: g.amin((2, 3))),
    (
        "the absolute value of the gradients is taken; those below zero count against the channel",
        lambda g: _mean(g.abs()),
    ),
    (
        "the absolute value of the means is taken; one below zero speaks against the class",
        lambda g: _mean(g).abs(),
    ),
    (
        "a ReLU is applied to the gradients before the mean; those below zero count as well",
        lambda g: _mean(g.relu()),
    ),
    (
        "a ReLU is applied to the means; one below zero speaks against the class, and stays",
        lambda g: _mean(g).relu(),
    ),
    (
        "it averages over the channels as well; each has a weight of its own: dim=(2, 3)",
        lambda g: g.mean((1, 2, 3)),
    ),
    (
        "it averages over the channels as well; each has a weight of its own: dim=(2, 3)",
        lambda g: g.mean((1, 2, 3), keepdim=True).expand(*g.shape[:2], 1, 1).flatten(1),
    ),
    (
        "it averages over the pictures as well; each has weights of its own: dim=(2, 3)",
        lambda g: g.mean((0, 2, 3)),
    ),
    (
        "it averages over the pictures as well; each has weights of its own: dim=(2, 3)",
        lambda g: _mean(g).mean(0, keepdim=True).expand(len(g), -1),
    ),
    (
        "it averages over the channels, and keeps the map; the mean runs over the map, dim=(2, 3)",
        lambda g: g.mean(1),
    ),
    (
        "it averages over the pictures, and keeps the map; the mean runs over the map, dim=(2, 3)",
        lambda g: g.mean(0),
    ),
    ("it averages over the rows alone, dim 2; the columns go, too", lambda g: g.mean(2)),
    ("it averages over the columns alone, dim 3; the rows go, too", lambda g: g.mean(3)),
    (
        "dim=(1, 2) are channels and rows; height and width are 2 and 3",
        lambda g: g.mean((1, 2)),
    ),
    (
        "dim=(0, 1) are pictures and channels; height and width are 2 and 3",
        lambda g: g.mean((0, 1)),
    ),
    (
        "keepdim=True leaves the shape (B, C, 1, 1); (B, C) is asked for",
        lambda g: g.mean((2, 3), keepdim=True),
    ),
    (
        "it is a single number, the mean of everything; each channel has one: dim=(2, 3)",
        lambda g: g.mean(),
    ),
    ("it is a median, not a mean", lambda g: g.flatten(2).median(2).values),
    ("the weights are made to add up to 1; they are plain means", lambda g: _mean(g).softmax(1)),
    (
        "the weights are made to add up to 1; they are plain means",
        lambda g: _mean(g) / _mean(g).sum(1, keepdim=True),
    ),
    (
        "the weights are divided by their length; they are plain means",
        lambda g: _mean(g) / _mean(g).norm(dim=1, keepdim=True),
    ),
    ("the sign is wrong", lambda g: -_mean(g)),
    ("it is the root of the mean of squares, without a sign", lambda g: _mean(g**2).sqrt()),
    ("it is the mean of squares, without a sign", lambda g: _mean(g**2)),
    ("it is the root of the sum of squares, without a sign", lambda g: g.norm(dim=(2, 3))),
    (
        "only the gradient in the middle of the map is taken",
        lambda g: g[:, :, g.shape[2] // 2, g.shape[3] // 2],
    ),
    ("only the gradient in the first corner is taken", lambda g: g[:, :, 0, 0]),
    (
        "the sum is divided by the height alone; there are height · width positions",
        lambda g: g.sum((2, 3)) / g.shape[2],
    ),
    (
        "the sum is divided by the width alone; there are height · width positions",
        lambda g: g.sum((2, 3)) / g.shape[3],
    ),
    (
        "the sum is divided by the number of channels; divide it by that of the positions",
        lambda g: g.sum((2, 3)) / g.shape[1],
    ),
    (
        "the mean is divided by the number of channels as well",
        lambda g: _mean(g) / g.shape[1],
    ),
    (
        "the sum is divided by the square of the height; the map need not be square",
        lambda g: g.sum((2, 3)) / g.shape[2] ** 2,
    ),
    (
        "the sum is divided by the square of the width; the map need not be square",
        lambda g: g.sum((2, 3)) / g.shape[3] ** 2,
    ),
    (
        "the axes are exchanged: its shape is (C, B), expected (B, C)",
        lambda g: _mean(g).T,
    ),
    (
        "only the gradients above zero are averaged, over their number; all of them count",
        lambda g: g.relu().sum((2, 3)) / (g > 0).sum((2, 3)).clamp_min(1),
    ),
    ("only the first picture is looked at", lambda g: _mean(g[:1])),
]

for _cause, _mistaken in _WRONG_WEIGHTS:
    WEIGHTS.mistake(_cause)(_mistaken)


# --- grad_cam_maps ------------------------------------------------------------------------------


def grad_cam_maps(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM of a batch: where in each map the evidence for the class lies, not stretched.

    features: (B, C, h, w), of either sign. gradients: the same shape, of the class's logit by the
    features. Returns (B, h, w), from zero up: the sum over the channels, each times the mean of its
    gradients; what is below zero in the end is cut off. Source: Selvaraju et al. 2017,
    arXiv:1610.02391, equations 1 and 2.
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1), equation 1
    evidence = (weights * features).sum(dim=1)  # (B, h, w), for the class and against it

    return evidence.relu()  # equation 2


def _grad_cam_cases() -> list[tuple]:
    row, column = given([[[[1.0, 2.0]]]]), given([[[[1.0], [2.0]]]])
    two = given([[[[1.0, 2.0]], [[3.0, 1.0]]]])
    against = given([[[[-1.0, 2.0]]]])

    return [
        ("there is one channel", row, given([[[[1.0, 3.0]]]])),
        ("there are two rows", column, given([[[[1.0], [3.0]]]])),
        ("the gradient is negative: evidence against the class", row, given([[[[-1.0, -2.0]]]])),
        ("a feature is negative, and so is the gradient", against, given([[[[-1.0, -3.0]]]])),
        ("a feature is negative", against, given([[[[1.0, 3.0]]]])),
        ("the gradients are of both signs", row, given([[[[-1.0, 3.0]]]])),
        ("the features fall", given([[[[3.0, 1.0]]]]), given([[[[1.0, 3.0]]]])),
        ("two channels speak for and against", two, given([[[[2.0, 3.0]], [[-1.0, -2.0]]]])),
        ("there are two pictures", _randn(2, 2, 2, 3), _randn(2, 2, 2, 3)),
        ("there are many channels", _randn(3, 7, 4, 6), _randn(3, 7, 4, 6)),
        ("B, C, h and w are alike", _randn(4, 4, 4, 4), _randn(4, 4, 4, 4)),
    ]


GRAD_CAM = Exercise(
    reference=grad_cam_maps,
    hint="mean over the map with keepdim=True, times the features, sum over dim 1, ReLU.",
    cases=_grad_cam_cases,
    read=_reader("features", "gradients"),
)


def _map_means(gradients: torch.Tensor) -> torch.Tensor:
    return gradients.mean(dim=(2, 3), keepdim=True)


def _sum_and_relu(weighted: torch.Tensor) -> torch.Tensor:
    return weighted.sum(dim=1).relu()


def _over_highest(maps: torch.Tensor) -> torch.Tensor:
    return maps / maps.max().clamp_min(1e-12)


def _wrong_grad_cam(
    features: torch.Tensor,
    gradients: torch.Tensor,
    *,
    of_features: Callable = _as_it_is,
    weigh: Callable = _map_means,
    end: Callable = _sum_and_relu,
) -> torch.Tensor:
    """The three steps with something in them that is not the default here."""
    return end(weigh(gradients) * of_features(features))


_RELU_ELSEWHERE = "it belongs to the sum over the channels alone"

_WRONG_GRAD_CAMS = [
    (
        "what is above zero is cut off; the ReLU cuts off what is below",
        {"end": lambda weighted: weighted.sum(1).clamp(max=0)},
    ),
    (
        "the map is cut off above 1 as well; the ReLU cuts off at zero alone",
        {"end": lambda weighted: weighted.sum(1).clamp(0, 1)},
    ),
    (
        "it sums over the rows, dim 2; the channels are dim 1",
        {"end": lambda weighted: weighted.sum(2).relu()},
    ),
    (
        "it sums over the columns, dim 3; the channels are dim 1",
        {"end": lambda weighted: weighted.sum(3).relu()},
    ),
    (
        "it sums over the positions; these stay, and the channels, dim 1, are summed",
        {"end": lambda weighted: weighted.sum((2, 3)).relu()},
    ),
    (
        "the map is squared; it is asked for as it is",
        {"end": lambda weighted: weighted.sum(1).square()},
    ),
    (
        "this is HiResCAM, without the ReLU: gradients times features position by position",
        {"weigh": _as_it_is, "end": lambda weighted: weighted.sum(1)},
    ),
    (
        "this is HiResCAM, with the absolute value: gradients times features position by position",
        {"weigh": _as_it_is, "end": lambda weighted: weighted.sum(1).abs()},
    ),
    (
        "the ReLU is applied to each channel, and these are averaged; sum them, then the ReLU",
        {"end": lambda weighted: weighted.relu().mean(1)},
    ),
    (
        "a channel's weight is the sum of its gradients, not their mean, and the ReLU is missing",
        {"weigh": lambda g: g.sum((2, 3), keepdim=True), "end": lambda weighted: weighted.sum(1)},
    ),
    (
        "weights and features both go through a ReLU; it belongs to the sum alone",
        {"of_features": torch.relu, "weigh": lambda g: _map_means(g).relu()},
    ),
    (
        "the absolute values of weights and features are taken; their signs count",
        {"of_features": torch.abs, "weigh": lambda g: _map_means(g).abs()},
    ),
    (
        "the features are averaged over the map as well; they keep their positions",
        {"of_features": _map_means},
    ),
    (
        "the ReLU at the end is missing: evidence against the class stays in the map",
        {"end": lambda weighted: weighted.sum(1)},
    ),
    (
        f"the ReLU is applied to the features; {_RELU_ELSEWHERE}",
        {"of_features": torch.relu},
    ),
    (
        f"the ReLU is applied to the features, and to nothing else; {_RELU_ELSEWHERE}",
        {"of_features": torch.relu, "end": lambda weighted: weighted.sum(1)},
    ),
    (
        f"the ReLU is applied to the weights; {_RELU_ELSEWHERE}",
        {"weigh": lambda g: _map_means(g).relu()},
    ),
    (
        f"the ReLU is applied to the weights, and to nothing else; {_RELU_ELSEWHERE}",
        {"weigh": lambda g: _map_means(g).relu(), "end": lambda weighted: weighted.sum(1)},
    ),
    (
        f"the ReLU is applied to the gradients; {_RELU_ELSEWHERE}",
        {"weigh": lambda g: _map_means(g.relu())},
    ),
    (
        f"the ReLU is applied to each channel; {_RELU_ELSEWHERE}",
        {"end": lambda weighted: weighted.relu().sum(1)},
    ),
    (
        "the gradients are multiplied with the features position by position. That is HiResCAM; "
        "Grad-CAM averages them over the map first",
        {"weigh": _as_it_is},
    ),
    (
        "the positive gradients are multiplied with the features position by position. That is "
        "LayerCAM; Grad-CAM averages all of them over the map first",
        {"weigh": torch.relu},
    ),
    (
        "a channel's weight is the sum of its gradients, not their mean",
        {"weigh": lambda g: g.sum((2, 3), keepdim=True)},
    ),
    (
        "a channel's weight is the maximum of its gradients, not their mean",
        {"weigh": lambda g: g.amax((2, 3), keepdim=True)},
    ),
    (
        "a channel's weight is the mean of absolute gradients; those below zero count against it",
        {"weigh": lambda g: _map_means(g.abs())},
    ),
    (
        "the absolute value of the weights is taken; one below zero speaks against the class",
        {"weigh": lambda g: _map_means(g).abs()},
    ),
    (
        "the absolute value of the features is taken; they count as they are",
        {"of_features": torch.abs},
    ),
    (
        "the absolute value is taken, not the ReLU: evidence against counts as evidence for it",
        {"end": lambda weighted: weighted.sum(1).abs()},
    ),
    (
        "the weights are averaged over all pictures as well; each has its own",
        {"weigh": lambda g: g.mean((0, 2, 3), keepdim=True)},
    ),
    (
        "there is one weight for all channels; each has its own: average over dims 2 and 3",
        {"weigh": lambda g: g.mean((1, 2, 3), keepdim=True)},
    ),
    (
        "there is one weight for everything; each channel has its own: average over dims 2 and 3",
        {"weigh": torch.mean},
    ),
    (
        "the gradients are averaged over the channels (dim 1), not over height and width",
        {"weigh": lambda g: g.mean(1, keepdim=True)},
    ),
    (
        "the gradients are averaged over the rows only (dim 2), not over height and width",
        {"weigh": lambda g: g.mean(2, keepdim=True)},
    ),
    (
        "the gradients are averaged over the columns only (dim 3), not over height and width",
        {"weigh": lambda g: g.mean(3, keepdim=True)},
    ),
    (
        "keepdim=True is forgotten: weights of shape (B, C) meet rows and columns, not channels",
        {"weigh": lambda g: g.mean((2, 3))},
    ),
    (
        "the weights of the first picture are taken for all; each has its own",
        {"weigh": lambda g: _map_means(g[:1])},
    ),
    (
        "the weights are made to add up to 1 by a softmax; they are plain means",
        {"weigh": lambda g: _map_means(g).softmax(1)},
    ),
    (
        "the weights go through a sigmoid; they are plain means",
        {"weigh": lambda g: _map_means(g).sigmoid()},
    ),
    (
        "the channels are averaged; they are to be summed",
        {"end": lambda weighted: weighted.mean(1).relu()},
    ),
    (
        "the channels are not summed: one map for each picture, (B, h, w), is asked for",
        {"end": torch.relu},
    ),
    (
        "the largest of the weighted channels is taken; they are to be summed",
        {"end": lambda weighted: weighted.amax(1).relu()},
    ),
    (
        "the summed channels stay as an axis of length 1: its shape is (B, 1, h, w)",
        {"end": lambda weighted: weighted.sum(1, keepdim=True).relu()},
    ),
    (
        "it sums over all pictures; each has a map of its own",
        {"end": lambda weighted: weighted.sum((0, 1)).relu()},
    ),
    (
        "it sums over the pictures, dim 0; the channels are dim 1",
        {"end": lambda weighted: weighted.sum(0).relu()},
    ),
    (
        "the map is divided by its maximum; it is not to be stretched",
        {"end": lambda weighted: _over_maximum(_sum_and_relu(weighted))},
    ),
    (
        "the maps are divided by the maximum of all pictures; they are not to be stretched",
        {"end": lambda weighted: _over_highest(_sum_and_relu(weighted))},
    ),
    (
        "the map is stretched to 0..1; it is asked for as it is",
        {"end": lambda weighted: _over_map(_sum_and_relu(weighted))},
    ),
    (
        "the map is stretched instead of cut off at zero",
        {"end": lambda weighted: _over_map(weighted.sum(1))},
    ),
    (
        "the sign is wrong: the map shows what speaks against the class",
        {"end": lambda weighted: weighted.sum(1).neg().relu()},
    ),
    (
        "a sigmoid is taken, not the ReLU",
        {"end": lambda weighted: weighted.sum(1).sigmoid()},
    ),
    (
        "height and width are exchanged: its shape is (B, w, h), expected (B, h, w)",
        {"end": lambda weighted: _sum_and_relu(weighted).mT},
    ),
]

for _cause, _difference in _WRONG_GRAD_CAMS:
    GRAD_CAM.mistake(_cause)(partial(_wrong_grad_cam, **_difference))


@GRAD_CAM.mistake("each channel writes over the one before, as = does in a loop; += adds them up")
def _(features, gradients):
    return grad_cam_maps(features[:, -1:], gradients[:, -1:])


@GRAD_CAM.mistake("features and gradients are exchanged: the gradients give the weights")
def _(features, gradients):
    return grad_cam_maps(gradients, features)


@GRAD_CAM.mistake(
    "the gradients are averaged with the features as their weights. That is XGradCAM; Grad-CAM "
    "takes the plain mean"
)
def _(features, gradients):
    total = features.sum((2, 3), keepdim=True)
    weights = (gradients * features).sum((2, 3), keepdim=True) / (total + 1e-7)
    return _sum_and_relu(weights * features)


@GRAD_CAM.mistake("the features are summed without their weights")
def _(features, gradients):
    return features.sum(1).relu()


@GRAD_CAM.mistake("weights and features are added; they are multiplied")
def _(features, gradients):
    return (_map_means(gradients) + features).sum(1).relu()


@GRAD_CAM.mistake("it is the map of the gradients alone; they weigh the features")
def _(features, gradients):
    return gradients.mean(1).relu()


@GRAD_CAM.mistake("only the first picture is looked at")
def _(features, gradients):
    return grad_cam_maps(features[:1], gradients[:1])


# --- stretch ------------------------------------------------------------------------------------


def stretch(maps: torch.Tensor) -> torch.Tensor:
    """Each map to 0..1 by itself: its lowest value becomes 0, its highest 1.

    maps: (B, h, w), of either sign. Returns the same shape; a map of zeros stays zeros.
    """
    low = maps.amin(dim=(1, 2), keepdim=True)  # (B, 1, 1)
    high = maps.amax(dim=(1, 2), keepdim=True)

    return (maps - low) / (high - low).clamp_min(1e-12)  # of a map of zeros: 0 / 1e-12


def _stretch_cases() -> list[tuple]:
    from_zero = given([[[0.0, 1.0], [2.0, 4.0]]])
    many = torch.randn(4, 5, 7)
    many[2] = 0.0

    return [
        ("the lowest value is 0", from_zero),
        ("the lowest value is above 0", given([[[1.0, 2.0, 5.0]]])),
        ("the lowest value is below 0", given([[[-2.0, 0.0, 2.0]]])),
        ("there are two rows and three columns", given([[[1.0, 5.0, 2.0], [3.0, 7.0, 4.0]]])),
        ("all values are below 0", given([[[-3.0, -2.0, -1.0]]])),
        ("one map is higher than the other", given([[[0.0, 1.0, 2.0]], [[0.0, 3.0, 8.0]]])),
        ("the values are small", given([[[0.0, 0.01, 0.02]]])),
        ("a map is zero everywhere", given([[[0.0, 0.0, 0.0]]])),
        ("a map of zeros lies beside another", given([[[0.0, 0.0]], [[1.0, 3.0]]])),
        ("there are many maps", given(many)),
    ]


def _read_stretched(result: Any, args: list) -> torch.Tensor:
    expect_unchanged(args[0], "maps")
    stretched = read_tensor(result, args)
    _expect_no_nan(stretched, "a map of zeros stays zeros")
    return stretched


def _expect_no_nan(result: torch.Tensor, due: str) -> None:
    if result.isnan().any():
        raise Unreadable(f"it gives nan, as of 0 / 0, where a map is zero everywhere: {due}")


STRETCH = Exercise(
    reference=stretch,
    hint="amin and amax over dims 1 and 2 with keepdim=True; and what is 0 / 0 to be?",
    cases=_stretch_cases,
    read=_read_stretched,
)


def _wrong_stretch(
    maps: torch.Tensor,
    *,
    over: tuple[int, ...] = (1, 2),
    tiny: float = 0.0,
    of_maps: Callable = _as_it_is,
    formula: Callable = lambda maps, low, high, width: (maps - low) / width,
) -> torch.Tensor:
    """Lowest to 0 and highest to 1, with something in it that is not the default here."""
    maps = of_maps(maps)
    low, high = maps.amin(over, keepdim=True), maps.amax(over, keepdim=True)
    width = (high - low + tiny).clamp_min(1e-12)
    return formula(maps, low, high, width)


_OF_ALL_MAPS = (
    "lowest and highest are those of all maps together; each map is stretched by itself, over "
    "dim=(1, 2)"
)
_TINY = "the small number against 0 / 0 is too large: it presses small maps; 1e-8 will do"
_MAXIMUM_AFTERWARDS = (
    "it is divided by the maximum after the lowest value was taken away; divide by high - low"
)
_LEAST = [10.0**-n for n in (12, 10, 9, 8, 7, 6, 5)]  # that answers take against 0 / 0
_MAXIMUM_ALONE = "it is divided by the maximum alone; the lowest value has to become 0 first"

_WRONG_STRETCHES = [
    (
        "it is divided by the sum of highest and lowest; divide by high - low",
        {"formula": lambda maps, low, high, width: (maps - low) / (high + low + 1e-9)},
    ),
    (
        "the mean is subtracted; subtract the lowest value",
        {
            "formula": lambda maps, low, high, width: (
                (maps - maps.mean((1, 2), keepdim=True)) / width
            )
        },
    ),
    (
        "it is rounded; all values between 0 and 1 stay",
        {"formula": lambda maps, low, high, width: ((maps - low) / width).round()},
    ),
    (
        "the root is taken on its way; it is to rise evenly",
        {"formula": lambda maps, low, high, width: ((maps - low) / width).sqrt()},
    ),
    (
        "it is divided by the standard deviation; divide by high - low",
        {
            "formula": lambda maps, low, high, width: (
                (maps - low) / (maps.std((1, 2), keepdim=True) + 1e-9)
            )
        },
    ),
    *[
        (
            _TINY,
            {
                "formula": lambda maps, low, high, width, least=least: (
                    (maps - low) / (high - low).clamp_min(least)
                )
            },
        )
        for least in (0.1, 1.0)
    ],
    (_OF_ALL_MAPS, {"over": (0, 1, 2)}),
    ("each row is stretched by itself; a map is, over dim=(1, 2)", {"over": (2,)}),
    ("each column is stretched by itself; a map is, over dim=(1, 2)", {"over": (1,)}),
    (
        "each position is stretched over the maps; each map is, over dim=(1, 2)",
        {"over": (0,)},
    ),
    (
        "dim=(0, 1) are maps and rows; height and width are 1 and 2",
        {"over": (0, 1)},
    ),
    (
        "the lowest value is not subtracted: maps / (high - low)",
        {"formula": lambda maps, low, high, width: maps / width},
    ),
    (
        _MAXIMUM_AFTERWARDS,
        {"formula": lambda maps, low, high, width: (maps - low) / (high + 1e-9)},
    ),
    *[
        (
            _MAXIMUM_AFTERWARDS,
            {
                "formula": lambda maps, low, high, width, least=least: (
                    (maps - low) / high.clamp_min(least)
                )
            },
        )
        for least in _LEAST
    ],
    (
        "it is only shifted, so that it begins at 0; divide by high - low as well",
        {"formula": lambda maps, low, high, width: maps - low},
    ),
    (
        "it is upside down: the highest value becomes 0, the lowest 1",
        {"formula": lambda maps, low, high, width: (high - maps) / width},
    ),
    (
        "it is upside down: the highest value becomes 0, the lowest 1",
        {"formula": lambda maps, low, high, width: 1 - (maps - low) / width},
    ),
    (
        "it goes to 255, as bytes do; 0..1 is asked for",
        {"formula": lambda maps, low, high, width: 255 * (maps - low) / width},
    ),
    (
        "it goes to 100, as percent do; 0..1 is asked for",
        {"formula": lambda maps, low, high, width: 100 * (maps - low) / width},
    ),
    (
        "it goes from −1 to 1; 0..1 is asked for",
        {"formula": lambda maps, low, high, width: 2 * (maps - low) / width - 1},
    ),
    (
        "brackets are missing: maps - low / (high - low)",
        {"formula": lambda maps, low, high, width: maps - low / width},
    ),
    (
        "it is squared on its way; it is to rise evenly",
        {"formula": lambda maps, low, high, width: ((maps - low) / width) ** 2},
    ),
    *[(_TINY, {"tiny": tiny}) for tiny in (1e-4, 1e-3, 1e-2, 0.1, 1.0)],
    (
        "negative values are cut off first; they belong to the map",
        {"of_maps": torch.relu},
    ),
    (
        "the absolute value is taken first; negative values belong to the map as they are",
        {"of_maps": torch.abs},
    ),
]

for _cause, _difference in _WRONG_STRETCHES:
    STRETCH.mistake(_cause)(partial(_wrong_stretch, **_difference))


for _least in _LEAST:

    @STRETCH.mistake(_MAXIMUM_ALONE)
    def _(maps, least=_least):
        return maps / maps.amax((1, 2), keepdim=True).clamp_min(least)


@STRETCH.mistake(_MAXIMUM_ALONE)
def _(maps):
    return maps / (maps.amax((1, 2), keepdim=True) + 1e-9)


_MAXIMUM_OF_ALL = "it is divided by the maximum of all maps; each is stretched by itself"

for _least in _LEAST:

    @STRETCH.mistake(_MAXIMUM_OF_ALL)
    def _(maps, least=_least):
        return maps / maps.max().clamp_min(least)


@STRETCH.mistake(_MAXIMUM_OF_ALL)
def _(maps):
    return maps / (maps.max() + 1e-9)


@STRETCH.mistake("it is divided by the highest absolute value; the lowest value has to become 0")
def _(maps):
    return maps / maps.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)


@STRETCH.mistake("values below 0 and above 1 are cut off; the map is shifted and divided instead")
def _(maps):
    return maps.clamp(0, 1)


@STRETCH.mistake("a sigmoid bends the map; it is shifted and divided instead")
def _(maps):
    return maps.sigmoid()


@STRETCH.mistake("the values of a map are made to add up to 1; the highest is to become 1")
def _(maps):
    shifted = maps - maps.amin((1, 2), keepdim=True)
    return shifted / shifted.sum((1, 2), keepdim=True).clamp_min(1e-12)


@STRETCH.mistake("the values of a map are made to add up to 1; the highest is to become 1")
def _(maps):
    return maps / maps.sum((1, 2), keepdim=True)


@STRETCH.mistake("the values of a map are made to add up to 1; the highest is to become 1")
def _(maps):
    return maps.flatten(1).softmax(1).view_as(maps)


@STRETCH.mistake("it is divided by the standard deviation; 0..1 is asked for")
def _(maps):
    mean, std = maps.mean((1, 2), keepdim=True), maps.std((1, 2), keepdim=True)
    return (maps - mean) / (std + 1e-9)


_ADDS_UP_TO_ZERO = (
    "a map whose values add up to 0 is taken for one of zeros; these are all 0, lowest and highest"
)


@STRETCH.mistake(_MAXIMUM_ALONE)
def _(maps):
    high = maps.amax((1, 2), keepdim=True)
    return torch.where(high > 0, maps / high, maps)


@STRETCH.mistake(_MAXIMUM_AFTERWARDS)
def _(maps):
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high > 0, (maps - low) / high, maps - low)


@STRETCH.mistake(_ADDS_UP_TO_ZERO)
def _(maps):
    return torch.where(maps.sum((1, 2), keepdim=True) == 0, maps, stretch(maps))


@STRETCH.mistake(_ADDS_UP_TO_ZERO)
def _(maps):
    return torch.where(maps.sum((1, 2), keepdim=True) == 0, 0.0, stretch(maps))


_NOT_ABOVE_ZERO = (
    "a map whose highest value is not above 0 is left out; only one of zeros has nothing to stretch"
)


@STRETCH.mistake(_NOT_ABOVE_ZERO)
def _(maps):
    return torch.where(maps.amax((1, 2), keepdim=True) > 0, stretch(maps), maps)


@STRETCH.mistake(_NOT_ABOVE_ZERO)
def _(maps):
    return torch.where(maps.amax((1, 2), keepdim=True) > 0, stretch(maps), 0.0)


@STRETCH.mistake("a map of zeros becomes ones; it stays zeros")
def _(maps):
    zeros = (maps == 0).all(2, keepdim=True).all(1, keepdim=True)
    return torch.where(zeros, 1.0, stretch(maps))


@STRETCH.mistake("a map of zeros becomes a half everywhere; it stays zeros")
def _(maps):
    zeros = (maps == 0).all(2, keepdim=True).all(1, keepdim=True)
    return torch.where(zeros, 0.5, stretch(maps))


@STRETCH.mistake("maps of zeros are left out; as many maps as given are asked for")
def _(maps):
    return stretch(maps[(maps != 0).flatten(1).any(1)])


@STRETCH.mistake(
    "negative values are cut off, and it is divided by the maximum; take the lowest away"
)
def _(maps):
    return maps.relu() / maps.relu().amax((1, 2), keepdim=True).clamp_min(1e-9)


@STRETCH.mistake("a map is divided by its length; its highest value is to become 1")
def _(maps):
    return maps / maps.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)


@STRETCH.mistake("tanh bends the map; it is shifted and divided instead")
def _(maps):
    return maps.tanh()


@STRETCH.mistake("all values become 0")
def _(maps):
    return torch.zeros_like(maps)


@STRETCH.mistake("the maps come back as they are")
def _(maps):
    return maps.clone()


# --- pointing_game ------------------------------------------------------------------------------


def pointing_game(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Whether the highest point of each map lies in its box.

    maps: (B, H, W), from zero up. boxes: (B, 4), whole numbers x0, y0, x1, y1, both ends inside the
    box; x counts columns, y rows. Returns bool (B,). Of equally high points the first counts, row
    by row; a map of zeros points nowhere, which is no hit. Source: Zhang et al. 2016,
    arXiv:1608.00507, without their margin of 15 pixels.
    """
    width = maps.shape[2]
    at = maps.flatten(1).argmax(dim=1)  # (B,), counted row by row
    x, y = at % width, at // width

    x0, y0, x1, y1 = boxes.T  # (B,) each
    inside = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)

    return inside & (maps.amax(dim=(1, 2)) > 0)


def _peak(x: int, y: int, height: float = 9.0) -> torch.Tensor:
    """A map (1, 3, 4) with its highest point there."""
    map_ = torch.tensor([[[1.0, 0.0, 2.0, 1.0], [0.0, 1.0, 1.0, 0.0], [3.0, 1.0, 0.0, 2.0]]])
    map_[0, y, x] = height
    return given(map_)


def _boxes(*boxes: list[int]) -> torch.Tensor:
    return given(torch.tensor(boxes))


def _random_boxes(count: int, height: int, width: int) -> torch.Tensor:
    x = torch.randint(width, (count, 2)).sort(dim=1).values
    y = torch.randint(height, (count, 2)).sort(dim=1).values
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


def _pointing_cases() -> list[tuple]:
    left = given(torch.maximum(_peak(2, 0), _peak(1, 1)))  # (2, 0) comes first, then (1, 1)
    right = given(torch.maximum(_peak(1, 0), _peak(2, 1)))  # (1, 0) comes first, then (2, 1)
    zeros = given(torch.zeros(1, 2, 3))
    two = given(torch.cat([_peak(1, 1, 4.0), _peak(3, 2, 8.0)]))
    last = given([[[0.0, 0.0, 1.0], [0.0, 0.0, 5.0]]])

    many = given(torch.rand(40, 5, 7))
    boxes = given(_random_boxes(40, 5, 7))

    return [
        ("the highest point lies within the box", _peak(1, 1), _boxes([0, 0, 2, 2])),
        ("the highest point lies behind the box", _peak(3, 1), _boxes([0, 0, 2, 2])),
        ("the highest point lies before the box", _peak(1, 1), _boxes([2, 0, 3, 2])),
        ("the highest point lies above the box", _peak(1, 1), _boxes([0, 2, 3, 2])),
        ("the highest point lies behind the box", _peak(3, 1), _boxes([1, 0, 2, 2])),
        ("the highest point lies below the box", _peak(1, 2), _boxes([0, 1, 3, 1])),
        ("it lies in the first row and column of the box", _peak(1, 1), _boxes([1, 1, 3, 2])),
        ("it lies in the last row and column of the box", _peak(1, 1), _boxes([0, 0, 1, 1])),
        (
            "it lies in the first column, in the last row of the box",
            _peak(0, 1),
            _boxes([0, 0, 1, 1]),
        ),
        ("it lies in the first corner of the picture", _peak(0, 0), _boxes([0, 0, 1, 1])),
        ("it lies in a corner of the picture", _peak(3, 2), _boxes([2, 1, 3, 2])),
        ("the box is a single pixel", _peak(3, 0), _boxes([3, 0, 3, 0])),
        ("its row is not its column", _peak(3, 0), _boxes([0, 1, 0, 2])),
        ("the box lies away from the first corner", _peak(2, 1), _boxes([2, 1, 2, 2])),
        ("there are two rows of three", last, _boxes([2, 1, 2, 1])),
        ("two points are equally high, the second in the box", left, _boxes([0, 1, 1, 2])),
        ("two points are equally high, the first in the box", left, _boxes([2, 0, 3, 0])),
        ("two points are equally high, the second to the right", right, _boxes([2, 0, 3, 2])),
        ("two points are equally high, the first to the left", right, _boxes([0, 0, 1, 2])),
        ("a map is zero everywhere", zeros, _boxes([0, 0, 1, 1])),
        ("a map is zero everywhere, also in the box", zeros, _boxes([1, 1, 2, 1])),
        ("there are two pictures", two, _boxes([0, 0, 0, 0], [2, 1, 3, 2])),
        ("there are two pictures, the first a hit", two, _boxes([0, 0, 1, 1], [0, 0, 2, 1])),
        ("there are many pictures", many, boxes),
    ]


def _read_hits(result: Any, args: list) -> torch.Tensor:
    maps, boxes = args
    expect_unchanged(maps, "maps")
    expect_unchanged(boxes, "boxes")

    hits = read_tensor(result, args)
    if hits.shape == boxes.shape[:1] and hits.dtype != torch.bool:
        raise Unreadable(f"it returns {hits.dtype}, expected torch.bool, True for a hit")
    return hits


POINTING = Exercise(
    reference=pointing_game,
    hint="flatten(1).argmax(dim=1) counts row by row: % width is the column, // width the row.",
    cases=_pointing_cases,
    read=_read_hits,
)


def _highest(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y."""
    at = maps.flatten(1).argmax(dim=1)
    return at % maps.shape[2], at // maps.shape[2]


def _centre_of_mass(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = maps.sum((1, 2)).clamp_min(1e-12)
    x = (maps.sum(1) * torch.arange(maps.shape[2])).sum(1) / total
    y = (maps.sum(2) * torch.arange(maps.shape[1])).sum(1) / total
    return x, y


def _by_height(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    at = maps.flatten(1).argmax(dim=1)
    return at % maps.shape[1], at // maps.shape[1]


def _last_highest(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    at = maps[0].numel() - 1 - maps.flatten(1).flip(1).argmax(dim=1)
    return at % maps.shape[2], at // maps.shape[2]


def _highest_of_all(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    at = (maps.argmax() % maps[0].numel()).expand(len(maps))
    return at % maps.shape[2], at // maps.shape[2]


def _between(x, y, x0, y0, x1, y1) -> torch.Tensor:
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)


def _without_brackets(x, y, x0, y0, x1, y1) -> torch.Tensor:
    """x0 <= x <= x1 & y0 <= y <= y1, as Python reads it."""
    middle = x1 & y0
    return (x0 <= x) & (x <= middle) & (middle <= y) & (y <= y1)


def _no_zeros(hits: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    return hits & (maps.amax((1, 2)) > 0)


def _wrong_point(
    maps: torch.Tensor,
    boxes: torch.Tensor,
    *,
    where: Callable = _highest,
    is_inside: Callable = _between,
    end: Callable = _no_zeros,
) -> torch.Tensor:
    """The highest point and the box with something in it that is not the default here."""
    return end(is_inside(*where(maps), *boxes.T), maps)


_END_OUT = "the last row and column of the box are left out; both ends are inside: <= x1, <= y1"
_START_OUT = "the first row and column of the box are left out; it begins with x0 and y0: x0 <= x"
_WIDTH_HEIGHT = "the box is read as x, y, width and height; it is x0, y0, x1, y1"
_Y_FIRST = "the box is read as y0, x0, y1, x1; it is x0, y0, x1, y1"
_COLUMNS_ALONE = "only the columns are compared; the rows, y0 to y1, count as well"
_ROWS_ALONE = "only the rows are compared; the columns, x0 to x1, count as well"
_TIES = "of equally high points the first counts, row by row; "
_FIRST_BOX = "the first box is taken for all pictures; each has its own"

_NO_BRACKETS = (
    "& comes before <= in Python: put each comparison into brackets, (x0 <= x) & (x <= x1), or "
    "write `and` between numbers"
)

_WRONG_POINTS = [
    (_NO_BRACKETS, {"is_inside": _without_brackets}),
    (_NO_BRACKETS, {"is_inside": _without_brackets, "end": lambda hits, maps: hits}),
    (
        "a highest point in the first corner, at place 0, is taken for a map of zeros; ask whether "
        "the highest value is above 0",
        {"end": lambda hits, maps: hits & (maps.flatten(1).argmax(1) > 0)},
    ),
    (
        "the row is no whole number: // width gives it, / width a part of the next row as well",
        {"where": lambda maps: (_highest(maps)[0], maps.flatten(1).argmax(1) / maps.shape[2])},
    ),
    (
        "the last column of the box is left out; x1 is inside: <= x1",
        {"is_inside": lambda x, y, x0, y0, x1, y1: _between(x, y, x0, y0, x1 - 1, y1)},
    ),
    (
        "the last row of the box is left out; y1 is inside: <= y1",
        {"is_inside": lambda x, y, x0, y0, x1, y1: _between(x, y, x0, y0, x1, y1 - 1)},
    ),
    (
        "the boxes come in another order than the maps; each has its own",
        {"is_inside": lambda x, y, *box: _between(x, y, *[side.flip(0) for side in box])},
    ),
    (
        "it is True for every map that is not zero; the box counts",
        {"is_inside": lambda x, y, *box: x >= 0},
    ),
    (
        "x and y are exchanged: % width gives the column, x, and // width the row, y, and a box is "
        "x0, y0, x1, y1",
        {"where": lambda maps: _highest(maps)[::-1]},
    ),
    (
        "the place is divided by the height; row by row it is counted, so divide by the width",
        {"where": _by_height},
    ),
    (
        "the place is divided by the height; row by row it is counted, so divide by the width",
        {"where": lambda maps: _by_height(maps)[::-1]},
    ),
    ("the lowest point is looked for; the highest counts", {"where": lambda m: _highest(-m)}),
    (
        "the highest point of all maps is looked for; each has its own",
        {"where": _highest_of_all},
    ),
    (
        "the centre of mass is looked for; the highest point counts",
        {"where": _centre_of_mass},
    ),
    (
        "the centre of mass is looked for; the highest point counts",
        {"where": lambda maps: [t.round() for t in _centre_of_mass(maps)]},
    ),
    (
        "row and column are looked for by their sums, each on its own; the highest point counts",
        {"where": lambda maps: (maps.sum(1).argmax(1), maps.sum(2).argmax(1))},
    ),
    (f"{_TIES}here it is the last", {"where": _last_highest}),
    (
        f"{_TIES}here row and column are looked for each on its own, which may lead between them",
        {"where": lambda maps: (maps.amax(1).argmax(1), maps.amax(2).argmax(1))},
    ),
    (
        f"{_TIES}here it is the one furthest left",
        {"where": lambda maps: _highest(maps.mT)[::-1]},
    ),
    (
        _END_OUT,
        {"is_inside": lambda x, y, *box: _between(x, y, *box[:2], box[2] - 1, box[3] - 1)},
    ),
    (
        _START_OUT,
        {"is_inside": lambda x, y, x0, y0, *ends: _between(x, y, x0 + 1, y0 + 1, *ends)},
    ),
    (
        "the edge of the box is left out on all sides; it is inside: x0 <= x <= x1",
        {"is_inside": lambda x, y, x0, y0, x1, y1: _between(x, y, x0 + 1, y0 + 1, x1 - 1, y1 - 1)},
    ),
    (
        "the box is a pixel too large at its end; x1 and y1 are the last inside",
        {"is_inside": lambda x, y, *box: _between(x, y, *box[:2], box[2] + 1, box[3] + 1)},
    ),
    (
        _WIDTH_HEIGHT,
        {"is_inside": lambda x, y, x0, y0, w, h: _between(x, y, x0, y0, x0 + w - 1, y0 + h - 1)},
    ),
    (
        _WIDTH_HEIGHT,
        {"is_inside": lambda x, y, x0, y0, w, h: _between(x, y, x0, y0, x0 + w, y0 + h)},
    ),
    (
        "the box is read as x0, x1, y0, y1; it is x0, y0, x1, y1",
        {"is_inside": lambda x, y, x0, x1, y0, y1: _between(x, y, x0, y0, x1, y1)},
    ),
    (_COLUMNS_ALONE, {"is_inside": lambda x, y, x0, y0, x1, y1: (x0 <= x) & (x <= x1)}),
    (_ROWS_ALONE, {"is_inside": lambda x, y, x0, y0, x1, y1: (y0 <= y) & (y <= y1)}),
    (
        "columns or rows are enough for a hit; both have to fit: &",
        {
            "is_inside": lambda x, y, x0, y0, x1, y1: (
                ((x0 <= x) & (x <= x1)) | ((y0 <= y) & (y <= y1))
            )
        },
    ),
    (
        "only the beginning of the box is compared; it ends with x1 and y1",
        {"is_inside": lambda x, y, x0, y0, x1, y1: (x0 <= x) & (y0 <= y)},
    ),
    (
        "only the end of the box is compared; it begins with x0 and y0",
        {"is_inside": lambda x, y, x0, y0, x1, y1: (x <= x1) & (y <= y1)},
    ),
    (
        "a map of zeros points nowhere, which is no hit; argmax gives its first corner",
        {"end": lambda hits, maps: hits},
    ),
    (
        "a map of zeros points nowhere, which is no hit; here it always is one",
        {"end": lambda hits, maps: hits | (maps.amax((1, 2)) == 0)},
    ),
    (
        "it is the other way round: True where the box is missed",
        {"end": lambda hits, maps: ~_no_zeros(hits, maps)},
    ),
    (
        "it is the share of hits; a hit or none is asked for each picture, (B,)",
        {"end": lambda hits, maps: _no_zeros(hits, maps).float().mean()},
    ),
    (
        "it is the number of hits; a hit or none is asked for each picture, (B,)",
        {"end": lambda hits, maps: _no_zeros(hits, maps).sum()},
    ),
    (
        "it is a single answer for all pictures; a hit or none is asked for each, (B,)",
        {"end": lambda hits, maps: _no_zeros(hits, maps).all()},
    ),
    (
        "it is a single answer for all pictures; a hit or none is asked for each, (B,)",
        {"end": lambda hits, maps: _no_zeros(hits, maps).any()},
    ),
]

for _cause, _difference in _WRONG_POINTS:
    POINTING.mistake(_cause)(partial(_wrong_point, **_difference))


def _mask(
    maps: torch.Tensor,
    x0: torch.Tensor,
    y0: torch.Tensor,
    x1: torch.Tensor,
    y1: torch.Tensor,
    *,
    rows: bool = True,
    columns: bool = True,
) -> torch.Tensor:
    """The boxes as masks, bool (B, H, W); of rows or columns alone, if so asked."""
    x0, y0, x1, y1 = (side[:, None, None] for side in (x0, y0, x1, y1))
    x, y = torch.arange(maps.shape[2])[None, None], torch.arange(maps.shape[1])[None, :, None]

    in_columns, in_rows = (x0 <= x) & (x <= x1), (y0 <= y) & (y <= y1)
    everywhere = torch.ones(maps.shape, dtype=torch.bool)
    return everywhere & (in_columns | (not columns)) & (in_rows | (not rows))


@POINTING.mistake(f"{_TIES}here any of them in the box is a hit")
def _(maps, boxes):
    highest = maps.amax((1, 2), keepdim=True)
    return ((maps == highest) & (highest > 0) & _mask(maps, *boxes.T)).flatten(1).any(1)


@POINTING.mistake(f"{_TIES}here all of them have to lie in the box")
def _(maps, boxes):
    highest = maps.amax((1, 2), keepdim=True)
    outside = (maps == highest) & ~_mask(maps, *boxes.T)
    return ~outside.flatten(1).any(1) & (highest > 0).flatten()


@POINTING.mistake(f"{_TIES}here any of them in the box is a hit, also in a map of zeros")
def _(maps, boxes):
    return (maps * _mask(maps, *boxes.T)).amax((1, 2)) == maps.amax((1, 2))


_MEANS_COMPARED = (
    "it is asked whether the map is higher inside than outside in the mean; the highest point "
    "counts"
)


@POINTING.mistake(_MEANS_COMPARED)
def _(maps, boxes):
    masks = _mask(maps, *boxes.T)
    inside = (maps * masks).sum((1, 2)) / masks.sum((1, 2))
    outside = (maps * ~masks).sum((1, 2)) / (~masks).sum((1, 2)).clamp_min(1)
    return inside > outside


@POINTING.mistake("it is asked whether most of the map lies inside; the highest point counts")
def _(maps, boxes):
    masks = _mask(maps, *boxes.T)
    return (maps * masks).sum((1, 2)) > (maps * ~masks).sum((1, 2))


@POINTING.mistake(_FIRST_BOX)
def _(maps, boxes):
    return pointing_game(maps, boxes[:1].expand_as(boxes))


@POINTING.mistake("only the first picture is looked at")
def _(maps, boxes):
    return pointing_game(maps[:1], boxes[:1])


# --- energy_in_box ------------------------------------------------------------------------------


def energy_in_box(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The share of each map's sum that lies in its box.

    maps: (B, H, W), from zero up. boxes: (B, 4), as for ``pointing_game``. Returns (B,), 0..1; zero
    for a map of zeros. Source: Wang et al. 2020, Score-CAM, arXiv:1910.01279.
    """
    shares = torch.zeros(len(maps))

    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        inside = maps[number, y0 : y1 + 1, x0 : x1 + 1]  # rows first; a slice leaves its end out
        total = maps[number].sum()

        if total > 0:
            shares[number] = inside.sum() / total

    return shares


def _energy_cases() -> list[tuple]:
    map_ = given([[[1.0, 2.0, 3.0], [4.0, 0.0, 6.0]]])
    tall = given([[[1.0, 2.0], [3.0, 4.0], [5.0, 1.0]]])
    two = given([[[1.0, 3.0]], [[2.0, 8.0]]])

    with_zeros = torch.rand(8, 5, 7) ** 2
    with_zeros[3] = 0.0

    return [
        ("the box is a single pixel", map_, _boxes([1, 0, 1, 0])),
        ("the box is a row", map_, _boxes([0, 1, 2, 1])),
        ("the box is a column", map_, _boxes([2, 0, 2, 1])),
        ("the box is the whole picture", map_, _boxes([0, 0, 2, 1])),
        ("the box ends before the picture does", map_, _boxes([0, 0, 1, 1])),
        ("the box begins after the picture does", tall, _boxes([0, 1, 1, 2])),
        ("there are more rows than columns", tall, _boxes([1, 1, 1, 1])),
        ("there are two pictures", two, _boxes([0, 0, 0, 0], [1, 0, 1, 0])),
        ("the values are small", given([[[1e-5, 3e-5, 0.0]]]), _boxes([0, 0, 0, 0])),
        ("a map is zero everywhere", given(torch.zeros(1, 2, 3)), _boxes([0, 0, 1, 1])),
        ("there are many pictures", given(with_zeros), given(_random_boxes(8, 5, 7))),
    ]


def _read_shares(result: Any, args: list) -> torch.Tensor:
    expect_unchanged(args[0], "maps")
    expect_unchanged(args[1], "boxes")
    shares = read_tensor(result, args)
    _expect_no_nan(shares, "its share is 0")
    return shares


ENERGY = Exercise(
    reference=energy_in_box,
    hint="a picture's box is map_[y0 : y1 + 1, x0 : x1 + 1]; its sum over the sum of the map.",
    cases=_energy_cases,
    read=_read_shares,
)


def _whole(maps: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return maps.sum((1, 2)).clamp_min(1e-12)


def _box(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    return _mask(maps, *boxes.T)


def _wrong_energy(
    maps: torch.Tensor,
    boxes: torch.Tensor,
    *,
    of_maps: Callable = _as_it_is,
    box: Callable = _box,
    whole: Callable = _whole,
    end: Callable = _as_it_is,
) -> torch.Tensor:
    """The share with something in it that is not the default here."""
    maps, inside = of_maps(maps), box(maps, boxes)
    return end((maps * inside).sum((1, 2)) / whole(maps, inside))


def _grown(start: int, end: int) -> Callable:
    """Boxes that begin and end so many pixels later."""

    def box(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        x0, y0, x1, y1 = boxes.T
        return _mask(maps, x0 + start, y0 + start, x1 + end, y1 + end)

    return box


def _rows_first(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    return _mask(maps, *boxes[:, [1, 0, 3, 2]].T)


def _with_width_and_height(less: int) -> Callable:
    def box(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        x0, y0, w, h = boxes.T
        return _mask(maps, x0, y0, x0 + w - less, y0 + h - less)

    return box


def _rows_cut_twice(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Of map_[y0 : y1 + 1][x0 : x1 + 1]."""
    x0, y0, x1, y1 = boxes.T
    return _mask(maps, x0, y0 + x0, x1, torch.minimum(y0 + x1, y1), columns=False)


def _without_first_pixel(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    inside = _box(maps, boxes)
    inside[:, 0, 0] = False
    return inside


_SLICES_END = (
    "the last row and column of the box are left out; a slice leaves its end out: y0 : y1 + 1"
)

# Boxes that are read wrongly, for energy and IoU.
_WRONG_BOXES = [
    (_SLICES_END, _grown(0, -1)),
    (
        "the last row of the box is left out; a slice leaves its end out: y0 : y1 + 1",
        lambda maps, boxes: _box(maps, boxes - torch.tensor([0, 0, 0, 1])),
    ),
    (
        "the last column of the box is left out; a slice leaves its end out: x0 : x1 + 1",
        lambda maps, boxes: _box(maps, boxes - torch.tensor([0, 0, 1, 0])),
    ),
    (
        "map_[rows][columns] cuts the rows twice; rows and columns go into one pair of brackets",
        _rows_cut_twice,
    ),
    (_START_OUT.replace(": x0 <= x", ""), _grown(1, 0)),
    ("the edge of the box is left out on all sides; it is inside", _grown(1, -1)),
    ("the box is a pixel too large at its end; x1 and y1 are the last inside", _grown(0, 1)),
    ("the box lies a pixel too far to the right and down; counting begins at 0", _grown(1, 1)),
    ("the box lies a pixel too far to the left and up; counting begins at 0", _grown(-1, -1)),
    (_Y_FIRST + ", and in maps[rows, columns] y comes first", _rows_first),
    (_WIDTH_HEIGHT, _with_width_and_height(1)),
    (_WIDTH_HEIGHT, _with_width_and_height(0)),
    (
        "the box is read as x0, x1, y0, y1; it is x0, y0, x1, y1",
        lambda maps, boxes: _mask(maps, *boxes[:, [0, 2, 1, 3]].T),
    ),
    (_COLUMNS_ALONE, lambda maps, boxes: _mask(maps, *boxes.T, rows=False)),
    (_ROWS_ALONE, lambda maps, boxes: _mask(maps, *boxes.T, columns=False)),
    (_FIRST_BOX, lambda maps, boxes: _box(maps, boxes[:1].expand_as(boxes))),
]

_ALL_SUMS = "the sum of all maps is divided by; each map has its own"

_WRONG_ENERGIES = [
    (
        "all pictures are summed together; one number for each is asked for, (B,)",
        {"whole": lambda maps, inside: maps.sum(), "end": torch.sum},
    ),
    (
        "it is divided by the maximum of all maps; divide by the sum of each",
        {"whole": lambda maps, inside: maps.max().clamp_min(1e-12)},
    ),
    *[
        (
            "the small number against 0 / 0 is too large: it presses small maps; 1e-12 will do",
            {"whole": lambda maps, inside, tiny=tiny: maps.sum((1, 2)) + tiny},
        )
        for tiny in (1e-5, 1e-4, 1e-3)
    ],
    (
        "the sum is taken for at least 1, which presses small maps; 1e-12 will do",
        {"whole": lambda maps, inside: maps.sum((1, 2)).clamp_min(1)},
    ),
    *[(cause, {"box": box}) for cause, box in _WRONG_BOXES],
    (
        "it is not divided by the sum of the map; its share is asked for",
        {"whole": lambda maps, inside: 1},
    ),
    (
        "it is divided by the sum outside; the whole map counts, inside and outside",
        {"whole": lambda maps, inside: (maps * ~inside).sum((1, 2)).clamp_min(1e-12)},
    ),
    (
        "it is divided by the sum outside; the whole map counts, inside and outside",
        {"whole": lambda maps, inside: (maps * ~inside).sum((1, 2))},
    ),
    (
        "it is divided by the sum outside; the whole map counts, inside and outside",
        {
            "whole": lambda maps, inside: (maps * ~inside).sum((1, 2)),
            "end": lambda shares: shares.nan_to_num(0.0, posinf=0.0),
        },
    ),
    (
        "it is the share outside the box; that inside is asked for",
        {"end": lambda shares: 1 - shares},
    ),
    (
        "it is the share outside the box; that inside is asked for",
        {"box": lambda maps, boxes: ~_box(maps, boxes)},
    ),
    (
        "it is divided by the number of pixels in the box; divide by the sum of the map",
        {"whole": lambda maps, inside: inside.sum((1, 2))},
    ),
    (
        "it is divided by the number of pixels in the picture; divide by the sum of the map",
        {"whole": lambda maps, inside: inside[0].numel()},
    ),
    (
        "it is divided by the number of pixels in the picture and by the sum of the map",
        {"whole": lambda maps, inside: inside[0].numel() * _whole(maps, inside)},
    ),
    (_ALL_SUMS, {"whole": lambda maps, inside: maps.sum()}),
    (
        "it is divided by the maximum of the map; divide by its sum",
        {"whole": lambda maps, inside: maps.amax((1, 2)).clamp_min(1e-12)},
    ),
    (
        "the squares of the map are summed; energy is here the map itself",
        {"of_maps": torch.square},
    ),
    (
        "it is the share of the picture that the box covers; the map does not count in it",
        {"of_maps": torch.ones_like},
    ),
    (
        "only whether the map is above zero counts in it; sum its values",
        {"of_maps": lambda maps: (maps > 0).float()},
    ),
    (
        "each map is stretched first, which changes its shares; it is taken as it is",
        {"of_maps": _over_map},
    ),
    (
        "each map goes through a softmax first; it is taken as it is",
        {"of_maps": lambda maps: maps.flatten(1).softmax(1).view_as(maps)},
    ),
    (
        "it is in percent; a share, 0..1, is asked for",
        {"end": lambda shares: 100 * shares},
    ),
    (
        "it is the mean over the pictures; one number for each is asked for, (B,)",
        {"end": torch.mean},
    ),
    (
        "it is the sum over the pictures; one number for each is asked for, (B,)",
        {"end": torch.sum},
    ),
    (
        "it is the root of the share; the share itself is asked for",
        {"end": torch.sqrt},
    ),
    (
        "it is whether most of the map lies inside, 1 or 0; the share itself is asked for",
        {"end": torch.round},
    ),
]

for _cause, _difference in _WRONG_ENERGIES:
    ENERGY.mistake(_cause)(partial(_wrong_energy, **_difference))


@ENERGY.mistake("the mean inside is divided by the mean of the map; take their sums")
def _(maps, boxes):
    inside = _box(maps, boxes)
    return (maps * inside).sum((1, 2)) / inside.sum((1, 2)) / maps.mean((1, 2)).clamp_min(1e-12)


@ENERGY.mistake("the highest value inside is divided by the sum; sum all values inside")
def _(maps, boxes):
    return (maps * _box(maps, boxes)).amax((1, 2)) / maps.sum((1, 2)).clamp_min(1e-12)


@ENERGY.mistake("the highest value inside is divided by the highest of all; sum the values")
def _(maps, boxes):
    return (maps * _box(maps, boxes)).amax((1, 2)) / maps.amax((1, 2)).clamp_min(1e-12)


@ENERGY.mistake("the sum outside is subtracted from that inside; divide by the sum of the map")
def _(maps, boxes):
    inside = _box(maps, boxes)
    return (maps * inside).sum((1, 2)) - (maps * ~inside).sum((1, 2))


@ENERGY.mistake("the share of a map of zeros is 0, for nothing lies inside; here it is 1")
def _(maps, boxes):
    return torch.where(maps.sum((1, 2)) > 0, energy_in_box(maps, boxes), 1.0)


@ENERGY.mistake("the share of a map of zeros is 0, not that of the box's area")
def _(maps, boxes):
    area = _box(maps, boxes).float().mean((1, 2))
    return torch.where(maps.sum((1, 2)) > 0, energy_in_box(maps, boxes), area)


@ENERGY.mistake("the small number against 0 / 0 is too large: it presses small maps; 1e-12 will do")
def _(maps, boxes):
    return (maps * _box(maps, boxes)).sum((1, 2)) / (maps.sum((1, 2)) + 1e-6)


@ENERGY.mistake("only the first picture is looked at")
def _(maps, boxes):
    return energy_in_box(maps[:1], boxes[:1])


# --- iou ----------------------------------------------------------------------------------------


def iou(maps: torch.Tensor, boxes: torch.Tensor, threshold: float = 0.2) -> torch.Tensor:
    """Intersection over union of each box and the bright pixels of its map.

    maps: (B, H, W), from zero up. boxes: (B, 4), as for ``pointing_game``. threshold: a share of
    each map's own maximum; pixels that reach it are bright, those at zero never. Returns (B,),
    0..1. Source: the threshold of Zhou et al. 2016, arXiv:1512.04150, 20 % of the maximum.
    """
    ious = torch.zeros(len(maps))

    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        map_ = maps[number]
        bright = (map_ >= threshold * map_.max()) & (map_ > 0)

        box = torch.zeros_like(bright)
        box[y0 : y1 + 1, x0 : x1 + 1] = True

        ious[number] = (bright & box).sum() / (bright | box).sum()

    return ious


def _iou_cases() -> list[tuple]:
    map_ = given([[[0.0, 4.0, 3.0], [0.0, 1.0, 2.0]]])
    tall = given([[[0.0, 0.0], [5.0, 9.0], [0.0, 3.0]]])
    two = given([[[1.0, 0.0, 0.5]], [[8.0, 1.0, 6.0]]])
    apart = given([[[5.0, 0.0, 0.0, 5.0]]])
    lifted = given([[[1.0, 4.0, 3.0], [0.5, 1.0, 2.0]]])
    box = _boxes([1, 0, 2, 1])
    left = _boxes([0, 0, 1, 1])

    with_zeros = torch.rand(8, 5, 7) ** 3
    with_zeros[3] = 0.0
    many, boxes = given(with_zeros), given(_random_boxes(8, 5, 7))

    return [
        ("box and bright pixels are the same", map_, box),
        ("some bright pixels lie outside the box", map_, left),
        ("the threshold is higher", map_, left, 0.7),
        ("a pixel reaches the threshold exactly", map_, left, 0.5),
        ("the threshold is 1: the highest pixel alone", map_, left, 1.0),
        ("the lowest value is above 0", lifted, left),
        ("no bright pixel lies in the box", map_, _boxes([0, 0, 0, 1])),
        ("the box is a single pixel", map_, _boxes([2, 1, 2, 1])),
        ("there are more rows than columns", tall, _boxes([1, 1, 1, 2])),
        ("two bright pixels lie apart", apart, _boxes([0, 0, 1, 0])),
        ("two maps differ in height", two, _boxes([0, 0, 0, 0], [1, 0, 2, 0])),
        ("a map is zero everywhere", given(torch.zeros(1, 2, 3)), left),
        ("there are many pictures", many, boxes),
        ("there are many pictures, and the threshold is 0.5", many, boxes, 0.5),
    ]


def _read_ious(result: Any, args: list) -> torch.Tensor:
    expect_unchanged(args[0], "maps")
    expect_unchanged(args[1], "boxes")
    ious = read_tensor(result, args)
    _expect_no_nan(ious, "its IoU is 0")
    return ious


IOU = Exercise(
    reference=iou,
    hint="two masks of bools: & for the intersection, | for the union, and the sums of both.",
    cases=_iou_cases,
    read=_read_ious,
)


def _bright(maps: torch.Tensor, threshold: float) -> torch.Tensor:
    return (maps >= threshold * maps.amax((1, 2), keepdim=True)) & (maps > 0)


def _count(mask: torch.Tensor) -> torch.Tensor:
    return mask.sum((1, 2)).float()


def _over_union(bright: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    return _count(bright & box) / _count(bright | box).clamp_min(1)


def _wrong_iou(
    maps: torch.Tensor,
    boxes: torch.Tensor,
    threshold: float = 0.2,
    *,
    bright: Callable = _bright,
    box: Callable = _box,
    divide: Callable = _over_union,
    end: Callable = _as_it_is,
) -> torch.Tensor:
    """The four steps with something in them that is not the default here."""
    return end(divide(bright(maps, threshold), box(maps, boxes)))


def _with_short_sides(bright: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """With (x1 - x0) * (y1 - y0) for the area of the box."""
    area = (box.any(2).sum(1) - 1) * (box.any(1).sum(1) - 1)
    both = _count(bright & box)
    return both / (_count(bright) + area - both)


def _surrounding(bright: torch.Tensor) -> torch.Tensor:
    """The smallest box around what is bright, as a mask."""
    rows, columns = bright.any(2), bright.any(1)  # (B, H), (B, W)

    def filled(t: torch.Tensor) -> torch.Tensor:
        """From the first True to the last."""
        return (t.int().cumsum(1) > 0) & (t.int().flip(1).cumsum(1).flip(1) > 0)

    return filled(rows)[:, :, None] & filled(columns)[:, None, :]


_ABSOLUTE_THRESHOLD = (
    "the threshold is taken as it is; it is a share of the map's maximum: threshold * map_.max()"
)
_ZEROS_BRIGHT = (
    "a map of zeros has no bright pixels; there 0 >= threshold · 0 holds everywhere: ask for > 0 "
    "as well"
)
_ONE_FOR_EACH = "one number for each is asked for, (B,)"

_WRONG_IOUS = [
    (
        "the threshold is a share of the highest of all maps, without those that reach it; it is "
        "one of each map's maximum",
        {"bright": lambda maps, t: maps > t * maps.max()},
    ),
    (
        "the threshold is a share of the map's sum; it is one of its maximum",
        {"bright": lambda maps, t: (maps >= t * maps.sum((1, 2), keepdim=True)) & (maps > 0)},
    ),
    (
        "1 is added to the union; box and bright pixels are never both empty",
        {"divide": lambda bright, box: _count(bright & box) / (_count(bright | box) + 1)},
    ),
    (
        "it is the union's share of the picture; the intersection over the union is asked for",
        {"divide": lambda bright, box: _count(bright | box) / box[0].numel()},
    ),
    (
        "it is whether half of both agree; the IoU itself is asked for",
        {"end": lambda ious: (ious > 0.5).float()},
    ),
    *[(cause, {"box": box}) for cause, box in _WRONG_BOXES],
    (_ABSOLUTE_THRESHOLD, {"bright": lambda maps, t: (maps >= t) & (maps > 0)}),
    (_ABSOLUTE_THRESHOLD, {"bright": lambda maps, t: maps > t}),
    (
        "pixels that reach the threshold exactly are bright as well: >=, not >",
        {"bright": lambda maps, t: maps > t * maps.amax((1, 2), keepdim=True)},
    ),
    (_ZEROS_BRIGHT, {"bright": lambda maps, t: maps >= t * maps.amax((1, 2), keepdim=True)}),
    (
        "the threshold is a share of the highest of all maps; it is one of each map's maximum",
        {"bright": lambda maps, t: (maps >= t * maps.max()) & (maps > 0)},
    ),
    (
        "the threshold is a share of the map's mean; it is one of its maximum",
        {"bright": lambda maps, t: (maps >= t * maps.mean((1, 2), keepdim=True)) & (maps > 0)},
    ),
    (
        "the threshold is a share of the pixels, as a quantile; it is one of the map's maximum",
        {
            "bright": lambda maps, t: (
                (maps >= maps.flatten(1).quantile(1 - t, dim=1)[:, None, None]) & (maps > 0)
            )
        },
    ),
    (
        "the threshold is a share of the pixels, as a quantile; it is one of the map's maximum",
        {
            "bright": lambda maps, t: (
                (maps >= maps.flatten(1).quantile(t, dim=1)[:, None, None]) & (maps > 0)
            )
        },
    ),
    (
        "the threshold lies between lowest and highest; it is a share of the maximum alone",
        {"bright": lambda maps, t: (_over_map(maps) >= t) & (maps > 0)},
    ),
    (
        "the dark pixels are taken, below the threshold; the bright ones count",
        {"bright": lambda maps, t: ~_bright(maps, t)},
    ),
    (
        "the dark pixels are taken, below the threshold; the bright ones count",
        {"bright": lambda maps, t: maps < t * maps.amax((1, 2), keepdim=True)},
    ),
    (
        "the dark pixels are taken, below the threshold; the bright ones count",
        {"bright": lambda maps, t: maps <= t * maps.amax((1, 2), keepdim=True)},
    ),
    (
        "all pixels above zero are bright, whatever the threshold is",
        {"bright": lambda maps, t: maps > 0},
    ),
    (
        "only the highest pixel is bright, whatever the threshold is",
        {"bright": lambda maps, t: _bright(maps, 1.0)},
    ),
    (
        "1 − threshold is taken for the threshold",
        {"bright": lambda maps, t: _bright(maps, 1 - t)},
    ),
    (
        "the smallest rectangle around the bright pixels is compared; the pixels themselves count",
        {"bright": lambda maps, t: _surrounding(_bright(maps, t))},
    ),
    (
        "it is divided by the box alone; the union has the bright pixels outside as well",
        {"divide": lambda bright, box: _count(bright & box) / _count(box)},
    ),
    (
        "it is divided by the bright pixels alone; the union has the rest of the box as well",
        {"divide": lambda bright, box: _count(bright & box) / _count(bright).clamp_min(1)},
    ),
    (
        "in the sum of both areas the intersection is counted twice; the union is box | bright",
        {"divide": lambda bright, box: _count(bright & box) / (_count(bright) + _count(box))},
    ),
    (
        "the sides of the box are x1 - x0 and y1 - y0; both ends are inside, so each is 1 longer",
        {"divide": _with_short_sides},
    ),
    (
        "it is the Dice score, twice the intersection over the sum of both areas; the IoU divides "
        "by the union",
        {"divide": lambda bright, box: 2 * _count(bright & box) / (_count(bright) + _count(box))},
    ),
    (
        "it is not divided by the union: this is the number of bright pixels in the box",
        {"divide": lambda bright, box: _count(bright & box)},
    ),
    (
        "it is divided by all pixels of the picture; divide by the union",
        {"divide": lambda bright, box: _count(bright & box) / box[0].numel()},
    ),
    (
        "it is divided by the smaller of both areas; divide by the union",
        {
            "divide": lambda bright, box: (
                _count(bright & box) / torch.minimum(_count(bright), _count(box)).clamp_min(1)
            )
        },
    ),
    (
        "it is divided by the larger of both areas; divide by the union",
        {
            "divide": lambda bright, box: (
                _count(bright & box) / torch.maximum(_count(bright), _count(box))
            )
        },
    ),
    (
        "it is divided by what belongs to one of both alone, ^; the union is |",
        {"divide": lambda bright, box: _count(bright & box) / _count(bright ^ box).clamp_min(1)},
    ),
    (
        "it is divided by what belongs to one of both alone, ^; the union is |",
        {"divide": lambda bright, box: _count(bright & box) / _count(bright ^ box)},
    ),
    (
        "union and intersection are exchanged",
        {"divide": lambda bright, box: _count(bright | box) / _count(bright & box)},
    ),
    (
        "it is the share of pixels that agree, those outside included; divide & by |",
        {"divide": lambda bright, box: (bright == box).float().mean((1, 2))},
    ),
    (
        "// gives whole numbers; divide by /",
        {"divide": lambda bright, box: _over_union(bright, box).floor()},
    ),
    (
        "it is the mean over the pictures; " + _ONE_FOR_EACH,
        {"end": torch.mean},
    ),
    (
        "all pictures are counted together; " + _ONE_FOR_EACH,
        {"divide": lambda bright, box: (bright & box).sum() / (bright | box).sum()},
    ),
    (
        "it is the distance, 1 − IoU",
        {"end": lambda ious: 1 - ious},
    ),
    (
        "it is in percent; a share, 0..1, is asked for",
        {"end": lambda ious: 100 * ious},
    ),
    (
        "it is whether half of both agree; the IoU itself is asked for",
        {"end": lambda ious: (ious >= 0.5).float()},
    ),
]

for _cause, _difference in _WRONG_IOUS:
    IOU.mistake(_cause)(partial(_wrong_iou, **_difference))


@IOU.mistake("the values of the map are summed; bright pixels are counted, each as one")
def _(maps, boxes, threshold=0.2):
    bright = maps * _bright(maps, threshold)
    box = _box(maps, boxes)
    return (bright * box).sum((1, 2)) / torch.where(box, 1.0, bright).sum((1, 2))


@IOU.mistake(
    "the values of the map are compared with the box; bright pixels are counted, each as one"
)
def _(maps, boxes, threshold=0.2):
    box = _box(maps, boxes).float()
    return torch.minimum(maps, box).sum((1, 2)) / torch.maximum(maps, box).sum((1, 2))


@IOU.mistake("the IoU of a map of zeros is 0, for nothing is bright; here it is 1")
def _(maps, boxes, threshold=0.2):
    return torch.where(maps.amax((1, 2)) > 0, iou(maps, boxes, threshold), 1.0)


@IOU.mistake("only the first picture is looked at")
def _(maps, boxes, threshold=0.2):
    return iou(maps[:1], boxes[:1], threshold)


# --- deletion -----------------------------------------------------------------------------------


def deletion(
    predict: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    map_: torch.Tensor,
    steps: int,
) -> float:
    """The mean probability of a class while the most important pixels are greyed, most first.

    predict: from pictures (N, 3, H, W) to the probability of the class, (N,). image: (3, H, W),
    normalised, so that 0 is grey, the mean colour. map_: (H, W), how much each pixel counts; of
    equals any goes first. steps: equal parts in which the pixels go, all three channels at once;
    H · W is a multiple of it. The mean is over steps + 1 pictures, the whole one and the grey one
    among them. Source: Petsiuk et al. 2018, RISE, arXiv:1806.07421.
    """
    order = map_.flatten().argsort(descending=True)  # (H·W,), places, counted row by row

    picture = image.clone()
    probabilities = [predict(picture[None])]

    for places in order.chunk(steps):
        picture.flatten(1)[:, places] = 0  # flatten gives a view: the picture itself changes
        probabilities.append(predict(picture[None]))

    return torch.cat(probabilities).mean().item()


class Seen:
    """A network of a single layer, ended by a sigmoid: how much of what it likes it sees."""

    def __init__(self, likes: torch.Tensor) -> None:
        self.likes = likes

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if getattr(images, "shape", ())[1:] != self.likes.shape:
            raise ValueError(
                "predict takes pictures (N, 3, H, W), one of them as image[None]; got "
                f"{tuple(getattr(images, 'shape', ()))}"
            )
        return (images * self.likes).sum((1, 2, 3)).sigmoid()

    def __repr__(self) -> str:
        return "a network"


def _seen(height: int, width: int) -> tuple[Seen, torch.Tensor]:
    """A network and a picture; the mean of the picture is not grey."""
    pixels = torch.arange(1.0, 1 + height * width).view(height, width) / (height * width)
    likes = pixels * torch.tensor([1.0, -0.5, 0.75])[:, None, None]
    return Seen(likes), given(torch.randn(3, height, width) * 2 + 0.5)


def _deletion_cases() -> list[tuple]:
    network, picture = _seen(1, 2)
    wide, wide_picture = _seen(2, 4)
    tall, tall_picture = _seen(3, 2)
    large, large_picture = _seen(6, 8)

    small_map = given([[0.2, 1.0]])
    wide_map = given([[0.3, 0.9, 0.1, 0.7], [1.0, 0.0, 0.5, 0.6]])
    tall_map = given([[0.4, 0.0], [0.8, 0.3], [0.5, 1.0]])

    # two heights alone: pixels of one height are alike, so that their order makes no difference
    even = Seen(torch.tensor([0.9, -0.2, 0.4])[:, None, None].expand(3, 2, 4))
    heights = given([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
    even_picture = given(torch.stack([heights + 0.5, heights - 0.3, 0.2 - heights]))

    return [
        ("the map has two pixels, and both go at once", network, picture, small_map, 1),
        ("the map has two pixels, and one goes after the other", network, picture, small_map, 2),
        ("there are more columns than rows", wide, wide_picture, wide_map, 8),
        ("two pixels go at once", wide, wide_picture, wide_map, 4),
        ("four pixels go at once", wide, wide_picture, wide_map, 2),
        ("there are more rows than columns", tall, tall_picture, tall_map, 3),
        ("pixels are equally important", even, even_picture, heights, 4),
        ("nearly all pixels are at zero", wide, wide_picture, given(wide_map.clamp_min(0.7)), 1),
        ("there are many pixels", large, large_picture, given(torch.rand(6, 8)), 12),
    ]


def _read_deletion(result: Any, args: list) -> float:
    expect_unchanged(args[1], "image")
    expect_unchanged(args[2], "map_")
    return read_number(result, args)


DELETION = Exercise(
    reference=deletion,
    hint="map_.flatten().argsort(descending=True) gives the places in the order of their turn.",
    cases=_deletion_cases,
    read=_read_deletion,
)


def _most_first(map_: torch.Tensor) -> torch.Tensor:
    return map_.flatten().argsort(descending=True)


def _first_part(order: torch.Tensor, step: int, steps: int) -> torch.Tensor:
    return order[: len(order) * step // steps]


def _greyed(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    picture = image.clone()
    picture.flatten(1)[:, places] = 0
    return picture


def _painted(colour: Callable) -> Callable:
    """With another colour than grey. colour: image → (3, 1) or a number."""

    def paint(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        picture = image.clone()
        picture.flatten(1)[:, places] = colour(image)
        return picture

    return paint


def _in_channels(channels: slice) -> Callable:
    def paint(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        picture = image.clone()
        picture.flatten(1)[channels, places] = 0
        return picture

    return paint


def _row_by_height(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    picture = image.clone()
    picture[:, places // image.shape[1], places % image.shape[1]] = 0
    return picture


def _wrong_deletion(
    predict: Callable,
    image: torch.Tensor,
    map_: torch.Tensor,
    steps: int,
    *,
    order: Callable = _most_first,
    part: Callable = _first_part,
    numbers: Callable = lambda steps: range(steps + 1),
    paint: Callable = _greyed,
    end: Callable = torch.mean,
) -> torch.Tensor:
    """The loop over the steps with something in it that is not the default here."""
    places = order(map_)
    pictures = [paint(image, part(places, step, steps)) for step in numbers(steps)]
    return end(torch.cat([predict(picture[None]) for picture in pictures]))


_WHITE = "pixels are set to 1, a light grey; 0 is the mean colour of normalised pictures"
_PICTURES_MEAN = "pixels are set to the mean of the picture, not to 0, the mean colour of all"
_LEAST_FIRST = (
    "the least important pixels go first, or the important ones come back first, which is "
    "insertion; here these go first, and stay away"
)

_WRONG_DELETIONS = [
    (
        "pixels are set to −1; 0 is the mean colour of normalised pictures",
        {"paint": _painted(lambda image: -1.0)},
    ),
    (
        "pixels are set to the brightest value of the picture; 0 is the mean colour",
        {"paint": _painted(torch.amax)},
    ),
    (
        "it is the mean fall from one step to the next; the mean of all probabilities is asked for",
        {"end": lambda p: (p[:-1] - p[1:]).mean()},
    ),
    (
        "it is an area, not divided by the number of steps; the mean is asked for",
        {"end": lambda p: torch.trapezoid(p)},
    ),
    (
        "it is the number of a step; the mean of the probabilities is asked for",
        {"end": lambda p: p.argmin()},
    ),
    (
        "argsort sorts each row on its own; flatten the map first",
        {"order": lambda map_: map_.argsort(descending=True).flatten()},
    ),
    (_LEAST_FIRST, {"order": lambda map_: map_.flatten().argsort()}),
    (_LEAST_FIRST, {"order": lambda map_: _most_first(map_).flip(0)}),
    (
        "the map is not looked at: pixels go row by row",
        {"order": lambda map_: torch.arange(map_.numel())},
    ),
    (
        "argsort gives places in the order of their turn, not ranks; here pixel i goes at turn "
        "order[i]",
        {"order": lambda map_: _most_first(map_).argsort()},
    ),
    (
        "places are counted column by column; flatten counts row by row",
        {"order": lambda map_: map_.T.flatten().argsort(descending=True)},
    ),
    (
        "the mean leaves out the whole picture; it is the first of steps + 1",
        {"numbers": lambda steps: range(1, steps + 1)},
    ),
    (
        "the mean leaves out the last picture, grey all over; it is one of steps + 1",
        {"numbers": lambda steps: range(steps)},
    ),
    (
        "nothing is greyed: it is the probability of the whole picture alone",
        {"numbers": lambda steps: range(1)},
    ),
    (
        "it is the probability of the grey picture alone: that of the last step, or of one tensor "
        "that is put aside at every step without clone()",
        {"end": lambda p: p[-1]},
    ),
    (
        "the probabilities are summed; their mean is asked for",
        {"end": torch.sum},
    ),
    (
        "the sum of steps + 1 probabilities is divided by steps",
        {"end": lambda p: p.sum() / max(len(p) - 1, 1)},
    ),
    (
        "it is the area by trapezoids, in which both ends count half; the plain mean is asked for",
        {"end": lambda p: torch.trapezoid(p, dx=1 / max(len(p) - 1, 1))},
    ),
    (
        "it is the fall of the probability; the mean of the probability itself is asked for",
        {"end": lambda p: (p[0] - p).mean()},
    ),
    (
        "it is the fall from the first to the last; the mean of all is asked for",
        {"end": lambda p: p[0] - p[-1]},
    ),
    (
        "1 − probability is averaged; the probability itself is asked for",
        {"end": lambda p: 1 - p.mean()},
    ),
    (
        "it is divided by the probability of the whole picture; the plain mean is asked for",
        {"end": lambda p: p.mean() / p[0]},
    ),
    ("it is the median of the probabilities; their mean is asked for", {"end": torch.median}),
    (
        "it is the lowest probability; the mean of all is asked for",
        {"end": torch.amin},
    ),
    (
        "it is the highest probability; the mean of all is asked for",
        {"end": torch.amax},
    ),
    (
        "all probabilities are given; a single number, their mean, is asked for",
        {"end": _as_it_is},
    ),
    (
        "one pixel goes at each step; in each an equal part goes, H · W / steps pixels",
        {"part": lambda order, step, steps: order[:step]},
    ),
    (
        "the pixels of the part before come back; once greyed, they stay grey",
        {
            "part": lambda order, step, steps: order[
                len(order) * max(step - 1, 0) // steps : len(order) * step // steps
            ]
        },
    ),
    (
        "the same pixels go at every step, those of the first part; the next ones follow",
        {"part": lambda order, step, steps: order[: len(order) // steps * min(step, 1)]},
    ),
    (
        "a part of `steps` pixels goes at each step; it is H · W / steps of them",
        {"part": lambda order, step, steps: order[: step * steps]},
    ),
    (
        "one pixel too many goes at each step",
        {
            "part": lambda order, step, steps: order[
                : len(order) * step // steps + (1 if step else 0)
            ]
        },
    ),
    (_WHITE, {"paint": _painted(lambda image: 1.0)}),
    (
        "pixels are set to 0.5; 0 is the mean colour of normalised pictures",
        {"paint": _painted(lambda image: 0.5)},
    ),
    (_PICTURES_MEAN, {"paint": _painted(lambda image: image.flatten(1).mean(1, keepdim=True))}),
    (_PICTURES_MEAN, {"paint": _painted(torch.mean)}),
    (
        "pixels are set to the darkest value of the picture; 0 is the mean colour",
        {"paint": _painted(torch.amin)},
    ),
    (
        "pixels are greyed in the first channel alone; all three go",
        {"paint": _in_channels(slice(0, 1))},
    ),
    (
        "pixels are greyed in the last channel alone; all three go",
        {"paint": _in_channels(slice(2, 3))},
    ),
    (
        "pixels become half as bright; they go to 0",
        {
            "paint": lambda image, places: (image + _greyed(image, places)) / 2,
        },
    ),
    (
        "the place is divided by the height; row by row it is counted, so divide by the width",
        {"paint": _row_by_height},
    ),
]

for _cause, _difference in _WRONG_DELETIONS:
    DELETION.mistake(_cause)(partial(_wrong_deletion, **_difference))


@DELETION.mistake(
    "the first and the last picture are left out, the whole one and the grey one; they count"
)
def _(predict, image, map_, steps):
    order = _most_first(map_)
    pictures = [_greyed(image, _first_part(order, step, steps)) for step in range(1, steps)]
    return torch.cat([predict(picture[None]) for picture in pictures]).mean()


@DELETION.mistake(
    "pixels of equal height go all at once; in each step goes an equal part, H · W / steps"
)
def _(predict, image, map_, steps):
    heights = map_.flatten().sort(descending=True).values
    probabilities = [predict(image[None])]
    for step in range(1, steps + 1):
        lowest = heights[len(heights) * step // steps - 1]
        probabilities.append(predict((image * (map_ < lowest))[None]))
    return torch.cat(probabilities).mean()


@DELETION.mistake(
    "the picture is multiplied by what the map leaves, so that pixels fade; they go one part after "
    "the other"
)
def _(predict, image, map_, steps):
    faded = [image * (1 - map_ * step / steps) for step in range(steps + 1)]
    return predict(torch.stack(faded)).mean()


@DELETION.mistake(
    "the map is compared with thresholds at equal distances; in each step goes an equal part of "
    "the pixels, H · W / steps"
)
def _(predict, image, map_, steps):
    kept = [image * (map_ <= 1 - step / steps) for step in range(steps + 1)]
    return predict(torch.stack(kept)).mean()


@DELETION.mistake(
    "the map is compared with thresholds at equal distances; in each step goes an equal part of "
    "the pixels, H · W / steps"
)
def _(predict, image, map_, steps):
    kept = [image * (map_ < 1 - step / steps) for step in range(steps + 1)]
    return predict(torch.stack(kept)).mean()


@DELETION.mistake("the picture is multiplied by the map, once; its pixels go part by part")
def _(predict, image, map_, steps):
    return predict((image * map_)[None]).mean()


@DELETION.mistake("the picture is multiplied by 1 − map, once; its pixels go part by part")
def _(predict, image, map_, steps):
    return predict((image * (1 - map_))[None]).mean()


@DELETION.mistake(
    "the map is compared with shares of its maximum; in each step goes an equal part of the "
    "pixels, H · W / steps"
)
def _(predict, image, map_, steps):
    kept = [image * (map_ < map_.max() * (1 - step / steps)) for step in range(steps + 1)]
    return predict(torch.stack(kept)).mean()


@DELETION.mistake("the steps are whole pixels, one after the other, whatever `steps` is")
def _(predict, image, map_, steps):
    return deletion(predict, image, map_, map_.numel())


EXERCISES = [
    CAM,
    WEIGHTS,
    GRAD_CAM,
    STRETCH,
    POINTING,
    ENERGY,
    IOU,
    DELETION,
]
