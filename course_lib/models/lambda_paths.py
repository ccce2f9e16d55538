"""The lambda layer on a CPU: three exact paths, and which is cheapest depends on the shapes alone.

The lambda of position n is λp_n = E_nᵀV, its output y_n = λp_nᵀ q_n (Bello 2021, arXiv:2102.08602,
equation 2). No softmax stands in between, so the brackets may move. Multiply-adds per picture, for
n queries of h heads with m keys in sight each, and u = 1:

* y = (E V)ᵀ q, the lambdas first, a convolution of V:          n · m · k · v
* y = (q E) V, the attention A = q E first, two products:       n · m · h · (k + v)

At k = 16, h = 4, v = 32 that is 512 against 192 for each of the n · m pairs, and no lambda of k · v
numbers per position is stored. The products need E spelled out, n · m · k numbers of which only
r² · k differ; and they take whole blocks of keys, where a convolution takes exactly r² each, even
those beyond the edge of the map. On a CPU memory traffic decides, so they come in three forms:

* ``whole``: E for all pairs at once. Few, large steps; m = H · W. For maps whose E fits the cache,
  with an attention well below the lambdas it stands for.
* ``rows``: one row of queries at a time. All rows share one E, shifted, with W · r · W · k numbers
  at most; m is min(r, H) · W. The attention of a row stays in the cache and is not kept: the
  backward pass makes it again, for k / (k + v) of the forward pass. Memory grows with the map, no
  longer with its square.
* ``stripes``: ``rows`` on upright stripes of 8 columns with the keys around them,
  m = min(r, H) · (8 + r - 1): on a 56 × 56 map with r = 23, 690 keys instead of 1,288.

The lambdas first, as a convolution, is the definition, and the road of the packages lambda-networks
and timm. Measured, forward and backward, against lambda-networks (benchmarks/lambda.json, two
cores): 6.4 times as fast on 4×4 and 6.7 on 8×8 (``whole``), 4.2 on 14×14, 4.3 on 16×16 (``rows``),
4.9 on 32×32 and 2.5 on 56×56 (``stripes``). On a GPU the choice has not been measured; there the
definition runs, unless ``LambdaLayer.path`` forces another.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

STRIPE = 8  # queries side by side in a stripe: fewer make small products, more see keys in vain
WHOLE = 2**17  # numbers in E up to which it is built for the whole map: half a megabyte


def output(layer: nn.Module, x: torch.Tensor, path: str) -> torch.Tensor:
    """What ``LambdaLayer.forward`` defines, by a path: (B, dim_in, H, W) → (B, dim_out, H, W)."""
    height, width = x.shape[-2:]

    convs = layer.to_q, layer.to_k, layer.to_v
    projected = _project(torch.cat([conv.weight for conv in convs]), x)
    parts = projected.split([conv.out_channels for conv in convs], dim=1)
    q, k, v = (_with_bias(part, conv.bias) for part, conv in zip(parts, convs, strict=True))
    q, v = layer.norm_q(q), layer.norm_v(v)
    dtype = q.dtype

    with without_autocast(x.device.type):
        q, k, v, kernel = (at_least_float32(t) for t in (q, k, v, layer.kernel))
        q = q.unflatten(1, (layer.heads, layer.dim_k))  # (B, h, k, H, W)
        k = layer.normalise_keys(k.unflatten(1, (layer.dim_u, layer.dim_k)))  # (B, u, k, m)
        v = v.unflatten(1, (layer.dim_u, layer.dim_v))  # (B, u, v, H, W)

        content = (v.flatten(3) @ k.transpose(2, 3)).sum(1)  # λcᵀ, (B, v, k)
        if layer.bias is not None:
            content = content + layer.bias  # the same for every pair, as λc is

        y = content.unsqueeze(1) @ q.flatten(3)  # (B, h, v, n)
        y = y.unflatten(-1, (height, width))  # (B, h, v, H, W)
        y = y + PATHS[path](q, kernel, v)

    return y.flatten(1, 2).to(dtype)


def cheapest(kernel: torch.Size, dim_v: int, heads: int, height: int, width: int) -> str:
    """The name of the path to take on a map of height × width; kernel: its shape, (k, u, r, r)."""
    k, u, _, columns = kernel
    positions = height * width

    e_fits = positions**2 * k * u <= WHOLE
    attention_is_small = 4 * heads * positions <= k * dim_v  # it is kept: a quarter of the lambdas
    if e_fits and attention_is_small:
        return "whole"

    keys_in_a_stripe = STRIPE + min(columns, 2 * width - 1) - 1
    return "stripes" if width > keys_in_a_stripe else "rows"


# --- the paths: q (B, h, k, H, W), kernel (k, u, r, r), v (B, u, v, H, W) → (B, h, v, H, W) -------


def whole(q: torch.Tensor, kernel: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Two products over the whole map."""
    batch, heads, k, height, width = q.shape

    e = _fit(kernel, 2 * height - 1, 2 * width - 1)
    e = _windows(_windows(e, 2, height), 3, width)  # (k, u, y, x, y', x')
    e = e.permute(2, 3, 0, 1, 4, 5).reshape(height * width, k, -1)  # (n, k, m)
    v = v.transpose(1, 2).flatten(2).transpose(1, 2)  # (B, m, v)

    a = torch.bmm(_by_query(q.flatten(3)), e)  # (n, h·B, m)
    y = torch.bmm(_by_picture(a, batch), v)  # (B, n·h, v)
    return y.view(batch, height, width, heads, -1).permute(0, 3, 4, 1, 2)


