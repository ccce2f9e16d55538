"""Diagrams: they show what the module does, say it in words, and can be read on a narrow page."""

import io
import re
from functools import cache
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import nn

plt = pytest.importorskip("matplotlib.pyplot")

from course_lib import plots  # noqa: E402
from course_lib.models import LambdaLayer, create_model  # noqa: E402
from course_lib.models.blocks import BasicBlock, Bottleneck  # noqa: E402
from course_lib.models.session_resnet import ResidualPair  # noqa: E402
from course_lib.models.variants import (  # noqa: E402
    BlockOptions,
    GeneralBasicBlock,
    GeneralBottleneck,
    PreActBasicBlock,
    PreActBottleneck,
)
from course_lib.plots import picture  # noqa: E402


def general(**options):
    return GeneralBasicBlock(16, 32, 2, BlockOptions(**options))


# Name: the block, and the shape that it is given.
BLOCKS = {
    "basic": lambda: (BasicBlock(16, 16), (16, 8, 8)),
    "basic, stride 2": lambda: (BasicBlock(16, 32, 2), (16, 8, 8)),
    "bottleneck": lambda: (Bottleneck(64, 16), (64, 8, 8)),
    "bottleneck, stride 2": lambda: (Bottleneck(64, 32, 2), (64, 9, 9)),
    "pre-activation": lambda: (PreActBasicBlock(16, 16), (16, 8, 8)),
    "pre-activation, stride 2": lambda: (PreActBottleneck(64, 32, 2), (64, 8, 8)),
    "option A": lambda: (general(shortcut="A"), (16, 8, 8)),
    "option C": lambda: (
        GeneralBottleneck(64, 16, 1, BlockOptions(shortcut="C")),
        (64, 8, 8),
    ),
    "option D": lambda: (general(shortcut="D"), (16, 9, 9)),
    "no shortcut": lambda: (general(shortcut="none"), (16, 8, 8)),
    "all options": lambda: (general(se=True, drop_rate=0.3, drop_path=0.1), (16, 8, 8)),
    "residual pair": lambda: (ResidualPair(16), (16, 8, 8)),
    "lambda layer": lambda: (create_model("lambda_resnet18", 10).layer3[0], (128, 4, 4)),
    "two blocks": lambda: (nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 16, 2)), (8, 8, 8)),
    "a long shortcut": lambda: (LongShortcut(), (8, 8, 8)),
    "one layer": lambda: (nn.ReLU(), (8, 8, 8)),
}

NETWORKS = {
    "session_resnet": (dict(stem="strided"), 64),
    "resnet18": ({}, 64),
    "resnet50": ({}, 64),
    "resnet56": ({}, 32),
    "preact_resnet20": ({}, 32),
    "se_resnet18": ({}, 64),
    "lambda_resnet18": ({}, 64),
}


