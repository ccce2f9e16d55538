"""The lambda layer against lambda-networks and the paper's formula, and the networks built from it."""

import itertools
import warnings

import lambda_networks
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib.models import LambdaLayer, create_model, lambda_paths, model_options
from course_lib.models.blocks import Bottleneck

PATHS = sorted(lambda_paths.PATHS)
AS_IT_IS = dict(lambda_paths.PATHS)
NAMES = [f"lambda_resnet{depth}" for depth in (18, 26, 34, 50, 101, 152)]
SHAPES = [  # r (None: global), u, height, width, pictures
    (23, 1, 8, 8, 3),
    (23, 1, 8, 8, 1),
    (5, 1, 6, 9, 2),
    (7, 4, 5, 20, 2),
    (23, 4, 3, 17, 1),
    (3, 2, 1, 7, 2),
    (23, 1, 30, 13, 2),
    (None, 1, 4, 4, 2),
    (None, 4, 5, 5, 1),
]


def randn(*shape, seed=0, **options):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double
    ).to(**options)


def theirs(r, u, height):
    """The public layer. Its own norms run into torch's fault with one picture, unless gradients come in plain."""
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):  # torch.meshgrid without indexing
        where = {"n": height} if r is None else {"r": r}
        layer = lambda_networks.LambdaLayer(
            32, dim_out=24, dim_k=8, heads=4, dim_u=u, **where
        ).double()
    for norm in (layer.norm_q, layer.norm_v):
        norm.register_forward_hook(
            lambda module, args, out: out.register_hook(torch.Tensor.contiguous) and None
        )
    return layer


def ours(r, u, height, width, path=None, weights=None, dtype=torch.double):
    layer = LambdaLayer(
        32, 24, dim_k=8, dim_u=u, r=r, size=None if r else (height, width), path=path
    )
    if weights is not None:
        layer.load_state_dict(weights)
    return layer.to(dtype)


def value_and_gradients(layer, x, out_gradient):
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(out_gradient)
    return {
        "value": y.detach(),
        "input": x.grad,
        **{name: p.grad for name, p in layer.named_parameters()},
    }


@pytest.mark.parametrize("path", [None, *PATHS])
@pytest.mark.parametrize("r, u, height, width, pictures", SHAPES)
def test_value_and_every_gradient_are_those_of_lambda_networks(r, u, height, width, pictures, path):
    public = theirs(r, u, height)
    weights = {name: value.clone() for name, value in public.state_dict().items()}
    x, gradient = randn(pictures, 32, height, width), randn(pictures, 24, height, width, seed=1)
    expected = value_and_gradients(public, x, gradient)
    for dtype, layout in [
        (torch.double, torch.contiguous_format),
        (torch.double, torch.channels_last),
        (torch.float, torch.contiguous_format),
    ]:
        layer = ours(r, u, height, width, path, weights, dtype)
        got = value_and_gradients(layer, x.to(dtype, memory_format=layout), gradient.to(dtype))
        assert got.keys() == expected.keys()
        got = {
            name: value.view_as(expected[name]) for name, value in got.items()
        }  # the kernel: one dimension less
        for name, value in expected.items():
            error = (got[name] - value).abs().max() / value.abs().max().clamp(min=1)
            assert error < (1e-12 if dtype is torch.double else 1e-5), (name, dtype, layout)


