"""Grad-CAM: the closed form as oracle, and one test for each trap of the library behind it."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from course_lib.explain import grad_cam, overlay
from course_lib.files import CourseError
from course_lib.models import create_model


class SmallNet(nn.Module):
    """Two convolutions, global average pooling, one linear layer; ``inplace``: the last ReLU."""

    def __init__(self, classes=5, inplace=False):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.last = nn.Conv2d(6, 8, 3, 2, 1)
        self.relu = nn.ReLU(inplace)
        self.fc = nn.Linear(8, classes)

    @property
    def stages(self):
        return {"first": self.first, "last": self.last}

    def features(self, x):
        return self.relu(self.last(self.first(x)))

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SmallNet().eval()


def stretch(maps):
    """Each map of (B, h, w) to 0..1."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)


def enlarged(maps, size):
    """Maps (B, h, w), before scaling, as grad_cam gives them: (B, size, size) in 0..1."""
    maps = F.interpolate(stretch(maps)[:, None], size=(size, size), mode="bilinear")[:, 0]
    return stretch(maps).detach().numpy()


def closed_form(activations, class_weights, size):
    """ReLU(class weights · activations). (B, C, h, w) and (B, C) → (B, size, size)."""
    return enlarged(F.relu(torch.einsum("bchw,bc->bhw", activations, class_weights)), size)


def hook_count(model):
    return sum(len(module._forward_hooks) for module in model.modules())


# What the maps are


def test_equals_the_closed_form_at_the_last_block_of_resnet18():
    torch.manual_seed(0)
    model = resnet18(num_classes=7).eval()
    images = torch.randn(4, 3, 64, 64)
    features = nn.Sequential(*list(model.children())[:-2])(images)
    targets = torch.tensor([0, 3, 6, 3])
    expected = closed_form(features, model.fc.weight[targets], 64)
    maps = grad_cam(model, images, targets, layer=model.layer4)
    assert maps.shape == (4, 64, 64) and maps.dtype == np.float32
    assert (maps.max((1, 2)) > 0.99).sum() >= 2  # not all of them empty
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_equals_autograd_in_the_middle_of_the_network(model, images):
    activations = model.first(images).detach().requires_grad_()
    score = model.fc(model.relu(model.last(activations)).mean((2, 3)))[:, 2].sum()
    (gradients,) = torch.autograd.grad(score, activations)
    expected = F.relu((gradients.mean((2, 3), keepdim=True) * activations).sum(1))
    np.testing.assert_allclose(
        grad_cam(model, images, [2, 2, 2], "first"), enlarged(expected, 32), atol=1e-4
    )


def test_predicted_class_is_the_default_target(model, images):
    predicted = model(images).argmax(1)
    np.testing.assert_array_equal(grad_cam(model, images), grad_cam(model, images, predicted))


def test_last_stage_is_the_default_layer(model, images):
    by_default = grad_cam(model, images)
    np.testing.assert_array_equal(by_default, grad_cam(model, images, layer="last"))
    np.testing.assert_array_equal(by_default, grad_cam(model, images, layer=model.last))
    assert not np.array_equal(by_default, grad_cam(model, images, layer="first"))


def test_a_picture_that_is_not_square_keeps_its_shape(model):
    maps = grad_cam(model, torch.randn(2, 3, 24, 40))
    assert maps.shape == (2, 24, 40)
    assert maps.min() >= 0 and maps.max() <= 1


def test_targets_may_be_a_list_an_array_or_a_tensor(model, images):
    forms = [4, 0, 1], np.array([4, 0, 1]), torch.tensor([4, 0, 1], dtype=torch.int32)
    first, *others = [grad_cam(model, images, form) for form in forms]
    for other in others:
        np.testing.assert_array_equal(first, other)


# The traps of the library


@pytest.mark.parametrize("targets", [[1], [1, 2, 3, 4], 1, [[1, 2, 3]], []])
def test_wrong_number_of_targets_is_an_error(model, images, targets):
    with pytest.raises(CourseError, match="expected 3 class indices, one for each picture"):
        grad_cam(model, images, targets)


@pytest.mark.parametrize("targets", [[0.0, 1.0, 2.0], [True, False, True], [0, -1, 2]])
def test_targets_that_are_no_class_indices_are_an_error(model, images, targets):
    with pytest.raises(CourseError, match="whole numbers from 0 on"):
        grad_cam(model, images, targets)


def test_index_error_is_not_swallowed(model, images):
    with pytest.raises(IndexError) as error:
        grad_cam(model, images, [0, 1, 5])  # five classes: 0..4
    assert hook_count(model) == 0, error


def test_an_in_place_step_behind_the_layer_does_not_change_the_map(images):
    torch.manual_seed(0)
    plain = SmallNet().eval()
    in_place = SmallNet(inplace=True).eval()
    in_place.load_state_dict(plain.state_dict())
    targets = [0, 1, 2]
    np.testing.assert_array_equal(
        grad_cam(in_place, images, targets), grad_cam(plain, images, targets)
    )


