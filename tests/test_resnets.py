"""ResNets against torchvision, timm, torch-resnet and the papers: sizes, outputs, shortcuts, what is dropped."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torch_resnet
import torchvision
from torch import nn

from course_lib.models import create_model, list_models, model_options, summary
from course_lib.models.blocks import BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck
from course_lib.models.layers import shortcut

pytestmark = pytest.mark.usefixtures("one_thread")
SHORTCUTS = {
    "A": torch_resnet.IdentityShortcut,
    "B": torch_resnet.ProjectionShortcut,
    "C": torch_resnet.FullProjectionShortcut,
    "conv": torch_resnet.ConvolutionShortcut,
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def on_paper(name, num_classes=10, **options):
    """The network without memory for its weights: quick at any size."""
    with torch.device("meta"):
        return create_model(name, num_classes, **options)


def lived_in(model):
    """Norms as after a training: fresh ones, of scale 1 and shift 0, would hide a mix-up."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in (
                (module.weight, 0.5, 1),
                (module.bias, -0.1, 0.1),
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.8, 1.2),
            ):
                nn.init.uniform_(value, low, high)
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


def torch_resnet_of(name, options):
    kind, depth = name.removesuffix("_small").split("resnet")
    title = {
        "": "ResNet",
        "preact_": "PreActResNet",
        "wide_": "WideResNet",
        "preact_wide_": "PreActWideResNet",
    }[kind]
    options = {**options, "shortcut": SHORTCUTS[options.get("shortcut", "B")]}
    if name.endswith("_small"):
        options["small_images"] = True
    model = getattr(torch_resnet, title + depth)(**options)
    model.set_head(nn.Linear(model.out_planes, 10))
    return model


OF_TORCH_RESNET = [
    name for name in list_models() if not name.startswith(("se_", "session", "lambda"))
]
SHALLOW = [
    kind + name
    for name in ("resnet18", "resnet50", "resnet20", "wide_resnet16")
    for kind in ("", "preact_")
]


def assert_counts_agree(name, **options):
    with torch.device("meta"):
        assert parameters(on_paper(name, **options)) == parameters(torch_resnet_of(name, options))


@pytest.mark.parametrize("name", OF_TORCH_RESNET)
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


@pytest.mark.parametrize(
    "name, millions",
    [
        ("resnet1001", 10.3),
        ("resnet1202", 19.4),
        ("preact_resnet1001", 10.3),
        ("preact_resnet1202", 19.4),
    ],
)
def test_a_thousand_layers_have_the_size_of_torch_resnets_table(name, millions):
    assert round(parameters(on_paper(name)) / 1e6, 1) == millions


@pytest.mark.parametrize("name", ["resnet18", "preact_resnet50", "resnet20", "wide_resnet16"])
def test_for_grey_and_for_small_pictures_too(name):
    small = {"stem": "small"} if model_options(name)["stem"] == "imagenet" else {}
    with torch.device("meta"):
        theirs = torch_resnet_of(
            name, {"in_planes": 1, "width": 1, **({"small_images": True} if small else {})}
        )
        assert parameters(on_paper(name, in_channels=1, width=1, **small)) == parameters(theirs)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_the_summary_counts_torchvisions_parameters_and_operations(depth):
    published = torchvision.models.get_model_weights(f"resnet{depth}").DEFAULT.meta
    ours = summary(on_paper(f"resnet{depth}", 1000), 224)
    assert ours.parameters == published["num_params"]
    assert (
        round(ours.multiply_adds / 1e9, 3) == published["_ops"]
    )  # 1.814 for resnet18, 4.089 for resnet50


# --- torchvision and timm -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options, theirs",
    [
        *(
            (name, {}, getattr(torchvision.models, name))
            for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
        ),
        ("resnet50", {"width": 2}, torchvision.models.wide_resnet50_2),
        (
            "resnet18",
            {"shortcut": "D"},
            lambda: timm.models.resnet.ResNet(
                timm.models.resnet.BasicBlock, (2, 2, 2, 2), avg_down=True
            ),
        ),
        ("se_resnet50", {}, timm.models.resnet.seresnet50),
    ],
)
def test_state_dicts_agree_with_torchvision_and_timm(name, options, theirs):
    with torch.device("meta"):
        theirs = theirs().state_dict()
    ours = on_paper(name, 1000, **options).state_dict()
    assert list(ours) == list(theirs)
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]


def test_se_resnet18_has_the_size_of_timms():
    with torch.device("meta"):
        assert parameters(on_paper("se_resnet18", 1000)) == parameters(
            timm.models.senet.legacy_seresnet18()
        )