def by_the_formula(layer, x):
    """Position by position, head by head: λ_n = Σ_m (softmax(K)_m + E_nm) v_mᵀ, y_n = λ_nᵀ q_n."""
    batch, _, height, width = x.shape
    q, v = layer.norm_q(layer.to_q(x)), layer.norm_v(layer.to_v(x))
    q = q.unflatten(1, (layer.heads, layer.dim_k))
    k, v = layer.to_k(x).unflatten(1, (layer.dim_u, -1)), v.unflatten(1, (layer.dim_u, -1))
    k = k.exp() / k.exp().sum((3, 4), keepdim=True)
    places = list(itertools.product(range(height), range(width)))
    y = x.new_empty(batch, layer.heads, layer.dim_v, height, width)
    for b, (i, j), head in itertools.product(range(batch), places, range(layer.heads)):
        lam = x.new_zeros(layer.dim_k, layer.dim_v)
        for (p, s), u in itertools.product(places, range(layer.dim_u)):
            e = x.new_zeros(layer.dim_k)
            if layer.size:
                e = layer.rel_pos_emb[p - i + height - 1, s - j + width - 1, :, u]
            elif max(abs(p - i), abs(s - j)) <= layer.r // 2:
                e = layer.pos_conv.weight[:, u, p - i + layer.r // 2, s - j + layer.r // 2]
            lam += torch.outer(k[b, u, :, p, s] + e, v[b, u, :, p, s])
        if not layer.size:
            lam += layer.pos_conv.bias[:, None]
        y[b, head, :, i, j] = lam.T @ q[b, head, :, i, j]
    return y.flatten(1, 2)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("where", [{"r": 3}, {"r": None, "size": (3, 4)}], ids=["local", "global"])
@torch.no_grad()
def test_the_layer_is_the_papers_formula_position_by_position(where, path):
    torch.manual_seed(0)
    layer = LambdaLayer(6, 4, dim_k=3, heads=2, dim_u=2, path=path, **where).double()
    x = randn(2, 6, 3, 4)
    assert torch.allclose(layer(x), by_the_formula(layer, x), atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_gradients_are_those_of_finite_differences(path):
    layer = LambdaLayer(5, 4, dim_k=2, heads=2, dim_u=2, r=5, path=path).double()
    x = randn(1, 5, 3, 10).requires_grad_()  # one picture, and more than one stripe
    names, values = zip(
        *((name, p.detach().requires_grad_()) for name, p in layer.named_parameters()), strict=True
    )

    def layer_of(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(layer_of, (x, *values), fast_mode=True)


def test_one_picture_has_the_gradient_it_has_beside_its_copy():
    """Copies change neither means nor variances: each then has half the gradient. Torch's own norm gets it wrong."""
    layer, x, gradient = ours(23, 1, 8, 8), randn(1, 32, 8, 8), randn(1, 24, 8, 8, seed=1)
    one, two = (
        value_and_gradients(layer, t.repeat(n, 1, 1, 1), g.repeat(n, 1, 1, 1))["input"]
        for n, t, g in [(1, x, gradient), (2, x, gradient)]
    )
    assert torch.allclose(one[0], two[0], atol=1e-10)


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "side, path", [(4, "whole"), (8, "whole"), (14, "rows"), (28, "rows"), (56, "stripes")]
)
def test_the_path_depends_on_the_map_and_can_be_seen_and_forced(side, path):
    layer = LambdaLayer(256)
    assert layer.chosen_path(side, side) == path and "path=cheapest" in repr(layer)
    layer.path = "rows"
    assert layer.chosen_path(side, side) == "rows" and "path=rows" in repr(layer)


@pytest.mark.parametrize("path", PATHS)
def test_the_forced_path_is_the_one_that_runs(path, monkeypatch):
    ran = []
    for name, run in lambda_paths.PATHS.items():
        monkeypatch.setitem(
            lambda_paths.PATHS, name, lambda *a, name=name, run=run: (ran.append(name), run(*a))[1]
        )
    ours(5, 1, 6, 6, path, dtype=torch.float)(randn(2, 32, 6, 6, dtype=torch.float))
    assert ran == [path]


def test_repr_says_what_the_layer_sees():
    assert "local, r=7, dim_k=16, dim_v=8, heads=8, dim_u=4" in repr(
        LambdaLayer(64, heads=8, dim_u=4, r=7)
    )
    assert "global, size=(3, 4)" in repr(LambdaLayer(64, r=None, size=(3, 4)))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast_keeps_softmax_and_sums_in_float32(precision, path, monkeypatch):
    torch.manual_seed(0)
    layer, took, softmax = LambdaLayer(16, 16, r=3, path=path), [], torch.Tensor.softmax

    def noted(q, kernel, v):
        took.extend([q.dtype, kernel.dtype, v.dtype, torch.is_autocast_enabled("cpu")])
        return AS_IT_IS[path](q, kernel, v)

    monkeypatch.setitem(lambda_paths.PATHS, path, noted)
    monkeypatch.setattr(
        torch.Tensor, "softmax", lambda self, dim: took.append(self.dtype) or softmax(self, dim)
    )
    x = randn(2, 16, 8, 8, dtype=torch.float).requires_grad_()
    with torch.autocast("cpu", precision):
        y = layer(x)
    y.float().sum().backward()
    assert took == [torch.float32] * 4 + [False] and y.dtype is precision and y.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    exact = layer(x).detach()
    assert (y - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("path", ["rows", "whole"])
def test_the_multiply_adds_of_a_layer_are_those_of_the_formula(path):
    """Projections, content, and h (k + v) for each query and key of its rows in sight: of 16, eleven to both sides."""
    n, c, h, k, v = 16 * 16, 128, 4, 16, 32
    pairs = (
        n * n
        if path == "whole"
        else sum(16 * 16 * (min(y + 12, 16) - max(y - 11, 0)) for y in range(16))
    )
    layer, counter = LambdaLayer(c, path=path).eval(), FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        layer(torch.zeros(1, c, 16, 16))
    assert counter.get_total_flops() // 2 == n * c * (h * k + k + v) + n * k * v * (
        1 + h
    ) + pairs * h * (k + v)


@pytest.mark.parametrize("path", PATHS)
def test_torch_compile_computes_the_same(path):
    layer, x = ours(5, 1, 4, 9, path), randn(2, 32, 4, 9)
    expected = value_and_gradients(layer, x, torch.ones(2, 24, 4, 9).double())
    layer.zero_grad()
    got = value_and_gradients(
        torch.compile(layer, backend="eager"), x, torch.ones(2, 24, 4, 9).double()
    )
    for name, value in expected.items():
        assert torch.allclose(got.get(name, got.get(f"_orig_mod.{name}")), value, atol=1e-10), name


def test_weights_start_as_in_the_paper():
    torch.manual_seed(0)
    layer = LambdaLayer(256, r=15)
    for weight, std in [
        (layer.to_q.weight, (16 * 256) ** -0.5),
        (layer.to_k.weight, 1 / 16),
        (layer.to_v.weight, 1 / 16),
        (layer.pos_conv.weight, 1),
        (LambdaLayer(8, r=None, size=(9, 9)).rel_pos_emb, 1),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.05)
    model = create_model("lambda_resnet26", 10)
    assert model.layer4[1].conv2.to_v.weight.std().item() == pytest.approx(512**-0.5, rel=0.05)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"heads": 0}, "heads is 0: expected a whole number"),
        ({"dim_k": -1}, "dim_k is -1: expected a whole"),
        ({"dim_out": 0}, "dim_out is 0"),
        ({"dim_u": 1.5}, "dim_u is 1.5"),
        ({"r": None, "size": 8}, r"size is 8: expected \(height, width\)"),
        ({"heads": 5}, "5 heads do not divide the 64 output channels"),
        ({"r": 4}, "r is 4: expected an odd width"),
        ({"r": -1}, "r is -1: expected an odd width"),
        ({"r": 23.0}, "r is 23.0: expected an odd width"),
        ({"r": None, "size": (0, 8)}, "height is 0: expected a whole"),
        ({"r": None}, "r is None and size is None: give r, .*or r=None and size"),
        ({"size": (8, 8)}, "r is 23 and size is .*give r, .*or r=None"),
        ({"path": "fast"}, "unknown path 'fast': expected None or one of whole, rows, stripes"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        LambdaLayer(64, **options)


def test_a_global_layer_refuses_another_map():
    with pytest.raises(ValueError, match=r"maps of size \(4, 6\), not \(6, 4\)"):
        LambdaLayer(8, r=None, size=(4, 6))(torch.randn(1, 8, 6, 4))


# --- LambdaResNet ---------------------------------------------------------------------------------


def parameters(name, num_classes=1000, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name, num_classes, **options).parameters())


