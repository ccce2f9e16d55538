"""A first layer that needs no training: filters that take the correlations of pictures apart.

Neighbouring pixels say nearly the same thing, so a random filter mostly sees brightness. Principal
components of small patches, each scaled to unit variance, give every filter something of its own to
see from the first step on. Source: David Page, "How to train your ResNet 8", 2019; Keller Jordan
2024, arXiv:2404.00498, §3.1.
"""

import torch
import torch.nn.functional as F
from torch import nn


@torch.no_grad()
def whiten_stem(model: nn.Module, images: torch.Tensor, floor: float = 0.05) -> int:
    """Put whitening filters, and their negatives for the ReLU, into the first convolution.

    images: a few hundred normalised pictures or more, (B, C, H, W), of the first epoch's size.
    floor: added to the variances, so that patterns which hardly occur are not blown up.
    Filters beyond twice the dimension of a patch keep their random weights. Returns the number of
    filters set. Raises ValueError for a network without a convolution.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ValueError(f"{type(model).__name__} has no convolution to whiten")
    conv = convolutions[0]

    # Patches as the filters see them, one in sixteen: the others tell nothing new.
    images = images.float().contiguous()
    patches = F.unfold(images, conv.kernel_size, stride=4)  # (B, C·k·k, positions)
    patches = patches.transpose(1, 2).flatten(0, 1)  # (N, C·k·k)

    # Principal components, each scaled to unit variance.
    covariance = torch.cov(patches.T)  # (C·k·k, C·k·k)
    variances, directions = torch.linalg.eigh(covariance)  # ascending; directions are columns
    filters = (directions / (variances + floor).sqrt()).T  # (C·k·k, C·k·k), one a row

    # Those of the largest variance first, as many as fit with their negatives.
    filters = filters.flip(0)[: conv.out_channels // 2]
    filters = torch.cat([filters, -filters]).view(-1, *conv.weight.shape[1:])  # (F, C, k, k)

    conv.weight[: len(filters)] = filters
    return len(filters)
