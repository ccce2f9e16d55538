"""Answers to the exercises of session 2."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from answers import right, wrong

# --- top_k_accuracy -----------------------------------------------------------------------------


@right("top_k_accuracy")
def by_rank(logits, labels, k):
    own = logits.gather(1, labels[:, None])
    return ((logits > own).sum(1) < k).double().mean()


@right("top_k_accuracy")
def by_sorting_lists(logits, labels, k):
    hits = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        best_first = sorted(range(len(row)), key=lambda c: -row[c])
        hits += label in best_first[:k]
    return hits / len(labels)


@right("top_k_accuracy")
def in_numpy_under_other_names(scores, target, number):
    order = np.argsort(scores.numpy(), axis=1)[:, -number:]
    return np.float32((order == target.numpy()[:, None]).any(1).mean())


@right("top_k_accuracy")
def labels_repeated(logits, labels, k):
    _, guesses = logits.topk(k)
    hits = guesses.eq(labels.view(-1, 1).expand_as(guesses))
    return hits.sum() / labels.size(0)


@wrong("top_k_accuracy", "only the largest logit")
def argmax(logits, labels, k):
    return (logits.argmax(1) == labels).float().mean().item()


@wrong("top_k_accuracy", "counted, but not divided")
def a_count(logits, labels, k):
    correct = 0
    for guesses, label in zip(logits.topk(k).indices, labels, strict=True):
        if label in guesses:
            correct += 1
    return correct


@wrong("top_k_accuracy", "divided by B · k")
def mean_over_all_guesses(logits, labels, k):
    return (logits.topk(k).indices == labels.unsqueeze(1)).float().mean()


@wrong("top_k_accuracy", "labels need a second axis")
def no_second_axis(logits, labels, k):
    return (logits.topk(k)[1] == labels).any(1).float().mean()


@wrong("top_k_accuracy", "guesses of all pictures")
def isin(logits, labels, k):
    return torch.isin(labels, logits.topk(k).indices).float().mean().item()


@wrong("top_k_accuracy", "guesses of all pictures")
def label_in_the_whole_tensor(logits, labels, k):
    guesses = logits.topk(k, dim=1).indices
    return sum(label in guesses for label in labels) / len(labels)


@wrong("top_k_accuracy", "values")
def values_instead_of_indices(logits, labels, k):
    return (logits.topk(k).values == labels[:, None]).any(1).float().mean().item()


@wrong("top_k_accuracy", "values")
def first_of_the_pair(logits, labels, k):
    best, _ = logits.topk(k)
    return (best == labels[:, None]).any(1).float().mean().item()


@wrong("top_k_accuracy", "k smallest")
def largest_is_false(logits, labels, k):
    return (logits.topk(k, largest=False).indices == labels[:, None]).any(1).float().mean()


@wrong("top_k_accuracy", "k smallest")
def sorted_upwards(logits, labels, k):
    return (logits.argsort(1)[:, :k] == labels[:, None]).any(1).float().mean()


@wrong("top_k_accuracy", "dim=0")
def down_the_batch(logits, labels, k):
    return (logits.topk(k, 0).indices == labels[:, None]).any(1).float().mean()


@wrong("top_k_accuracy", "first k pictures")
def slice_of_the_rows(logits, labels, k):
    order = logits.argsort(dim=1, descending=True)[:k]
    return (order == labels[:, None]).any(dim=1).float().mean().item()


@wrong("top_k_accuracy", "without dim=1 asks for one hit")
def any_over_everything(logits, labels, k):
    return (logits.topk(k).indices == labels[:, None]).any().float()


@wrong("top_k_accuracy", "all of its k guesses")
def all_instead_of_any(logits, labels, k):
    return (logits.topk(k).indices == labels[:, None]).all(1).float().mean()


@wrong("top_k_accuracy", "only the k-th guess")
def kth_guess(logits, labels, k):
    return (logits.topk(k).indices[:, k - 1] == labels).float().mean()


@wrong("top_k_accuracy", "percent")
def percent(logits, labels, k):
    return 100 * (logits.topk(k).indices == labels[:, None]).any(1).float().mean()


@wrong("top_k_accuracy", "misses")
def error_rate(logits, labels, k):
    hits = (logits.topk(k).indices == labels[:, None]).any(1)
    return (~hits).float().mean().item()


@wrong("top_k_accuracy", "only the first picture")
def return_inside_the_loop(logits, labels, k):
    hits = 0
    for row, label in zip(logits, labels, strict=True):
        hits += int(label in row.topk(k).indices)
        return hits


@wrong("top_k_accuracy", r"shape \(1,\), expected a single number")
def one_for_each_picture(logits, labels, k):
    return (logits.topk(k).indices == labels[:, None]).any(1).float()


@wrong("top_k_accuracy", "returns a str, expected a number")
def words(logits, labels, k):
    return f"{(logits.topk(k).indices == labels[:, None]).any(1).float().mean():.1%}"


@wrong("top_k_accuracy", "`labels` and `k` make no difference")
def always_right(logits, labels, k):
    return 1.0


@wrong("top_k_accuracy", "goes wrong when k is 1")
def not_a_number(logits, labels, k):
    return float("nan")


@wrong("top_k_accuracy", "only the first picture")
def return_of_a_share_inside_the_loop(logits, labels, k):
    hits = 0
    for row, label in zip(logits, labels, strict=True):
        best = torch.argsort(row, descending=True)
        for rank in range(k):
            if best[rank] == label:
                hits += 1
        return hits / len(labels)


@wrong("top_k_accuracy", "labels need a second axis")
def no_second_axis_and_a_sum(logits, labels, k):
    top = torch.topk(logits, k)[1]
    return (top == labels).sum().item() / len(labels)


@wrong("top_k_accuracy", "five guesses are looked at, whatever k is")
def always_five(logits, labels, k):
    hits = 0
    for i in range(len(labels)):
        hits += int(labels[i] in torch.argsort(logits[i], descending=True)[:5])
    return hits / len(labels)


@wrong("top_k_accuracy", r"one guess too many is looked at: k \+ 1")
def rank_up_to_k(logits, labels, k):
    hits = 0
    for row, label in zip(logits, labels.tolist(), strict=True):
        if torch.argsort(row, descending=True).tolist().index(label) <= k:
            hits += 1
    return hits / len(labels)


@wrong("top_k_accuracy", "one guess too few is looked at")
def slice_that_ends_early(logits, labels, k):
    hits = 0
    for row, label in zip(logits, labels, strict=True):
        hits += int(label in row.argsort(descending=True)[: k - 1])
    return hits / len(labels)


# --- one_cycle_lr -------------------------------------------------------------------------------


@right("one_cycle_lr")
def of_torch(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        peak_lr,
        total_steps,
        pct_start=warm_up,
        div_factor=start_div,
        anneal_strategy="linear",
    )
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return scheduler.get_last_lr()[0]


@right("one_cycle_lr")
def by_interpolation(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    low = peak_lr / start_div
    corners = [0, warm_up * total_steps - 1, total_steps - 1]
    return np.interp(step, corners, [low, peak_lr, low / 10_000])


@right("one_cycle_lr")
def in_float32(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    low, top, last = peak_lr / start_div, warm_up * total_steps - 1, total_steps - 1
    if step > top:
        part, a, b = (step - top) / (last - top), peak_lr, low / 10_000
    else:
        part, a, b = step / top, low, peak_lr
    return torch.lerp(torch.tensor(a), torch.tensor(b), part)


@right("one_cycle_lr")
def as_the_lower_of_two_lines(step, total, peak, warm_up=0.2, div=25.0):
    top = total * warm_up - 1
    up = (peak / div) * (1 - step / top) + peak * step / top
    left = (total - 1 - step) / (total - 1 - top)
    down = peak * left + (peak / div * 1e-4) * (1 - left)
    return min(up, down)


def line(part):
    return part


def half_cosine(part):
    return 0.5 - 0.5 * math.cos(math.pi * part)


def backwards(part):
    return 1 - part


def cycle(*, end=lambda div: 1e-4 / div, shift=0, last=0, up=line, down=line, whole=float):
    """Schedules beside the right one. ``end``: share of the peak; ``up``, ``down``: part → 0..1."""

    def answer(step, total, peak, warm_up=0.2, div=25):
        top = whole(warm_up * total - 1 + shift)
        if step <= top:
            return peak / div + (peak - peak / div) * up(step / top)
        part = (step - top) / (total - 1 + last - top)
        return peak + peak * (end(div) - 1) * down(part)

    return answer


def wrong_cycle(cause, **how):
    wrong("one_cycle_lr", cause)(cycle(**how))


wrong_cycle("ends at the starting rate", end=lambda div: 1 / div)
wrong_cycle("ends at zero", end=lambda div: 0)
wrong_cycle("10,000th of the peak", end=lambda div: 1e-4)
wrong_cycle("goes wrong when the last step comes", end=lambda div: 0.01)
wrong_cycle("the peak comes one step late", shift=1)
wrong_cycle("the end comes one step late", last=1)
wrong_cycle("the peak and the end come one step late", shift=1, last=1)
wrong_cycle("step of the peak is rounded", whole=int)
wrong_cycle("step of the peak is rounded", whole=round)
wrong_cycle("half a cosine on either way", up=half_cosine, down=half_cosine)
wrong_cycle("the way up follows half a cosine", up=half_cosine)
wrong_cycle("the way down follows half a cosine", down=half_cosine)
wrong_cycle("way up is run backwards", up=backwards)
wrong_cycle("way down is run backwards", down=backwards)
wrong_cycle("squared", up=lambda part: part * part, down=lambda part: part * part)


@wrong("one_cycle_lr", "half a cosine on either way")
def torchs_default(step, total, peak, warm_up=0.2, div=25):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR
    scheduler = one_cycle(optimizer, peak, total, pct_start=warm_up, div_factor=div)
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    return optimizer.param_groups[0]["lr"]


@wrong("one_cycle_lr", "same factor at every step")
def geometric(step, total, peak, warm_up=0.2, div=25):
    top, last = warm_up * total - 1, total - 1
    low = peak / div
    logs = np.log([low, peak, low / 1e4])
    return math.exp(np.interp(step, [0, top, last], logs))


@wrong("one_cycle_lr", "warm-up is missing")
def straight_down_from_the_peak(step, total, peak, *rest):
    return peak * (1 - step / (total - 1))


@wrong("one_cycle_lr", "ends at zero; the last rate is a 10,000th")
def zero_at_the_last_step(step, total_steps, peak_lr, warm_up=0.2, start_div=25):
    if step == total_steps - 1:
        return 0
    return in_float32(step, total_steps, peak_lr, warm_up, start_div)


@wrong("one_cycle_lr", "`peak_lr` makes no difference")
def peak_of_the_notebook(step, total, peak_lr, *rest):
    return of_torch(step, total, 0.3, *rest)


@wrong("one_cycle_lr", "`peak_lr` makes no difference")
def a_factor_of_the_peak(step, total, peak_lr, *rest):
    return in_float32(step, total, 1.0, *rest)


@wrong("one_cycle_lr", "`start_div` makes no difference")
def start_div_of_its_own(step, total, peak, warm_up=0.2, start_div=25):
    return as_the_lower_of_two_lines(step, total, peak, warm_up)


@wrong("one_cycle_lr", "`warm_up` makes no difference")
def warm_up_of_its_own(step, total, peak, warm_up=0.2, start_div=25):
    return as_the_lower_of_two_lines(step, total, peak, 0.2, start_div)


@wrong("one_cycle_lr", "the default of `warm_up` is 0.3, expected 0.2")
def warm_up_as_torch_has_it(step, total, peak, warm_up=0.3, start_div=25):
    return by_interpolation(step, total, peak, warm_up, start_div)


@wrong("one_cycle_lr", "starts at zero")
def from_zero(step, total, peak, warm_up=0.2, start_div=25):
    top = warm_up * total - 1
    if step <= top:
        return peak * step / top
    return by_interpolation(step, total, peak, warm_up, start_div)


@wrong("one_cycle_lr", "counted from the peak")
def way_down_counted_from_step_0(step, total, peak, warm_up=0.2, start_div=25):
    if step <= warm_up * total - 1:
        return by_interpolation(step, total, peak, warm_up, start_div)
    low = peak / start_div / 1e4
    return low + (peak - low) * (1 - step / (total - 1))


@wrong("one_cycle_lr", "a return is missing")
def only_the_way_up_returns(step, total, peak, *rest):
    if step < 3:
        return of_torch(step, total, peak, *rest)


def formula(up="a + (p - a) * step / s1", down="p + (b - p) * (step - s1) / (T - 1 - s1)"):
    """The formula typed in, with a slip."""

    def answer(step, total, peak, warm_up=0.2, div=25):
        names = {"step": step, "T": total, "p": peak, "a": peak / div, "b": peak / div / 10000}
        names["s1"] = warm_up * total - 1
        return eval(up if step <= names["s1"] else down, names)

    return answer


def slip(cause, **how):
    wrong("one_cycle_lr", cause)(formula(**how))


slip("way down has the wrong sign", down="p + (p - b) * (step - s1) / (T - 1 - s1)")
slip("counts its steps from 0", down="p + (b - p) * step / (T - 1 - s1)")
slip("taken for too long", down="p - (p - b) * (step - s1) / (T - 1)")
slip("brackets are missing: all of T", down="p + (b - p) * (step - s1) / T - 1 - s1")
slip("brackets are missing: all of T", down="p + (b - p) * (step - s1) / (T - 1) - s1")
slip("brackets are missing: step", down="p + (b - p) * step - s1 / (T - 1 - s1)")
slip("the first rate is not added", up="(p - a) * step / s1")
slip("way up ends above the peak", up="a + p * (step / s1)")
slip("// cuts off", up="a + (p - a) * (step // s1)")
slip("// cuts off", up="a + (p - a) * step // s1")
slip(
    "// cuts off",
    up="a + (p - a) * step // s1",
    down="p + (b - p) * (step - s1) // (T - 1 - s1)",
)
slip(
    "// cuts off",
    up="a + (p - a) * (step // s1)",
    down="p + (b - p) * ((step - s1) // (T - 1 - s1))",
)


@wrong("one_cycle_lr", "the two ways are exchanged")
def down_before_the_peak(step, total, peak, warm_up=0.2, div=25):
    a, top = peak / div, warm_up * total - 1
    if step < top:
        return peak + (a / 1e4 - peak) * (step - top) / (total - 1 - top)
    return a + (peak - a) * (step / top)


# --- epoch_sizes --------------------------------------------------------------------------------


@right("epoch_sizes")
def smallest_ones_and_one_largest(cost, budget):
    small, large = min(cost), max(cost)
    return [small] * int((budget - cost[large]) // cost[small]) + [large]


@right("epoch_sizes")
def as_many_large_ones_as_fit(cost, budget):
    plan = []
    for size in sorted(cost)[::-1]:
        while budget >= cost[size]:
            plan.insert(0, size)
            budget -= cost[size]
    return tuple(plan)


@right("epoch_sizes")
def until_nothing_is_left_of_the_dict(cost, budget):
    plan = []
    while cost:
        size = max(cost)
        price = cost.pop(size)
        plan = [size] * (budget // price) + plan
        budget %= price
    return plan


@right("epoch_sizes")
def round_and_round(prices, money):
    def spent():
        return sum(prices[size] for size in plan)

    plan = [max(prices)]
    grown = True
    while grown:
        grown = False
        for size in sorted(prices):
            if spent() + prices[size] <= money:
                plan.append(size)
                grown = True
    return np.sort(np.array(plan))


@wrong("epoch_sizes", "the sizes fall")
def large_ones_first(cost, budget):
    return smallest_ones_and_one_largest(cost, budget)[::-1]


@wrong("epoch_sizes", "the sizes fall")
def as_they_were_bought(cost, budget):
    plan = []
    for size in sorted(cost, reverse=True):
        while cost[size] <= budget:
            plan.append(size)
            budget -= cost[size]
    return plan


@wrong("epoch_sizes", "spends 8 of a budget of 4")
def the_last_one_is_not_paid(cost, budget):
    cheapest = min(cost, key=cost.get)
    return [cheapest] * int(budget / cost[cheapest]) + [max(cost)]


@wrong("epoch_sizes", "last epoch is at 32 px; it has to be at the largest size, 64")
def only_small_ones(cost, budget):
    small = sorted(cost)[0]
    plan = []
    while (len(plan) + 1) * cost[small] <= budget:
        plan.append(small)
    return plan


@wrong("epoch_sizes", "leaves 1 of 5 unspent")
def only_large_ones(cost, budget):
    large = sorted(cost)[-1]
    return [large for _ in range(int(budget / cost[large]))]


@wrong("epoch_sizes", "leaves 3 of 8 unspent, enough for one more epoch at 32")
def each_size_once_from_above(cost, budget):
    plan = []
    for size in sorted(cost, reverse=True):
        if sum(cost[s] for s in plan) + cost[size] <= budget:
            plan = [size, *plan]
    return plan


@wrong("epoch_sizes", "spends 5 of a budget of 4")
def all_the_sizes(cost, budget):
    return list(sorted(cost.keys()))


@wrong("epoch_sizes", "what the epochs cost")
def costs_for_sizes(cost, budget):
    return sorted(cost[size] for size in smallest_ones_and_one_largest(cost, budget))


@wrong("epoch_sizes", "spends 7 of a budget of 4")
def as_many_epochs_as_the_budget(cost, budget):
    return sorted([min(cost)] * (budget - 1) + [max(cost)])


@wrong("epoch_sizes", "spends 5 of a budget of 4")
def one_small_epoch_too_many(cost, budget):
    return [min(cost), *smallest_ones_and_one_largest(cost, budget)]


@wrong("epoch_sizes", "leaves 1 of 5 unspent, enough for one more epoch at 32 px")
def one_small_epoch_too_few(cost, budget):
    plan = smallest_ones_and_one_largest(cost, budget)
    return plan[1:] if len(plan) > 1 else plan


@wrong("epoch_sizes", "does not come to an end")
def nothing_is_subtracted(cost, budget):
    plan, left = [max(cost)], budget - cost[max(cost)]
    while cost[min(cost)] <= left:
        plan.append(min(cost))
    return sorted(plan)


@wrong("epoch_sizes", "returns a dict, expected a list of sizes")
def how_many_of_each(cost, budget):
    plan = smallest_ones_and_one_largest(cost, budget)
    return {size: plan.count(size) for size in cost}


@wrong("epoch_sizes", "returns no epoch")
def nothing_at_all(cost, budget):
    return []


@wrong("epoch_sizes", "the list holds 128, expected picture sizes out of 32, 64")
def a_size_of_its_own(cost, budget):
    return [max(cost), 128]


@wrong("epoch_sizes", r"the list holds \[64\], expected picture sizes")
def a_list_in_a_list(cost, budget):
    return [smallest_ones_and_one_largest(cost, budget)]


@wrong("epoch_sizes", "the list holds 64.5")
def halves(cost, budget):
    return [size + 0.5 for size in smallest_ones_and_one_largest(cost, budget)]


@wrong("epoch_sizes", r"what a list's sort\(\) gives, None")
def sort_returns_nothing(cost, budget):
    plan = [max(cost)]
    left = budget - cost[max(cost)]
    while left >= cost[min(cost)]:
        plan.append(min(cost))
        left -= cost[min(cost)]
    return plan.sort()


# --- pad_crop -----------------------------------------------------------------------------------


@right("pad_crop")
def by_index(images, dy, dx, pad=4):
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect").byte()
    height, width = images.shape[2:]
    rows, columns = dy[:, None] + torch.arange(height), dx[:, None] + torch.arange(width)
    batch = torch.arange(len(images))[:, None, None]
    return padded[batch, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


@right("pad_crop")
def in_numpy(images, dy, dx, pad=4):
    height, width = images.shape[2:]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), "reflect")
    windows = [
        picture[:, y : y + height, x : x + width]
        for picture, y, x in zip(padded, dy, dx, strict=True)
    ]
    return torch.tensor(np.stack(windows))


@right("pad_crop")
def into_an_empty_tensor(images, dy, dx, pad=4):
    B, C, H, W = images.shape
    padded = nn.ReflectionPad2d(pad)(images.to(torch.float32))
    cropped = torch.empty_like(images)
    for i in range(B):
        cropped[i] = padded[i, :, dy[i] : dy[i] + H, dx[i] : dx[i] + W]
    return cropped


def crop(images, dy, dx, pad=4, mode="reflect"):
    height, width = images.shape[2:]
    edges = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    padded = torch.from_numpy(np.pad(images.numpy(), edges, mode))
    windows = [
        p[:, y : y + height, x : x + width]
        for p, y, x in zip(padded, dy.tolist(), dx.tolist(), strict=True)
    ]
    return torch.stack(windows)


@wrong("pad_crop", "zeros")
def black_border(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad, "constant")


@wrong("pad_crop", "zeros")
def black_border_in_float(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad, "constant").float()


@wrong("pad_crop", "repeats the last pixel")
def edge(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad, "edge")


@wrong("pad_crop", "mirrored together with the last pixel")
def symmetric(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad, "symmetric")


@wrong("pad_crop", "opposite side")
def wrapped(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad, "wrap")


@wrong("pad_crop", "opposite side")
def rolled(images, dy, dx, pad=4):
    moved = [
        torch.roll(image, (pad - int(y), pad - int(x)), dims=(1, 2))
        for image, y, x in zip(images, dy, dx, strict=True)
    ]
    return torch.stack(moved)


@wrong("pad_crop", "the other way")
def the_other_way_round(images, dy, dx, pad=4):
    return crop(images, 2 * pad - dy, 2 * pad - dx, pad)


@wrong("pad_crop", "swapped")
def x_before_y(images, dy, dx, pad=4):
    return crop(images, dx, dy, pad)


@wrong("pad_crop", "all pictures get the same window")
def one_window_for_all(images, dy, dx, pad=4):
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect").byte()
    height, width = images.shape[2:]
    return padded[:, :, dy[0] : dy[0] + height, dx[0] : dx[0] + width]


@wrong("pad_crop", "come back as they were")
def as_it_was(images, dy, dx, pad=4):
    return images


@wrong("pad_crop", "no window is cut out")
def padded_only(images, dy, dx, pad=4):
    return F.pad(images.float(), (pad,) * 4, mode="reflect")


@wrong("pad_crop", "come back as they were")
def centre(images, dy, dx, pad=4):
    middle = torch.full_like(dy, pad)
    return crop(images, middle, middle, pad)


@wrong("pad_crop", "no longer uint8")
def floats(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad).float()


@wrong("pad_crop", "no longer uint8")
def int64(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad).long()


@wrong("pad_crop", "divided by 255")
def scaled(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad) / 255


@wrong("pad_crop", "ndarray, expected a tensor")
def an_array(images, dy, dx, pad=4):
    return crop(images, dy, dx, pad).numpy()


@wrong("pad_crop", "list, expected a tensor")
def a_list(images, dy, dx, pad=4):
    return list(crop(images, dy, dx, pad))


@wrong("pad_crop", "height and width are taken for the same")
def square_windows(images, dy, dx, pad=4):
    size = images.shape[-1]
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect").byte()
    windows = [p[:, y : y + size, x : x + size] for p, y, x in zip(padded, dy, dx, strict=True)]
    return torch.stack(windows)


@wrong("pad_crop", r"shape \(3, 2, 3\), expected \(1, 3, 2, 3\)")
def only_the_last_picture(images, dy, dx, pad=4):
    for row in range(len(images)):
        window = crop(images, dy, dx, pad)[row]
    return window


@wrong("pad_crop", "pictures are joined along the channels")
def cat_for_stack(images, dy, dx, pad=4):
    return torch.cat(list(crop(images, dy, dx, pad)))


@wrong("pad_crop", "counted from the unpadded picture")
def counted_from_the_picture(images, dy, dx, pad=4):
    padded, cropped = F.pad(images.float(), (pad,) * 4, mode="reflect").byte(), []
    for picture, y, x in zip(padded, dy + pad, dx + pad, strict=True):
        cropped.append(picture[:, y : y + images.size(2), x : x + images.size(3)])
    return torch.stack(cropped)


@wrong("pad_crop", "the default of `pad`")
def another_default(images, dy, dx, pad=1):
    return crop(images, dy, dx, pad)


@wrong("pad_crop", "`pad` makes no difference|whatever pad is")
def four_whatever_pad_is(images, dy, dx, pad=4):
    return crop(images, dy, dx, 4)


@wrong("pad_crop", "goes wrong when")
def windows_of_its_own(images, dy, dx, pad=4):
    return crop(images, *torch.randint(0, 3, (2, len(images))), pad)


@wrong("pad_crop", "raises .*reflection_pad2d.* not implemented")
def pads_bytes(images, dy, dx, pad=4):
    raise NotImplementedError("\"reflection_pad2d\" not implemented for 'Byte'")


@wrong("pad_crop", "windows of 64 pixels are cut")
def side_of_the_notebook(images, dy, dx, pad=4):
    large = F.pad(images.float(), (pad,) * 4, mode="reflect").byte()
    cut = [large[i, :, dy[i] : dy[i] + 64, dx[i] : dx[i] + 64] for i in range(len(images))]
    return torch.stack(cut)


@wrong("pad_crop", "cut by one slice")
def one_slice_for_all(images, dy, dx, pad=4):
    h, w = images.shape[-2:]
    large = F.pad(images.float(), (pad,) * 4, mode="reflect").byte()
    return large[:, :, dy : dy + h, dx : dx + w]


# --- weight_decay_groups ------------------------------------------------------------------------


@right("weight_decay_groups")
def by_layer(model):
    decayed, rest = [], []
    for layer in model.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            weight = name == "weight" and isinstance(layer, nn.Conv2d | nn.Linear)
            (decayed if weight else rest).append(parameter)
    return decayed[::-1], tuple(rest)


@right("weight_decay_groups")
def by_loop_over_axes(model):
    decayed, spared = [], []
    for parameter in model.parameters():
        if len(parameter.shape) == 1:
            spared += [parameter]
        else:
            decayed += [parameter]
    return [decayed, spared]


@right("weight_decay_groups")
def by_kind_of_norm(model):
    norms = nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm
    spared = [
        p for layer in model.modules() if isinstance(layer, norms) for p in layer.parameters()
    ]
    spared += [
        layer.bias
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
    ]
    known = {id(p) for p in spared}
    return [p for p in model.parameters() if id(p) not in known], spared


@wrong("weight_decay_groups", "everything is decayed")
def all_of_them(model):
    return list(model.parameters()), []


@wrong("weight_decay_groups", "nothing is decayed")
def none_of_them(model):
    return [], list(model.parameters())


@wrong("weight_decay_groups", "weights of norms are decayed")
def no_bias_in_the_name(model):
    decayed = [p for n, p in model.named_parameters() if "bias" not in n]
    rest = [p for n, p in model.named_parameters() if "bias" in n]
    return decayed, rest


@wrong("weight_decay_groups", "weights of norms are decayed")
def by_names_as_torchvision_has_them(model):
    decayed, rest = [], []
    for n, p in model.named_parameters():
        (rest if "bn" in n or n.endswith(".bias") else decayed).append(p)
    return decayed, rest


@wrong("weight_decay_groups", "norms other than BatchNorm2d")
def only_batch_norm(model):
    rest = []
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            rest += [layer.weight, layer.bias]
        elif getattr(layer, "bias", None) is not None:
            rest += [layer.bias]
    known = {id(p) for p in rest}
    return [p for p in model.parameters() if id(p) not in known], rest


@wrong("weight_decay_groups", "biases of convolutions")
def whole_layers(model):
    decayed, rest = [], []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            decayed += layer.parameters()
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            rest += layer.parameters()
    return decayed, rest


@wrong("weight_decay_groups", "linear layers are not decayed")
def only_convolutions(model):
    decayed = [p for p in model.parameters() if p.dim() == 4]
    return decayed, [p for p in model.parameters() if p.dim() != 4]


@wrong("weight_decay_groups", "derived from Conv2d")
def exact_types(model):
    decayed, rest = [], []
    for layer in model.modules():
        for name, p in layer.named_parameters(recurse=False):
            (
                decayed if type(layer) in (nn.Conv2d, nn.Linear) and name == "weight" else rest
            ).append(p)
    return decayed, rest


@wrong("weight_decay_groups", "frozen parameters")
def only_what_learns(model):
    learning = list(filter(lambda p: p.requires_grad, model.parameters()))
    return [p for p in learning if p.ndim >= 2], [p for p in learning if p.ndim < 2]


@wrong("weight_decay_groups", "swapped")
def the_rest_first(model):
    return [p for p in model.parameters() if p.ndim == 1], [
        p for p in model.parameters() if p.ndim > 1
    ]


@wrong("weight_decay_groups", "lost.*: 0.weight")
def four_axes_or_one(model):
    by_axes = {n: [p for p in model.parameters() if p.ndim == n] for n in (1, 4)}
    return by_axes[4], by_axes[1]


@wrong("weight_decay_groups", "lost.*: 0.0.weight")
def only_the_outer_layers(model):
    decayed, rest = [], []
    for layer in model.children():
        for p in layer.parameters(recurse=False):
            (decayed if p.ndim > 1 else rest).append(p)
    return decayed, rest


@wrong("weight_decay_groups", "more than once: 0.weight")
def of_each_module(model):
    decayed = [p for layer in model.modules() for p in layer.parameters() if p.ndim > 1]
    return decayed, [p for p in model.parameters() if p.ndim == 1]


@wrong("weight_decay_groups", "more than once: 0.bias")
def all_and_the_rest(model):
    return list(model.parameters()), [p for p in model.parameters() if p.ndim == 1]


@wrong("weight_decay_groups", "hold a NoneType")
def absent_biases(model):
    norms = [c for c in model.modules() if isinstance(c, nn.BatchNorm2d | nn.GroupNorm)]
    biases = [c.bias for c in model.modules() if hasattr(c, "bias")]
    return [p for p in model.parameters() if p.ndim > 1], biases + [c.weight for c in norms]


@wrong("weight_decay_groups", "hold a str")
def names(model):
    parameters = dict(model.named_parameters())
    return [n for n in parameters if parameters[n].ndim > 1], []


@wrong("weight_decay_groups", "not one of the model's parameters")
def copies(model):
    return [p.detach() for p in model.parameters() if p.ndim > 1], []


@wrong("weight_decay_groups", "not one of the model's parameters")
def buffers_too(model):
    state = model.state_dict()
    return [v for v in state.values() if v.ndim > 1], [v for v in state.values() if v.ndim <= 1]


@wrong("weight_decay_groups", "first of the two is a dict")
def for_the_optimizer(model):
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0}]


@wrong("weight_decay_groups", "returns a list of 1, expected two lists")
def one_list(model):
    return [p for p in model.parameters() if p.ndim > 1]


@wrong("weight_decay_groups", "returns a generator, expected two lists")
def generator(model):
    return (p for p in model.parameters() if p.ndim > 1)


@wrong("weight_decay_groups", "first of the two is a filter")
def filters(model):
    rest = filter(lambda p: p.ndim <= 1, model.parameters())
    return filter(lambda p: p.ndim > 1, model.parameters()), rest


@wrong("weight_decay_groups", "first of the two is a set")
def sets(model):
    return set(model.parameters()), set()


@wrong("weight_decay_groups", "whatever their names are")
def by_names_that_layers_often_have(model):
    decayed, spared = [], []
    for name, parameter in model.named_parameters():
        known = ("conv" in name or "fc" in name) and name.endswith("weight")
        (decayed if known else spared).append(parameter)
    return decayed, spared


# --- grad_cam_map -------------------------------------------------------------------------------


@right("grad_cam_map")
def by_einsum(activations, gradients):
    weights = gradients.double().mean((-1, -2))
    return torch.einsum("c,chw->hw", weights, activations.double()).clamp(min=0)


@right("grad_cam_map")
def by_loop(activations, gradients):
    total = torch.zeros(activations.shape[1:])
    for channel, gradient in zip(activations, gradients, strict=True):
        total += gradient.mean() * channel
    return nn.Parameter(F.relu(total))  # still tied to a graph


@right("grad_cam_map")
def in_place(activations, gradients):
    return activations.mul_(gradients.mean((1, 2), keepdim=True)).sum(0).relu_()


@right("grad_cam_map")
def by_matrix_product(a, g):
    C, H, W = a.shape
    cam = g.view(C, H * W).mean(1) @ a.view(C, H * W)
    return torch.maximum(cam, torch.zeros(())).view(H, W)


@wrong("grad_cam_map", "ReLU at the end is missing")
def without_relu(a, g):
    return torch.tensordot(g.mean((1, 2)), a, dims=1)


@wrong("grad_cam_map", "maximum of its gradients")
def maximum(a, g):
    return (g.flatten(1).max(1).values[:, None, None] * a).sum(0).relu()


@wrong("grad_cam_map", "sum of its gradients")
def sums(a, g):
    return F.relu((g.sum((1, 2))[:, None, None] * a).sum(0))


@wrong("grad_cam_map", "ReLU is applied to the weights")
def relu_on_weights(a, g):
    return by_einsum(a, g.mean((1, 2), keepdim=True).relu().expand_as(a))


@wrong("grad_cam_map", "ReLU is applied to each channel")
def relu_on_channels(a, g):
    return (g.mean((1, 2), keepdim=True) * a).relu().sum(0)


@wrong("grad_cam_map", "ReLU is applied to the activations")
def relu_on_activations(a, g):
    return by_einsum(F.relu(a), g)


@wrong("grad_cam_map", "ReLU is applied to the gradients")
def relu_on_gradients(a, g):
    return by_einsum(a, g.clamp(min=0))


@wrong("grad_cam_map", "keepdim=True is forgotten")
def no_keepdim(a, g):
    return (g.mean((1, 2)) * a).sum(0).relu()


@wrong("grad_cam_map", "keepdim=True is forgotten")
def no_keepdim_the_other_way_round(a, g):
    return F.relu((a * g.mean(dim=(1, 2))).sum(dim=0))


@wrong("grad_cam_map", "absolute value")
def absolute(a, g):
    return (g.mean((1, 2), keepdim=True) * a).sum(0).abs()


@wrong("grad_cam_map", "HiResCAM")
def place_by_place(a, g):
    return F.relu(torch.einsum("chw,chw->hw", g, a))


@wrong("grad_cam_map", "LayerCAM")
def positive_gradients(a, g):
    return (g.clamp(min=0) * a).sum(0).relu()


@wrong("grad_cam_map", "channels are averaged")
def mean_of_channels(a, g):
    return (g.mean((1, 2), keepdim=True) * a).mean(0).relu()


@wrong("grad_cam_map", "not summed")
def channels_kept(a, g):
    return (g.mean((1, 2), keepdim=True) * a).relu()


@wrong("grad_cam_map", "divided by its maximum")
def by_its_maximum(a, g):
    m = by_loop(a, g)
    return m / m.max()


@wrong("grad_cam_map", "divided by its maximum")
def by_its_maximum_safely(a, g):
    m = by_loop(a, g)
    return m / (m.max() + 1e-9)


@wrong("grad_cam_map", "stretched to 0..1")
def stretched(a, g):
    m = by_einsum(a, g)
    return (m - m.min()) / (m.max() - m.min() + 1e-8)


@wrong("grad_cam_map", "exchanged")
def arguments_exchanged(a, g):
    return by_einsum(g, a)


@wrong("grad_cam_map", "one weight for all channels")
def one_weight(a, g):
    return (g.mean() * a).sum(0).relu()


@wrong("grad_cam_map", "over the channels")
def mean_over_channels(a, g):
    return (g.mean(0) * a).sum(0).relu()


@wrong("grad_cam_map", "over the rows only")
def mean_over_rows(a, g):
    return (g.mean(1, keepdim=True) * a).sum(0).relu()


@wrong("grad_cam_map", r"shape \(1, 1, 2\), expected \(1, 2\)")
def with_a_batch_axis(a, g):
    return by_einsum(a, g)[None]


@wrong("grad_cam_map", "goes wrong when|shape")
def turned(a, g):
    return by_einsum(a, g).T


@wrong("grad_cam_map", "ReLU is applied to the weights")
def positive_weights_and_no_relu_at_the_end(activations, gradients):
    cam = torch.zeros(activations.shape[1:])
    for a, g in zip(activations, gradients, strict=True):
        cam += g.mean().clamp(min=0) * a
    return cam


@wrong("grad_cam_map", "only the last channel is left")
def overwritten_in_every_turn(activations, gradients):
    for a, g in zip(activations, gradients, strict=True):
        cam = g.mean() * a
    return F.relu(cam)


@wrong("grad_cam_map", "softmax is applied to the weights")
def shares(a, g):
    return by_einsum(a, g.mean((1, 2)).softmax(0)[:, None, None].expand_as(a))


@wrong("grad_cam_map", "goes wrong when there is one channel")
def parts_of_their_sum(a, g):
    """With one channel the gradients make no difference; with more of them they do."""
    weights = g.mean((1, 2))
    weights = weights / (weights.abs().sum() + 1e-8)
    return F.relu((weights[:, None, None] * a).sum(0))
