"""Answers to the exercises of session 1."""

import itertools
import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from answers import right, wrong
from course_lib.models.blocks import BasicBlock

# --- conv_cost ----------------------------------------------------------------------------------


@right("conv_cost")
def sizes_rounded_up(in_channels, out_channels, kernel, stride, height, width):
    weights = in_channels * out_channels * kernel**2
    return weights, weights * math.ceil(height / stride) * math.ceil(width / stride)


@right("conv_cost")
def asked_of_a_layer(cin, cout, k, s, h, w):
    conv = nn.Conv2d(cin, cout, k, stride=s, padding=k // 2, bias=False, device="meta")
    out = conv(torch.empty(1, cin, h, w, device="meta"))
    weights = sum(p.numel() for p in conv.parameters())
    return [weights, weights * out.shape[2] * out.shape[3]]


@right("conv_cost")
def in_floats(in_channels, out_channels, kernel, stride, height, width):
    per_value = np.float64(in_channels * kernel * kernel)
    rows, columns = len(range(0, height, stride)), len(range(0, width, stride))
    return per_value * out_channels, per_value * out_channels * rows * columns


@wrong("conv_cost", "stride is left out")
def at_every_pixel_of_the_input(in_channels, out_channels, kernel, stride, height, width):
    parameters = in_channels * out_channels * kernel**2
    return parameters, parameters * height * width


@wrong("conv_cost", "rounded down")
def halved_with_two_slashes(in_channels, out_channels, kernel, stride, height, width):
    parameters = in_channels * out_channels * kernel * kernel
    return parameters, parameters * (height // stride) * (width // stride)


@wrong("conv_cost", "not a whole number")
def halved_with_one_slash(in_channels, out_channels, kernel, stride, height, width):
    parameters = in_channels * out_channels * kernel * kernel
    return parameters, parameters * (height / stride) * (width / stride)


@wrong("conv_cost", "bias")
def one_bias_for_each_output(in_channels, out_channels, kernel, stride, height, width):
    h, w = -(-height // stride), -(-width // stride)
    weights = in_channels * kernel * kernel * out_channels
    return weights + out_channels, weights * h * w


@wrong("conv_cost", "bias")
def bias_in_both(in_channels, out_channels, kernel, stride, height, width):
    h, w = -(-height // stride), -(-width // stride)
    weights = (in_channels * kernel * kernel + 1) * out_channels
    return weights, weights * h * w


@wrong("conv_cost", "counted twice")
def flops(in_channels, out_channels, kernel, stride, height, width):
    h, w = math.ceil(height / stride), math.ceil(width / stride)
    weights = in_channels * kernel * kernel * out_channels
    return weights, 2 * weights * h * w


@wrong("conv_cost", "kernel · kernel")
def a_row_of_the_kernel(in_channels, out_channels, kernel, stride, height, width):
    h, w = math.ceil(height / stride), math.ceil(width / stride)
    weights = in_channels * kernel * out_channels
    return weights, weights * h * w


@wrong("conv_cost", "need not be square")
def as_wide_as_high(in_channels, out_channels, kernel, stride, height, width):
    size = (height + 2 * (kernel // 2) - kernel) // stride + 1
    weights = in_channels * kernel**2 * out_channels
    return weights, weights * size**2


@wrong("conv_cost", "need not be square")
def as_high_as_wide(in_channels, out_channels, kernel, stride, height, width):
    size = (width + 2 * (kernel // 2) - kernel) // stride + 1
    weights = in_channels * kernel**2 * out_channels
    return weights, weights * size * size


@wrong("conv_cost", "in_channels is left out")
def one_plane_of_input(in_channels, out_channels, kernel, stride, height, width):
    weights = out_channels * kernel**2
    return weights, weights * math.ceil(height / stride) * math.ceil(width / stride)


@wrong("conv_cost", "multiply-adds of one output channel")
def work_of_one_filter(in_channels, out_channels, kernel, stride, height, width):
    h, w = math.ceil(height / stride), math.ceil(width / stride)
    return in_channels * out_channels * kernel**2, in_channels * kernel**2 * h * w


@wrong("conv_cost", "padding is left out")
def smaller_by_the_kernel(in_channels, out_channels, kernel, stride, height, width):
    h = (height - kernel) // stride + 1
    w = (width - kernel) // stride + 1
    weights = in_channels * out_channels * kernel**2
    return weights, weights * h * w


@wrong("conv_cost", "padding .* on both sides")
def padded_on_one_side(in_channels, out_channels, kernel, stride, height, width):
    pad = kernel // 2
    h, w = (height + pad - kernel) // stride + 1, (width + pad - kernel) // stride + 1
    weights = in_channels * out_channels * kernel**2
    return weights, weights * h * w


@wrong("conv_cost", r"\+ 1 is missing")
def steps_instead_of_halts(in_channels, out_channels, kernel, stride, height, width):
    rows = (height + 2 * (kernel // 2) - kernel) // stride
    columns = (width + 2 * (kernel // 2) - kernel) // stride
    weights = in_channels * out_channels * kernel**2
    return weights, weights * rows * columns


@wrong("conv_cost", "padding is taken to be kernel")
def padded_by_the_kernel(in_channels, out_channels, kernel, stride, height, width):
    pad, weights = kernel, in_channels * out_channels * kernel**2
    rows = (height + 2 * pad - kernel) // stride + 1
    columns = (width + 2 * pad - kernel) // stride + 1
    return weights, weights * rows * columns


@wrong("conv_cost", "not a whole number")
def formula_with_one_slash(in_channels, out_channels, kernel, stride, height, width):
    rows = (height + 2 * (kernel // 2) - kernel) / stride + 1
    columns = (width + 2 * (kernel // 2) - kernel) / stride + 1
    weights = in_channels * out_channels * kernel**2
    return weights, weights * rows * columns


@wrong("conv_cost", "not a whole number")
def made_whole_at_the_end(*args):
    weights, work = formula_with_one_slash(*args)
    return weights, int(work)


@wrong("conv_cost", "channels are left out of the work")
def work_of_one_kernel(in_channels, out_channels, kernel, stride, height, width):
    h, w = math.ceil(height / stride), math.ceil(width / stride)
    return in_channels * out_channels * kernel**2, kernel * kernel * h * w


@wrong("conv_cost", "channels are left out of the work")
def work_on_one_plane(in_channels, out_channels, kernel, stride, height, width):
    h, w = math.ceil(height / stride), math.ceil(width / stride)
    return in_channels * out_channels * kernel**2, out_channels * kernel * kernel * h * w


@wrong("conv_cost", "exchanged")
def work_first(*args):
    return sizes_rounded_up(*args)[::-1]


@wrong("conv_cost", "in one direction only")
def one_stride(in_channels, out_channels, kernel, stride, height, width):
    weights = in_channels * out_channels * kernel**2
    return weights, weights * math.ceil(height / stride) * width


@wrong("conv_cost", "divided by stride²")
def a_quarter_of_the_work(in_channels, out_channels, kernel, stride, height, width):
    weights = in_channels * out_channels * kernel**2
    return weights, weights * height * width // stride**2


@wrong("conv_cost", "added")
def channels_added(in_channels, out_channels, kernel, stride, height, width):
    weights = (in_channels + out_channels) * kernel**2
    return weights, weights * math.ceil(height / stride) * math.ceil(width / stride)


@wrong("conv_cost", r"returns a int, expected two numbers, \(parameters, multiply_adds\)")
def only_the_work(*args):
    return sizes_rounded_up(*args)[1]


@wrong("conv_cost", "returns a dict, expected two numbers")
def by_name(*args):
    return dict(zip(("parameters", "multiply_adds"), sizes_rounded_up(*args), strict=True))


@wrong("conv_cost", "returns a tuple of 3, expected two numbers")
def with_the_output_size(*args):
    return *sizes_rounded_up(*args), 1


@wrong("conv_cost", "`in_channels` and `out_channels` make no difference")
def from_memory(*args):
    return 9408, 118_013_952


# --- training_step ------------------------------------------------------------------------------


@wrong("training_step", r"returns a tensor, .*loss.item\(\) makes a Python number")
def as_torchs_tutorial_has_it(model, optimizer, images, labels):
    model.train()
    criterion = nn.CrossEntropyLoss()
    optimizer.zero_grad()
    outputs = model(images)
    loss = criterion(outputs, labels)
    loss.backward()
    optimizer.step()
    return loss  # a tensor, still with its graph: np.mean of a list of them raises


@wrong("training_step", r"returns a tensor, .*loss.item\(\) makes a Python number")
def cut_off_and_on_its_device(*args):
    return as_torchs_tutorial_has_it(*args).detach()


@wrong("training_step", "left over from before")
def never_zeroed_and_a_tensor(model, optimizer, images, labels):
    model.train()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


@right("training_step")
def picture_by_picture(model, optimizer, images, labels):
    optimizer.zero_grad()
    logits = model.train()(images)
    total = 0
    for row, label in zip(logits, labels, strict=True):
        total = total - row.log_softmax(0)[label] / len(labels)
    total.backward()
    optimizer.step()
    return total.item()


@right("training_step")
def by_closure(model, optimizer, images, labels):
    def closure():
        model.zero_grad()
        log_probabilities = model.train()(images).log_softmax(-1)
        loss = -log_probabilities[torch.arange(len(labels)), labels].mean()
        loss.backward()
        return loss

    return optimizer.step(closure).detach().numpy()


@right("training_step")
def gradients_by_hand(net, opt, x, y):
    net.train(True)
    loss = F.nll_loss(F.log_softmax(net(x), dim=1), y)
    parameters = list(net.parameters())
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        p.grad = g
    opt.step()
    opt.zero_grad()
    return float(loss.detach())


@wrong("training_step", "left over from before")
def never_zeroed(model, optimizer, images, labels):
    model.train()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "left over from before")
def zeroed_at_the_end(model, optimizer, images, labels):
    model.train()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@wrong("training_step", "between backward and step")
def zeroed_too_late(model, optimizer, images, labels):
    model.train()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@wrong("training_step", "between backward and step")
def zeroed_with_zeros_too_late(model, optimizer, images, labels):
    model.train()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    return loss.item()


@wrong("training_step", r"optimizer.step\(\) comes before loss.backward")
def step_before_backward(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    optimizer.step()
    loss.backward()
    return loss.item()


@wrong("training_step", r"optimizer.step\(\) comes before loss.backward")
def step_with_old_gradients(model, optimizer, images, labels):
    model.train()
    loss = F.cross_entropy(model(images), labels)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@wrong("training_step", r"no weight moves: optimizer.step\(\) is missing")
def no_step(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = nn.CrossEntropyLoss()(model(images), labels)
    loss.backward()
    return loss.item()


@wrong("training_step", r"no weight moves: loss.backward\(\) is missing")
def no_backward(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = nn.CrossEntropyLoss()(model(images), labels)
    optimizer.step()
    return loss.item()


@wrong("training_step", "softmax")
def probabilities(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images).softmax(1), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "nll_loss")
def likelihood_of_logits(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = F.nll_loss(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "squared error")
def squares(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    logits = model(images)
    loss = F.mse_loss(logits, F.one_hot(labels, logits.size(1)).float())
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "summed")
def summed_loss(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels, reduction="sum")
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "times the number of pictures")
def for_a_running_sum(*args):
    return as_torchs_tutorial_has_it(*args).item() * len(args[-1])


@wrong("training_step", r"model.train\(\) is missing")
def whatever_mode_it_has(model, optimizer, images, labels):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", r"model.train\(\) is missing")
def train_without_parentheses(model, optimizer, images, labels):
    model.train  # noqa: B018
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", r"model.train\(\) comes after")
def train_mode_too_late(model, optimizer, images, labels):
    logits = model(images)
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "in eval mode")
def in_eval_mode(model, optimizer, images, labels):
    model.eval()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "left in eval mode")
def eval_at_the_end(model, *args):
    loss = as_torchs_tutorial_has_it(model, *args)
    model.eval()
    return loss.item()


@wrong("training_step", "mode from before the call is restored")
def polite_about_the_mode(model, *args):
    was_training = model.training
    loss = as_torchs_tutorial_has_it(model, *args).item()
    model.train(was_training)
    return loss


@wrong("training_step", "after the step")
def loss_of_the_new_weights(model, optimizer, images, labels):
    as_torchs_tutorial_has_it(model, optimizer, images, labels)
    return F.cross_entropy(model(images), labels).item()


@wrong("training_step", "after the step")
def loss_of_the_new_weights_in_eval_mode(model, optimizer, images, labels):
    as_torchs_tutorial_has_it(model, optimizer, images, labels)
    with torch.no_grad():
        return F.cross_entropy(model.eval()(images), labels).item()


@wrong("training_step", "given optimizer is not used")
def update_by_hand(model, optimizer, images, labels):
    model.train()
    model.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= optimizer.param_groups[0]["lr"] * p.grad
    return loss.item()


@wrong("training_step", "given optimizer is not used")
def its_own_optimizer(model, optimizer, images, labels):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return as_torchs_tutorial_has_it(model, optimizer, images, labels).item()


@wrong("training_step", "given optimizer is not used")
def adam(model, optimizer, images, labels):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    return as_torchs_tutorial_has_it(model, optimizer, images, labels).item()


@wrong("training_step", "two steps")
def two_steps(*args):
    first = as_torchs_tutorial_has_it(*args)
    as_torchs_tutorial_has_it(*args)
    return first.item()


@wrong("training_step", "twice")
def backward_twice(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward(retain_graph=True)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "runs through the batch twice")
def forward_twice(model, optimizer, images, labels):
    model.train()
    model(images)
    return as_torchs_tutorial_has_it(model, optimizer, images, labels).item()


@wrong("training_step", "no_grad")
def without_gradients(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    with torch.no_grad():
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "cut off")
def item_too_early(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = torch.tensor(F.cross_entropy(model(images), labels).item())
    loss.backward()
    optimizer.step()
    return loss


@wrong("training_step", "raises AttributeError: 'float' object has no attribute 'backward'")
def backward_of_a_float(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels).item()
    loss.backward()
    optimizer.step()
    return loss


@wrong("training_step", "grad can be implicitly created only for scalar outputs")
def a_loss_for_each_picture(model, optimizer, images, labels):
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels, reduction="none")
    loss.backward()
    optimizer.step()
    return loss


@wrong("training_step", "raises [A-Za-z]*Error: .*log_softmax.* not implemented")
def labels_first(model, optimizer, images, labels):
    loss = F.cross_entropy(labels, model(images))
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("training_step", "returns a tuple, expected a number")
def with_the_logits(model, optimizer, images, labels):
    return as_torchs_tutorial_has_it(model, optimizer, images, labels).item(), model(images)


@wrong("training_step", "shape .* expected a single number")
def the_logits(model, optimizer, images, labels):
    as_torchs_tutorial_has_it(model, optimizer, images, labels)
    return model(images)


@wrong("training_step", "a return is missing")
def nothing_comes_back(*args):
    as_torchs_tutorial_has_it(*args)


# --- accuracy -----------------------------------------------------------------------------------


@right("accuracy")
@torch.inference_mode()
def hits_in_one_tensor(model, batches):
    mode = model.training
    model.eval()
    hits = torch.cat([model(x).argmax(1) == y for x, y in batches])
    model.train(mode)
    return hits.double().mean()


@right("accuracy")
def with_gradients_and_in_lists(net, loader):
    before = net.training
    net.train(False)
    guessed, wanted = [], []
    for pictures, classes in loader:
        _, best = net(pictures).max(dim=-1)
        guessed += best.tolist()
        wanted += classes.tolist()
    if before:
        net.train()
    return sum(g == w for g, w in zip(guessed, wanted, strict=True)) / len(wanted)


@right("accuracy")
def mean_weighted_by_size(model, batches):
    mode = model.training
    try:
        model.eval()
        with torch.no_grad():
            shares = [
                ((model(x).softmax(1).topk(1).indices[:, 0] == y).float().mean().item(), len(y))
                for x, y in batches
            ]
    finally:
        model.train(mode)
    return np.average([s for s, _ in shares], weights=[n for _, n in shares])


@right("accuracy")
def pictures_one_by_one(model, batches):
    was_training = model.training
    model.eval()
    right_ones = pictures = 0
    for x, y in batches:
        for i in range(len(x)):
            right_ones += model(x[i : i + 1])[0].argmax() == y[i]
            pictures += 1
    model.train(was_training)
    return right_ones / pictures


@wrong("accuracy", "without the axis of the batch")
def pictures_without_their_batch(model, batches):
    was_training = model.training
    model.eval()
    right_ones = pictures = 0
    for x, y in batches:
        for i in range(len(x)):
            if model(x[i]).argmax() == y[i]:
                right_ones += 1
            pictures += 1
    model.train(was_training)
    return right_ones / pictures


@wrong("accuracy", r"max\(dim=1\) gives values and places together")
def max_for_argmax(model, batches):
    model.eval()
    right_ones = pictures = 0
    for x, y in batches:
        right_ones += (model(x).max(dim=1) == y).sum().item()
        pictures += len(y)
    return right_ones / pictures


def share(model, batches, *, hit=lambda logits, y: logits.argmax(1) == y):
    """The right answer, with another question about each picture."""
    mode, right_ones, pictures = model.training, 0, 0
    model.eval()
    with torch.no_grad():
        for x, y in batches:
            right_ones += hit(model(x), y).sum().item()
            pictures += y.shape[0]
    model.train(mode)
    return right_ones / pictures


@wrong("accuracy", "mean of the batches")
def mean_of_means(model, batches):
    shares = [share(model, [batch]) for batch in batches]
    return sum(shares) / len(shares)


@wrong("accuracy", r"model.eval\(\) is missing")
@torch.no_grad()
def no_eval(model, batches):
    hits = torch.cat([model(x).argmax(1) == y for x, y in batches])
    return hits.float().mean().item()


@wrong("accuracy", r"model.eval\(\) is missing")
def eval_without_parentheses(model, batches):
    model.eval  # noqa: B018
    right_ones, pictures = 0, 0
    for x, y in batches:
        right_ones += (model(x).argmax(1) == y).sum()
        pictures += len(y)
    return right_ones / pictures


@wrong("accuracy", "always in train mode")
@torch.no_grad()
def train_first(model, batches):
    model.train()
    hits = torch.cat([model(x).argmax(1) == y for x, y in batches])
    return hits.float().mean().item()


@wrong("accuracy", "left in eval mode")
def eval_for_ever(model, batches):
    model.eval()
    with torch.no_grad():
        hits = [hit for x, y in batches for hit in (model(x).argmax(1) == y).tolist()]
    return sum(hits) / len(hits)


@wrong("accuracy", "always left in train mode")
def train_at_the_end(model, batches):
    found = eval_for_ever(model, batches)
    model.train()
    return found


@wrong("accuracy", "of the outer module alone")
def the_flag_alone(model, batches):
    mode = model.training
    found = eval_for_ever(model, batches)
    model.training = mode
    return found


@wrong("accuracy", "percent")
def in_percent(model, batches):
    return 100.0 * share(model, batches)


@wrong("accuracy", "counted, but not divided")
def how_many(model, batches):
    return share(model, batches) * sum(len(y) for _, y in batches)


@wrong("accuracy", "number of batches")
def by_the_number_of_batches(model, batches):
    return how_many(model, batches) / sum(1 for _ in batches)


@wrong("accuracy", "misses")
def errors(model, batches):
    return share(model, batches, hit=lambda logits, y: logits.argmax(1) != y)


@wrong("accuracy", "dim=0")
def dim_0(model, batches):
    return share(model, batches, hit=lambda logits, y: logits.argmax(0) == y)


@wrong("accuracy", "without dim=1")
def no_dim(model, batches):
    return share(model, batches, hit=lambda logits, y: logits.argmax() == y)


@wrong("accuracy", "first batch")
def return_in_the_loop(model, batches):
    mode = model.training
    model.eval()
    for x, y in batches:
        found = (model(x).argmax(1) == y).float().mean().item()
        model.train(mode)
        return found


@wrong("accuracy", "first batch")
def one_batch(model, batches):
    return share(model, [next(iter(batches))])


@wrong("accuracy", "only the last batch")
def counters_in_the_loop(model, batches):
    mode = model.training
    model.eval()
    for x, y in batches:
        right_ones, pictures = 0, 0
        right_ones += (model(x).argmax(1) == y).sum().item()
        pictures += len(y)
    model.train(mode)
    return right_ones / pictures


@wrong("accuracy", "last batch is left out")
def drop_last(model, batches):
    batches = list(batches)
    return share(model, batches[:-1] or batches)


@wrong("accuracy", "size of the first batch")
def all_as_large_as_the_first(model, batches):
    batches = list(batches)
    hits = sum(share(model, [batch]) * len(batch[1]) for batch in batches)
    return hits / (len(batches) * len(batches[0][1]))


@wrong("accuracy", "smallest logit")
def smallest(model, batches):
    return share(model, batches, hit=lambda logits, y: logits.argmin(1) == y)


@wrong("accuracy", "values of the largest logits")
def largest_values(model, batches):
    return share(model, batches, hit=lambda logits, y: logits.amax(1) == y)


@wrong("accuracy", "raises TypeError: object of type .* has no len")
def asks_for_the_length(model, batches):
    return share(model, batches) * len(batches) / len(batches)


@wrong("accuracy", "returns a str, expected a number")
def as_text(model, batches):
    return f"{share(model, batches):.1%}"


@wrong("accuracy", r"shape \(.*\), expected a single number")
def one_answer_each(model, batches):
    mode = model.training
    model.eval()
    hits = torch.cat([model(x).argmax(1) == y for x, y in batches])
    model.train(mode)
    return hits.float()


@wrong("accuracy", "a return is missing")
def forgotten(model, batches):
    share(model, batches)


# --- residual_block -----------------------------------------------------------------------------

right("residual_block")(BasicBlock)


@right("residual_block")
class AsTorchvisionHasIt(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(
            inplanes, planes, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            conv = nn.Conv2d(inplanes, planes, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(planes))
        self.out_channels = planes

    def forward(self, x):
        identity = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


@right("residual_block")
class ByFunctions(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        for number, (before, step) in enumerate([(in_channels, stride), (channels, 1)], 1):
            setattr(self, f"conv{number}", nn.Conv2d(before, channels, 3, step, 1, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(channels))
        if (in_channels, stride) != (channels, 1):
            self.downsample = nn.Sequential()
            self.downsample.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(channels))

    @property
    def out_channels(self):
        return self.conv2.out_channels

    def forward(self, x):
        branch = self.bn2(self.conv2(self.bn1(self.conv1(x)).clamp(min=0)))
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return torch.maximum(branch + shortcut, torch.zeros(()))


class Block(nn.Module):
    """The right block, in parts that the wrong ones below replace."""

    bias = False
    kernels = (3, 3)
    norm = nn.BatchNorm2d

    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        self.out_channels = channels
        (k1, k2), (s1, s2) = self.kernels, self.strides(stride)
        self.conv1 = nn.Conv2d(in_channels, channels, k1, s1, k1 // 2, bias=self.bias)
        self.bn1 = self.norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, k2, s2, k2 // 2, bias=self.bias)
        self.bn2 = self.norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if self.is_needed(in_channels, channels, stride):
            self.downsample = self.projection(in_channels, channels, stride)

    def strides(self, stride):
        return stride, 1

    def is_needed(self, in_channels, channels, stride):
        return stride > 1 or in_channels != channels

    def projection(self, in_channels, channels, stride):
        conv = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(channels))

    def shortcut(self, x):
        return x if self.downsample is None else self.downsample(x)

    def branch(self, x):
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    def forward(self, x):
        return self.relu(self.branch(x) + self.shortcut(x))


right("residual_block")(Block)


@wrong("residual_block", "shortcut is not added")
class NoShortcut(Block):
    def forward(self, x):
        return self.relu(self.branch(x))


@wrong("residual_block", "shortcut is not added")
class NoShortcutAtAll(Block):
    def is_needed(self, *args):
        return False

    def forward(self, x):
        return self.relu(self.branch(x))


@wrong("residual_block", "the branch passes a ReLU before the sum")
class ReluBeforeTheSum(Block):
    def forward(self, x):
        return self.relu(self.branch(x)) + self.shortcut(x)


@wrong("residual_block", "the branch passes a ReLU before the sum")
class ReluBeforeAndAfterTheSum(Block):
    def forward(self, x):
        return F.relu(F.relu(self.branch(x)) + self.shortcut(x))


@wrong("residual_block", "last ReLU is missing")
class NoLastRelu(Block):
    def forward(self, x):
        return self.branch(x) + self.shortcut(x)


@wrong("residual_block", "ReLU between .* is missing")
class NoFirstRelu(Block):
    def branch(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))


@wrong("residual_block", "the stride is in the second convolution")
class StrideInTheSecond(Block):
    def strides(self, stride):
        return 1, stride


@wrong("residual_block", "the stride is in both convolutions")
class StrideInBoth(Block):
    def strides(self, stride):
        return stride, stride


@wrong("residual_block", "the stride is missing in the branch")
class StrideInTheShortcutOnly(Block):
    def strides(self, stride):
        return 1, 1


@wrong("residual_block", "the stride is missing in the shortcut")
class StrideInTheBranchOnly(Block):
    def projection(self, in_channels, channels, stride):
        return super().projection(in_channels, channels, 1)


@wrong("residual_block", "stride is ignored")
class NoStrideAnywhere(Block):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__(in_channels, channels)


@wrong("residual_block", "no norm")
class NoNorm(Block):
    def norm(self, channels):
        return nn.Identity()


@wrong("residual_block", "no norm")
class NoNormWithoutNames(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.out_channels = cout
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.downsample = nn.Sequential()
        if stride != 1 or cin != cout:
            self.downsample = nn.Conv2d(cin, cout, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.downsample(x) + self.conv2(F.relu(self.conv1(x))))


@wrong("residual_block", "one norm in two places")
class OneNormUnderTwoNames(Block):
    def __init__(self, *args):
        super().__init__(*args)
        self.bn2 = self.bn1


@wrong("residual_block", "one norm in two places")
class OneNormUsedTwice(Block):
    def branch(self, x):
        return self.bn1(self.conv2(self.relu(self.bn1(self.conv1(x)))))


@wrong("residual_block", "one norm in two places")
class OneNormUnderOneName(Block):
    def __init__(self, *args):
        super().__init__(*args)
        del self.bn2

    def branch(self, x):
        return self.bn1(self.conv2(self.relu(self.bn1(self.conv1(x)))))


@wrong("residual_block", "one convolution in two places")
class OneConvolutionUsedTwice(Block):
    def branch(self, x):
        return self.bn2(self.conv1(self.relu(self.bn1(self.conv1(x)))))


@wrong("residual_block", "no projection")
class NeverProjected(Block):
    def is_needed(self, *args):
        return False


@wrong("residual_block", "only the channels change")
class ProjectedIfStrided(Block):
    def is_needed(self, in_channels, channels, stride):
        return stride != 1


@wrong("residual_block", "only the stride")
class ProjectedIfWidened(Block):
    def is_needed(self, in_channels, channels, stride):
        return in_channels != channels


@wrong("residual_block", "only the channels change|only the stride")
class ProjectedIfBoth(Block):
    def is_needed(self, in_channels, channels, stride):
        return in_channels != channels and stride != 1


@wrong("residual_block", "though the shape stays")
class AlwaysProjected(Block):
    def is_needed(self, *args):
        return True


@wrong("residual_block", "projection has no norm")
class ProjectionWithoutNorm(Block):
    def projection(self, in_channels, channels, stride):
        return super().projection(in_channels, channels, stride)[:1]


@wrong("residual_block", "projection has no norm")
class ProjectionIsAConvolution(Block):
    def projection(self, in_channels, channels, stride):
        return super().projection(in_channels, channels, stride)[0]


@wrong("residual_block", "convolutions have a bias")
class WithBias(Block):
    bias = True


@wrong("residual_block", "convolution of the projection has a bias")
class ProjectionWithBias(Block):
    def projection(self, in_channels, channels, stride):
        return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))


@wrong("residual_block", r"conv1.weight has shape \(2, 2, 1, 1\), expected \(2, 2, 3, 3\)")
class OneByOneFirst(Block):
    kernels = (1, 3)


@wrong("residual_block", r"conv2.weight has shape \(2, 2, 1, 1\), expected \(2, 2, 3, 3\)")
class OneByOneSecond(Block):
    kernels = (3, 1)


@wrong("residual_block", r"downsample.0.weight has shape .*3, 3\), expected .*1, 1\)")
class ThreeByThreeProjection(Block):
    def projection(self, in_channels, channels, stride):
        conv = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(channels))


@wrong("residual_block", "not padded")
class NoPadding(Block):
    def __init__(self, *args):
        super().__init__(*args)
        self.conv1.padding = self.conv2.padding = 0


@wrong("residual_block", "1×1 convolution of the projection is padded")
class ProjectionPadded(Block):
    def projection(self, in_channels, channels, stride):
        conv = nn.Conv2d(in_channels, channels, 1, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(channels))


@wrong("residual_block", "in a Python list PyTorch does not find it")
class ProjectionInAList(Block):
    def projection(self, *args):
        return list(super().projection(*args))

    def shortcut(self, x):
        for layer in self.downsample or []:
            x = layer(x)
        return x


@wrong("residual_block", "none behind the projection")
class ReluBehindTheProjection(Block):
    def shortcut(self, x):
        return x if self.downsample is None else F.relu(self.downsample(x))


@wrong("residual_block", "the shortcut passes a ReLU")
class ReluOnTheShortcut(Block):
    def shortcut(self, x):
        return F.relu(super().shortcut(x))


@wrong("residual_block", "projection gets what the branch made")
class BranchProjected(Block):
    def forward(self, x):
        f = self.branch(x)
        if self.downsample is not None:
            f = self.downsample(f)
        return self.relu(f + x)


@wrong("residual_block", r"nn.ReLU\(x\) makes a layer")
class LayerMadeInTheMiddle(Block):
    def branch(self, x):
        return self.bn2(self.conv2(nn.ReLU(self.bn1(self.conv1(x)))))


@wrong("residual_block", r"nn.ReLU\(x\) makes a layer")
class LayerMadeAtTheEnd(Block):
    def forward(self, x):
        return nn.ReLU(self.branch(x) + self.shortcut(x))


@wrong("residual_block", "overwritten")
class XOverwritten(Block):
    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = x + self.shortcut(x)
        return self.relu(x)


@wrong("residual_block", "of the first convolution")
class ShortcutFromTheMiddle(Block):
    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + x)


@wrong("residual_block", "beside each other")
class Concatenated(Block):
    def forward(self, x):
        return F.relu(torch.cat([self.branch(x), self.shortcut(x)], dim=1))


@wrong("residual_block", "multiplied")
class Multiplied(Block):
    def forward(self, x):
        return F.relu(self.branch(x) * self.shortcut(x))


@wrong("residual_block", "ReLU .* before its norm")
class ReluBeforeTheNorm(Block):
    def branch(self, x):
        return self.bn2(self.conv2(self.bn1(F.relu(self.conv1(x)))))


@wrong("residual_block", "pre-activation")
class PreActivation(Block):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)

    def forward(self, x):
        branch = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return branch + self.shortcut(x)


@wrong("residual_block", "changes x in place")
class AddedInPlace(Block):
    def forward(self, x):
        if self.downsample is not None:
            return super().forward(x)
        x += self.branch(x)
        return F.relu(x)


@wrong("residual_block", "changes x in place")
class ActivatedInPlace(Block):
    def forward(self, x):
        return super().forward(F.relu(x, inplace=True))


@wrong("residual_block", "no gradient passes the shortcut")
class Detached(Block):
    def shortcut(self, x):
        return super().shortcut(x).detach()


@wrong("residual_block", "no gradient passes the shortcut")
class ShortcutWithoutGradient(Block):
    def shortcut(self, x):
        with torch.no_grad():
            return super().shortcut(x)


@wrong("residual_block", r"super\(\).__init__\(\) is missing")
class NoSuper(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.bn1(self.conv1(x))


@wrong("residual_block", "forward returns nothing: a return is missing")
class NoReturn(Block):
    def forward(self, x):
        self.relu(self.branch(x) + self.shortcut(x))


@wrong("residual_block", "forward returns a tuple, expected a tensor")
class TwoTensors(Block):
    def forward(self, x):
        return self.branch(x), self.shortcut(x)


@wrong("residual_block", r"missing: bn1.weight, .*unexpected: norm1.weight")
class OtherNames(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        self.out_channels = channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + x)


@wrong("residual_block", r"missing: downsample.0.weight, .*unexpected: shortcut.0.weight")
class ShortcutUnderAnotherName(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        self.out_channels = channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


@wrong("residual_block", "no parameters")
class LayersInAList(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        self.layers = [
            nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@wrong("residual_block", "out_channels")
class NoOutChannels(Block):
    def __init__(self, *args):
        super().__init__(*args)
        del self.out_channels


@wrong("residual_block", "out_channels")
class OutChannelsOfTheInput(Block):
    def __init__(self, in_channels, *rest):
        super().__init__(in_channels, *rest)
        self.out_channels = in_channels


@wrong("residual_block", "makes a NoModule, expected an nn.Module")
class NoModule:
    def __init__(self, in_channels, channels, stride=1):
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)

    def forward(self, x):
        return self.conv1(x)


@wrong("residual_block", 'missing the required "forward" function')
class NoForward(nn.Module):
    def __init__(self, *args):
        super().__init__()
        self.__dict__["_modules"].update(Block(*args)._modules)


@wrong("residual_block", r"raises TypeError: .*forward\(\)")
class ForwardWithoutSelf(Block):
    def forward(x):
        return x


@wrong("residual_block", "raises AttributeError: .*bn3")
class RaisesInForward(Block):
    def forward(self, x):
        return self.relu(self.bn3(self.branch(x)) + self.shortcut(x))


# --- block_parameters ---------------------------------------------------------------------------


@right("block_parameters")
def of_the_block_itself(in_channels, channels, stride):
    return sum(p.numel() for p in BasicBlock(in_channels, channels, stride).parameters())


@right("block_parameters")
def in_one_line(a, b, s):
    return 9 * b * (a + b) + 4 * b + (a * b + 2 * b) * (s != 1 or a != b)


@right("block_parameters")
def layer_by_layer(in_channels, channels, stride):
    shapes = [(channels, in_channels, 3, 3), (channels, channels, 3, 3)] + [(channels,)] * 4
    if (in_channels, 1) != (channels, stride):
        shapes += [(channels, in_channels, 1, 1), (channels,), (channels,)]
    return np.sum([np.prod(shape) for shape in shapes])


def counted(
    *,
    needed=lambda a, b, s: s > 1 or a != b,
    projection=lambda a, b: a * b + 2 * b,
    branch=lambda a, b: 9 * a * b + 9 * b * b + 4 * b,
    after=lambda count, s: count,
):
    def answer(in_channels, channels, stride):
        count = branch(in_channels, channels)
        if needed(in_channels, channels, stride):
            count += projection(in_channels, channels)
        return after(count, stride)

    return answer


def wrong_count(cause, **how):
    wrong("block_parameters", cause)(counted(**how))


wrong_count("though the shape stays", needed=lambda a, b, s: True)
wrong_count("projection is not counted", needed=lambda a, b, s: False)
wrong_count("where only the channels change", needed=lambda a, b, s: s != 1)
wrong_count("where only the stride", needed=lambda a, b, s: a != b)
wrong_count("norm of the projection", projection=lambda a, b: a * b)
wrong_count("projection is 1×1", projection=lambda a, b: 9 * a * b + 2 * b)
wrong_count("a norm has .* channels, not in", projection=lambda a, b: a * b + 2 * a)
wrong_count("norms are not counted", branch=lambda a, b: 9 * a * b + 9 * b * b)
wrong_count(
    "norms are not counted",
    branch=lambda a, b: 9 * a * b + 9 * b * b,
    projection=lambda a, b: a * b,
)
wrong_count("one of the two norms", branch=lambda a, b: 9 * a * b + 9 * b * b + 2 * b)
wrong_count(
    "one number for each channel",
    branch=lambda a, b: 9 * a * b + 9 * b * b + 2 * b,
    projection=lambda a, b: a * b + b,
)
wrong_count(
    "running",
    branch=lambda a, b: 9 * a * b + 9 * b * b + 8 * b,
    projection=lambda a, b: a * b + 4 * b,
)
wrong_count(
    "bias",
    branch=lambda a, b: 9 * a * b + 9 * b * b + 6 * b,
    projection=lambda a, b: a * b + 3 * b,
)
wrong_count("bias", branch=lambda a, b: 9 * a * b + 9 * b * b + 6 * b)
wrong_count(
    "two numbers in all",
    branch=lambda a, b: 9 * a * b + 9 * b * b + 2 + 2,
    projection=lambda a, b: a * b + 2,
)
wrong_count("second convolution", branch=lambda a, b: 18 * a * b + 4 * b)
wrong_count("3 · 3", branch=lambda a, b: 3 * a * b + 3 * b * b + 4 * b)
wrong_count("3 · 3", branch=lambda a, b: a * b + b * b + 4 * b)
wrong_count("only one of the two convolutions", branch=lambda a, b: 9 * a * b + 4 * b)
wrong_count(
    "a norm has .* channels, not in", branch=lambda a, b: 9 * a * b + 9 * b * b + 2 * a + 2 * b
)
wrong_count("stride does not change", after=lambda count, stride: count // stride**2)


@wrong("block_parameters", "running")
def whole_state_dict(*args):
    return sum(value.numel() for value in BasicBlock(*args).state_dict().values())


@wrong("block_parameters", "number of tensors")
def len_of_parameters(*args):
    return len(list(BasicBlock(*args).parameters()))


@wrong("block_parameters", r"shape \(\d,\), expected a single number")
def of_each_tensor(*args):
    return torch.tensor([p.numel() for p in BasicBlock(*args).parameters()])


@wrong("block_parameters", "returns a tuple, expected a number")
def branch_and_projection(a, b, s):
    return 9 * b * (a + b) + 4 * b, (a * b + 2 * b) * (s != 1 or a != b)


@wrong("block_parameters", "a return is missing")
def returns_only_where_projected(a, b, s):
    if s != 1 or a != b:
        return in_one_line(a, b, s)


# --- shortcut_a ---------------------------------------------------------------------------------


@right("shortcut_a")
def pad_behind(x, out_channels, stride):
    return F.pad(x[..., ::stride, ::stride], (0, 0, 0, 0, 0, out_channels - x.size(1)))


@right("shortcut_a")
def pool_of_one_pixel(x, out_channels, stride):
    skipped = F.avg_pool2d(x, kernel_size=1, stride=stride)
    out = torch.zeros(x.size(0), out_channels, *skipped.shape[2:], dtype=x.dtype)
    out[:, : x.size(1)] = skipped
    return out


@right("shortcut_a")
def by_index_select(x, out_channels, stride):
    rows, columns = torch.arange(0, x.size(2), stride), torch.arange(0, x.size(3), stride)
    x = x.index_select(2, rows).index_select(3, columns)
    planes = list(x.unbind(1))
    planes += [torch.zeros_like(planes[0])] * (out_channels - len(planes))
    return torch.stack(planes, 1)


def widen(x, out_channels, fill=0.0):
    extra = out_channels - x.size(1)
    return torch.cat([x, torch.full_like(x[:, :1], fill).expand(-1, extra, -1, -1)], dim=1)


@wrong("shortcut_a", "in front")
def zeros_first(x, out_channels, stride):
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, out_channels - x.size(1), 0))


@wrong("shortcut_a", "on both sides")
def zeros_around(x, out_channels, stride):
    extra = out_channels - x.size(1)
    front = extra // 2
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, front, extra - front))


@wrong("shortcut_a", "on both sides")
def more_zeros_in_front(x, out_channels, stride):
    extra = out_channels - x.size(1)
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, extra - extra // 2, extra // 2))


@wrong("shortcut_a", "averaged")
def average_pool(x, out_channels, stride):
    return widen(F.avg_pool2d(x, stride, ceil_mode=True), out_channels)


@wrong("shortcut_a", "averaged")
def average_pool_that_drops_the_rest(x, out_channels, stride):
    return widen(F.avg_pool2d(x, stride), out_channels)


@wrong("shortcut_a", "largest")
def max_pool(x, out_channels, stride):
    return widen(F.max_pool2d(x, stride, ceil_mode=True), out_channels)


@wrong("shortcut_a", "along the height")
def zeros_below(x, out_channels, stride):
    x = x[:, :, ::stride, ::stride]
    zeros = torch.zeros(x.size(0), x.size(1), out_channels - x.size(1), x.size(3), dtype=x.dtype)
    return torch.cat([x, zeros], dim=2)


@wrong("shortcut_a", "no gradient leads back from the result")
def shortcut_without_a_gradient(x, out_channels, stride):
    x = x.detach()[:, :, ::stride, ::stride]
    return F.pad(x, (0, 0, 0, 0, 0, out_channels - x.shape[1]))


@wrong("shortcut_a", "along the batch")
def zeros_as_pictures(x, out_channels, stride):
    x = x[:, :, ::stride, ::stride]
    zeros = torch.zeros(out_channels - x.size(1), *x.shape[1:], dtype=x.dtype)
    return torch.cat([x, zeros])


@wrong("shortcut_a", "around the picture|along the width")
def pad_takes_the_last_axis_first(x, out_channels, stride):
    return F.pad(x[:, :, ::stride, ::stride], (0, out_channels - x.size(1)))


@wrong("shortcut_a", "stride .* columns")
def rows_only(x, out_channels, stride):
    return widen(x[:, :, ::stride], out_channels)


@wrong("shortcut_a", "stride .* rows")
def columns_only(x, out_channels, stride):
    return widen(x[..., ::stride], out_channels)


@wrong("shortcut_a", "stride .* channels")
def channels_and_rows(x, out_channels, stride):
    return widen(x[:, ::stride, ::stride], out_channels)


@wrong("shortcut_a", "begins at")
def second_pixel(x, out_channels, stride):
    return widen(x[:, :, stride - 1 :: stride, stride - 1 :: stride], out_channels)


@wrong("shortcut_a", "second pixel")
def pixels_counted_from_one(x, out_channels, stride):
    return widen(x[:, :, 1::stride, 1::stride], out_channels)


@wrong("shortcut_a", "skips pictures and channels")
def first_two_axes(x, out_channels, stride):
    return widen(x[::stride, ::stride], out_channels)


@wrong("shortcut_a", "ones")
def ones(x, out_channels, stride):
    return widen(x[:, :, ::stride, ::stride], out_channels, 1.0)


@wrong("shortcut_a", "repeated")
def repeated(x, out_channels, stride):
    x = x[:, :, ::stride, ::stride]
    times = -(-out_channels // x.size(1))
    return x.repeat(1, times, 1, 1)[:, :out_channels]


@wrong("shortcut_a", "channels are missing")
def not_widened(x, out_channels, stride):
    return x[:, :, ::stride, ::stride]


@wrong("shortcut_a", "stride is ignored")
def not_strided(x, out_channels, stride):
    return widen(x, out_channels)


@wrong("shortcut_a", "upper left")
def corner(x, out_channels, stride):
    h, w = -(-x.size(2) // stride), -(-x.size(3) // stride)
    return widen(x[:, :, :h, :w], out_channels)


@wrong("shortcut_a", "last row")
def rounded_down(x, out_channels, stride):
    h, w = x.size(2) // stride * stride, x.size(3) // stride * stride
    return widen(x[:, :, :h:stride, :w:stride], out_channels)


@wrong("shortcut_a", "last row")
def filled_in_where_rounded_down(x, out_channels, stride):
    batch, channels, height, width = x.shape
    wide = torch.zeros(batch, out_channels, height // stride, width // stride, dtype=x.dtype)
    wide[:, :channels] = x[:, :, ::stride, ::stride]
    return wide


@wrong("shortcut_a", "last row")
def loops_rounded_down(x, out_channels, stride):
    batch, channels, height, width = x.shape
    wide = torch.zeros(batch, out_channels, height // stride, width // stride, dtype=x.dtype)
    for row in range(height // stride):
        for column in range(width // stride):
            wide[:, :channels, row, column] = x[:, :, row * stride, column * stride]
    return wide


@wrong("shortcut_a", "whatever stride is")
def stride_of_two(x, out_channels, stride):
    return widen(x[:, :, ::2, ::2], out_channels)


@wrong("shortcut_a", "out_channels zeros .* in addition")
def out_channels_more(x, out_channels, stride):
    return widen(x[:, :, ::stride, ::stride], x.size(1) + out_channels)


@wrong("shortcut_a", "twice the channels")
def twice_the_channels(x, out_channels, stride):
    return widen(x[:, :, ::stride, ::stride], 2 * x.size(1))


@wrong("shortcut_a", "float32 .* bfloat16")
def zeros_in_float32(x, out_channels, stride):
    x = x[:, :, ::stride, ::stride]
    zeros = torch.zeros(x.size(0), out_channels - x.size(1), x.size(2), x.size(3))
    return torch.cat((x, zeros), 1)


@wrong("shortcut_a", "ndarray, expected a tensor")
def in_arrays(x, out_channels, stride):
    x = x.float().numpy()[:, :, ::stride, ::stride]
    return np.pad(x, ((0, 0), (0, out_channels - x.shape[1]), (0, 0), (0, 0)))


@wrong("shortcut_a", "along the batch")
def zeros_behind_the_pictures(x, out_channels, stride):
    x = x[:, :, ::stride, ::stride]
    zeros = torch.zeros(x.size(0), out_channels - x.size(1), x.size(2), x.size(3), dtype=x.dtype)
    return torch.cat([x, zeros])


@wrong("shortcut_a", "from before its pixels were skipped")
def zeros_of_the_old_size(x, out_channels, stride):
    zeros = torch.zeros(x.size(0), out_channels - x.size(1), x.size(2), x.size(3))
    return torch.cat([x[:, :, ::stride, ::stride], zeros], dim=1)


# --- resnet -------------------------------------------------------------------------------------


class Net(nn.Module):
    """The right network, in parts that the wrong ones below replace."""

    kernel, step, bias = 7, 2, False
    names = ("layer1", "layer2", "layer3", "layer4")

    def __init__(self, block, counts, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, self.kernel, self.step, self.kernel // 2, bias=self.bias)
        self.bn1 = nn.BatchNorm2d(64)
        self.inplanes = 64
        for stage, (name, count) in enumerate(zip(self.names, counts, strict=False)):
            setattr(self, name, self.make_layer(block, stage, count))
        self.fc = self.make_head(num_classes)

    def make_layer(self, block, stage, count):
        layers = []
        for number in range(count):
            layers.append(
                block(self.inplanes, self.channels(stage), self.stride(stage, number, count))
            )
            self.inplanes = self.next_channels(layers[-1])
        return nn.Sequential(*layers)

    def make_head(self, num_classes):
        return nn.Linear(self.inplanes, num_classes)

    def channels(self, stage):
        return (64, 128, 256, 512)[stage]

    def stride(self, stage, number, count):
        return 2 if stage and not number else 1

    def next_channels(self, block):
        return block.out_channels

    def stem(self, x):
        return F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)

    def pool(self, x):
        return x.mean((2, 3))

    def forward(self, x):
        x = self.stem(x)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.fc(self.pool(x))


def net(**parts):
    """``Net`` with other parts."""
    kind = type("OtherNet", (Net,), parts)

    def answer(block, counts, num_classes):
        return kind(block, counts, num_classes)

    return answer


right("resnet")(net())


@right("resnet")
def one_sequential(block, counts, num_classes):
    def stage(before, channels, count, stride):
        first = block(before, channels, stride)
        rest = [block(first.out_channels, channels) for _ in range(count - 1)]
        return nn.Sequential(first, *rest)

    parts = OrderedDict()
    parts["conv1"] = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
    parts["bn1"] = nn.BatchNorm2d(64)
    parts["relu"] = nn.ReLU(inplace=True)
    parts["maxpool"] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    before = 64
    for n in range(4):
        parts[f"layer{n + 1}"] = stage(before, 64 << n, counts[n], 1 if n == 0 else 2)
        before = parts[f"layer{n + 1}"][-1].out_channels
    parts["avgpool"] = nn.AdaptiveAvgPool2d((1, 1))
    parts["flatten"] = nn.Flatten(1)
    parts["fc"] = nn.Linear(before, num_classes)
    return nn.Sequential(parts)


@right("resnet")
class WithKeywords(Net):
    def make_layer(self, block, stage, count):
        first = block(
            in_channels=self.inplanes, channels=64 * 2**stage, stride=1 if stage == 0 else 2
        )
        self.inplanes = first.out_channels
        rest = [block(in_channels=self.inplanes, channels=64 * 2**stage) for _ in range(1, count)]
        return nn.Sequential(first, *rest)


@wrong("resnet", "max-pooling")
class NoMaxPool(Net):
    def stem(self, x):
        return F.relu(self.bn1(self.conv1(x)))


@wrong("resnet", "ReLU of the stem")
class NoReluInTheStem(Net):
    def stem(self, x):
        return F.max_pool2d(self.bn1(self.conv1(x)), 3, 2, 1)


@wrong("resnet", "norm of the stem")
class NoNormInTheStem(Net):
    def __init__(self, *args):
        super().__init__(*args)
        del self.bn1

    def stem(self, x):
        return F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)


@wrong("resnet", "max-pooling of the stem takes 2×2")
class PoolOfTwo(Net):
    def stem(self, x):
        return F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)


@wrong("resnet", "ends in a softmax")
class EndsInSoftmax(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


wrong("resnet", r"conv1.weight has shape \(64, 3, 3, 3\), expected \(64, 3, 7, 7\)")(net(kernel=3))
wrong("resnet", "first convolution has no stride")(net(step=1))
wrong("resnet", "first convolution has a bias")(net(bias=True))
wrong("resnet", "in layer1")(net(stride=lambda self, stage, number, count: 2 - (number > 0)))
wrong("resnet", "every block")(net(stride=lambda self, stage, number, count: 2 if stage else 1))
wrong("resnet", "never")(net(stride=lambda self, stage, number, count: 1))
wrong("resnet", "in the last block")(
    net(stride=lambda self, stage, number, count: 2 if stage and number == count - 1 else 1)
)
wrong("resnet", "channels do not double")(net(channels=lambda self, stage: 64))
wrong("resnet", "channels grow")(net(channels=lambda self, stage: 64 * (stage + 1)))
wrong("resnet", "num_classes is ignored")(
    net(make_head=lambda self, num_classes: nn.Linear(self.inplanes, 1000))
)
wrong("resnet", "512")(net(make_head=lambda self, num_classes: nn.Linear(512, num_classes)))
wrong("resnet", "missing: fc.bias")(
    net(make_head=lambda self, num_classes: nn.Linear(self.inplanes, num_classes, bias=False))
)
wrong("resnet", "largest")(net(pool=lambda self, x: x.amax((2, 3))))
wrong("resnet", "sum")(net(pool=lambda self, x: x.sum((2, 3))))
wrong("resnet", "upper left")(net(pool=lambda self, x: x[:, :, 0, 0]))
wrong("resnet", "no pooling")(net(pool=lambda self, x: x.flatten(1)))
wrong("resnet", "7×7")(net(pool=lambda self, x: F.avg_pool2d(x, 7).flatten(1)))
wrong("resnet", "missing: layer1.0.conv.weight, .*unexpected: stage1.0.conv.weight")(
    net(names=("stage1", "stage2", "stage3", "stage4"))
)
wrong("resnet", "counted from 0|unexpected: layer0")(
    net(names=("layer0", "layer1", "layer2", "layer3"))
)
wrong("resnet", "missing: layer4.0.conv.weight")(net(names=("layer1", "layer2", "layer3")))


@wrong("resnet", "counts is ignored")
def resnet18_for_ever(block, counts, num_classes):
    return Net(block, (2, 2, 2, 2), num_classes)


@wrong("resnet", "counts .* reversed")
def last_stage_first(block, counts, num_classes):
    return Net(block, counts[::-1], num_classes)


@wrong("resnet", "one block more")
def one_block_too_many(block, counts, num_classes):
    return Net(block, [count + 1 for count in counts], num_classes)


@wrong("resnet", "out_channels")
class ChannelsInsteadOfOutChannels(Net):
    def make_layer(self, block, stage, count):
        layers = []
        for number in range(count):
            layers += [
                block(self.inplanes, self.channels(stage), self.stride(stage, number, count))
            ]
            self.inplanes = self.channels(stage)
        return nn.Sequential(*layers)


@wrong("resnet", "in_channels")
class InChannelsOfTheStage(Net):
    def make_layer(self, block, stage, count):
        strides = [self.stride(stage, number, count) for number in range(count)]
        channels = self.channels(stage)
        layers = [block(channels, channels, stride) for stride in strides]
        self.inplanes = layers[-1].out_channels
        return nn.Sequential(*layers)


@wrong("resnet", "raises AttributeError: .*expansion")
class Expansion(Net):
    def make_layer(self, block, stage, count):
        layers = super().make_layer(block, stage, count)
        self.inplanes = self.channels(stage) * block.expansion
        return layers


@wrong("resnet", "one block is used again and again")
class TheSameBlockAgain(Net):
    def make_layer(self, block, stage, count):
        first = block(self.inplanes, self.channels(stage), self.stride(stage, 0, count))
        self.inplanes = first.out_channels
        again = block(self.inplanes, self.channels(stage))
        return nn.Sequential(first, *[again] * (count - 1))


@wrong("resnet", "ends in a ReLU")
class EndsInRelu(Net):
    def forward(self, x):
        return F.relu(super().forward(x))


@wrong("resnet", "padded by 1")
class StemPaddedByOne(Net):
    def __init__(self, *args):
        super().__init__(*args)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 1, bias=False)


@wrong("resnet", "Python list")
class StagesInAList(nn.Module):
    def __init__(self, *args):
        super().__init__()
        whole = Net(*args)
        self.conv1, self.bn1, self.fc = whole.conv1, whole.bn1, whole.fc
        self.stages = [whole.layer1, whole.layer2, whole.layer3, whole.layer4]

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in self.stages:
            x = stage(x)
        return self.fc(x.mean((2, 3)))


@wrong("resnet", "expected an nn.Module")
def the_class(block, counts, num_classes):
    return Net


@wrong("resnet", "makes a list, expected an nn.Module")
def the_layers(block, counts, num_classes):
    return list(Net(block, counts, num_classes).children())


@wrong("resnet", "forward returns nothing")
class NetWithoutReturn(Net):
    def forward(self, x):
        super().forward(x)


@wrong("resnet", "a return is missing")
def network_forgotten(block, counts, num_classes):
    Net(block, counts, num_classes)


@wrong("resnet", "not flattened")
class FlattenForgotten(Net):
    def pool(self, x):
        return F.adaptive_avg_pool2d(x, 1)


# --- receptive_field ----------------------------------------------------------------------------


@right("receptive_field")
def from_the_last_layer_back(layers):
    field = 1
    for kernel, stride in reversed(layers):
        field = (field - 1) * stride + kernel
    return field


@right("receptive_field")
def by_products(layers):
    kernels, strides = np.array(layers).T
    steps = np.cumprod([1, *strides[:-1]])
    return 1 + ((kernels - 1) * steps).sum()


@right("receptive_field")
def by_gradient(layers):
    size = 2000
    line = torch.ones(1, 1, size, dtype=torch.double, requires_grad=True)
    out = line
    for kernel, stride in layers:
        out = F.conv1d(out, torch.ones(1, 1, kernel, dtype=torch.double), stride=stride)
    out[0, 0, 0].backward()
    return int((line.grad != 0).sum())


def field_of(layers, *, start=1, step=1, grow=None, move=None):
    field = start
    for kernel, stride in layers:
        field = grow(field, kernel, stride, step)
        step = move(step, stride) if move else step
    return field


def wrong_field(cause, **how):
    def answer(layers):
        return field_of(layers, **how)

    wrong("receptive_field", cause)(answer)


def times(step, stride):
    return step * stride


def by_step(field, kernel, stride, step):
    return field + (kernel - 1) * step


wrong_field("kernels are added", start=0, grow=lambda f, k, s, step: f + k)
wrong_field("strides are ignored", grow=lambda f, k, s, step: f + k - 1)
wrong_field("its own stride", grow=lambda f, k, s, step: f + (k - 1) * step * s, move=times)
wrong_field("only the stride of the layer itself", grow=lambda f, k, s, step: f + (k - 1) * s)
wrong_field("kernels are multiplied", grow=lambda f, k, s, step: f * k)
wrong_field("starts at 0", start=0, grow=by_step, move=times)
wrong_field("kernel - 1", grow=lambda f, k, s, step: f + k * step, move=times)
wrong_field("kernel - 1", start=0, grow=lambda f, k, s, step: f + k * step, move=times)
wrong_field(
    "of the layer before", grow=lambda f, k, s, step: f + (k - 1) * step, move=lambda a, s: s
)
wrong_field(
    "strides are added", grow=lambda f, k, s, step: f + (k - 1) * step, move=lambda a, s: a + s
)
wrong_field("every kernel is taken to be 3×3", grow=lambda f, k, s, step: f + 2 * step, move=times)
wrong_field("on one side alone", grow=lambda f, k, s, step: f + k // 2 * step, move=times)
wrong_field("may be even", grow=lambda f, k, s, step: f + k // 2 * 2 * step, move=times)
wrong_field("step is doubled", grow=by_step, move=lambda a, s: a if s == 1 else 2 * a)
wrong_field("product of the strides", grow=lambda f, k, s, step: f * s)
wrong_field("the wrong order", grow=lambda f, k, s, step: (f - 1) * s + k)


@wrong("receptive_field", "the wrong order")
def the_other_way(layers):
    field, step = 1, 1
    for kernel, stride in layers[::-1]:
        field += (kernel - 1) * step
        step *= stride
    return field


@wrong("receptive_field", "field - 1 steps")
def backwards_without_minus_one(layers):
    field = 1
    for kernel, stride in layers[::-1]:
        field = field * stride + kernel - 1
    return field


@wrong("receptive_field", "field - 1 steps")
def backwards_with_the_whole_kernel(layers):
    field = 1
    while layers:
        *layers, (kernel, stride) = layers
        field = field * stride + kernel
    return field


@wrong("receptive_field", "exchanged")
def stride_before_kernel(layers):
    return from_the_last_layer_back([(kernel, stride) for stride, kernel in layers])


@wrong("receptive_field", "squared|area")
def area(layers):
    return from_the_last_layer_back(layers) ** 2


@wrong("receptive_field", "largest kernel")
def largest(layers):
    return max(kernel for kernel, _ in layers)


@wrong("receptive_field", "only the first layer|return stands inside the loop")
def returns_at_once(layers):
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
        return field


@wrong("receptive_field", "the last layer is left out")
def up_to_the_last(layers):
    return by_gradient(layers[:-1])


@wrong("receptive_field", "returns a tuple, expected a number")
def field_and_step(layers):
    return from_the_last_layer_back(layers), math.prod(stride for _, stride in layers)


@wrong("receptive_field", r"shape \(\d+,\), expected a single number")
def after_each_layer(layers):
    return np.array([from_the_last_layer_back(layers[: n + 1]) for n in range(len(layers))] + [0])


@wrong("receptive_field", "raises ValueError: too many values to unpack|raises ValueError")
def unpacks_the_list(layers):
    kernel, stride, padding = layers[0]
    return sum(itertools.chain([1], [kernel - 1]))
