"""The exercises of session 4, lambda layers and wrong labels.

For each: the solution, the inputs it is tried on, and the usual mistakes with their names. The
solutions stand as they do in the notebook, so that they can be read one after the other.
"""

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from course_lib.exercises.checker import Exercise, Unreadable, read_number, read_tensor
from course_lib.exercises.given import (
    CUTS_IT_OFF,
    Given,
    expect_gradient,
    expect_unchanged,
    given,
)


def _randn(*shape: int) -> torch.Tensor:
    return given(torch.randn(shape))


def _learned(*shape: int) -> torch.Tensor:
    """As it comes out of a layer that learns, which needs the gradient."""
    return _randn(*shape).requires_grad_()


# --- content_lambda -----------------------------------------------------------------------------


def content_lambda(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What the whole picture says: one small matrix, the same for every position.

    keys: (B, k, M), as they come out of their projection. values: (B, v, M). Returns (B, k, v): at
    [b, i, j] the mean of value j over the M positions, weighted by the softmax of key i over these
    positions. Source: Bello 2021, arXiv:2102.08602, §3.
    """
    weights = keys.softmax(dim=2)  # (B, k, M): over the positions each key's weights sum to 1

    return weights @ values.transpose(1, 2)  # (B, k, v), summed over M


def _content_cases() -> list[tuple]:
    # e⁰ to e^log 3 is 1 to 3: a quarter and three quarters
    key = given(torch.tensor([[[0.0, math.log(3)]]]))
    two_keys = given(torch.tensor([[[0.0, math.log(3)], [math.log(4), 0.0]]]))
    value = given(torch.tensor([[[4.0, 8.0]]]))
    two_values = given(torch.tensor([[[4.0, 8.0], [-1.0, 1.0]]]))

    return [
        ("there are two positions", key, value),
        ("there are two keys", two_keys, value),
        ("there are two values", key, two_values),
        ("there are two keys and two values", two_keys, two_values),
        ("k, v and M differ", _randn(1, 2, 3), _randn(1, 4, 3)),
        ("there are two pictures", _randn(2, 1, 2), _randn(2, 1, 2)),
        ("there are many numbers", _randn(3, 4, 25), _randn(3, 6, 25)),
        ("the network learns", _learned(2, 3, 4), _learned(2, 5, 4)),
    ]


def _read_content(result: Any, args: list) -> torch.Tensor:
    expect_unchanged(args[0], "keys")
    expect_unchanged(args[1], "values")
    expect_gradient(result, args)
    return read_tensor(result, args)


CONTENT = Exercise(
    reference=content_lambda,
    hint="a key weighs the positions: along which axis do its weights sum to 1?",
    cases=_content_cases,
    read=_read_content,
)


def _over_positions(t: torch.Tensor) -> torch.Tensor:
    return t.softmax(dim=2)


def _as_it_is(t: torch.Tensor) -> torch.Tensor:
    return t


def _wrong_content(
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    weigh: Callable = _over_positions,
    of_values: Callable = _as_it_is,
    sums: str = "bkm, bvm -> bkv",
    after: Callable = _as_it_is,
) -> torch.Tensor:
    """The two steps with something in them that is not the default here."""
    return after(torch.einsum(sums, weigh(keys), of_values(values)))


_WRONG_CONTENTS = [
    (
        "the softmax runs over the depth k of the keys; it has to run over the positions, dim=2",
        {"weigh": lambda keys: keys.softmax(dim=1)},
    ),
    (
        "the softmax runs over the pictures of the batch; it has to run over the positions, dim=2",
        {"weigh": lambda keys: keys.softmax(dim=0)},
    ),
    (
        "one softmax runs over k and the positions together; each key has one of its own, dim=2",
        {"weigh": lambda keys: keys.flatten(1).softmax(dim=1).view_as(keys)},
    ),
    (
        "there is no softmax: the keys are taken as they are",
        {"weigh": _as_it_is},
    ),
    (
        "the values go through the softmax instead of the keys",
        {"weigh": _as_it_is, "of_values": _over_positions},
    ),
    (
        "the values go through a softmax as well; only the keys do",
        {"of_values": _over_positions},
    ),
    (
        "the softmax comes after the product; it belongs to the keys, before it",
        {"weigh": _as_it_is, "after": lambda out: out.softmax(dim=2)},
    ),
    (
        "the softmax comes after the product; it belongs to the keys, before it",
        {"weigh": _as_it_is, "after": lambda out: out.softmax(dim=1)},
    ),
    (
        "the result is transposed: its shape is (B, v, k), expected (B, k, v)",
        {"sums": "bkm, bvm -> bvk"},
    ),
    (
        "the result is divided by the number of positions; the weights of a key sum to 1 already",
        {"weigh": lambda keys: keys.softmax(dim=2) / keys.shape[2]},
    ),
    (
        "the keys are divided by the root of k before the softmax, as attention does; here they "
        "are not scaled",
        {"weigh": lambda keys: (keys / keys.shape[1] ** 0.5).softmax(dim=2)},
    ),
    (
        "the keys are divided by the root of M before the softmax; here they are not scaled",
        {"weigh": lambda keys: (keys / keys.shape[2] ** 0.5).softmax(dim=2)},
    ),
    (
        "log_softmax gives the logarithms of the weights; softmax gives the weights",
        {"weigh": lambda keys: keys.log_softmax(dim=2)},
    ),
    (
        "the softmax is applied twice, which levels the weights; once will do",
        {"weigh": lambda keys: keys.softmax(dim=2).softmax(dim=2)},
    ),
    (
        "keys and values are summed each on its own: their positions need the same letter",
        {"sums": "bkm, bvp -> bkv"},
    ),
    (
        "exp alone is no softmax: divide by the sum over the positions",
        {"weigh": lambda keys: keys.exp()},
    ),
    (
        "exp is divided by the sum over everything; each key of each picture has a sum of its own, "
        "over its positions",
        {"weigh": lambda keys: keys.exp() / keys.exp().sum()},
    ),
    (
        "it sums over all pictures as well; each has a lambda of its own",
        {"sums": "bkm, bvm -> kv"},
    ),
    (
        "it sums over all pictures as well; each has a lambda of its own",
        {"sums": "bkm, cvm -> bkv"},
    ),
    (
        "the keys go through a sigmoid, so that their weights do not sum to 1; take a softmax",
        {"weigh": lambda keys: keys.sigmoid()},
    ),
    (
        "softmin gives the smallest key the largest weight; take softmax",
        {"weigh": lambda keys: (-keys).softmax(dim=2)},
    ),
    (
        "each key takes the value at its largest position alone; softmax weighs all positions",
        {"weigh": lambda keys: F.one_hot(keys.argmax(dim=2), keys.shape[2]).to(keys.dtype)},
    ),
    (
        "the weights are keys divided by their sum; softmax takes exp of them first",
        {"weigh": lambda keys: keys / keys.sum(dim=2, keepdim=True)},
    ),
    (
        "all positions get the same weight; the softmax of the keys weighs them",
        {"weigh": lambda keys: torch.full_like(keys, 1 / keys.shape[2])},
    ),
]

for _cause, _difference in _WRONG_CONTENTS:
    CONTENT.mistake(_cause)(partial(_wrong_content, **_difference))


@CONTENT.mistake("keys and values are exchanged: the softmax weighs values with keys")
def _(keys, values):
    return content_lambda(values, keys)


@CONTENT.mistake("reshape or view does not exchange axes; transpose(1, 2) does")
def _(keys, values):
    batch, depth, positions = values.shape
    return keys.softmax(dim=2) @ values.reshape(batch, positions, depth)


@CONTENT.mistake(
    "values is (B, v, M), and a product with (B, k, M) needs (B, M, v): turn its last two axes, "
    "values.transpose(1, 2)"
)
def _(keys, values):
    return keys.softmax(dim=2) @ values


@CONTENT.mistake("values.T turns all three axes round; values.transpose(1, 2) turns the last two")
def _(keys, values):
    return keys.softmax(dim=2) @ values.permute(2, 1, 0)


@CONTENT.mistake("only the first picture is looked at")
def _(keys, values):
    return content_lambda(keys[:1], values[:1])


@CONTENT.mistake("a sum over the positions is missing in the product")
def _(keys, values):
    return keys.softmax(dim=2)[:, :, None] * values[:, None]


# --- position_lambdas ---------------------------------------------------------------------------


def position_lambdas(embeddings: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What each place reads out of its surroundings: a small matrix of its own.

    embeddings: (N, M, k), the same for every picture; as they are, without a softmax. values:
    (B, v, M). Returns (B, N, k, v): at [b, n] the sum over the positions m of embeddings[n, m]
    times the value at m, each number of the one with each of the other. Source: Bello 2021,
    arXiv:2102.08602, §3.
    """
    return torch.einsum("nmk, bvm -> bnkv", embeddings, values)


def _position_cases() -> list[tuple]:
    embeddings = given(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]))  # two places, k = 1
    value = given(torch.tensor([[[10.0, 1.0]]]))

    return [
        ("two places look at each other", embeddings, value),
        ("an embedding holds two numbers", _randn(2, 2, 2), value),
        ("there are two values", embeddings, _randn(1, 2, 2)),
        ("there are two pictures", embeddings, _randn(2, 1, 2)),
        ("every axis is 2 long", _randn(2, 2, 2), _randn(2, 2, 2)),
        ("one place looks at three positions", _randn(1, 3, 1), _randn(1, 1, 3)),
        ("all axes differ in length", _randn(5, 3, 4), _randn(2, 6, 3)),
        # five loops one in the other run through it well within the checker's patience
        ("there are many numbers", _randn(9, 9, 5), _randn(2, 6, 9)),
        ("the network learns", _learned(2, 3, 4), _learned(2, 5, 3)),
    ]


