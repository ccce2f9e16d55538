"""The maps beside pytorch-grad-cam and arithmetic; its traps, each with a test; no trace left."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from course_lib.explain import METHODS, explain, grad_cam, methods, overlay
from course_lib.explain.full_grad import full_gradients
from course_lib.files import CourseError
from course_lib.models import LambdaLayer, create_model, list_models

GRADIENT_METHODS = ("gradcam", "gradcam++", "hirescam", "xgradcam", "layercam")
SLOW = pytest.mark.slow


class SmallNet(nn.Module):
    """Two convolutions with norms, global average pooling, one linear layer.

    All is registered in the order of execution, as pytorch-grad-cam's FullGrad needs it.
    ``inplace``: the ReLU behind the last layer.
    """

    def __init__(self, classes=5, inplace=False, channels=8):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(6, channels, 3, 2, 1), nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace)
        self.fc = nn.Linear(channels, classes)

        for norm in (self.first[1], self.last[1]):  # as after some training
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 2)
            nn.init.normal_(norm.bias, 0, 0.3)

    @property
    def stages(self):
        return {"first": self.first, "last": self.last}

    def forward(self, x):
        return self.fc(self.relu(self.last(self.first(x))).mean((2, 3)))


class Shuffled(SmallNet):
    """The same network, registered from back to front, with a layer that nothing uses."""

    def __init__(self):
        super().__init__()
        parts = dict(self._modules)
        self._modules.clear()
        self.unused = nn.Conv2d(6, 8, 1)
        for name in reversed(parts):
            self.add_module(name, parts[name])


class LambdaNet(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer = layer
        self.fc = nn.Linear(8, 5)
        self.stages = {"layer": layer}

    def forward(self, x):
        return self.fc(self.layer(self.conv(x)).mean((2, 3)))


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SmallNet().eval()


@pytest.fixture
def peer():
    return pytest.importorskip("pytorch_grad_cam")


def peer_maps(kind, model, layers, images, targets=None):
    """Of a copy that suits the package: trainable, nothing in place, the layers by name."""
    model = copy.deepcopy(model).requires_grad_(True)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False

    layers = [model.stages[layer] for layer in layers]
    if targets is not None:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        targets = [ClassifierOutputTarget(target) for target in targets]
    return kind(model, layers)(images, targets)


def peer_kinds(peer):
    return {
        "gradcam": peer.GradCAM,
        "gradcam++": peer.GradCAMPlusPlus,
        "hirescam": peer.HiResCAM,
        "xgradcam": peer.XGradCAM,
        "layercam": peer.LayerCAM,
        "scorecam": peer.ScoreCAM,
        "ablationcam": peer.AblationCAM,
    }


def see_once(model, images):
    """Statistics for the norms: without any, a deep lambda network overflows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0

    with torch.no_grad():
        model.train()(images)
    model.eval()


def assert_maps(maps, shape):
    assert maps.shape == shape and maps.dtype == np.float32
    assert 0 <= maps.min() and maps.max() <= 1


# --- what the maps are --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet20", {}),
        ("preact_resnet20", {}),
        ("session_resnet", {"stem": "strided"}),
        pytest.param("resnet18", {}, marks=SLOW),
        pytest.param("resnet50", {}, marks=SLOW),
        pytest.param("resnet18_small", {}, marks=SLOW),
        pytest.param("preact_resnet50", {}, marks=SLOW),
        pytest.param("wide_resnet16", {"width": 2}, marks=SLOW),
        pytest.param("se_resnet18", {}, marks=SLOW),
        pytest.param("lambda_resnet18", {}, marks=SLOW),
        pytest.param("lambda_resnet50", {}, marks=SLOW),
    ],
)
def test_gradient_methods_equal_pytorch_grad_cam(peer, name, options):
    torch.manual_seed(0)
    model = create_model(name, 5, **options).eval()
    images = torch.randn(2, 3, 64, 48)
    if "lambda" in name:
        see_once(model, torch.randn(8, 3, 64, 48))

    for layer in list(model.stages)[-2:]:
        for method in GRADIENT_METHODS:
            if method == "xgradcam" and "preact" in name and layer != "norm":
                continue  # it divides by Σ a, of both signs there: rounding decides

            expected = peer_maps(peer_kinds(peer)[method], model, [layer], images)
            assert expected.max() > 0.99, "nothing to compare: an empty map"

            maps = explain(model, images, method=method, layer=layer)

            np.testing.assert_allclose(maps, expected, atol=1e-4, err_msg=f"{method}, {layer}")


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_methods_of_many_passes_equal_pytorch_grad_cam(peer, model, images, method):
    """At a layer behind a ReLU, and for classes with a logit above zero."""
    model.fc.bias.data += 5
    expected = peer_maps(peer_kinds(peer)[method], model, ["first"], images, [1, 2, 3])

    maps = explain(model, images, [1, 2, 3], method, "first")

    np.testing.assert_allclose(maps, expected, atol=1e-4)


