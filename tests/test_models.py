"""Networks by name: what they share, their errors; the session ResNet and the whitening stem.

By default a small network of each family and a deep one; ``pytest -m slow tests/test_models.py``
tries every name with every option.
"""

import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.feature_extraction import create_feature_extractor

from course_lib.models import (
    LambdaLayer,
    LambdaResNet,
    ResNet,
    SessionResNet,
    create_model,
    list_models,
    model_options,
    summary,
    whiten_stem,
)
from course_lib.models.blocks import BasicBlock, Bottleneck
from course_lib.models.session_resnet import ResidualPair, conv_norm_relu
from course_lib.models.trimmed_conv import TrimmedConv3x3
from course_lib.models.variants import PreActBasicBlock, PreActBottleneck

NAMES = list_models()
DEFAULT = [  # one of each family
    "session_resnet",
    "resnet18",
    "resnet50",
    "resnet20",
    "wide_resnet16",
    "preact_resnet20",
    "se_resnet18",
    "lambda_resnet18",
]
DEEP = ["resnet101", "resnet110", "lambda_resnet101"]

SESSION = [
    {"stem": "strided", "logit_scale": 0.125},
    {"stem": "strided", "block": "basic", "zero_init_residual": True},
    {"block": "basic"},
    {"residual_in": ()},
    {"residual_in": (1, 2, 3)},
    {"in_channels": 1},
]
OF_FORMS = {
    "session_resnet_se": [
        {"stem": "strided", "logit_scale": 0.125},
        {"in_channels": 1},
    ],
    "session_resnet_lambda": [
        {"stem": "strided", "logit_scale": 0.125},
        {"lambda_stages": (1, 3)},
        {"softmax_over": "keys"},
        {"in_channels": 1},
    ],
    "session_resnet_unnormed": [
        {"stem": "strided", "logit_scale": 0.125},
        {"in_channels": 1},
    ],
}
OPTIONS = [  # what every ResNet takes
    {"shortcut": "A"},
    {"shortcut": "C"},
    {"shortcut": "conv"},
    {"shortcut": "D"},
    {"shortcut": "none"},
    {"width": 2},
    {"drop_rate": 0.3},
    {"drop_path": 0.3},
    {"se": True},
    {"zero_init_residual": True},
    {"in_channels": 1},
    {"stem": "imagenet"},
    {"stem": "small"},
    {
        "shortcut": "D",
        "width": 2,
        "drop_rate": 0.1,
        "drop_path": 0.1,
        "se": True,
        "zero_init_residual": True,
    },
]
OF_LAMBDA = [
    {"lambda_stages": ("c5",)},
    {"lambda_stages": ()},
    {"dim_k": 8, "heads": 2, "dim_u": 2, "r": 5},
    {"r": None, "size": (32, 32)},
]


def show(value):
    return "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None


def build(name, num_classes=10, **options):
    torch.manual_seed(0)
    return create_model(name, num_classes, **options)


def pictures(count=4, size=32, channels=3):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def smallest(name, **options):
    """Pixels of a picture just large enough for three or four halvings."""
    if name.startswith("session_resnet"):
        return 16
    stem = {**model_options(name), **options}["stem"]
    return {"imagenet": 32, "small": 8}[stem]


