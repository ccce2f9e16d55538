"""The exercises of session 2, TinyImageNet with OneCycle.

For each: the solution, the inputs it is tried on, and the usual mistakes with their names. What a
function takes and returns stands in its stub, in the notebook.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.exercises import shares
from course_lib.exercises.checker import Exercise, Unreadable, read_number
from course_lib.models.trimmed_conv import TrimmedConv3x3

# --- top_k_accuracy -----------------------------------------------------------------------------


def top_k_accuracy(logits: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    """Share of the pictures whose label is among the k largest logits, 0..1.

    logits: float (B, C). labels: int64 (B,). k: 1..C.
    """
    guesses = logits.topk(k, dim=1).indices  # (B, k)
    hits = (guesses == labels[:, None]).any(dim=1)  # (B,)
    return hits.float().mean().item()


def _top_k_cases() -> list[tuple]:
    one = torch.tensor([[0.1, 0.7, 0.2]])
    best, second, last = torch.tensor([1]), torch.tensor([2]), torch.tensor([0])

    two = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    two_of_three = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])

    labels = torch.randint(16, (12,))
    many = torch.randn(12, 16) + F.one_hot(labels, 16)  # better than chance, and far from sure

    return [
        ("k is 1 and the label has the largest logit", one, best, 1),
        ("k is 1 and the label has not the largest logit", one, second, 1),
        ("k is 2 and the label has the second largest logit", one, second, 2),
        ("k is 2 and the label has the largest logit", one, best, 2),
        ("k is 2 and the label has the smallest logit", one, last, 2),
        ("k is C, so that every class counts", one, last, 3),
        ("one of two labels is hit", two, torch.tensor([0, 1]), 1),
        ("there are as many pictures as guesses", two_of_three, torch.tensor([2, 1]), 2),
        ("there are many pictures and classes", many, labels, 1),
        ("there are many pictures and classes", many, labels, 3),
        ("there are many pictures and classes", many, labels, 5),
    ]


TOP_K = Exercise(
    reference=top_k_accuracy,
    hint="logits.topk(k, dim=1).indices holds the k guesses for each picture.",
    cases=_top_k_cases,
    read=read_number,
)


@TOP_K.mistake("only the largest logit is looked at, whatever k is")
def _(logits, labels, k):
    return top_k_accuracy(logits, labels, 1)


@TOP_K.mistake("the hits are counted, but not divided by the number of pictures")
def _(logits, labels, k):
    return top_k_accuracy(logits, labels, k) * len(labels)


@TOP_K.mistake("the hits are divided by B · k; a picture is hit or not, so divide by B")
def _(logits, labels, k):
    return top_k_accuracy(logits, labels, k) / k


@TOP_K.mistake(
    "the labels need a second axis, labels[:, None]: (B,) beside guesses of (B, k) compares "
    "pictures with each other"
)
def _(logits, labels, k):
    guesses = logits.topk(k, dim=1).indices
    return (guesses == labels).any(dim=1).float().mean()


@TOP_K.mistake("a label is looked for among the guesses of all pictures, not of its own")
def _(logits, labels, k):
    guesses = logits.topk(k, dim=1).indices
    return torch.isin(labels, guesses).float().mean()


@TOP_K.mistake("the logits themselves (.values) are compared with the labels, not their .indices")
def _(logits, labels, k):
    largest = logits.topk(k, dim=1).values
    return (largest == labels[:, None]).any(dim=1).float().mean()


@TOP_K.mistake("the k smallest logits are taken, not the k largest")
def _(logits, labels, k):
    return top_k_accuracy(-logits, labels, k)


@TOP_K.mistake(
    "the largest logits are sought down the batch (dim=0), not along the classes (dim=1)"
)
def _(logits, labels, k):
    guesses = logits.topk(k, dim=0).indices
    return (guesses == labels[:, None]).any(dim=1).float().mean()


@TOP_K.mistake("[:k] takes the first k pictures; [:, :k] takes the first k guesses of each")
def _(logits, labels, k):
    ranking = logits.argsort(dim=1, descending=True)
    return (ranking[:k] == labels[:, None]).any(dim=1).float().mean()


@TOP_K.mistake("any() without dim=1 asks for one hit in the whole batch, not one for each picture")
def _(logits, labels, k):
    return float(top_k_accuracy(logits, labels, k) > 0)


@TOP_K.mistake("a picture counts only if all of its k guesses are the label; any one is enough")
def _(logits, labels, k):
    guesses = logits.topk(k, dim=1).indices
    return (guesses == labels[:, None]).all(dim=1).float().mean()


@TOP_K.mistake("only the k-th guess is looked at, not all guesses up to the k-th")
def _(logits, labels, k):
    guesses = logits.topk(k, dim=1).indices
    return (guesses[:, -1] == labels).float().mean()


@TOP_K.mistake("it gives percent; a share in 0..1 is asked for")
def _(logits, labels, k):
    return top_k_accuracy(logits, labels, k) * 100


@TOP_K.mistake("it gives the share of the misses; that of the hits is asked for")
def _(logits, labels, k):
    return 1 - top_k_accuracy(logits, labels, k)


@TOP_K.mistake("only the first picture is looked at: the return stands inside the loop")
def _(logits, labels, k):
    return top_k_accuracy(logits[:1], labels[:1], k)


@TOP_K.mistake("only the first picture is looked at: the return stands inside the loop")
def _(logits, labels, k):
    return top_k_accuracy(logits[:1], labels[:1], k) / len(labels)


@TOP_K.mistake(
    "the labels need a second axis, labels[:, None]: (B,) beside guesses of (B, k) compares "
    "pictures with each other"
)
def _(logits, labels, k):
    guesses = logits.topk(k, dim=1).indices
    return (guesses == labels).sum() / len(labels)


@TOP_K.mistake("five guesses are looked at, whatever k is")
def _(logits, labels, k):
    return top_k_accuracy(logits, labels, min(5, logits.shape[1]))


@TOP_K.mistake("one guess too many is looked at: k + 1 of them")
def _(logits, labels, k):
    return top_k_accuracy(logits, labels, min(k + 1, logits.shape[1]))


@TOP_K.mistake("one guess too few is looked at: k − 1 of them; [:k] ends before k by itself")
def _(logits, labels, k):
    return top_k_accuracy(logits, labels, k - 1)


# --- one_cycle_lr -------------------------------------------------------------------------------


def one_cycle_lr(
    step: int, total_steps: int, peak_lr: float, warm_up: float = 0.2, start_div: float = 25
) -> float:
    """Learning rate at a step: straight up to the peak, then straight down to almost nothing.

    step: 0..total_steps − 1. The rate is peak_lr / start_div at step 0, peak_lr at step
    warm_up · total_steps − 1 (not rounded, so perhaps between two steps), and a 10,000th of the
    first rate at the last step.
    """
    start_lr = peak_lr / start_div
    end_lr = start_lr / 10_000

    peak_step = warm_up * total_steps - 1
    last_step = total_steps - 1

    if step <= peak_step:
        part = step / peak_step  # of the way up, 0 to 1
        return start_lr + (peak_lr - start_lr) * part

    part = (step - peak_step) / (last_step - peak_step)  # of the way down
    return peak_lr + (end_lr - peak_lr) * part


def _one_cycle_cases() -> list[tuple]:
    between = "the peak falls between two steps"
    others = "warm_up and start_div are not the defaults"

    return [
        ("the schedule begins", 0, 10, 1.0),
        ("the peak is reached, at step 0.2 · 10 − 1 = 1", 1, 10, 1.0),
        ("the peak is not 1", 1, 10, 0.5),
        ("the last step comes", 9, 10, 1.0),
        ("the last step comes, at a 10,000th of the first rate", 9, 10, 10.0),
        ("the rate is on its way down", 4, 10, 1.0),
        ("the rate is on its way up", 1, 20, 1.0),
        ("warm_up is not the default", 4, 10, 1.0, 0.7),
        ("start_div is not the default", 0, 10, 1.0, 0.2, 10.0),
        *[(between, step, 13, 0.4) for step in range(13)],
        *[(others, step, 7, 1.0, 0.5, 10.0) for step in range(7)],
        ("start_div is not the default, and the last step comes", 6, 7, 10.0, 0.5, 10.0),
    ]


ONE_CYCLE = Exercise(
    reference=one_cycle_lr,
    hint="on a straight line from a to b, a share `part` of the way lies at a + (b − a) · part.",
    cases=_one_cycle_cases,
    read=read_number,
)


def _wrong_cycle(
    step: int,
    total_steps: int,
    peak_lr: float,
    warm_up: float = 0.2,
    start_div: float = 25,
    *,
    up: Callable = shares.line,
    down: Callable = shares.line,
    peak_late: int = 0,
    end_late: int = 0,
    rounded: Callable = float,
    end_share: Callable = lambda start_div: 1 / start_div / 1e4,
) -> float:
    """The schedule with something in it that is not the default here.

    up, down: share of the way gone, after a share of the time. end_share: the last rate, as a share
    of the peak.
    """
    start_lr, end_lr = peak_lr / start_div, peak_lr * end_share(start_div)

    peak_step = rounded(warm_up * total_steps - 1 + peak_late)
    last_step = total_steps - 1 + end_late

    if step <= peak_step:
        return start_lr + (peak_lr - start_lr) * up(step / peak_step)
    part = (step - peak_step) / (last_step - peak_step)
    return peak_lr + (end_lr - peak_lr) * down(part)


_WRONG_CYCLES = [
    (
        "it ends at the starting rate; the last rate is a 10,000th of that, near zero",
        {"end_share": lambda start_div: 1 / start_div},
    ),
    (
        "it ends at zero; the last rate is a 10,000th of the first",
        {"end_share": lambda start_div: 0.0},
    ),
    (
        "the last rate is a 10,000th of the peak, not of the starting rate",
        {"end_share": lambda start_div: 1e-4},
    ),
    (
        "the peak comes one step late: steps count from 0, so it lies at warm_up · total_steps − 1",
        {"peak_late": 1},
    ),
    (
        "the end comes one step late: steps count from 0, so the last one is total_steps − 1",
        {"end_late": 1},
    ),
    (
        "the peak and the end come one step late: steps count from 0, so subtract 1 from both",
        {"peak_late": 1, "end_late": 1},
    ),
    (
        "the step of the peak is rounded; the peak may lie between two steps",
        {"rounded": int},
    ),
    (
        "the step of the peak is rounded; the peak may lie between two steps",
        {"rounded": round},
    ),
    (
        "the rate follows half a cosine on either way, as torch's does by default; here both ways "
        "are straight lines",
        {"up": shares.half_cosine, "down": shares.half_cosine},
    ),
    (
        "the way up follows half a cosine; it is a straight line",
        {"up": shares.half_cosine},
    ),
    (
        "the way down follows half a cosine; it is a straight line",
        {"down": shares.half_cosine},
    ),
    (
        "the way up is run backwards, from the peak to the starting rate",
        {"up": shares.backwards},
    ),
    (
        "the way down is run backwards, from the last rate up to the peak",
        {"down": shares.backwards},
    ),
    (
        "the share of the way is squared; on a straight line every step goes equally far",
        {"up": shares.squared, "down": shares.squared},
    ),
]

for _cause, _difference in _WRONG_CYCLES:
    ONE_CYCLE.mistake(_cause)(partial(_wrong_cycle, **_difference))


@ONE_CYCLE.mistake("the warm-up is missing: it starts at the peak")
def _(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    end_lr = peak_lr / start_div / 1e4
    return peak_lr + (end_lr - peak_lr) * step / (total_steps - 1)


@ONE_CYCLE.mistake("the warm-up is missing: it goes from the peak to zero")
def _(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    return peak_lr - peak_lr * step / (total_steps - 1)


@ONE_CYCLE.mistake("it starts at zero; the first rate is peak_lr / start_div")
def _(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    peak_step = warm_up * total_steps - 1
    if step <= peak_step:
        return peak_lr * step / peak_step
    return one_cycle_lr(step, total_steps, peak_lr, warm_up, start_div)


@ONE_CYCLE.mistake("the way down is measured from step 0; it is to be counted from the peak")
def _(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    if step <= warm_up * total_steps - 1:
        return one_cycle_lr(step, total_steps, peak_lr, warm_up, start_div)
    end_lr = peak_lr / start_div / 1e4
    return peak_lr + (end_lr - peak_lr) * step / (total_steps - 1)


@ONE_CYCLE.mistake(
    "the rate changes by the same factor at every step; on a straight line it changes by the same "
    "amount"
)
def _(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    start_lr, peak_step = peak_lr / start_div, warm_up * total_steps - 1
    if step <= peak_step:
        return start_lr * start_div ** (step / peak_step)
    part = (step - peak_step) / (total_steps - 1 - peak_step)
    return peak_lr * (1 / start_div / 1e4) ** part


_WAYS = [  # what a slip in the formula makes of the way up or down; from, to, and the steps
    (
        "the way down has the wrong sign: from the peak p the rate moves by (b − p), which is "
        "negative",
        {"down": lambda p, b, step, s1, last: p + (p - b) * (step - s1) / (last - s1)},
    ),
    (
        "the way down counts its steps from 0; above the line stands step − s₁, for it begins at "
        "the peak",
        {"down": lambda p, b, step, s1, last: p + (b - p) * step / (last - s1)},
    ),
    (
        "the way down is taken for too long: it has T − 1 − s₁ steps, those of the warm-up left "
        "out",
        {"down": lambda p, b, step, s1, last: p + (b - p) * (step - s1) / last},
    ),
    (
        "brackets are missing: all of T − 1 − s₁ stands below the line",
        {"down": lambda p, b, step, s1, last: p + (b - p) * (step - s1) / (last + 1) - 1 - s1},
    ),
    (
        "brackets are missing: all of T − 1 − s₁ stands below the line",
        {"down": lambda p, b, step, s1, last: p + (b - p) * (step - s1) / last - s1},
    ),
    (
        "brackets are missing: step − s₁ stands above the line",
        {"down": lambda p, b, step, s1, last: p + (b - p) * step - s1 / (last - s1)},
    ),
    (
        "the first rate is not added: the way up begins at a, a + (p − a) · part",
        {"up": lambda a, p, step, s1: (p - a) * step / s1},
    ),
    (
        "the way up ends above the peak: from a it is p − a long, not p",
        {"up": lambda a, p, step, s1: a + p * step / s1},
    ),
    (
        "// cuts off what stands behind the point; / divides",
        {"up": lambda a, p, step, s1: a + (p - a) * (step // s1)},
    ),
    (
        "// cuts off what stands behind the point; / divides",
        {"up": lambda a, p, step, s1: a + (p - a) * step // s1},
    ),
    (
        "// cuts off what stands behind the point; / divides",
        {
            "up": lambda a, p, step, s1: a + (p - a) * (step // s1),
            "down": lambda p, b, step, s1, last: p + (b - p) * ((step - s1) // (last - s1)),
        },
    ),
    (
        "// cuts off what stands behind the point; / divides",
        {
            "up": lambda a, p, step, s1: a + (p - a) * step // s1,
            "down": lambda p, b, step, s1, last: p + (b - p) * (step - s1) // (last - s1),
        },
    ),
]


def _slip(
    step: int,
    total_steps: int,
    peak_lr: float,
    warm_up: float = 0.2,
    start_div: float = 25,
    *,
    up: Callable = lambda a, p, step, s1: a + (p - a) * step / s1,
    down: Callable = lambda p, b, step, s1, last: p + (b - p) * (step - s1) / (last - s1),
) -> float:
    """The formula in the letters of the notebook, with a slip of the pen on either way."""
    a, s1, last = peak_lr / start_div, warm_up * total_steps - 1, total_steps - 1
    if step <= s1:
        return up(a, peak_lr, step, s1)
    return down(peak_lr, a / 10_000, step, s1, last)


for _cause, _difference in _WAYS:
    ONE_CYCLE.mistake(_cause)(partial(_slip, **_difference))


@ONE_CYCLE.mistake("the two ways are exchanged: up to the peak's step it is the way up")
def _(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    a, s1, last = peak_lr / start_div, warm_up * total_steps - 1, total_steps - 1
    if step >= s1:
        return a + (peak_lr - a) * step / s1
    return peak_lr + (a / 10_000 - peak_lr) * (step - s1) / (last - s1)


# --- epoch_sizes --------------------------------------------------------------------------------


def epoch_sizes(cost: dict[int, int], budget: int) -> list[int]:
    """A picture size for each epoch, so that all together cost no more than the budget.

    cost: size in pixels → what one epoch at that size costs; larger sizes cost more. budget: in the
    same unit, enough for one epoch at the largest size. The sizes never fall, the last is the
    largest, and less is left over than the cheapest epoch costs.
    """
    largest, smallest = max(cost), min(cost)

    sizes = [largest]  # the size that the network is tested at
    left = budget - cost[largest]

    for size in sorted(cost, reverse=True)[1:]:
        if cost[size] <= left:
            sizes.append(size)
            left -= cost[size]

    while cost[smallest] <= left:
        sizes.append(smallest)
        left -= cost[smallest]

    return sorted(sizes)  # small pictures first


class _Costs(dict):
    """Knows what it began with: an answer may use up the dict that it is given."""

    def __init__(self, costs: dict[int, int]) -> None:
        super().__init__(costs)
        self.at_first = dict(costs)


def _size_cases() -> list[tuple]:
    two = _Costs({32: 1, 64: 4})
    three = _Costs({32: 2, 48: 5, 64: 8})
    downwards = _Costs({64: 8, 48: 5, 32: 2})
    # million multiply-adds a picture
    session = _Costs({32: 84, 40: 127, 48: 197, 56: 258, 64: 379})

    return [
        ("the budget is one epoch at the largest size", two, 4),
        ("one small epoch fits in besides", two, 5),
        ("two epochs at the largest size fit in", two, 8),
        ("three small epochs fit in besides", two, 7),
        ("a part of the budget has to be left", three, 13),
        ("there are several sizes", three, 20),
        ("the largest size stands first in cost", downwards, 21),
        ("the budget is large", two, 100),
        ("the costs are those of the session ResNet", session, 379),
        ("the costs are those of the session ResNet", session, 500),
        ("the costs are those of the session ResNet", session, 2072),
    ]


SIZES_ARE_RIGHT = "sizes that use the budget up, from small to large, the largest last"


def _read_sizes(result, args: list) -> str:
    """The same words for every right plan, for there are many; Unreadable for every other."""
    cost, budget = args[0].at_first, args[1]
    largest, smallest = max(cost), min(cost)
    sizes = _list_of_sizes(result, cost)

    if not sizes:
        raise Unreadable("it returns no epoch, and one at the largest size is in the budget")

    for earlier, later in pairwise(sizes):
        if later < earlier:
            raise Unreadable(
                f"the sizes fall, from {earlier} to {later} px; small pictures come first"
            )
    if sizes[-1] != largest:
        raise Unreadable(
            f"the last epoch is at {sizes[-1]} px; it has to be at the largest size, {largest}"
        )

    spent = sum(cost[size] for size in sizes)
    left = budget - spent
    if left < 0:
        raise Unreadable(f"it spends {spent:g} of a budget of {budget:g}")
    if left >= cost[smallest]:
        raise Unreadable(
            f"it leaves {left:g} of {budget:g} unspent, enough for one more epoch at {smallest} px"
        )
    return SIZES_ARE_RIGHT


def _list_of_sizes(result, cost: dict) -> list:
    if hasattr(result, "tolist"):  # of numpy or torch
        result = result.tolist()
    if not isinstance(result, list | tuple):
        raise Unreadable(
            f"it returns a {type(result).__name__}, expected a list of sizes, one for each epoch"
        )

    unknown = [entry for entry in result if not _is_in(entry, cost)]
    if unknown and all(_is_in(entry, cost.values()) for entry in result):
        raise Unreadable("the list holds what the epochs cost, expected their sizes")
    if unknown:
        known = ", ".join(map(str, sorted(cost)))
        raise Unreadable(f"the list holds {unknown[0]}, expected picture sizes out of {known}")
    return list(result)


def _is_in(entry, known) -> bool:
    try:
        return entry in known
    except TypeError:  # a list, or anything else that cannot be looked up
        return False


SIZES = Exercise(
    reference=epoch_sizes,
    hint="set one epoch at max(cost) aside, spend what is left, and sort at the end.",
    cases=_size_cases,
    read=_read_sizes,
)


@SIZES.mistake(
    "it returns nothing: a return is missing, or it returns what a list's sort() gives, None; "
    "sorted(…) gives the list"
)
def _(cost, budget):
    return epoch_sizes(cost, budget).sort()


# --- pad_crop -----------------------------------------------------------------------------------


def pad_crop(
    images: torch.Tensor, dy: torch.Tensor, dx: torch.Tensor, pad: int = 4
) -> torch.Tensor:
    """Mirror the border outwards by ``pad`` pixels, then cut each picture's own window out.

    images: uint8 (B, 3, H, W). dy, dx: int64 (B,), 0..2·pad, the row and the column of the padded
    picture where its window begins; dy = dx = pad gives the picture back.
    Returns uint8 (B, 3, H, W).
    """
    height, width = images.shape[2:]
    padded = F.pad(images.float(), (pad, pad, pad, pad), mode="reflect")  # GPUs mirror floats only

    windows = [
        picture[:, y : y + height, x : x + width]  # (3, H, W)
        for picture, y, x in zip(padded, dy.tolist(), dx.tolist(), strict=True)
    ]

    return torch.stack(windows).to(images.dtype)


def _pad_crop_cases() -> list[tuple]:
    zero, one, two = torch.arange(3)[:, None]

    # Three pixels on the way of the window: in two, the mirror to the left is that to the right.
    wide = torch.arange(36).byte().view(2, 3, 2, 3)
    tall = torch.arange(36).byte().view(2, 3, 3, 2)
    large = torch.arange(48).byte().view(1, 3, 4, 4)

    many = torch.randint(256, (4, 3, 9, 7)).byte()
    dy, dx = torch.tensor([0, 8, 3, 5]), torch.tensor([8, 0, 6, 1])

    return [
        ("the window lies in the middle, which gives the picture back", wide[:1], one, one, 1),
        ("the window lies at the left border, half way down", wide[:1], one, zero, 1),
        ("the window lies at the upper border", tall[:1], zero, one, 1),
        (
            "two pictures have different windows",
            wide,
            torch.cat([one, two]),
            torch.cat([one, zero]),
            1,
        ),
        ("the window lies near a corner", large, one, one, 1),
        ("pad is 2", large, one, one, 2),
        ("height and width differ, and pad is left at 4", many, dy, dx),
    ]


PAD_CROP = Exercise(
    reference=pad_crop,
    hint='torch.nn.functional.pad(…, mode="reflect") first, then one slice for each picture.',
    cases=_pad_crop_cases,
)


def _padded(images, pad, mode="reflect"):
    return F.pad(images.float(), (pad, pad, pad, pad), mode=mode)


def _windows(padded, dy, dx, height, width):
    corners = zip(padded, dy.tolist(), dx.tolist(), strict=True)
    return torch.stack([picture[:, y : y + height, x : x + width] for picture, y, x in corners])


@PAD_CROP.mistake(
    "the pictures come back as they were; a window as large as the picture can only move once that "
    "is padded"
)
def _(images, dy, dx, pad=4):
    return images


@PAD_CROP.mistake("the picture is padded, but no window is cut out of it")
def _(images, dy, dx, pad=4):
    return _padded(images, pad)


@PAD_CROP.mistake("all pictures get the same window, that of the first; each has its own")
def _(images, dy, dx, pad=4):
    return pad_crop(images, dy[:1].expand_as(dy), dx[:1].expand_as(dx), pad)


@PAD_CROP.mistake("dy and dx are swapped; dy counts rows (dim 2), dx columns (dim 3)")
def _(images, dy, dx, pad=4):
    return pad_crop(images, dx, dy, pad)


@PAD_CROP.mistake(
    "the window moves the other way: a larger dy lies further down, a larger dx further right"
)
def _(images, dy, dx, pad=4):
    return pad_crop(images, 2 * pad - dy, 2 * pad - dx, pad)


@PAD_CROP.mistake("dy and dx are counted from the unpadded picture; dy = 0 is the padded edge")
def _(images, dy, dx, pad=4):
    return _windows(_padded(images, pad), dy + pad, dx + pad, *images.shape[2:])


@PAD_CROP.mistake('the border is filled with zeros; it is to be mirrored, mode="reflect"')
def _(images, dy, dx, pad=4):
    return _windows(_padded(images, pad, "constant"), dy, dx, *images.shape[2:])


@PAD_CROP.mistake('the border repeats the last pixel; it is to be mirrored, mode="reflect"')
def _(images, dy, dx, pad=4):
    return _windows(_padded(images, pad, "replicate"), dy, dx, *images.shape[2:])


@PAD_CROP.mistake('the border is the opposite side; it is to be mirrored, mode="reflect"')
def _(images, dy, dx, pad=4):
    return _windows(_padded(images, pad, "circular"), dy, dx, *images.shape[2:])


@PAD_CROP.mistake(
    "the border is mirrored together with the last pixel, which then stands there twice; "
    'mode="reflect" leaves it out'
)
def _(images, dy, dx, pad=4):
    height, width = images.shape[2:]
    rows = [*range(pad)][::-1] + [*range(height)] + [*range(height - pad, height)][::-1]
    columns = [*range(pad)][::-1] + [*range(width)] + [*range(width - pad, width)][::-1]
    return _windows(images[:, :, rows][:, :, :, columns], dy, dx, height, width)


@PAD_CROP.mistake("height and width are taken for the same; a picture need not be square")
def _(images, dy, dx, pad=4):
    width = images.shape[3]
    return _windows(_padded(images, pad), dy, dx, width, width)


@PAD_CROP.mistake("height and width are taken for the same; a picture need not be square")
def _(images, dy, dx, pad=4):
    height = images.shape[2]
    return _windows(_padded(images, pad), dy, dx, height, height)


@PAD_CROP.mistake("windows of 64 pixels are cut; height and width are those of the pictures")
def _(images, dy, dx, pad=4):
    return _windows(_padded(images, pad), dy, dx, 64, 64)


@PAD_CROP.mistake(
    "all pictures are cut by one slice, and dy holds a number for each: cut one after the other"
)
def _(images, dy, dx, pad=4):
    height, width = images.shape[2:]
    return _padded(images, pad)[:, :, dy : dy + height, dx : dx + width]


@PAD_CROP.mistake("the pictures are joined along the channels; torch.stack keeps an axis for them")
def _(images, dy, dx, pad=4):
    return pad_crop(images, dy, dx, pad).flatten(0, 1)


@PAD_CROP.mistake("4 pixels are padded, whatever pad is")
def _(images, dy, dx, pad=4):
    return pad_crop(images, dy, dx, 4)


@PAD_CROP.mistake("the pixels are divided by 255; they are to stay as they are, uint8 in 0..255")
def _(images, dy, dx, pad=4):
    return pad_crop(images, dy, dx, pad) / 255


@PAD_CROP.mistake("the pixels are right, but no longer uint8; end in .to(images.dtype)")
def _(images, dy, dx, pad=4):
    return pad_crop(images, dy, dx, pad).float()


# --- weight_decay_groups ------------------------------------------------------------------------


def weight_decay_groups(model: nn.Module) -> tuple[list, list]:
    """The parameters of a convolutional network in two lists: (decayed, not decayed).

    Weights of convolutions and linear layers are decayed; scales and shifts of norms and all biases
    are not. Every parameter stands in one list, once.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]  # (out, in, kh, kw) or (out, in)
    not_decayed = [p for p in model.parameters() if p.ndim <= 1]  # (C,)
    return decayed, not_decayed