def _read_position(result: Any, args: list) -> torch.Tensor:
    expect_unchanged(args[0], "embeddings")
    expect_unchanged(args[1], "values")
    expect_gradient(result, args)
    return read_tensor(result, args)


POSITION = Exercise(
    reference=position_lambdas,
    hint="name the axes, nmk and bvm to bnkv: the letter that is gone is the one summed over.",
    cases=_position_cases,
    read=_read_position,
)


def _wrong_position(
    embeddings: torch.Tensor,
    values: torch.Tensor,
    *,
    of_embeddings: Callable = _as_it_is,
    of_values: Callable = _as_it_is,
    sums: str = "nmk, bvm -> bnkv",
) -> torch.Tensor:
    """The product with something in it that is not the default here."""
    return torch.einsum(sums, of_embeddings(embeddings), of_values(values))


_EMBEDDINGS_WEIGHED = (
    "the embeddings go through a softmax; only the keys of the content lambda do, these are taken "
    "as they are"
)
_PLACES_SUMMED = "it sums over the places n as well; each place has a lambda of its own"
_PICTURES_SUMMED = "it sums over all pictures as well; each has lambdas of its own"

_WRONG_POSITIONS = [
    (_EMBEDDINGS_WEIGHED, {"of_embeddings": lambda e: e.softmax(dim=1)}),
    (_EMBEDDINGS_WEIGHED, {"of_embeddings": lambda e: e.softmax(dim=2)}),
    (_EMBEDDINGS_WEIGHED, {"of_embeddings": lambda e: e.softmax(dim=0)}),
    (
        "the values go through a softmax; they are taken as they are",
        {"of_values": _over_positions},
    ),
    (
        "the last two axes are exchanged: its shape is (B, N, v, k), expected (B, N, k, v)",
        {"sums": "nmk, bvm -> bnvk"},
    ),
    (
        "the first two axes are exchanged: its shape is (N, B, k, v), expected (B, N, k, v)",
        {"sums": "nmk, bvm -> nbkv"},
    ),
    (
        "k comes before the places: its shape is (B, k, N, v), expected (B, N, k, v)",
        {"sums": "nmk, bvm -> bknv"},
    ),
    (
        "the places come last: its shape is (B, k, v, N), expected (B, N, k, v)",
        {"sums": "nmk, bvm -> bkvn"},
    ),
    (
        "N and M are exchanged: the first axis of the embeddings is the place that looks, the "
        "second the position that it looks at",
        {"sums": "mnk, bvm -> bnkv"},
    ),
    (
        "each place looks at the value of its own place only; sum over the positions m",
        {"sums": "nmk, bvn -> bnkv"},
    ),
    (_PLACES_SUMMED, {"sums": "nmk, bvm -> bkv"}),
    (_PICTURES_SUMMED, {"sums": "nmk, bvm -> nkv"}),
    (
        "it sums over k, the numbers of an embedding; they stay, as an axis of the result",
        {"sums": "nmk, bvm -> bnv"},
    ),
    (
        "it sums over v, the numbers of a value; they stay, as an axis of the result",
        {"sums": "nmk, bvm -> bnk"},
    ),
    (
        "embeddings and values are summed each on its own: their positions need the same letter",
        {"sums": "nmk, bvp -> bnkv"},
    ),
    (
        "it is divided by the root of k, as attention does; here nothing is scaled",
        {"of_embeddings": lambda e: e / e.shape[2] ** 0.5},
    ),
    (
        "the positions m are not summed over: they stay as an axis of the result",
        {"sums": "nmk, bvm -> bnmkv"},
    ),
]
for _cause, _difference in _WRONG_POSITIONS:
    POSITION.mistake(_cause)(partial(_wrong_position, **_difference))


@POSITION.mistake("it takes the mean over the positions m; they are summed")
def _(embeddings, values):
    return position_lambdas(embeddings, values) / values.shape[2]


@POSITION.mistake(_PICTURES_SUMMED)
def _(embeddings, values):
    out = position_lambdas(embeddings, values)
    return out.sum(dim=0, keepdim=True).expand_as(out)


@POSITION.mistake(_PLACES_SUMMED)
def _(embeddings, values):
    out = position_lambdas(embeddings, values)
    return out.sum(dim=1, keepdim=True).expand_as(out)


@POSITION.mistake("only the first picture is looked at")
def _(embeddings, values):
    return position_lambdas(embeddings, values[:1])


@POSITION.mistake("reshape or view does not exchange axes; transpose does")
def _(embeddings, values):
    places, positions, depth = embeddings.shape
    return torch.einsum("nkm, bvm -> bnkv", embeddings.reshape(places, depth, positions), values)


@POSITION.mistake("reshape or view does not exchange axes; transpose does")
def _(embeddings, values):
    batch, depth, positions = values.shape
    return torch.einsum("nmk, bmv -> bnkv", embeddings, values.reshape(batch, positions, depth))


@POSITION.mistake("what the last position m gave is kept alone; in a loop add each up, with +=")
def _(embeddings, values):
    return position_lambdas(embeddings[:, -1:], values[..., -1:])


@POSITION.mistake("the last position is left out")
def _(embeddings, values):
    return position_lambdas(embeddings[:, :-1], values[..., :-1])


# --- lambda_parameters --------------------------------------------------------------------------