# --- names and options ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong, meant",
    [
        ("resnet18_smal", "resnet18_small"),
        ("sesion_resnet", "session_resnet"),
        ("ResNet50", "resnet50"),
        ("resnet19", "resnet18"),
        ("preact_resnet51", "preact_resnet50"),
        ("senet_18", "se_resnet18"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong, meant):
    with pytest.raises(ValueError, match=f"unknown model '{wrong}'.*nearest.*{meant}"):
        create_model(wrong)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(ValueError) as caught:
        create_model("#")
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize(
    "name, option, expected",
    [
        ("resnet18", {"steam": "small"}, "no option 'steam'; it has .*stem, width, shortcut"),
        ("session_resnet", {"width": 2}, "no option 'width'; it has .*logit_scale"),
        ("resnet50", {"block": "basic"}, "resnet50 has no option 'block'"),
        ("preact_resnet20", {"shortcut": "E"}, "shortcut 'E'.*A, B, C, conv, D"),
        ("wide_resnet28", {"width": 1.5}, "width is 1.5: expected a whole number"),
        ("wide_resnet28", {"width": 0}, "width is 0"),
        ("resnet18", {"in_channels": 0}, "in_channels is 0: expected a whole number"),
        ("session_resnet", {"in_channels": 0}, "in_channels is 0: expected a whole number"),
        ("lambda_resnet18", {"in_channels": -3}, "in_channels is -3: expected a whole number"),
        ("resnet20", {"drop_rate": 1.5}, "drop_rate is 1.5: expected a probability"),
        ("resnet20", {"drop_path": -0.1}, "drop_path is -0.1: expected a probability"),
        ("resnet18", {"stem": "tiny"}, "stem 'tiny'.*imagenet, small"),
        ("session_resnet", {"stem": "imagenet"}, "stem 'imagenet'.*small, strided"),
        ("session_resnet", {"block": "bottleneck"}, "block 'bottleneck'.*pair, basic"),
        ("session_resnet", {"residual_in": (0,)}, r"residual_in is \(0,\): expected stages"),
        ("session_resnet", {"zero_init_residual": True}, "zero_init_residual needs block='basic'"),
        ("lambda_resnet50", {"zero_init_residual": False}, "lambda networks start as the identity"),
        ("lambda_resnet18", {"shortcut": "none"}, "without a shortcut no block can start"),
        ("resnet1001", {"zero_init_residual": False}, "333 blocks.*zero_init_residual=True"),
        ("preact_resnet1202", {"zero_init_residual": False}, "600 blocks.*zero_init_residual=True"),
    ],
)
def test_an_option_that_cannot_be_is_named_with_what_can(name, option, expected):
    with pytest.raises(ValueError, match=expected):
        create_model(name, 10, **option)


@pytest.mark.parametrize("name", ["resnet18", "session_resnet", "lambda_resnet18"])
def test_a_head_without_a_class_is_refused_and_the_pooled_features_are_named(name):
    with pytest.raises(ValueError, match=r"num_classes is 0: expected 1 or more; model.embed\(x\)"):
        create_model(name, 0)

    model = build(name)
    with pytest.raises(ValueError, match=r"num_classes is 0: .*model.embed\(x\)"):
        model.replace_head(0)
    for wrong in (-1, 2.5, "10"):
        with pytest.raises(ValueError, match=f"num_classes is {wrong!r}: expected a whole number"):
            create_model(name, wrong)
    for wrong in (-1, 2.5, "10", None):
        with pytest.raises(ValueError, match=f"num_classes is {wrong!r}: expected a whole number"):
            model.replace_head(wrong)

    assert model.head.out_features == 10, "a refusal leaves the old head"


def test_numpys_whole_numbers_are_whole_numbers():
    model = create_model("resnet20", np.int64(7), width=np.int64(1))
    model.replace_head(np.int32(3))
    assert model(pictures()).shape == (4, 3)


def test_the_options_of_a_name_are_listed_with_their_defaults():
    assert model_options("resnet18")["width"] == 1
    assert model_options("wide_resnet28")["width"] == 10
    assert model_options("resnet18_small")["stem"] == "small"
    assert model_options("session_resnet")["logit_scale"] == 1.0


def test_the_names_are_those_of_the_papers():
    """A name that is lost would shrink every test below without a word."""
    imagenet, cifar = (18, 34, 50, 101, 152, 200), (20, 32, 44, 56, 110, 164, 1001, 1202)
    plain = [f"resnet{depth}" for depth in (*imagenet, *cifar)]
    plain += [f"resnet{depth}_small" for depth in (18, 34, 50, 101)]
    plain += [f"wide_resnet{depth}" for depth in (16, 28, 40)]

    preact = [f"preact_{name}" for name in plain]
    lambdas = [f"lambda_resnet{depth}" for depth in (18, 26, 34, 50, 101, 152)]
    forms = [f"session_resnet_{form}" for form in ("lambda", "se", "unnormed")]
    others = ["se_resnet18", "se_resnet50", "session_resnet", *forms]
    assert NAMES == sorted([*plain, *preact, *lambdas, *others])


@pytest.mark.parametrize(
    "name, options",
    [
        ("resnet18", OPTIONS),
        ("session_resnet", SESSION),
        ("session_resnet_lambda", OF_FORMS["session_resnet_lambda"]),
        ("session_resnet_se", OF_FORMS["session_resnet_se"]),
        ("session_resnet_unnormed", OF_FORMS["session_resnet_unnormed"]),
        ("lambda_resnet18", OPTIONS + OF_LAMBDA),
    ],
)
def test_every_option_is_tried_below(name, options):
    assert set(model_options(name)) <= {option for each in options for option in each}


# --- every network --------------------------------------------------------------------------------


def live(make, channels=3, size=32):
    """What every network must do, on pictures of this size."""
    torch.manual_seed(0)
    model, x, labels = make(), pictures(4, size, channels), torch.tensor([0, 1, 2, 0])

    assert_finite_when_fresh(model, x)
    assert_learns(model, x, labels)
    assert_runs_in_bf16(model, x, labels)

    model.eval()
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (4, 10) and logits.dtype == torch.float32
        assert_features_are_the_last_stage(model, x)
        assert_the_head_is_given_the_pooled_features(model, x, logits)
        assert_torch_fx_takes_it(model, x, logits)
        assert model(x[:0]).shape == (0, 10), "an empty batch"
        assert_its_state_and_a_new_head_fit(model, make, x, logits)
        assert_runs_in_channels_last(model, x, logits)


@torch.no_grad()
def assert_finite_when_fresh(model, x):
    """In eval mode first, with the statistics that norms are made with."""
    for training in (False, True):
        model.train(training)
        assert model(x).isfinite().all()
        with torch.autocast("cpu", torch.bfloat16):
            assert model(x).isfinite().all()


def assert_learns(model, x, labels):
    """Fifty layers without a shortcut have first gradients that float32 cannot follow downhill."""
    precise = deepcopy(model).double()

    assert a_step_lowers_the_loss(model, x, labels) or a_step_lowers_the_loss(
        precise, x.double(), labels
    )
    model.zero_grad()


def a_step_lowers_the_loss(model, x, labels):
    """A step as far as the loss, were it straight, would fall by a hundredth."""
    rng = torch.get_rng_state()  # the same pictures and features are dropped before and after

    def loss():
        torch.set_rng_state(rng)
        return F.cross_entropy(model(x), labels)

    before = loss()
    before.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name

    slope = sum(p.grad.square().sum() for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.01 * before / slope * p.grad
        return loss() < before


def assert_runs_in_bf16(model, x, labels):
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(x), labels)
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad()


def assert_features_are_the_last_stage(model, x):
    seen = []

    def note(module, inputs, output):
        seen.append(output)

    hooks = [stage.register_forward_hook(note) for stage in model.stages.values()]
    maps = model.features(x)
    for hook in hooks:
        hook.remove()

    assert torch.equal(maps, seen[-1]) and maps.shape[1] == model.head.in_features
    sides = [output.shape[-1] for output in seen]
    assert len(sides) == len(model.stages) and sides == sorted(sides, reverse=True)


def assert_the_head_is_given_the_pooled_features(model, x, logits):
    maps, pooled = model.features(x), model.embed(x)
    is_session = isinstance(model, SessionResNet)
    expected = maps.amax((2, 3)) if is_session else maps.mean((2, 3))
    torch.testing.assert_close(pooled, expected)

    scale = model.logit_scale if is_session else 1
    assert torch.equal(model.head(pooled) * scale, logits)


def assert_torch_fx_takes_it(model, x, logits):
    assert torch.equal(symbolic_trace(model)(x), logits)

    last = list(model.stages)[-1]
    extract = create_feature_extractor(model, {last: "map"})
    assert torch.equal(extract(x)["map"], model.features(x))


def assert_its_state_and_a_new_head_fit(model, make, x, logits):
    with torch.device("meta"):
        copy = make().eval()
    copy.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(copy(x), logits)

    copy.replace_head(7)
    assert copy.head.out_features == 7 and copy(x).shape == (4, 7)

    old, new = model.state_dict(), copy.state_dict()
    body = [key for key in old if not key.startswith(copy.head_name)]
    assert len(body) == len(old) - len(list(model.head.parameters()))
    assert all(new[key].data_ptr() == old[key].data_ptr() for key in body)


def assert_runs_in_channels_last(model, x, logits):
    model.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)

    tolerance = 1e-3 * logits.abs().max().item()
    torch.testing.assert_close(model(x), logits, rtol=1e-3, atol=tolerance)
    assert model.features(x).is_contiguous(memory_format=torch.channels_last)