def test_networks_have_the_published_number_of_parameters():
    biases = 16 * 16  # of the lambda convolution: 16 layers, k = 16
    assert parameters("lambda_resnet50") == 14_995_848
    assert parameters("lambda_resnet50") - biases == 14_995_592
    assert parameters("lambda_resnet50", 10) == 12_967_338
    assert parameters("lambda_resnet18", 10) == 5_605_322
    assert parameters("lambda_resnet50", dim_u=4, r=7) == 16_040_616
    assert parameters("lambda_resnet50", lambda_stages=("c4", "c5")) == 15_559_880


@pytest.mark.parametrize("name, lambdas", list(zip(NAMES, (4, 4, 9, 16, 33, 50), strict=True)))
def test_lambda_layers_replace_the_3x3_of_the_default_stages(name, lambdas):
    with torch.device("meta"):
        model = create_model(name, 10)
    layers = [module for module in model.modules() if isinstance(module, LambdaLayer)]
    assert len(layers) == lambdas
    if name not in NAMES[:3]:
        assert not [
            m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
        ]


@pytest.mark.parametrize("depth", (18, 34, 50))
def test_without_lambda_stages_the_resnet_is_left(depth):
    assert parameters(f"lambda_resnet{depth}", lambda_stages=()) == parameters(f"resnet{depth}")


