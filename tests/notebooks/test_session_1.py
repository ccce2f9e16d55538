"""What session 1 shows of networks and of the library is so."""

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from cells import cell_with
from rules import ROOT, SOLUTION, markdown, output_texts, read
from torch import nn

from course_lib.exercises import session1
from course_lib.models import ResNet, create_model, summary
from course_lib.models.blocks import BasicBlock, Bottleneck
from course_lib.runtime import Precision
from course_lib.training import Trainer, schedules

NOTEBOOK = ROOT / "notebooks" / "01_resnet_from_scratch.ipynb"


def shown(*texts):
    """The names that these cells of the notebook define."""
    names = {"nn": nn, "F": F, "torch": torch, "BasicBlock": BasicBlock, "summary": summary}
    for text in texts:
        exec(cell_with(text, NOTEBOOK), names)
    return names


@pytest.fixture(scope="module")
def solutions():
    """Exercise → the answer that its solution, as the notebook shows it, defines."""
    found = {}
    for source in SOLUTION.findall(markdown(read(NOTEBOOK))):
        name = re.match(r"(?:def|class) (\w+)", source)[1]
        names = dict(vars(session1))
        exec(source, names)
        found[name] = names[name]
    return found


# --- the loop -------------------------------------------------------------------------------------


def test_its_steps_are_those_of_the_library(solutions):
    torch.manual_seed(0)
    theirs = shown("def small_network(")["small_network"](10)
    ours = copy.deepcopy(theirs)
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(10, (8,))) for _ in range(5)]

    def optimizer_of(model):
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    optimizer = optimizer_of(theirs.eval())  # the step sets train mode itself
    losses = [solutions["training_step"](theirs, optimizer, *batch) for batch in batches]

    optimizer = optimizer_of(ours.train())
    fp32 = Precision(torch.device("cpu"))
    trainer = Trainer(ours, optimizer, schedules.constant(optimizer), fp32)
    assert losses == [trainer.step(*batch)[0].item() for batch in batches]

    for name, weights in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], weights), name


# --- the network ----------------------------------------------------------------------------------