@pytest.mark.parametrize("layer", ["first", "last"])
def test_eigencam_equals_pytorch_grad_cam_with_its_sign_set_right(
    peer, model, images, layer, monkeypatch
):
    from pytorch_grad_cam import eigen_cam
    from pytorch_grad_cam.utils import svd_on_activations as svd

    monkeypatch.setattr(eigen_cam, "get_2d_projection", svd.get_2d_projection_with_sign_correction)
    expected = peer_maps(peer.EigenCAM, model, [layer], images)

    maps = explain(model, images, method="eigencam", layer=layer)

    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_the_sign_of_eigencam_does_not_depend_on_the_linear_algebra(model, images, monkeypatch):
    expected = explain(model, images, method="eigencam")
    svd = torch.linalg.svd

    def other_sign(*args, **kwargs):
        u, s, v = svd(*args, **kwargs)
        return -u, s, -v

    monkeypatch.setattr(torch.linalg, "svd", other_sign)
    np.testing.assert_array_equal(explain(model, images, method="eigencam"), expected)


def test_fullgrad_equals_pytorch_grad_cam(peer, model, images):
    """On a network that the package's FullGrad can do."""
    expected = peer_maps(peer.FullGrad, model, [], images, [0, 1, 2])

    maps = explain(model, images, [0, 1, 2], "fullgrad")

    np.testing.assert_allclose(maps, expected, atol=1e-4)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_several_layers_are_averaged_as_pytorch_grad_cam_does(peer, model, images, method):
    expected = peer_maps(peer_kinds(peer)[method], model, ["first", "last"], images)

    for order in (["first", "last"], ["last", model.first]):
        maps = explain(model, images, method=method, layer=order)
        np.testing.assert_allclose(maps, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet20", "session_resnet"])
def test_gradcam_is_grad_cam(name):
    torch.manual_seed(0)
    model = create_model(name, 5)
    images = torch.randn(2, 3, 32, 32)

    for layer in (None, list(model.stages)[0]):
        expected = grad_cam(model, images, [1, 2], layer)
        np.testing.assert_allclose(explain(model, images, [1, 2], layer=layer), expected, atol=1e-5)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize("name", ["resnet20", "preact_resnet20"])
def test_the_closed_form_is_the_gradient_without_a_backward_pass(name, method, monkeypatch):
    torch.manual_seed(0)
    model = create_model(name, 5)
    images = torch.randn(2, 3, 32, 32)

    with monkeypatch.context() as patch:
        patch.setattr(methods, "_ends_in_mean_and_linear", lambda *_: False)
        expected = explain(model, images, method=method)

    def no_backward(*_, **__):
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.autograd, "grad", no_backward)
    np.testing.assert_allclose(explain(model, images, method=method), expected, atol=1e-5)


def test_a_network_with_max_pooling_has_no_closed_form():
    """There HiResCAM lies on one position of each channel, not on all."""
    model = create_model("session_resnet", 5)
    assert not methods._ends_in_mean_and_linear(model, [model.stage3])


@pytest.mark.parametrize("pooling", [nn.AdaptiveMaxPool2d(1), nn.LPPool2d(2, 8)], ids=str)
def test_another_pooling_put_in_by_hand_has_no_closed_form_either(pooling):
    """Grad-CAM written out takes the gradients as they come."""
    torch.manual_seed(0)
    model = create_model("resnet20", 5).eval()
    model.avgpool = pooling
    images = torch.randn(2, 3, 32, 32)

    expected = grad_cam(model, images, [1, 2])
    np.testing.assert_allclose(explain(model, images, [1, 2]), expected, atol=1e-5)