def lambda_parameters(dim_in: int, dim_out: int, dim_k: int, heads: int, dim_u: int, r: int) -> int:
    """How many numbers a local ``LambdaLayer`` has to learn, counted by hand.

    Queries, keys and values are 1×1 convolutions of x without bias: dim_k channels for each head,
    dim_k · dim_u, and (dim_out / heads) · dim_u. A norm with two numbers for each channel follows
    the queries and the values. The positions are an r×r convolution from dim_u to dim_k channels
    with a bias.
    """
    dim_v = dim_out // heads  # the heads share one lambda and stand side by side in the output

    queries = dim_in * dim_k * heads
    keys = dim_in * dim_k * dim_u
    values = dim_in * dim_v * dim_u

    norms = 2 * dim_k * heads + 2 * dim_v * dim_u  # keys need none: a softmax follows
    positions = dim_u * dim_k * r * r + dim_k  # the last is the bias

    return queries + keys + values + norms + positions


def _parameter_cases() -> list[tuple]:
    return [
        ("every size is 1", 1, 1, 1, 1, 1, 1),
        ("r is 3", 1, 1, 1, 1, 1, 3),
        ("x has two channels", 2, 1, 1, 1, 1, 1),
        ("the result has two channels", 1, 2, 1, 1, 1, 1),
        ("a query has two numbers", 1, 1, 2, 1, 1, 1),
        ("there are two heads", 1, 2, 1, 2, 1, 1),
        ("dim_u is 2", 1, 1, 1, 1, 2, 1),
        ("dim_u is 2 and r is 3", 1, 1, 1, 1, 2, 3),
        ("all sizes differ", 10, 12, 5, 4, 3, 7),
        ("the layer is one of a LambdaResNet", 256, 256, 16, 4, 1, 23),
    ]


PARAMETERS = Exercise(
    reference=lambda_parameters,
    hint="write down the shape of each weight: (dim_k · heads, dim_in, 1, 1), …; add them up.",
    cases=_parameter_cases,
    read=read_number,
)


def _parts(sizes: SimpleNamespace) -> SimpleNamespace:
    """The numbers of each part."""
    dim_v = sizes.dim_out // sizes.heads

    return SimpleNamespace(
        dim_v=dim_v,
        queries=sizes.dim_in * sizes.dim_k * sizes.heads,
        keys=sizes.dim_in * sizes.dim_k * sizes.dim_u,
        values=sizes.dim_in * dim_v * sizes.dim_u,
        norm_q=2 * sizes.dim_k * sizes.heads,
        norm_v=2 * dim_v * sizes.dim_u,
        kernel=sizes.dim_u * sizes.dim_k * sizes.r**2,
        bias=sizes.dim_k,
    )


def _miscounted(
    dim_in: int, dim_out: int, dim_k: int, heads: int, dim_u: int, r: int, *, by: Callable
) -> int:
    """The count and what a mistake adds to it or takes away. by: (sizes, parts) → that."""
    sizes = SimpleNamespace(
        dim_in=dim_in, dim_out=dim_out, dim_k=dim_k, heads=heads, dim_u=dim_u, r=r
    )
    return lambda_parameters(dim_in, dim_out, dim_k, heads, dim_u, r) + by(sizes, _parts(sizes))


_MISCOUNTS = [
    ("the bias of the positions' convolution is left out", lambda s, p: -p.bias),
    (
        "the bias of the positions' convolution has dim_k numbers, one for each of its output "
        "channels",
        lambda s, p: s.dim_u - p.bias,
    ),
    (
        "the bias of the positions' convolution has dim_k numbers, one for each of its output "
        "channels",
        lambda s, p: s.dim_k * s.dim_u - p.bias,
    ),
    (
        "the bias of the positions' convolution has dim_k numbers, one for each of its output "
        "channels",
        lambda s, p: 1 - p.bias,
    ),
    ("both norms are left out", lambda s, p: -p.norm_q - p.norm_v),
    ("the norm of the values is left out", lambda s, p: -p.norm_v),
    ("the norm of the queries is left out", lambda s, p: -p.norm_q),
    (
        "a norm is counted for the keys as well; a softmax follows them, and no norm",
        lambda s, p: 2 * s.dim_k * s.dim_u,
    ),
    (
        "a norm learns two numbers for each channel, a factor and a shift",
        lambda s, p: -(p.norm_q + p.norm_v) // 2,
    ),
    (
        "a norm learns a factor and a shift for each of its channels, not two numbers in all",
        lambda s, p: 4 - p.norm_q - p.norm_v,
    ),
    (
        "a norm has the channels of what it normalises, the queries or the values, not dim_in",
        lambda s, p: 4 * s.dim_in - p.norm_q - p.norm_v,
    ),
    (
        "the running mean and variance of the norms are counted; they are measured, not learned",
        lambda s, p: p.norm_q + p.norm_v,
    ),
    (
        "the running statistics of the norms are counted; they are measured, not learned",
        lambda s, p: p.norm_q + p.norm_v + 2,
    ),
    (
        "the values have dim_out / heads numbers, not dim_out: all heads read the same lambda",
        lambda s, p: (s.heads - 1) * (p.values + p.norm_v),
    ),
    (
        "the values have dim_out / heads numbers, not dim_out: all heads read the same lambda",
        lambda s, p: (s.heads - 1) * p.values,
    ),
    (
        "the norm of the values has dim_out / heads · dim_u channels, as they do",
        lambda s, p: (s.heads - 1) * p.norm_v,
    ),
    (
        "dim_out is multiplied by heads; it is divided among them",
        lambda s, p: (s.dim_out * s.heads - p.dim_v) * s.dim_u * (s.dim_in + 2),
    ),
    (
        "the queries are counted once; each head has a query of its own",
        lambda s, p: (s.dim_k - s.dim_k * s.heads) * (s.dim_in + 2),
    ),
    (
        "the queries are counted once; each head has a query of its own",
        lambda s, p: (s.dim_k - s.dim_k * s.heads) * s.dim_in,
    ),
    (
        "the norm of the queries has dim_k · heads channels, as they do",
        lambda s, p: 2 * (s.dim_k - s.dim_k * s.heads),
    ),
    (
        "the keys are counted for every head; all heads share one set of keys",
        lambda s, p: (s.heads - 1) * p.keys,
    ),
    (
        "keys and values are counted for every head; all heads share one set of each",
        lambda s, p: (s.heads - 1) * (p.keys + p.values + p.norm_v),
    ),
    (
        "keys and values are counted for every head; all heads share one set of each",
        lambda s, p: (s.heads - 1) * (p.keys + p.values),
    ),
    (
        "the norms and the bias of the positions' convolution are left out",
        lambda s, p: -p.norm_q - p.norm_v - p.bias,
    ),
    (
        "dim_u is left out: keys and values are dim_u times as many, and the positions' kernels "
        "read dim_u channels",
        lambda s, p: -(p.keys + p.values + p.norm_v + p.kernel) // s.dim_u * (s.dim_u - 1),
    ),
    (
        "the keys are dim_u times as many: dim_k · dim_u channels",
        lambda s, p: p.keys // s.dim_u - p.keys,
    ),
    (
        "the values are dim_u times as many: dim_out / heads · dim_u channels",
        lambda s, p: (p.values + p.norm_v) // s.dim_u * (1 - s.dim_u),
    ),
    (
        "the values are dim_u times as many: dim_out / heads · dim_u channels",
        lambda s, p: p.values // s.dim_u * (1 - s.dim_u),
    ),
    (
        "the norm of the values has dim_out / heads · dim_u channels, as they do",
        lambda s, p: p.norm_v // s.dim_u * (1 - s.dim_u),
    ),
    (
        "the kernels of the positions have dim_u input channels",
        lambda s, p: p.kernel // s.dim_u * (1 - s.dim_u),
    ),
    (
        "the queries have nothing to do with dim_u: dim_k · heads channels",
        lambda s, p: (s.dim_u - 1) * (p.queries + p.norm_q),
    ),
    (
        "the queries have nothing to do with dim_u: dim_k · heads channels",
        lambda s, p: (s.dim_u - 1) * p.queries,
    ),
    (
        "a kernel of the positions has r · r numbers for each channel, not r",
        lambda s, p: p.kernel // s.r - p.kernel,
    ),
    (
        "a kernel of the positions has r · r numbers for each channel, not 2 · r",
        lambda s, p: 2 * p.kernel // s.r - p.kernel,
    ),
    (
        "a local layer has r · r offsets, not (2r − 1)²: r is the width of the whole window",
        lambda s, p: s.dim_u * s.dim_k * ((2 * s.r - 1) ** 2 - s.r**2),
    ),
    ("the positions are left out", lambda s, p: -p.kernel - p.bias),
    ("the queries are left out", lambda s, p: -p.queries),
    ("the keys are left out", lambda s, p: -p.keys),
    ("the values are left out", lambda s, p: -p.values),
    (
        "one kernel serves all numbers of a value: the positions have no factor dim_out / heads",
        lambda s, p: (p.dim_v - 1) * p.kernel,
    ),
    (
        "one kernel serves all heads: the positions have no factor heads",
        lambda s, p: (s.heads - 1) * (p.kernel + p.bias),
    ),
    (
        "one kernel serves all heads: the positions have no factor heads",
        lambda s, p: (s.heads - 1) * p.kernel,
    ),
    (
        "queries, keys and values are 1×1 convolutions; 3×3 ones are counted",
        lambda s, p: 8 * (p.queries + p.keys + p.values),
    ),
    (
        "queries, keys and values have a bias in it; only the positions' convolution has one",
        lambda s, p: s.dim_k * s.heads + s.dim_k * s.dim_u + p.dim_v * s.dim_u,
    ),
    (
        "a projection from the heads to dim_out channels is counted; they just stand side by side",
        lambda s, p: s.dim_out**2,
    ),
]

