"""Augmentation of whole batches, where they lie: crops, flips, squares and light, drawn picture by picture."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from course_lib.files import CourseError

FLIPS = ("random", "alternating")
BORDERS = ("mirror", "zeros")
LONGEST = 4 / 3  # a resized crop has sides of up to 4:3, upright or across (Szegedy et al. 2015)


@dataclass
class Lots:
    """Random numbers (B,), one for each picture of a batch.

    Of several processes that share a batch each draws for all ``pictures`` of it and takes its part: so a picture
    looks the same however many processes there are.
    """

    generator: torch.Generator
    pictures: int
    shard: tuple[int, int] = (0, 1)  # rank, processes

    def _part(self, all_of_them: torch.Tensor) -> torch.Tensor:
        rank, processes = self.shard
        return all_of_them[rank::processes]

    def uniform(self, low: float, high: float) -> torch.Tensor:
        return self._part(torch.empty(self.pictures).uniform_(low, high, generator=self.generator))

    def integers(self, end: int) -> torch.Tensor:
        return self._part(torch.randint(end, (self.pictures,), generator=self.generator))

    def one(self, low: float, high: float) -> float:
        """For the whole batch."""
        return torch.empty(1).uniform_(low, high, generator=self.generator).item()


@dataclass(frozen=True)
class Augment:
    """What a training picture may look like; plain data, so that a recipe can hold it.

    pad: shift by up to so many pixels. border: what lies beyond it, ``"mirror"``, the picture mirrored, or
    ``"zeros"``, black, as torchvision's ``RandomCrop`` pads. flip: ``"random"``, half of the pictures, or
    ``"alternating"``: a picture is flipped in every other epoch, the first by lot (Jordan 2024, §3.6).
    min_area: below 1, a batch is cut to one side, its area drawn between this share and the whole; the place
    is each picture's own. resized_crop: (least, most) share of the area that is cut out and stretched to the
    training size, each picture by itself, in place of ``pad`` and ``min_area``: for pictures larger than the
    target. cutout: side of one grey square, as a share of the picture's. brightness: up to this share of the
    range is added; contrast: differences from the picture's mean grow or shrink by up to this share.
    """

    pad: int = 4
    border: str = "mirror"
    flip: str = "random"
    min_area: float = 1.0
    resized_crop: tuple[float, float] | None = None
    cutout: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        least, most = self.resized_crop or (1, 1)
        for fault, words in (
            (self.flip not in FLIPS, f"flip is {self.flip!r}: expected one of {', '.join(FLIPS)}"),
            (
                self.border not in BORDERS,
                f"border is {self.border!r}: expected one of {', '.join(BORDERS)}",
            ),
            (self.pad < 0, f"pad is {self.pad}: expected 0 or more pixels"),
            (
                not 0 < self.min_area <= 1,
                f"min_area is {self.min_area}: expected a share above 0, at most 1",
            ),
            (
                not 0 < least <= most <= 1,
                f"resized_crop is {self.resized_crop}: expected 0 < least <= most <= 1",
            ),
            (
                not 0 <= self.cutout < 1,
                f"cutout is {self.cutout}: expected a share of the side below 1",
            ),
            (
                min(self.brightness, self.contrast) < 0,
                "brightness and contrast are shares: expected 0 or more",
            ),
        ):
            if fault:
                raise CourseError(f"Augment: {words}")

    def cut(self, images: torch.Tensor, flip: torch.Tensor, size: int, lots: Lots) -> torch.Tensor:
        """Crop and flip (B, 3, H, W): uint8 (B, 3, h, w), or after a resized crop float (B, 3, size, size).

        flip: bool (B,), the pictures to be mirrored.
        """
        if self.resized_crop:
            boxes = draw_boxes(images.shape, self.resized_crop, lots)
            return resize_boxes(images, boxes, flip, size)
        side = math.sqrt(lots.one(self.min_area, 1))
        return crop(images, self.pad, round(side * images.shape[2]), flip, lots, self.border)

    def tint(self, x: torch.Tensor, std: tuple[float, ...], lots: Lots) -> torch.Tensor:
        """Change the light of normalised pictures (B, 3, S, S) and cover a square of each, in place."""

        def draw(reach):
            return to_device(lots.uniform(-reach, reach).view(-1, 1, 1, 1), x.device)

        if self.brightness or self.contrast:
            factor, unit = (
                1 + draw(self.contrast),
                to_device(torch.tensor(std), x.device).view(3, 1, 1),
            )
            shift = draw(self.brightness) / unit
            torch.addcmul(x.mean((2, 3), keepdim=True) * (1 - factor) + shift, x, factor, out=x)
        if self.cutout:
            x.masked_fill_(
                to_device(draw_squares(x.shape[-1], self.cutout, lots), x.device), 0
            )  # 0: the mean colour
        return x


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A GPU copies out of pinned memory while the CPU goes on; for any other it would have to wait."""
    return (
        tensor.pin_memory().to(device, non_blocking=True)
        if device.type == "cuda"
        else tensor.to(device)
    )


