"""The exercise checkers: right answers pass, each usual mistake is refused with its cause."""

import copy
import importlib
import math
import pkgutil
import re
import sys

import answers
import numpy as np
import pytest
import torch
from answers import RIGHT, WRONG
from torch import nn

from course_lib import explain
from course_lib.exercises import (
    EXERCISES,
    _by_name,
    exercise,
    is_yours,
    session4,
    session5,
    whose,
)
from course_lib.exercises.checker import WIDTH, check
from course_lib.exercises.session1 import (
    ResidualBlock,
    accuracy,
    block_parameters,
    conv_cost,
    receptive_field,
    resnet,
    shortcut_a,
    training_step,
)
from course_lib.exercises.session2 import (
    grad_cam_map,
    one_cycle_lr,
    pad_crop,
    top_k_accuracy,
    weight_decay_groups,
)
from course_lib.exercises.session3 import (
    cycle_momentum,
    plateau,
    range_rates,
    sgd_step,
    smooth,
    steepest,
    take_off_lag,
)
from course_lib.exercises.session4 import (
    content_lambda,
    generalized_cross_entropy,
    keep_epoch,
    lambda_parameters,
    noisy_labels,
    position_lambdas,
    standard_error,
)
from course_lib.exercises.session5 import (
    channel_weights,
    class_activation_map,
    deletion,
    energy_in_box,
    grad_cam_maps,
    iou,
    pointing_game,
    stretch,
)
from course_lib.explain.grad_cam import stretch as library_stretch
from course_lib.files import CourseError
from course_lib.models import LambdaLayer
from course_lib.models.blocks import Bottleneck
from course_lib.training import GeneralizedCrossEntropy, lr_finder

for _module in pkgutil.iter_modules(answers.__path__):
    importlib.import_module(f"answers.{_module.name}")


# --- the references, against other implementations ----------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_conv_cost_is_that_of_a_layer(kernel, stride):
    layer = nn.Conv2d(5, 6, kernel, stride, padding=kernel // 2, bias=False)
    height, width = layer(torch.zeros(1, 5, 11, 8)).shape[2:]

    weights = layer.weight.numel()

    assert conv_cost(5, 6, kernel, stride, 11, 8) == (weights, weights * height * width)


def test_conv_cost_of_the_stem_at_224_px():
    assert conv_cost(3, 64, 7, 2, 224, 224) == (9_408, 118_013_952)  # 64 · 3 · 49, times 112²


def test_training_step_by_the_gradient_on_paper():
    """Of softmax regression: (softmax(Wx) - one-hot) xᵀ, a mean over the batch."""
    x, labels = torch.randn(4, 1, 1, 3), torch.tensor([0, 1, 1, 0])
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False)).eval()
    weight = model[1].weight.detach().clone()
    model[1].weight.grad = torch.ones(2, 3)  # left over

    loss = training_step(model, torch.optim.SGD(model.parameters(), lr=0.5), x, labels)

    x = x.flatten(1)
    chances = (x @ weight.T).softmax(dim=1)
    gradient = (chances - nn.functional.one_hot(labels, 2)).T @ x / 4
    torch.testing.assert_close(model[1].weight.detach(), weight - 0.5 * gradient)
    assert loss == pytest.approx(-chances[range(4), labels].log().mean().item())
    assert model.training


def test_accuracy_by_arithmetic():
    logits = torch.eye(3)[[0, 1, 2, 0]]  # (4, 3)
    batches = [(logits, torch.tensor([0, 1, 2, 2])), (logits[:1], torch.tensor([1]))]

    for model in (nn.Sequential(), nn.Sequential().eval()):
        before = model.training
        assert accuracy(model, batches) == 3 / 5
        assert model.training == before


@pytest.mark.parametrize(("in_channels", "channels", "stride"), [(4, 4, 1), (4, 6, 1), (4, 4, 2)])
def test_residual_block_is_torchvisions(in_channels, channels, stride):
    theirs = pytest.importorskip("torchvision").models.resnet.BasicBlock(
        in_channels,
        channels,
        stride,
        downsample=ResidualBlock(in_channels, channels, stride).downsample,
    )
    ours = ResidualBlock(in_channels, channels, stride)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, in_channels, 8, 8)

    torch.testing.assert_close(ours(x), theirs(x))
    assert block_parameters(in_channels, channels, stride) == sum(
        p.numel() for p in theirs.parameters()
    )


@pytest.mark.parametrize(
    ("name", "block", "counts"),
    [("resnet18", ResidualBlock, (2, 2, 2, 2)), ("resnet50", Bottleneck, (3, 4, 6, 3))],
)
def test_resnet_takes_torchvisions_state_dict_and_gives_its_logits(name, block, counts):
    theirs = getattr(pytest.importorskip("torchvision").models, name)(num_classes=7).eval()
    ours = resnet(block, counts, 7).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64)

    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_shortcut_a_agrees_with_numpy():
    x = torch.randn(2, 3, 5, 7)

    skipped = x.numpy()[:, :, ::2, ::2]
    expected = np.pad(skipped, ((0, 0), (0, 4), (0, 0), (0, 0)))

    np.testing.assert_array_equal(shortcut_a(x, 7, 2).numpy(), expected)


@pytest.mark.parametrize(
    ("layers", "field"),
    [([(3, 1)] * 2, 5), ([(3, 1)] * 3, 7), ([(7, 2), (3, 2)], 11), ([(5, 2), (3, 1)], 9)],
)
def test_receptive_field_by_counting_pixels(layers, field):
    assert receptive_field(layers) == field


