"""Networks by name: sizes from the literature, torchvision's outputs, and the interface they share."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from course_lib.models import create_model, list_models, whiten_stem
from course_lib.models.blocks import BasicBlock, Bottleneck

# Every shape of network that a session trains, at 32 pixels.
TRAINED = [
    ("session_resnet", {}),
    ("session_resnet", {"stem": "strided"}),
    ("session_resnet", {"stem": "strided", "logit_scale": 0.125}),
    ("session_resnet", {"stem": "strided", "block": "basic"}),
    ("session_resnet", {"stem": "strided", "block": "basic", "zero_init_residual": True}),
    ("session_resnet", {"stem": "strided", "residual_in": ()}),
    ("session_resnet", {"stem": "strided", "residual_in": (1, 2, 3)}),
    ("resnet18", {}),
    ("resnet18", {"zero_init_residual": True}),
    ("resnet18_small", {}),
    ("resnet50", {}),
]


def show(value):
    return "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


each_network = pytest.mark.parametrize("name, options", TRAINED, ids=show)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def on_paper(name, num_classes, **options):
    """The network without memory for its weights: quick at any size."""
    with torch.device("meta"):
        return create_model(name, num_classes, **options)


def build(name, num_classes=10, **options):
    torch.manual_seed(0)
    return create_model(name, num_classes, **options)


def pictures(count=4, size=32, channels=3):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, num_classes, count", [
    ("session_resnet", 10, 6_573_120), ("session_resnet", 200, 6_670_400),
    ("resnet18_small", 10, 11_173_962), ("resnet18_small", 200, 11_271_432),
    ("resnet18", 10, 11_181_642), ("resnet18", 1000, 11_689_512), ("resnet50", 1000, 25_557_032),
])
def test_networks_have_the_published_number_of_parameters(name, num_classes, count):
    assert parameters(on_paper(name, num_classes)) == count


def test_a_stride_costs_no_parameter():
    assert parameters(on_paper("session_resnet", 10, stem="strided")) == 6_573_120
    assert on_paper("session_resnet", 10).stem[0].weight.numel() == 1_728


@pytest.mark.parametrize("name", [name for name in list_models() if name.endswith("_small")])
def test_the_small_stem_differs_by_one_3x3_for_one_7x7(name):
    difference = parameters(on_paper(name.removesuffix("_small"), 10)) - parameters(on_paper(name, 10))
    assert difference == (7 * 7 - 3 * 3) * 3 * 64


def test_resnet200_is_resnet152_with_sixteen_more_blocks_in_its_second_stage():
    block = 512 * 128 + 9 * 128 * 128 + 128 * 512 + 2 * (128 + 128 + 512)
    assert parameters(on_paper("resnet200", 1000)) - parameters(on_paper("resnet152", 1000)) == 16 * block


# --- torchvision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_state_dicts_agree_with_torchvision_key_for_key_and_shape_for_shape(name):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)().state_dict()
    ours = on_paper(name, 1000).state_dict()
    assert list(ours) == list(theirs)
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_with_torchvisions_weights_the_outputs_are_torchvisions(name):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=10).eval()
    for module in theirs.modules():  # a fresh norm's statistics are 0 and 1, and would hide a mix-up
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    ours = build(name).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures(2, 64)), theirs(pictures(2, 64)))


def test_gradients_are_torchvisions_too():
    torch.manual_seed(0)
    theirs, ours = torchvision.models.resnet18(num_classes=10), build("resnet18")
    ours.load_state_dict(theirs.state_dict())
    for model in (ours, theirs):
        F.cross_entropy(model(pictures(4, 64)), torch.arange(4)).backward()
    for ours_p, theirs_p in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours_p.grad, theirs_p.grad, rtol=1e-3, atol=1e-5)


# --- names and options ----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong, meant", [("resnet18_smal", "resnet18_small"), ("sesion_resnet", "session_resnet"),
                                          ("ResNet50", "resnet50"), ("resnet19", "resnet18")])
def test_an_unknown_name_is_answered_with_the_nearest(wrong, meant):
    with pytest.raises(ValueError, match=f"unknown model '{wrong}'.*nearest.*{meant}"):
        create_model(wrong)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(ValueError) as caught:
        create_model("#")
    assert all(name in str(caught.value) for name in list_models())


@pytest.mark.parametrize("name, option, expected", [
    ("resnet18", {"steam": "small"}, "resnet18.*steam"), ("session_resnet", {"depth": 18}, "session_resnet.*depth"),
    ("resnet18", {"stem": "tiny"}, "stem 'tiny'.*imagenet, small"),
    ("session_resnet", {"stem": "imagenet"}, "stem 'imagenet'.*small, strided"),
    ("session_resnet", {"block": "bottleneck"}, "block 'bottleneck'.*pair, basic"),
    ("session_resnet", {"zero_init_residual": True}, "zero_init_residual needs block='basic'"),
])
def test_an_option_that_cannot_be_is_named_with_what_can(name, option, expected):
    with pytest.raises(ValueError, match=expected):
        create_model(name, 10, **option)


# --- every network --------------------------------------------------------------------------------


@each_network
def test_every_network_gives_logits_and_a_gradient_to_every_weight(name, options):
    model = build(name, **options)
    logits = model(pictures())
    assert logits.shape == (4, 10) and logits.dtype == torch.float32
    F.cross_entropy(logits, torch.arange(4)).backward()
    for weight, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), weight


@each_network
def test_every_network_learns_one_batch_in_a_few_steps(name, options):
    model, x, labels = build(name, **options).train(), pictures(8), torch.arange(8) % 3
    lr = 0.005 if name == "resnet50" else 0.02  # without a warm-up, fifty layers bear less
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@each_network
def test_features_are_the_last_stages_output_and_fit_the_head(name, options):
    model, seen, x = build(name, **options).eval(), [], pictures(2, 64)
    hooks = [stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
             for stage in model.stages.values()]
    with torch.inference_mode():
        maps = model.features(x)
        for hook in hooks:
            hook.remove()
        pool = F.adaptive_max_pool2d if name == "session_resnet" else F.adaptive_avg_pool2d
        logits = model.head(pool(maps, 1).flatten(1)) * options.get("logit_scale", 1)
        torch.testing.assert_close(model(x), logits)
    assert torch.equal(maps, seen[-1]) and maps.shape[:2] == (2, model.head.in_features)
    sides = [output.shape[-1] for output in seen]
    assert len(sides) == len(model.stages) and sides == sorted(sides, reverse=True)


@each_network
def test_a_replaced_head_has_its_classes_and_leaves_every_other_weight(name, options):
    model = build(name, **options).eval().double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    biased = model.head.bias is not None
    model.replace_head(7)
    assert model.head.out_features == 7 and (model.head.bias is not None) == biased
    with torch.inference_mode():
        assert model(pictures(2).double()).shape == (2, 7)
    for key, value in model.state_dict().items():
        assert key.startswith(f"{model.head_name}.") or torch.equal(value, before[key])


@each_network
def test_weights_travel_through_a_state_dict(name, options):
    model, other = build(name, **options).eval(), create_model(name, 10, **options).eval()
    with torch.inference_mode():
        assert not torch.equal(model(pictures(2)), other(pictures(2)))
        other.load_state_dict(model.state_dict())
        assert torch.equal(model(pictures(2)), other(pictures(2)))


@each_network
def test_channels_last_gives_the_same_logits_and_stays_channels_last(name, options):
    model = build(name, **options).eval()
    with torch.inference_mode():
        expected = model(pictures(2, 64))
        model = model.to(memory_format=torch.channels_last)
        x = pictures(2, 64).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
        assert model.features(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["session_resnet", "resnet18", "resnet18_small"])
def test_grey_pictures_need_one_input_channel_and_fewer_weights(name):
    colour, grey = build(name), build(name, in_channels=1)
    first = next(colour.parameters())
    assert parameters(colour) - parameters(grey) == first.numel() * 2 // 3
    assert grey.eval()(pictures(2, channels=1)).shape == (2, 10)


# --- the session ResNet and residual blocks -------------------------------------------------------


@pytest.mark.parametrize("stem, shrink", [("small", 8), ("strided", 16)])
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (40, 40), (48, 64), (100, 20)])
def test_the_session_resnet_takes_any_picture_from_sixteen_pixels_on(stem, shrink, size):
    model = build("session_resnet", stem=stem).eval()
    x = torch.randn(1, 3, *size)
    with torch.inference_mode():
        assert model(x).shape == (1, 10)
        height, width = model.features(x).shape[2:]
    if size[0] % shrink == size[1] % shrink == 0:
        assert (height, width) == (size[0] // shrink, size[1] // shrink)


def test_the_logit_scale_is_a_factor_on_the_logits():
    one, eighth = build("session_resnet").eval(), build("session_resnet", logit_scale=0.125).eval()
    with torch.inference_mode():
        torch.testing.assert_close(eighth(pictures(2)), one(pictures(2)) / 8)


@pytest.mark.parametrize("name, options, blocks", [
    ("resnet18", {}, 5), ("resnet50", {}, 12), ("session_resnet", {"block": "basic", "residual_in": (1, 2, 3)}, 3)])
@pytest.mark.parametrize("train", [True, False])
def test_with_zero_init_residual_every_block_starts_as_the_identity(name, options, blocks, train):
    model = build(name, zero_init_residual=True, **options).train(train)
    plain = [module for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)
             and module.downsample is None]
    assert len(plain) == blocks
    for block in plain:
        x = torch.rand(2, block.conv1.in_channels, 4, 4)  # positive, as behind a ReLU
        assert torch.equal(block(x), x)


def test_without_it_no_block_does():
    x = torch.rand(2, 64, 4, 4)
    assert not torch.allclose(build("resnet18").layer1[0](x), x)


@pytest.mark.parametrize("block, out_channels", [(BasicBlock, 32), (Bottleneck, 128)])
def test_the_way_around_a_block_is_a_projection_only_where_the_shape_changes(block, out_channels):
    assert block(out_channels, 32).downsample is None
    for arguments in ((16, 32), (out_channels, 32, 2)):
        shortcut = block(*arguments).downsample
        assert [type(layer) for layer in shortcut] == [nn.Conv2d, nn.BatchNorm2d]
        side = 8 // (arguments[2] if len(arguments) == 3 else 1)
        assert block(*arguments)(torch.rand(2, arguments[0], 8, 8)).shape == (2, out_channels, side, side)


# --- the whitening stem ---------------------------------------------------------------------------


@pytest.mark.parametrize("name, options, count", [("session_resnet", {"stem": "strided"}, 54), ("resnet18", {}, 64)])
def test_whitening_filters_answer_with_equal_variance_and_no_correlation(name, options, count):
    """3×3×3 patches have 27 directions, each set with both signs; 7×7×3 have more than there are filters."""
    model, x = build(name, **options), F.avg_pool2d(pictures(64, 66), 3, 1)  # smooth, as pictures are
    conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    before = conv.weight.detach().clone()
    assert whiten_stem(model, x, floor=0.0) == count
    filters = conv.weight.detach()
    assert torch.equal(filters[count // 2:count], -filters[:count // 2])
    assert torch.equal(filters[count:], before[count:])
    with torch.inference_mode():
        answers = F.conv2d(x, filters[:count // 2], stride=4).transpose(0, 1).flatten(1)  # (filters, places)
    np.testing.assert_allclose(np.cov(answers.double().numpy()), np.eye(count // 2), atol=0.02)


def test_a_whitened_stem_goes_on_learning():
    model = build("session_resnet", stem="strided")
    whiten_stem(model, pictures(16))
    F.cross_entropy(model(pictures()), torch.arange(4)).backward()
    assert model.stem[0].weight.requires_grad and model.stem[0].weight.grad.abs().sum() > 0


def test_the_floor_keeps_directions_that_hardly_occur_from_being_blown_up():
    model, flat = build("session_resnet"), torch.rand(16, 3, 1, 1).expand(16, 3, 32, 32)  # plain pictures: rank 3
    whiten_stem(model, flat + 1e-4 * pictures(16))
    assert model.stem[0].weight.flatten(1).norm(dim=1).max() <= 0.05**-0.5 * 1.01
