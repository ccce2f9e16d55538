"""The lambda layer against lambda-networks and the paper's formula; the networks built from it."""

import itertools
import warnings

import lambda_networks
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.fusion import fuse_conv_bn_eval

from course_lib.models import (
    LambdaLayer,
    LambdaResNet,
    create_model,
    lambda_paths,
    model_options,
    summary,
)
from course_lib.models.blocks import BasicBlock, Bottleneck

FAST = ["rows", "stripes", "whole"]
PATHS = ["definition", *FAST]
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
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double).to(**options)


def ours(r, u, height, width, path=None, weights=None, dtype=torch.double):
    size = None if r else (height, width)
    layer = LambdaLayer(32, 24, dim_k=8, dim_u=u, r=r, size=size, path=path)
    if weights is not None:
        layer.load_state_dict(weights)
    return layer.to(dtype)


def theirs(r, u, height):
    """The public layer, its gradients plain: its norms run into torch's fault with one picture."""
    torch.manual_seed(0)
    where = {"n": height} if r is None else {"r": r}
    with warnings.catch_warnings(action="ignore"):  # torch.meshgrid without indexing
        layer = lambda_networks.LambdaLayer(32, dim_out=24, dim_k=8, heads=4, dim_u=u, **where)

    def make_gradient_plain(module, args, out):
        out.register_hook(torch.Tensor.contiguous)

    for norm in (layer.norm_q, layer.norm_v):
        norm.register_forward_hook(make_gradient_plain)
    return layer.double()


def value_and_gradients(layer, x, out_gradient):
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(out_gradient)

    gradients = {name: p.grad for name, p in layer.named_parameters()}
    return {"value": y.detach(), "input": x.grad, **gradients}


# --- the layer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [None, *PATHS])
@pytest.mark.parametrize("r, u, height, width, pictures", SHAPES)
def test_value_and_every_gradient_are_those_of_lambda_networks(r, u, height, width, pictures, path):
    public = theirs(r, u, height)
    weights = {name: value.clone() for name, value in public.state_dict().items()}
    x, gradient = randn(pictures, 32, height, width), randn(pictures, 24, height, width, seed=1)
    expected = value_and_gradients(public, x, gradient)

    for dtype, layout, tolerance in [
        (torch.double, torch.contiguous_format, 1e-12),
        (torch.double, torch.channels_last, 1e-12),
        (torch.float, torch.contiguous_format, 1e-5),
    ]:
        layer = ours(r, u, height, width, path, weights, dtype)
        got = value_and_gradients(layer, x.to(dtype, memory_format=layout), gradient.to(dtype))
        assert got.keys() == expected.keys()

        for name, value in expected.items():
            mine = got[name].view_as(value)  # their kernel has one dimension more
            error = (mine - value).abs().max() / value.abs().max().clamp(min=1)
            assert error < tolerance, (name, dtype, layout)


@pytest.mark.parametrize("path", FAST)
@pytest.mark.parametrize("r, u, height, width, pictures", SHAPES)
def test_the_cpus_paths_are_the_definition_in_value_and_every_gradient(
    r, u, height, width, pictures, path
):
    definition = ours(r, u, height, width, "definition")
    fast = ours(r, u, height, width, path, definition.state_dict())
    x, gradient = randn(pictures, 32, height, width), randn(pictures, 24, height, width, seed=1)

    expected = value_and_gradients(definition, x, gradient)
    got = value_and_gradients(fast, x, gradient)

    for name, value in expected.items():
        assert (got[name] - value).abs().max() < 1e-12 * value.abs().max().clamp(min=1), name


def by_the_formula(layer, x):
    """Position by position, head by head: λ_n = Σ_m (softmax(K)_m + E_nm) v_mᵀ, y_n = λ_nᵀ q_n."""
    batch, _, height, width = x.shape
    positions = list(itertools.product(range(height), range(width)))

    q = layer.norm_q(layer.to_q(x)).unflatten(1, (layer.heads, layer.dim_k))
    k = layer.to_k(x).unflatten(1, (layer.dim_u, -1))
    v = layer.norm_v(layer.to_v(x)).unflatten(1, (layer.dim_u, -1))
    k = k.exp() / k.exp().sum((3, 4), keepdim=True)

    def e_of(down, right, u):
        if layer.size:
            return layer.rel_pos_emb[down + height - 1, right + width - 1, :, u]
        reach = layer.r // 2
        if max(abs(down), abs(right)) <= reach:
            return layer.pos_conv.weight[:, u, down + reach, right + reach]
        return x.new_zeros(layer.dim_k)

    y = x.new_empty(batch, layer.heads, layer.dim_v, height, width)
    for b, (i, j) in itertools.product(range(batch), positions):
        lam = x.new_zeros(layer.dim_k, layer.dim_v)
        for (p, s), u in itertools.product(positions, range(layer.dim_u)):
            lam += torch.outer(k[b, u, :, p, s] + e_of(p - i, s - j, u), v[b, u, :, p, s])
        if not layer.size:
            lam += layer.pos_conv.bias[:, None]

        for head in range(layer.heads):
            y[b, head, :, i, j] = lam.T @ q[b, head, :, i, j]
    return y.flatten(1, 2)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("where", [{"r": 3}, {"r": None, "size": (3, 4)}], ids=["local", "global"])
