"""The exercises of session 02, TinyImageNet with OneCycle, solved."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def top_k_accuracy(logits: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    """Share of the pictures whose label is among the k largest logits, 0..1.

    logits: float (B, C). labels: int64 (B,). k: 1..C.
    """
    guesses = logits.topk(k, dim=1).indices  # (B, k)
    hits = (guesses == labels[:, None]).any(dim=1)  # (B,)
    return hits.float().mean().item()


def one_cycle_lr(step: int, total_steps: int, peak_lr: float, warm_up: float = 0.3,
                 start_div: float = 25) -> float:
    """Learning rate at a step: half a cosine up to the peak, half a cosine down to almost nothing.

    step: 0..total_steps − 1. The rate is peak_lr / start_div at step 0, peak_lr at step
    warm_up · total_steps − 1 (not rounded, so perhaps between two steps), and a 10,000th of the
    first rate at the last step, as torch's OneCycleLR has it.
    """
    def cosine(begin: float, end: float, part: float) -> float:  # part: 0 at begin, 1 at end
        return end + (begin - end) * (1 + math.cos(math.pi * part)) / 2

    start_lr, peak_step = peak_lr / start_div, warm_up * total_steps - 1
    if step <= peak_step:
        return cosine(start_lr, peak_lr, step / peak_step)
    return cosine(peak_lr, start_lr / 1e4, (step - peak_step) / (total_steps - 1 - peak_step))


def pad_crop(images: torch.Tensor, dy: torch.Tensor, dx: torch.Tensor, pad: int = 4) -> torch.Tensor:
    """Mirror the border outwards by ``pad`` pixels, then cut each picture's own window out.

    images: uint8 (B, 3, H, W). dy, dx: int64 (B,), 0..2·pad, the row and the column of the padded
    picture where its window begins; dy = dx = pad gives the picture back. Returns uint8 (B, 3, H, W).
    """
    height, width = images.shape[2:]
    padded = F.pad(images.float(), (pad, pad, pad, pad), mode="reflect")  # GPUs mirror floats only
    windows = [picture[:, y:y + height, x:x + width]  # (3, H, W)
               for picture, y, x in zip(padded, dy.tolist(), dx.tolist(), strict=True)]
    return torch.stack(windows).to(images.dtype)


def weight_decay_groups(model: nn.Module) -> tuple[list, list]:
    """The parameters of a convolutional network in two lists: (decayed, not decayed).

    Weights of convolutions and linear layers are decayed; scales and shifts of norms and all biases
    are not. Every parameter stands in one list, once.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]  # (out, in, kh, kw) or (out, in)
    not_decayed = [p for p in model.parameters() if p.ndim <= 1]  # (C,)
    return decayed, not_decayed


def grad_cam_map(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM of one picture, not normalised: ReLU(sum over c of mean(gradients_c) · activations_c).

    activations: float (C, H, W), the output of a layer. gradients: float (C, H, W), of the class's
    logit with respect to it. Returns float (H, W), 0 or more.
    """
    weights = gradients.mean(dim=(1, 2), keepdim=True)  # (C, 1, 1)
    return (weights * activations).sum(dim=0).relu()  # (H, W)
