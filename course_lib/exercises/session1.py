"""The exercises of session 1, ResNet from scratch.

For each: the solution, the inputs it is tried on, and the usual mistakes with their names. The
solutions stand as they do in the notebook, so that they can be read one after the other.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.exercises import modules
from course_lib.exercises.checker import Exercise, Unreadable, read_number, read_tensor
from course_lib.exercises.given import expect_gradient

# --- conv_cost ----------------------------------------------------------------------------------


def conv_cost(
    in_channels: int, out_channels: int, kernel: int, stride: int, height: int, width: int
) -> tuple[int, int]:
    """Parameters and multiply-adds of a square convolution without bias, padded by kernel // 2.

    kernel: odd. height, width: of the input map, not always multiples of the stride.
    Returns (parameters, multiply-adds for one picture).
    """
    # each output channel has a window of weights, kernel × kernel, for each input channel
    parameters = out_channels * in_channels * kernel * kernel

    # how often the window fits into the padded map, in steps of the stride
    padding = kernel // 2
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1

    # every weight is used once at every position of the output
    multiply_adds = parameters * out_height * out_width

    return parameters, multiply_adds


def _read_cost(result, args: list) -> dict[str, float]:
    expected = "expected two numbers, (parameters, multiply_adds)"

    if not isinstance(result, list | tuple):
        raise Unreadable(f"it returns a {type(result).__name__}, {expected}")
    if len(result) != 2:
        raise Unreadable(f"it returns a {type(result).__name__} of {len(result)}, {expected}")

    parameters, multiply_adds = (read_number(number, args) for number in result)
    return {"parameters": parameters, "multiply-adds": multiply_adds}


def _conv_cases() -> list[tuple]:
    return [
        ("there is a single weight", 1, 1, 1, 1, 2, 3),
        ("the kernel is larger than 1", 1, 1, 3, 1, 4, 5),
        ("there are two input channels", 2, 1, 1, 1, 2, 3),
        ("there are two output channels", 1, 2, 1, 1, 2, 3),
        ("the stride is 2", 1, 1, 1, 2, 4, 6),
        ("the stride is 2 and the size is odd", 1, 1, 1, 2, 5, 3),
        ("the stride is 2 and the kernel larger than 1", 1, 1, 3, 2, 8, 7),
        ("nothing is 1", 3, 8, 5, 3, 10, 15),
    ]


CONV_COST = Exercise(
    reference=conv_cost,
    hint="count the weights of one output channel first, then the positions of the output.",
    cases=_conv_cases,
    read=_read_cost,
)


def _size(pixels: int, kernel: int, stride: int) -> int:
    return (pixels + 2 * (kernel // 2) - kernel) // stride + 1


def _wrong_cost(
    cin: int,
    cout: int,
    kernel: int,
    stride: int,
    height: int,
    width: int,
    *,
    parameters: Callable = lambda cin, cout, kernel: cin * cout * kernel**2,
    size: Callable = _size,
    work: Callable = lambda parameters, height, width: parameters * height * width,
) -> tuple[float, float]:
    """The count with something in it that is not the default here."""
    weights = parameters(cin, cout, kernel)
    return weights, work(weights, size(height, kernel, stride), size(width, kernel, stride))


_WRONG_COSTS = [
    (
        "the stride is left out: it makes the output smaller",
        {"size": lambda pixels, kernel, stride: pixels},
    ),
    (
        "the size of the output is rounded down; 5 pixels at stride 2 give 3 positions: 0, 2, 4",
        {"size": lambda pixels, kernel, stride: pixels // stride},
    ),
    (
        "the size of the output is not a whole number; divide with // and mind what is left over",
        {"size": lambda pixels, kernel, stride: pixels / stride},
    ),
    (
        "the padding is left out: kernel // 2 pixels on each side make the map larger first",
        {"size": lambda pixels, kernel, stride: (pixels - kernel) // stride + 1},
    ),
    (
        "the padding is added once; kernel // 2 pixels stand on both sides, 2 · (kernel // 2)",
        {"size": lambda pixels, kernel, stride: (pixels + kernel // 2 - kernel) // stride + 1},
    ),
    (
        "the + 1 is missing: the window halts once before it has made any step",
        {"size": lambda pixels, kernel, stride: (pixels + 2 * (kernel // 2) - kernel) // stride},
    ),
    (
        "the padding is taken to be kernel; it is kernel // 2 on each side",
        {"size": lambda pixels, kernel, stride: (pixels + 2 * kernel - kernel) // stride + 1},
    ),
    (
        "the size of the output is not a whole number; divide with // and mind what is left over",
        {"size": lambda pixels, kernel, stride: (pixels + 2 * (kernel // 2) - kernel) / stride + 1},
    ),
    (
        "the size of the output is not a whole number; divide with // before multiplying the two",
        {
            "size": lambda pixels, kernel, stride: (
                (pixels + 2 * (kernel // 2) - kernel) / stride + 1
            ),
            "work": lambda parameters, height, width: int(parameters * height * width),
        },
    ),
    (
        "a kernel has kernel · kernel weights, not kernel",
        {"parameters": lambda cin, cout, kernel: cin * cout * kernel},
    ),
    (
        "in_channels is left out: every output channel has a kernel for each input channel",
        {"parameters": lambda cin, cout, kernel: cout * kernel**2},
    ),
    (
        "out_channels is left out: each output channel has kernels of its own",
        {"parameters": lambda cin, cout, kernel: cin * kernel**2},
    ),
    (
        "in_channels and out_channels are added; there is a kernel for each pair, so multiply",
        {"parameters": lambda cin, cout, kernel: (cin + cout) * kernel**2},
    ),
    (
        "a bias is counted; this convolution has none",
        {"parameters": lambda cin, cout, kernel: (cin * kernel**2 + 1) * cout},
    ),
    (
        "a multiply-add is counted twice; it is one product with its sum",
        {"work": lambda parameters, height, width: 2 * parameters * height * width},
    ),
    (
        "the output's width is taken to be its height; a map need not be square",
        {"work": lambda parameters, height, width: parameters * height**2},
    ),
    (
        "the output's height is taken to be its width; a map need not be square",
        {"work": lambda parameters, height, width: parameters * width**2},
    ),
]

for _cause, _difference in _WRONG_COSTS:
    CONV_COST.mistake(_cause)(partial(_wrong_cost, **_difference))


@CONV_COST.mistake("a bias is counted among the parameters; this convolution has none")
def _(in_channels, out_channels, *rest):
    parameters, multiply_adds = conv_cost(in_channels, out_channels, *rest)
    return parameters + out_channels, multiply_adds


@CONV_COST.mistake("the multiply-adds of one output channel are given, not those of all")
def _(in_channels, out_channels, *rest):
    parameters, multiply_adds = conv_cost(in_channels, out_channels, *rest)
    return parameters, multiply_adds / out_channels


@CONV_COST.mistake("the channels are left out of the work: every weight is used at every position")
def _(in_channels, out_channels, kernel, *rest):
    parameters, multiply_adds = conv_cost(in_channels, out_channels, kernel, *rest)
    return parameters, multiply_adds / (in_channels * out_channels)


@CONV_COST.mistake("the channels are left out of the work: every weight is used at every position")
def _(in_channels, out_channels, kernel, *rest):
    parameters, multiply_adds = conv_cost(in_channels, out_channels, kernel, *rest)
    return parameters, multiply_adds / in_channels


@CONV_COST.mistake("the two numbers are exchanged; the parameters come first")
def _(*args):
    return conv_cost(*args)[::-1]


@CONV_COST.mistake("the stride is applied in one direction only, not to height and width")
def _(in_channels, out_channels, kernel, stride, height, width):
    parameters = conv_cost(in_channels, out_channels, kernel, stride, height, width)[0]
    return parameters, parameters * _size(height, kernel, stride) * width


@CONV_COST.mistake("the stride is applied in one direction only, not to height and width")
def _(in_channels, out_channels, kernel, stride, height, width):
    parameters = conv_cost(in_channels, out_channels, kernel, stride, height, width)[0]
    return parameters, parameters * height * _size(width, kernel, stride)


@CONV_COST.mistake(
    "the work is divided by stride²; height and width are each rounded before they are multiplied"
)
def _(in_channels, out_channels, kernel, stride, height, width):
    parameters = conv_cost(in_channels, out_channels, kernel, stride, height, width)[0]
    return parameters, parameters * height * width // stride**2


# --- training_step ------------------------------------------------------------------------------


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> float:
    """One step of SGD with cross-entropy, in train mode. Returns the mean loss before the step.

    images: (B, C, H, W). labels: int64 (B,). Gradients may be left over from before the call.
    """
    model.train()  # norms take the statistics of the batch

    logits = model(images)  # (B, classes)
    loss = F.cross_entropy(logits, labels)  # a mean over the batch

    optimizer.zero_grad()  # backward adds to what is there, so begin with nothing
    loss.backward()  # fills .grad of every parameter
    optimizer.step()  # moves every parameter against its gradient

    return loss.item()


class Watched(nn.Sequential):
    """Notes what is done with it, and what its weights were before."""

    def __init__(self, *layers: nn.Module, listed: bool = False) -> None:
        """listed: its losses go into a list, of which a mean is taken, as the notebook does."""
        super().__init__(*layers)
        self.listed = listed
        self.events: list[str] = []
        self.start = [parameter.detach().clone() for parameter in self.parameters()]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = super().forward(x)
        if output.requires_grad:
            output.register_hook(lambda gradient: self.events.append("backward"))
        return output

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.events.append("zero_grad")
        super().zero_grad(set_to_none)

    def moved(self) -> bool:
        return not all(map(torch.equal, self.parameters(), self.start))


class WatchedSGD(torch.optim.SGD):
    """Notes its calls beside those of its model."""

    def __init__(self, model: Watched, **settings: float) -> None:
        super().__init__(model.parameters(), **settings)
        self.events = model.events

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"events": self.events}  # so that copies have them, too

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.events.append("zero_grad")
        super().zero_grad(set_to_none)

    def step(self, closure: Callable | None = None):
        self.events.append("step")
        return super().step(closure)


def _step_cases() -> list[tuple]:
    images, labels = torch.tensor([[[[1.0, 2.0]]], [[[-1.0, 0.5]]]]), torch.tensor([0, 1])
    more, more_labels = torch.randn(4, 1, 1, 2), torch.tensor([0, 2, 1, 0])

    def linear(listed: bool = False) -> Watched:
        return Watched(nn.Flatten(), nn.Linear(2, 2), listed=listed)

    fresh, used, moving, listed = linear(), linear(), linear(), linear(listed=True)
    normed = Watched(nn.Flatten(), nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()

    _fill_gradients(used)
    momentum = _with_momentum(moving)

    return [
        ("a linear layer makes its first step", fresh, WatchedSGD(fresh, lr=0.5), images, labels),
        ("gradients are left over from before", used, WatchedSGD(used, lr=0.5), images, labels),
        ("the optimizer has momentum", moving, momentum, images, labels),
        ("the model comes in eval mode", normed, WatchedSGD(normed, lr=0.1), more, more_labels),
        ("the losses go into a list", listed, WatchedSGD(listed, lr=0.5), images, labels),
    ]


def _fill_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)


def _with_momentum(model: Watched) -> WatchedSGD:
    """An optimizer that has made a step before."""
    optimizer = WatchedSGD(model, lr=0.5, momentum=0.9)
    _fill_gradients(model)
    optimizer.step()
    optimizer.zero_grad()

    model.events.clear()
    model.start = [parameter.detach().clone() for parameter in model.parameters()]
    return optimizer


def _read_step(result, args: list) -> dict:
    """The loss, and what has become of the model."""
    loss = read_number(result, args)
    model = args[0]

    if not model.moved():
        raise Unreadable(f"no weight moves: {_why_at_rest(model.events)}")
    if model.listed and isinstance(result, torch.Tensor):  # last, so that other mistakes come first
        raise Unreadable(
            "it returns a tensor, which stays on its device and may hold on to a graph that has "
            "been used up; loss.item() makes a Python number of it"
        )

    state = {f"{name} afterwards": value.clone() for name, value in model.state_dict().items()}
    return {"loss": loss, "mode afterwards": _mode(model), **state}


def _why_at_rest(events: list[str]) -> str:
    if "backward" not in events:
        return "loss.backward() is missing, which fills the gradients"
    if "step" not in events:
        return "optimizer.step() is missing"

    backward, step = events.index("backward"), events.index("step")
    if step < backward:
        return "optimizer.step() comes before loss.backward(), so that there are no gradients yet"
    if "zero_grad" in events[backward:step]:
        return "zero_grad comes between backward and step and takes the gradients away"
    return "the gradients do not get to the optimizer"


def _mode(model: nn.Module) -> str:
    """ "train", "eval", or both where its layers differ."""
    modes = {"train" if layer.training else "eval" for layer in model.modules()}
    return " and ".join(sorted(modes))


STEP = Exercise(
    reference=training_step,
    hint="forward, loss, zero_grad, backward, step: one line each, in this order, in train mode.",
    cases=_step_cases,
    read=_read_step,
)


def _make_step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@STEP.mistake(
    "gradients left over from before the call are added in: optimizer.zero_grad() has to come "
    "before backward"
)
def _(model, optimizer, images, labels):
    loss = F.cross_entropy(model.train()(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@STEP.mistake("backward is called twice, which adds the same gradients once more")
def _(model, optimizer, images, labels):
    loss = F.cross_entropy(model.train()(images), labels)
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    loss.backward()
    optimizer.step()
    return loss.item()


@STEP.mistake("it makes two steps; one is asked for")
def _(model, optimizer, images, labels):
    loss = training_step(model, optimizer, images, labels)
    training_step(model, optimizer, images, labels)
    return loss


@STEP.mistake("a softmax stands before the loss; cross_entropy has it inside and wants the logits")
def _(model, optimizer, images, labels):
    return _make_step(optimizer, F.cross_entropy(model.train()(images).softmax(1), labels))


@STEP.mistake("nll_loss wants logarithms of probabilities; for logits there is cross_entropy")
def _(model, optimizer, images, labels):
    return _make_step(optimizer, F.nll_loss(model.train()(images), labels))


@STEP.mistake("the loss is the mean squared error; cross-entropy is asked for")
def _(model, optimizer, images, labels):
    logits = model.train()(images)
    targets = F.one_hot(labels, logits.shape[1]).float()
    return _make_step(optimizer, F.mse_loss(logits, targets))


@STEP.mistake("the loss is summed over the batch, not averaged")
def _(model, optimizer, images, labels):
    return _make_step(optimizer, F.cross_entropy(model.train()(images), labels, reduction="sum"))


@STEP.mistake("the loss comes back times the number of pictures; the mean is asked for")
def _(model, optimizer, images, labels):
    return training_step(model, optimizer, images, labels) * len(labels)


@STEP.mistake("the loss is computed anew after the step; the one before it is asked for")
def _(model, optimizer, images, labels):
    training_step(model, optimizer, images, labels)
    return F.cross_entropy(model(images), labels).item()


@STEP.mistake("the loss is computed anew after the step; the one before it is asked for")
def _(model, optimizer, images, labels):
    training_step(model, optimizer, images, labels)
    return F.cross_entropy(model.eval()(images), labels).item()


@STEP.mistake("model.train() is missing, or its parentheses: the model may come in eval mode")
def _(model, optimizer, images, labels):
    return _make_step(optimizer, F.cross_entropy(model(images), labels))


@STEP.mistake("model.train() comes after the forward pass, in which it is needed")
def _(model, optimizer, images, labels):
    loss = _make_step(optimizer, F.cross_entropy(model(images), labels))
    model.train()
    return loss


@STEP.mistake("the step is made in eval mode; norms then learn no statistics")
def _(model, optimizer, images, labels):
    return _make_step(optimizer, F.cross_entropy(model.eval()(images), labels))


@STEP.mistake("the model is left in eval mode; the next step expects train mode")
def _(model, optimizer, images, labels):
    loss = training_step(model, optimizer, images, labels)
    model.eval()
    return loss


@STEP.mistake("the mode from before the call is restored; the model is to stay in train mode")
def _(model, optimizer, images, labels):
    was_training = model.training
    loss = training_step(model, optimizer, images, labels)
    model.train(was_training)
    return loss


@STEP.mistake("the model runs through the batch twice, and its norms count it twice")
def _(model, optimizer, images, labels):
    model.train()(images)
    return training_step(model, optimizer, images, labels)


_OWN_OPTIMIZERS = [
    *[partial(torch.optim.SGD, lr=lr) for lr in (0.1, 0.01, 0.001)],
    *[partial(torch.optim.Adam, lr=lr) for lr in (0.01, 0.001)],
]

for _own in _OWN_OPTIMIZERS:

    @STEP.mistake("the given optimizer is not used, and with it its learning rate and momentum")
    def _(model, optimizer, images, labels, own=_own):
        return training_step(model, own(model.parameters()), images, labels)


@STEP.mistake("the given optimizer is not used, and with it its learning rate and momentum")
def _(model, optimizer, images, labels):
    lr = optimizer.param_groups[0]["lr"]
    return training_step(model, torch.optim.SGD(model.parameters(), lr), images, labels)


@STEP.mistake(
    "the loss is cut off from the weights: no_grad, detach or item may come only after backward"
)
def _(model, optimizer, images, labels):
    return _make_step(optimizer, F.cross_entropy(model.train()(images), labels).detach())


# --- accuracy -----------------------------------------------------------------------------------


def accuracy(model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Share of the pictures whose largest logit is that of their label, 0..1.

    batches: pairs of images (B, C, H, W) and labels (B,), B may differ from one to the next.
    The model is asked in eval mode, and has afterwards the mode that it had before.
    """
    was_training = model.training
    model.eval()  # norms take their running statistics and leave them as they are

    right, total = 0, 0
    with torch.no_grad():  # no backward follows: nothing needs to be kept for it
        for images, labels in batches:
            guesses = model(images).argmax(dim=1)  # (B, classes) → (B,)
            right += (guesses == labels).sum().item()
            total += len(labels)

    model.train(was_training)
    return right / total