def _group_cases() -> list[tuple]:
    linear = nn.Sequential(nn.Linear(2, 2))
    frozen = nn.Sequential(nn.Linear(2, 2)).requires_grad_(False)

    batch_norm = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    group_norm = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))

    inner = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    nested = nn.Sequential(inner, nn.GroupNorm(2, 4), nn.Linear(4, 2, bias=False))

    derived = nn.Sequential(TrimmedConv3x3(3, 4), nn.BatchNorm2d(4))

    return [
        ("there is one linear layer", linear),
        ("parameters are frozen", frozen),
        ("there is a norm", batch_norm),
        ("there are norms other than BatchNorm2d", group_norm),
        ("layers without bias stand inside other layers", nested),
        ("a convolution is of a class derived from Conv2d", derived),
    ]


def _read_groups(result, args: list) -> dict[str, list[str]]:
    """The parameters of both lists by name, sorted, so that the order in a list does not count."""
    _check_two_lists(result)

    names = {id(parameter): name for name, parameter in args[0].named_parameters()}
    for entry in [*result[0], *result[1]]:
        if id(entry) not in names:
            raise Unreadable(
                f"the lists hold a {type(entry).__name__} that is not one of the model's parameters"
            )

    decayed, not_decayed = (sorted(names[id(entry)] for entry in group) for group in result)
    both = decayed + not_decayed

    if lost := [name for name in names.values() if name not in both]:
        raise Unreadable(f"parameters are lost, they stand in neither list: {', '.join(lost)}")
    if doubled := [name for name in names.values() if both.count(name) > 1]:
        raise Unreadable(f"parameters stand in the lists more than once: {', '.join(doubled)}")

    return {"decayed": decayed, "not decayed": not_decayed}