def test_runs_in_fp32_inside_autocast(model, images):
    expected = grad_cam(model, images, [0, 1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(grad_cam(model, images, [0, 1, 2]), expected)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_switched_off(model, images, context):
    expected = grad_cam(model, images)
    with context():
        np.testing.assert_array_equal(grad_cam(model, images + 0), expected)


def test_works_on_a_frozen_model_and_leaves_it_frozen(model, images):
    expected = grad_cam(model, images)
    model.requires_grad_(False)
    np.testing.assert_array_equal(grad_cam(model, images), expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def snapshot(model):
    return [module.training for module in model.modules()], [
        (
            parameter.requires_grad,
            parameter.grad,
            None if parameter.grad is None else parameter.grad.clone(),
        )
        for parameter in model.parameters()
    ]


def assert_unchanged(model, before):
    modes, states = snapshot(model)
    assert modes == before[0]
    for (needs, grad, values), (needed, old_grad, old_values) in zip(
        states, before[1], strict=True
    ):
        assert needs == needed
        assert grad is old_grad
        assert values is old_values is None or torch.equal(values, old_values)


@pytest.mark.parametrize("targets", [[0, 1, 2], [0, 1, 5]], ids=["success", "error"])
def test_modes_gradients_buffers_and_hooks_are_left_as_found(model, images, targets):
    model.train()
    model.first[1].eval()  # a mixed state: one norm is frozen
    model.last.bias.requires_grad_(False)
    model(images).sum().backward()
    model.fc.bias.grad = None
    before, buffers = snapshot(model), [buffer.clone() for buffer in model.buffers()]
    try:
        grad_cam(model, images, targets)
    except IndexError:
        assert targets == [0, 1, 5]
    assert_unchanged(model, before)
    assert all(map(torch.equal, model.buffers(), buffers))
    assert hook_count(model) == 0


def test_hooks_are_removed_when_the_forward_pass_fails(model):
    with pytest.raises(
        RuntimeError
    ) as error:  # held on to: nothing is left to the garbage collector
        grad_cam(model, torch.randn(2, 4, 32, 32))
    assert "channels" in str(error.value)
    assert hook_count(model) == 0
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_pictures_are_not_touched(model, images):
    kept = images.clone()
    grad_cam(model, images)
    assert torch.equal(images, kept) and not images.requires_grad and images.grad is None


# Errors with a cure


def test_unknown_stage_lists_the_names(model, images):
    with pytest.raises(CourseError, match="unknown name 'layer4', expected one of first, last"):
        grad_cam(model, images, layer="layer4")


def test_model_without_stages_asks_for_a_module(images):
    with pytest.raises(CourseError, match="Sequential has no dict `stages`"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 3, 1)), images)


def test_foreign_layer_is_an_error(model, images):
    with pytest.raises(CourseError, match="not a part of the model"):
        grad_cam(model, images, layer=nn.Conv2d(3, 3, 1))


def test_layer_without_a_map_is_an_error(model, images):
    with pytest.raises(CourseError, match=r"this Linear gives \(3, 5\)"):
        grad_cam(model, images, layer=model.fc)


def test_layer_that_never_runs_is_an_error(images):
    """A lambda layer reads the weights of its convolutions, and does not call them."""
    torch.manual_seed(0)
    model = create_model("lambda_resnet18", 5).eval()
    with pytest.raises(CourseError, match="this Conv2d runs 0 times"):
        grad_cam(model, images, layer=model.layer4[1].conv2.to_v)


def test_layer_that_runs_twice_is_an_error(images):
    torch.manual_seed(0)
    model = resnet18(num_classes=5).eval()
    with pytest.raises(CourseError, match="runs 2 times"):
        grad_cam(model, images, layer=model.layer1[0].relu)
    assert hook_count(model) == 0


@pytest.mark.parametrize(
    "bad",
    [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8), torch.zeros(0, 3, 8, 8)],
)
def test_pictures_of_the_wrong_kind_are_an_error(model, bad):
    with pytest.raises(CourseError, match="expected normalised float"):
        grad_cam(model, bad)


def test_half_precision_weights_are_an_error(model, images):
    with pytest.raises(CourseError, match="bfloat16"):
        grad_cam(model.bfloat16(), images)


def test_missing_library_names_the_pip_command(model, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(CourseError, match="pip install grad-cam==1.5.7"):
        grad_cam(model, images)


# Overlay


def test_overlay_mixes_picture_and_viridis():
    matplotlib = pytest.importorskip("matplotlib")
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    cam = np.linspace(0, 1, 48, dtype=np.float32).reshape(8, 6)
    viridis = matplotlib.colormaps["viridis"](cam, bytes=True)[..., :3]
    mixed = overlay(image, cam, alpha=0.25)
    assert mixed.dtype == np.uint8
    np.testing.assert_array_equal(overlay(image, cam, alpha=0), image)
    assert np.abs(overlay(image, cam, alpha=1).astype(int) - viridis).max() <= 1
    assert np.abs(mixed - (0.75 * image + 0.25 * viridis)).max() <= 1


def test_overlay_does_not_wrap_around_on_a_white_picture():
    white = np.full((4, 4, 3), 255, np.uint8)
    cam = np.ones((4, 4), np.float32)
    brightest = overlay(white, cam)
    assert (brightest[..., :2] > 200).all()  # yellow and white: an overflow would turn it dark


@pytest.mark.parametrize(
    ("image", "cam", "alpha", "words"),
    [
        (np.zeros((4, 4, 3)), np.zeros((4, 4)), 0.5, "expected uint8"),
        (np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4)), 0.5, "expected uint8"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((2, 2)), 0.5, "the shape of the picture"),
        (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 1.5), 0.5, "cam: expected values in 0..1"),
        (
            np.zeros((4, 4, 3), np.uint8),
            np.full((4, 4), np.nan),
            0.5,
            "cam: expected values in 0..1",
        ),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), 2.0, "alpha: expected values in 0..1"),
    ],
)
def test_overlay_refuses_what_it_cannot_draw(image, cam, alpha, words):
    with pytest.raises(CourseError, match=words):
        overlay(image, cam, alpha)