@torch.no_grad()
def test_the_layer_is_the_papers_formula_position_by_position(where, path):
    torch.manual_seed(0)
    layer = LambdaLayer(6, 4, dim_k=3, heads=2, dim_u=2, path=path, **where).double()
    if layer.size is None:
        nn.init.normal_(layer.pos_conv.bias)

    x = randn(2, 6, 3, 4)
    assert torch.allclose(layer(x), by_the_formula(layer, x), atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_gradients_are_those_of_finite_differences(path):
    layer = LambdaLayer(5, 4, dim_k=2, heads=2, dim_u=2, r=5, path=path).double()
    x = randn(1, 5, 3, 10).requires_grad_()  # one picture, and more than one stripe
    names = [name for name, _ in layer.named_parameters()]
    values = [p.detach().requires_grad_() for p in layer.parameters()]

    def layer_of(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(layer_of, (x, *values), fast_mode=True)


@pytest.mark.parametrize("path", [None, "definition"])
def test_one_picture_has_the_gradient_it_has_beside_its_copy(path):
    """Copies change neither mean nor variance: each then has half the gradient.

    Torch's own norm gets it wrong.
    """
    layer, x, gradient = ours(23, 1, 8, 8, path), randn(1, 32, 8, 8), randn(1, 24, 8, 8, seed=1)

    alone = value_and_gradients(layer, x, gradient)["input"]
    beside = value_and_gradients(layer, x.repeat(2, 1, 1, 1), gradient.repeat(2, 1, 1, 1))["input"]

    assert torch.allclose(alone[0], beside[0], atol=1e-10)


def test_weights_start_as_in_the_paper():
    torch.manual_seed(0)
    layer = LambdaLayer(256, r=15)
    in_a_network = create_model("lambda_resnet26", 10).layer4[1].conv2

    for weight, std in [
        (layer.to_q.weight, (16 * 256) ** -0.5),
        (layer.to_k.weight, 1 / 16),
        (layer.to_v.weight, 1 / 16),
        (layer.pos_conv.weight, 1),
        (LambdaLayer(8, r=None, size=(9, 9)).rel_pos_emb, 1),
        (in_a_network.to_v.weight, 512**-0.5),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"heads": 0}, "heads is 0: expected a whole number"),
        ({"dim_k": -1}, "dim_k is -1: expected a whole"),
        ({"dim_out": 0}, "dim_out is 0"),
        ({"dim_u": 1.5}, "dim_u is 1.5"),
        ({"dim_in": 0, "dim_out": 8}, "dim_in is 0"),
        ({"r": None, "size": 8}, r"size is 8: expected \(height, width\)"),
        ({"heads": 5}, "5 heads do not divide the 64 output channels"),
        ({"r": 4}, "r is 4: expected an odd width"),
        ({"r": -1}, "r is -1: expected an odd width"),
        ({"r": 23.0}, "r is 23.0: expected an odd width"),
        ({"r": None, "size": (0, 8)}, "height is 0: expected a whole"),
        ({"r": None}, "r is None and size is None: give r, .*or r=None and size"),
        ({"size": (8, 8)}, "r is 23 and size is .*give r, .*or r=None"),
        ({"path": "fast"}, "path 'fast': expected None or one of definition, whole, rows, stripes"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        LambdaLayer(**{"dim_in": 64, **options})


@pytest.mark.parametrize("path", [None, "definition"])
def test_a_global_layer_refuses_another_map(path):
    with pytest.raises(ValueError, match=r"maps of size \(4, 6\), not \(6, 4\)"):
        LambdaLayer(8, r=None, size=(4, 6), path=path)(torch.randn(1, 8, 6, 4))


def test_repr_says_what_the_layer_sees():
    local = LambdaLayer(64, heads=8, dim_u=4, r=7)
    assert "local, r=7, dim_k=16, dim_v=8, heads=8, dim_u=4" in repr(local)
    assert "global, size=(3, 4)" in repr(LambdaLayer(64, r=None, size=(3, 4)))


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "side, path", [(4, "whole"), (8, "whole"), (14, "rows"), (28, "rows"), (56, "stripes")]
)
def test_the_path_depends_on_the_map_and_can_be_seen_and_forced(side, path):
    layer = LambdaLayer(256)
    assert layer.chosen_path(side, side) == path and "path=cheapest" in repr(layer)

    layer.path = "rows"
    assert layer.chosen_path(side, side) == "rows" and "path=rows" in repr(layer)


def test_a_gpu_runs_the_definition(monkeypatch):
    """With tensors that only say where they would lie."""
    monkeypatch.setattr(lambda_paths, "output", lambda *_: pytest.fail("a path for CPUs"))
    with FakeTensorMode():
        with torch.device("cuda"):
            layer, x = LambdaLayer(64), torch.empty(2, 64, 8, 8)
        assert layer.chosen_path(8, 8) == "definition"
        assert layer(x).shape == (2, 64, 8, 8)


@pytest.mark.parametrize("path", FAST)
def test_the_forced_path_is_the_one_that_runs(path, monkeypatch):
    ran = []

    def noted(name, run):
        def call(*arguments):
            ran.append(name)
            return run(*arguments)

        return call

    for name, run in list(lambda_paths.PATHS.items()):
        monkeypatch.setitem(lambda_paths.PATHS, name, noted(name, run))

    x = randn(2, 32, 6, 6, dtype=torch.float)
    ours(5, 1, 6, 6, path, dtype=torch.float)(x)
    ours(5, 1, 6, 6, "definition", dtype=torch.float)(x)
    assert ran == [path]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast_keeps_softmax_and_sums_in_float32(precision, path, monkeypatch):
    torch.manual_seed(0)
    layer = LambdaLayer(16, 16, r=3, path=path)
    x = randn(2, 16, 8, 8, dtype=torch.float).requires_grad_()
    seen = []

    def noted(run):
        def call(*tensors, **options):
            seen.extend(t.dtype for t in tensors if isinstance(t, torch.Tensor))
            assert not torch.is_autocast_enabled("cpu")
            return run(*tensors, **options)

        return call

    monkeypatch.setattr(torch.Tensor, "softmax", noted(torch.Tensor.softmax))
    monkeypatch.setattr(torch, "einsum", noted(torch.einsum))
    for name, run in list(lambda_paths.PATHS.items()):
        monkeypatch.setitem(lambda_paths.PATHS, name, noted(run))

    with torch.autocast("cpu", precision):
        y = layer(x)
    y.float().sum().backward()

    assert len(seen) >= 4 and set(seen) == {torch.float32}
    assert y.dtype is precision and y.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())

    exact = layer(x).detach()
    assert (y - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("path", ["definition", "rows", "whole"])
def test_the_multiply_adds_of_a_layer_are_those_of_the_formula(path):
    """Projections, content, and what each pair of query and key costs: see ``lambda_paths``."""
    side, channels, heads, k, v = 16, 128, 4, 16, 32
    n = side * side
    rows_in_sight = sum(min(y + 12, side) - max(y - 11, 0) for y in range(side))  # 11 to both sides

    projections = n * channels * (heads * k + k + v)
    content = n * k * v
    positions = {
        "definition": n * 23 * 23 * k * v + n * heads * k * v,
        "rows": side * side * rows_in_sight * heads * (k + v) + n * heads * k * v,
        "whole": n * n * heads * (k + v) + n * heads * k * v,
    }

    layer = LambdaLayer(channels, path=path)
    assert summary(layer, side).multiply_adds == projections + content + positions[path]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("path", [None, *PATHS])
@pytest.mark.parametrize("where", [{"r": 3}, {"r": None, "size": (3, 9)}], ids=["local", "global"])
def test_an_empty_batch_goes_through_every_path(where, path, training):
    layer = LambdaLayer(32, 24, path=path, **where).train(training)
    x = torch.zeros(0, 32, 3, 9, requires_grad=True)
    y = layer(x)
    y.sum().backward()

    assert y.shape == (0, 24, 3, 9)
    assert all(p.grad.abs().sum() == 0 for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float, torch.bfloat16])
