"""ResNets against torchvision, timm, torch-resnet and papers: sizes, outputs, blocks, summary."""

from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pytest
import timm
import torch
import torch.nn.functional as F
import torch_resnet
import torchvision
from torch import nn

from course_lib.models import ResNet, create_model, list_models, model_options, summary
from course_lib.models.blocks import BasicBlock, Bottleneck
from course_lib.models.variants import (
    BlockOptions,
    GeneralBasicBlock,
    GeneralBottleneck,
    PreActBasicBlock,
    PreActBottleneck,
    make_shortcut,
)

SHORTCUTS = {
    "A": torch_resnet.IdentityShortcut,
    "B": torch_resnet.ProjectionShortcut,
    "C": torch_resnet.FullProjectionShortcut,
    "conv": torch_resnet.ConvolutionShortcut,
}
GENERAL = [GeneralBasicBlock, GeneralBottleneck, PreActBasicBlock, PreActBottleneck]


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@contextmanager
def paper():
    """Networks without memory for their weights, and without random values: quick at any size."""
    names = [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
    unchanged = {name: lambda tensor, *_, **__: tensor for name in names}
    with torch.device("meta"), mock.patch.multiple(nn.init, **unchanged):
        yield


def on_paper(name, num_classes=10, **options):
    with paper():
        return create_model(name, num_classes, **options)


def lived_in(model):
    """Norms as after a training: fresh ones, of scale 1 and shift 0, would hide a mix-up."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    return model.eval()


def pictures(count=2, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, num_classes, options, count",
    [
        ("session_resnet", 10, {}, 6_573_120),
        ("session_resnet", 200, {}, 6_670_400),
        ("session_resnet", 10, {"stem": "strided"}, 6_573_120),  # a stride costs no weight
        ("resnet18_small", 10, {}, 11_173_962),
        ("resnet18_small", 200, {}, 11_271_432),
        ("resnet18", 10, {}, 11_181_642),
        ("resnet18", 1000, {}, 11_689_512),
        ("resnet50", 1000, {}, 25_557_032),
        ("resnet20", 10, {}, 272_474),
        ("resnet20", 10, {"shortcut": "A"}, 269_722),
    ],
)
def test_networks_have_the_published_number_of_parameters(name, num_classes, options, count):
    assert parameters(on_paper(name, num_classes, **options)) == count


@pytest.mark.parametrize(
    "name, millions", [("wide_resnet16", 11.0), ("wide_resnet28", 36.5), ("wide_resnet40", 8.9)]
)
def test_wide_resnets_have_the_size_of_the_papers_tables(name, millions):
    """Zagoruyko & Komodakis 2016, tables 4 and 5: WRN-16-8, WRN-28-10, WRN-40-4."""
    for prefix in ("", "preact_"):
        assert abs(parameters(on_paper(prefix + name)) / 1e6 - millions) < 0.07


@pytest.mark.parametrize(
    "name, millions",
    [
        ("resnet1202", 19.4),
        ("preact_resnet1001", 10.3),
        slow("resnet1001", 10.3),
        slow("preact_resnet1202", 19.4),
    ],
)
def test_a_thousand_layers_have_the_size_of_torch_resnets_table(name, millions):
    assert round(parameters(on_paper(name)) / 1e6, 1) == millions


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_the_summary_counts_torchvisions_parameters_and_operations(depth):
    published = torchvision.models.get_model_weights(f"resnet{depth}").DEFAULT.meta
    ours = summary(on_paper(f"resnet{depth}", 1000), 224)

    assert ours.parameters == published["num_params"]
    billions = round(ours.multiply_adds / 1e9, 3)
    assert billions == published["_ops"]  # 1.814 for resnet18, 4.089 for resnet50


# --- sizes, against torch-resnet ------------------------------------------------------------------

OF_TORCH_RESNET = [
    name for name in list_models() if not name.startswith(("se_", "session", "lambda"))
]
SHALLOW = [
    kind + name
    for name in ("resnet18", "resnet50", "resnet20", "wide_resnet16")
    for kind in ("", "preact_")
]


def torch_resnet_of(name, *, shortcut="B", **options):
    kind, depth = name.removesuffix("_small").split("resnet")
    title = {
        "": "ResNet",
        "preact_": "PreActResNet",
        "wide_": "WideResNet",
        "preact_wide_": "PreActWideResNet",
    }[kind]
    if name.endswith("_small"):
        options["small_images"] = True

    model = getattr(torch_resnet, title + depth)(shortcut=SHORTCUTS[shortcut], **options)
    model.set_head(nn.Linear(model.out_planes, 10))
    return model


def assert_counts_agree(name, **options):
    with paper():
        theirs = torch_resnet_of(name, **options)
    assert parameters(on_paper(name, **options)) == parameters(theirs)


@pytest.mark.parametrize(
    "name", [slow(name) if name.endswith(("1001", "1202")) else name for name in OF_TORCH_RESNET]
)
def test_networks_have_as_many_parameters_as_torch_resnets(name):
    assert_counts_agree(name, width=1)


@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize("name", SHALLOW)
def test_with_other_shortcuts_and_widths_too(name, kind):
    assert_counts_agree(name, shortcut=kind, width=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize("width", [1, 2, 10])
@pytest.mark.parametrize("name", OF_TORCH_RESNET)
def test_with_every_shortcut_and_width_too(name, width, kind):
    assert_counts_agree(name, shortcut=kind, width=width)


@pytest.mark.parametrize("name", ["resnet18", "preact_resnet50", "resnet20", "wide_resnet16"])
def test_for_grey_and_for_small_pictures_too(name):
    small = model_options(name)["stem"] == "imagenet"
    with paper():
        theirs = torch_resnet_of(name, in_planes=1, width=1, small_images=True)

    stem = {"stem": "small"} if small else {}
    assert parameters(on_paper(name, in_channels=1, width=1, **stem)) == parameters(theirs)


# --- weights and outputs, against torchvision and timm --------------------------------------------


def timms_resnet18_d(num_classes=1000):
    block = timm.models.resnet.BasicBlock
    return timm.models.resnet.ResNet(block, (2, 2, 2, 2), num_classes, avg_down=True)


PEERS = [
    *(
        (f"resnet{depth}", {}, getattr(torchvision.models, f"resnet{depth}"))
        for depth in (18, 34, 50, 101, 152)
    ),
    ("resnet18", {"shortcut": "D"}, timms_resnet18_d),
    ("se_resnet50", {}, timm.models.resnet.seresnet50),
]
DEEPER = ("resnet34", "resnet101", "resnet152")


@pytest.mark.parametrize(
    "name, options, make",
    [*PEERS, ("resnet50", {"width": 2}, torchvision.models.wide_resnet50_2)],
)
def test_state_dicts_agree_with_torchvision_and_timm(name, options, make):
    with paper():
        theirs = make().state_dict()
    ours = on_paper(name, 1000, **options).state_dict()

    assert list(ours) == list(theirs)
    assert [value.shape for value in ours.values()] == [value.shape for value in theirs.values()]


def test_se_resnet18_has_the_size_of_timms():
    with paper():
        theirs = timm.models.senet.legacy_seresnet18()
    assert parameters(on_paper("se_resnet18", 1000)) == parameters(theirs)


@pytest.mark.parametrize(
    "name, options, make", [slow(*peer) if peer[0] in DEEPER else peer for peer in PEERS]
)
def test_with_their_weights_the_outputs_are_theirs(name, options, make):
    torch.manual_seed(0)
    theirs, ours = lived_in(make(num_classes=10)), on_paper(name, **options).eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)

    x = pictures(size=72)  # maps of 18, 9, 5 and 3 pixels: odd ones too
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_gradients_are_torchvisions_too():
    torch.manual_seed(0)
    theirs, ours = torchvision.models.resnet18(num_classes=10), create_model("resnet18", 10)
    ours.load_state_dict(theirs.state_dict())

    for model in (ours, theirs):
        F.cross_entropy(model(pictures(4, 64)), torch.arange(4)).backward()
    for our_p, their_p in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(our_p.grad, their_p.grad, rtol=1e-3, atol=1e-5)


# --- weights and outputs, against torch-resnet ----------------------------------------------------


def small_bottlenecks(block, kind):
    """Theirs and ours, two stages: what torch-resnet has by name is 164 layers deep at least."""
    if block is Bottleneck:
        network, unit = torch_resnet.ResNet, torch_resnet.resnet.Bottleneck
    else:
        network, unit = torch_resnet.PreActResNet, torch_resnet.preact_resnet.PreActBottleneck

    sizes = [(1, 16), (2, 16), (2, 32)]  # layers and channels of stem and stages
    theirs = network(sizes, unit, shortcut=SHORTCUTS[kind], width=2, small_images=True)
    theirs.set_head(nn.Linear(theirs.out_planes, 10))
    return theirs, ResNet(block, (2, 2), 16, 10, stem="small", shortcut=kind, width=2)


def assert_same_outputs(theirs, ours):
    theirs, ours = lived_in(theirs), ours.eval()

    # Their names differ, but the layers come in the same order.
    state = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(state), assign=True)

    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures()), theirs(pictures()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize(
    "name, width",
    [("resnet18", 1), ("resnet20", 1), slow("resnet164", 2), ("wide_resnet16", 3)],
)
@pytest.mark.parametrize("prefix", ["", "preact_"])
def test_with_torch_resnets_weights_the_outputs_are_its_own(prefix, name, width, kind):
    torch.manual_seed(0)
    theirs = torch_resnet_of(prefix + name, shortcut=kind, width=width)
    if prefix:
        activate_before_the_first_split(theirs)
    assert_same_outputs(theirs, on_paper(prefix + name, shortcut=kind, width=width))


@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize("block", [Bottleneck, PreActBottleneck])
def test_with_its_weights_bottlenecks_have_its_outputs(block, kind):
    torch.manual_seed(0)
    theirs, ours = small_bottlenecks(block, kind)
    if block is PreActBottleneck:
        activate_before_the_first_split(theirs)
    assert_same_outputs(theirs, ours)


def activate_before_the_first_split(model):
    """As in the paper (He et al. 2016, appendix).

    torch-resnet has it only where the first shortcut holds weights; a Sequential around the
    shortcut hides the flag by which the block hands it its raw input.
    """
    first = model.layers[0][0]
    if not first.shortcut.requires_activation:
        first.shortcut = nn.Sequential(first.shortcut)
        first.shortcut.requires_activation = True


# --- plain and general blocks ---------------------------------------------------------------------

PAIRS = [(BasicBlock, GeneralBasicBlock), (Bottleneck, GeneralBottleneck)]


@pytest.mark.parametrize("in_channels, stride", [(32, 1), (16, 1), (32, 2)])
@pytest.mark.parametrize("plain, general", PAIRS)
def test_a_general_block_without_options_is_the_plain_one(plain, general, in_channels, stride):
    """Keys, shapes, random weights, what is left of the random stream, outputs, gradients."""
    channels = 32 if plain is BasicBlock else 8
    x = torch.randn(2, in_channels, 7, 7, generator=torch.Generator().manual_seed(0))
    found = []

    for make in (plain, general):
        torch.manual_seed(0)
        block = make(in_channels, channels, stride)
        next_random = torch.rand(1)

        y = block(x)
        y.square().sum().backward()
        found.append((block, next_random, y, [p.grad for p in block.parameters()]))

    (one, one_random, one_y, one_gradients), (two, two_random, two_y, two_gradients) = found
    assert torch.equal(one_random, two_random) and torch.equal(one_y, two_y)
    assert one.out_channels == two.out_channels == one_y.shape[1] == 32

    state, other = one.state_dict(), two.state_dict()
    assert list(state) == list(other)
    assert all(torch.equal(state[key], other[key]) for key in state)
    assert all(map(torch.equal, one_gradients, two_gradients))


def test_networks_have_plain_blocks_unless_an_option_is_asked_for():
    kinds = {BasicBlock, Bottleneck, *GENERAL}

    def blocks_of(name, **options):
        return {type(module) for module in on_paper(name, **options).modules()} & kinds

    assert blocks_of("resnet18") == {BasicBlock}
    assert blocks_of("lambda_resnet18") == {GeneralBasicBlock}  # they start as the identity
    assert blocks_of("resnet50") == blocks_of("resnet164") == {Bottleneck}
    assert blocks_of("preact_resnet18") == {PreActBasicBlock}
    assert blocks_of("preact_resnet50") == {PreActBottleneck}
    assert blocks_of("wide_resnet16") == blocks_of("se_resnet18") == {GeneralBasicBlock}

    for option in ({"drop_path": 0.1}, {"zero_init_residual": True}, {"shortcut": "D"}):
        assert blocks_of("resnet50", **option) == {GeneralBottleneck}


# --- options of blocks ----------------------------------------------------------------------------


def general_block(block, **options):
    """One whose shape stays: 32 channels in and out, in training mode."""
    torch.manual_seed(0)
    channels = 8 if block in (GeneralBottleneck, PreActBottleneck) else 32
    return block(32, channels, options=BlockOptions(**options)).train()


def last_layer(unit):
    """The last layer of the branch, whose weight can shut it."""
    kind = nn.Conv2d if isinstance(unit, PreActBasicBlock | PreActBottleneck) else nn.BatchNorm2d
    of_branch = [
        module
        for name, module in unit.named_children()
        if isinstance(module, kind) and name != "downsample"
    ]
    return of_branch[-1]


def last_conv(unit):
    return unit.conv3 if hasattr(unit, "conv3") else unit.conv2


@pytest.mark.parametrize("block", GENERAL)
def test_a_block_that_starts_as_the_identity_passes_on_its_input_and_learns(block):
    unit = general_block(block, se=True)
    x = torch.rand(2, 32, 4, 4)  # positive, as behind a ReLU
    assert not torch.allclose(unit(x), x)

    unit.start_as_identity()
    assert torch.equal(unit(x), x)

    unit(x).square().sum().backward()
    assert last_layer(unit).weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "name, blocks",
    [("resnet18", 5), ("resnet50", 12), ("preact_resnet18", 5), ("preact_resnet50", 12)],
)
def test_with_zero_init_residual_every_block_whose_shape_stays_starts_as_the_identity(name, blocks):
    model = create_model(name, 10, zero_init_residual=True)
    units = [module for module in model.modules() if hasattr(module, "downsample")]
    keeping = [unit for unit in units if isinstance(unit.downsample, nn.Identity)]
    assert len(keeping) == blocks

    for block in keeping:
        x = torch.rand(2, block.conv1.in_channels, 4, 4)
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("block", GENERAL)
def test_a_shortcut_with_weights_hands_on_its_input_where_blocks_start_as_the_identity(block):
    """Kind C: its norm is lifted by 2, its scale 1; with pre-activation the norm before."""
    unit = general_block(block, shortcut="C")
    unit.start_as_identity()

    x = torch.randn(64, 32, 4, 4)
    normed = F.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(unit(x), F.relu(normed + 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("block", GENERAL)
def test_dropout_falls_on_the_input_of_the_last_convolution_and_only_in_training(block):
    unit, x, seen = general_block(block, drop_rate=0.5), torch.randn(8, 32, 8, 8), []
    last_conv(unit).register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))

    unit(x)
    unit.dropout.p = 0.0
    unit(x)
    dropped, whole = seen

    alive = whole > 0
    assert abs((dropped[alive] == 0).float().mean() - 0.5) < 0.05
    kept = alive & (dropped > 0)
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])

    unit.dropout.p = 0.5
    assert torch.equal(unit.eval()(x), unit(x))


@pytest.mark.parametrize("block", GENERAL)
def test_drop_path_lets_whole_pictures_around_the_branch_in_training(block):
    unit, x = general_block(block, drop_path=0.25), torch.rand(400, 32, 2, 2)

    around = (unit(x) == x).flatten(1).all(1)
    assert abs(around.float().mean() - 0.25) < 0.07

    around = (unit.eval()(x) == x).flatten(1).all(1)
    assert not around.any()


def test_drop_path_grows_in_proportion_to_the_depth():
    """Huang et al. 2016, equation 4: block l of L is dropped with probability p l / L."""
    model = on_paper("preact_resnet20", drop_path=0.5)
    blocks = [block for stage in (model.layer1, model.layer2, model.layer3) for block in stage]
    rates = [block.drop_path.p for block in blocks]
    assert rates == pytest.approx([0.5 * number / 9 for number in range(1, 10)])


def test_squeeze_and_excitation_scales_channels_between_nothing_and_all():
    unit, x, seen = general_block(GeneralBasicBlock, se=True), torch.rand(2, 32, 4, 4), []
    unit.se.register_forward_hook(lambda module, inputs, output: seen.append(output / inputs[0]))
    unit(x)

    scale = seen[0].flatten(2)  # (B, C, H·W)
    one_for_the_map = scale[:, :, :1].expand_as(scale)
    torch.testing.assert_close(scale, one_for_the_map, rtol=1e-3, atol=1e-4)
    assert 0 < scale.min() < scale.max() < 1


@pytest.mark.parametrize("stride, passes", [(1, True), (2, False)])
def test_a_pre_activation_block_starts_its_projection_from_the_activated_input(stride, passes):
    """He et al. 2016: a dead activation lets nothing into a projection, all past an identity."""
    unit = PreActBasicBlock(32, 32, stride)
    nn.init.constant_(unit.bn1.bias, -100.0)
    out = unit(torch.randn(4, 32, 4, 4))
    assert (out.abs().sum() > 0) == passes


def test_options_cannot_be_changed_behind_a_block():
    options = BlockOptions()
    with pytest.raises(AttributeError):
        options.width = 2
    assert replace(options, width=2) != options


# --- shortcuts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "in_channels, out_channels, stride, side",
    [(8, 8, 1, 7), (8, 16, 1, 7), (8, 16, 2, 7), (16, 8, 2, 8), (8, 8, 2, 1)],
)
@pytest.mark.parametrize("kind", ["A", "B", "C", "conv", "D"])
def test_a_shortcut_has_the_shape_of_a_strided_convolution_and_weights_only_where_needed(
    kind, in_channels, out_channels, stride, side
):
    shortcut = make_shortcut(kind, in_channels, out_channels, stride)
    bare = make_shortcut(kind, in_channels, out_channels, stride, norm=False)

    smaller = -(-side // stride)
    y = shortcut(torch.rand(2, in_channels, side, side))
    assert y.shape == (2, out_channels, smaller, smaller)

    keeps_shape = stride == 1 and in_channels == out_channels
    weights = {"A": 0, "B": 1, "C": 1, "conv": 9, "D": 1}[kind]  # for each pair of channels
    if keeps_shape and kind != "C":
        weights = 0
    assert parameters(bare) == in_channels * out_channels * weights

    of_norm = parameters(shortcut) - parameters(bare)
    assert of_norm == (2 * out_channels if weights else 0)


def test_shortcut_a_keeps_every_second_pixel_and_pads_or_drops_channels():
    x = torch.arange(2.0 * 3 * 4 * 4).view(2, 3, 4, 4)
    wide, narrow = make_shortcut("A", 3, 5, 2)(x), make_shortcut("A", 3, 2, 2)(x)

    assert wide.shape[1] == 5
    assert torch.equal(wide[:, :3], x[:, :, ::2, ::2])
    assert wide[:, 3:].abs().sum() == 0
    assert torch.equal(narrow, x[:, :2, ::2, ::2])


@pytest.mark.parametrize("kind, share", [("B", 1 / 4), ("D", 1), ("conv", 1)])
def test_shortcut_d_sees_every_pixel_and_b_a_quarter_of_them(kind, share):
    x = torch.rand(1, 4, 8, 8, requires_grad=True)
    make_shortcut(kind, 4, 8, 2, norm=False)(x).square().sum().backward()
    assert (x.grad[0, 0] != 0).float().mean() == share


# --- the summary ----------------------------------------------------------------------------------


def test_the_summary_has_a_row_for_each_layer_and_leaves_the_model_as_it_was():
    model = create_model("resnet20", 10, in_channels=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    table = summary(model, 32)
    rows = {layer.name: layer for layer in table.layers}
    assert list(rows) == ["conv1", "bn1", "layer1", "layer2", "layer3", "avgpool", "fc"]

    assert rows["conv1"].shape == (16, 32, 32)
    assert rows["conv1"].multiply_adds == 9 * 16 * 32 * 32
    assert rows["layer3"].shape == (64, 8, 8)
    assert rows["fc"].kind == "Linear" and rows["fc"].parameters == 650

    assert table.parameters == parameters(model)
    assert sum(layer.parameters for layer in table.layers) == table.parameters
    assert sum(layer.multiply_adds for layer in table.layers) == table.multiply_adds

    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("depth, rows", [(2, 2 + 9 + 2), (9, 2 * (1 + 18 + 2) + 2)])
def test_the_summary_looks_as_deep_as_it_is_told(depth, rows):
    """Stem, nine blocks, pooling and head; or 21 convolutions and norms, pooling and head."""
    table = summary(on_paper("resnet20"), 32, depth)
    assert len(table.layers) == rows
    assert sum(layer.multiply_adds for layer in table.layers) == table.multiply_adds


@pytest.mark.parametrize(
    "name",
    ["session_resnet", "preact_resnet50", "se_resnet18", "lambda_resnet18", "lambda_resnet50"],
)
def test_the_rows_of_a_summary_add_up(name):
    model = on_paper(name)
    for depth in (1, 3, 9):
        table = summary(model, 64, depth)
        assert table.parameters == parameters(model)
        assert sum(layer.parameters for layer in table.layers) == table.parameters
        assert sum(layer.multiply_adds for layer in table.layers) == table.multiply_adds

        kinds = {layer.kind for layer in table.layers}
        assert ("LambdaLayer" in kinds) == (name.startswith("lambda") and depth > 2)


def test_the_summary_gives_every_part_its_mode_back():
    model = create_model("resnet20", 10)
    model.layer1.eval()
    summary(model, 32)

    assert model.training and model.layer2.training
    assert not any(part.training for part in model.layer1.modules())


def test_the_summary_leaves_no_hook_behind_an_error():
    model = create_model("resnet20", 10)
    model.fc = nn.Linear(3, 10)
    with pytest.raises(RuntimeError):
        summary(model, 32)
    assert model.training and not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"size": 32, "depth": 0}, "depth is 0: expected a whole number"),
        ({"size": 32, "depth": -1}, "depth is -1: expected a whole number"),
        ({"size": 0}, "size is 0: expected a whole number"),
        ({"size": (32, 32)}, r"size is \(32, 32\): expected a whole number"),
    ],
)
def test_a_summary_of_nothing_is_refused_in_words(sizes, message):
    with pytest.raises(ValueError, match=message):
        summary(on_paper("resnet20"), **sizes)


def test_a_network_without_weights_has_no_summary():
    with pytest.raises(ValueError, match="MaxPool2d has no convolution and no linear layer"):
        summary(nn.MaxPool2d(2), 32)


def test_the_summary_finds_the_channels_of_a_grouped_convolution():
    table = summary(nn.Conv2d(6, 6, 3, groups=3, bias=False), 8)
    assert table.parameters == 6 * 2 * 9 and table.multiply_adds == 6 * 2 * 9 * 6 * 6


def test_the_summary_prints_a_table_with_the_totals():
    text = str(summary(on_paper("resnet50", 1000), 224)).splitlines()
    assert text[0].split() == ["layer", "kind", "output", "params", "MACs"]
    assert text[1].split() == ["conv1", "Conv2d", "64×112×112", "9,408", "118.0M"]
    assert text[-1].split() == ["sum", "25,557,032", "4,089.2M"]
    assert len({len(line) for line in text}) == 1


def test_the_summary_of_every_layer_fits_into_a_narrow_window():
    text = str(summary(on_paper("session_resnet", stem="strided"), 64, depth=9)).splitlines()
    assert max(map(len, text)) <= 60


# --- without shortcuts ----------------------------------------------------------------------------


def test_a_plain_network_is_its_resnet_without_the_sums():
    """Layer behind layer (He et al. 2015, §3.3): the same weights, and nothing added to them."""
    plain = create_model("resnet20", 10, shortcut="none").eval()
    x = torch.randn(2, 3, 32, 32)

    y = plain.relu(plain.bn1(plain.conv1(x)))
    for stage in (plain.layer1, plain.layer2, plain.layer3):
        for block in stage:
            y = torch.relu(block.bn1(block.conv1(y)))
            y = torch.relu(block.bn2(block.conv2(y)))

    assert torch.equal(plain(x), plain.fc(y.mean((2, 3))))


def test_a_plain_network_cannot_start_as_the_identity():
    with pytest.raises(ValueError, match="without a shortcut"):
        create_model("resnet20", 10, shortcut="none", zero_init_residual=True)