def _check_two_lists(result) -> None:
    expected = "expected two lists of parameters, (decayed, not_decayed)"

    if not isinstance(result, list | tuple):
        raise Unreadable(f"it returns a {type(result).__name__}, {expected}")
    if len(result) != 2:
        raise Unreadable(f"it returns a {type(result).__name__} of {len(result)}, {expected}")
    for place, group in zip(("first", "second"), result, strict=True):
        if not isinstance(group, list | tuple):
            raise Unreadable(f"the {place} of the two is a {type(group).__name__}, {expected}")


GROUPS = Exercise(
    reference=weight_decay_groups,
    hint="look at the number of axes, parameter.ndim, of each kind of parameter.",
    cases=_group_cases,
    read=_read_groups,
)


def _split(model, is_decayed) -> tuple[list, list]:
    """By a question about each parameter, (name, parameter) → whether it is decayed."""
    decayed, not_decayed = [], []
    for name, parameter in model.named_parameters():
        (decayed if is_decayed(name, parameter) else not_decayed).append(parameter)
    return decayed, not_decayed


@GROUPS.mistake("everything is decayed; norms and biases are not to be")
def _(model):
    return list(model.parameters()), []


@GROUPS.mistake(
    "nothing is decayed; the weights of convolutions and linear layers are to be, whatever their "
    "names are"
)
def _(model):
    return [], list(model.parameters())


