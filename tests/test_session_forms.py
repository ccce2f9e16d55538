"""Forms of the session ResNet: one thing changed, all else the same, number for number."""

import pytest
import torch
from torch import nn

from course_lib.models import LambdaLayer, create_model, summary
from course_lib.models.session_forms import OverKeys, pair_of

FORMS = {
    "se": ("session_resnet_se", {}),
    "lambda": ("session_resnet_lambda", {}),
    "everywhere": ("session_resnet_lambda", {"lambda_stages": (1, 3)}),
    "over keys": ("session_resnet_lambda", {"softmax_over": "keys"}),
}
SOFT = {"stem": "strided", "logit_scale": 0.125}
PLAIN = 6_573_120  # the session ResNet's, ten classes


def build(form=None, device="cpu"):
    torch.manual_seed(0)
    name, options = FORMS[form] if form else ("session_resnet", {})
    with torch.device(device):
        return create_model(name, 10, **SOFT, **options)


def lambda_layer(channels):
    """By the paper: queries of 16 numbers for 4 heads, one key of 16, values of a quarter of the
    channels, a norm on queries and values, 23 × 23 offsets with 16 numbers each, and a bias."""
    value = channels // 4
    projections = channels * (4 * 16 + 16 + value)
    return projections + 2 * (4 * 16 + value) + 16 * 23 * 23 + 16


def squeeze_and_excitation(channels):
    """Two layers with biases, over a sixteenth."""
    narrow = channels // 16
    return channels * narrow + narrow + narrow * channels + channels


@pytest.mark.parametrize(
    "form, more",
    [
        ("se", squeeze_and_excitation(128) + squeeze_and_excitation(512)),
        ("lambda", lambda_layer(512) - 9 * 512**2),
        ("over keys", lambda_layer(512) - 9 * 512**2),
        ("everywhere", lambda_layer(512) + lambda_layer(128) - 9 * (512**2 + 128**2)),
    ],
)
def test_a_form_has_the_parameters_of_what_was_changed(form, more):
    found = sum(p.numel() for p in build(form, "meta").parameters())
    assert found == PLAIN + more


@pytest.mark.parametrize("form", FORMS)
def test_with_the_same_seed_all_other_weights_are_those_of_the_plain_network(form):
    """So that trainings with one seed begin as alike as they can."""
    plain, changed = build().state_dict(), build(form).state_dict()
    common = plain.keys() & changed.keys()

    assert all(torch.equal(plain[key], changed[key]) for key in common)
    gone = {"lambda": {"stage3.1.body.1.0.weight"}, "se": set()}
    if form in gone:
        assert plain.keys() - changed.keys() == gone[form]


@pytest.mark.parametrize("form", FORMS)
def test_stem_head_and_stages_are_the_same(form):
    plain, changed = build(device="meta"), build(form, "meta")
    assert str(plain.stem) == str(changed.stem) and str(plain.fc) == str(changed.fc)
    assert list(plain.stages) == list(changed.stages)

    x = torch.randn(2, 3, 64, 64, device="meta")
    assert plain.features(x).shape == changed.features(x).shape == (2, 512, 4, 4)


@pytest.mark.parametrize("form", ["se", "lambda", "everywhere"])
def test_a_step_costs_no_more_than_one_and_a_half_times_the_plain_ones(form):
    """In multiply-adds; by the clock it is a benchmark's business."""
    for size in (48, 64, 96, 128):
        plain = summary(build(device="meta"), size).multiply_adds
        assert summary(build(form, "meta"), size).multiply_adds < 1.5 * plain


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [32, 48, 80])
def test_a_form_is_finite_when_fresh_in_both_modes_and_precisions(form, size):
    model = build(form)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        for training in (False, True):
            model.train(training)
            for autocast in (False, True):
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    assert model(x).isfinite().all()


# --- squeeze and excitation -----------------------------------------------------------------------


def test_a_channel_passes_as_its_mean_decides():
    """Equations 2 to 4 by hand, at the end of the branch."""
    pair = pair_of(build("se").eval(), 3)
    x = torch.randn(2, 512, 4, 4)
    with torch.no_grad():
        *branch, se = pair.body
        u = nn.Sequential(*branch)(x)  # (B, 512, H, W)

        z = u.mean((2, 3))  # (B, 512)
        down, up = se.fc1, se.fc2
        hidden = (z @ down.weight.flatten(1).T + down.bias).relu()
        gate = (hidden @ up.weight.flatten(1).T + up.bias).sigmoid()

        torch.testing.assert_close(pair(x), x + gate[:, :, None, None] * u)


# --- lambda ---------------------------------------------------------------------------------------


def test_the_second_convolution_of_a_pair_is_the_layer():
    model = build("everywhere", "meta")
    found = {name for name, each in model.named_modules() if isinstance(each, LambdaLayer)}
    assert found == {"stage1.1.body.1.0", "stage3.1.body.1.0"}
    assert {model.get_submodule(name).to_q.in_channels for name in found} == {128, 512}


def test_at_the_start_positions_have_no_say():
    """The content lambda alone: pixels in another order give the output in that order."""
    layer = pair_of(build("lambda").eval(), 3).body[1][0]
    x = torch.randn(2, 512, 4, 4)
    order = torch.randperm(16)

    def shuffled(maps):
        return maps.flatten(2)[:, :, order].unflatten(2, (4, 4))

    with torch.no_grad():
        torch.testing.assert_close(layer(shuffled(x)), shuffled(layer(x)))


def test_over_positions_each_number_of_a_key_sums_to_one_over_keys_each_position():
    k = torch.randn(2, 1, 16, 3, 5)  # (B, u, k, H, W)
    right, wrong = LambdaLayer(64), OverKeys(64)

    weights = right.normalise_keys(k)  # (B, u, k, m)
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 1, 16))
    weights = wrong.normalise_keys(k)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 1, 15))


@pytest.mark.parametrize("path", ["whole", "rows", "stripes"])
def test_the_mistake_is_the_same_on_every_path(path):
    torch.manual_seed(0)
    layer, right = OverKeys(64, r=7), LambdaLayer(64, r=7)
    right.load_state_dict(layer.state_dict())
    x = torch.randn(2, 64, 6, 6)

    layer.path = "definition"
    expected = layer(x)
    layer.path = path
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(right(x), expected, rtol=0.1)


def test_over_keys_the_content_grows_with_the_map():
    """The same value everywhere: a mean of values is the value, on a map of any size."""
    grown = {}
    for kind in (LambdaLayer, OverKeys):
        k, v = torch.randn(1, 1, 16, 1, 1), torch.ones(1, 8, 1, 1)
        sums = []
        for side in (2, 4):
            weights = kind(64).normalise_keys(k.expand(1, 1, 16, side, side))  # (1, 1, k, m)
            sums.append((weights[0, 0] @ v.expand(1, 8, side, side).flatten(2)[0].T).mean())
        grown[kind] = (sums[1] / sums[0]).item()

    assert grown[LambdaLayer] == pytest.approx(1) and grown[OverKeys] == pytest.approx(4)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"lambda_stages": (2,)}, r"lambda_stages is \(2,\): expected some of .* 1, 3"),
        ({"lambda_stages": ("c5",)}, r"lambda_stages is \('c5',\)"),
        (
            {"softmax_over": "heads"},
            "unknown softmax_over 'heads': expected one of positions, keys",
        ),
    ],
)
def test_an_option_that_cannot_be_is_named_with_what_can(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("session_resnet_lambda", 10, **options)