def depth(name):
    digits = "".join(filter(str.isdigit, name))
    return int(digits or 0)


def is_deep(name):
    return depth(name) > 100


def from_the_identity_on(name):
    """How deep networks start here.

    Else, in batches of a few pixels, their first gradients are too large for a small step to show.
    """
    return {"zero_init_residual": True} if is_deep(name) else {}


@pytest.mark.parametrize("name", DEFAULT)
def test_every_network_lives(name):
    live(lambda: create_model(name, 10), size=smallest(name))


TOO_DEEP_BUT_FOR_THE_IDENTITY = [
    "lambda_resnet34",
    "lambda_resnet50",
    "lambda_resnet101",
    pytest.param("lambda_resnet152", marks=pytest.mark.slow),
    "preact_resnet1001",
    pytest.param("resnet1001", marks=pytest.mark.slow),
    pytest.param("resnet1202", marks=pytest.mark.slow),
    pytest.param("preact_resnet1202", marks=pytest.mark.slow),
]
LAMBDA = [name for name in NAMES if name.startswith("lambda")]


@pytest.mark.parametrize("name", TOO_DEEP_BUT_FOR_THE_IDENTITY)
def test_the_deepest_have_finite_logits_from_the_start(name):
    """In eval mode fresh norms change nothing: what grows from block to block grows unchecked."""
    assert model_options(name)["zero_init_residual"]
    assert_finite_when_fresh(build(name), pictures(size=smallest(name)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", LAMBDA)
def test_lambda_networks_have_finite_logits_from_the_start_with_any_weights(name, seed):
    torch.manual_seed(seed)
    assert_finite_when_fresh(create_model(name, 10), pictures(2, size=64))


def test_without_shortcuts_a_thousand_layers_need_no_identity():
    """Nothing is summed, so nothing grows."""
    model = build("preact_resnet1001", shortcut="none", zero_init_residual=False)
    assert_finite_when_fresh(model, pictures(size=8))


@pytest.mark.parametrize("name", DEEP)
def test_deep_networks_learn(name):
    model = build(name, **from_the_identity_on(name))
    assert_learns(model, pictures(size=smallest(name)), torch.tensor([0, 1, 2, 0]))


def options_of(name):
    """Those that it takes: where every block starts as the identity, there are shortcuts."""
    known = model_options(name)
    options = [{}, *(each for each in OPTIONS + OF_LAMBDA if each.keys() <= known.keys())]

    if known.get("zero_init_residual"):
        options.remove({"shortcut": "none"})
    return options


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, options",
    [
        (name, options)
        for name in NAMES
        if "session_resnet" not in name
        for options in options_of(name)
    ],
    ids=lambda value: show(value) or value,
)
def test_every_network_lives_with_every_option(name, options):
    channels = options.get("in_channels", 3)
    size = 32 if "size" in options else smallest(name, **options)
    start = from_the_identity_on(name)

    if is_deep(name) and options.get("shortcut") == "none":
        # it cannot start as the identity, and is not expected to learn
        assert_finite_when_fresh(build(name, **options), pictures(4, size))
        return

    live(lambda: create_model(name, 10, **options | start), channels, size)

    # without it their gradients are large, but must stay finite
    if start:
        x, labels = pictures(4, size, channels), torch.tensor([0, 1, 2, 0])
        assert_runs_in_bf16(build(name, **options), x, labels)


@pytest.mark.parametrize("options", SESSION, ids=show)
def test_the_session_resnet_lives_with_every_option(options):
    channels = options.get("in_channels", 3)
    live(lambda: create_model("session_resnet", 10, **options), channels, size=16)


@pytest.mark.parametrize(
    "name, options",
    [(name, options) for name, each in OF_FORMS.items() for options in each],
    ids=lambda value: show(value) or value,
)
def test_every_form_of_the_session_resnet_lives_with_every_option(name, options):
    channels = options.get("in_channels", 3)
    live(lambda: create_model(name, 10, **options), channels, size=16)


@pytest.mark.parametrize("options", OPTIONS, ids=show)
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck])
def test_resnets_of_every_block_live_with_every_option(block, options):
    """Small ones: the names differ from them in depth and channels only."""
    options = {"stem": "small", **options}
    channels = options.get("in_channels", 3)
    live(lambda: ResNet(block, (1, 2), 16, 10, **options), channels, size=16)


