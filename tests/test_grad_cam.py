"""Grad-CAM beside the closed form, autograd and pytorch-grad-cam; and what it leaves behind."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from course_lib.explain import grad_cam, overlay
from course_lib.files import CourseError
from course_lib.models import LambdaLayer, create_model, list_models


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


# --- what the maps are --------------------------------------------------------------------------


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("session_resnet", {}),
        ("resnet18", {}),
        ("resnet20", {}),
        pytest.param("resnet50", {}, marks=SLOW),
        ("preact_resnet18", {}),
        ("wide_resnet16", {"width": 2}),
        ("se_resnet18", {}),
        ("lambda_resnet18", {}),
    ],
)
def test_equals_pytorch_grad_cam_at_every_stage(name, options):
    peer = pytest.importorskip("pytorch_grad_cam")
    torch.manual_seed(0)
    model = create_model(name, 5, **options).eval()
    images = torch.randn(2, 3, 48, 32)

    maps = {stage: grad_cam(model, images, layer=stage) for stage in model.stages}

    expected = peer_maps(peer, model, images)

    assert maps.keys() == expected.keys()
    for stage in expected:
        assert expected[stage].max() > 0.99, "nothing to compare: an empty map"
        np.testing.assert_allclose(maps[stage], expected[stage], atol=1e-5)


def peer_maps(peer, model, images):
    for module in model.modules():  # the package reads what an in-place step has overwritten
        if hasattr(module, "inplace"):
            module.inplace = False

    model.requires_grad_(False)  # the package asks for all gradients there are
    images = images.clone().requires_grad_()
    return {
        stage: peer.GradCAM(model, [layer])(images, None) for stage, layer in model.stages.items()
    }


def see_once(model, images):
    """Statistics for the norms: without any, a deep lambda network overflows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = 1.0

    with torch.no_grad():
        model(images)


@SLOW
@pytest.mark.parametrize("name", list_models())
def test_runs_for_every_network(name):
    torch.manual_seed(0)
    model = create_model(name, 5)
    images = torch.randn(8, 3, 32, 32)
    see_once(model, images)

    maps = grad_cam(model, images[:2])

    assert maps.shape == (2, 32, 32) and maps.dtype == np.float32
    assert 0 <= maps.min() and maps.max() <= 1
    assert model.training


def test_equals_the_closed_form_at_the_last_block_of_resnet18():
    torch.manual_seed(0)
    model = resnet18(num_classes=7).eval()
    images = torch.randn(4, 3, 64, 64)
    features = nn.Sequential(*list(model.children())[:-2])(images)
    targets = torch.tensor([0, 3, 6, 3])

    maps = grad_cam(model, images, targets, layer=model.layer4)

    expected = closed_form(features, model.fc.weight[targets], 64)
    assert maps.shape == (4, 64, 64) and maps.dtype == np.float32
    assert (maps.max((1, 2)) > 0.99).sum() >= 2  # not all of them empty
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_equals_autograd_in_the_middle_of_the_network(model, images):
    activations = model.first(images).detach().requires_grad_()
    score = model.fc(model.relu(model.last(activations)).mean((2, 3)))[:, 2].sum()
    (gradients,) = torch.autograd.grad(score, activations)
    expected = F.relu((gradients.mean((2, 3), keepdim=True) * activations).sum(1))

    maps = grad_cam(model, images, [2, 2, 2], "first")

    np.testing.assert_allclose(maps, enlarged(expected, 32), atol=1e-4)


@pytest.mark.parametrize("path", [None, "definition", "whole"])
def test_one_picture_gives_its_map_of_the_batch(images, path):
    """On CPUs the backward pass of a norm goes wrong for a batch of one, where strides are odd."""
    torch.manual_seed(0)
    model = create_model("lambda_resnet18", 5).eval()
    for module in model.modules():
        if isinstance(module, LambdaLayer):
            module.path = path
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # no branch is shut, as at the start of a training

    together = grad_cam(model, images, layer="layer2")  # lambda layers stand behind it
    alone = [grad_cam(model, image[None], layer="layer2") for image in images]

    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-4)


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


# --- targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [[1], [1, 2, 3, 4], 1, [[1, 2, 3]], []])
def test_wrong_number_of_targets_is_an_error(model, images, targets):
    with pytest.raises(CourseError, match="expected 3 class indices, one for each picture"):
        grad_cam(model, images, targets)


@pytest.mark.parametrize("targets", [[0.0, 1.0, 2.0], [True, False, True], [0, -1, 2]])
def test_targets_that_are_no_class_indices_are_an_error(model, images, targets):
    with pytest.raises(CourseError, match="whole numbers from 0 on"):
        grad_cam(model, images, targets)


def test_a_class_that_the_model_does_not_have_is_an_index_error(model, images):
    with pytest.raises(IndexError, match="classes 0..4"):
        grad_cam(model, images, [0, 1, 5])


# --- where it is called -------------------------------------------------------------------------


def test_an_in_place_step_behind_the_layer_does_not_change_the_map(images):
    torch.manual_seed(0)
    plain = SmallNet().eval()
    in_place = SmallNet(inplace=True).eval()
    in_place.load_state_dict(plain.state_dict())

    maps = grad_cam(in_place, images, [0, 1, 2])

    np.testing.assert_array_equal(maps, grad_cam(plain, images, [0, 1, 2]))


