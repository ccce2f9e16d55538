"""The cost of a layer: bytes by hand, time by a layer that sleeps."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.experiments.layer_cost import kept_bytes, seconds
from course_lib.models import LambdaLayer

X = torch.randn(2, 3, 4, 4)  # 96 numbers of four bytes
BYTES = 4 * 96


class Of(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    "layer, expected",
    [
        (Of(lambda x: x + 1), 0),
        (Of(torch.exp), BYTES),  # its result
        (Of(lambda x: x.sin()), BYTES),  # what it is given
        (Of(lambda x: x * x), BYTES),  # x twice: one memory
        (Of(lambda x: x.flatten(1).sin() * x.flatten(1).cos()), 3 * BYTES),  # x, sin x, cos x
        (nn.Conv2d(3, 5, 1), BYTES),  # x; the weight is the layer's own
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), 2 * BYTES),  # x, and what the ReLU gives
    ],
    ids=lambda value: "" if isinstance(value, int) else None,
)
def test_what_backward_needs_is_counted_once_and_weights_are_not(layer, expected):
    assert kept_bytes(layer, X) == expected


def test_a_view_counts_as_the_whole_memory_that_it_keeps_alive():
    layer = Of(lambda x: (x + 1)[:1].sin())
    assert kept_bytes(layer, X) == BYTES


def test_a_memory_that_is_freed_on_the_way_is_not_taken_for_the_next():
    """Each result is thrown away before the next one is made, and may be given its address."""

    def chain(x):
        for _ in range(5):
            x = torch.exp(x)
        return x

    assert kept_bytes(Of(chain), X) == 5 * BYTES


@torch.no_grad()
def test_it_counts_where_gradients_are_off_and_leaves_layer_and_input_as_they_were():
    layer = nn.Conv2d(3, 5, 1)
    x = X.clone()
    assert kept_bytes(layer, x) == BYTES and seconds(layer, x, repeats=1) > 0
    assert not x.requires_grad and layer.weight.grad is None


def attention(x):
    """One head that has pixels for queries, keys and values."""
    pixels = x.flatten(2).transpose(1, 2)  # (B, n, C)
    return F.softmax(pixels @ pixels.transpose(1, 2), -1) @ pixels


def test_attention_keeps_the_square_of_the_positions_and_a_lambda_layer_does_not():
    """At four times the positions: sixteen times an n × n map, four times everything else."""
    small, large = (torch.randn(1, 8, side, side) for side in (16, 32))

    of_attention = kept_bytes(Of(attention), large) / kept_bytes(Of(attention), small)
    assert of_attention > 14

    for path in ("definition", "rows"):
        layer = LambdaLayer(8, dim_k=4, heads=2, r=5, path=path)
        assert kept_bytes(layer, large) / kept_bytes(layer, small) < 5


def test_the_definition_keeps_every_lambda_and_rows_do_not():
    """k · v numbers at each position of each picture, of four bytes; dim_v is 32."""
    x = torch.randn(16, 128, 8, 8)
    lambdas = 4 * 16 * 32 * 64 * 16
    assert kept_bytes(LambdaLayer(128, path="definition"), x) > lambdas
    assert kept_bytes(LambdaLayer(128, path="rows"), x) < lambdas


class Sleeper(nn.Module):
    """The first call takes long, as a first one does; the others the times that it is given."""

    def __init__(self, *times):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.times = [0.5, *times]

    def forward(self, x):
        time.sleep(self.times.pop(0))
        return self.weight * x


def test_time_is_the_median_without_the_first_call():
    assert 0.04 <= seconds(Sleeper(0.04, 0.0, 0.3), X, repeats=3) < 0.2


def test_the_backward_pass_counts():
    class SlowBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            time.sleep(0.05)
            return grad

    assert seconds(Of(SlowBackward.apply), X, repeats=1) >= 0.05


def test_no_repeat_is_refused():
    with pytest.raises(ValueError, match="repeats"):
        seconds(nn.ReLU(), X, repeats=0)