for _cause, _difference in _MISCOUNTS:
    PARAMETERS.mistake(_cause)(partial(_miscounted, by=_difference))


@PARAMETERS.mistake("it gives the number of tensors; add up the numbers in them, numel()")
def _(dim_in, dim_out, dim_k, heads, dim_u, r):
    return 9  # one of each projection, two of each norm, kernel and bias of the positions


# --- noisy_labels -------------------------------------------------------------------------------


def noisy_labels(
    labels: np.ndarray, rate: float, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """A copy of the labels in which each is wrong with probability rate.

    labels: whole numbers from 0 to classes − 1, left as they are. rate: 0 to 1. A wrong label is
    any other class, each equally likely. All that is random is drawn from rng.
    """
    is_wrong = rng.random(len(labels)) < rate

    # so many classes further, round the circle; never 0, which would be the right one again
    shifts = rng.integers(1, classes, len(labels))  # 1 to classes − 1
    others = (labels + shifts) % classes

    return np.where(is_wrong, others, labels)


SEED = 0  # of every rng
BOUND = 5.0  # standard deviations: of a million counts that are right one lies further off


def _labels(count: int, classes: int) -> np.ndarray:
    """In no order, and of three classes or more none of the last, as a small set may have it."""
    present = max(2, classes - 1)
    return np.random.default_rng(1).permutation(np.arange(count) % present)


class _GlobalNumbers:
    """Whether numbers were drawn from numpy's global stream, which the rng does not steer."""

    def note(self) -> None:
        self.state = np.random.get_state()

    def moved(self) -> bool:
        """Since the note; puts the stream back where it stood."""
        _, keys, place, *_ = self.state
        _, keys_now, place_now, *_ = np.random.get_state()
        np.random.set_state(self.state)
        return place != place_now or not np.array_equal(keys, keys_now)


_global_numbers = _GlobalNumbers()


def _noise_cases() -> list[tuple]:
    _global_numbers.note()
    rng = np.random.default_rng(SEED)

    return [
        ("the rate is 0", _labels(12, 3), 0.0, 3, rng),
        ("the rate is 1", _labels(3000, 4), 1.0, 4, rng),
        ("the rate is 1 and there are two classes", _labels(400, 2), 1.0, 2, rng),
        ("the rate is 0.5", _labels(3000, 4), 0.5, 4, rng),
        ("the rate is 0.2", _labels(3000, 4), 0.2, 4, rng),
    ]


def _read_noise(result: Any, args: list) -> str:
    """In words what a right answer shows; raises Unreadable with what the counts say instead."""
    labels, rate, classes, rng = args
    right = _labels(len(labels), classes)
    if not np.array_equal(labels, right):
        raise Unreadable(
            "it changes the labels that it is given, in place; begin with labels.copy()"
        )

    noisy = _read_labels(result, right, classes)
    if 0 < rate < 1:
        _expect_drawn_from(rng)

    is_wrong = noisy != right
    if rate == 0 and is_wrong.any() and np.array_equal(np.sort(noisy), np.sort(right)):
        raise Unreadable("the labels come back in another order; each belongs to its picture")
    _expect_rate(is_wrong, rate, classes)
    _expect_no_order(is_wrong, rate)
    if rate > 0:
        _expect_all_others(noisy, right, is_wrong, classes)
        _expect_equally_often(noisy, right, rate, classes)

    return f"about {rate * len(labels):,.0f} of {len(labels):,} labels wrong"


def _read_labels(result: Any, right: np.ndarray, classes: int) -> np.ndarray:
    """Whole numbers, as many as given, and each a class."""
    if isinstance(result, tuple):
        raise Unreadable("it returns a tuple, expected one array of labels")
    try:
        noisy = np.asarray(result)
    except (TypeError, ValueError, RuntimeError):
        noisy = np.asarray(None)

    if noisy.dtype == bool:
        raise Unreadable("it returns True and False, which tell what is wrong; expected labels")
    if not noisy.ndim:
        raise Unreadable(f"it returns a {type(result).__name__}, expected an array of labels")
    if noisy.dtype.kind not in "iu":
        raise Unreadable(f"it returns labels of {noisy.dtype}, expected whole numbers")

    if noisy.ndim > 1:
        raise Unreadable(f"it returns labels of shape {noisy.shape}, expected {right.shape}")
    if len(noisy) != len(right):
        raise Unreadable(
            f"it returns {len(noisy):,} labels, expected as many as it is given, {len(right):,}: "
            "those that stay right are among them"
        )

    outside = noisy[(noisy < 0) | (noisy >= classes)]
    if len(outside):
        raise Unreadable(
            f"it returns the label {outside[0]}, and the {classes} classes are 0 to {classes - 1}; "
            "% classes leads round the circle"
        )
    return noisy.astype(np.int64)


def _expect_drawn_from(rng: np.random.Generator) -> None:
    if _global_numbers.moved():
        raise Unreadable(
            "it draws from np.random, so that a seed does not give the same labels again; draw "
            "everything from rng"
        )
    if rng.bit_generator.state == np.random.default_rng(SEED).bit_generator.state:
        raise Unreadable(
            "it draws nothing from rng, so that its seed does not give the same labels again"
        )


def _expect_rate(is_wrong: np.ndarray, rate: float, classes: int) -> None:
    """The count of wrong labels, and what a usual mistake would make of it."""
    labels, wrong = len(is_wrong), int(is_wrong.sum())
    if _is_likely(wrong, labels, rate):
        return

    if rate == 0:
        some = "every label changes" if wrong == labels else "labels change"
        raise Unreadable(f"{some} although the rate is 0")
    if not wrong:
        raise Unreadable(
            "no label is changed; one number is to be drawn for each, and noisy[is_wrong] = … "
            "changes those that are below the rate"
        )
    if wrong == labels:
        raise Unreadable(
            f"every label is wrong although the rate is {rate:g}: draw one number for each label "
            "and compare it with the rate"
        )

    counted = f"of {labels:,} labels {wrong:,} are wrong, expected about {rate * labels:,.0f}"
    causes = {  # the share of wrong labels that a usual mistake leads to
        rate * (1 - 1 / classes): _RIGHT_AGAIN,
        rate * (1 - 1 / max(2, classes - 1)): _RIGHT_AGAIN,  # of 0 to classes − 2
        rate * (1 - 1 / classes**2): _RIGHT_AGAIN,  # and once more where it was the right one
        1 - math.exp(-rate): _CHOSEN_TWICE,
        rate / 100: "the rate is a share, 0 to 1, and not in percent",
    }
    nearest = min(causes, key=lambda share: abs(wrong - labels * share))
    likely = _is_likely(wrong, labels, nearest)
    raise Unreadable(f"{counted}: {causes[nearest]}" if likely else counted)


_RIGHT_AGAIN = "some are drawn as the right one again; draw from the other classes alone"
_CHOSEN_TWICE = (
    "some labels are chosen twice; rng.choice(…, replace=False) chooses each once, and "
    "rng.random(len(labels)) < rate decides for each"
)


def _is_likely(count: int, of: int, chance: float) -> bool:
    """Whether so many hits may come out of so many draws."""
    spread = math.sqrt(of * chance * (1 - chance))
    return abs(count - of * chance) <= BOUND * spread


def _expect_no_order(is_wrong: np.ndarray, rate: float) -> None:
    """Two neighbours are both wrong as often as chance has it."""
    labels, wrong = len(is_wrong), int(is_wrong.sum())
    if 0 < wrong < labels and is_wrong[:wrong].all():
        raise Unreadable(
            "the first labels are made wrong, and in a sorted list these are all of one class; "
            "draw for each label whether it is wrong"
        )

    pairs = int((is_wrong[1:] & is_wrong[:-1]).sum())
    expected = (labels - 1) * rate**2
    # a pair shares a label with the next one, which adds to the spread
    spread = math.sqrt(labels * (rate**2 * (1 - rate**2) + 2 * (rate**3 - rate**4)))
    if abs(pairs - expected) > BOUND * spread:
        raise Unreadable(
            f"the wrong labels have an order: {pairs:,} of them have a wrong one behind them, "
            f"expected about {expected:,.0f}; draw for each label whether it is wrong"
        )


def _expect_all_others(
    noisy: np.ndarray, right: np.ndarray, is_wrong: np.ndarray, classes: int
) -> None:
    """Every number of classes further on comes up."""
    shifts = set(((noisy - right) % classes)[is_wrong].tolist())
    missing = sorted(set(range(1, classes)) - shifts)

    if missing and len(shifts) == 1:
        (shift,) = shifts
        further = "the next class" if shift == 1 else f"{shift} classes further on"
        raise Unreadable(
            f"a wrong label is always {further}; each of them can become any other class, so draw "
            "once for each"
        )
    if missing == [classes - 1]:
        raise Unreadable(
            "a label never becomes the class before it: rng.integers(1, end) leaves out its end"
        )

    never = sorted(set(range(classes)) - set(noisy[is_wrong].tolist()))
    if never:
        raise Unreadable(
            f"no label becomes class {never[0]}; any other of the {classes} classes may come, also "
            "one that is not among the labels given"
        )


def _expect_equally_often(noisy: np.ndarray, right: np.ndarray, rate: float, classes: int) -> None:
    chance = rate / (classes - 1)

    for own in range(classes):
        became = noisy[right == own]
        for other in set(range(classes)) - {own}:
            count = int((became == other).sum())
            if not _is_likely(count, len(became), chance):
                raise Unreadable(
                    f"the other classes are not equally likely: of class {own} {count:,} labels "
                    f"become class {other}, expected about {len(became) * chance:,.0f}"
                )


NOISE = Exercise(
    reference=noisy_labels,
    hint="two draws for each label: is it wrong, and how many classes further on, 1 or more?",
    cases=_noise_cases,
    read=_read_noise,
)


# What comes out is random: most causes are read off the counts, above.


@NOISE.mistake("the rate is taken for the share that stays right; it is that of the wrong labels")
def _(labels, rate, classes, rng):
    return noisy_labels(labels, 1 - rate, classes, rng)


@NOISE.mistake("every label becomes wrong, whatever the rate is")
def _(labels, rate, classes, rng):
    return noisy_labels(labels, 1.0, classes, rng)


# --- generalized_cross_entropy ------------------------------------------------------------------


def generalized_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, q: float = 0.7
) -> torch.Tensor:
    """The mean over a batch of (1 − p^q) / q, where p is the probability of the label.

    logits: (B, classes), of any size: loss and gradient stay finite. labels: (B,). q: above 0, at
    most 1; towards 0 it is cross-entropy. Returns a tensor without axes, to call backward() on.
    Source: Zhang & Sabuncu 2018, arXiv:1805.07836, equation 6.
    """
    log_p = F.log_softmax(logits, dim=1)  # (B, classes)
    log_p = log_p.gather(1, labels[:, None]).squeeze(1)  # (B,), of the labels

    # p^q by way of its logarithm: where p is 0 in float32, the slope of p**q is infinite
    losses = (1 - (q * log_p).exp()) / q

    return losses.mean()