def test_ablationcam_sets_channels_to_zero_also_where_they_are_negative(images):
    """Pooled and linear, the logit falls by weight times mean; the package puts -10⁷ there."""
    torch.manual_seed(0)
    model = SmallNet().eval()
    model.relu = nn.Identity()
    with torch.no_grad():
        a = model.last(model.first(images))  # of both signs
        drops = model.fc.weight[1] * a.mean((2, 3))  # (B, C)
        cams = F.relu((drops[:, :, None, None] * a).sum(1))  # (B, h, w)
        assert (a.amin((1, 2, 3)) < 0).all() and (cams.amax((1, 2)) > 0).all()

    model.fc.bias.data -= 5  # a logit below zero turns no map over
    maps = explain(model, images, [1] * 3, "ablationcam")

    expected = [peer_enlarged(cam.numpy(), (24, 32)) for cam in cams]
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def peer_enlarged(cam, size):
    image = pytest.importorskip("pytorch_grad_cam.utils.image")
    return image.scale_cam_image(image.scale_cam_image(cam[None], size))[0]


@pytest.mark.parametrize("path", ["definition", "whole", "rows"])
@pytest.mark.parametrize("method", METHODS)
def test_one_picture_gives_its_map_of_the_batch(method, path):
    """A norm's backward pass goes wrong for a batch of one whose gradient has odd strides."""
    torch.manual_seed(0)
    layer = LambdaLayer(8, 8, dim_k=4, heads=2, r=5, path=path)
    model = LambdaNet(nn.Sequential(nn.BatchNorm2d(8), layer, nn.BatchNorm2d(8))).eval()
    model.stages = {"layer": model.layer[0]}  # a lambda layer stands behind it
    images = torch.randn(3, 3, 16, 16)

    together = explain(model, images, [0, 1, 2], method)
    alone = [explain(model, image[None], [i], method) for i, image in enumerate(images)]

    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-4)


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])  # they divide by no sum
@pytest.mark.parametrize("name", ["resnet20", "preact_resnet20", "session_resnet"])
def test_one_picture_gives_its_map_of_the_batch_in_real_networks(name, method):
    """Whatever the strides in which gradients come to a norm."""
    torch.manual_seed(0)
    model = create_model(name, 5)
    images = torch.randn(3, 3, 32, 32)
    layers = list(model.stages)[:2]

    together = explain(model, images, [0, 1, 2], method, layers)
    alone = [explain(model, image[None], [i], method, layers) for i, image in enumerate(images)]

    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-4)


@pytest.mark.parametrize("targets", [None, [4, 0, 1, 2, 3]])
@pytest.mark.parametrize("method", METHODS)
def test_pictures_explained_in_parts_have_the_maps_of_the_whole(
    model, method, targets, monkeypatch
):
    images = torch.randn(5, 3, 32, 24)
    whole = explain(model, images, targets, method)

    monkeypatch.setattr(methods, "PIXELS", 2 * 32 * 24)
    seen = []
    model.first.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    parts = explain(model, images, targets, method)

    np.testing.assert_allclose(parts, whole, atol=1e-4)  # AblationCAM subtracts
    if method in GRADIENT_METHODS:
        assert seen == [2, 2, 1]


def test_a_picture_larger_than_a_part_is_explained_alone(model, monkeypatch):
    images = torch.randn(2, 3, 32, 24)
    whole = explain(model, images)

    monkeypatch.setattr(methods, "PIXELS", 100)

    np.testing.assert_allclose(explain(model, images), whole, atol=1e-5)


def test_a_convolution_called_by_keyword_is_left_alone(model, images):
    class ByKeyword(nn.Conv2d):
        def __call__(self, x):
            return super().__call__(input=x)

    expected = explain(model, images)
    model.first[0].__class__ = ByKeyword

    np.testing.assert_allclose(explain(model, images), expected, atol=1e-5)


# --- FullGrad -----------------------------------------------------------------------------------


def full_terms(model, images, targets):
    terms = []
    logits = full_gradients(model, images.clone(), targets, terms.append)
    return logits, terms


def test_the_terms_are_asked_for_without_a_mark_on_the_pictures(model, images):
    full_gradients(model, images, [0, 1, 2], lambda term: None)
    assert not images.requires_grad and images.grad is None


def test_fullgrad_takes_a_first_layer_that_works_in_place(model, images):
    maps = [
        explain(nn.Sequential(nn.LeakyReLU(0.1, inplace), model), images, [0, 1, 2], "fullgrad")
        for inplace in (False, True)
    ]
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize("kind", [SmallNet, Shuffled])
def test_input_and_biases_add_up_to_the_logit(kind, images):
    torch.manual_seed(0)
    model = kind().eval()

    logits, terms = full_terms(model, images, [0, 1, 2])

    found = sum(term.sum((1, 2, 3)) for term in terms) + model.fc.bias[:3]
    torch.testing.assert_close(found, logits[range(3), range(3)])