def stir(model):
    """Norms that do something: a fresh one hides a missing or exchanged statistic."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.mark.parametrize(
    ("depth", "counts"), [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3)), (50, (3, 4, 6, 3))]
)
def test_its_resnet_is_torchvisions_key_for_key(solutions, depth, counts):
    torch.manual_seed(0)
    theirs = stir(getattr(torchvision.models, f"resnet{depth}")(num_classes=10))
    block = Bottleneck if depth == 50 else solutions["ResidualBlock"]

    mine = solutions["resnet"](block, counts, 10)
    mine.load_state_dict(theirs.state_dict())

    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs.eval()(x), mine.eval()(x)
    scale = expected.abs().max()
    assert (found - expected).abs().max() < 1e-5 * max(scale, 1)


def test_its_costs_are_those_that_torch_counts(solutions):
    for arguments in ((3, 64, 7, 2, 224, 224), (64, 128, 1, 2, 56, 56), (16, 16, 3, 1, 9, 9)):
        channels, out_channels, kernel, stride, size, _ = arguments
        conv = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False)
        counted = summary(nn.Sequential(conv), size)
        parameters, multiply_adds = solutions["conv_cost"](*arguments)
        assert (parameters, multiply_adds) == (counted.parameters, counted.multiply_adds)


def test_the_way_through_a_resnet18_sees_435_pixels(solutions):
    """Araujo et al. 2019, table of receptive fields."""
    space = {"receptive_field": solutions["receptive_field"], "print": lambda *_: None}
    exec(cell_with("def path(", NOTEBOOK), space)
    way = space["path"]((2, 2, 2, 2), [(7, 2), (3, 2)])
    assert solutions["receptive_field"](way) == 435


# --- gradients ------------------------------------------------------------------------------------


def test_gradient_lengths_are_those_of_every_3x3_convolution():
    model = create_model("resnet20", 10)
    x, labels = torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    found = shown("def gradient_lengths(")["gradient_lengths"](model, x, labels)

    wanted = [p for p in model.parameters() if p.shape[2:] == (3, 3)]
    loss = F.cross_entropy(model.train()(x), labels)
    expected = [gradient.norm().item() for gradient in torch.autograd.grad(loss, wanted)]
    assert len(found) == 19 and found == pytest.approx(expected, rel=1e-4)


def test_without_norms_nothing_else_goes():
    names = shown("def gradient_lengths(")
    model = create_model("resnet20", 10)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    names["without_norms"](model)

    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert [m for m in model.modules() if isinstance(m, nn.Conv2d)] == convolutions


def printed(text):
    """Network → the numbers in its line of the committed output of that cell."""
    (cell,) = [cell for cell in read(NOTEBOOK).cells if text in cell.source]
    lines = "".join(output_texts(cell)).splitlines()
    found = {}
    for line in lines:
        if match := re.match(r"((?:ResNet|plain)(?:, no norms)?) {2,}\D+", line):
            numbers = re.findall(r"nan|\d[\d.]*(?:e[+-]\d+)?", line[match.end(1) :])
            found[match[1]] = [float(number) for number in numbers]
    return found


def test_what_we_saw_of_the_gradients_stands_in_the_outputs():
    first, last = 0, 1
    at_the_start = printed("networks = networks_of_56_layers()")
    growth = {name: values[first] / values[last] for name, values in at_the_start.items()}
    assert growth["plain"] > 1000, "by a factor of more than a thousand"
    assert 3 < growth["ResNet"] < 30, "about tenfold"
    assert 0.1 < growth["plain, no norms"] < 10, "nearly level"

    losses = printed("for name, network in networks.items():\n    optimizer")
    before, after = 0, -1
    assert losses["ResNet, no norms"][before] > 1000, "in the thousands"
    assert math.isnan(losses["ResNet, no norms"][after])
    assert losses["ResNet"][before] == pytest.approx(4.2, abs=0.05)

    said = {"ResNet": 3.4, "plain": 3.3, "plain, no norms": 3.2}
    for name, loss in said.items():
        assert losses[name][after] == pytest.approx(loss, abs=0.05), name


def spans_drawn(text):
    """Network → how many times the gradient of its first convolution is that of its last."""
    (cell,) = [cell for cell in read(NOTEBOOK).cells if text in cell.source]
    found = re.findall(
        r"([\w, -]+): \d+ convolutions, from ([\d.e-]+) to ([\d.e-]*\d)",
        "".join(output_texts(cell)),
    )
    return {name.strip(): float(first) / float(last) for name, first, last in found}


def test_what_we_saw_of_the_gradients_later_stands_in_the_pictures():
    later = spans_drawn("finite = {name: values")
    assert 150 < 1 / later["plain"] < 200, "nearly 200 times below it"
    assert 1 / later["ResNet"] == pytest.approx(14, abs=0.5), "about 14 times below"

    trained = spans_drawn("trained = {name: result.model")
    assert 1 / trained["plain-56"] == pytest.approx(6, abs=0.5), "to a sixth"


def numbers_after(words, text):
    """The numbers that follow these words in the committed output of that cell."""
    (cell,) = [cell for cell in read(NOTEBOOK).cells if text in cell.source]
    said = "".join(output_texts(cell))
    return [float(number) for number in re.findall(rf"{words} +([\d.]+)", said)]


def test_first_losses_are_those_that_the_words_name():
    cell = 'for name in ("resnet20", "resnet56", "resnet110")'
    assert numbers_after("as usual", cell) == [3.62, 4.07, 5.06]
    assert numbers_after("with zero_init_residual", cell) == [3.28, 3.29, 3.26]


def test_no_error_shows_in_the_last_loss():
    last = numbers_after("last", "whole = BatchLoader")
    assert len(last) == 5 and (min(last), max(last)) == (3.17, 3.32)
    assert last[0] == max(last), "the right network's was the highest"


def test_a_resnet50_does_little_more_work_than_a_resnet34():
    work = {
        depth: summary(getattr(torchvision.models, f"resnet{depth}")(), 224).multiply_adds / 1e9
        for depth in (34, 50)
    }
    assert {depth: round(billions, 1) for depth, billions in work.items()} == {34: 3.7, 50: 4.1}


# --- errors made on purpose -----------------------------------------------------------------------


@pytest.fixture
def errors():
    return shown("def gradient_lengths(", "class ShortcutForgotten")


def same_weights(block):
    """The block and a right one, with the same weights, in eval mode."""
    torch.manual_seed(0)
    right = stir(BasicBlock(8, 16, stride=2)).eval()
    wrong = block(8, 16, stride=2)
    wrong.load_state_dict(right.state_dict(), strict=False)
    return right, wrong.eval()


@torch.no_grad()
def test_each_error_is_the_one_that_it_is_called(errors):
    x = torch.randn(2, 8, 8, 8)

    right, wrong = same_weights(errors["ShortcutForgotten"])
    branch = right.bn2(right.conv2(right.relu(right.bn1(right.conv1(x)))))
    assert torch.equal(wrong(x), branch.relu())

    right, wrong = same_weights(errors["ReluBeforeAddition"])
    assert torch.equal(wrong(x), right.downsample(x) + branch.relu())

    right, wrong = same_weights(errors["StrideInSecond"])
    assert wrong(x).shape == right(x).shape and not torch.allclose(wrong(x), right(x))

    _, wrong = same_weights(errors["NoNorm"])
    assert not any(isinstance(m, nn.BatchNorm2d) for m in wrong.modules())


def test_a_network_is_built_of_each_error(errors):
    for name, block in errors["blocks"].items():
        model = ResNet(block, (1, 1, 1), 16, 10, stem="small")
        assert model(torch.randn(2, 3, 16, 16)).shape == (2, 10), name