def _logits(values: Any) -> torch.Tensor:
    return given(torch.as_tensor(values)).requires_grad_()


def _loss_cases() -> list[tuple]:
    # e⁰ to e^log 3 is 1 to 3: p is 1/4 and 3/4
    one, its_label = _logits([[0.0, math.log(3)]]), given(torch.tensor([1]))
    two = _logits([[0.0, math.log(3)], [math.log(4), 0.0]])
    their_labels = given(torch.tensor([1, 1]))
    three = _logits([[2.0, 0.5, -1.0], [0.0, 1.0, 0.5]]), given(torch.tensor([0, 2]))

    sure = _logits([[0.0, 200.0]])
    its_other, its_own = given(torch.tensor([0])), given(torch.tensor([1]))
    large = _logits([[1000.0, 999.0]])
    many = _logits(torch.randn(12, 5) * 3), given(torch.randint(5, (12,)))

    return [
        ("q is 1, so that the loss is 1 − p", one, its_label, 1.0),
        ("q is the default", one, its_label),
        ("q is 0.3", one, its_label, 0.3),
        ("there are two pictures", two, their_labels, 1.0),
        ("there are two pictures, and q is the default", two, their_labels),
        ("there are three classes", *three),
        ("there are three classes, and q is 0.3", *three, 0.3),
        ("the network is sure of the label", sure, its_own),
        ("the network is sure of another class", sure, its_other),
        ("the logits are large", large, its_own),
        ("there are many pictures", *many),
        ("there are many pictures, and q is 0.2", *many, 0.2),
    ]


_NO_WAY_BACK = f"no gradient leads back from the loss to the logits: {CUTS_IT_OFF}"


def _read_loss(result: Any, args: list) -> dict[str, torch.Tensor]:
    """The loss, and the gradient that it hands back to the logits."""
    logits, labels = args[:2]
    expect_unchanged(logits, "logits")
    expect_unchanged(labels, "labels")

    if isinstance(result, float | np.ndarray | np.floating) or not _leads_back(result):
        raise Unreadable(_NO_WAY_BACK)
    if not isinstance(result, torch.Tensor):
        raise Unreadable(f"it returns a {type(result).__name__}, expected a tensor")
    if result.ndim:
        raise Unreadable(
            f"it returns values of shape {tuple(result.shape)}, expected a single one, their mean, "
            "without axes"
        )
    if not result.isfinite():
        raise Unreadable(
            f"the loss is {result.item()}: the exponentials of large logits run over in float32, "
            "and the logarithm of 0 is infinite; F.log_softmax keeps clear of both"
        )

    result.backward()
    if logits.grad is None:
        raise Unreadable(_NO_WAY_BACK)
    if not logits.grad.isfinite().all():
        raise Unreadable(
            "the gradient is nan where the network is sure of another class: p is 0 in float32, "
            "where p ** q and log have an infinite slope; take exp(q · log p), with log p from "
            "F.log_softmax"
        )
    return {"the loss": result.detach(), "the gradient of the logits": logits.grad}