def test_top_k_accuracy_by_arithmetic():
    logits = torch.tensor([[4.0, 3, 2, 1], [1, 2, 3, 4], [1, 4, 3, 2], [3, 1, 2, 4]])
    labels = torch.tensor([0, 2, 2, 1])  # ranks 1, 2, 2, 4
    assert [top_k_accuracy(logits, labels, k) for k in (1, 2, 3, 4)] == [0.25, 0.75, 0.75, 1.0]


@pytest.mark.parametrize(
    ("total_steps", "warm_up", "start_div"),
    [(10, 0.3, 25), (17, 0.3, 25), (100, 0.2, 10), (7, 0.5, 4), (1000, 0.45, 25)],
)
def test_one_cycle_lr_is_torchs_schedule_step_by_step(total_steps, warm_up, start_div):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.4,
        total_steps=total_steps,
        pct_start=warm_up,
        div_factor=start_div,
        anneal_strategy="linear",
    )

    for step in range(total_steps):
        expected = optimizer.param_groups[0]["lr"]
        assert one_cycle_lr(step, total_steps, 0.4, warm_up, start_div) == pytest.approx(expected)

        optimizer.step()
        if step < total_steps - 1:
            scheduler.step()


def test_pad_crop_agrees_with_numpy():
    images = torch.randint(256, (5, 3, 12, 9), dtype=torch.uint8)
    dy, dx = torch.randint(9, (2, 5))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")

    cropped = pad_crop(images, dy, dx)

    assert cropped.dtype == torch.uint8
    for picture, found, y, x in zip(padded, cropped, dy, dx, strict=True):
        np.testing.assert_array_equal(found, picture[:, y : y + 12, x : x + 9])


def test_weight_decay_groups_of_resnet18_by_layer_type():
    model = pytest.importorskip("torchvision").models.resnet18(num_classes=10)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    decayed, not_decayed = weight_decay_groups(model)

    assert {id(p) for p in decayed} == {id(layer.weight) for layer in layers}
    assert len(decayed) + len(not_decayed) == len(list(model.parameters()))


def test_grad_cam_map_agrees_with_loops():
    activations, gradients = torch.randn(3, 4, 5), torch.randn(3, 4, 5)

    cam = grad_cam_map(activations, gradients)

    for y in range(4):
        for x in range(5):
            total = sum(gradients[c].mean().item() * activations[c, y, x].item() for c in range(3))
            assert cam[y, x].item() == pytest.approx(max(total, 0), abs=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.9, 0.3])
def test_sgd_step_is_torchs_to_the_last_bit_while_the_rate_changes(
    momentum, weight_decay, nesterov
):
    theirs = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    ours = copy.deepcopy(theirs)
    settings = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
    optimizer = torch.optim.SGD(theirs.parameters(), lr=1.0, **settings)

    weights = list(ours.parameters())
    velocities = [torch.zeros_like(weight) for weight in weights]
    for lr in (0.5, 0.5, 0.05, 1.0, 0.2):
        x, labels = torch.randn(8, 5), torch.randint(3, (8,))

        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(x), labels).backward()
        optimizer.step()

        loss = nn.functional.cross_entropy(ours(x), labels)
        gradients = list(torch.autograd.grad(loss, weights))
        sgd_step(weights, gradients, velocities, lr, **settings)

        for own, velocity, weight in zip(weights, velocities, theirs.parameters(), strict=True):
            assert torch.equal(own, weight)
            assert torch.equal(velocity, optimizer.state[weight]["momentum_buffer"])


def test_sgd_step_without_momentum_is_torchs_to_the_last_bit():
    theirs = nn.Parameter(torch.randn(4, 3))
    ours, velocity = theirs.detach().clone(), torch.zeros(4, 3)
    optimizer = torch.optim.SGD([theirs], lr=0.3, weight_decay=0.05)

    for _ in range(3):
        theirs.grad = torch.randn(4, 3)
        optimizer.step()
        sgd_step([ours], [theirs.grad], [velocity], 0.3, momentum=0.0, weight_decay=0.05)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("start", "end", "steps"), [(1e-5, 10, 100), (0.003, 0.7, 2), (1, 9, 7)])
def test_range_rates_are_those_of_torch_lr_finder(start, end, steps):
    finder = pytest.importorskip("torch_lr_finder.lr_finder")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=start)
    scheduler = finder.ExponentialLR(optimizer, end, steps)

    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()

    assert range_rates(start, end, steps) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_smooth_by_the_share_that_each_loss_has_in_the_last_value(share):
    losses = torch.rand(20, dtype=torch.float64).tolist()

    weights = [share * (1 - share) ** age for age in range(19)] + [(1 - share) ** 19]
    expected = sum(weight * loss for weight, loss in zip(weights, losses[::-1], strict=True))

    assert sum(weights) == pytest.approx(1)
    assert smooth(losses, share)[-1] == pytest.approx(expected)
    assert smooth(losses, share)[:7] == smooth(losses[:7], share)


def test_smooth_and_steepest_are_those_of_the_range_test():
    rates = range_rates(1e-4, 1.0, 60)
    for _ in range(20):
        noise = torch.rand(60).numpy() * 2
        curve = 5 - 3 / (1 + np.exp(np.linspace(6, -6, 60)))  # a fall, steepest half way
        curve += 200 * np.linspace(0, 1, 60) ** 40  # and at the end it runs away
        losses = smooth((curve + noise).tolist(), share=lr_finder.SMOOTH)

        assert steepest(rates, losses) == lr_finder.read(rates, losses).suggestion


