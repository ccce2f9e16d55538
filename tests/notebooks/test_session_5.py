"""What session 5 shows of hooks, maps and grades is so."""

import copy
import math
import re
from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cells import definitions
from PIL import Image
from rules import ROOT, markdown, output_texts, read
from torch import nn

from course_lib.data import toy_shapes
from course_lib.experiments import find_recipe
from course_lib.experiments.recipe import trial
from course_lib.files import CourseError
from course_lib.models import create_model

NOTEBOOK = ROOT / "notebooks" / "05_grad_cam.ipynb"
CPU = SimpleNamespace(device=torch.device("cpu"))


def shown(*texts, **names):
    """What these cells of the notebook define, among these names."""
    known = {"nn": nn, "torch": torch, "np": np, "Image": Image, "rt": CPU}
    known |= {"OrderedDict": OrderedDict, "copy": copy, "replace": replace, "trial": trial}
    return definitions(NOTEBOOK, texts, known | names)


# --- which network --------------------------------------------------------------------------------


def networks(card, **names):
    """``network`` of the notebook, with words in place of networks."""

    def weights_card(model, data):
        if card is None:
            raise CourseError("there are none")
        return card

    def published(model, weights):
        return SimpleNamespace(to=lambda device: f"published {model} for {weights}")

    stand_ins = {
        "TRAIN_MY_OWN": False,
        "trained": {},
        "CourseError": CourseError,
        "weights_card": weights_card,
        "create_model": published,
    }
    return shown("def network(", **stand_ins | names)["network"]


CLASSES = ["cat", "dog"]


def asked_for(trained):
    """``train_recipe`` that notes what it is asked to train, and trains nothing."""

    def train_recipe(recipe, rt, priced):
        trained.append(recipe)
        return SimpleNamespace(model=nn.Linear(1, 1).train())

    return train_recipe


def test_published_weights_are_taken_where_they_are_for_these_classes(capsys):
    network = networks({"classes": ["cat", "dog"]})
    recipe = find_recipe("tiny_imagenet")
    assert network(recipe, CLASSES) == "published session_resnet for tinyimagenet"
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "card, said", [({"classes": ["cat"]}, "for other classes"), (None, "there are none")]
)
def test_else_a_network_is_trained_and_the_reason_said(card, said, capsys):
    """Shortly, judged on tune alone, and once for the same classes."""
    trained = []
    network = networks(card, train_recipe=asked_for(trained))
    models = [network(find_recipe("tiny_imagenet"), CLASSES) for _ in range(2)]

    assert said in capsys.readouterr().out
    assert models[0] is models[1] and not models[0].training
    (short,) = trained
    assert short.model == "session_resnet" and len(short.sizes) == 3 and short.is_trial


def test_the_flag_trains_the_whole_recipe():
    trained = []
    network = networks({"classes": CLASSES}, TRAIN_MY_OWN=True, train_recipe=asked_for(trained))
    assert not network(find_recipe("tiny_imagenet"), CLASSES).training
    assert trained == [find_recipe("tiny_imagenet")]


# --- maps -----------------------------------------------------------------------------------------


def test_the_mean_of_a_cam_and_the_bias_is_the_logit_of_the_small_network():
    names = shown("def small_network(")
    torch.manual_seed(0)
    small = names["small_network"]().eval()
    x, target = torch.randn(3, 3, 32, 32), torch.tensor([4, 0, 9])

    with torch.no_grad():
        features = small.features(x)
        assert features.shape == (3, 128, 8, 8)
        maps = names["class_activation_map"](features, small.fc.weight, target)
        found = maps.mean((1, 2)) + small.fc.bias[target]
        torch.testing.assert_close(found, small(x)[range(3), target], rtol=1e-4, atol=1e-5)


def test_a_cell_of_the_small_networks_map_sees_fifteen_pixels():
    names = shown("def small_network(")
    features = names["small_network"]().eval().features
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(features(x)[0, :, 8, 8].sum(), x)
    seen = (gradient[0] != 0).any(0)
    assert (seen.any(0).sum(), seen.any(1).sum()) == (15, 15)


def test_a_hook_that_returns_a_copy_keeps_what_an_in_place_relu_writes_over():
    seen = {}
    hook = shown("def step_aside(", seen=seen)["step_aside"]
    norm = nn.BatchNorm2d(2)
    with norm.register_forward_hook(hook):
        y = nn.Sequential(norm, nn.ReLU(inplace=True))(torch.randn(4, 2, 3, 3))

    kept = seen["on the way"]
    assert (kept < 0).any() and (y >= 0).all()
    (gradient,) = torch.autograd.grad(y.sum(), kept)
    torch.testing.assert_close(gradient, (kept > 0).float())


# --- comparisons ----------------------------------------------------------------------------------


def test_the_rank_correlation_is_spearmans():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    one = rng.integers(0, 6, (5, 8, 8)) / 6  # with many equal values
    other = one + rng.random((5, 8, 8))

    found = shown("def ranks(")["rank_correlation"](one, other)
    expected = [stats.spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(one, other, strict=True)]
    assert np.allclose(found, expected)