class Batches:
    """As a loader gives them: one after another, without a length."""

    def __init__(self, *batches: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __repr__(self) -> str:
        return f"{len(self.batches)} batches of {[len(labels) for _, labels in self.batches]}"


def _accuracy_cases() -> list[tuple]:
    images_are_logits = nn.Sequential(nn.Flatten())
    evaluated = nn.Sequential(nn.Flatten()).eval()

    # A norm whose running statistics turn the answers round.
    normed = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())
    normed[0].running_mean.copy_(torch.tensor([3.0, 0.0, -3.0]))

    two = torch.tensor([[[[3.0, 1.0, 2.0]]], [[[1.0, 3.0, 2.0]]]]), torch.tensor([0, 2])
    small = [_batch([1, 0]), _batch([1])]
    hits, hit_labels = _batch([1, 1, 0, 0])
    in_channels = [(hits.transpose(1, 3), hit_labels)]  # (4, 3, 1, 1), as the norm wants them
    large = Batches(_batch([1, 1, 1, 0]), _batch([0]), _batch([1, 1]))

    return [
        ("there is one batch", images_are_logits, [two]),
        ("the model comes in eval mode", evaluated, [two]),
        ("the batches have different sizes", images_are_logits, small),
        ("the model has a norm", normed, in_channels),
        ("there are many batches, without a length", images_are_logits, large),
    ]