def test_a_straight_fall_is_seen_as_much_later_as_take_off_lag_goes_back():
    start, end, steps, share = 1e-4, 1.0, 400, 0.05
    rates = range_rates(start, end, steps)

    straight = [10 - 0.01 * step for step in range(steps)]
    smoothed = smooth(straight, share)
    seen_at = next(step for step in range(steps) if smoothed[step] <= straight[300] + 1e-6)

    assert take_off_lag(rates[seen_at], share, start, end, steps) == pytest.approx(rates[300])
    assert take_off_lag(rates[5], share, start, end, steps) == start


@pytest.mark.parametrize(
    ("total_steps", "warm_up", "highest", "lowest"),
    [(10, 0.3, 0.95, 0.85), (17, 0.3, 0.9, 0.8), (100, 0.2, 0.99, 0.5), (7, 0.5, 0.95, 0.0)],
)
def test_cycle_momentum_is_torchs_step_by_step(total_steps, warm_up, highest, lowest):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.4,
        total_steps=total_steps,
        pct_start=warm_up,
        base_momentum=lowest,
        max_momentum=highest,
        anneal_strategy="linear",
    )

    for step in range(total_steps):
        expected = optimizer.param_groups[0]["momentum"]
        found = cycle_momentum(step, total_steps, warm_up, highest, lowest)
        assert found == pytest.approx(expected)

        optimizer.step()
        if step < total_steps - 1:
            scheduler.step()


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("factor", [0.2, 0.5])
def test_plateau_is_torchs_schedule_epoch_by_epoch(patience, factor):
    val_losses = (torch.randint(1, 9, (40,)) / 4 + torch.linspace(2, 0, 40).round()).tolist()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.8)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, threshold=0, eps=0
    )

    expected = []
    for loss in val_losses:
        scheduler.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])

    assert plateau(val_losses, 0.8, patience, factor) == expected
    assert len(set(expected)) > 3  # it cuts, again and again


@pytest.mark.parametrize("path", ["definition", "rows"])
def test_content_and_position_lambdas_are_those_of_a_lambda_layer(path):
    """A global layer's kernel, spelled out for every pair of pixels, is E of the exercise."""
    height, width = 3, 4
    layer = LambdaLayer(6, 8, dim_k=5, heads=2, r=None, size=(height, width), path=path).eval()
    x = torch.randn(2, 6, height, width)

    pixels = [(row, column) for row in range(height) for column in range(width)]
    embeddings = torch.stack(
        [
            torch.stack(
                [
                    layer.rel_pos_emb[y - row + height - 1, x - column + width - 1, :, 0]
                    for y, x in pixels
                ]
            )
            for row, column in pixels
        ]
    )  # (N, M, k)

    with torch.no_grad():
        keys = layer.to_k(x).flatten(2)  # (B, k, M)
        values = layer.norm_v(layer.to_v(x)).flatten(2)  # (B, v, M)
        queries = layer.norm_q(layer.to_q(x)).unflatten(1, (2, 5)).flatten(3)  # (B, h, k, N)

        content = content_lambda(keys, values)  # (B, k, v)
        lambdas = content[:, None] + position_lambdas(embeddings, values)  # (B, N, k, v)
        out = torch.einsum("bnkv, bhkn -> bhvn", lambdas, queries)

        torch.testing.assert_close(out.flatten(1, 2).unflatten(2, (height, width)), layer(x))


def test_content_lambda_by_a_loop_over_positions():
    keys, values = torch.randn(2, 3, 7), torch.randn(2, 4, 7)

    lambdas = content_lambda(keys, values)

    for b, k, v in np.ndindex(2, 3, 4):
        weights = [math.exp(keys[b, k, m]) for m in range(7)]
        total = sum(weights[m] * values[b, v, m].item() for m in range(7))
        assert lambdas[b, k, v].item() == pytest.approx(total / sum(weights), abs=1e-6)


def test_position_lambdas_by_a_loop_over_positions():
    embeddings, values = torch.randn(5, 7, 3), torch.randn(2, 4, 7)

    lambdas = position_lambdas(embeddings, values)

    for b, n, k, v in np.ndindex(2, 5, 3, 4):
        total = sum(embeddings[n, m, k].item() * values[b, v, m].item() for m in range(7))
        assert lambdas[b, n, k, v].item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize(
    "sizes", [(64, 64, 16, 4, 1, 23), (10, 12, 5, 4, 3, 7), (3, 8, 2, 8, 2, 1), (7, 5, 1, 1, 4, 3)]
)
def test_lambda_parameters_are_those_of_a_layer(sizes):
    dim_in, dim_out, dim_k, heads, dim_u, r = sizes
    layer = LambdaLayer(dim_in, dim_out, dim_k=dim_k, heads=heads, dim_u=dim_u, r=r)

    assert lambda_parameters(*sizes) == sum(p.numel() for p in layer.parameters())


def test_a_lambda_layer_learns_less_than_the_3x3_in_its_place():
    """The two numbers in the notebook."""
    assert 3 * 3 * 256 * 256 == 589_824
    assert lambda_parameters(256, 256, 16, 4, 1, 23) == 45_600


@pytest.mark.parametrize(("rate", "classes"), [(0.05, 10), (0.25, 10), (0.5, 10), (0.5, 2)])
def test_noisy_labels_by_counting(rate, classes):
    """Each count within five standard deviations of the binomial distribution."""
    labels = np.random.default_rng(1).integers(classes, size=40_000)
    before = labels.copy()

    noisy = noisy_labels(labels, rate, classes, np.random.default_rng(2))

    np.testing.assert_array_equal(labels, before)
    for own, other in np.ndindex(classes, classes):
        chance = 1 - rate if own == other else rate / (classes - 1)
        of = (labels == own).sum()
        found = (noisy[labels == own] == other).sum()
        assert abs(found - of * chance) < 5 * math.sqrt(of * chance * (1 - chance))