@pytest.mark.parametrize("path", PATHS)
def test_norms_fused_into_the_projections_keep_their_bias(path, dtype):
    torch.manual_seed(0)
    layer, x = LambdaLayer(32, 24, r=5, path=path), randn(2, 32, 3, 9, dtype=torch.float)
    for norm in (layer.norm_q, layer.norm_v):
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(value, 0.5, 1.5)

    expected = layer.eval()(x)
    for name in ("q", "v"):
        conv, norm = getattr(layer, f"to_{name}"), getattr(layer, f"norm_{name}")
        setattr(layer, f"to_{name}", fuse_conv_bn_eval(conv, norm))
        setattr(layer, f"norm_{name}", nn.Identity())

    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        found = layer(x)
    exact = 1e-4 if dtype == torch.float else 0.05
    torch.testing.assert_close(
        found.float(), expected, rtol=exact, atol=exact * expected.abs().max().item()
    )


@pytest.mark.parametrize("side", [4, 14])
def test_an_exported_layer_is_the_definition_and_takes_any_batch(side):
    torch.manual_seed(0)
    layer = LambdaLayer(32).eval()
    any_batch = {0: torch.export.Dim.DYNAMIC}
    example = randn(2, 32, side, side, dtype=torch.float)
    exported = torch.export.export(layer, (example,), dynamic_shapes=(any_batch,))

    x = randn(5, 32, side, side, seed=1, dtype=torch.float)
    torch.testing.assert_close(exported.module()(x), layer(x), rtol=1e-4, atol=1e-4)


