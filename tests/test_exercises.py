"""The exercise checkers: right answers pass, each usual mistake is refused with its cause."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.exercises import EXERCISES, exercise
from course_lib.exercises.session2 import (
    grad_cam_map,
    one_cycle_lr,
    pad_crop,
    top_k_accuracy,
    weight_decay_groups,
)
from course_lib.files import CourseError

# The references, against other implementations


def test_top_k_accuracy_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = torch.randn(40, 6), torch.randint(6, (40,))
    for k in (1, 2, 5):
        expected = metrics.top_k_accuracy_score(labels, logits.numpy(), k=k, labels=range(6))
        assert top_k_accuracy(logits, labels, k) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("total_steps", "warm_up", "start_div"),
    [(10, 0.3, 25), (17, 0.3, 25), (100, 0.2, 10), (7, 0.5, 4), (1000, 0.45, 25)],
)
def test_one_cycle_lr_is_torchs_schedule_step_by_step(total_steps, warm_up, start_div):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.4, total_steps=total_steps, pct_start=warm_up, div_factor=start_div
    )
    for step in range(total_steps):
        expected = optimizer.param_groups[0]["lr"]
        assert one_cycle_lr(step, total_steps, 0.4, warm_up, start_div) == pytest.approx(expected)
        optimizer.step()
        if step < total_steps - 1:
            scheduler.step()


def test_pad_crop_agrees_with_numpy():
    images = torch.randint(256, (5, 3, 12, 9), dtype=torch.uint8)
    dy, dx = torch.randint(9, (2, 5))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    cropped = pad_crop(images, dy, dx)
    assert cropped.dtype == torch.uint8
    for picture, found, y, x in zip(padded, cropped, dy, dx, strict=True):
        np.testing.assert_array_equal(found, picture[:, y : y + 12, x : x + 9])


def test_weight_decay_groups_of_resnet18_by_layer_type():
    model = pytest.importorskip("torchvision").models.resnet18(num_classes=10)
    weights = [
        layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    decayed, not_decayed = weight_decay_groups(model)
    assert {id(p) for p in decayed} == {id(weight) for weight in weights}
    assert len(decayed) + len(not_decayed) == len(list(model.parameters()))


def test_grad_cam_map_agrees_with_loops():
    activations, gradients = torch.rand(3, 4, 5), torch.randn(3, 4, 5)
    for y in range(4):
        for x in range(5):
            total = sum(gradients[c].mean().item() * activations[c, y, x].item() for c in range(3))
            assert grad_cam_map(activations, gradients)[y, x].item() == pytest.approx(
                max(total, 0), abs=1e-6
            )


# Right answers, written in another way


def top_k_by_rank(logits, labels, k):
    own = logits.gather(1, labels[:, None])
    return ((logits > own).sum(1) < k).double().mean()


def top_k_by_loop(logits, labels, k):
    hits = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        hits += label in sorted(range(len(row)), key=lambda c: -row[c])[:k]
    return hits / len(labels)


def top_k_in_numpy(scores, target, number):  # other names
    order = np.argsort(scores.numpy(), axis=1)[:, -number:]
    return np.float32((order == target.numpy()[:, None]).any(1).mean())


def one_cycle_of_torch(step, total_steps, peak_lr, warm_up=0.3, start_div=25):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_lr, total_steps, pct_start=warm_up, div_factor=start_div
    )
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return scheduler.get_last_lr()[0]


def one_cycle_in_float32(step, total_steps, peak_lr, warm_up=0.3, start_div=25):
    low, top, last = peak_lr / start_div, warm_up * total_steps - 1, total_steps - 1
    if step > top:
        part, a, b = (step - top) / (last - top), peak_lr, low / 10_000
    else:
        part, a, b = step / top, low, peak_lr
    half = (1 - torch.cos(torch.tensor(math.pi * part))) / 2
    return a * (1 - half) + b * half


def one_cycle_to_exactly_zero(step, total_steps, peak_lr, warm_up=0.3, start_div=25):
    if step == total_steps - 1:
        return 0
    return one_cycle_lr(step, total_steps, peak_lr, warm_up, start_div)


def pad_crop_by_index(images, dy, dx, pad=4):
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect").byte()
    height, width = images.shape[2:]
    rows, columns = dy[:, None] + torch.arange(height), dx[:, None] + torch.arange(width)
    batch = torch.arange(len(images))[:, None, None]
    return padded[batch, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def pad_crop_in_numpy(images, dy, dx, pad=4):
    height, width = images.shape[2:]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), "reflect")
    return torch.tensor(
        np.stack(
            [p[:, y : y + height, x : x + width] for p, y, x in zip(padded, dy, dx, strict=True)]
        )
    )


def groups_by_layer(model):
    decayed, rest = [], []
    for layer in model.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            weight = name == "weight" and isinstance(layer, nn.Conv2d | nn.Linear)
            (decayed if weight else rest).append(parameter)
    return decayed[::-1], tuple(rest)


def cam_by_einsum(activations, gradients):
    weights = gradients.double().mean((-1, -2))
    return torch.einsum("c,chw->hw", weights, activations.double()).clamp(min=0)


def cam_by_loop(activations, gradients):
    total = torch.zeros(activations.shape[1:])
    for channel, gradient in zip(activations, gradients, strict=True):
        total += gradient.mean() * channel
    return nn.Parameter(F.relu(total))  # still tied to a graph


RIGHT = [
    *[(name, task.reference) for name, task in EXERCISES.items()],
    ("top_k_accuracy", top_k_by_rank),
    ("top_k_accuracy", top_k_by_loop),
    ("top_k_accuracy", top_k_in_numpy),
    ("one_cycle_lr", one_cycle_of_torch),
    ("one_cycle_lr", one_cycle_in_float32),
    ("pad_crop", pad_crop_by_index),
    ("pad_crop", pad_crop_in_numpy),
    ("weight_decay_groups", groups_by_layer),
    ("grad_cam_map", cam_by_einsum),
    ("grad_cam_map", cam_by_loop),
]


@pytest.mark.parametrize(
    ("name", "answer"), RIGHT, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_right_answer_is_kept(name, answer, capsys):
    assert exercise(name, answer) is answer
    assert capsys.readouterr().out == f"✓ {name}: right. Your code is used from here on.\n"


# The usual mistakes, each with words of its cause


def refused(name, answer, capsys):
    """What the checker prints about a wrong answer."""
    assert exercise(name, answer) is EXERCISES[name].reference
    text = capsys.readouterr().out
    assert text.startswith(f"✗ {name}: wrong, so the reference is used.\n  Cause: ")
    assert "Smallest input that shows it: " in text
    assert re.search(r"expected .+", text, re.IGNORECASE)
    return text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, y, k: (x.argmax(1) == y).float().mean().item(), "only the largest logit"),
        (
            lambda x, y, k: (x.topk(k).indices == y[:, None]).any(1).sum().item(),
            "counted, but not divided",
        ),
        (lambda x, y, k: (x.topk(k, 0).indices == y[:, None]).any(1).float().mean(), "dim=0"),
        (
            lambda x, y, k: x.topk(k, 0)[1].eq(y.view(1, -1)).any().float(),
            "(dim=0|goes wrong when|raises)",
        ),
        (
            lambda x, y, k: (x.topk(k, largest=False).indices == y[:, None]).any(1).float().mean(),
            "k smallest",
        ),
        (lambda x, y, k: (x.argsort(1)[:, :k] == y[:, None]).any(1).float().mean(), "k smallest"),
        (lambda x, y, k: (x.topk(k).indices == y[:, None]).float().mean(), "divided by B · k"),
        (lambda x, y, k: (x.topk(k).indices[:, k - 1] == y).float().mean(), "only the k-th guess"),
        (lambda x, y, k: 100 * (x.topk(k).indices == y[:, None]).any(1).float().mean(), "percent"),
        (
            lambda x, y, k: (x.topk(k).indices == y[:, None]).any(1).float(),
            r"shape \(1,\).* single number",
        ),
        (lambda x, y, k: "all", "returns a str, expected a number"),
        (lambda x, y, k: 1.0, "goes wrong when one of two labels is hit"),
        (lambda x, y, k: float("nan"), "goes wrong when k is 1"),
    ],
)
def test_top_k_mistakes(answer, words, capsys):
    assert re.search(words, refused("top_k_accuracy", answer, capsys))


def cycle(*, end=lambda div: 1 / div / 1e4, shift=0, last=0, up=None, down=None, whole=float):
    """Schedules beside the right one. ``end``: share of the peak; ``up``, ``down``: part → 0..1."""

    def half_cosine(part):
        return 0.5 - 0.5 * math.cos(math.pi * part)

    def answer(step, total, peak, warm_up=0.3, div=25):
        top = whole(warm_up * total - 1 + shift)
        if step <= top:
            return peak / div + (peak - peak / div) * (up or half_cosine)(step / top)
        part = (step - top) / (total - 1 + last - top)
        return peak + peak * (end(div) - 1) * (down or half_cosine)(part)

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (cycle(end=lambda div: 1 / div), "ends at the starting rate"),
        (cycle(end=lambda div: 1e-4), "10,000th of the peak"),
        (cycle(end=lambda div: 0.01), "goes wrong when the last step comes"),
        (cycle(shift=1), "the peak comes one step late"),
        (cycle(shift=1, last=1), "the peak and the end come one step late"),
        (cycle(last=1), "the end comes one step late"),
        (cycle(whole=int), "step of the peak is rounded"),
        (cycle(whole=round), "goes wrong when the peak falls between two steps"),
        (cycle(up=lambda part: part, down=lambda part: part), "the rate is linear"),
        (cycle(up=lambda part: part), "the way up is linear"),
        (cycle(down=lambda part: part), "the way down is linear"),
        (
            cycle(
                up=lambda part: 1 - math.cos(math.pi / 2 * part),
                down=lambda part: 1 - math.cos(math.pi / 2 * part),
            ),
            "quarter",
        ),
        (
            cycle(
                up=lambda part: math.sin(math.pi / 2 * part),
                down=lambda part: 1 - math.cos(math.pi / 2 * part),
            ),
            "quarter",
        ),
        (
            lambda step, total, peak, *rest: (
                peak * (1 + math.cos(math.pi * step / (total - 1))) / 2
            ),
            "warm-up is missing",
        ),
        (
            cycle(
                up=lambda part: (1 - math.cos(math.pi / 2 * part)) / 2,
                down=lambda part: (1 - math.cos(math.pi / 2 * part)) / 2,
            ),
            "half of the way",
        ),
        (
            lambda step, total, peak, *rest: one_cycle_lr(step, total, peak),
            "warm_up and start_div are not the defaults",
        ),
        (one_cycle_to_exactly_zero, "ends at zero; the last rate is a 10,000th"),
        (lambda step, total, peak, *rest: one_cycle_lr(step, total, 1.0, *rest), "goes wrong when"),
        (
            lambda step, total, peak, *rest: (
                one_cycle_lr(step, total, peak, *rest) if step < 3 else None
            ),
            "a return is missing",
        ),
    ],
)
def test_one_cycle_mistakes(answer, words, capsys):
    assert re.search(words, refused("one_cycle_lr", answer, capsys))


def crop(images, dy, dx, pad=4, mode="reflect"):
    height, width = images.shape[2:]
    padded = F.pad(images.float(), (pad,) * 4, mode=mode).byte()
    return torch.stack(
        [p[:, y : y + height, x : x + width] for p, y, x in zip(padded, dy, dx, strict=True)]
    )


def one_window_for_all(images, dy, dx, pad=4):
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect").byte()
    height, width = images.shape[2:]
    return padded[:, :, dy[0] : dy[0] + height, dx[0] : dx[0] + width]


def square_windows(images, dy, dx, pad=4):
    size = images.shape[-1]
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect").byte()
    return torch.stack(
        [p[:, y : y + size, x : x + size] for p, y, x in zip(padded, dy, dx, strict=True)]
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (one_window_for_all, "all pictures get the same window"),
        (lambda x, dy, dx, *pad: crop(x, dx, dy, *pad), "swapped"),
        (lambda x, dy, dx, pad=4: crop(x, dy, dx, pad, "constant"), "zeros"),
        (
            lambda x, dy, dx, pad=4: crop(x, dy, dx, pad, "constant").float(),
            r"zeros(.|\n)*got \[\[\[\[0.0, ",
        ),
        (lambda x, dy, dx, pad=4: crop(x, dy, dx, pad, "replicate"), "repeats the last pixel"),
        (lambda x, dy, dx, pad=4: x, "nothing is cropped"),
        (
            lambda x, dy, dx, pad=4: F.pad(x.float(), (pad,) * 4, mode="reflect"),
            "no window is cut out",
        ),
        (lambda x, dy, dx, *pad: crop(x, dy, dx, *pad).float(), "no longer uint8"),
        (lambda x, dy, dx, *pad: crop(x, dy, dx, *pad).long(), "no longer uint8"),
        (lambda x, dy, dx, *pad: crop(x, dy, dx, *pad).numpy(), "ndarray, expected a tensor"),
        (square_windows, r"height and width differ(.|\n)*Expected shape \(4, 3, 9, 7\)"),
        (
            lambda x, dy, dx, pad=1: crop(x, dy, dx, pad),
            "(raises|goes wrong when height and width)",
        ),
        (
            lambda x, dy, dx, *pad: crop(x, *torch.randint(0, 3, (2, len(x))), *pad),
            "goes wrong when",
        ),
    ],
)
def test_pad_crop_mistakes(answer, words, capsys):
    assert re.search(words, refused("pad_crop", answer, capsys))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda m: (list(m.parameters()), []), "everything is decayed"),
        (lambda m: ([], list(m.parameters())), "nothing is decayed"),
        (
            lambda m: (
                [p for n, p in m.named_parameters() if "bias" not in n],
                [p for n, p in m.named_parameters() if "bias" in n],
            ),
            "weights of norms are decayed",
        ),
        (
            lambda m: (
                [p for n, p in m.named_parameters() if "bn" not in n and "bias" not in n],
                [p for n, p in m.named_parameters() if "bn" in n or "bias" in n],
            ),
            "weights of norms are decayed",
        ),
        (
            lambda m: (
                [
                    p
                    for c in m.modules()
                    if isinstance(c, nn.Conv2d | nn.Linear)
                    for p in c.parameters()
                ],
                [
                    p
                    for c in m.modules()
                    if isinstance(c, nn.BatchNorm2d | nn.GroupNorm)
                    for p in c.parameters()
                ],
            ),
            "biases of convolutions",
        ),
        (lambda m: weight_decay_groups(m)[::-1], "swapped"),
        (
            lambda m: (
                [p for p in m.parameters() if p.ndim == 4],
                [p for p in m.parameters() if p.ndim == 1],
            ),
            "parameters are lost.*: 0.weight",
        ),
        (
            lambda m: (
                [p for c in m.modules() for p in c.parameters() if p.ndim > 1],
                [p for p in m.parameters() if p.ndim == 1],
            ),
            "more than once: 0.weight",
        ),
        (
            lambda m: ([p for p in m.parameters()], [p for p in m.parameters() if p.ndim == 1]),
            "more than once: 0.bias",
        ),
        (
            lambda m: (
                [p for p in m.parameters() if p.ndim > 1],
                [c.bias for c in m.modules() if hasattr(c, "bias")]
                + [c.weight for c in m.modules() if isinstance(c, nn.BatchNorm2d | nn.GroupNorm)],
            ),
            "NoneType that is not one of the model's",
        ),
        (lambda m: ([n for n, p in m.named_parameters() if p.ndim > 1], []), "hold a str"),
        (lambda m: ([p.detach() for p in m.parameters()], []), "not one of the model's parameters"),
        (lambda m: [p for p in m.parameters() if p.ndim > 1], "does not return two lists"),
        (lambda m: (p for p in m.parameters() if p.ndim > 1), "does not return two lists"),
        (lambda m: (set(m.parameters()), set()), "does not return two lists"),
    ],
)
def test_weight_decay_mistakes(answer, words, capsys):
    assert re.search(words, refused("weight_decay_groups", answer, capsys))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a, g: (g.mean((1, 2), keepdim=True) * a).sum(0), "ReLU at the end is missing"),
        (
            lambda a, g: (g.amax((1, 2), keepdim=True) * a).sum(0).relu(),
            "the maximum of its gradients",
        ),
        (lambda a, g: (g.sum((1, 2), keepdim=True) * a).sum(0).relu(), "the sum of its gradients"),
        (
            lambda a, g: (g.mean((1, 2), keepdim=True).relu() * a).sum(0),
            "ReLU is applied to the weights",
        ),
        (lambda a, g: (g.mean((1, 2), keepdim=True) * a).relu().sum(0), "or to each channel"),
        (lambda a, g: (g.mean((1, 2), keepdim=True) * a).sum(0).abs(), "absolute value"),
        (lambda a, g: (g * a).sum(0).relu(), "HiResCAM"),
        (lambda a, g: (g.relu() * a).sum(0), "LayerCAM"),
        (lambda a, g: (g.mean((1, 2), keepdim=True) * a).mean(0).relu(), "channels are averaged"),
        (
            lambda a, g: cam_by_einsum(a, g) / (cam_by_einsum(a, g).max() + 1e-9),
            "divided by its maximum",
        ),
        (lambda a, g: cam_by_einsum(a, g)[None], r"expected shape \(1, 2\), got \(1, 1, 2\)"),
        (lambda a, g: cam_by_einsum(a, g).T, "goes wrong when"),
    ],
)
def test_grad_cam_mistakes(answer, words, capsys):
    assert re.search(words, refused("grad_cam_map", answer, capsys), re.IGNORECASE)


# Blank answers, code that raises, code that meddles


def stub(*args):
    raise NotImplementedError


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize(
    "answer",
    [stub, lambda *args: None, lambda *args: ..., None, ...],
    ids=["raises", "returns None", "returns ...", "None", "..."],
)
def test_not_attempted_gives_the_hint_and_the_reference(name, answer, capsys):
    assert exercise(name, answer) is EXERCISES[name].reference
    text = capsys.readouterr().out
    assert (
        text
        == f"– {name}: not attempted yet, so the reference is used. Hint: {EXERCISES[name].hint}\n"
    )


@pytest.mark.parametrize("name", EXERCISES)
def test_what_an_answer_raises_is_the_cause(name, capsys):
    def answer(*args):
        raise ValueError(f"no such axis in {object()}")

    text = refused(name, answer, capsys)
    assert "Cause: it raises ValueError: no such axis in <object object at 0x…>.\n" in text


def test_a_kernel_that_torch_lacks_is_not_taken_for_a_stub(capsys):
    def answer(*args):
        raise NotImplementedError("\"reflection_pad2d\" not implemented for 'Byte'")

    assert "reflection_pad2d" in refused("pad_crop", answer, capsys)


def test_a_wrong_number_of_arguments_is_named(capsys):
    assert "positional argument" in refused("pad_crop", lambda images: images, capsys)


def test_an_answer_that_is_no_function_is_wrong(capsys):
    assert exercise("top_k_accuracy", 0.5) is top_k_accuracy
    assert "it is a float, expected a function" in capsys.readouterr().out


def test_changing_the_inputs_does_not_spoil_the_check(capsys):
    def zeroed(activations, gradients):
        activations.zero_()
        gradients.zero_()
        return activations.sum(0)

    def top_1_for_ever(logits, labels, k):
        labels.copy_(logits.argmax(1))
        return 1.0

    def emptied(model):
        while len(model):
            del model[0]
        return [], []

    refused("grad_cam_map", zeroed, capsys)
    refused("top_k_accuracy", top_1_for_ever, capsys)
    refused("weight_decay_groups", emptied, capsys)


def test_a_right_answer_that_works_in_place_is_right():
    def answer(activations, gradients):
        return activations.mul_(gradients.mean((1, 2), keepdim=True)).sum(0).relu_()

    assert exercise("grad_cam_map", answer) is answer


def test_the_check_leaves_random_numbers_alone(capsys):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for name, task in EXERCISES.items():
        exercise(name, task.reference)
        exercise(name, lambda *args: torch.rand(1).item())
    assert torch.equal(torch.rand(3), expected)


def test_the_words_are_the_same_in_every_run(capsys):
    texts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        for name in EXERCISES:
            exercise(name, lambda *args: torch.rand(1).item())
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def test_every_named_mistake_is_refused_with_its_own_name(capsys):
    for name, task in EXERCISES.items():
        for words, mistaken in task.mistakes.items():
            assert words in refused(name, mistaken, capsys)


def test_unknown_exercise_lists_the_names():
    with pytest.raises(
        CourseError, match="unknown exercise 'top_5', expected one of top_k_accuracy, "
    ):
        exercise("top_5", top_k_accuracy)