def test_norms_without_weights_have_a_bias_too(images):
    torch.manual_seed(0)
    model = SmallNet().eval()
    plain = nn.BatchNorm2d(8, affine=False)
    plain.running_mean.fill_(0.5)
    model.last[1] = plain.eval()

    logits, terms = full_terms(model, images, [0, 1, 2])

    found = sum(term.sum((1, 2, 3)) for term in terms) + model.fc.bias[:3]
    torch.testing.assert_close(found, logits[range(3), range(3)])


def test_fullgrad_does_not_depend_on_the_order_of_registration(model, images):
    shuffled = Shuffled().eval()
    shuffled.load_state_dict(model.state_dict(), strict=False)

    maps = explain(shuffled, images, [0, 1, 2], "fullgrad")

    np.testing.assert_allclose(maps, explain(model, images, [0, 1, 2], "fullgrad"), atol=1e-5)


def test_fullgrad_sees_biases_in_front_of_an_in_place_relu(model, images):
    in_place = SmallNet(inplace=True).eval()
    in_place.load_state_dict(model.state_dict())

    maps = explain(in_place, images, [0, 1, 2], "fullgrad")

    np.testing.assert_array_equal(maps, explain(model, images, [0, 1, 2], "fullgrad"))


class Beside(SmallNet):
    """With a convolution that sees nothing of the picture."""

    def __init__(self):
        super().__init__()
        self.beside = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        return super().forward(x) + self.beside(torch.ones(1, 8, 2, 2)).mean()


def test_fullgrad_passes_over_a_layer_that_sees_nothing_of_the_picture(model, images):
    beside = Beside().eval().requires_grad_(False)
    beside.load_state_dict(model.state_dict(), strict=False)

    maps = explain(beside, images, [0, 1, 2], "fullgrad")

    np.testing.assert_allclose(maps, explain(model, images, [0, 1, 2], "fullgrad"), atol=1e-5)


class OpenLambda(LambdaLayer):
    """The definition, with a zero added to each position's lambda where the bias is added."""

    def position_lambdas(self, v):
        self.zero = v.new_zeros(len(v), self.dim_k, 1, *v.shape[-2:]).requires_grad_()
        return super().position_lambdas(v) + self.zero


@pytest.mark.parametrize("path", ["definition", "whole", "rows"])
def test_fullgrad_counts_the_biases_of_a_lambda_layer(path):
    torch.manual_seed(0)
    sizes = {"dim_k": 4, "heads": 2, "r": 5}
    layer = OpenLambda(8, 8, path="definition", **sizes)
    nn.init.normal_(layer.pos_conv.bias)
    model = LambdaNet(layer).eval()
    images = torch.randn(2, 3, 12, 8)

    model(images)[:, 1].sum().backward()  # by position: the gradient of a bias that is zero there
    expected = layer.zero.grad.squeeze(2) * layer.pos_conv.bias.detach()[:, None, None]

    model.layer = LambdaLayer(8, 8, path=path, **sizes).eval()
    model.layer.load_state_dict(layer.state_dict())
    _, terms = full_terms(model, images, [1, 1])

    assert len(terms) == 5  # conv, norm of queries, norm of values, position, input
    term = next(term for term in terms if term.shape[1] == 4)
    torch.testing.assert_close(term, expected, rtol=1e-4, atol=1e-6)


def test_the_biases_of_a_lambda_layer_change_the_map():
    torch.manual_seed(0)
    model = LambdaNet(LambdaLayer(8, 8, dim_k=4, heads=2, r=5)).eval()
    images = torch.randn(2, 3, 12, 8)
    model.layer.pos_conv.bias.data.fill_(1)
    before = explain(model, images, [1, 1], "fullgrad")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("course_lib.explain.full_grad.LambdaLayer", nn.Bilinear)  # as if unknown
        unknown = explain(model, images, [1, 1], "fullgrad")

    assert np.abs(before - unknown).max() > 1e-3


# --- pytorch-grad-cam's traps -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_in_place_step_behind_the_layer_does_not_change_the_map(model, images, method):
    in_place = SmallNet(inplace=True).eval()
    in_place.load_state_dict(model.state_dict())

    maps = explain(in_place, images, [0, 1, 2], method)

    np.testing.assert_array_equal(maps, explain(model, images, [0, 1, 2], method))