# --- torch.compile and torch.export ---------------------------------------------------------------

SMALL = {
    "session": lambda: create_model("session_resnet", 10),
    "bottleneck": lambda: ResNet(Bottleneck, (1, 1), 16, 10),
    "preact": lambda: ResNet(PreActBasicBlock, (1, 1), 16, 10, stem="small", width=2),
    "se": lambda: ResNet(BasicBlock, (1, 1), 16, 10, se=True),
    "plain": lambda: ResNet(BasicBlock, (1, 1), 16, 10, stem="small", shortcut="none"),
    "padded": lambda: ResNet(BasicBlock, (1, 1), 16, 10, stem="small", shortcut="A"),
    "lambda": lambda: LambdaResNet(BasicBlock, (1, 1, 1, 1), 10, lambda_stages=("c5",)),
}
DEEPEST_TO_EXPORT = 200  # a thousand layers are the same blocks again
PARTS = {
    "session": lambda: nn.Sequential(conv_norm_relu(16, 16, pool=True), ResidualPair(16)),
    "lambda": lambda: LambdaLayer(16),
}


@pytest.mark.parametrize("kind", SMALL)
def test_a_network_compiles_whole(kind):
    """Without a break in its graph, in training mode."""
    torch.manual_seed(0)
    model = SMALL[kind]()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(pictures(2)), model(pictures(2)))


