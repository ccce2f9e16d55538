"""Which weights decay, and the optimizer."""

from collections.abc import Callable

import torch
from torch import nn

from course_lib.runtime import pick_precision


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, bias_lr: float = 1.0
) -> list[dict]:
    """Convolution and linear weights, which decay; the norms' scales; all biases, at ``bias_lr`` times the rate.

    Shrinking a filter before a BatchNorm changes no output, only the effective step size; shrinking the
    norm's own scale or a bias changes the function (He et al. 2018, arXiv:1812.01187, §3.1). Norms and
    biases are the parameters with one dimension. Faster biases: Page 2019, "How to train your ResNet 8".
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    scales = [p for name, p in named if p.ndim <= 1 and not name.endswith("bias")]
    biases = [p for name, p in named if p.ndim <= 1 and name.endswith("bias")]
    return [
        {
            "params": [p for _, p in named if p.ndim > 1],
            "weight_decay": weight_decay,
            "lr": lr,
            "lr_scale": 1.0,
        },
        {"params": scales, "weight_decay": 0.0, "lr": lr, "lr_scale": 1.0},
        {"params": biases, "weight_decay": 0.0, "lr": lr * bias_lr, "lr_scale": bias_lr},
    ]


def sgd(
    model: nn.Module,
    lr: float,
    *,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    bias_lr: float = 1.0,
    nesterov: bool = True,
) -> torch.optim.SGD:
    """SGD with Nesterov momentum (Sutskever et al. 2013), weight decay on conv and linear weights only."""
    groups = parameter_groups(model, lr, weight_decay, bias_lr)
    return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=nesterov and momentum > 0)


class Muon(torch.optim.SGD):
    """SGD whose steps for filters are equally long in every direction (Jordan et al. 2024, "Muon: an optimizer for
    hidden layers in neural networks").

    In groups with ``orthogonal=True`` the gradient with its momentum, a matrix of (out, in · height · width), gives
    way to the nearest orthogonal matrix, and filters keep the length they began with (unless that was zero): so the
    rate says how far they turn. Such a step costs the same for a batch of any size: 10 to 15 times the shorter side
    squared times the longer one, in multiply-adds. (torch.optim.Muon takes matrices, and no filters.)
    """

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"] if group.get("orthogonal") else ():
                if p.grad is not None:
                    self._turn(p, group)
        super().step()
        return loss

    def _turn(self, p: torch.Tensor, group: dict) -> None:
        state, length = self.state[p], p.norm()
        if not state:
            state.update(velocity=torch.zeros_like(p), length=length)
        velocity = state["velocity"].mul_(group["decay"]).add_(p.grad)
        wanted = p.grad.add(velocity, alpha=group["decay"]) if group["ahead"] else velocity
        low = torch.bfloat16 if pick_precision(p.device).dtype is torch.bfloat16 else torch.float32
        p.grad = orthogonal(wanted.flatten(1), dtype=low).view_as(p)
        p.mul_(torch.where(state["length"] > 0, state["length"] / length, 1.0))


def orthogonal(
    matrix: torch.Tensor, iterations: int = 5, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Roughly the nearest orthogonal matrix to ``matrix`` (rows, columns), computed in ``dtype``.

    Singular values above a 700th of the matrix's norm become 0.7 to 1.2, smaller ones grow: each iteration takes a
    value s to 3.4445 s − 4.775 s³ + 2.0315 s⁵, by products alone (Jordan et al. 2024).
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = (wide / (wide.norm() + 1e-7)).to(dtype)
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return (x if wide is matrix else x.T).to(matrix.dtype)


def muon(
    model: nn.Module,
    lr: float,
    *,
    turn: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    bias_lr: float = 1.0,
    nesterov: bool = True,
) -> Muon:
    """Muon at ``turn`` times the rate for all filters but the first ones, which see the picture; SGD for the rest."""
    weights, *others = parameter_groups(model, lr, weight_decay, bias_lr)
    first, *inner = [p for p in weights["params"] if p.ndim == 4]
    rest = [first, *(p for p in weights["params"] if p.ndim != 4)]
    turned = {
        "params": inner,
        "lr": lr * turn,
        "lr_scale": turn,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "nesterov": False,
        "orthogonal": True,
        "decay": momentum,
        "ahead": nesterov,
    }
    return Muon(
        [{**weights, "params": rest}, *others, turned],
        lr,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
    )