class LongShortcut(nn.Module):
    """More boxes beside the main path than fit between its ends."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.downsample = nn.Sequential(nn.Conv2d(8, 8, 3, padding=2), nn.Dropout(0.5))

    def forward(self, x):
        return self.relu(self.norm(self.conv(x))) * 0.5 + self.downsample(x)


COMPRESS = picture._png


@pytest.fixture(autouse=True)
def drawn_only(monkeypatch):
    """Words have their places, but nothing is compressed, which takes as long as all the rest."""
    monkeypatch.setattr(picture, "_png", lambda figure: FigureCanvasAgg(figure).draw())


@cache
def block_picture(name):
    block, shape = BLOCKS[name]()
    return plots.block_diagram(block, shape)


def network(name):
    """On the device meta, where nothing is computed; and the size of its pictures."""
    options, size = NETWORKS[name]
    with torch.device("meta"):
        return create_model(name, 10, **options), size


@cache
def network_picture(name):
    return plots.network_diagram(*network(name))


def texts(drawn):
    return [text.get_text() for text in drawn.figure.axes[0].texts if text.get_text()]


def side_paths(drawn):
    """Lines with two bends: out of the main path, down, and back."""
    return [line for line in drawn.figure.axes[0].lines if len(line.get_xdata()) == 4]


# --- the picture is that of the module ------------------------------------------------------------


@pytest.mark.parametrize("name", BLOCKS)
def test_every_layer_of_a_block_has_one_box_and_the_shapes_are_those_of_a_forward_pass(name):
    block, shape = BLOCKS[name]()
    drawn = plots.block_diagram(block, shape)

    given_back = block.eval()(torch.zeros(1, *shape)).shape[1:]
    assert "input\n" + "×".join(map(str, shape)) in texts(drawn)
    assert "output\n" + "×".join(map(str, given_back)) in texts(drawn)

    inside = list(block.modules())
    whole = [each for each in inside if isinstance(each, LambdaLayer)]
    hidden = {part for each in whole for part in each.modules()}
    hidden |= {
        part
        for each in inside
        if type(each).__name__ == "SqueezeExcitation"
        for part in each.modules()
    }

    convolutions = []
    for each in inside:
        if isinstance(each, nn.Conv2d) and each not in hidden:
            sides = "×".join(map(str, each.kernel_size))
            convolutions.append(f"{sides} conv {each.in_channels} → {each.out_channels}")

    boxes = [re.sub(r"\s", " ", text) for text in texts(drawn)]
    drawn = [box.split(" stride")[0] for box in boxes if " conv" in box]
    assert sorted(drawn) == sorted(convolutions)

    norms = [each for each in inside if isinstance(each, nn.BatchNorm2d) and each not in hidden]
    assert boxes.count("norm") == len(norms)


@pytest.mark.parametrize(
    "name, said",
    [
        (
            "basic",
            "Basic block, 16×8×8 → 16×8×8: 3×3 convolution from 16 to 16 channels, norm, ReLU, "
            "3×3 convolution from 16 to 16 channels, norm; the shortcut: the input, unchanged; "
            "both are added, then ReLU",
        ),
        (
            "basic, stride 2",
            "Basic block, 16×8×8 → 32×4×4: 3×3 convolution from 16 to 32 channels with stride 2, "
            "norm, ReLU, 3×3 convolution from 32 to 32 channels, norm; the shortcut: the input, "
            "1×1 convolution from 16 to 32 channels with stride 2, norm; both are added, then ReLU",
        ),
        (
            "pre-activation, stride 2",
            "channels; the shortcut: what comes out of ReLU, 1×1 convolution from 64 to 128 "
            "channels with stride 2; both are added",
        ),
        ("pre-activation", "channels; the shortcut: the input, unchanged; both are added"),
        ("option A", "the shortcut: the input, every 2nd pixel, zeros for new channels; both"),
        ("option D", "the shortcut: the input, 2×2 average pool, 1×1 convolution"),
        ("all options", "dropout with p = 0.3, 3×3 convolution"),
        ("all options", "norm, squeeze and excitation, drop path with p = 0.1; the shortcut"),
        ("lambda layer", "ReLU, lambda layer, r = 23"),
        ("a long shortcut", "norm, ReLU, × 0.5; the shortcut: the input, 3×3 convolution"),
    ],
)
def test_a_block_is_described_along_its_main_path(name, said):
    assert said in block_picture(name).alt


def test_pre_activation_has_nothing_behind_the_sum():
    assert block_picture("pre-activation").alt.endswith("both are added")


@pytest.mark.parametrize("name, number", [("basic", 1), ("two blocks", 2), ("no shortcut", 0)])
def test_each_shortcut_is_a_line_beside_the_main_path(name, number):
    drawn = block_picture(name)
    assert len(side_paths(drawn)) == number
    assert texts(drawn).count("+") == drawn.alt.count("shortcut") == number


def test_a_shortcut_leaves_above_the_branch_and_comes_back_at_the_plus():
    drawn = block_picture("basic")
    plus = next(t for t in drawn.figure.axes[0].texts if t.get_text() == "+").get_position()
    first = min(t.get_position()[1] for t in drawn.figure.axes[0].texts if "conv" in t.get_text())

    ((_, leaves), *_, (arrives_x, arrives_y)) = side_paths(drawn)[0].get_xydata()
    assert leaves < first < arrives_y == plus[1]
    assert 0 < arrives_x - plus[0] < 20


# --- the reader's own blocks ----------------------------------------------------------------------


class Functional(nn.Module):
    """A block as students write it: functions, ``+=``, and option A by hand."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.downsample = nn.Sequential()

    def forward(self, x):
        shortcut = self.downsample(x)[:, :, ::2, ::2]
        shortcut = torch.cat([shortcut, torch.zeros_like(shortcut)], dim=1)
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return torch.relu(out)


class Padded(Functional):
    def forward(self, x):
        shortcut = x[:, :, ::2, ::2]
        missing = self.conv2.out_channels - shortcut.shape[1]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, missing))
        out = self.bn1(self.conv1(x)).relu()
        return torch.add(self.bn2(self.conv2(out)), shortcut).relu_()


class Forgotten(Functional):
    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)))