@pytest.mark.parametrize("kind", PARTS)
def test_what_we_wrote_ourselves_compiles_with_its_backward_pass(kind):
    torch.compiler.reset()
    torch.manual_seed(0)
    model, x = PARTS[kind](), pictures(2, 4, channels=16)
    gradients = []
    for network in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        network(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])

    plain, compiled = gradients
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4)


SIZE_DECIDES = ["session", "lambda"]  # which convolution is trimmed, which path is taken


@pytest.mark.parametrize(
    "kind, size", [(kind, 16) for kind in SMALL] + [(kind, 96) for kind in SIZE_DECIDES]
)
def test_an_exported_network_takes_batches_of_any_size(kind, size):
    """On maps of 3×3 and less, and on larger ones where that changes what is computed."""
    torch.manual_seed(0)
    model = SMALL[kind]().eval()
    any_batch = {0: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(model, (pictures(2, size),), dynamic_shapes=(any_batch,))

    x = pictures(5, size)
    torch.testing.assert_close(exported.module()(x), model(x))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", SMALL)
def test_a_traced_network_takes_batches_of_any_size(kind):
    torch.manual_seed(0)
    model = SMALL[kind]().eval()
    traced = torch.jit.trace(model, pictures(2, 16))

    x = pictures(5, 16)
    torch.testing.assert_close(traced(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", [name for name in NAMES if depth(name) <= DEEPEST_TO_EXPORT])
def test_every_network_is_exported_and_traced_for_batches_of_any_size(name):
    model, size = build(name).eval(), smallest(name)
    any_batch = {0: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(model, (pictures(2, size),), dynamic_shapes=(any_batch,))
    traced = torch.jit.trace(model, pictures(2, size), check_trace=False)

    x = pictures(5, size)
    expected = model(x)
    near = {"rtol": 1e-4, "atol": 1e-4 * expected.abs().max().item()}
    torch.testing.assert_close(exported.module()(x), expected, **near)
    torch.testing.assert_close(traced(x), expected, **near)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("name", DEFAULT)
def test_a_compiled_network_has_the_same_gradients(name, backend):
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("inductor needs a C++ compiler")
    torch.compiler.reset()

    # In single precision, rounding opens other ReLUs.
    model, x = build(name).double(), pictures(4).double()
    gradients = []
    for network in (model, torch.compile(model, backend=backend)):
        model.zero_grad()
        F.cross_entropy(network(x), torch.arange(4)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))

    plain, compiled = gradients
    assert (compiled - plain).norm() < 1e-9 * plain.norm()


# --- the session ResNet ---------------------------------------------------------------------------


@pytest.mark.parametrize("stem, shrink", [("small", 8), ("strided", 16)])
def test_the_session_resnet_takes_any_picture_from_sixteen_pixels_on(stem, shrink):
    model = build("session_resnet", stem=stem).eval()
    for height, width in [(16, 16), (17, 31), (40, 40), (48, 64), (100, 20)]:
        x = torch.randn(1, 3, height, width)
        with torch.inference_mode():
            assert model(x).shape == (1, 10)
            side = model.features(x).shape[2:]

        if height % shrink == width % shrink == 0:
            assert side == (height // shrink, width // shrink)


def test_the_logit_scale_is_a_factor_on_the_logits():
    one, eighth = build("session_resnet").eval(), build("session_resnet", logit_scale=0.125).eval()
    with torch.inference_mode():
        torch.testing.assert_close(eighth(pictures(2)), one(pictures(2)) / 8)


@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (3, 2), (3, 3), (4, 4), (2, 5)], ids=str)
def test_the_trimmed_convolution_is_a_convolution(size, layout):
    torch.manual_seed(0)
    conv = TrimmedConv3x3(5, 7).to(memory_format=layout)
    x = torch.randn(3, 5, *size).to(memory_format=layout).requires_grad_()
    weigh = torch.randn(3, 7, *size)

    def value_and_gradients(y):
        return y, *torch.autograd.grad((y * weigh).sum(), (x, conv.weight))

    found = value_and_gradients(conv(x))
    expected = value_and_gradients(F.conv2d(x, conv.weight, padding=1))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_strided_trimmed_convolution_is_one_too():
    x, conv = pictures(2, 2), TrimmedConv3x3(3, 4, stride=2)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, stride=2, padding=1))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_trimmed_convolution_takes_an_empty_batch(size):
    conv, x = TrimmedConv3x3(5, 7), torch.zeros(0, 5, size, size, requires_grad=True)
    y = conv(x)
    y.sum().backward()
    assert y.shape == (0, 7, size, size) and conv.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_norm_fused_into_the_trimmed_convolution_keeps_its_bias(size):
    torch.manual_seed(0)
    conv, norm, relu = conv_norm_relu(5, 7)
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(value, 0.5, 1.5)
    norm.eval()

    fused = fuse_conv_bn_eval(conv.eval(), norm)
    assert isinstance(fused, TrimmedConv3x3) and fused.bias.abs().min() > 0

    x = torch.randn(3, 5, size, size)
    torch.testing.assert_close(fused(x), norm(conv(x)), atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        low = fused(x.bfloat16())
    torch.testing.assert_close(low.float(), norm(conv(x)), atol=0.1, rtol=0.05)


def test_with_its_norms_fused_the_session_resnet_has_the_same_logits():
    """At 32 px and with a strided stem the maps of its last pair are 2×2."""
    model, x = build("session_resnet", stem="strided").eval(), pictures()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(value, 0.5, 1.5)

    with torch.no_grad():
        expected = model(x)
        for part in list(model.modules()):
            if isinstance(part, nn.Sequential) and isinstance(part[0], TrimmedConv3x3):
                if isinstance(part[1], nn.BatchNorm2d):  # else there is a max-pool between them
                    part[0], part[1] = fuse_conv_bn_eval(part[0], part[1]), nn.Identity()
        fused = model(x)

    assert sum(isinstance(part, nn.BatchNorm2d) for part in model.modules()) == 3
    torch.testing.assert_close(fused, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("given", [torch.bfloat16, torch.float32], ids=str)
def test_the_trimmed_convolution_runs_under_autocast(given):
    x, conv = pictures(2, 2), TrimmedConv3x3(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x.to(given))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), conv(x), atol=0.03, rtol=0)