def test_runs_in_fp32_inside_autocast(model, images):
    expected = grad_cam(model, images, [0, 1, 2])

    with torch.autocast("cpu", torch.bfloat16):
        maps = grad_cam(model, images, [0, 1, 2])

    np.testing.assert_array_equal(maps, expected)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_switched_off(model, images, context):
    expected = grad_cam(model, images)

    with context():
        maps = grad_cam(model, images + 0)
        assert not torch.is_grad_enabled()

    np.testing.assert_array_equal(maps, expected)
    assert torch.is_grad_enabled()


def test_works_on_a_frozen_model_and_leaves_it_frozen(model, images):
    expected = grad_cam(model, images)

    model.requires_grad_(False)
    maps = grad_cam(model, images)

    np.testing.assert_array_equal(maps, expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_nothing_is_recorded_in_front_of_the_layer(model, images):
    """So that a map of the last stage costs the memory of the last stage."""
    recorded = []
    model.first.register_forward_hook(lambda *call: recorded.append(call[-1].requires_grad))

    grad_cam(model, images, layer="last")

    assert recorded == [False]


def test_only_the_maps_are_copied_to_the_cpu(model, images, copied_to_cpu):
    grad_cam(model, images, layer="first")

    assert copied_to_cpu == [(3, 32, 32)]


# --- what it leaves behind ----------------------------------------------------------------------


def state_of(model):
    """All that a call could change: modes, buffers, frozen or not, gradients and their values."""
    gradients = [parameter.grad for parameter in model.parameters()]
    return {
        "modes": [module.training for module in model.modules()],
        "buffers": [buffer.tolist() for buffer in model.buffers()],
        "frozen": [not parameter.requires_grad for parameter in model.parameters()],
        "gradients": [id(gradient) for gradient in gradients],
        "values": [None if gradient is None else gradient.tolist() for gradient in gradients],
        "hooks": hook_count(model),
        "recording": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("targets", [[0, 1, 2], [0, 1, 5]], ids=["success", "error"])
def test_model_and_gradients_are_left_as_found(model, images, targets):
    model.train()
    model.first[1].eval()  # a mixed state: one norm is frozen
    model.last.bias.requires_grad_(False)
    model(images).sum().backward()
    model.fc.bias.grad = None
    before = state_of(model)

    try:
        grad_cam(model, images, targets)
    except IndexError as error:
        assert state_of(model) == before, error  # held on to: nothing is left to the collector

    assert state_of(model) == before


def test_model_is_left_as_found_when_the_forward_pass_fails(model):
    before = state_of(model.train())

    with pytest.raises(RuntimeError, match="channels") as error:
        grad_cam(model, torch.randn(2, 4, 32, 32))

    assert state_of(model) == before, error


def test_model_is_left_as_found_when_the_layer_does_not_fit(images):
    torch.manual_seed(0)
    model = resnet18(num_classes=5).train()
    before = state_of(model)

    with pytest.raises(CourseError, match="runs 2 times"):
        grad_cam(model, images, layer=model.layer1[0].relu)

    assert state_of(model) == before


def test_the_pictures_are_not_touched(model, images):
    kept = images.clone()
    grad_cam(model, images)
    assert torch.equal(images, kept) and not images.requires_grad and images.grad is None


# --- maps that are the same everywhere ----------------------------------------------------------


class OneNumber(nn.Module):
    """A map of 1×1, or of ``side``, whose value is the first logit; the second is its negative."""

    def __init__(self, value, side=1):
        super().__init__()
        self.value = value
        self.pool = nn.AdaptiveAvgPool2d(side)

    def forward(self, x):
        x = self.pool(torch.full_like(x[:, :1], self.value))  # (B, 1, side, side)
        y = x.mean((1, 2, 3))
        return torch.stack([y, -y], dim=1)


@pytest.mark.parametrize("value", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("side", [1, 3])
def test_evidence_that_lies_everywhere_is_one_everywhere(side, value):
    """Also without a single parameter."""
    model = OneNumber(value, side)
    x = torch.rand(2, 3, 8, 7)

    found = grad_cam(model, x, targets=[0, 1], layer=model.pool)

    assert (found[0] == 1).all(), "for the first class"
    assert (found[1] == 0).all(), "against the second"


def test_a_network_whose_last_map_is_one_pixel_has_a_map():
    torch.manual_seed(0)
    model = create_model("resnet18", 5).eval()
    images = torch.randn(4, 3, 32, 32)
    assert model.features(images).shape[2:] == (1, 1)

    found = grad_cam(model, images)

    # At 1×1 the evidence is the class's weights times the pooled features.
    with torch.no_grad():
        features = model.embed(images)
        classes = model(images).argmax(1)
        evidence = (model.fc.weight[classes] * features).sum(1)
    expected = np.broadcast_to((evidence > 0).numpy()[:, None, None], found.shape)
    assert (evidence > 0).any()
    np.testing.assert_array_equal(found, expected)


# --- errors with a cure -------------------------------------------------------------------------


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


def test_a_list_of_layers_as_the_peer_takes_it_is_refused_in_words(model, images):
    with pytest.raises(CourseError, match="expected a name or one module, got list"):
        grad_cam(model, images, layer=[model.stages["last"]])


def test_numbers_that_are_not_finite_are_an_error_and_no_map(model, images):
    with torch.no_grad():
        model.fc.weight[0] = torch.nan
    with pytest.raises(CourseError, match="gives NaN or infinity"):
        grad_cam(model, images)


def test_pictures_that_are_not_finite_are_an_error_too(model, images):
    images[0, 0, 0, 0] = torch.inf
    with pytest.raises(CourseError, match="gives NaN or infinity"):
        grad_cam(model, images)


# --- overlay ------------------------------------------------------------------------------------


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