@pytest.mark.parametrize(
    "name, options, make",
    [
        *(
            (name, {}, getattr(torchvision.models, name))
            for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
        ),
        (
            "resnet18",
            {"shortcut": "D"},
            lambda num_classes: timm.models.resnet.ResNet(
                timm.models.resnet.BasicBlock, (2, 2, 2, 2), num_classes, avg_down=True
            ),
        ),
        ("se_resnet50", {}, timm.models.resnet.seresnet50),
    ],
)
def test_with_their_weights_the_outputs_are_theirs(name, options, make):
    torch.manual_seed(0)
    theirs, ours = lived_in(make(num_classes=10)), on_paper(name, **options).eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)
    with torch.inference_mode():
        x = pictures(size=72)  # maps of 18, 9, 5 and 3 pixels: odd ones too
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_gradients_are_torchvisions_too():
    torch.manual_seed(0)
    theirs, ours = torchvision.models.resnet18(num_classes=10), create_model("resnet18", 10)
    ours.load_state_dict(theirs.state_dict())
    for model in (ours, theirs):
        F.cross_entropy(model(pictures(4, 64)), torch.arange(4)).backward()
    for ours_p, theirs_p in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours_p.grad, theirs_p.grad, rtol=1e-3, atol=1e-5)


# --- torch-resnet ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize(
    "name, width", [("resnet18", 1), ("resnet20", 1), ("resnet164", 2), ("wide_resnet16", 3)]
)
@pytest.mark.parametrize("prefix", ["", "preact_"])
def test_with_torch_resnets_weights_the_outputs_are_its_own(prefix, name, width, kind):
    torch.manual_seed(0)
    options = {"shortcut": kind, "width": width}
    theirs, ours = (
        lived_in(torch_resnet_of(prefix + name, options)),
        on_paper(prefix + name, **options).eval(),
    )
    if prefix:
        activate_before_the_first_split(theirs)
    state = zip(
        ours.state_dict(), theirs.state_dict().values(), strict=True
    )  # the layers come in the same order
    ours.load_state_dict(dict(state), assign=True)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures()), theirs(pictures()), rtol=1e-4, atol=1e-5)


def activate_before_the_first_split(model):
    """As in the paper (He et al. 2016, appendix); torch-resnet has it only where the first shortcut holds weights."""
    first = model.layers[0][0]
    if not first.shortcut.requires_activation:
        first.shortcut = nn.Sequential(
            first.shortcut
        )  # hides the flag by which the block hands it its raw input
        first.shortcut.requires_activation = True