def test_a_flat_map_has_nothing_in_common_with_any():
    rank_correlation = shown("def ranks(")["rank_correlation"]
    assert rank_correlation(np.zeros((1, 4, 4)), np.random.rand(1, 4, 4)) == 0


def test_random_weights_come_into_the_layers_that_are_named_and_no_other():
    options = {"num_classes": 10, "stem": "strided"}
    torch.manual_seed(0)
    model = create_model("session_resnet", **options)
    untrained = create_model("session_resnet", **options)
    names = shown("def with_random_weights(", untrained=untrained)
    broken = names["with_random_weights"](model, ["fc", "stage3"])

    for name, weight in broken.state_dict().items():
        source = untrained if name.startswith(("fc", "stage3")) else model
        assert torch.equal(weight, source.state_dict()[name]), name
    assert not torch.equal(model.fc.weight, broken.fc.weight), "the model itself stays"


def test_the_surest_picture_of_each_class_comes_first_and_once():
    names = shown(
        "def surest_of_each_class(",
        confidence=np.array([0.5, 0.9, 0.8, 0.7, 0.99]),
        labels=np.array([0, 0, 1, 1, 2]),
    )
    chosen = names["surest_of_each_class"](np.array([True, True, True, True, False]))
    assert chosen.tolist() == [1, 2]


# --- what we saw ----------------------------------------------------------------------------------


def printed(text):
    """The committed output of the one cell that holds this text."""
    (cell,) = [cell for cell in read(NOTEBOOK).cells if text in cell.source]
    return "".join(output_texts(cell))


def test_how_alike_the_maps_of_the_two_networks_are_stands_in_the_output():
    said = printed("the two networks, rank correlation")
    for word, alike, other in (("Grad-CAM", "0.76", "0.32"), ("FullGrad", "0.65", "0.23")):
        found = re.search(
            rf"{word}: the two networks, rank correlation (\S+) .*\n.* another picture (\S+) ", said
        )
        assert [f"{float(each):.2f}" for each in found.groups()] == [alike, other], word


def test_what_we_saw_of_the_two_networks_by_pixels_stands_in_the_output():
    said = printed("the two networks, rank correlation")
    for network in ("ResNet", "LambdaResNet"):
        rows = rf"^{network} +(\S+) +deletion ([\d.]+), insertion ([\d.]+)"
        found = re.findall(rows, said, re.MULTILINE)
        deletion = {name: float(value) for name, value, _ in found}
        insertion = {name: float(value) for name, _, value in found}
        assert sorted(deletion, key=deletion.get) == ["chance", "Grad-CAM", "FullGrad", "middle"]
        assert sorted(insertion, key=insertion.get) == ["chance", "middle", "FullGrad", "Grad-CAM"]


def test_what_we_saw_of_right_and_wrong_answers_stands_in_the_output():
    said = printed("def told_apart(")
    right, wrong = (int(share) for share in re.findall(r"the box (\d+)% of the picture", said))
    assert wrong < right, "the objects that the network got wrong were smaller"
    energy, confidence = (int(share) for share in re.findall(r"in (\d+)%", said))
    assert 50 < energy < 60, "little more often than a coin"
    assert confidence > 80, "far better"


# --- traps that are laid --------------------------------------------------------------------------


def test_four_pictures_in_one_lie_in_their_quarters():
    images = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (1, 2, 3, 4)])
    names = shown("def mosaic(", tune=SimpleNamespace(images=images), rows=np.arange(4))
    whole = names["mosaic"](np.arange(4))
    assert whole.shape == (8, 8, 3)
    assert [whole[0, 0, 0], whole[0, 7, 0], whole[7, 0, 0], whole[7, 7, 0]] == [1, 2, 3, 4]


def test_a_mark_is_all_that_a_marked_picture_has_besides():
    toys = toy_shapes("tune", size=32, count=10)
    before = toys.images.copy()
    colours = np.arange(30).reshape(10, 3)
    images = shown("def marked(", colours=colours)["marked"](toys, toys.labels).images

    assert np.array_equal(toys.images, before)
    changed = (images != before).any(-1)
    assert not changed[:, 7:].any() and not changed[:, :, 7:].any()
    assert (images[:, 3, 3] == colours[toys.labels]).all()


# --- the questions, and words ---------------------------------------------------------------------


def test_the_examples_of_questions_5_and_6_are_reckoned_right():
    assert 4 < math.sqrt(100 * 0.71 * 0.29) < 5 and 4 < math.sqrt(100 * 0.65 * 0.35) < 5
    assert 71 - 65 == 12 - 6 and round(math.sqrt(12 + 6), 1) == 4.2


@pytest.mark.parametrize("words", ["not tested", "was not tried", "is not measured here", "TODO"])
def test_nothing_is_left_open_in_words(words):
    assert words not in markdown(read(NOTEBOOK))