@pytest.mark.parametrize("method", METHODS)
def test_a_class_that_the_model_does_not_have_is_an_index_error(model, images, method):
    with pytest.raises(IndexError, match="classes 0..4"):
        explain(model, images, [0, 1, 5], method)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_targets_are_an_error(model, images, method):
    with pytest.raises(CourseError, match="expected 3 class indices, one for each picture"):
        explain(model, images, [0, 1], method)


@pytest.mark.parametrize("targets", ["cat", ["cat", "dog", "cat"], [[0], [1, 2], [3]], 1])
def test_targets_that_are_no_row_of_classes_are_an_error(model, images, targets):
    with pytest.raises(CourseError, match="targets: expected .*class indices"):
        explain(model, images, targets)
    with pytest.raises(CourseError, match="targets: expected .*class indices"):
        grad_cam(model, images, targets)


@pytest.mark.parametrize("method", METHODS)
def test_works_on_a_frozen_model_and_inside_no_grad(model, images, method):
    expected = explain(model, images, method=method)

    model.requires_grad_(False)
    with torch.inference_mode():
        maps = explain(model, images + 0, method=method)

    np.testing.assert_array_equal(maps, expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_runs_in_fp32_inside_autocast(model, images, method):
    expected = explain(model, images, method=method)

    with torch.autocast("cpu", torch.bfloat16):
        maps = explain(model, images, method=method)

    np.testing.assert_array_equal(maps, expected)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_weights_are_an_error(model, images, method):
    with pytest.raises(CourseError, match="bfloat16"):
        explain(model.bfloat16(), images, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_every_map_can_be_laid_over_a_white_picture(model, images, method):
    """No rounding lifts a pixel past 1."""
    pytest.importorskip("matplotlib")
    for cam in explain(model, images, method=method):
        assert overlay(np.full((32, 24, 3), 255, np.uint8), cam).dtype == np.uint8


@pytest.mark.parametrize("method", sorted({*METHODS} - {"scorecam"}))  # it makes its masks so
def test_a_batch_is_resized_as_a_whole(model, method, monkeypatch):
    calls = []
    interpolate = F.interpolate

    def counting(*args, **kwargs):
        calls[-1] += 1
        return interpolate(*args, **kwargs)

    monkeypatch.setattr(F, "interpolate", counting)
    for count in (1, 6):
        calls.append(0)
        explain(model, torch.randn(count, 3, 32, 32), method=method)

    assert calls[0] == calls[1] > 0


@pytest.mark.parametrize("method", METHODS)
def test_only_the_maps_are_copied_to_the_cpu(model, images, method, copied_to_cpu):
    """Not activations and gradients, which are larger by the number of channels."""
    explain(model, images, method=method)

    assert copied_to_cpu == [(3, 32, 24)]


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made inside."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves(made) if isinstance(each, torch.Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return made


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "fullgrad"])
def test_memory_does_not_grow_with_channels_times_pixels(method):
    """ScoreCAM's masked pictures, all at once, would be 512 · 3 · 32 · 32 numbers for each."""
    torch.manual_seed(0)
    model = SmallNet(channels=512).eval()

    with Largest() as largest:
        explain(model, torch.randn(2, 3, 32, 32), method=method)

    assert largest.elements <= 33 * 512 * 8 * 8 < 512 * 3 * 32 * 32


def test_no_progress_bars(model, images, capfd):
    for method in METHODS:
        explain(model, images, method=method)
    assert capfd.readouterr() == ("", "")


# --- what it leaves behind ----------------------------------------------------------------------