# --- shortcuts and blocks -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["A", "B", "C", "conv", "D"])
def test_a_shortcut_has_the_shape_of_a_strided_convolution_and_weights_only_where_needed(kind):
    for inside, outside, stride, side in (
        (8, 8, 1, 7),
        (8, 16, 1, 7),
        (8, 16, 2, 7),
        (16, 8, 2, 8),
        (8, 8, 2, 1),
    ):
        way = shortcut(kind, inside, outside, stride)
        assert way(torch.rand(2, inside, side, side)).shape == (
            2,
            outside,
            -(-side // stride),
            -(-side // stride),
        )
        same = (inside, stride) == (outside, 1)
        bare = shortcut(kind, inside, outside, stride, norm=False)
        same = (inside, stride) == (outside, 1)
        kernel = (
            0 if kind == "A" or (same and kind != "C") else 9 if kind == "conv" else 1
        )  # weights a channel pair
        assert parameters(bare) == inside * outside * kernel
        assert parameters(way) - parameters(bare) == 2 * outside * (kernel > 0)


def test_shortcut_a_keeps_every_second_pixel_and_pads_or_drops_channels():
    x = torch.arange(2.0 * 3 * 4 * 4).view(2, 3, 4, 4)
    wide, narrow = shortcut("A", 3, 5, 2)(x), shortcut("A", 3, 2, 2)(x)
    assert (
        torch.equal(wide[:, :3], x[:, :, ::2, ::2])
        and wide[:, 3:].abs().sum() == 0
        and wide.shape[1] == 5
    )
    assert torch.equal(narrow, x[:, :2, ::2, ::2])


def test_shortcut_d_sees_every_pixel_and_b_a_quarter_of_them():
    for kind, share in (("B", 1 / 4), ("D", 1), ("conv", 1)):
        x = torch.rand(1, 4, 8, 8, requires_grad=True)
        shortcut(kind, 4, 8, 2, norm=False)(x).square().sum().backward()
        assert (x.grad[0, 0] != 0).float().mean() == share


BLOCKS = [BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck]


def plain_block(block, **options):
    """One whose shape stays: 32 channels in and out, in training mode."""
    torch.manual_seed(0)
    channels = 32 // (block.expansion or 1)
    return block(32, channels, **options).train()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_that_starts_as_the_identity_passes_on_its_input_and_learns(block):
    unit, x = plain_block(block, se=True), torch.rand(2, 32, 4, 4)  # positive, as behind a ReLU
    assert not torch.allclose(unit(x), x)
    unit.start_as_identity()
    assert torch.equal(unit(x), x)
    unit(x).square().sum().backward()
    assert getattr(unit, unit.last).weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "name, blocks",
    [("resnet18", 5), ("resnet50", 12), ("preact_resnet18", 5), ("preact_resnet50", 12)],
)
def test_with_zero_init_residual_every_block_whose_shape_stays_starts_as_the_identity(name, blocks):
    model = create_model(name, 10, zero_init_residual=True)
    plain = [
        module
        for module in model.modules()
        if isinstance(getattr(module, "downsample", None), nn.Identity)
    ]
    assert len(plain) == blocks
    for block in plain:
        x = torch.rand(2, block.conv1.in_channels, 4, 4)
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("block", BLOCKS)
def test_dropout_falls_on_the_input_of_the_last_convolution_and_only_in_training(block):
    unit, x, seen = plain_block(block, drop_rate=0.5), torch.randn(8, 32, 8, 8), []
    last = getattr(unit, unit.last.replace("bn", "conv"))
    last.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
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


@pytest.mark.parametrize("block", BLOCKS)
def test_drop_path_lets_whole_pictures_around_the_branch_in_training(block):
    unit, x = plain_block(block, drop_path=0.25), torch.rand(400, 32, 2, 2)
    around = (unit(x) == x).flatten(1).all(1)
    assert abs(around.float().mean() - 0.25) < 0.07
    assert not (unit.eval()(x) == x).flatten(1).all(1).any()


def test_drop_path_grows_in_proportion_to_the_depth():
    """Huang et al. 2016, equation 4: block l of L is dropped with probability p l / L."""
    model = on_paper("preact_resnet20", drop_path=0.5)
    rates = [
        block.drop_path.p for stage in (model.layer1, model.layer2, model.layer3) for block in stage
    ]
    assert rates == pytest.approx([0.5 * number / 9 for number in range(1, 10)])


def test_squeeze_and_excitation_scales_channels_between_nothing_and_all():
    unit, x, seen = plain_block(BasicBlock, se=True), torch.rand(2, 32, 4, 4), []
    unit.se.register_forward_hook(lambda module, inputs, output: seen.append(output / inputs[0]))
    unit(x)
    scale = seen[0].flatten(2)
    torch.testing.assert_close(
        scale, scale[:, :, :1].expand_as(scale), rtol=1e-3, atol=1e-4
    )  # one for the map
    assert 0 < scale.min() < scale.max() < 1


def test_a_pre_activation_block_starts_its_projection_from_the_activated_input():
    """He et al. 2016: under a dead activation nothing passes a projection, while the identity passes all."""
    for unit, passes in ((PreActBasicBlock(32, 32), True), (PreActBasicBlock(32, 32, 2), False)):
        nn.init.constant_(unit.bn1.bias, -100.0)
        x = torch.randn(4, 32, 4, 4)
        out = unit(x)
        assert (out.abs().sum() > 0) == passes


# --- the summary ----------------------------------------------------------------------------------


def test_the_summary_has_a_row_for_each_layer_and_leaves_the_model_as_it_was():
    model = create_model("resnet20", 10, in_channels=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    table = summary(model, 32)
    rows = {layer.name: layer for layer in table.layers}
    assert list(rows) == ["conv1", "bn1", "layer1", "layer2", "layer3", "avgpool", "fc"]
    assert rows["conv1"].multiply_adds == 9 * 16 * 32 * 32 and rows["conv1"].shape == (16, 32, 32)
    assert (
        rows["layer3"].shape == (64, 8, 8)
        and rows["fc"].parameters == 650
        and rows["fc"].kind == "Linear"
    )
    assert sum(layer.parameters for layer in table.layers) == table.parameters == parameters(model)
    assert sum(layer.multiply_adds for layer in table.layers) == table.multiply_adds
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("depth, rows", [(2, 2 + 9 + 2), (9, 2 * (1 + 18 + 2) + 2)])
def test_the_summary_looks_as_deep_as_it_is_told(depth, rows):
    """Stem, nine blocks, pooling and head; or 19 convolutions and 2 projections with their norms, pooling and head."""
    table = summary(on_paper("resnet20"), 32, depth)
    assert len(table.layers) == rows
    assert sum(layer.multiply_adds for layer in table.layers) == table.multiply_adds


@pytest.mark.parametrize("depth", [1, 2, 3, 9])
@pytest.mark.parametrize(
    "name",
    ["session_resnet", "preact_resnet50", "se_resnet18", "lambda_resnet18", "lambda_resnet50"],
)
def test_the_rows_of_a_summary_add_up(name, depth):
    table = summary(on_paper(name), 64, depth)
    assert (
        sum(layer.parameters for layer in table.layers)
        == table.parameters
        == parameters(on_paper(name))
    )
    assert sum(layer.multiply_adds for layer in table.layers) == table.multiply_adds
    assert ("LambdaLayer" in {layer.kind for layer in table.layers}) == (
        name.startswith("lambda") and depth > 2
    )


def test_the_summary_gives_every_part_its_mode_back():
    model = create_model("resnet20", 10)
    model.layer1.eval()
    summary(model, 32)
    assert (
        model.training
        and model.layer2.training
        and not any(part.training for part in model.layer1.modules())
    )


def test_the_summary_prints_a_table_with_the_totals():
    text = str(summary(on_paper("resnet50", 1000), 224)).splitlines()
    assert text[0].split()[:4] == ["layer", "kind", "output", "parameters"]
    assert text[-1].split() == ["sum", "25,557,032", "4,089.2"]
    assert len({len(line) for line in text}) == 1