class Gated(nn.Module):
    """Squeeze and excitation by hand."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1)
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        out = self.conv(x)
        gate = torch.sigmoid(self.up(torch.relu(self.down(self.pool(out)))))
        return x + out * gate


@pytest.mark.parametrize("block", [Functional, Padded])
def test_a_block_written_with_functions_is_read_as_one_written_with_layers(block):
    own = plots.block_diagram(block(), (16, 8, 8), "Block")
    ours = plots.block_diagram(general(shortcut="A"), (16, 8, 8), "Block")

    by_hand = "every 2nd pixel, padded with zeros"
    assert own.alt == ours.alt.replace("every 2nd pixel, zeros for new channels", by_hand)
    assert len(side_paths(own)) == 1


def test_a_forgotten_shortcut_is_missing_in_the_picture():
    assert side_paths(plots.block_diagram(Forgotten(), (16, 8, 8))) == []


def test_a_gate_is_no_shortcut():
    alt = plots.block_diagram(Gated(), (8, 8, 8)).alt
    assert "the side path: what comes out of 3×3 convolution from 8 to 8 channels" in alt
    assert alt.endswith("both are multiplied; the shortcut: the input, unchanged; both are added")


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.long = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.ReLU(), nn.Tanh())
        self.short = ResidualPair(4).body[0]

    def forward(self, x):
        short = F.relu(x)
        return self.long(x) + (short + torch.tanh(short))


class Broken(nn.Module):
    def forward(self, x):
        return x.no_such_method()


@pytest.mark.parametrize(
    "block, said",
    [
        (Branching(), "control flow"),
        (Nested(), "divides once more"),
        (Broken(), "no_such_method"),
        (BasicBlock(8, 8), "expected input.* to have 8 channels"),
    ],
)
def test_a_block_that_cannot_be_drawn_is_answered_by_a_sentence(block, said, capsys):
    drawn = plots.block_diagram(block, (9, 4, 4))
    assert re.match(f"No diagram of {type(block).__name__} for a map of 9×4×4: .*{said}", drawn.alt)
    assert capsys.readouterr() == ("", "")


def test_drawing_leaves_the_block_as_it_was():
    block = general(drop_rate=0.3)
    block.bn1.eval()
    modes = [module.training for module in block.modules()]
    state = {name: value.clone() for name, value in block.state_dict().items()}
    random = torch.get_rng_state()

    plots.block_diagram(block, (16, 8, 8))
    assert [module.training for module in block.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in block.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_every_stage_of_a_network_has_a_row_with_its_shape_and_parameters(name):
    model, size = network(name)
    drawn = network_picture(name)

    shown = re.findall(r"([\d,]+) parameters", drawn.alt)
    total, *parts = [int(each.replace(",", "")) for each in shown]
    assert total == sum(parts) == sum(p.numel() for p in model.parameters())

    shapes = {}
    for stage, module in model.stages.items():
        module.register_forward_hook(
            lambda module, inputs, output, stage=stage: shapes.update({stage: output.shape[1:]})
        )
    model.eval()(torch.zeros(1, 3, size, size, device="meta"))
    for stage, shape in shapes.items():
        described = re.search(rf"; {stage}: ([^;]+)", drawn.alt).group(1)
        assert "×".join(map(str, shape)) in described
        assert stage in texts(drawn)


def test_the_box_of_a_stage_has_the_height_of_its_map_and_the_width_of_its_channels():
    patches = network_picture("resnet56").figure.axes[0].patches
    _, stem, first, second, third, *_ = [patch.get_bbox() for patch in patches]

    assert stem.width == first.width and stem.height == first.height
    for before, after in ((first, second), (second, third)):
        assert after.width / before.width == pytest.approx(2**0.5)
        assert abs(after.height / before.height) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    "name, said",
    [
        ("session_resnet", "stem: 3×3 conv with stride 2, norm, ReLU, 64×32×32"),
        ("session_resnet", "stage1: 3×3 conv, 2×2 max-pool, norm, ReLU, residual pair, 128×16×16"),
        ("resnet18", "stem: 7×7 conv with stride 2, norm, ReLU, 3×3 max-pool with stride 2"),
        ("resnet50", "layer3: 6 × bottleneck, 1024×4×4"),
        ("resnet56", "layer2: 9 × basic block, 32×16×16"),
        ("preact_resnet20", "layer1: 3 × pre-activation basic block"),
        ("se_resnet18", "layer4: 2 × basic block with squeeze and excitation"),
        ("lambda_resnet18", "layer2: 2 × basic block, 128×8×8"),
        ("lambda_resnet18", "layer4: 2 × basic block with lambda layer"),
        ("resnet18", "fc: linear layer: a logit for each class, 10 numbers, 5,130 parameters"),
    ],
)
def test_a_row_tells_what_is_inside(name, said):
    assert said in network_picture(name).alt


class OwnNetwork(nn.Module):
    """torchvision's names, without ``stages``, and pooled by a function."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16))
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean(dim=(2, 3)))


def test_a_network_of_the_reader_needs_no_stages():
    alt = plots.network_diagram(OwnNetwork(), 16).alt
    steps = re.findall(r"[.;] (\w+):", alt)
    assert steps == ["picture", "stem", "layer1", "layer2", "pooling", "fc"]
    assert "layer2: 2 × basic block, 16×8×8" in alt