@GROUPS.mistake("the weights of norms are decayed; they scale, and are not to be pulled to zero")
def _(model):
    return _split(model, lambda name, parameter: name.endswith("weight"))


@GROUPS.mistake("the weights of norms other than BatchNorm2d are decayed")
def _(model):
    def is_decayed(name, parameter):
        layer = model.get_submodule(name.rpartition(".")[0])
        return name.endswith("weight") and not isinstance(layer, nn.BatchNorm2d)

    return _split(model, is_decayed)


@GROUPS.mistake("the biases of convolutions and linear layers are decayed, not only their weights")
def _(model):
    def is_decayed(name, parameter):
        layer = model.get_submodule(name.rpartition(".")[0])
        return isinstance(layer, nn.Conv2d | nn.Linear)

    return _split(model, is_decayed)


@GROUPS.mistake("the weights of linear layers are not decayed, only those of convolutions")
def _(model):
    return _split(model, lambda name, parameter: parameter.ndim == 4)


@GROUPS.mistake("frozen parameters are left out; they are to stand in one of the lists as well")
def _(model):
    decayed, not_decayed = weight_decay_groups(model)
    return [p for p in decayed if p.requires_grad], [p for p in not_decayed if p.requires_grad]


@GROUPS.mistake("the two lists are swapped; the decayed parameters come first")
def _(model):
    decayed, not_decayed = weight_decay_groups(model)
    return not_decayed, decayed