def rows(q: torch.Tensor, kernel: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Two products, one row of queries at a time."""
    height, width = q.shape[-2:]
    tall = min(kernel.shape[2], 2 * height - 1)

    e = _row_of(_fit(kernel, tall, 2 * width - 1), width)  # (W, k, R, u·W)
    v = v.permute(0, 2, 3, 1, 4).flatten(3)  # (B, v, H, u·W)
    return _RowByRow.apply(q, e, v)


def stripes(q: torch.Tensor, kernel: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """``rows`` on stripes of the map, each with the keys that reach into it."""
    height, width = q.shape[-2:]
    tall = min(kernel.shape[2], 2 * height - 1)
    columns = min(kernel.shape[3], 2 * width - 1)
    count = -(-width // STRIPE)
    missing = count * STRIPE - width  # the last stripe is filled up with zeros
    reach = columns // 2

    q = F.pad(q, (0, missing)).unflatten(-1, (count, STRIPE))  # (B, h, k, H, s, 8)
    q = q.permute(0, 4, 1, 2, 3, 5).flatten(0, 1)  # (B·s, h, k, H, 8)

    v = F.pad(v, (reach, reach + missing))
    v = v.unfold(4, STRIPE + columns - 1, STRIPE)  # (B, u, v, H, s, 8 + r - 1)
    v = v.permute(0, 4, 2, 3, 1, 5).flatten(4).flatten(0, 1)  # (B·s, v, H, u·keys)

    e = _row_of(_fit(kernel, tall, columns + 2 * (STRIPE - 1)), STRIPE)  # (8, k, R, u·keys)
    y = _RowByRow.apply(q, e, v)  # (B·s, h, v, H, 8)

    y = y.unflatten(0, (-1, count)).permute(0, 2, 3, 4, 1, 5)  # (B, h, v, H, s, 8)
    return y.flatten(4)[..., :width]


PATHS = {path.__name__: path for path in (whole, rows, stripes)}


class _RowByRow(torch.autograd.Function):
    """q (B, h, k, H, W), e (W, k, R, L), v (B, v, H, L) → (B, h, v, H, W).

    L: the keys of a row, times u; R: the rows of the kernel. The attention of each row is written
    where that of the last one stood, and so is its gradient. Positions stand first in all that is
    cut into rows, so that a row lies together.
    """

    @staticmethod
    def forward(ctx, q, e, v):
        batch, heads, _, height, width = q.shape
        q = _by_position(q).transpose(2, 3).contiguous()  # (H, W, h, B, k)
        ctx.save_for_backward(q, e, v)

        out = q.new_empty(height, batch, width * heads, v.shape[1])
        room = _room(q, e)

        for y, keys, offsets in _sights(height, e.shape[2]):
            e_row = e[:, :, offsets].flatten(2)  # (W, k, m)
            v_row = v[:, :, keys].flatten(2).transpose(1, 2)  # (B, m, v)

            a = _product(q[y].flatten(1, 2), e_row, room)  # (W, h·B, m)
            torch.bmm(_by_picture(a, batch), v_row, out=out[y])  # (B, W·h, v)

        return out.view(height, batch, width, heads, -1).permute(1, 3, 4, 0, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, e, v = ctx.saved_tensors
        height, width, heads, batch, k = q.shape
        grad = _by_position(grad)  # (H, W, B, h, v)

        dq = q.new_empty(height, width, batch * heads, k)
        de, dv = torch.zeros_like(e), torch.zeros_like(v)
        room = _room(q, e)

        for y, keys, offsets in _sights(height, e.shape[2]):
            e_row = e[:, :, offsets].flatten(2)  # (W, k, m)
            v_row = v[:, :, keys].flatten(2)  # (B, v, m)

            # The attention once more, for it was not kept: dV = gᵀ A.
            a = _by_picture(_product(q[y].flatten(1, 2), e_row, room), batch)  # (B, W·h, m)
            g = grad[y].transpose(0, 1).reshape(batch, width * heads, -1)  # (B, W·h, v)
            _add_product(dv[:, :, keys], g.transpose(1, 2), a)

            # Its gradient takes the place: dA = g Vᵀ.
            g = grad[y].permute(1, 2, 0, 3).reshape(batch, heads * width, -1)  # (B, h·W, v)
            da = _product(g, v_row, room)  # (B, h·W, m)
            da = da.view(batch * heads, width, -1).transpose(0, 1)  # (W, B·h, m)

            # dE = qᵀ dA, dq = dA Eᵀ.
            q_row = q[y].transpose(1, 2).flatten(1, 2)  # (W, B·h, k)
            _add_product(de[:, :, offsets], q_row.transpose(1, 2), da)
            torch.bmm(da, e_row.transpose(1, 2), out=dq[y])

        return _by_channel(dq.view(height, width, batch, heads, k)), de, dv


# --- rows -----------------------------------------------------------------------------------------


def _sights(height: int, tall: int) -> Iterator[tuple[int, slice, slice]]:
    """For each row of queries: the rows of keys in sight, and their offsets in the kernel."""
    reach = tall // 2
    for y in range(height):
        top, end = max(0, y - reach), min(height, y + reach + 1)
        yield y, slice(top, end), slice(top - y + reach, end - y + reach)


def _room(q: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """Memory for the attention of one row."""
    height, width, heads, batch, _ = q.shape
    keys = min(height, e.shape[2]) * e.shape[3]
    return q.new_empty(batch * heads * width * keys)


def _product(a: torch.Tensor, b: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """The batched product, written to the beginning of room."""
    shape = (*a.shape[:2], b.shape[2])
    return torch.bmm(a, b, out=room[: math.prod(shape)].view(shape))


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """total += a b; where total lies together, as when every key is in sight, without a copy."""
    if total.is_contiguous():
        total.flatten(2).baddbmm_(a, b)
    else:
        total += torch.bmm(a, b).view_as(total)


# --- the kernel -----------------------------------------------------------------------------------


def _fit(kernel: torch.Tensor, tall: int, wide: int) -> torch.Tensor:
    """The kernel cropped to the offsets that the map has, or padded with zeros to those it sees."""
    down, right = (tall - kernel.shape[2]) // 2, (wide - kernel.shape[3]) // 2
    return F.pad(kernel, (right, right, down, down))


def _windows(kernel: torch.Tensor, dim: int, queries: int) -> torch.Tensor:
    """What each query sees of one dimension of the kernel.

    (…, C, …) → (…, queries, …, C - queries + 1). The first query stands leftmost and sees the end
    of the kernel, hence the flip.
    """
    return kernel.unfold(dim, kernel.shape[dim] - queries + 1, 1).flip(dim)


def _row_of(kernel: torch.Tensor, queries: int) -> torch.Tensor:
    """E for one row of queries: (k, u, R, C) → (queries, k, R, u · keys)."""
    e = _windows(kernel, 3, queries)  # (k, u, R, queries, keys)
    return e.permute(3, 0, 2, 1, 4).flatten(3).contiguous()


# --- the order of dimensions ----------------------------------------------------------------------


def _by_position(t: torch.Tensor) -> torch.Tensor:
    """(B, h, c, H, W) → (H, W, B, h, c): one matrix turned over, which torch copies by blocks."""
    batch, heads, c, height, width = t.shape
    return t.reshape(-1, height * width).t().contiguous().view(height, width, batch, heads, c)


def _by_channel(t: torch.Tensor) -> torch.Tensor:
    """And back: (H, W, B, h, c) → (B, h, c, H, W)."""
    height, width, *channels = t.shape
    return t.view(height * width, -1).t().contiguous().view(*channels, height, width)


def _by_query(q: torch.Tensor) -> torch.Tensor:
    """(B, h, k, W) → (W, h · B, k): one product per query position, for all pictures share E."""
    return q.permute(3, 1, 0, 2).flatten(1, 2)


def _by_picture(a: torch.Tensor, batch: int) -> torch.Tensor:
    """(W, h · B, m) → (B, W · h, m): one product per picture, uncopied, for h stands before B."""
    return a.view(-1, batch, a.shape[-1]).transpose(0, 1)


# --- precision, projections, and a fault of torch -------------------------------------------------


def at_least_float32(t: torch.Tensor) -> torch.Tensor:
    """Sums of many terms need it: bfloat16 and float16 are widened, float64 stays."""
    return t.to(torch.promote_types(t.dtype, torch.float32))


def without_autocast(device: str) -> AbstractContextManager:
    """Autocast off; the device "meta", on which networks are counted, has none."""
    # torch.compile may not ask torch which devices have autocast
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def _project(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A 1×1 convolution, on maps with more positions than channels as a product for each picture.

    That is quicker there. On smaller maps the gradients of the weights, one for each picture before
    they are summed, would outweigh it.
    """
    height, width = x.shape[2:]
    if height * width < x.shape[1]:
        return F.conv2d(x, weight)

    weight = weight.flatten(1).expand(x.shape[0], -1, -1)  # (B, C_out, C_in)
    return torch.bmm(weight, x.flatten(2)).unflatten(2, (height, width))


def _with_bias(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The layer is built without one; a norm that is fused into a projection leaves its own."""
    return x if bias is None else x + bias.to(x.dtype).view(-1, 1, 1)


class SafeBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm on maps whose rows lie together, forward and backward.

    On CPUs (torch 2.14 and 2.15) the backward pass of BatchNorm2d is wrong, silently and by order
    1, for a single picture where of input and gradient one lies in order and the other looks like
    channels last, as the permutations of a lambda layer leave it. For the norms of any network
    there is ``explain.norms``.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.stride(-1) != 1:  # a part of the channels, as the paths have it, needs no copy
            x = x.contiguous()
        return _PlainGradient.apply(super().forward(x))


class _PlainGradient(torch.autograd.Function):
    """x as it is, its gradient copied where it does not lie in order."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.contiguous()