def _batch(hits: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures that are logits of three classes, and labels that their maximum hits or not."""
    logits = torch.randn(len(hits), 3)
    labels = (logits.argmax(dim=1) + 1 - torch.tensor(hits)) % 3
    return logits[:, None, None], labels


def _read_accuracy(result, args: list) -> dict:
    """The share, and that the model is as it was."""
    found = read_number(result, args)
    state = {f"{name} afterwards": value for name, value in args[0].state_dict().items()}
    return {"accuracy": found, "mode afterwards": _mode(args[0]), **state}


ACCURACY = Exercise(
    reference=accuracy,
    hint="add up the hits and the pictures over all batches, and divide once at the end.",
    cases=_accuracy_cases,
    read=_read_accuracy,
)


def _is_hit(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits.argmax(dim=1) == labels


def _hits(model: nn.Module, batches: Iterable, is_hit: Callable = _is_hit) -> list[list[bool]]:
    """For each batch, in the mode that the model has."""
    with torch.no_grad():
        return [is_hit(model(images), labels).tolist() for images, labels in batches]


def _share(hits: list[list[bool]]) -> float:
    return sum(map(sum, hits)) / sum(map(len, hits))


def _wrong_share(cause: str) -> Callable:
    """Decorator for another sum over the hits of each batch."""

    def note(share: Callable) -> Callable:
        @ACCURACY.mistake(cause)
        def _(model, batches):
            was_training = model.training
            hits = _hits(model.eval(), batches)
            model.train(was_training)
            return share(hits)

        return share

    return note


@_wrong_share(
    "it is the mean of the batches' accuracies; a small batch then counts as much as a large one"
)
def _(hits):
    return sum(sum(batch) / len(batch) for batch in hits) / len(hits)


@_wrong_share("only the first batch is looked at: the return stands inside the loop")
def _(hits):
    return _share(hits[:1])


@_wrong_share("only the last batch counts: the counters begin anew in every batch")
def _(hits):
    return _share(hits[-1:])


@_wrong_share("the last batch is left out")
def _(hits):
    return _share(hits[:-1] or hits)


@_wrong_share("all batches are taken to have the size of the first batch")
def _(hits):
    return sum(map(sum, hits)) / (len(hits) * len(hits[0]))


@_wrong_share("the hits are counted, but not divided by the number of pictures")
def _(hits):
    return sum(map(sum, hits))


@_wrong_share("the hits are divided by the number of batches, not of pictures")
def _(hits):
    return sum(map(sum, hits)) / len(hits)


@_wrong_share("it gives percent; a share in 0..1 is asked for")
def _(hits):
    return _share(hits) * 100


@_wrong_share("it gives the share of the misses; that of the hits is asked for")
def _(hits):
    return 1 - _share(hits)


def _wrong_hit(cause: str) -> Callable:
    """Decorator for another question about each picture, (logits, labels) → hits."""

    def note(is_hit: Callable) -> Callable:
        @ACCURACY.mistake(cause)
        def _(model, batches):
            was_training = model.training
            hits = _hits(model.eval(), batches, is_hit)
            model.train(was_training)
            return _share(hits)

        return is_hit

    return note


@_wrong_hit("the largest logit is sought down the batch (dim=0), not along the classes (dim=1)")
def _(logits, labels):
    return logits.argmax(dim=0) == labels


@_wrong_hit("argmax() without dim=1 looks for one place in the whole batch")
def _(logits, labels):
    return logits.argmax() == labels


@_wrong_hit("the smallest logit is taken, not the largest")
def _(logits, labels):
    return logits.argmin(dim=1) == labels


@_wrong_hit("the values of the largest logits are compared with the labels, not their places")
def _(logits, labels):
    return logits.amax(dim=1) == labels


@ACCURACY.mistake(
    "a picture goes in without the axis of the batch: images[i] is (C, H, W), images[i : i + 1] "
    "is (1, C, H, W)"
)
def _(model, batches):
    was_training = model.training
    model.eval()
    with torch.no_grad():
        hits = [
            [model(picture).argmax() == label for picture, label in zip(*batch, strict=True)]
            for batch in batches
        ]
    model.train(was_training)
    return _share(hits)


@ACCURACY.mistake("max(dim=1) gives values and places together; argmax(dim=1) the places alone")
def _(model, batches):
    was_training = model.training
    hits = _hits(model.eval(), batches, lambda logits, labels: (logits.max(dim=1) == labels).sum())
    model.train(was_training)
    return _share(hits)


@ACCURACY.mistake(
    "model.eval() is missing, or its parentheses: norms take the statistics of the batch, and "
    "change their own"
)
def _(model, batches):
    return _share(_hits(model, batches))


@ACCURACY.mistake("the model is always in train mode; accuracy is asked for in eval mode")
def _(model, batches):
    return _share(_hits(model.train(), batches))


@ACCURACY.mistake("the model is left in eval mode; it is to have the mode that it had before")
def _(model, batches):
    return _share(_hits(model.eval(), batches))


@ACCURACY.mistake(
    "the model is always left in train mode; it is to have the mode that it had before"
)
def _(model, batches):
    found = accuracy(model, batches)
    model.train()
    return found


@ACCURACY.mistake(
    "model.training = … sets the mode of the outer module alone; model.train(…) that of all layers"
)
def _(model, batches):
    was_training = model.training
    found = _share(_hits(model.eval(), batches))
    model.training = was_training
    return found


# --- residual_block -----------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """x → ReLU(shortcut(x) + branch(x)), with two 3×3 convolutions in the branch.

    The stride is that of the first convolution. Where the shape changes, the shortcut is a 1×1
    convolution with a norm. No convolution has a bias. Names as in torchvision: conv1, bn1, conv2,
    bn2, downsample.
    (B, in_channels, H, W) → (B, channels, H / stride, W / stride).
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.out_channels = channels  # a network asks its blocks for it

        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

        self.downsample = nn.Identity()
        if stride != 1 or in_channels != channels:  # else x cannot be added to the branch
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.downsample(x)  # (B, channels, H/stride, W/stride)

        x = self.relu(self.bn1(self.conv1(x)))  # (B, channels, H/stride, W/stride)
        x = self.bn2(self.conv2(x))  # (B, channels, H/stride, W/stride)

        return self.relu(shortcut + x)  # the sum first, then the ReLU


def _block_cases() -> list[tuple]:
    return [
        ("the shape stays", 2, 2),
        ("only the channels change", 2, 3, 1),
        ("only the stride is not 1", 2, 2, 2),
        ("the channels and the stride change", 2, 4, 2),
    ]


def _maps(in_channels: int, channels: int, stride: int = 1) -> torch.Tensor:
    return torch.randn(2, in_channels, 6, 5, generator=torch.Generator().manual_seed(2))


_read_module = modules.reader(ResidualBlock, _maps)


def _read_block(block, args: list) -> dict[str, torch.Tensor]:
    try:
        found = _read_module(block, args)
    except RuntimeError as error:
        if "must match the size" not in str(error):
            raise
        raise Unreadable(_why_sizes_differ(block, *args)) from error

    out_channels, channels = getattr(block, "out_channels", None), args[1]

    if out_channels is None:
        raise Unreadable("self.out_channels = channels is missing: the next block asks for it")
    if out_channels != channels:
        raise Unreadable(f"its out_channels are {out_channels}, expected channels, {channels}")
    return found


def _why_sizes_differ(block: nn.Module, in_channels: int, channels: int, stride: int = 1) -> str:
    """Between branch and shortcut, where the names of the layers are right."""
    layers = dict(block.named_modules())
    strides = {name: layer.stride[0] for name, layer in layers.items() if hasattr(layer, "stride")}

    if any(layers[name].padding in (0, (0, 0)) for name in ("conv1", "conv2")):
        return "the convolutions are not padded; with 3×3, padding=1 keeps the size"
    if getattr(layers.get("downsample.0"), "padding", 0) not in (0, (0, 0)):
        return "the 1×1 convolution of the projection is padded; it needs no padding"
    if strides["conv1"] != stride:
        return "the stride is missing in the branch; it belongs to the first convolution"
    if strides["conv2"] != 1:
        return "the stride is in both convolutions; it belongs to the first alone"
    if strides.get("downsample.0", stride) != stride:
        return "the stride is missing in the shortcut; the 1×1 convolution needs it, too"
    return "branch and shortcut have different sizes, so that they cannot be added"


BLOCK = Exercise(
    reference=ResidualBlock,
    name="residual_block",
    hint="shortcut and branch both begin with the same x; the last ReLU comes after their sum.",
    cases=_block_cases,
    read=_read_block,
)


def _wrong_forward(cause: str) -> Callable:
    """Decorator for another way through the layers of the block, (block, x) → output."""

    def note(forward: Callable) -> Callable:
        BLOCK.mistake(cause)(type("Mistaken", (ResidualBlock,), {"forward": forward}))
        return forward

    return note


def _branch(block: ResidualBlock, x: torch.Tensor) -> torch.Tensor:
    x = block.relu(block.bn1(block.conv1(x)))
    return block.bn2(block.conv2(x))


@_wrong_forward("the shortcut is not added: what comes out is the branch alone")
def _(block, x):
    return block.relu(_branch(block, x))


@_wrong_forward("the branch passes a ReLU before the sum; it could then only add, never take away")
def _(block, x):
    return block.downsample(x) + block.relu(_branch(block, x))


@_wrong_forward("the branch passes a ReLU before the sum; it could then only add, never take away")
def _(block, x):
    return block.relu(block.downsample(x) + block.relu(_branch(block, x)))


@_wrong_forward("the last ReLU is missing, behind the sum")
def _(block, x):
    return block.downsample(x) + _branch(block, x)


@_wrong_forward("the ReLU between the first norm and the second convolution is missing")
def _(block, x):
    x, shortcut = block.bn1(block.conv1(x)), block.downsample(x)
    return block.relu(shortcut + block.bn2(block.conv2(x)))


@_wrong_forward("the shortcut passes a ReLU before the sum; there is none behind the projection")
def _(block, x):
    shortcut = block.downsample(x)
    if isinstance(block.downsample, nn.Sequential):
        shortcut = block.relu(shortcut)
    return block.relu(shortcut + _branch(block, x))


@_wrong_forward("the shortcut passes a ReLU before the sum; x is added as it is")
def _(block, x):
    return block.relu(block.relu(block.downsample(x)) + _branch(block, x))


@_wrong_forward("the projection gets what the branch made; it is to get the block's x")
def _(block, x):
    return block.relu(x + block.downsample(_branch(block, x)))


@_wrong_forward("nn.ReLU(x) makes a layer; F.relu(x) applies it, and so does a layer, self.relu(x)")
def _(block, x):
    return block.bn2(block.conv2(nn.ReLU(block.bn1(block.conv1(x)))))


@_wrong_forward("nn.ReLU(x) makes a layer; F.relu(x) applies it, and so does a layer, self.relu(x)")
def _(block, x):
    return nn.ReLU(block.downsample(x) + _branch(block, x))


@_wrong_forward("the ReLU comes before its norm; the order is convolution, norm, ReLU")
def _(block, x):
    branch = block.bn1(block.relu(block.conv1(x)))
    return block.relu(block.downsample(x) + block.bn2(block.conv2(branch)))


@_wrong_forward(
    "x is overwritten by the branch before it is added; keep it under another name first"
)
def _(block, x):
    x = _branch(block, x)
    return block.relu(block.downsample(x) + x)


@_wrong_forward("what is added is the output of the first convolution; it is to be the block's x")
def _(block, x):
    x = block.relu(block.bn1(block.conv1(x)))
    return block.relu(x + block.bn2(block.conv2(x)))


@_wrong_forward("branch and shortcut stand beside each other (torch.cat); they are to be added")
def _(block, x):
    return block.relu(torch.cat([_branch(block, x), block.downsample(x)], dim=1))


@_wrong_forward("branch and shortcut stand beside each other (torch.cat); they are to be added")
def _(block, x):
    return block.relu(torch.cat([block.downsample(x), _branch(block, x)], dim=1))


@_wrong_forward("branch and shortcut are multiplied; they are to be added")
def _(block, x):
    return block.relu(block.downsample(x) * _branch(block, x))


@_wrong_forward("no gradient passes the shortcut: no_grad or detach cuts it off")
def _(block, x):
    return block.relu(block.downsample(x).detach() + _branch(block, x))


@_wrong_forward("no gradient passes the shortcut: no_grad or detach cuts it off")
def _(block, x):
    with torch.no_grad():
        shortcut = block.downsample(x)  # in x itself the gradient stays
    return block.relu(shortcut + _branch(block, x))


@_wrong_forward("there is one norm in two places; each convolution has a norm of its own")
def _(block, x):
    branch = block.bn1(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    return block.relu(block.downsample(x) + branch)


@_wrong_forward("there is one convolution in two places; each has weights of its own")
def _(block, x):
    branch = block.bn2(block.conv1(block.relu(block.bn1(block.conv1(x)))))
    return block.relu(block.downsample(x) + branch)


def _wrong_layers(cause: str) -> Callable:
    """Decorator for what is wrong with the layers, (block, in_channels, channels, stride)."""

    def note(change: Callable) -> Callable:
        @BLOCK.mistake(cause)
        def _(in_channels, channels, stride=1):
            block = ResidualBlock(in_channels, channels, stride)
            change(block, in_channels, channels, stride)
            return block

        return change

    return note


def _projection(in_channels: int, channels: int, stride: int, bias: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride, bias=bias), nn.BatchNorm2d(channels)
    )


@_wrong_layers("the stride is in the second convolution; it belongs to the first")
def _(block, in_channels, channels, stride):
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


@_wrong_layers("there is one norm in two places; each convolution has a norm of its own")
def _(block, in_channels, channels, stride):
    block.bn2 = block.bn1


@_wrong_layers("there is one norm in two places; each convolution has a norm of its own")
def _(block, in_channels, channels, stride):
    block.bn2 = nn.Identity()


@_wrong_layers("there is no norm behind the convolutions, bn1 and bn2")
def _(block, in_channels, channels, stride):
    block.bn1 = block.bn2 = nn.Identity()


@_wrong_layers("the convolutions have a bias; the norm behind them has one: bias=False")
def _(block, in_channels, channels, stride):
    for conv in (block.conv1, block.conv2):
        conv.bias = nn.Parameter(torch.zeros(channels))


@_wrong_layers("the convolution of the projection has a bias; the norm behind it has one")
def _(block, in_channels, channels, stride):
    if isinstance(block.downsample, nn.Sequential):
        block.downsample = _projection(in_channels, channels, stride, bias=True)


@_wrong_layers(
    "there is no projection, downsample, where the shape changes; in a Python list PyTorch does "
    "not find it"
)
def _(block, in_channels, channels, stride):
    block.downsample = nn.Identity()


@_wrong_layers("the projection is missing where only the channels change")
def _(block, in_channels, channels, stride):
    if stride == 1:
        block.downsample = nn.Identity()


@_wrong_layers("the projection is missing where only the stride is not 1")
def _(block, in_channels, channels, stride):
    if in_channels == channels:
        block.downsample = nn.Identity()


@_wrong_layers("there is a projection though the shape stays; x itself is to be added there")
def _(block, in_channels, channels, stride):
    block.downsample = _projection(in_channels, channels, stride)


@_wrong_layers("the projection has no norm behind its convolution")
def _(block, in_channels, channels, stride):
    if isinstance(block.downsample, nn.Sequential):
        block.downsample = block.downsample[:1]


@_wrong_layers("the projection has no norm behind its convolution")
def _(block, in_channels, channels, stride):
    if isinstance(block.downsample, nn.Sequential):
        block.downsample = block.downsample[0]


@BLOCK.mistake("stride is ignored")
def _(in_channels, channels, stride=1):
    block = ResidualBlock(in_channels, channels)
    if stride != 1:
        block.downsample = _projection(in_channels, channels, 1)
    return block


@BLOCK.mistake("stride is ignored")
def _(in_channels, channels, stride=1):
    return ResidualBlock(in_channels, channels)


@BLOCK.mistake(
    "it is a pre-activation block, norm and ReLU before each convolution; here they come behind it"
)
class _(ResidualBlock):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)

    def forward(self, x):
        branch = self.conv1(self.relu(self.bn1(x)))
        branch = self.conv2(self.relu(self.bn2(branch)))
        return self.downsample(x) + branch