def _leads_back(result: Any) -> bool:
    return not isinstance(result, torch.Tensor) or result.requires_grad


LOSS = Exercise(
    reference=generalized_cross_entropy,
    hint="p^q = exp(q · log p), and F.log_softmax gives log p without going through p.",
    cases=_loss_cases,
    read=_read_loss,
)


def _of_labels(log_p: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return log_p.gather(1, labels[:, None]).squeeze(1)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(dim=1)


def _power(log_p: torch.Tensor, q: float) -> torch.Tensor:
    return (1 - (q * log_p).exp()) / q


def _wrong_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    q: float = 0.7,
    *,
    normalise: Callable = _log_softmax,
    pick: Callable = _of_labels,
    loss: Callable = _power,
    reduce: Callable = torch.mean,
) -> torch.Tensor:
    """The steps with something in them that is not the default here."""
    return reduce(loss(pick(normalise(logits), labels), q))


_WRONG_LOSSES = [
    ("the losses are summed over the batch; their mean is asked for", {"reduce": torch.sum}),
    (
        "it is not divided by q",
        {"loss": lambda log_p, q: 1 - (q * log_p).exp()},
    ),
    (
        "it is multiplied by q; divide by it",
        {"loss": lambda log_p, q: (1 - (q * log_p).exp()) * q},
    ),
    (
        "only p^q is divided by q, not 1 − p^q; brackets are missing",
        {"loss": lambda log_p, q: 1 - (q * log_p).exp() / q},
    ),
    (
        "this is cross-entropy itself, −log p",
        {"loss": lambda log_p, q: -log_p},
    ),
    (
        "q is multiplied with p; it is its power",
        {"loss": lambda log_p, q: (1 - q * log_p.exp()) / q},
    ),
    (
        "p is left without its power: this is 1 − p, divided by q",
        {"loss": lambda log_p, q: (1 - log_p.exp()) / q},
    ),
    (
        "p is left without its power: this is 1 − p, whatever q is",
        {"loss": lambda log_p, q: 1 - log_p.exp()},
    ),
    (
        "the power is 1 / q; it is q",
        {"loss": lambda log_p, q: (1 - (log_p / q).exp()) / q},
    ),
    (
        "the power is 1 − q; it is q",
        {"loss": lambda log_p, q: (1 - ((1 - q) * log_p).exp()) / q},
    ),
    (
        "the power is taken of 1 − p; take it of p, and subtract that from 1",
        {"loss": lambda log_p, q: (1 - log_p.exp()).clamp(min=1e-12) ** q / q},
    ),
    (
        "this is the focal loss, (1 − p)^q · (−log p)",
        {"loss": lambda log_p, q: (1 - log_p.exp()).clamp(min=1e-12) ** q * -log_p},
    ),
    (
        "cross-entropy is multiplied by p^q; so its gradient is meant, not the loss",
        {"loss": lambda log_p, q: (q * log_p).exp() * -log_p},
    ),
    (
        "the sign is wrong: the loss is negative, and falls as p falls",
        {"loss": lambda log_p, q: ((q * log_p).exp() - 1) / q},
    ),
    (
        "1 − … is missing: this is p^q / q, which rises with p",
        {"loss": lambda log_p, q: (q * log_p).exp() / q},
    ),
    (
        "1 − … is missing: this is −p^q / q",
        {"loss": lambda log_p, q: -(q * log_p).exp() / q},
    ),
    (
        "a minus is missing: cross_entropy gives −log p, and this is p^−q",
        {"loss": lambda log_p, q: (1 - (-q * log_p).exp()) / q},
    ),
    (
        "the power is taken of log p instead of p",
        {"loss": lambda log_p, q: (1 - log_p**q) / q},
    ),
    (
        "the power is taken of log p instead of p",
        {"loss": lambda log_p, q: (1 - log_p.abs().clamp(min=1e-12) ** q) / q},
    ),
    (
        "the power is taken of log p instead of p",
        {"loss": lambda log_p, q: (1 - (-log_p).clamp(min=1e-12) ** q) / q},
    ),
    (
        "softmax runs over the pictures of the batch; it has to run over the classes, dim=1",
        {"normalise": lambda logits: logits.log_softmax(dim=0)},
    ),
    (
        "the largest probability is taken; that of the label is asked for",
        {"pick": lambda log_p, labels: log_p.amax(dim=1)},
    ),
    (
        "the mean runs over all classes; only the probability of the label counts",
        {"pick": lambda log_p, labels: log_p},
    ),
    (
        "the losses of all classes are summed; only the probability of the label counts",
        {"pick": lambda log_p, labels: log_p, "reduce": lambda losses: losses.sum(dim=1).mean()},
    ),
    (
        "log_p[:, labels] pairs every picture with every label; each has one of its own",
        {"pick": lambda log_p, labels: log_p[:, labels]},
    ),
    (
        "the mean of log p comes before the power; the power belongs to each picture",
        {"pick": lambda log_p, labels: _of_labels(log_p, labels).mean()},
    ),
    (
        "the mean of p comes before the power; the power belongs to each picture",
        {"pick": lambda log_p, labels: _of_labels(log_p, labels).exp().mean().clamp(1e-30).log()},
    ),
    (
        "there is no softmax: the logits themselves are taken for probabilities",
        {
            "normalise": _as_it_is,
            "loss": lambda logits, q: (1 - logits**q) / q,
        },
    ),
    (
        "there is no softmax: the logits themselves are taken for log p",
        {"normalise": _as_it_is},
    ),
    (
        "each logit goes through a sigmoid; softmax weighs the classes against each other",
        {"normalise": lambda logits: F.logsigmoid(logits)},
    ),
    (
        "log_softmax is applied to probabilities; it takes the logits",
        {"normalise": lambda logits: logits.softmax(dim=1).log_softmax(dim=1)},
    ),
    (
        "the value is right, and detach() or .data holds back its gradient, which is 0",
        {"loss": lambda log_p, q: _power(log_p, q).detach() + 0 * log_p},
    ),
]

for _cause, _difference in _WRONG_LOSSES:
    LOSS.mistake(_cause)(partial(_wrong_loss, **_difference))


@LOSS.mistake("it is divided by the number of classes as well; the mean runs over the batch alone")
def _(logits, labels, q=0.7):
    return generalized_cross_entropy(logits, labels, q) / logits.shape[1]


@LOSS.mistake("backward() is called in it, so that the gradient counts twice; leave that to others")
def _(logits, labels, q=0.7):
    loss = generalized_cross_entropy(logits, labels, q)
    loss.backward(retain_graph=True)
    return loss


# --- keep_epoch ---------------------------------------------------------------------------------


def keep_epoch(val_losses: list[float], patience: int) -> int:
    """Early stopping: the number, from 0, of the epoch whose weights are kept.

    An epoch improves if its loss lies below all earlier ones; the first does. The training ends
    after `patience` epochs in a row, 1 or more, that did not; what comes later is never seen. Kept
    are the weights of the last epoch that improved. val_losses: one per epoch, left as they are.
    """
    best = 0

    for epoch, loss in enumerate(val_losses):
        if loss < val_losses[best]:
            best = epoch

        if epoch - best == patience:  # so many without improvement
            break

    return best