def crop(
    images: torch.Tensor,
    pad: int,
    side: int,
    flip: torch.Tensor,
    lots: Lots,
    border: str = "mirror",
) -> torch.Tensor:
    """Cut a window of ``side`` pixels out of each padded picture, at a place of its own; flip some.

    uint8 (B, 3, H, W) → (B, 3, side, side). In a strip that holds a picture and its mirror image every crop, flipped
    or not, is a window, and only the windows that are drawn get copied.
    """
    height, width = images.shape[2:]
    strip, apart = (mirrored if border == "mirror" else blackened)(images, pad)
    rows = strip.permute(0, 2, 3, 1).flatten(2)  # (B, H + 2·pad, length·3), as it lies in memory
    windows = rows.unfold(1, side, 1).unfold(2, side * 3, 3)  # (B, tops, lefts, side, side·3)
    top = lots.integers(height + 2 * pad - side + 1)
    left = lots.integers(width + 2 * pad - side + 1) + flip * apart
    drawn = take(windows, torch.arange(len(images)), top, left)  # (B, side, side·3)
    return drawn.unflatten(2, (side, 3)).permute(0, 3, 1, 2)


def mirrored(images: torch.Tensor, pad: int) -> tuple[torch.Tensor, int]:
    """The strip (B, 3, H + 2·pad, 2·W + 2·pad - 1): a mirrored border is what the mirror image goes on with.

    And by how much a flipped crop lies further to the right than the same crop of the picture.
    """
    height, width = images.shape[2:]
    tall = torch.cat(
        [images[:, :, 1 : pad + 1].flip(2), images, images[:, :, height - 1 - pad : -1].flip(2)], 2
    )
    turned = tall.flip(3)
    return torch.cat(
        [turned[..., width - 1 - pad : -1], tall, turned[..., 1:], tall[..., 1 : pad + 1]], 3
    ), width - 1


def blackened(images: torch.Tensor, pad: int) -> tuple[torch.Tensor, int]:
    """The strip (B, 3, H + 2·pad, 2·W + 3·pad) with a black border, of which the two share the middle."""
    padded = F.pad(images, (pad,) * 4)
    return torch.cat([padded, padded.flip(3)[..., pad:]], 3), images.shape[3] + pad


def take(array: torch.Tensor, *index: torch.Tensor) -> torch.Tensor:
    """``array[index]``; on the CPU by numpy, which copies row by row what torch copies byte by byte."""
    if array.device.type == "cpu":
        return torch.from_numpy(array.numpy()[tuple(i.numpy() for i in index)])
    return array[tuple(to_device(i, array.device) for i in index)]


def draw_boxes(shape: torch.Size, share: tuple[float, float], lots: Lots) -> torch.Tensor:
    """Top, left, height, width in pixels, int64 (4, B): area and log of the aspect are uniform."""
    full_height, full_width = shape[2:]
    area = lots.uniform(*share) * full_height * full_width
    stretch = lots.uniform(-1, 1).mul(math.log(LONGEST) / 2).exp()
    height = (area.sqrt() / stretch).round().long().clamp(1, full_height)
    width = (area.sqrt() * stretch).round().long().clamp(1, full_width)
    top, left = (
        (lots.uniform(0, 1) * (full - side + 1)).long()
        for full, side in ((full_height, height), (full_width, width))
    )
    return torch.stack([top, left, height, width])


def resize_boxes(
    images: torch.Tensor, boxes: torch.Tensor, flip: torch.Tensor, size: int
) -> torch.Tensor:
    """Stretch a box of each picture to ``size`` × ``size``, antialiased: float (B, 3, size, size), in 0..255.

    A resize is linear in rows and in columns: two matrix products for a batch in which every box differs.
    """
    top, left, height, width = to_device(boxes, images.device)
    down = resampling(top, height, size, images.shape[2])
    across = resampling(left, width, size, images.shape[3])
    across = torch.where(to_device(flip, images.device)[:, None, None], across.flip(1), across)
    return down[:, None] @ images.float() @ across[:, None].mT


def resampling(start: torch.Tensor, length: torch.Tensor, size: int, full: int) -> torch.Tensor:
    """Matrices (B, size, full) that resample ``length`` of ``full`` pixels, from ``start`` on, to ``size``.

    Triangle weights, widened where the picture shrinks, as in ``F.interpolate(…, antialias=True)``.
    """
    start, step = start[:, None, None], (length / size)[:, None, None]
    pixel, target = (
        torch.arange(full, device=start.device),
        torch.arange(size, device=start.device)[:, None],
    )
    centre = start + (target + 0.5) * step - 0.5
    weight = (1 - (pixel - centre).abs() / step.clamp(min=1)).clamp(min=0)  # (B, size, full)
    weight *= (pixel >= start) & (pixel < start + length[:, None, None])
    return weight / weight.sum(2, keepdim=True)


def draw_squares(size: int, share: float, lots: Lots) -> torch.Tensor:
    """bool (B, 1, S, S), True in one square a picture, wholly inside, whose side is ``share`` of S, the ``size``."""
    side, pixel = round(share * size), torch.arange(size)
    corners = (lots.integers(size - side + 1)[:, None] for _ in range(2))
    rows, columns = (
        (pixel >= corner) & (pixel < corner + side) for corner in corners
    )  # (B, S) each
    return (rows[:, :, None] & columns[:, None, :])[:, None]