def test_noisy_labels_at_the_ends_of_the_rate_and_by_seed():
    labels = np.arange(1000) % 7

    def noisy(rate, seed):
        return noisy_labels(labels, rate, 7, np.random.default_rng(seed))

    np.testing.assert_array_equal(noisy(0.0, 3), labels)
    assert (noisy(1.0, 3) != labels).all()
    np.testing.assert_array_equal(noisy(0.5, 3), noisy(0.5, 3))
    assert (noisy(0.5, 3) != noisy(0.5, 4)).any()


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
def test_generalized_cross_entropy_is_that_of_the_trainings(q, scale):
    logits = (torch.randn(16, 10, dtype=torch.float64) * scale).requires_grad_()
    labels = torch.randint(10, (16,))

    losses = [
        generalized_cross_entropy(logits, labels, q),
        GeneralizedCrossEntropy(q)(logits, labels),
    ]
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]

    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    assert losses[0].isfinite() and gradients[0].isfinite().all()


def test_generalized_cross_entropy_by_arithmetic_and_in_its_limits():
    logits = torch.tensor([[1.0, 3.0], [4.0, 1.0]], dtype=torch.float64).log()  # p: 1/4, 1/5
    labels = torch.tensor([0, 1])

    half = ((1 - 0.5) / 0.5 + (1 - 0.2**0.5) / 0.5) / 2
    assert generalized_cross_entropy(logits, labels, 0.5).item() == pytest.approx(half)
    assert generalized_cross_entropy(logits, labels, 1.0).item() == pytest.approx((0.75 + 0.8) / 2)

    expected = nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(generalized_cross_entropy(logits, labels, 1e-7), expected)


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_generalized_cross_entropy_of_a_hopeless_label_is_finite_in_float32(q):
    logits = torch.tensor([[0.0, 1e4], [1e4, 0.0]], requires_grad=True)

    loss = generalized_cross_entropy(logits, torch.tensor([0, 0]), q)
    loss.backward()

    assert loss.item() == pytest.approx((1 / q + 0) / 2)
    assert torch.equal(logits.grad, torch.zeros(2, 2))


@pytest.mark.parametrize("patience", [1, 2, 3, 5])
def test_keep_epoch_by_plateau_which_cuts_where_it_stops(patience):
    """Session 3's schedule sees more than patience - 1 bad epochs in a row at the same moment."""
    stopped = 0
    for _ in range(50):
        val_losses = (torch.randint(1, 30, (25,)) - torch.arange(25)).tolist()

        rates = plateau(val_losses, 1.0, patience=patience - 1)
        seen = val_losses[: rates.index(0.2) + 1] if 0.2 in rates else val_losses
        stopped += len(seen) < len(val_losses)

        assert keep_epoch(val_losses, patience) == seen.index(min(seen))
    assert stopped > 10


@pytest.mark.parametrize("runs", [2, 3, 10])
def test_standard_error_is_numpys_and_what_means_of_samples_scatter_by(runs):
    values = torch.randn(runs, dtype=torch.float64).tolist()

    centred = np.array(values) - np.mean(values)
    assert standard_error(values) == pytest.approx(np.sqrt((centred**2).sum() / (runs - 1) / runs))

    samples = np.random.default_rng(0).normal(5.0, 2.0, (20_000, runs))
    squares = np.mean([standard_error(sample.tolist()) ** 2 for sample in samples])
    assert squares == pytest.approx(samples.mean(axis=1).var(), rel=0.05)


class Classifier(nn.Module):
    """Features of either sign, pooling, one linear layer; ``stages`` as ``explain`` asks for."""

    def __init__(self):
        super().__init__()
        self.last = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.Tanh())
        self.head = nn.Linear(6, 4)

    @property
    def stages(self):
        return {"last": self.last}

    def forward(self, x):
        return self.head(self.last(x).mean(dim=(2, 3)))


@pytest.fixture
def looked_at():
    """A network, pictures that are not square, and the classes asked for."""
    torch.manual_seed(3)
    return Classifier().eval(), torch.randn(5, 3, 13, 17), torch.tensor([3, 0, 2, 2, 1])


def features_and_gradients(model, images, targets):
    features = model.last(images).detach().requires_grad_()
    logits = model.head(features.mean(dim=(2, 3)))
    (gradients,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), features)
    return features.detach(), gradients, logits.detach()


def test_the_mean_of_a_class_activation_map_and_the_bias_are_the_logit(looked_at):
    model, images, targets = looked_at
    features, _, logits = features_and_gradients(*looked_at)

    with torch.no_grad():
        maps = class_activation_map(features, model.head.weight, targets)
        found = maps.mean(dim=(1, 2)) + model.head.bias[targets]

    assert (features < 0).any() and (maps < 0).any()
    torch.testing.assert_close(found, logits.gather(1, targets[:, None])[:, 0])


def test_channel_weights_of_a_linear_head_are_its_weights_over_the_positions(looked_at):
    model, _, targets = looked_at
    features, gradients, _ = features_and_gradients(*looked_at)

    expected = model.head.weight[targets].detach() / features[0, 0].numel()
    torch.testing.assert_close(channel_weights(gradients), expected)