OPTIONS = [
    {},
    {"lambda_stages": ("c5",)},
    {"dim_k": 8, "heads": 2, "dim_u": 2, "r": 5},
    {"in_channels": 1},
    {"r": None, "size": (40, 33)},
    {"shortcut": "D", "drop_rate": 0.1, "drop_path": 0.1, "se": True},
    {"zero_init_residual": True},
    {"stem": "small", "r": 3},
]


def test_every_option_is_tried_below():
    assert {name for each in OPTIONS for name in each} == set(model_options("lambda_resnet26"))


@pytest.mark.parametrize(
    "name, options",
    [*itertools.product(("lambda_resnet18", "lambda_resnet26"), OPTIONS), ("lambda_resnet50", {})],
    ids=str,
)
def test_a_step_lowers_the_loss_on_one_batch(name, options):
    torch.manual_seed(0)
    model = create_model(name, 4, **options)
    side = (20, 17) if options.get("stem") else (40, 33)  # odd maps on the way
    x, labels = (
        randn(6, options.get("in_channels", 3), *side, dtype=torch.float),
        torch.arange(6) % 4,
    )

    def loss():
        torch.manual_seed(1)  # the same dropout both times
        return F.cross_entropy(model(x), labels)

    before = loss()
    before.backward()
    slope = sum(p.grad.square().sum() for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.001 * before / slope * p.grad  # to first order, a thousandth less
        assert loss() < before


def test_a_network_trains_in_bfloat16_and_channels_last_and_its_state_comes_back():
    torch.manual_seed(0)
    model = create_model("lambda_resnet26", 10).to(memory_format=torch.channels_last)
    x = randn(4, 3, 64, 64, dtype=torch.float, memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(x), torch.arange(4))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    other = create_model("lambda_resnet26", 10)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = model.eval()(x)
        assert (other.eval()(x) - expected).abs().max() < 1e-3 * expected.abs().max()
        model.replace_head(7)
        assert model(x).shape == (4, 7) and list(model.stages) == [
            "layer1",
            "layer2",
            "layer3",
            "layer4",
        ]
        assert torch.equal(
            model.features(x),
            model.layer4(
                model.layer3(
                    model.layer2(model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(x))))))
                )
            ),
        )


def test_unknown_stages_are_refused():
    with pytest.raises(ValueError, match="lambda_stages is .*c6.*expected some of c2, c3, c4, c5"):
        create_model("lambda_resnet50", lambda_stages=("c6",))
    with pytest.raises(ValueError, match="size is 64: expected"):
        create_model("lambda_resnet50", r=None, size=64)


def test_stride_2_is_an_average_pool_behind_the_layer():
    model = create_model("lambda_resnet50", 10)
    strided = [
        block
        for block in model.modules()
        if isinstance(block, Bottleneck) and isinstance(block.conv2, nn.Sequential)
    ]
    assert len(strided) == 3  # c3, c4 and c5 begin with one
    x = randn(1, 128, 6, 8, dtype=torch.float)
    layer, pooled = strided[0].conv2[0].eval(), strided[0].conv2.eval()(x)
    assert torch.allclose(
        pooled, layer(x).unflatten(3, (4, 2)).unflatten(2, (3, 2)).mean((3, 5)), atol=1e-4
    )