@pytest.mark.parametrize("size", [2, 3])
def test_gradients_of_the_trimmed_convolution_in_bf16_are_as_exact_as_torchs(size):
    """They are sums of up to nine parts, which must not be rounded one by one."""
    torch.manual_seed(0)
    conv, x = TrimmedConv3x3(256, 256), torch.randn(64, 256, size, size, requires_grad=True)
    weigh = torch.randn(64, 256, size, size)

    def gradients(y):
        return torch.autograd.grad((y.float() * weigh).sum(), (x, conv.weight))

    exact = gradients(F.conv2d(x, conv.weight, padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        ours, torchs = conv(x), F.conv2d(x, conv.weight, padding=1)

    for right, our, their in zip(exact, gradients(ours), gradients(torchs), strict=True):
        assert (our - right).norm() < 1.25 * (their - right).norm()


@pytest.mark.parametrize("size", [(1, 3), (2, 2), (3, 3)], ids=str)
def test_the_trimmed_convolution_has_a_second_derivative(size):
    torch.manual_seed(0)
    conv = TrimmedConv3x3(2, 3).double()
    x = torch.randn(2, 2, *size, dtype=torch.double, requires_grad=True)

    def convolve(x, weight):
        return torch.func.functional_call(conv, {"weight": weight}, x)

    assert torch.autograd.gradcheck(convolve, (x, conv.weight))
    assert torch.autograd.gradgradcheck(convolve, (x, conv.weight))


def test_torch_func_takes_the_trimmed_convolution_for_a_convolution():
    torch.manual_seed(0)
    conv, x = TrimmedConv3x3(2, 3), torch.randn(4, 2, 3, 3)
    weight = conv.weight.detach()

    def loss(weight):
        return torch.func.functional_call(conv, {"weight": weight}, x).square().sum()

    def expected(weight):
        return F.conv2d(x, weight, padding=1).square().sum()

    torch.testing.assert_close(torch.func.grad(loss)(weight), torch.func.grad(expected)(weight))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tiny_maps_cost_no_products_with_the_padding(device):
    cost = summary(TrimmedConv3x3(8, 8).to(device), 2).multiply_adds
    assert cost == 16 * 8 * 8, "16 of 36 taps"


# --- the whitening stem ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options, count", [("session_resnet", {"stem": "strided"}, 54), ("resnet18", {}, 64)]
)
def test_whitening_filters_answer_with_equal_variance_and_no_correlation(name, options, count):
    """3×3×3 patches have 27 directions, each with both signs; 7×7×3 have more than filters."""
    model = build(name, **options)
    x = F.avg_pool2d(pictures(64, 66), 3, 1)  # smooth, as pictures are
    conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    before = conv.weight.detach().clone()

    assert whiten_stem(model, x, floor=0.0) == count

    filters, half = conv.weight.detach(), count // 2
    assert torch.equal(filters[half:count], -filters[:half])
    assert torch.equal(filters[count:], before[count:])

    answers = F.conv2d(x, filters[:half], stride=4).transpose(0, 1).flatten(1)  # (F, positions)
    np.testing.assert_allclose(np.cov(answers.double().numpy()), np.eye(half), atol=0.02)


def test_a_whitened_stem_goes_on_learning():
    model = build("session_resnet", stem="strided")
    whiten_stem(model, pictures(16))
    F.cross_entropy(model(pictures()), torch.arange(4)).backward()

    weight = model.stem[0].weight
    assert weight.requires_grad and weight.grad.abs().sum() > 0


def test_the_floor_keeps_directions_that_hardly_occur_from_being_blown_up():
    model = build("session_resnet")
    flat = torch.rand(16, 3, 1, 1).expand(16, 3, 32, 32)  # plain pictures: rank 3
    whiten_stem(model, flat + 1e-4 * pictures(16))
    assert model.stem[0].weight.flatten(1).norm(dim=1).max() <= 0.05**-0.5 * 1.01


def test_a_network_without_a_convolution_has_no_stem_to_whiten():
    with pytest.raises(ValueError, match="Linear has no convolution to whiten"):
        whiten_stem(nn.Linear(3, 3), pictures())


# --- without norms --------------------------------------------------------------------------------


def test_without_norms_the_session_resnet_has_its_layout_and_biases_in_their_place():
    """Each convolution: a bias for each channel where a norm had a scale and a shift."""
    normed, bare = (create_model(f"session_resnet{kind}", 10) for kind in ("", "_unnormed"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in bare.modules())

    convolutions = [module for module in bare.modules() if isinstance(module, nn.Conv2d)]
    channels = sum(conv.out_channels for conv in convolutions)
    assert len(convolutions) == 8 and all(conv.bias is not None for conv in convolutions)
    parameters = [sum(p.numel() for p in model.parameters()) for model in (normed, bare)]
    assert parameters[0] - parameters[1] == channels

    x = pictures(2, size=32)
    assert bare.features(x).shape == normed.features(x).shape == (2, 512, 4, 4)


def test_without_norms_twice_the_weights_are_twice_the_activations_behind_each_convolution():
    """A norm would undo it. On the path without the two pairs: stem and three stages."""
    model = create_model("session_resnet_unnormed", 10).eval()
    for stage in (model.stage1, model.stage3):
        stage[1].body = nn.Identity()  # x + x

    x = pictures(2, size=32)
    with torch.no_grad():
        before = model.features(x)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= 2
        torch.testing.assert_close(model.features(x), 2**4 * before)


def test_without_norms_a_layer_keeps_the_size_of_what_it_gets():
    """He's initial weights: the mean square behind convolution and ReLU is that before them."""
    torch.manual_seed(0)
    conv = create_model("session_resnet_unnormed", 10).stage3[1].body[0][0]
    x = torch.randn(8, 512, 16, 16)
    with torch.no_grad():
        y = conv(x).relu()[..., 1:-1, 1:-1]  # the padding has none
    assert y.square().mean().item() == pytest.approx(1, rel=0.1)
