"""The lambda layer: each position gets a small linear map of its surroundings.

Bello 2021, "LambdaNetworks: Modeling Long-Range Interactions Without Attention", arXiv:2102.08602,
§3 and figure 3. Attention compares every query with every key and stores a map of n · m weights for
each picture and head. A lambda layer first sums what there is to see into a matrix λ of k · v
numbers, then lets the query read it. Two matrices are added:

* content:   λc = softmax(K)ᵀ V, the softmax over the positions: one for the whole picture;
* position:  λp_n = E_nᵀ V, where E depends on the offset of key and query only: one per position.

Letters: n positions ask with a query, m positions answer with a key and a value (in a picture both
are its H · W pixels); a query holds k numbers, a value v, and h heads ask at every position.

All heads read the same λ, each with a query of its own. ``LambdaLayer.forward`` is this definition;
on a CPU the same result comes sooner by another order of the products (``lambda_paths``).
"""

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.checks import check_whole
from course_lib.models import lambda_paths
from course_lib.models.graphs import is_recorded, one_node
from course_lib.models.lambda_paths import SafeBatchNorm2d, at_least_float32, without_autocast

DEFINITION = "definition"


class LambdaLayer(nn.Module):
    """(B, dim_in, H, W) → (B, dim_out, H, W).

    dim_k: numbers in a query. heads: queries per position, must divide dim_out. dim_u: keys and
        values per position ("intra-depth").
    r, odd: local, each query sees r × r positions of a map of any size. Or r=None and size=(H, W):
        global, on maps of that size only.
    path: None takes the definition on a GPU and the cheapest path on a CPU (``chosen_path``);
        "definition" or a name of ``lambda_paths.PATHS`` forces one. All give the same result.
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
        check_reach(r, size)
        _check_sizes(dim_in=dim_in, dim_out=dim_out, dim_k=dim_k, heads=heads, dim_u=dim_u)
        _check_path(path)

        self.dim_k, self.dim_u, self.dim_v = dim_k, dim_u, dim_out // heads
        self.heads, self.r, self.path = heads, r, path
        self.size = height_and_width(size)

        self.to_q = nn.Conv2d(dim_in, dim_k * heads, 1, bias=False)
        self.to_k = nn.Conv2d(dim_in, dim_k * dim_u, 1, bias=False)
        self.to_v = nn.Conv2d(dim_in, self.dim_v * dim_u, 1, bias=False)
        self.norm_q = SafeBatchNorm2d(dim_k * heads)
        self.norm_v = SafeBatchNorm2d(self.dim_v * dim_u)

        # E by offset. A local layer keeps it as lambda-networks does, in a convolution.
        if self.size is None:
            self.pos_conv = nn.Conv2d(dim_u, dim_k, r)
        else:
            height, width = self.size
            offsets = 2 * height - 1, 2 * width - 1
            self.rel_pos_emb = nn.Parameter(torch.empty(*offsets, dim_k, dim_u))
        self.reset_parameters()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if is_recorded(x):
            return one_node(self, x)

        height, width = x.shape[-2:]
        self._check_map(height, width)
        path = self.chosen_path(height, width)
        if path != DEFINITION and x.numel():  # of an empty batch they could not tell the sizes
            return lambda_paths.output(self, x, path)

        q = self.norm_q(self.to_q(x)).unflatten(1, (self.heads, self.dim_k))  # (B, h, k, H, W)
        k = self.to_k(x).unflatten(1, (self.dim_u, self.dim_k))  # (B, u, k, H, W)
        v = self.norm_v(self.to_v(x)).unflatten(1, (self.dim_u, self.dim_v))  # (B, u, v, H, W)
        dtype = q.dtype

        with without_autocast(x.device.type):
            q, k, v = at_least_float32(q), at_least_float32(k), at_least_float32(v)

            k = self.normalise_keys(k)  # (B, u, k, m), softmax over the positions m
            content = torch.einsum("bukm, buvm -> bkv", k, v.flatten(3))  # λc
            position = self.position_lambdas(v)  # λp_n, (B, k, v, H, W)
            lambdas = content[..., None, None] + position  # λ_n, (B, k, v, H, W)
            out = torch.einsum("bkvij, bhkij -> bhvij", lambdas, q)  # λ_nᵀ q_n at row i, column j

        return out.flatten(1, 2).to(dtype)  # (B, dim_out, H, W)

    def normalise_keys(self, k: torch.Tensor) -> torch.Tensor:
        """How much each position says: (B, u, k, H, W) → (B, u, k, m), of sum 1 over m."""
        return k.flatten(3).softmax(-1)

    def position_lambdas(self, v: torch.Tensor) -> torch.Tensor:
        """λp_n = E_nᵀ V of every position n: (B, u, v, H, W) → (B, k, v, H, W).

        E depends on the offset alone, so this is a convolution of V with k filters.
        """
        kernel = at_least_float32(self.kernel)  # (k, u, r, r)
        bias = None if self.bias is None else at_least_float32(self.bias)
        reach = kernel.shape[2] // 2, kernel.shape[3] // 2

        # each number of a value is a picture of its own: one kernel serves them all
        images = v.transpose(1, 2).flatten(0, 1)  # (B·v, u, H, W)
        lambdas = F.conv2d(images, kernel, bias, padding=reach)  # (B·v, k, H, W)
        return lambdas.unflatten(0, (v.shape[0], self.dim_v)).transpose(1, 2)

    @property
    def kernel(self) -> torch.Tensor:
        """E by offset as a convolution reads it: (k, u, r, r); global: (k, u, 2H - 1, 2W - 1)."""
        return self.pos_conv.weight if self.size is None else self.rel_pos_emb.permute(2, 3, 0, 1)

    @property
    def bias(self) -> torch.Tensor | None:
        """What a local layer adds to every λ, (k,), the same for all of its values."""
        return self.pos_conv.bias if self.size is None else None

    def chosen_path(self, height: int, width: int) -> str:
        """How a map of this size is computed: "definition" or a name of ``lambda_paths.PATHS``."""
        if self.path:
            return self.path

        # What torch.export writes down runs elsewhere, and the loops would be unrolled in it.
        if torch.compiler.is_exporting():
            return DEFINITION

        # On "meta" nothing runs: networks are counted there, as they run on a CPU.
        if self.to_q.weight.device.type not in ("cpu", "meta"):
            return DEFINITION
        return lambda_paths.cheapest(self.kernel.shape, self.dim_v, self.heads, height, width)

    def reset_parameters(self) -> None:
        """The paper's: normal, of variance 1/(k d) for queries, 1/d for keys, values; 1 for E."""
        dim_in = self.to_q.in_channels
        nn.init.normal_(self.to_q.weight, std=(self.dim_k * dim_in) ** -0.5)
        nn.init.normal_(self.to_k.weight, std=dim_in**-0.5)
        nn.init.normal_(self.to_v.weight, std=dim_in**-0.5)

        if self.size is None:
            nn.init.normal_(self.pos_conv.weight)
            nn.init.zeros_(self.pos_conv.bias)
        else:
            nn.init.normal_(self.rel_pos_emb)

    def extra_repr(self) -> str:
        reach = f"global, size={self.size}" if self.r is None else f"local, r={self.r}"
        dims = f"dim_k={self.dim_k}, dim_v={self.dim_v}, heads={self.heads}, dim_u={self.dim_u}"
        return f"{reach}, {dims}, path={self.path or 'cheapest'}"

    def _load_from_state_dict(self, state: dict, prefix: str, *args) -> None:
        name = f"{prefix}pos_conv.weight"
        if name in state and state[name].dim() == 5:  # lambda-networks keeps (k, u, 1, r, r)
            state[name] = state[name].squeeze(2)
        super()._load_from_state_dict(state, prefix, *args)

    def _check_map(self, height: int, width: int) -> None:
        if self.size not in (None, (height, width)):
            raise ValueError(
                f"this global lambda layer is for maps of size {self.size}, not {(height, width)}: "
                "build it with that size (a LambdaResNet with the size of its pictures), or take a "
                "local one (r=23)"
            )


# --- checks ---------------------------------------------------------------------------------------


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

    height, width = size
    check_whole(height=height, width=width)
    return height, width


def _check_sizes(dim_in: int, dim_out: int, dim_k: int, heads: int, dim_u: int) -> None:
    check_whole(dim_in=dim_in, dim_out=dim_out, dim_k=dim_k, heads=heads, dim_u=dim_u)
    if dim_out % heads:
        raise ValueError(
            f"{heads} heads do not divide the {dim_out} output channels: choose a number that does"
        )


def _check_path(path: str | None) -> None:
    known = [DEFINITION, *lambda_paths.PATHS]
    if path is not None and path not in known:
        raise ValueError(f"unknown path {path!r}: expected None or one of {', '.join(known)}")