def test_grad_cam_maps_are_class_activation_maps_cut_off_at_zero(looked_at):
    model, _, targets = looked_at
    features, gradients, _ = features_and_gradients(*looked_at)

    with torch.no_grad():
        maps = class_activation_map(features, model.head.weight, targets)
    torch.testing.assert_close(
        grad_cam_maps(features, gradients), maps.relu() / features[0, 0].numel()
    )


def test_stretched_and_enlarged_grad_cam_maps_are_the_librarys(looked_at):
    model, images, targets = looked_at
    features, gradients, _ = features_and_gradients(*looked_at)

    maps = stretch(grad_cam_maps(features, gradients))
    large = nn.functional.interpolate(maps[:, None], images.shape[2:], mode="bilinear")[:, 0]

    found = stretch(large).numpy()
    np.testing.assert_allclose(found, explain.grad_cam(model, images, targets), atol=1e-5)


def test_grad_cam_maps_are_those_of_pytorch_grad_cam(looked_at):
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    targets_of = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    model, images, targets = looked_at

    with grad_cam.GradCAM(model, [model.last]) as theirs:
        asked = [targets_of.ClassifierOutputTarget(int(target)) for target in targets]
        expected = theirs(images, asked)

    features, gradients, _ = features_and_gradients(*looked_at)
    maps = stretch(grad_cam_maps(features, gradients))
    large = nn.functional.interpolate(maps[:, None], images.shape[2:], mode="bilinear")[:, 0]
    np.testing.assert_allclose(stretch(large).numpy(), expected, atol=1e-4)


def test_stretch_is_the_librarys_for_maps_of_either_sign():
    maps = torch.randn(6, 4, 7)
    maps[1] = 0
    torch.testing.assert_close(stretch(maps), library_stretch(maps[:, None])[:, 0])


def random_maps_and_boxes(count=200, height=5, width=8):
    x = torch.randint(width, (count, 2)).sort(dim=1).values
    y = torch.randint(height, (count, 2)).sort(dim=1).values
    maps = torch.rand(count, height, width)
    maps[::17] = 0
    return maps, torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


@pytest.mark.parametrize("name", ["pointing_game", "energy_in_box", "iou"])
def test_grades_of_maps_are_those_of_the_library(name):
    maps, boxes = random_maps_and_boxes()

    found = EXERCISES[name].reference(maps, boxes)
    expected = getattr(explain, name)(maps.numpy(), boxes.numpy())

    np.testing.assert_allclose(found.double().numpy(), expected, atol=1e-6)
    assert 0 < expected.mean() < 1


@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0])
def test_iou_is_that_of_the_library_at_every_threshold(threshold):
    maps, boxes = random_maps_and_boxes()
    maps = (maps * 10).round()  # pixels that reach the threshold exactly, and ties
    expected = explain.iou(maps.numpy(), boxes.numpy(), threshold)
    np.testing.assert_allclose(iou(maps, boxes, threshold).numpy(), expected, atol=1e-6)


def test_grades_by_loops_over_pixels():
    maps, boxes = random_maps_and_boxes(count=20)

    hits, shares, ious = pointing_game(maps, boxes), energy_in_box(maps, boxes), iou(maps, boxes)

    for number, (map_, (x0, y0, x1, y1)) in enumerate(zip(maps, boxes.tolist(), strict=True)):
        highest, at, total, inside, both, either = 0.0, None, 0.0, 0.0, 0, 0
        for y, x in np.ndindex(*map_.shape):
            value, is_inside = map_[y, x].item(), x0 <= x <= x1 and y0 <= y <= y1
            if value > highest:
                highest, at = value, is_inside
            total, inside = total + value, inside + value * is_inside
            is_bright = value > 0 and value >= 0.2 * map_.max().item()
            both, either = both + (is_bright and is_inside), either + (is_bright or is_inside)

        assert hits[number].item() == bool(at)
        assert shares[number].item() == pytest.approx(inside / total if total else 0, abs=1e-6)
        assert ious[number].item() == pytest.approx(both / either)


def test_of_equally_high_points_the_first_counts():
    maps = torch.tensor([[[0.0, 5.0, 1.0], [5.0, 0.0, 5.0]]])
    boxes = [[1, 0, 1, 0], [0, 1, 0, 1], [2, 1, 2, 1], [0, 0, 2, 1]]

    hits = [pointing_game(maps, torch.tensor([box])).item() for box in boxes]

    assert hits == [True, False, False, True]


@pytest.mark.parametrize("steps", [1, 2, 4, 13 * 17])
def test_deletion_is_the_librarys_but_for_the_ends_that_count_whole(looked_at, steps):
    """Theirs is the area by trapezoids, in which the first and the last picture count half."""
    model, _, targets = looked_at
    images = torch.randn(2, 3, 13, 17) if steps == 13 * 17 else torch.randn(2, 3, 8, 12)
    maps = torch.rand(2, *images.shape[2:])

    def predict(pictures):
        with torch.no_grad():
            return model(pictures).softmax(dim=1)[:, targets[number]]

    for number, (image, map_) in enumerate(zip(images, maps, strict=True)):
        mean = deletion(predict, image, map_, steps)
        ends = (predict(image[None]) + predict(torch.zeros_like(image)[None])).item() / 2
        area = (mean * (steps + 1) - ends) / steps

        theirs = explain.deletion(
            model, image[None], map_[None].numpy(), targets[number : number + 1], steps
        )
        assert area == pytest.approx(theirs.item(), abs=1e-5)


