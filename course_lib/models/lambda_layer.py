"""The lambda layer: each position gets a small linear map of its surroundings, and applies it to its query.

Bello 2021, "LambdaNetworks: Modeling Long-Range Interactions Without Attention", arXiv:2102.08602, §3 and
figure 3. Attention compares every query with every key and stores a map of n · m weights for each picture and head.
A lambda layer first sums what there is to see into a matrix λ of k · v numbers, then lets the query read it:
y = λᵀq. Two matrices are added:

* content:   λc = softmax(K)ᵀ V, the softmax over the positions: one for the whole picture;
* position:  λp_n = E_nᵀ V, where E depends on the offset of key and query only: one per position.

All heads read the same λ, each with a query of its own. How λp is applied fast stands in ``lambda_paths``.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.models.lambda_paths import PATHS, cheapest


class LambdaLayer(nn.Module):
    """(B, dim_in, H, W) → (B, dim_out, H, W).

    dim_k: numbers in a query; heads: queries per position, must divide dim_out; dim_u: keys and values per
    position ("intra-depth"). r, odd: local, each query sees r × r positions of a map of any size; or r=None and
    size=(H, W): global, on maps of that size only. path: None takes the cheapest for each map
    (``chosen_path``), a name of ``lambda_paths.PATHS`` forces one; all give the same result.
    Sums and softmax run in float32 at least, whatever autocast says. Takes the state dict of the
    package lambda-networks. Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        *,
        dim_k: int = 16,
        heads: int = 4,
        dim_u: int = 1,
        r: int | None = 23,
        size: tuple[int, int] | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__()
        dim_out = dim_in if dim_out is None else dim_out
        for name, value in (
            ("dim_out", dim_out),
            ("dim_k", dim_k),
            ("heads", heads),
            ("dim_u", dim_u),
        ):
            _check_whole(name, value)
        if dim_out % heads:
            raise ValueError(
                f"{heads} heads do not divide the {dim_out} output channels: choose a number that does"
            )
        check_reach(r, size)
        if path is not None and path not in PATHS:
            raise ValueError(f"unknown path {path!r}: expected None or one of {', '.join(PATHS)}")
        self.dim_k, self.heads, self.dim_u, self.r, self.path = dim_k, heads, dim_u, r, path
        self.size = height_and_width(size)
        self.dim_v = dim_out // heads
        self.to_q = nn.Conv2d(dim_in, dim_k * heads, 1, bias=False)
        self.to_k = nn.Conv2d(dim_in, dim_k * dim_u, 1, bias=False)
        self.to_v = nn.Conv2d(dim_in, self.dim_v * dim_u, 1, bias=False)
        self.norm_q = nn.BatchNorm2d(dim_k * heads)
        self.norm_v = nn.BatchNorm2d(self.dim_v * dim_u)
        if size is None:
            self.pos_conv = nn.Conv2d(
                dim_u, dim_k, r
            )  # holds E by offset, and its bias; never called
        else:
            self.rel_pos_emb = nn.Parameter(
                torch.empty(2 * size[0] - 1, 2 * size[1] - 1, dim_k, dim_u)
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The paper's: normal, of variance 1/d for keys and values, 1/(k d) for queries, 1 for E."""
        dim_in = self.to_q.in_channels
        nn.init.normal_(self.to_q.weight, std=(self.dim_k * dim_in) ** -0.5)
        nn.init.normal_(self.to_k.weight, std=dim_in**-0.5)
        nn.init.normal_(self.to_v.weight, std=dim_in**-0.5)
        if self.size is None:
            nn.init.normal_(self.pos_conv.weight)
            nn.init.zeros_(self.pos_conv.bias)
        else:
            nn.init.normal_(self.rel_pos_emb)

    @property
    def kernel(self) -> torch.Tensor:
        """E by offset, (k, u, r, r) as a convolution reads it; a global layer's is (k, u, 2H - 1, 2W - 1)."""
        return self.pos_conv.weight if self.size is None else self.rel_pos_emb.permute(2, 3, 0, 1)

    def chosen_path(self, height: int, width: int) -> str:
        """The path taken on a map of this size: a name of ``lambda_paths.PATHS``."""
        return self.path or cheapest(self.kernel.shape, self.dim_v, self.heads, height, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        if self.size not in (None, (height, width)):
            raise ValueError(
                f"this global lambda layer is for maps of size {self.size}, not {(height, width)}: build "
                "it with that size (a LambdaResNet with the size of its pictures), or take a local one "
                "(r=23)"
            )
        weights = self.to_q.weight, self.to_k.weight, self.to_v.weight
        q, k, v = _project(torch.cat(weights), x).split([len(weight) for weight in weights], dim=1)
        q, v = _norm(self.norm_q, q), _norm(self.norm_v, v)
        dtype = q.dtype
        with _without_autocast(x.device.type):
            q, k, v, kernel = (
                t.to(torch.promote_types(dtype, torch.float32)) for t in (q, k, v, self.kernel)
            )
            q = q.unflatten(1, (self.heads, self.dim_k))  # (B, h, k, H, W)
            k = k.unflatten(1, (self.dim_u, self.dim_k)).flatten(3).softmax(-1)  # (B, u, k, n)
            v = v.unflatten(1, (self.dim_u, self.dim_v))  # (B, u, d, H, W)
            content = (v.flatten(3) @ k.transpose(2, 3)).sum(1)  # λcᵀ, (B, d, k)
            if self.size is None:
                content = (
                    content + self.pos_conv.bias
                )  # E's bias is the same for every pair, as λc is
            y = (content.unsqueeze(1) @ q.flatten(3)).unflatten(
                -1, (height, width)
            )  # (B, h, d, H, W)
            y = y + PATHS[self.chosen_path(height, width)](q, kernel, v)
        return y.flatten(1, 2).to(dtype)

    def _load_from_state_dict(self, state: dict, prefix: str, *args) -> None:
        name = f"{prefix}pos_conv.weight"
        if name in state and state[name].dim() == 5:  # lambda-networks keeps (k, u, 1, r, r)
            state[name] = state[name].squeeze(2)
        super()._load_from_state_dict(state, prefix, *args)

    def extra_repr(self) -> str:
        context = f"global, size={self.size}" if self.r is None else f"local, r={self.r}"
        path = "cheapest" if self.path is None else self.path
        return f"{context}, dim_k={self.dim_k}, dim_v={self.dim_v}, heads={self.heads}, dim_u={self.dim_u}, path={path}"


def check_reach(r: int | None, size: tuple[int, int] | None) -> None:
    """How far a layer sees: ValueError unless one of the two says it."""
    if (r is None) == (size is None):
        raise ValueError(
            f"r is {r} and size is {size}: give r, the odd width of the window, or r=None and "
            "size=(H, W) for a global layer"
        )
    if r is not None and (not isinstance(r, int) or r < 1 or r % 2 == 0):
        raise ValueError(f"r is {r}: expected an odd width, so that the window has a middle")


def height_and_width(size: tuple[int, int] | None) -> tuple[int, int] | None:
    """The size as a tuple, or ValueError if it is not a pair of whole numbers."""
    if size is None:
        return None
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size is {size}: expected (height, width)")
    for name, side in zip(("height", "width"), size, strict=True):
        _check_whole(name, side)
    return tuple(size)


def _check_whole(name: str, value) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value}: expected a whole number from 1 on")


def _without_autocast(device: str):
    """The device "meta", on which networks are counted, has no autocast; torch.compile may not ask which devices do."""
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def _project(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A 1×1 convolution: as a product for each picture, which is quicker on maps with more positions than channels.

    On smaller ones the gradients of the weights, one for each picture before they are summed, would outweigh it.
    """
    height, width = x.shape[2:]
    if height * width < x.shape[1]:
        return F.conv2d(x, weight)
    return torch.bmm(weight.flatten(1).expand(len(x), -1, -1), x.flatten(2)).unflatten(
        2, (height, width)
    )


def _norm(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """BatchNorm with plain strides on both ways.

    On the CPU (torch 2.15) its backward is silently wrong for the gradient of a single picture whose strides
    look like channels last, as the permutations of a lambda layer leave it.
    """
    return _PlainStrides.apply(norm(x.contiguous()))


class _PlainStrides(torch.autograd.Function):
    """x as it is, its gradient copied where it does not lie in order."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.contiguous()