def state_of(model):
    """All that a call could change."""
    tensors = [*model.parameters(), *model.buffers()]
    gradients = [parameter.grad for parameter in model.parameters()]
    return {
        "modules": [id(module) for module in model.modules()],
        "modes": [module.training for module in model.modules()],
        "tensors": [(id(tensor), tensor.tolist()) for tensor in tensors],
        "frozen": [not parameter.requires_grad for parameter in model.parameters()],
        "gradients": [None if g is None else (id(g), g.tolist()) for g in gradients],
        "hooks": [
            len(each)
            for module in model.modules()
            for each in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        ],
        "recording": torch.is_grad_enabled(),
        "random": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("targets", [[0, 1, 2], [0, 1, 5]], ids=["success", "error"])
@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_found(model, images, method, targets):
    model.train()
    model.first[1].eval()  # a mixed state: one norm is frozen
    model.last[0].bias.requires_grad_(False)
    model(images).sum().backward()
    model.fc.bias.grad = None
    before = state_of(model)

    try:
        explain(model, images, targets, method)
    except IndexError as error:
        assert state_of(model) == before, error  # held on to: nothing is left to the collector

    assert state_of(model) == before


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_found_when_a_later_pass_stops(model, images, method, stop):
    before = state_of(model.train())
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == (2 if method in ("scorecam", "ablationcam") else 1):
            raise stop("in the middle")

    with model.fc.register_forward_pre_hook(fail):
        with pytest.raises(stop, match="in the middle") as error:
            explain(model, images, method=method)

    assert state_of(model) == before, error


def test_the_pictures_are_not_touched(model, images):
    kept = images.clone()
    for method in METHODS:
        explain(model, images, method=method)
    assert torch.equal(images, kept) and not images.requires_grad and images.grad is None


def test_nothing_is_recorded_in_front_of_the_layer(model, images):
    recorded = []
    model.first.register_forward_hook(lambda *call: recorded.append(call[-1].requires_grad))

    explain(model, images, layer="last")

    assert recorded == [False]


# --- every network, every device ----------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_layer_need_not_be_named(method):
    torch.manual_seed(0)
    model = create_model("resnet20", 5)
    assert_maps(explain(model, torch.randn(2, 3, 32, 32), method=method), (2, 32, 32))


@SLOW
@pytest.mark.parametrize("name", list_models())
def test_runs_for_every_network(name):
    torch.manual_seed(0)
    model = create_model(name, 5)
    images = torch.randn(4, 3, 32, 32)
    see_once(model, images)

    for method in ("layercam", "eigencam", "fullgrad"):
        assert_maps(explain(model, images[:2], method=method), (2, 32, 32))


@SLOW
@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
@pytest.mark.parametrize("name", ["session_resnet", "se_resnet18", "lambda_resnet18"])
def test_methods_of_many_passes_run_for_wide_networks(name, method):
    torch.manual_seed(0)
    model = create_model(name, 5)
    images = torch.randn(4, 3, 32, 32)
    see_once(model, images)

    assert_maps(explain(model, images[:1], method=method), (1, 32, 32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_gives_the_maps_of_the_cpu(model, images, method):
    expected = explain(model, images, [0, 1, 2], method)
    maps = explain(model.cuda(), images, [0, 1, 2], method)
    np.testing.assert_allclose(maps, expected, atol=1e-3)


# --- errors with a cure -------------------------------------------------------------------------


def test_an_unknown_method_names_the_nearest(model, images):
    with pytest.raises(CourseError, match="unknown method 'grad_cam'.* gradcam"):
        explain(model, images, method="grad_cam")


def test_an_unknown_layer_lists_the_names(model, images):
    with pytest.raises(CourseError, match="unknown name 'layer4', expected one of first, last"):
        explain(model, images, method="layercam", layer=["first", "layer4"])


def test_no_layer_at_all_is_an_error(model, images):
    with pytest.raises(CourseError, match="at least one name or module"):
        explain(model, images, layer=[])


def test_fullgrad_takes_no_layer(model, images):
    with pytest.raises(CourseError, match="fullgrad looks at all layers"):
        explain(model, images, method="fullgrad", layer="last")


@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_spatial_maps_is_an_error(images, method):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 24, 5))
    layer = None if method == "fullgrad" else flat[1]
    with pytest.raises(CourseError, match=r"\(B, C, h, w\)"):
        explain(flat, images, method=method, layer=layer)


def test_a_model_without_stages_asks_for_a_module(images):
    with pytest.raises(CourseError, match="Sequential has no dict `stages`"):
        explain(nn.Sequential(nn.Conv2d(3, 3, 1)), images)


def test_a_dict_of_stages_without_one_asks_for_a_module(model, images):
    class NoStage(SmallNet):
        stages = {}

    with pytest.raises(CourseError, match="NoStage has no dict `stages` with a layer in it"):
        explain(NoStage().eval(), images)


@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_are_not_finite_are_an_error(model, images, method):
    with torch.no_grad():
        model.first[0].weight[0] = torch.nan
    with pytest.raises(CourseError, match="gives NaN or infinity"):
        explain(model, images, method=method)