def test_a_network_that_does_not_run_is_answered_by_a_sentence():
    model = OwnNetwork()
    model.fc = nn.Linear(15, 5)
    assert plots.network_diagram(model, 16).alt.startswith("No diagram of OwnNetwork")


# --- on the page ----------------------------------------------------------------------------------

THREE = {
    "Basic block": (BasicBlock(16, 32, 2), (16, 56, 56)),
    "Bottleneck": (Bottleneck(256, 128, 2), (256, 8, 8)),
    "Pre-activation": (PreActBasicBlock(16, 32, 2), (16, 56, 56)),
}
TITLES = {
    "Plain, without a shortcut at all": (nn.ReLU(), (8, 4, 4)),
    "GeneralBottleneck": THREE["Bottleneck"],
}


@cache
def page(name):
    if name in BLOCKS:
        return block_picture(name)
    if name in NETWORKS:
        return network_picture(name)
    return plots.block_diagrams({"three": THREE, "long titles": TITLES}[name])


PAGES = [*BLOCKS, *NETWORKS, "three", "long titles"]


def on_page(drawn, box):
    """A rectangle in pixels of the page: left, top, right, bottom."""
    (left, bottom), (right, top) = drawn.figure.axes[0].transData.inverted().transform(box)
    return left, top, right, bottom


def words_on(drawn):
    texts = [text for text in drawn.figure.axes[0].texts if text.get_text()]
    return [(text.get_text(), on_page(drawn, text.get_window_extent())) for text in texts]


def frames_on(drawn):
    return [on_page(drawn, patch.get_window_extent()) for patch in drawn.figure.axes[0].patches]


def apart(one, other):
    beside = one[2] <= other[0] or other[2] <= one[0]
    above = one[3] <= other[1] or other[3] <= one[1]
    return beside or above


def inside(inner, outer, margin):
    left, top, right, bottom = inner
    wide = outer[0] + margin <= left and right <= outer[2] - margin
    return wide and outer[1] <= top and bottom <= outer[3]


@pytest.mark.parametrize("name", PAGES)
def test_words_keep_clear_of_each_other_of_frames_and_of_the_edge(name):
    drawn = page(name)
    width, height = (72 * inches for inches in drawn.figure.get_size_inches())
    labels, frames = words_on(drawn), frames_on(drawn)

    for text, place in labels:
        assert inside(place, (0, 0, width, height), margin=5), text
        for frame in frames:
            assert apart(place, frame) or inside(place, frame, margin=3), text
    for (text, place), (other, elsewhere) in combinations(labels, 2):
        assert apart(place, elsewhere), (text, other)
    for one, other in combinations(frames, 2):
        assert apart(one, other)


@pytest.mark.parametrize("name", PAGES)
def test_words_are_legible_where_the_page_is_400_pixels_wide(name):
    drawn = page(name)
    shrunk = min(1, 400 / (72 * drawn.figure.get_figwidth()))
    sizes = [text.get_fontsize() for text in drawn.figure.axes[0].texts if text.get_text()]
    assert shrunk * min(sizes) >= 7


@pytest.mark.parametrize(
    "draw",
    [lambda: plots.block_diagrams(THREE), lambda: plots.network_diagram(OwnNetwork(), 16)],
    ids=["blocks", "network"],
)
def test_a_diagram_is_light_in_both_senses_whatever_style_the_reader_chose(draw):
    with plt.style.context("dark_background"):
        before = plt.get_fignums(), dict(plt.rcParams)
        drawn = draw()
        assert (plt.get_fignums(), dict(plt.rcParams)) == before

        png = COMPRESS(drawn.figure)
    assert len(png) < 100_000
    image = Image.open(io.BytesIO(png)).convert("RGB")
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert 450 <= image.width <= 1696


def test_blocks_side_by_side_keep_their_scale_and_their_titles():
    alone = plots.block_diagram(*THREE["Basic block"])
    beside = page("three")
    assert {*THREE} <= {*texts(beside)}

    def first_frame(drawn):
        left, top, right, bottom = frames_on(drawn)[0]
        return right - left, bottom - top

    assert first_frame(beside) == pytest.approx(first_frame(alone))


@pytest.mark.parametrize(
    "draw, said",
    [
        (lambda: plots.block_diagrams({}), "at least one block"),
        (lambda: plots.block_diagram(BasicBlock, (8, 4, 4)), "no nn.Module"),
        (lambda: plots.block_diagram(nn.ReLU(), (8, 4)), r"shape is \(8, 4\), expected"),
        (lambda: plots.block_diagram(nn.ReLU(), (8, 0, 4)), "expected .channels, height, width"),
        (lambda: plots.network_diagram(OwnNetwork(), 0), "size is 0"),
        (lambda: plots.network_diagram(nn.Sequential(nn.Linear(2, 2)), 2), "no convolution"),
    ],
)
def test_wrong_input_is_refused_in_words(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()
