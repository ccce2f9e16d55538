"""Which weights decay, and the optimizer."""

import torch
from torch import nn

from course_lib.checks import expect


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, bias_lr: float = 1.0
) -> list[dict]:
    """Convolution and linear weights, which decay; the norms' scales; all biases.

    Shrinking a filter before a BatchNorm changes no output, only the effective step size; shrinking
    the norm's own scale or a bias changes the function (He et al. 2018, arXiv:1812.01187, §3.1).
    bias_lr: how many times faster biases learn (Page 2019, "How to train your ResNet 8"). Raises
    CourseError for a weight_decay or bias_lr below 0.
    """
    expect("weight_decay", weight_decay, weight_decay >= 0, "0 or more")
    expect("bias_lr", bias_lr, bias_lr >= 0, "0 or more")

    weights, scales, biases = [], [], []

    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if p.ndim > 1:  # norms and biases have one dimension
            weights.append(p)
        elif name.endswith("bias"):
            biases.append(p)
        else:
            scales.append(p)

    # lr_scale: schedules that set a peak, and not a factor, multiply it by this
    return [
        {"params": weights, "weight_decay": weight_decay, "lr": lr, "lr_scale": 1.0},
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
    """SGD with Nesterov momentum (Sutskever et al. 2013); conv and linear weights decay.

    Raises CourseError for a momentum that is not from 0 to below 1, and as ``parameter_groups``.
    """
    expect("momentum", momentum, 0 <= momentum < 1, "from 0 to below 1")

    groups = parameter_groups(model, lr, weight_decay, bias_lr)
    nesterov = nesterov and momentum > 0  # torch allows no look ahead without momentum
    return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=nesterov)
