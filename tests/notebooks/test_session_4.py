"""What session 4 shows of lambda layers, wrong labels and differences is so."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cells import definitions
from rules import ROOT, markdown, read
from torch import nn

from course_lib import runtime
from course_lib.experiments import GRID
from course_lib.models import LambdaLayer
from course_lib.training import optim

NOTEBOOK = ROOT / "notebooks" / "04_lambda_resnet_imagenette.ipynb"


def shown(*texts):
    """What these cells of the notebook define, the exercises by their references."""
    names = {"nn": nn, "F": F, "torch": torch, "np": np, "math": math, "runtime": runtime}
    names |= {"rt": SimpleNamespace(device=torch.device("cpu")), "optim": optim}
    return definitions(NOTEBOOK, texts, names)


# --- attention and lambda layers ------------------------------------------------------------------


def test_so_many_convolutions_see_so_many_pixels():
    pixels_seen = shown("def pixels_seen(")["pixels_seen"]
    assert [pixels_seen(depth) for depth in (1, 4, 11)] == [3, 9, 23]


def test_the_attention_shown_is_torchs():
    attention = shown("def attention(")["attention"]
    q, k, v = (torch.randn(2, 5, size) for size in (4, 4, 3))
    torch.testing.assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_the_attention_layer_of_the_measurement_is_attention():
    """Each head by torch, with the keys and values that all heads share."""
    layer = shown("class Attention(")["Attention"](64)
    x = torch.randn(2, 64, 3, 4)
    with torch.no_grad():
        q = layer.to_q(x).flatten(2).unflatten(1, (4, 16)).transpose(2, 3)  # (B, h, n, k)
        k, v = (project(x).flatten(2).transpose(1, 2)[:, None] for project in _keys_values(layer))
        expected = F.scaled_dot_product_attention(q, k.expand(-1, 4, -1, -1), v)  # (B, h, n, v)
        expected = expected.transpose(2, 3).flatten(1, 2).unflatten(2, (3, 4))
        torch.testing.assert_close(layer(x), expected)


def _keys_values(layer):
    return layer.to_k, layer.to_v


@pytest.mark.parametrize("side", [2, 5])
def test_e_by_offset_is_what_a_convolution_reads(side):
    """Also where the window is larger than the map, and where it is smaller."""
    names = shown("def by_offset(")
    for r in (3, 7):
        kernel, values = torch.randn(4, r, r), torch.randn(2, 3, side**2)
        e = names["by_offset"](kernel, side)
        found = names["position_lambdas"](e, values)  # (B, n, k, v)

        grey = values.unflatten(2, (side, side)).flatten(0, 1)[:, None]
        maps = F.conv2d(grey, kernel[:, None], padding=r // 2)
        expected = maps.flatten(2).unflatten(0, (2, 3)).permute(0, 3, 2, 1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_the_layer_by_hand_is_the_librarys(training):
    by_hand = shown("class LambdaByHand(")["LambdaByHand"](32, heads=2, r=5).train(training)
    layer = LambdaLayer(32, heads=2, r=5, path="definition").train(training)
    layer.load_state_dict(by_hand.state_dict())

    x = torch.randn(3, 32, 6, 4)
    torch.testing.assert_close(by_hand(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at", [(0, 0), (1, 2)])
def test_what_a_pixel_hears_gives_the_layers_output(at):
    names = shown("def by_offset(", "def what_it_hears(")
    torch.manual_seed(0)
    layer = LambdaLayer(32, r=3).eval()
    x = torch.randn(1, 32, 3, 3)
    with torch.no_grad():
        q, weights = names["what_it_hears"](layer, x, at)
        assert names["gives_its_output"](layer, x, at, q, weights)
        assert not names["gives_its_output"](layer, x, at, q, 1.1 * weights)
    assert weights.shape == (4, 9)


def test_questions_1_and_4_are_reckoned_right():
    """A 5×5 map has offsets from −4 to 4 either way: nine by nine of 23 × 23."""
    assert (2 * 5 - 1) ** 2 == 81 and 23**2 == 529
    assert 4 * (32**2) ** 2 == 4_194_304 and 16 * 32 == 512, "question 1"


# --- wrong labels ---------------------------------------------------------------------------------


def small_training(**options):
    """A few epochs on made-up pictures that show their class, a third of them wrongly labelled."""
    names = shown("def small_network(", "def train_small(")
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(120) % 10
    x = torch.randn(120, 3, 32, 32, generator=generator) + true[:, None, None, None]
    given = torch.where(torch.arange(120) % 3 == 0, (true + 1) % 10, true)
    names |= {"test_x": x[:40], "test_labels": true[:40]}
    return names["train_small"]((x, given, true), nn.CrossEntropyLoss(), **options)


def test_the_small_training_counts_the_three_shares():
    rows = small_training(epochs=2)
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert 0 <= row["wrong_as_given"] + row["wrong_as_true"] <= 1
        assert 0 <= row["right_as_given"] <= 1 and row["val_loss"] > 0
    assert rows == small_training(epochs=2), "the same seed, the same training"


def test_sorted_batches_show_another_training_than_shuffled_ones():
    assert small_training(epochs=1) != small_training(epochs=1, shuffle=False)


def test_a_wrong_label_pulls_as_hard_as_the_formula_says():
    """The probabilities minus one at the label: for p on the truth, (1 - p)/9 on each other."""
    pull = shown("def pull(")["pull"]
    for p in (0.1, 0.9):
        rest = (1 - p) / 9
        logits = torch.tensor([p] + [rest] * 9).log()
        assert pull(logits, 0) == pytest.approx(math.sqrt((1 - p) ** 2 + 9 * rest**2), abs=1e-5)
        wrong = math.sqrt(p**2 + (1 - rest) ** 2 + 8 * rest**2)
        assert pull(logits, 3) == pytest.approx(wrong, abs=1e-5)


def test_the_cells_of_the_grid_that_the_notebook_names_are_there():
    named = set(re.findall(r"grid_\w+", "".join(c.source for c in read(NOTEBOOK).cells)))
    whole = {name for name in named if name in GRID}
    assert {"grid_session_noise50", "grid_lambda_noise50"} <= whole
    beginnings = named - whole - {"grid_costs", "grid_losses"}
    assert all(any(cell.startswith(name) for cell in GRID) for name in beginnings), beginnings


# --- differences ----------------------------------------------------------------------------------


def test_the_example_of_question_9_is_reckoned_right():
    """88.1 ± 0.4 and 87.6 ± 0.5, three seeds each."""
    error = math.sqrt((0.4**2 + 0.5**2) / 3)
    assert round(error, 2) == 0.37 and round(0.5 / error, 1) == 1.4


def test_two_equal_networks_differ_as_often_as_the_words_say():
    """With one seed each the difference has a deviation of half a point times the root of two."""
    beyond = math.erfc(0.5 / (0.5 * math.sqrt(2)) / math.sqrt(2))
    assert beyond == pytest.approx(0.48, abs=0.005), "every second study"


# --- words under a result -------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["not tested", "was not tried", "is not measured here", "TODO"])
def test_nothing_is_left_open_in_words(words):
    assert words not in markdown(read(NOTEBOOK))