def _stopping_cases() -> list[tuple]:
    waves = Given([5.0, 6.0, 4.0, 5.0, 5.0, 3.0, 4.0, 4.0, 4.0, 2.0, 3.0, 1.0])
    long = [Given((torch.rand(30) + 3 / (1 + torch.arange(30))).tolist()) for _ in range(6)]

    return [
        ("there is one epoch", Given([2.0]), 1),
        ("the loss falls", Given([3.0, 2.0, 1.0]), 1),
        ("the loss rises", Given([1.0, 2.0, 3.0]), 1),
        ("the loss stays as it is", Given([2.0, 2.0]), 2),
        ("the loss stays as it is, and a lower one comes too late", Given([2.0, 2.0, 1.0]), 1),
        ("the loss falls, and rises at the end", Given([3.0, 1.0, 2.0]), 1),
        ("patience is 1, and a lower loss comes too late", Given([3.0, 4.0, 2.0]), 1),
        ("patience is 2, and a lower loss comes in time", Given([3.0, 4.0, 2.0]), 2),
        ("patience is 2, and a lower loss comes too late", Given([3.0, 4.0, 4.0, 2.0]), 2),
        ("patience is 3, and a lower loss comes in time", Given([3.0, 4.0, 4.0, 2.0]), 3),
        ("a lower loss comes after the end, and a lower one yet", Given([4.0, 2.0, 3.0, 1.0]), 1),
        ("the loss falls, but not below the best", Given([1.0, 3.0, 2.0, 0.5]), 2),
        ("bad epochs lie apart", Given([5.0, 6.0, 4.0, 5.0, 3.0, 4.0, 2.0]), 2),
        ("the loss falls by very little", Given([1.0, 0.99995, 0.9999]), 1),
        ("patience is longer than the training", Given([2.0, 3.0, 1.5, 4.0]), 10),
        *[(f"patience is {patience}", waves, patience) for patience in (1, 2, 3, 4)],
        *[("there are many epochs", losses, 1 + number) for number, losses in enumerate(long)],
    ]


def _read_epoch(result: Any, args: list) -> float:
    expect_unchanged(args[0], "val_losses")
    return read_number(result, args)


KEEP_EPOCH = Exercise(
    reference=keep_epoch,
    hint="remember the best epoch so far; at epoch e, e − best went by without improvement.",
    cases=_stopping_cases,
    read=_read_epoch,
)


def _wrong_stop(
    val_losses: list[float],
    patience: int,
    *,
    at_first: int = 0,
    is_better: Callable = lambda loss, best, before: loss < best,
    is_bad: Callable = lambda loss, best: True,
    is_due: Callable = lambda bad, patience: bad >= patience,
    after_a_better_one: Callable = lambda bad: 0,
    kept: Callable = lambda best, epoch, losses, patience: best,
) -> float:
    """Early stopping with something in it that is not the default here.

    at_first: bad epochs, before the second was seen. is_bad: of an epoch that is not better.
    """
    best, bad, epoch = 0, at_first, 0

    for epoch in range(1, len(val_losses)):
        loss, before = val_losses[epoch], val_losses[epoch - 1]
        if is_better(loss, val_losses[best], before):
            best, bad = epoch, after_a_better_one(bad)
        else:
            bad += is_bad(loss, val_losses[best])
        if is_due(bad, patience):
            break
    return kept(best, epoch, val_losses, patience)


_WRONG_STOPS = [
    (
        "a loss as low as the best counts as better; it has to lie below it",
        {"is_better": lambda loss, best, before: loss <= best},
    ),
    (
        "a loss as low as the best is not counted as a bad epoch; only a lower one improves",
        {"is_bad": lambda loss, best: loss > best},
    ),
    (
        "the first epoch is counted as a bad one, and it stops an epoch late; no other came before "
        "the first, and `patience` bad epochs in a row are enough",
        {"at_first": 1, "is_due": lambda bad, patience: bad > patience},
    ),
    (
        "a fall of less than a thousandth counts as none; here every fall counts",
        {"is_better": lambda loss, best, before: loss < best - 1e-3},
    ),
    (
        "a fall of less than a thousandth counts as none; here every fall counts",
        {"is_better": lambda loss, best, before: loss < best - 1e-4},
    ),
    (
        "a higher loss counts as better; the lower, the better",
        {"is_better": lambda loss, best, before: loss > best},
    ),
    (
        "the loss is compared with that of the epoch before, not with the best so far",
        {"is_better": lambda loss, best, before: loss < before},
    ),
    (
        "it stops an epoch late: after `patience` bad epochs no other is looked at",
        {"is_due": lambda bad, patience: bad > patience},
    ),
    (
        "it stops an epoch early: `patience` bad epochs in a row are looked at",
        {"is_due": lambda bad, patience: bad > 0 and bad >= patience - 1},
    ),
    (
        "it stops at the first bad epoch, whatever the patience is",
        {"is_due": lambda bad, patience: bad >= 1},
    ),
    (
        "the count of bad epochs goes on after a better one; only those in a row count",
        {"after_a_better_one": lambda bad: bad},
    ),
    (
        "the count of bad epochs is 1 after a better one; it begins at 0",
        {"after_a_better_one": lambda bad: 1},
    ),
    (
        "it never stops: the lowest of all losses is kept, also of those that come after the end",
        {"is_due": lambda bad, patience: False},
    ),
    (
        "it gives the epoch at which the training stops; the best one before it is kept",
        {"kept": lambda best, epoch, losses, patience: epoch},
    ),
    (
        "it gives the number of epochs that were trained, not that of the best one",
        {"kept": lambda best, epoch, losses, patience: epoch + 1},
    ),
    (
        "it gives the loss of the kept epoch; its number is asked for",
        {"kept": lambda best, epoch, losses, patience: losses[best]},
    ),
    (
        "it counts epochs from 1; they are counted from 0",
        {"kept": lambda best, epoch, losses, patience: best + 1},
    ),
    (
        "it goes `patience` epochs back from the last one it saw, which is the best one only if "
        "patience ran out",
        {"kept": lambda best, epoch, losses, patience: epoch - patience},
    ),
    (
        "it goes `patience` epochs back from the last one it saw, which is the best one only if "
        "patience ran out",
        {"kept": lambda best, epoch, losses, patience: max(0, epoch - patience)},
    ),
]

for _cause, _difference in _WRONG_STOPS:
    KEEP_EPOCH.mistake(_cause)(partial(_wrong_stop, **_difference))


def _best_and_stop(losses: list[float], patience: int) -> tuple[int, int | None]:
    """The best epoch, and the one at which patience runs out, None if it does not."""
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best == patience:
            return best, epoch
    return best, None


@KEEP_EPOCH.mistake(
    "where patience runs out it gives the epoch at which the training stops; the best one before "
    "it is kept"
)
def _(val_losses, patience):
    best, stop = _best_and_stop(val_losses, patience)
    return best if stop is None else stop


@KEEP_EPOCH.mistake(
    "where patience runs out it gives the epoch before; the best one lies further back"
)
def _(val_losses, patience):
    best, stop = _best_and_stop(val_losses, patience)
    return best if stop is None else stop - 1


@KEEP_EPOCH.mistake(
    "where patience does not run out it gives the last epoch; the best one is kept then, too"
)
def _(val_losses, patience):
    best, stop = _best_and_stop(val_losses, patience)
    return len(val_losses) - 1 if stop is None else best


@KEEP_EPOCH.mistake("the first epoch is counted as a bad one; no other came before it")
def _(val_losses, patience):
    best, bad = 0, 0
    for epoch, loss in enumerate(val_losses):
        bad += 1
        if loss < val_losses[best]:
            best, bad = epoch, 0
        if bad == patience:
            break
    return best


@KEEP_EPOCH.mistake("it stops before it has looked at the last of `patience` epochs")
def _(val_losses, patience):
    best = 0
    for epoch, loss in enumerate(val_losses):
        if epoch - best == patience:
            break
        if loss < val_losses[best]:
            best = epoch
    return best


@KEEP_EPOCH.mistake("it gives the last epoch of all")
def _(val_losses, patience):
    return len(val_losses) - 1