@BLOCK.mistake("super().__init__() is missing; it has to come first in __init__")
class _(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        self.conv1 = nn.Conv2d(in_channels, channels, 3)


# --- block_parameters ---------------------------------------------------------------------------


def block_parameters(in_channels: int, channels: int, stride: int) -> int:
    """What ``ResidualBlock(in_channels, channels, stride)`` has to learn, counted by hand.

    Convolutions have no bias. A norm learns two numbers for each channel.
    """
    conv1 = in_channels * channels * 3 * 3
    conv2 = channels * channels * 3 * 3
    norm = 2 * channels
    branch = conv1 + norm + conv2 + norm

    if stride == 1 and in_channels == channels:  # the shortcut is x itself
        return branch

    projection = in_channels * channels + norm  # 1×1
    return branch + projection


def _count_cases() -> list[tuple]:
    return [
        ("the shape stays", 1, 1, 1),
        ("only the channels change", 1, 2, 1),
        ("only the stride is not 1", 2, 2, 2),
        ("the channels become fewer", 5, 3, 1),
        ("the channels and the stride change", 2, 4, 2),
        ("the block is the first of a stage", 64, 128, 2),
    ]


COUNT = Exercise(
    reference=block_parameters,
    hint="write down the shape of each weight: (out, in, 3, 3), (out,), …; then add them up.",
    cases=_count_cases,
    read=read_number,
)


def _wrong_count(
    in_channels: int,
    channels: int,
    stride: int,
    *,
    kernel: int = 9,
    projection_kernel: int = 1,
    by_norm: int = 2,
    norms: int = 2,
    by_projection_norm: int = 2,
    bias: int = 0,
    is_projected: Callable = lambda a, b, stride: stride != 1 or a != b,
) -> int:
    """The count with something in it that is not the default here.

    kernel, projection_kernel: weights of a kernel. by_norm, by_projection_norm, bias: numbers for
    each channel.
    """
    branch = kernel * channels * (in_channels + channels)
    branch += (norms * by_norm + 2 * bias) * channels

    if not is_projected(in_channels, channels, stride):
        return branch
    per_channel = projection_kernel * in_channels + by_projection_norm + bias
    return branch + per_channel * channels


_WRONG_COUNTS = [
    (
        "the projection is not counted",
        {"is_projected": lambda a, b, stride: False},
    ),
    (
        "a projection is counted though the shape stays; x itself is added there",
        {"is_projected": lambda a, b, stride: True},
    ),
    (
        "no projection is counted where only the channels change",
        {"is_projected": lambda a, b, stride: stride != 1},
    ),
    (
        "no projection is counted where only the stride is not 1",
        {"is_projected": lambda a, b, stride: a != b},
    ),
    (
        "no projection is counted where only one of channels and stride changes",
        {"is_projected": lambda a, b, stride: a != b and stride != 1},
    ),
    (
        "no projection is counted where the channels become fewer; they change there as well",
        {"is_projected": lambda a, b, stride: a < b or stride != 1},
    ),
    (
        "the projection is 1×1, not 3×3",
        {"projection_kernel": 9},
    ),
    (
        "the norm of the projection is not counted",
        {"by_projection_norm": 0},
    ),
    (
        "the norms are not counted; each learns two numbers for each channel",
        {"by_norm": 0},
    ),
    (
        "the norms are not counted; each learns two numbers for each channel",
        {"by_norm": 0, "by_projection_norm": 0},
    ),
    (
        "only one of the two norms of the branch is counted",
        {"norms": 1},
    ),
    (
        "a norm has one number for each channel here; it learns two, a factor and a shift",
        {"by_norm": 1, "by_projection_norm": 1},
    ),
    (
        "the running mean and variance are counted; they are measured, not learned",
        {"by_norm": 4, "by_projection_norm": 4},
    ),
    (
        "biases of the convolutions are counted; there are none",
        {"bias": 1},
    ),
    (
        "biases of the convolutions are counted; there are none",
        {"by_norm": 3},
    ),
    (
        "a kernel has 3 · 3 weights for each pair of channels",
        {"kernel": 3},
    ),
    (
        "a kernel has 3 · 3 weights for each pair of channels",
        {"kernel": 1},
    ),
]

for _cause, _difference in _WRONG_COUNTS:
    COUNT.mistake(_cause)(partial(_wrong_count, **_difference))


@COUNT.mistake(
    "the second convolution is given what the first one makes: channels, not in_channels"
)
def _(in_channels, channels, stride):
    right = block_parameters(in_channels, channels, stride)
    return right + 9 * channels * (in_channels - channels)


@COUNT.mistake("a norm is taken to have two numbers in all; it learns two for each channel")
def _(in_channels, channels, stride):
    norms = 2 if stride == 1 and in_channels == channels else 3
    return block_parameters(in_channels, channels, stride) - norms * 2 * (channels - 1)


@COUNT.mistake("only one of the two convolutions of the branch is counted")
def _(in_channels, channels, stride):
    return block_parameters(in_channels, channels, stride) - 9 * channels * channels


@COUNT.mistake("only one of the two convolutions of the branch is counted")
def _(in_channels, channels, stride):
    return block_parameters(in_channels, channels, stride) - 9 * channels * in_channels


@COUNT.mistake("a norm has the channels of the convolution before it: channels, not in_channels")
def _(in_channels, channels, stride):
    return block_parameters(in_channels, channels, stride) + 2 * (in_channels - channels)


@COUNT.mistake("the stride does not change the number of weights")
def _(in_channels, channels, stride):
    return block_parameters(in_channels, channels, stride) // stride**2


@COUNT.mistake("the running mean and variance are counted; they are measured, not learned")
def _(in_channels, channels, stride):
    block = ResidualBlock(in_channels, channels, stride)
    return sum(value.numel() for value in block.state_dict().values())


@COUNT.mistake("it gives the number of tensors; that of the numbers in them is asked for, numel()")
def _(in_channels, channels, stride):
    return len(list(ResidualBlock(in_channels, channels, stride).parameters()))


# --- shortcut_a ---------------------------------------------------------------------------------


def shortcut_a(x: torch.Tensor, out_channels: int, stride: int) -> torch.Tensor:
    """Every stride-th pixel in both directions, and zeros for the channels that x lacks.

    (B, C, H, W) → (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉) of the same dtype: the channels of
    x come first. He et al. 2015, arXiv:1512.03385, section 4.1, option A.
    """
    x = x[:, :, ::stride, ::stride]  # (B, C, ⌈H/stride⌉, ⌈W/stride⌉)

    batch, channels, height, width = x.shape
    zeros = x.new_zeros(batch, out_channels - channels, height, width)  # dtype and device of x

    return torch.cat([x, zeros], dim=1)  # (B, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)


def _shortcut_cases() -> list[tuple]:
    def counting(*shape: int) -> torch.Tensor:
        return torch.arange(1.0, 1 + math.prod(shape)).view(shape)

    return [
        ("the shape stays", counting(1, 1, 1, 2), 1, 1),
        ("there is one channel more", counting(1, 1, 1, 2), 2, 1),
        ("there are two channels more", counting(1, 1, 1, 2), 3, 1),
        ("the stride is 2", counting(1, 1, 4, 4), 1, 2),
        ("the height is odd", counting(1, 1, 3, 4), 1, 2),
        ("the width is odd", counting(1, 1, 4, 3), 1, 2),
        ("the stride is 3", counting(1, 1, 6, 3), 1, 3),
        ("everything changes", torch.randn(2, 3, 5, 7), 8, 2),
        ("x is bfloat16, as in mixed precision", counting(1, 1, 1, 2).bfloat16(), 2, 1),
        ("the layers before it learn", counting(1, 1, 1, 2).requires_grad_(), 2, 1),
    ]


def _read_shortcut(result, args: list) -> torch.Tensor:
    expect_gradient(result, args)
    read = read_tensor(result, args)
    expected = args[0].dtype

    if read.is_floating_point() and read.dtype != expected:
        raise Unreadable(f"it gives {_short(read.dtype)} where x is {_short(expected)}")
    return read


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


SHORTCUT = Exercise(
    reference=shortcut_a,
    hint="a slice can skip pixels, ::stride; torch.cat puts zeros behind the channels, dim=1.",
    cases=_shortcut_cases,
    read=_read_shortcut,
)


def _skip(x: torch.Tensor, stride: int) -> torch.Tensor:
    return x[:, :, ::stride, ::stride]


def _widen(x: torch.Tensor, front: int, behind: int) -> torch.Tensor:
    return F.pad(x, (0, 0, 0, 0, front, behind))


@SHORTCUT.mistake("the zeros stand in front of the channels of x; they belong behind them")
def _(x, out_channels, stride):
    return _widen(_skip(x, stride), out_channels - x.shape[1], 0)


@SHORTCUT.mistake("the zeros stand on both sides of the channels of x; all belong behind them")
def _(x, out_channels, stride):
    extra = out_channels - x.shape[1]
    return _widen(_skip(x, stride), extra // 2, extra - extra // 2)


@SHORTCUT.mistake("the zeros stand on both sides of the channels of x; all belong behind them")
def _(x, out_channels, stride):
    extra = out_channels - x.shape[1]
    return _widen(_skip(x, stride), extra - extra // 2, extra // 2)


@SHORTCUT.mistake("the channels are missing: x is not widened to out_channels")
def _(x, out_channels, stride):
    return _skip(x, stride)


@SHORTCUT.mistake("out_channels zeros are put there in addition to the channels of x")
def _(x, out_channels, stride):
    return _widen(_skip(x, stride), 0, out_channels)


@SHORTCUT.mistake("there come twice the channels of x, whatever out_channels is")
def _(x, out_channels, stride):
    return _widen(_skip(x, stride), 0, x.shape[1])


@SHORTCUT.mistake("the new channels are ones; they are to be zeros")
def _(x, out_channels, stride):
    extra = out_channels - x.shape[1]
    return F.pad(_skip(x, stride), (0, 0, 0, 0, 0, extra), value=1.0)


@SHORTCUT.mistake("the channels of x are repeated; the new ones are to be zeros")
def _(x, out_channels, stride):
    again = torch.arange(out_channels) % x.shape[1]
    return _skip(x, stride)[:, again]


@SHORTCUT.mistake("the zeros stand along the height (dim 2), not along the channels (dim 1)")
def _(x, out_channels, stride):
    return F.pad(_skip(x, stride), (0, 0, 0, out_channels - x.shape[1]))


@SHORTCUT.mistake("the zeros stand along the batch (dim 0), not along the channels (dim 1)")
def _(x, out_channels, stride):
    return F.pad(_skip(x, stride), (0, 0, 0, 0, 0, 0, 0, out_channels - x.shape[1]))


@SHORTCUT.mistake(
    "the zeros stand along the width: F.pad counts axes from the last one, two numbers for each"
)
def _(x, out_channels, stride):
    return F.pad(_skip(x, stride), (0, out_channels - x.shape[1]))


@SHORTCUT.mistake("stride is ignored")
def _(x, out_channels, stride):
    return shortcut_a(x, out_channels, 1)


@SHORTCUT.mistake("every second pixel is taken, whatever stride is")
def _(x, out_channels, stride):
    return shortcut_a(x, out_channels, 2)


@SHORTCUT.mistake("the stride is left out along the columns, dim 3")
def _(x, out_channels, stride):
    return shortcut_a(x[:, :, ::stride], out_channels, 1)


@SHORTCUT.mistake("the stride is left out along the rows, dim 2")
def _(x, out_channels, stride):
    return shortcut_a(x[:, :, :, ::stride], out_channels, 1)


@SHORTCUT.mistake("the stride skips channels: x is (B, C, H, W), so it belongs to dims 2 and 3")
def _(x, out_channels, stride):
    return shortcut_a(x[:, ::stride, ::stride], out_channels, 1)


@SHORTCUT.mistake("the stride skips pictures and channels; dims 2 and 3 are x[:, :, …, …]")
def _(x, out_channels, stride):
    return shortcut_a(x[::stride, ::stride], out_channels, 1)


@SHORTCUT.mistake("it begins at the second pixel; it begins at the first one, 0")
def _(x, out_channels, stride):
    return _widen(x[:, :, 1::stride, 1::stride], 0, out_channels - x.shape[1])


@SHORTCUT.mistake("it begins at the last pixel of each step; it begins at the first one, 0")
def _(x, out_channels, stride):
    return shortcut_a(x[:, :, stride - 1 :, stride - 1 :], out_channels, stride)


@SHORTCUT.mistake("the upper left part is cut out; pixels of the whole map are to be taken")
def _(x, out_channels, stride):
    height, width = _skip(x, stride).shape[2:]
    return shortcut_a(x[:, :, :height, :width], out_channels, 1)


@SHORTCUT.mistake("the last row or column is lost where the size is odd; it is rounded up")
def _(x, out_channels, stride):
    height, width = (size // stride * stride for size in x.shape[2:])
    return shortcut_a(x[:, :, :height, :width], out_channels, stride)


@SHORTCUT.mistake("the last row or column is lost where the size is odd; it is rounded up")
def _(x, out_channels, stride):
    batch, channels, height, width = x.shape
    wide = x.new_zeros(batch, out_channels, height // stride, width // stride)
    wide[:, :channels] = _skip(x, stride)
    return wide


@SHORTCUT.mistake("the zeros have the height and width of x from before its pixels were skipped")
def _(x, out_channels, stride):
    batch, channels, height, width = x.shape
    zeros = x.new_zeros(batch, out_channels - channels, height, width)
    return torch.cat([_skip(x, stride), zeros], dim=1)


@SHORTCUT.mistake("the zeros stand along the batch (dim 0), not along the channels (dim 1)")
def _(x, out_channels, stride):
    right = shortcut_a(x, out_channels, stride)
    return torch.cat(right.split([x.shape[1], out_channels - x.shape[1]], dim=1), dim=0)


@SHORTCUT.mistake("the pixels are averaged; option A skips them")
def _(x, out_channels, stride):
    return shortcut_a(F.avg_pool2d(x, stride), out_channels, 1)


@SHORTCUT.mistake("the pixels are averaged; option A skips them")
def _(x, out_channels, stride):
    return shortcut_a(F.avg_pool2d(x, stride, ceil_mode=True), out_channels, 1)


@SHORTCUT.mistake("the largest of the pixels is taken; option A skips them")
def _(x, out_channels, stride):
    return shortcut_a(F.max_pool2d(x, stride), out_channels, 1)


@SHORTCUT.mistake("the largest of the pixels is taken; option A skips them")
def _(x, out_channels, stride):
    return shortcut_a(F.max_pool2d(x, stride, ceil_mode=True), out_channels, 1)


@SHORTCUT.mistake(
    "it gives float32 where x is bfloat16: the zeros need the dtype of x, as x.new_zeros(…) has it"
)
def _(x, out_channels, stride):
    return shortcut_a(x, out_channels, stride).float()


# --- resnet -------------------------------------------------------------------------------------


def resnet(block: type[nn.Module], counts: tuple[int, ...], num_classes: int) -> nn.Module:
    """A ResNet with ImageNet's stem and torchvision's names: conv1, bn1, layer1 to layer4, fc.

    block: a class called as block(in_channels, channels, stride); what it makes has out_channels,
    in a bottleneck four times its channels. counts: the number of blocks in each of four stages.
    (B, 3, H, W) → (B, num_classes). He et al. 2015, arXiv:1512.03385, table 1.
    """
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),  # (B, 64, H/2, W/2)
            bn1=nn.BatchNorm2d(64),
            relu=nn.ReLU(),
            maxpool=nn.MaxPool2d(3, stride=2, padding=1),  # (B, 64, H/4, W/4)
        )
    )
    in_channels = 64

    for stage, count in enumerate(counts):
        channels = 64 * 2**stage  # 64, 128, 256, 512
        blocks = []

        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1  # the map halves where a stage begins
            blocks.append(block(in_channels, channels, stride))
            in_channels = blocks[-1].out_channels  # what the next block is given

        network.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    network.add_module("avgpool", nn.AdaptiveAvgPool2d(1))  # (B, D, 1, 1)
    network.add_module("flatten", nn.Flatten())  # (B, D)
    network.add_module("fc", nn.Linear(in_channels, num_classes))  # (B, num_classes)
    return network


class SmallBlock(nn.Module):
    """As cheap as a block can be: 3×3 means, a 1×1 convolution and a ReLU."""

    growth = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.out_channels = channels * self.growth
        self.pool = nn.AvgPool2d(3, stride, padding=1)
        self.conv = nn.Conv2d(in_channels, self.out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.pool(x)).relu()


class SmallBottleneck(SmallBlock):
    """It gives more channels than it is told, as a bottleneck does."""

    growth = 2


def _resnet_cases() -> list[tuple]:
    return [
        ("the third stage has two blocks", SmallBlock, (1, 1, 2, 1), 2),
        ("the first stage has three blocks", SmallBlock, (3, 2, 1, 2), 3),
        (
            "a block gives more channels than it is told, as a bottleneck does",
            SmallBottleneck,
            (1, 2, 1, 1),
            2,
        ),
    ]


def _pictures(*args) -> torch.Tensor:
    """The last map is 2 × 2."""
    return torch.randn(2, 3, 34, 40, generator=torch.Generator().manual_seed(2))


RESNET = Exercise(
    reference=resnet,
    hint="remember how many channels the last block gave: the next one and fc need to know.",
    cases=_resnet_cases,
    read=modules.reader(resnet, _pictures),
)


def _wrong_resnet(
    block: type[nn.Module],
    counts: tuple[int, ...],
    num_classes: int,
    *,
    channels_of: Callable = lambda stage: 64 * 2**stage,
    stride_of: Callable = lambda stage, number, count: 2 if stage > 0 and number == 0 else 1,
    given: Callable = lambda channels, out_channels: out_channels,
    repeat: bool = False,
    **layers: Callable,
) -> nn.Module:
    """The network with something in it that is not the default here.

    channels_of: (stage) → channels. stride_of: (stage, number, count) → stride. given: (channels,
    out_channels of the last block) → what the next one is given. layers: name → (the right layer)
    → what stands in its place.
    """
    network = resnet(block, counts, num_classes)
    in_channels = 64

    for stage, count in enumerate(counts):
        blocks = []
        for number in range(count):
            channels, stride = channels_of(stage), stride_of(stage, number, count)
            blocks.append(block(in_channels, channels, stride))
            in_channels = given(channels, blocks[-1].out_channels)
        setattr(network, f"layer{stage + 1}", nn.Sequential(*blocks))

    network.fc = nn.Linear(in_channels, num_classes)
    for name, change in layers.items():
        setattr(network, name, change(getattr(network, name)))
    return network


def _instead(layer: nn.Module) -> Callable:
    return lambda right: layer


class _Corner(nn.Module):
    def forward(self, x):
        return x[:, :, :1, :1]


class _Sum(nn.Module):
    def forward(self, x):
        return x.sum(dim=(2, 3), keepdim=True)


_WRONG_RESNETS = [
    (
        "the max-pooling of the stem is missing",
        {"maxpool": _instead(nn.Identity())},
    ),
    (
        "the max-pooling of the stem takes 2×2 pixels; it is 3×3 with stride 2 and padding 1",
        {"maxpool": _instead(nn.MaxPool2d(2))},
    ),
    (
        "the max-pooling of the stem is not padded; it is 3×3 with stride 2 and padding 1",
        {"maxpool": _instead(nn.MaxPool2d(3, 2))},
    ),
    (
        "the ReLU of the stem is missing, behind bn1",
        {"relu": _instead(nn.Identity())},
    ),
    (
        "the norm of the stem is missing, bn1",
        {"bn1": _instead(nn.Identity())},
    ),
    (
        "the first convolution has no stride; it is 7×7 with stride 2 and padding 3",
        {"conv1": lambda right: nn.Conv2d(3, 64, 7, padding=3, bias=False)},
    ),
    (
        "the first convolution is not padded; it is 7×7 with stride 2 and padding 3",
        {"conv1": lambda right: nn.Conv2d(3, 64, 7, stride=2, bias=False)},
    ),
    (
        "the first convolution is padded by 1; it is 7×7 with stride 2 and padding 3",
        {"conv1": lambda right: nn.Conv2d(3, 64, 7, stride=2, padding=1, bias=False)},
    ),
    (
        "the first convolution has a bias; the norm behind it has one: bias=False",
        {"conv1": lambda right: nn.Conv2d(3, 64, 7, stride=2, padding=3)},
    ),
    (
        "the map is halved in layer1 as well; the stem has done that, stages 2 to 4 begin with it",
        {"stride_of": lambda stage, number, count: 2 if number == 0 else 1},
    ),
    (
        "every block of a stage has stride 2; the first block alone has it",
        {"stride_of": lambda stage, number, count: 2 if stage > 0 else 1},
    ),
    (
        "the map is never halved in the stages; the first block of stages 2 to 4 has stride 2",
        {"stride_of": lambda stage, number, count: 1},
    ),
    (
        "the stride is in the last block of a stage; it belongs to the first",
        {"stride_of": lambda stage, number, count: 2 if stage and number == count - 1 else 1},
    ),
    (
        "the channels do not double from stage to stage: 64, 128, 256, 512",
        {"channels_of": lambda stage: 64},
    ),
    (
        "the channels grow by 64 from stage to stage; they double: 64, 128, 256, 512",
        {"channels_of": lambda stage: 64 * (stage + 1)},
    ),
    (
        "the channels are passed on, not the block's out_channels, which may be more",
        {"given": lambda channels, out_channels: channels},
    ),
    (
        "num_classes is ignored: fc gives 1000",
        {"fc": lambda right: nn.Linear(right.in_features, 1000)},
    ),
    (
        "fc takes 512 features, whatever the last block's out_channels are",
        {"fc": lambda right: nn.Linear(512, right.out_features)},
    ),
    (
        "the largest value of a channel is taken at the end; the mean is asked for",
        {"avgpool": _instead(nn.AdaptiveMaxPool2d(1))},
    ),
    (
        "a channel is summed at the end; the mean is asked for",
        {"avgpool": _instead(_Sum())},
    ),
    (
        "the upper left value of a channel is taken at the end; the mean is asked for",
        {"avgpool": _instead(_Corner())},
    ),
    (
        "there is no pooling at the end: each channel needs one number, the mean of its map",
        {"avgpool": _instead(nn.Identity())},
    ),
    (
        "it is not flattened behind the pooling: fc wants (B, D), not (B, D, 1, 1)",
        {"flatten": _instead(nn.Identity())},
    ),
    (
        "the mean at the end is over 7×7; it is over the whole map, whatever the picture's size",
        {"avgpool": _instead(nn.AvgPool2d(7))},
    ),
]

for _cause, _difference in _WRONG_RESNETS:
    RESNET.mistake(_cause)(partial(_wrong_resnet, **_difference))


@RESNET.mistake("counts is ignored: every stage has two blocks")
def _(block, counts, num_classes):
    return resnet(block, (2, 2, 2, 2), num_classes)


@RESNET.mistake("counts is read in reversed order; its first number is that of layer1")
def _(block, counts, num_classes):
    return resnet(block, counts[::-1], num_classes)


@RESNET.mistake("each stage has one block more than counts tells")
def _(block, counts, num_classes):
    return resnet(block, [count + 1 for count in counts], num_classes)


@RESNET.mistake("each stage has one block less than counts tells")
def _(block, counts, num_classes):
    return resnet(block, [max(count - 1, 1) for count in counts], num_classes)


@RESNET.mistake(
    "the first block of a stage is told its own channels as in_channels; what it is given comes "
    "from the stage before"
)
def _(block, counts, num_classes):
    network = resnet(block, counts, num_classes)
    for stage in (1, 2, 3):
        channels = 64 * 2**stage
        getattr(network, f"layer{stage + 1}")[0] = block(channels, channels, 2)
    return network


class _EndsInSoftmax(nn.Sequential):
    def forward(self, x):
        return super().forward(x).softmax(dim=1)


@RESNET.mistake("it ends in a softmax; logits are asked for, cross-entropy has a softmax inside")
def _(block, counts, num_classes):
    return _EndsInSoftmax(OrderedDict(resnet(block, counts, num_classes).named_children()))


@RESNET.mistake("it ends in a ReLU; a logit may be negative")
def _(block, counts, num_classes):
    network = resnet(block, counts, num_classes)
    network.add_module("last", nn.ReLU())
    return network


@RESNET.mistake(
    "layers in a Python list are not found by PyTorch; nn.Sequential(*layers) makes them one layer"
)
def _(block, counts, num_classes):
    network = resnet(block, counts, num_classes)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        delattr(network, name)
    return network


@RESNET.mistake("one block is used again and again in a stage; each needs weights of its own")
def _(block, counts, num_classes):
    network = resnet(block, counts, num_classes)
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for number in range(2, len(stage)):
            stage[number] = stage[1]
    return network


# --- receptive_field ----------------------------------------------------------------------------


def receptive_field(layers: list[tuple[int, int]]) -> int:
    """Height of the piece of the picture, in pixels, that one value of the last layer depends on.

    layers: (kernel, stride) of each layer, first to last.
    """
    field, step = 1, 1  # step: pixels of the picture between two neighbours in the map

    for kernel, stride in layers:
        field += (kernel - 1) * step  # a kernel reaches over kernel - 1 such steps
        step *= stride  # counts for the layers behind this one

    return field


def _field_cases() -> list[tuple]:
    return [
        ("there is one layer", [(3, 1)]),
        ("there are two layers", [(3, 1), (3, 1)]),
        ("the first of two layers has a stride", [(3, 2), (3, 1)]),
        ("the last of two layers has a stride", [(3, 1), (5, 2)]),
        ("two layers have a stride", [(3, 2), (5, 3), (3, 1)]),
        ("there are many layers", [(7, 2), (3, 2), (3, 1), (2, 2), (5, 1)]),
    ]


FIELD = Exercise(
    reference=receptive_field,
    hint="how far apart, in the picture, are two neighbours of the map that a layer looks at?",
    cases=_field_cases,
    read=read_number,
)


def _wrong_field(
    layers: list[tuple[int, int]],
    *,
    start: int = 1,
    grow: Callable = lambda field, kernel, stride, step: field + (kernel - 1) * step,
    move: Callable = lambda step, stride: step * stride,
) -> int:
    """The walk with something in it that is not the default here."""
    field, step = start, 1
    for kernel, stride in layers:
        field = grow(field, kernel, stride, step)
        step = move(step, stride)
    return field


_WRONG_FIELDS = [
    (
        "the kernels are added; neighbouring windows overlap, so that a layer adds kernel - 1",
        {"start": 0, "grow": lambda field, kernel, stride, step: field + kernel},
    ),
    (
        "the kernels are multiplied; windows overlap, so that a layer adds (kernel - 1) · step",
        {"grow": lambda field, kernel, stride, step: field * kernel},
    ),
    (
        "the strides are ignored: behind a stride, neighbours are further apart in the picture",
        {"move": lambda step, stride: 1},
    ),
    (
        "a layer is multiplied by its own stride as well; only those of the layers before it count",
        {"grow": lambda field, kernel, stride, step: field + (kernel - 1) * step * stride},
    ),
    (
        "only the stride of the layer itself is looked at; those of the layers before it count",
        {"grow": lambda field, kernel, stride, step: field + (kernel - 1) * stride},
    ),
    (
        "only the stride of the layer before is looked at; those of all layers before multiply",
        {"move": lambda step, stride: stride},
    ),
    (
        "the strides are added; they multiply",
        {"move": lambda step, stride: step + stride},
    ),
    (
        "the field starts at 0; without any layer it is 1, the pixel itself",
        {"start": 0},
    ),
    (
        "a layer adds (kernel - 1) · step, not kernel · step",
        {"grow": lambda field, kernel, stride, step: field + kernel * step},
    ),
    (
        "a layer adds (kernel - 1) · step, not kernel · step",
        {"start": 0, "grow": lambda field, kernel, stride, step: field + kernel * step},
    ),
    (
        "every kernel is taken to be 3×3; a layer adds (kernel - 1) · step",
        {"grow": lambda field, kernel, stride, step: field + 2 * step},
    ),
    (
        "the field grows on one side alone; a layer adds (kernel - 1) · step, on both together",
        {"grow": lambda field, kernel, stride, step: field + kernel // 2 * step},
    ),
    (
        "kernels may be even; a layer adds (kernel - 1) · step, not 2 · (kernel // 2) · step",
        {"grow": lambda field, kernel, stride, step: field + 2 * (kernel // 2) * step},
    ),
    (
        "the step is doubled whatever the stride is; they multiply",
        {"move": lambda step, stride: 2 * step if stride > 1 else step},
    ),
    (
        "it is the product of the strides; the kernels count, too",
        {"grow": lambda field, kernel, stride, step: field * stride},
    ),
]

for _cause, _difference in _WRONG_FIELDS:
    FIELD.mistake(_cause)(partial(_wrong_field, **_difference))


@FIELD.mistake(
    "the layers are taken in the wrong order: with steps that multiply begin at the first layer, "
    "with (field - 1) · stride + kernel at the last"
)
def _(layers):
    return receptive_field(layers[::-1])


_FIELD_FROM_THE_LAST = (
    "from the last layer to the first, field becomes (field - 1) · stride + kernel: a row of field "
    "values has field - 1 steps between them"
)


@FIELD.mistake(_FIELD_FROM_THE_LAST)
def _(layers):
    field = 1
    for kernel, stride in reversed(layers):
        field = field * stride + kernel
    return field


@FIELD.mistake(_FIELD_FROM_THE_LAST)
def _(layers):
    field = 1
    for kernel, stride in reversed(layers):
        field = field * stride + kernel - 1
    return field


@FIELD.mistake("kernel and stride are exchanged; a layer is (kernel, stride)")
def _(layers):
    return receptive_field([(stride, kernel) for kernel, stride in layers])


@FIELD.mistake("the field is squared; its height alone is asked for")
def _(layers):
    return receptive_field(layers) ** 2


@FIELD.mistake("it is the largest kernel; a layer sees more through those before it")
def _(layers):
    return max(kernel for kernel, stride in layers)


@FIELD.mistake("only the first layer is looked at: the return stands inside the loop")
def _(layers):
    return receptive_field(layers[:1])


@FIELD.mistake("the last layer is left out")
def _(layers):
    return receptive_field(layers[:-1])


EXERCISES = [CONV_COST, STEP, ACCURACY, BLOCK, COUNT, SHORTCUT, RESNET, FIELD]
