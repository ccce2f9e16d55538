"""Three exact ways to the position part of a lambda layer; which is cheapest on a CPU depends on the shapes alone.

The lambda of position n is λp_n = E_nᵀV, its output y_n = λp_nᵀ q_n (Bello 2021, arXiv:2102.08602, equation 2).
No softmax stands in between, so the brackets may move. Multiply-adds per picture, for n queries of h heads with m
keys in sight each, and u = 1:

* y = (E V)ᵀ q, the lambdas first (a convolution of V with k filters):   n · m · k · v
* y = (q E) V, the attention A = q E first (two matrix products):        n · m · h · (k + v)

At k = 16, h = 4, v = 32 that is 512 against 192 for each of the n · m pairs, and no lambda of k · v numbers per
position is stored. The products need E spelled out, n · m · k numbers of which only r² · k differ; and they take
whole blocks of keys, where a convolution takes exactly r² each, even those beyond the edge of the map. On a CPU
memory traffic decides, so the products come in three forms:

* ``whole``: E for all pairs at once. Few, large steps; m = H · W. For maps whose E fits the cache,
  with an attention well below the lambdas it stands for.
* ``rows``: one row of queries at a time. All rows share one E, shifted, with W · r · W · k numbers at most; m is
  min(r, H) · W. The attention of a row stays in the cache and is not kept: the backward pass makes it
  again, for k / (k + v) of the forward pass. Memory grows with the map, no longer with its square.
* ``stripes``: ``rows`` on upright stripes of 8 columns with the keys around them, m = min(r, H) · (8 + r - 1): on a
  56 × 56 map with r = 23, 690 keys instead of 1,288.

The lambdas first, as a convolution, is the road of the packages lambda-networks and timm. With r = 23 it takes 529
keys for each query, also on a 16 × 16 map, where ``rows`` takes 236: 2.7 · 529 / 236 = 6 times the work, or 5.4 with
the backward pass, which makes the attention again. What shows of it depends on how well the steps of each road run,
and the rest of the layer costs the same on all: ``tests/benchmarks/test_lambda.py`` measures it. On a GPU the choice
has not been measured; ``path`` forces one.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

STRIPE = 8  # queries side by side in a stripe: fewer make small products, more see keys in vain
WHOLE = 2**17  # numbers in E up to which it is built for the whole map: half a megabyte


def cheapest(kernel: torch.Size, dim_v: int, heads: int, height: int, width: int) -> str:
    """The name of the path to take on a map of height × width; kernel: its shape, (k, u, r, r)."""
    k, u, _, columns = kernel
    positions = height * width
    if (
        positions**2 * k * u <= WHOLE and 4 * heads * positions <= k * dim_v
    ):  # A is kept: a quarter of the lambdas
        return "whole"
    return "stripes" if width > STRIPE + min(columns, 2 * width - 1) - 1 else "rows"


def whole(q: torch.Tensor, kernel: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Two products over the whole map."""
    batch, heads, k, height, width = q.shape
    e = _windows(
        _windows(_fit(kernel, 2 * height - 1, 2 * width - 1), 2, height), 3, width
    )  # (k, u, y, x, y', x')
    e = e.permute(2, 3, 0, 1, 4, 5).reshape(height * width, k, -1)  # (n, k, m)
    a = _by_picture(torch.bmm(_by_query(q.flatten(3)), e), batch)  # (B, n · h, m)
    y = torch.bmm(a, v.transpose(1, 2).flatten(2).transpose(1, 2))  # (B, n · h, d)
    return y.view(batch, height, width, heads, -1).permute(0, 3, 4, 1, 2)