def test_torch_fx_takes_the_layer_whole():
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.ReLU(), LambdaLayer(8)))
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["0", "1"]


@pytest.mark.parametrize("path", PATHS)
def test_torch_compile_computes_the_same(path):
    layer, x, gradient = ours(5, 1, 2, 9, path), randn(2, 32, 2, 9), randn(2, 24, 2, 9, seed=1)
    expected = value_and_gradients(layer, x, gradient)
    layer.zero_grad()

    got = value_and_gradients(torch.compile(layer, backend="eager"), x, gradient)
    for name, value in expected.items():
        mine = got.get(name, got.get(f"_orig_mod.{name}"))
        assert torch.allclose(mine, value, atol=1e-10), name


# --- LambdaResNet ---------------------------------------------------------------------------------


def on_paper(name, num_classes=1000, **options):
    with torch.device("meta"):
        return create_model(name, num_classes, **options)


def parameters(name, num_classes=1000, **options):
    return sum(p.numel() for p in on_paper(name, num_classes, **options).parameters())


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
    modules = list(on_paper(name).modules())
    assert sum(isinstance(module, LambdaLayer) for module in modules) == lambdas

    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    left = [conv for conv in convolutions if conv.kernel_size == (3, 3)]
    assert bool(left) == (name in NAMES[:3])  # those have lambda layers in c4 and c5 alone


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


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_small_step_lowers_the_loss_by_what_the_gradient_says(block, options):
    torch.manual_seed(0)
    model = LambdaResNet(block, (1, 1, 1, 2), 4, **options)
    assert_a_small_step_lowers_the_loss(model, **options)


@pytest.mark.parametrize("name", NAMES[:4])
def test_in_the_networks_by_name_too(name):
    torch.manual_seed(0)
    assert_a_small_step_lowers_the_loss(create_model(name, 4))


def assert_a_small_step_lowers_the_loss(model, stem="imagenet", in_channels=3, **options):
    """In double precision, where the step can be so small that the loss is straight along it."""
    model = model.double()
    side = (20, 17) if stem == "small" else (40, 33)  # odd maps on the way
    x, labels = randn(4, in_channels, *side), torch.arange(4)

    def loss():
        torch.manual_seed(1)  # the same dropout both times
        return F.cross_entropy(model(x), labels)

    before = loss()
    before.backward()
    slope = sum(p.grad.square().sum() for p in model.parameters())

    fall = 1e-7 * before.detach()
    with torch.no_grad():
        for p in model.parameters():
            p -= fall / slope * p.grad
        assert (before - loss()).item() == pytest.approx(fall.item(), rel=0.02)


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


def test_stages_are_the_four_layers_and_the_head_can_be_replaced():
    model = create_model("lambda_resnet18", 10).eval()
    x = randn(1, 3, 33, 33, dtype=torch.float)
    assert list(model.stages) == ["layer1", "layer2", "layer3", "layer4"]

    expected = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    for stage in model.stages.values():
        expected = stage(expected)
    assert torch.equal(model.features(x), expected)

    model.replace_head(7)
    assert model(x).shape == (1, 7)


def test_unknown_stages_are_refused():
    with pytest.raises(ValueError, match="lambda_stages is .*c6.*expected some of c2, c3, c4, c5"):
        on_paper("lambda_resnet50", lambda_stages=("c6",))
    with pytest.raises(ValueError, match="size is 64: expected"):
        on_paper("lambda_resnet50", r=None, size=64)


def test_stride_2_is_an_average_pool_behind_the_layer():
    model = create_model("lambda_resnet50", 10).eval()
    blocks = [block for stage in model.stages.values() for block in stage]
    strided = [block.conv2 for block in blocks if isinstance(block.conv2, nn.Sequential)]
    assert len(strided) == 3  # c3, c4 and c5 begin with one

    layer, pool = strided[0]
    x = randn(1, 128, 6, 8, dtype=torch.float)
    quarters = layer(x).unflatten(3, (4, 2)).unflatten(2, (3, 2))
    assert torch.allclose(pool(layer(x)), quarters.mean((3, 5)), atol=1e-4)