@KEEP_EPOCH.mistake("it gives the first epoch, whatever the losses are")
def _(val_losses, patience):
    return 0


@KEEP_EPOCH.mistake(
    "only the first epochs are looked at, as many as patience allows without improvement; it "
    "begins anew with each better epoch"
)
def _(val_losses, patience):
    return int(np.argmin(val_losses[: patience + 1]))


@KEEP_EPOCH.mistake(
    "only the first epochs are looked at, as many as patience allows without improvement; it "
    "begins anew with each better epoch"
)
def _(val_losses, patience):
    return int(np.argmin(val_losses[:patience]))


@KEEP_EPOCH.mistake("a loss above that of the epoch before ends the training, whatever patience is")
def _(val_losses, patience):
    for epoch in range(1, len(val_losses)):
        if val_losses[epoch] > val_losses[epoch - 1]:
            return epoch - 1
    return len(val_losses) - 1


@KEEP_EPOCH.mistake("of equal losses the last is kept; the first of them improved")
def _(val_losses, patience):
    kept = val_losses[keep_epoch(val_losses, patience)]
    return max(epoch for epoch, loss in enumerate(val_losses) if loss == kept)


# --- standard_error -----------------------------------------------------------------------------


def standard_error(values: list[float]) -> float:
    """The standard error of the mean of n runs: s / √n.

    values: one per run, two or more, left as they are. s is the sample standard deviation, whose
    sum of squares is divided by n − 1.
    """
    deviation = np.std(values, ddof=1)  # n − 1: the mean was computed from the same runs

    return float(deviation / np.sqrt(len(values)))


def _error_cases() -> list[tuple]:
    return [
        ("there are two runs", Given([1.0, 3.0])),
        ("there are three runs", Given([2.0, 4.0, 9.0])),
        ("all runs agree", Given([5.0, 5.0, 5.0])),
        ("there are five runs", Given([8.1, 8.9, 7.6, 8.4, 8.2])),
        ("values are below zero", Given([-4.0, 1.0, -2.5, 0.5])),
        ("there are many runs", Given((torch.randn(40, dtype=torch.float64) * 3 + 2).tolist())),
    ]


def _read_error(result: Any, args: list) -> float:
    expect_unchanged(args[0], "values")
    return read_number(result, args)


ERROR = Exercise(
    reference=standard_error,
    hint="np.std divides by n unless ddof=1 is given; then divide by the root of n.",
    cases=_error_cases,
    read=_read_error,
)


def _wrong_error(
    values: list[float],
    *,
    middle: Callable = np.mean,
    distance: Callable = np.square,
    less: int = 1,
    of_variance: Callable = lambda variance, n: math.sqrt(variance / n),
) -> float:
    """The standard error with something in it that is not the default here.

    less: what the number of runs that the squares are divided by is less than n.
    """
    n = len(values)
    squares = distance(np.asarray(values) - middle(values))
    return of_variance(squares.sum() / (n - less), n)


_WRONG_ERRORS = [
    (
        "the squares are divided by n; for a sample it is n − 1, ddof=1",
        {"less": 0},
    ),
    (
        "it is the standard deviation, of a single run; divide it by √n",
        {"of_variance": lambda variance, n: math.sqrt(variance)},
    ),
    (
        "it is np.std alone, with n in it: divide the squares by n − 1, and their root by √n",
        {"less": 0, "of_variance": lambda variance, n: math.sqrt(variance)},
    ),
    (
        "the standard deviation is divided by n; divide it by √n",
        {"of_variance": lambda variance, n: math.sqrt(variance) / n},
    ),
    (
        "np.std, with n in it, is divided by n: divide the squares by n − 1, and their root by √n",
        {"less": 0, "of_variance": lambda variance, n: math.sqrt(variance) / n},
    ),
    (
        "it is the variance of the mean; the standard error is its root",
        {"of_variance": lambda variance, n: variance / n},
    ),
    (
        "it is the variance of the mean, with n in it; divide by n − 1, and take the root",
        {"less": 0, "of_variance": lambda variance, n: variance / n},
    ),
    (
        "it is the variance of the runs; take its root, and divide by √n",
        {"of_variance": lambda variance, n: variance},
    ),
    (
        "the standard deviation is divided by n − 1; divide it by √n",
        {"of_variance": lambda variance, n: math.sqrt(variance) / (n - 1)},
    ),
    (
        "the variance is divided by √n; take the root of the variance first",
        {"of_variance": lambda variance, n: variance / math.sqrt(n)},
    ),
    (
        "n − 1 is in it twice; the standard deviation is divided by √n",
        {"of_variance": lambda variance, n: math.sqrt(variance / (n - 1))},
    ),
    (
        "the standard deviation is multiplied by √n; divide by it",
        {"of_variance": lambda variance, n: math.sqrt(variance * n)},
    ),
    (
        "the sum of squares is not divided by n − 1",
        {"of_variance": lambda variance, n: math.sqrt(variance * (n - 1) / math.sqrt(n))},
    ),
    (
        "it is multiplied by 1.96, as for an interval of 95 %; the error itself is asked for",
        {"of_variance": lambda variance, n: 1.96 * math.sqrt(variance / n)},
    ),
    (
        "it is doubled, as for an interval of 95 %; the error itself is asked for",
        {"of_variance": lambda variance, n: 2 * math.sqrt(variance / n)},
    ),
    (
        "it is in percent; the error has the unit of the values",
        {"of_variance": lambda variance, n: 100 * math.sqrt(variance / n)},
    ),
    (
        "distances are taken from the median; take them from the mean",
        {"middle": np.median},
    ),
    (
        "distances are taken from the first run; take them from the mean",
        {"middle": lambda values: values[0]},
    ),
    (
        "no mean is subtracted: distances are taken from 0",
        {"middle": lambda values: 0.0},
    ),
]

for _cause, _difference in _WRONG_ERRORS:
    ERROR.mistake(_cause)(partial(_wrong_error, **_difference))


@ERROR.mistake("it is the mean itself; its standard error is asked for")
def _(values):
    return float(np.mean(values))


@ERROR.mistake("it is half the range, from the lowest to the highest; take the standard deviation")
def _(values):
    return (max(values) - min(values)) / 2


@ERROR.mistake("it is the whole range, from the lowest to the highest; take the standard deviation")
def _(values):
    return max(values) - min(values)


@ERROR.mistake("it is divided by the mean; the error has the unit of the values")
def _(values):
    return standard_error(values) / np.mean(values)


_ABSOLUTE = "absolute distances are averaged; the standard deviation is the root of mean squares"


@ERROR.mistake(_ABSOLUTE)
def _(values):
    return np.abs(np.asarray(values) - np.mean(values)).mean() / math.sqrt(len(values))


@ERROR.mistake(_ABSOLUTE)
def _(values):
    total = np.abs(np.asarray(values) - np.mean(values)).sum()
    return total / (len(values) - 1) / math.sqrt(len(values))


_ROUNDED = "it is rounded; return the number as it is"

for _digits in range(5):

    @ERROR.mistake(_ROUNDED)
    def _(values, digits=_digits):
        return round(standard_error(values), digits)


_COUNTED = (
    "√(p · (1 − p) / n) is the error of an accuracy that is counted on n pictures; here it is the "
    "spread between n runs"
)


@ERROR.mistake(_COUNTED)
def _(values):
    p = np.mean(values)
    return complex(p * (1 - p) / len(values)) ** 0.5


@ERROR.mistake(_COUNTED)
def _(values):
    p = np.mean(values)
    return math.sqrt(p * (1 - p) / len(values))


EXERCISES = [
    CONTENT,
    POSITION,
    PARAMETERS,
    NOISE,
    LOSS,
    KEEP_EPOCH,
    ERROR,
]