# --- grad_cam_map -------------------------------------------------------------------------------


def grad_cam_map(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM of one picture, not normalised: ReLU(Σ over c of mean(gradients_c) · activations_c).

    activations: float (C, H, W), the output of a layer. gradients: float (C, H, W), of the class's
    logit with respect to it. Returns float (H, W), 0 or more.
    """
    weights = gradients.mean(dim=(1, 2), keepdim=True)  # (C, 1, 1)
    return (weights * activations).sum(dim=0).relu()  # (H, W)


def _cam_cases() -> list[tuple]:
    row, column = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0], [2.0]]])
    two = torch.tensor([[[1.0, 2.0]], [[3.0, 1.0]]])
    for_and_against = torch.tensor([[[2.0, 2.0]], [[-1.0, -1.0]]])

    return [
        ("there is one channel", row, torch.tensor([[[1.0, 3.0]]])),
        ("there are two rows", column, torch.tensor([[[1.0], [3.0]]])),
        ("the gradient is negative: evidence against the class", row, -torch.ones(1, 1, 2)),
        (
            "an activation is negative, and so is the gradient",
            torch.tensor([[[-1.0, 2.0]]]),
            torch.tensor([[[-1.0, -3.0]]]),
        ),
        ("two channels speak for and against the class", two, for_and_against),
        ("there are many channels", torch.randn(5, 3, 4), torch.randn(5, 3, 4)),
    ]


CAM = Exercise(
    reference=grad_cam_map,
    hint="average the gradients over height and width first: one weight for a channel.",
    cases=_cam_cases,
)


def _weighted(activations, weights):
    return (weights * activations).sum(dim=0).relu()


def _means(gradients):
    return gradients.mean(dim=(1, 2), keepdim=True)


@CAM.mistake("the ReLU at the end is missing: evidence against the class stays in the map")
def _(activations, gradients):
    return (_means(gradients) * activations).sum(dim=0)


@CAM.mistake("a channel's weight is the maximum of its gradients, not their mean")
def _(activations, gradients):
    return _weighted(activations, gradients.amax(dim=(1, 2), keepdim=True))


@CAM.mistake("a channel's weight is the sum of its gradients, not their mean")
def _(activations, gradients):
    return _weighted(activations, gradients.sum(dim=(1, 2), keepdim=True))


@CAM.mistake("keepdim=True is forgotten: weights of shape (C,) meet the columns, not the channels")
def _(activations, gradients):
    return _weighted(activations, gradients.mean(dim=(1, 2)))


@CAM.mistake("the gradients are averaged over the channels (dim 0), not over height and width")
def _(activations, gradients):
    return _weighted(activations, gradients.mean(dim=0))


@CAM.mistake("the gradients are averaged over the rows only (dim 1), not over height and width")
def _(activations, gradients):
    return _weighted(activations, gradients.mean(dim=1, keepdim=True))


@CAM.mistake("the gradients are averaged over the columns only (dim 2), not over height and width")
def _(activations, gradients):
    return _weighted(activations, gradients.mean(dim=2, keepdim=True))


@CAM.mistake("there is one weight for all channels; each has its own: average over dims 1 and 2")
def _(activations, gradients):
    return _weighted(activations, gradients.mean())


@CAM.mistake("a softmax is applied to the weights; they are taken as they are, of either sign")
def _(activations, gradients):
    return _weighted(activations, _means(gradients).softmax(dim=0))


@CAM.mistake("the ReLU is applied to the weights; it belongs to the sum over the channels")
def _(activations, gradients):
    return _weighted(activations, _means(gradients).relu())


@CAM.mistake("a softmax is applied to the weights; they are taken as they are, of either sign")
def _(activations, gradients):
    return _weighted(activations, _means(gradients).softmax(dim=0))


@CAM.mistake("the ReLU is applied to the weights; it belongs to the sum over the channels")
def _(activations, gradients):
    return (_means(gradients).relu() * activations).sum(dim=0)


@CAM.mistake("only the last channel is left: the map begins anew in every turn of the loop")
def _(activations, gradients):
    return grad_cam_map(activations[-1:], gradients[-1:])


@CAM.mistake("the ReLU is applied to each channel; it belongs to their sum")
def _(activations, gradients):
    return (_means(gradients) * activations).relu().sum(dim=0)


@CAM.mistake("the ReLU is applied to the activations; it belongs to the sum over the channels")
def _(activations, gradients):
    return grad_cam_map(activations.relu(), gradients)


@CAM.mistake("the ReLU is applied to the gradients; it belongs to the sum over the channels")
def _(activations, gradients):
    return grad_cam_map(activations, gradients.relu())


@CAM.mistake(
    "the absolute value is taken, not the ReLU: evidence against counts as evidence for it"
)
def _(activations, gradients):
    return (_means(gradients) * activations).sum(dim=0).abs()


@CAM.mistake(
    "the gradients are multiplied with the activations position by position. That is HiResCAM; "
    "Grad-CAM averages them over the positions first"
)
def _(activations, gradients):
    return _weighted(activations, gradients)


@CAM.mistake(
    "the positive gradients are multiplied with the activations position by position. That is "
    "LayerCAM; Grad-CAM averages all of them over the positions first"
)
def _(activations, gradients):
    return _weighted(activations, gradients.relu())


@CAM.mistake("activations and gradients are exchanged: the gradients give the weights")
def _(activations, gradients):
    return grad_cam_map(gradients, activations)


@CAM.mistake("the channels are averaged; they are to be summed")
def _(activations, gradients):
    return grad_cam_map(activations, gradients) / len(activations)


@CAM.mistake("the channels are not summed: one map for the picture, (H, W), is asked for")
def _(activations, gradients):
    return (_means(gradients) * activations).relu()


@CAM.mistake("the map is divided by its maximum; it is asked for as it is")
def _(activations, gradients):
    cam = grad_cam_map(activations, gradients)
    return cam / cam.max()


@CAM.mistake("the map is divided by its maximum; it is asked for as it is")
def _(activations, gradients):
    cam = grad_cam_map(activations, gradients)
    return cam / cam.max().clamp_min(1e-9)


@CAM.mistake("the map is stretched to 0..1; it is asked for as it is")
def _(activations, gradients):
    cam = grad_cam_map(activations, gradients)
    cam = cam - cam.min()
    return cam / cam.max()


EXERCISES = [PAD_CROP, TOP_K, GROUPS, ONE_CYCLE, SIZES, CAM]  # in the notebook's order