def test_deletion_by_hand():
    """A network that sees one pixel: it is lost with the part that this pixel is in."""
    map_ = torch.tensor([[0.1, 0.9, 0.3], [0.7, 0.5, 0.2]])  # the third to go is [1, 1]
    image = torch.ones(3, 2, 3)

    def predict(pictures):
        return pictures[:, 0, 1, 1].clone()

    assert deletion(predict, image, map_, 6) == pytest.approx(3 / 7)
    assert deletion(predict, image, map_, 3) == pytest.approx(2 / 4)
    assert torch.equal(image, torch.ones(3, 2, 3))


# --- right and wrong answers, tests/answers -----------------------------------------------------


def plain(text):
    """Without colours."""
    return re.sub("\033\\[[0-9]+m", "", text)


def told(name, answer, capsys):
    """What the checker says, on one line; the notebook goes on with the reference."""
    assert exercise(name, answer) is EXERCISES[name].reference

    lines = plain(capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= WIDTH
    return " ".join(" ".join(lines).split())


def refused(name, answer, capsys):
    """What the checker says about a wrong answer: the cause, the input, what was expected."""
    text = told(name, answer, capsys)
    assert text.startswith(f"✗ {name}: wrong, so the reference is used. Cause: ")
    assert "Smallest input that shows it: " in text
    assert re.search(r"expected .+", text, re.IGNORECASE)
    assert text.endswith(f"Hint: {EXERCISES[name].hint}")
    return text


def cause_in(text):
    return re.search(r"Cause: (.*?) (In the line|Smallest input)", text)[1]


RIGHT_ONES = [(name, answer) for name, found in RIGHT.items() for answer in found]
RIGHT_ONES += [(name, task.reference) for name, task in EXERCISES.items()]
WRONG_ONES = [(name, *found) for name, all_found in WRONG.items() for found in all_found]
MISTAKES = [(name, *found) for name, task in EXERCISES.items() for found in task.mistakes]


def label(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("name", "answer"), RIGHT_ONES, ids=label)
def test_a_right_answer_is_kept(name, answer, capsys):
    assert exercise(name, answer) is answer
    words = f"✓ {name}: right. Your code is used from here on.\n"
    assert plain(capsys.readouterr().out) == words


@pytest.mark.parametrize(("name", "answer", "words"), WRONG_ONES, ids=label)
def test_a_wrong_answer_is_refused_with_its_cause(name, answer, words, capsys):
    assert re.search(words, cause_in(refused(name, answer, capsys)))


@pytest.mark.parametrize(("name", "cause", "mistaken"), MISTAKES, ids=label)
def test_every_named_mistake_is_refused_with_its_own_name(name, cause, mistaken, capsys):
    assert cause_in(refused(name, mistaken, capsys)) == f"{cause}."


def test_an_argument_that_makes_no_difference_is_shown_where_it_should_make_one(capsys):
    """Not in the first case that goes wrong, where it has the value that the answer takes."""

    def answer(dim_in, dim_out, dim_k, heads, dim_u, r):
        return EXERCISES["lambda_parameters"].reference(dim_in, dim_out, dim_k, heads, 1, r) - 5

    text = refused("lambda_parameters", answer, capsys)
    assert "`dim_u` makes no difference" in text and "dim_u=2" in text


@pytest.mark.parametrize("name", EXERCISES)
def test_every_exercise_is_tried_with_right_and_wrong_answers(name):
    assert len(RIGHT[name]) >= 2, "besides the reference"
    assert len(WRONG[name]) >= 8


# --- not attempted, forgotten, raised, of the wrong kind ----------------------------------------


def raises(*args):
    """A docstring."""
    raise NotImplementedError


def passes(*args):
    """A docstring."""
    pass


def dots(*args): ...


def only_a_docstring(*args):
    """A docstring."""


def returns_nothing_at_all(*args):
    return


@torch.no_grad()
def passes_under_a_decorator(*args):
    """A docstring."""
    pass


STUBS = [
    raises,
    passes,
    dots,
    only_a_docstring,
    returns_nothing_at_all,
    passes_under_a_decorator,
    None,
    ...,
]


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("answer", STUBS)
def test_a_stub_is_not_attempted_and_gets_no_hint(name, answer, capsys):
    text = told(name, answer, capsys)
    assert text == f"– {name}: not attempted yet, so the reference is used."


class OnlyADocstring(nn.Module):
    """A docstring."""


class NotEvenAModule:
    """A docstring."""


class InitRaises(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        self.out_channels = channels
        raise NotImplementedError

    def forward(self, x):
        raise NotImplementedError


class ForwardRaises(ResidualBlock):
    def forward(self, x):
        """A docstring."""
        raise NotImplementedError


class InitPasses(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        pass

    def forward(self, x): ...


class ForwardPasses(ResidualBlock):
    def forward(self, x):
        """A docstring."""


class ForwardPassesUnderADecorator(ResidualBlock):
    @torch.no_grad()
    def forward(self, x):
        """A docstring."""


@pytest.mark.parametrize(
    "answer",
    [
        OnlyADocstring,
        NotEvenAModule,
        InitRaises,
        ForwardRaises,
        InitPasses,
        ForwardPasses,
        ForwardPassesUnderADecorator,
    ],
)
def test_the_stub_of_a_class_is_not_attempted(answer, capsys):
    text = told("residual_block", answer, capsys)
    assert text == "– residual_block: not attempted yet, so the reference is used."


def test_an_object_in_place_of_its_class_is_told_as_such(capsys):
    text = told("residual_block", ResidualBlock(2, 2), capsys)
    assert "Cause: it is a ResidualBlock already made, expected the class. Hint: " in text


def test_what_a_forward_raises_is_told_with_its_line(capsys):
    class Block(ResidualBlock):
        def forward(self, x):
            return self.relu(self.bn2(self.conv_2(x)) + x)

    text = refused("residual_block", Block, capsys)

    assert cause_in(text).startswith("it raises AttributeError: ")
    assert "In the line: return self.relu(self.bn2(self.conv_2(x)) + x)" in text


def test_other_arguments_of_an_init_are_named(capsys):
    class Block(ResidualBlock):
        def __init__(self, channels, stride=1):
            super().__init__(channels, channels, stride)

    text = told("residual_block", Block, capsys)

    expected = "(in_channels, channels, stride=1)"
    assert f"Cause: it takes (channels, stride=1), expected {expected}. Hint: " in text


def forgets_to_return(*args):
    result = list(args)
    result.reverse()


@pytest.mark.parametrize("name", [name for name, task in EXERCISES.items() if not task.in_place])
def test_a_forgotten_return_is_told_as_such(name, capsys):
    assert "a return is missing" in cause_in(refused(name, forgets_to_return, capsys))


@pytest.mark.parametrize("name", [name for name, task in EXERCISES.items() if task.in_place])
def test_where_nothing_is_to_be_returned_it_is_told_that_nothing_changes(name, capsys):
    cause = cause_in(refused(name, forgets_to_return, capsys))
    assert re.match("no .* changes: ", cause) and "return" not in cause


@pytest.mark.parametrize("name", EXERCISES)
def test_what_an_answer_raises_is_the_cause(name, capsys):
    def answer(*args):
        raise ValueError(f"no such axis in {object()}")

    text = refused(name, answer, capsys)

    assert cause_in(text) == "it raises ValueError: no such axis in <object object at 0x…>."
    assert 'In the line: raise ValueError(f"no such axis in {object()}")' in text


def test_the_line_is_of_the_answer_though_a_library_raised(capsys):
    def answer(activations, gradients):
        weights = gradients.mean(dim=(1, 2))
        return torch.einsum("c,chw->hw", weights, activations.flatten(1))

    text = refused("grad_cam_map", answer, capsys)

    assert 'In the line: return torch.einsum("c,chw->hw", weights, activations.flatten(1))' in text


def test_a_stub_on_one_of_two_ways_is_not_taken_for_a_stub(capsys):
    def answer(step, total_steps, peak_lr, *rest):
        if step > 2:
            raise NotImplementedError
        return one_cycle_lr(step, total_steps, peak_lr, *rest)

    text = refused("one_cycle_lr", answer, capsys)

    assert cause_in(text) == "it raises NotImplementedError."
    assert "step=9, total_steps=10" in text


@pytest.mark.parametrize(
    ("answer", "takes"),
    [
        (lambda images: images, "(images)"),
        (lambda images, dy, dx, pad: images, "(images, dy, dx, pad)"),
        (lambda images, dy, dx, pad, mode: images, "(images, dy, dx, pad, mode)"),
    ],
)
def test_other_arguments_than_the_stub_has_are_named(answer, takes, capsys):
    text = told("pad_crop", answer, capsys)
    assert f"Cause: it takes {takes}, expected (images, dy, dx, pad=4). Hint: " in text


@pytest.mark.parametrize("name", EXERCISES)
def test_an_answer_without_arguments_is_told_those_of_the_stub(name, capsys):
    text = told(name, lambda: 0, capsys)
    assert re.search(r"Cause: it takes \(\), expected \(\w+.*\)\. Hint: ", text)


@pytest.mark.parametrize("name", [task.name for task in session4.EXERCISES + session5.EXERCISES])
@pytest.mark.parametrize(
    "thing", [object(), "text", {"a": 1}], ids=lambda thing: type(thing).__name__
)
def test_an_answer_of_the_wrong_type_is_told_which_it_is(name, thing, capsys):
    text = refused(name, lambda *args: thing, capsys)
    assert cause_in(text).startswith(f"it returns a {type(thing).__name__}, expected a")


@pytest.mark.parametrize("name", [task.name for task in session4.EXERCISES + session5.EXERCISES])
def test_an_input_changed_in_place_is_told_as_such(name, capsys):
    """One input at a time, after the right result was computed from it."""
    task, tried = EXERCISES[name], 0
    _, *args = task.cases()[0]

    for number, given in enumerate(args):
        if isinstance(given, torch.Tensor | np.ndarray | list):
            verdict = check(task, Spoiler(task.reference, number))
            assert re.search(r"Cause: it changes the (tensor|list|labels) ", plain(verdict.text))
            tried += 1
    assert tried or name == "lambda_parameters"  # takes numbers alone


class Spoiler:
    """The reference, and then the input of this number is changed in place."""

    def __init__(self, reference, number):
        self.reference, self.number = reference, number

    def __call__(self, *args):
        result, given = self.reference(*args), args[self.number]
        if isinstance(given, torch.Tensor):
            given.data.add_(1)
        elif isinstance(given, list):
            given.append(0.0)
        else:
            given[:] = 1 - given
        return result


@pytest.mark.parametrize(("answer", "kind"), [(0.5, "float"), ("top_k", "str"), ([], "list")])
def test_an_answer_that_is_no_function_is_wrong(answer, kind, capsys):
    text = told("top_k_accuracy", answer, capsys)
    assert f"Cause: it is a {kind}, expected a function." in text


@pytest.mark.parametrize("answer", [max, torch.add, nn.Linear, np.mean], ids=label)
def test_functions_of_libraries_are_told_from_the_right_one(answer, capsys):
    text = told("pad_crop", answer, capsys)
    assert text.startswith("✗ pad_crop: wrong, so the reference is used. Cause: it ")


# --- how it is told -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "sign"),
    [
        (top_k_accuracy, "\033[32m✓\033[0m"),
        (None, "\033[33m–\033[0m"),
        (0.5, "\033[31m✗\033[0m"),
    ],
    ids=["right is green", "not attempted is yellow", "wrong is red"],
)
def test_verdicts_begin_in_colour(answer, sign, capsys):
    exercise("top_k_accuracy", answer)
    assert capsys.readouterr().out.startswith(f"{sign} top_k_accuracy: ")


def test_a_long_cause_is_wrapped_between_words(capsys):
    def places(activations, gradients):
        return (gradients * activations).sum(0).relu()

    exercise("grad_cam_map", places)

    lines = plain(capsys.readouterr().out).splitlines()
    assert (
        "  Cause: the gradients are multiplied with the activations position by position. That is"
        in lines
    )
    assert "    HiResCAM; Grad-CAM averages them over the positions first." in lines


def test_a_stray_print_is_shown_once(capsys):
    def answer(activations, gradients):
        print("shape", tuple(gradients.shape))
        return grad_cam_map(activations, gradients)

    assert exercise("grad_cam_map", answer) is answer
    assert plain(capsys.readouterr().out).startswith("shape (1, 1, 2)\n✓")


def test_what_is_printed_belongs_to_the_input_that_is_shown(capsys):
    def answer(step, total_steps, peak_lr, *rest):
        print("at step", step)
        return min(one_cycle_lr(step, total_steps, peak_lr, *rest), 0.5)

    exercise("one_cycle_lr", answer)

    printed, *verdict = plain(capsys.readouterr().out).splitlines()
    assert printed == "at step 1"
    assert "step=1, total_steps=10" in " ".join(verdict)


def test_whose_code_runs_can_be_asked(capsys):
    def right(activations, gradients):
        return grad_cam_map(activations, gradients)

    kept, replaced = exercise("grad_cam_map", right), exercise("grad_cam_map", None)

    assert is_yours(kept) and whose(kept) == "your code"
    assert not is_yours(replaced) and whose(replaced) == "the reference"


def test_unknown_exercise_lists_the_names():
    words = "unknown exercise 'top_5', expected one of .*top_k_accuracy, "
    with pytest.raises(CourseError, match=words):
        exercise("top_5", top_k_accuracy)


def test_two_exercises_of_one_name_are_an_error():
    task = EXERCISES["pad_crop"]
    with pytest.raises(CourseError, match="two exercises are called pad_crop"):
        _by_name([task, task])


# --- code that meddles --------------------------------------------------------------------------


def test_changing_the_inputs_does_not_spoil_the_check(capsys):
    def zeroed(activations, gradients):
        activations.zero_()
        gradients.zero_()
        return activations.sum(0)

    def top_1_for_ever(logits, labels, k):
        labels.copy_(logits.argmax(1))
        return 1.0

    def emptied(model):
        while len(model):
            del model[0]
        return [], []

    refused("grad_cam_map", zeroed, capsys)
    refused("top_k_accuracy", top_1_for_ever, capsys)
    refused("weight_decay_groups", emptied, capsys)


def test_the_check_leaves_random_numbers_alone(capsys):
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    for name, task in EXERCISES.items():
        exercise(name, task.reference)
        exercise(name, lambda *args: torch.rand(1).item())

    assert torch.equal(torch.rand(3), expected)


def test_the_words_are_the_same_in_every_run(capsys):
    texts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        for name in EXERCISES:
            exercise(name, lambda *args: torch.rand(1).item())
        texts.append(capsys.readouterr().out)

    assert texts[0] == texts[1]


# --- answers without an end -----------------------------------------------------------------------


def test_an_answer_that_does_not_come_to_an_end_is_stopped_and_told_so():
    def endless(logits, labels, k):
        hits = 0
        while hits < k:
            logits = logits + 0
        return hits

    said = check(EXERCISES["top_k_accuracy"], endless)
    words = " ".join(said.text.split())
    assert not said.right and "does not come to an end" in words
    assert "nearer to one? Smallest" in words, "a question ends in its own mark"


class EndlessInit(ResidualBlock):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__(in_channels, channels, stride)
        while channels:
            channels = channels + 1


class EndlessForward(ResidualBlock):
    def forward(self, x):
        while x.shape[1]:
            x = x + 0
        return x


@pytest.mark.parametrize("answer", [EndlessInit, EndlessForward])
def test_a_class_that_does_not_come_to_an_end_is_stopped_too(answer):
    """Its ``forward`` runs when the result is read, after the call that makes the module."""
    said = check(EXERCISES["residual_block"], answer)
    assert not said.right and "does not come to an end" in " ".join(said.text.split())


@torch.no_grad()
def endless_under_a_decorator(weights, gradients, velocities, lr, *rest):
    while lr > -1:
        lr = lr / 2


@torch.no_grad()
def raises_under_a_decorator(weights, *rest):
    return weights["first"]


def test_answers_under_a_decorator_are_stopped_and_told_their_line_too():
    task = EXERCISES["sgd_step"]

    assert "does not come to an end" in check(task, endless_under_a_decorator).text
    assert 'In the line: return weights["first"]' in check(task, raises_under_a_decorator).text


def test_what_watches_an_answer_is_gone_afterwards_and_a_debugger_stays():
    before = sys.gettrace()
    check(EXERCISES["top_k_accuracy"], EXERCISES["top_k_accuracy"].reference)
    assert sys.gettrace() is before

    def debugger(frame, event, argument):
        return None

    sys.settrace(debugger)
    try:
        check(EXERCISES["top_k_accuracy"], EXERCISES["top_k_accuracy"].reference)
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(before)