def rows(q: torch.Tensor, kernel: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Two products, one row of queries at a time."""
    height, width = q.shape[-2:]
    kernel = _fit(kernel, min(kernel.shape[2], 2 * height - 1), 2 * width - 1)
    return _RowByRow.apply(q, _row_of(kernel, width), v.permute(0, 2, 3, 1, 4).flatten(3))


def stripes(q: torch.Tensor, kernel: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """``rows`` on stripes of the map, each with the keys that reach into it."""
    height, width = q.shape[-2:]
    columns = min(kernel.shape[3], 2 * width - 1)
    count, reach = -(-width // STRIPE), columns // 2
    missing = count * STRIPE - width
    kernel = _fit(kernel, min(kernel.shape[2], 2 * height - 1), columns + 2 * (STRIPE - 1))
    q = (
        F.pad(q, (0, missing)).unflatten(-1, (count, STRIPE)).permute(0, 4, 1, 2, 3, 5)
    )  # (B, s, h, k, H, 8)
    v = F.pad(v, (reach, reach + missing)).unfold(
        4, STRIPE + columns - 1, STRIPE
    )  # (B, u, d, H, s, 8 + r - 1)
    v = v.permute(0, 4, 2, 3, 1, 5).flatten(4).flatten(0, 1)
    y = _RowByRow.apply(q.flatten(0, 1), _row_of(kernel, STRIPE), v)  # (B · s, h, d, H, 8)
    return y.unflatten(0, (-1, count)).permute(0, 2, 3, 4, 1, 5).flatten(4)[..., :width]


class _RowByRow(torch.autograd.Function):
    """q (B, h, k, H, W), e (W, k, R, L), v (B, d, H, L) → (B, h, d, H, W); L: the keys of a row, times u.

    The attention of each row is written where that of the last one stood, and so is its gradient. Positions stand
    first in all that is cut into rows, so that a row lies together.
    """

    @staticmethod
    def forward(ctx, q, e, v):
        batch, heads, _, height, width = q.shape
        q = _by_position(q).transpose(2, 3).contiguous()  # (H, W, h, B, k)
        ctx.save_for_backward(q, e, v)
        out = q.new_empty(height, batch, width * heads, v.shape[1])
        room = _room(q, e)
        for y, keys, offsets in _sights(height, e.shape[2]):
            a = _product(q[y].flatten(1, 2), e[:, :, offsets].flatten(2), room)  # (W, h · B, m)
            torch.bmm(
                _by_picture(a, batch), v[:, :, keys].flatten(2).transpose(1, 2), out=out[y]
            )  # (B, W · h, d)
        return out.view(height, batch, width, heads, -1).permute(1, 3, 4, 0, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, e, v = ctx.saved_tensors
        height, width, heads, batch, k = q.shape
        grad = _by_position(grad)  # (H, W, B, h, d)
        dq, de, dv = (
            q.new_empty(height, width, batch * heads, k),
            torch.zeros_like(e),
            torch.zeros_like(v),
        )
        room = _room(q, e)
        for y, keys, offsets in _sights(height, e.shape[2]):
            e_row, v_row = (
                e[:, :, offsets].flatten(2),
                v[:, :, keys].flatten(2),
            )  # (W, k, m), (B, d, m)
            a = _by_picture(
                _product(q[y].flatten(1, 2), e_row, room), batch
            )  # once more: it was not kept
            g = grad[y].transpose(0, 1).reshape(batch, width * heads, -1)  # (B, W · h, d)
            _add_product(dv[:, :, keys], g.transpose(1, 2), a)
            g = grad[y].permute(1, 2, 0, 3).reshape(batch, heads * width, -1)  # (B, h · W, d)
            da = (
                _product(g, v_row, room).view(batch * heads, width, -1).transpose(0, 1)
            )  # (W, B · h, m)
            q_row = q[y].transpose(1, 2).flatten(1, 2)  # (W, B · h, k)
            _add_product(de[:, :, offsets], q_row.transpose(1, 2), da)
            torch.bmm(da, e_row.transpose(1, 2), out=dq[y])
        return _by_channel(dq.view(height, width, batch, heads, k)), de, dv


def _sights(height: int, tall: int) -> Iterator[tuple[int, slice, slice]]:
    """For each row of queries: the rows of keys in sight, and their offsets among the rows of the kernel."""
    reach = tall // 2
    for y in range(height):
        top, end = max(0, y - reach), min(height, y + reach + 1)
        yield y, slice(top, end), slice(top - y + reach, end - y + reach)


def _room(q: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    height, width, heads, batch, _ = q.shape
    return q.new_empty(batch * heads * width * min(height, e.shape[2]) * e.shape[3])


def _by_position(t: torch.Tensor) -> torch.Tensor:
    """(B, h, c, H, W) → (H, W, B, h, c): as one matrix turned over, which torch copies block by block."""
    batch, heads, c, height, width = t.shape
    return t.reshape(-1, height * width).t().contiguous().view(height, width, batch, heads, c)


def _by_channel(t: torch.Tensor) -> torch.Tensor:
    """The way back: (H, W, B, h, c) → (B, h, c, H, W)."""
    height, width, *channels = t.shape
    return t.view(height * width, -1).t().contiguous().view(*channels, height, width)


def _product(a: torch.Tensor, b: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """The batched product, written to the beginning of room."""
    shape = (*a.shape[:2], b.shape[2])
    return torch.bmm(a, b, out=room[: math.prod(shape)].view(shape))


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """total += a b; where total lies together, as it does when every key is in sight, without a copy."""
    if total.is_contiguous():
        total.flatten(2).baddbmm_(a, b)
    else:
        total += torch.bmm(a, b).view_as(total)


def _by_query(q: torch.Tensor) -> torch.Tensor:
    """(B, h, k, W) → (W, h · B, k): one product per query position, which all pictures share E of."""
    return q.permute(3, 1, 0, 2).flatten(1, 2)


def _by_picture(a: torch.Tensor, batch: int) -> torch.Tensor:
    """(W, h · B, m) → (B, W · h, m): one product per picture, without a copy, for h stands before B."""
    return a.view(-1, batch, a.shape[-1]).transpose(0, 1)


def _fit(kernel: torch.Tensor, tall: int, wide: int) -> torch.Tensor:
    """The kernel cropped to the offsets that the map has, or padded with zeros to those that it sees."""
    down, right = (tall - kernel.shape[2]) // 2, (wide - kernel.shape[3]) // 2
    return F.pad(kernel, (right, right, down, down))


def _windows(kernel: torch.Tensor, dim: int, queries: int) -> torch.Tensor:
    """What each query sees of one dimension of the kernel: (…, C, …) → (…, queries, …, C - queries + 1).

    The first query stands leftmost and sees the end of the kernel, hence the flip.
    """
    return kernel.unfold(dim, kernel.shape[dim] - queries + 1, 1).flip(dim)


def _row_of(kernel: torch.Tensor, queries: int) -> torch.Tensor:
    """E for one row of queries: (k, u, R, C) → (queries, k, R, u · keys)."""
    return (
        _windows(kernel, 3, queries).permute(3, 0, 2, 1, 4).flatten(3).contiguous()
    )  # (x, k, R, u · x')


PATHS = {path.__name__: path for path in (whole, rows, stripes)}
