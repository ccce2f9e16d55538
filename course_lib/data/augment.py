"""Augmentation of whole batches, where they lie: crop, flip, cutout and light, drawn by picture.

``pad_crop_normalise`` is what happens to a training picture, in four lines: the exercise of session
2, with flip and normalising. Trainings call its fast form, ``crop`` and ``normalise``, which stand
below it and give the same bits in a fraction of the time; those with a ``resized_crop`` call
``resize_boxes`` in place of ``crop``. ``Augment`` says what is drawn, ``BatchRandom`` draws it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from course_lib.checks import expect

FLIPS = ("random", "alternating")
BORDERS = {"mirror": "reflect", "zeros": "constant"}  # as F.pad calls them
LONGEST = 4 / 3  # a resized crop has sides of up to 4:3, upright or across (Szegedy et al. 2015)
IN_CACHE = 400_000  # numbers at a time: a whole batch as floats would go through the memory thrice
RESIZED_AT_ONCE = 16  # pictures


@dataclass(frozen=True)
class Augment:
    """What a training picture may look like; plain data, so that a recipe can hold it."""

    # Shift by up to so many pixels. What lies beyond the border is "mirror", the picture mirrored,
    # or "zeros", black, as torchvision's RandomCrop pads.
    pad: int = 4
    border: str = "mirror"

    # "random": half of the pictures. "alternating": each picture in every other epoch; whether it
    # begins flipped is drawn once, by the loader (Jordan 2024, §3.6).
    flip: str = "random"

    # Below 1, all pictures of a batch are cut to one smaller size, its area drawn between this
    # share and the whole, each at a place of its own.
    min_area: float = 1.0

    # (least, most) share of the area that is cut out and stretched to the training size, each
    # picture by itself, in place of pad and min_area: for pictures larger than the target.
    resized_crop: tuple[float, float] | None = None

    cutout: float = 0.0  # side of one grey square, as a share of the picture's
    brightness: float = 0.0  # up to this share of the range is added
    contrast: float = 0.0  # differences from the picture's mean grow or shrink by up to this share

    def __post_init__(self) -> None:
        _check(self)

    def cut(
        self, images: torch.Tensor, flip: torch.Tensor, size: int, rng: "BatchRandom"
    ) -> torch.Tensor:
        """Crop and flip uint8 (B, 3, H, W), not normalised yet.

        flip: bool (B,), the pictures to be mirrored. Returns uint8 (B, 3, h, w), or after a resized
        crop float (B, 3, size, size).
        """
        if self.resized_crop:
            boxes = draw_boxes(images.shape, self.resized_crop, rng)
            return resize_boxes(images, boxes, flip, size)

        side = round(math.sqrt(rng.scalar(self.min_area, 1)) * images.shape[2])
        top, left = draw_places(images.shape, self.pad, side, rng)
        return crop(images, top, left, flip, self.pad, side, self.border)

    def tint(self, x: torch.Tensor, std: tuple[float, ...], rng: "BatchRandom") -> torch.Tensor:
        """Change light and cover a square of each normalised picture (B, 3, S, S), in place."""

        def draw(reach: float) -> torch.Tensor:  # (B, 1, 1, 1)
            return copy_to(rng.uniform(-reach, reach).view(-1, 1, 1, 1), x.device)

        if self.brightness or self.contrast:
            factor = 1 + draw(self.contrast)
            scale = copy_to(torch.tensor(std), x.device).view(3, 1, 1)
            shift = draw(self.brightness) / scale  # (B, 3, 1, 1), after normalising

            # mean + factor · (x - mean) + shift, in one go
            mean = x.mean((2, 3), keepdim=True)  # (B, 3, 1, 1)
            torch.addcmul(mean * (1 - factor) + shift, x, factor, out=x)

        if self.cutout:
            squares = draw_squares(x.shape[-1], self.cutout, rng)
            x.masked_fill_(copy_to(squares, x.device), 0)  # 0: the mean colour
        return x


@dataclass
class BatchRandom:
    """Random numbers (B,), one for each picture of a batch.

    Of several processes that share a batch each draws for all ``pictures`` of it and takes its
    part: so a picture looks the same however many processes there are.
    """

    generator: torch.Generator
    pictures: int
    shard: tuple[int, int] = (0, 1)  # rank, processes

    def uniform(self, low: float, high: float) -> torch.Tensor:
        numbers = torch.empty(self.pictures).uniform_(low, high, generator=self.generator)
        return self._part(numbers)

    def integers(self, end: int) -> torch.Tensor:
        """From 0 up to ``end``, which is never drawn."""
        numbers = torch.randint(end, (self.pictures,), generator=self.generator)
        return self._part(numbers)

    def scalar(self, low: float, high: float) -> float:
        """One number for the whole batch."""
        return torch.empty(1).uniform_(low, high, generator=self.generator).item()

    def _part(self, numbers: torch.Tensor) -> torch.Tensor:
        rank, processes = self.shard
        return numbers[rank::processes]


def draw_places(
    shape: torch.Size, pad: int, side: int, rng: BatchRandom
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the window of each picture begins in the padded one: rows and columns, int64 (B,)."""
    height, width = shape[2:]
    top = rng.integers(height + 2 * pad - side + 1)
    left = rng.integers(width + 2 * pad - side + 1)
    return top, left


# --- crop, flip, normalise: as one reads it -------------------------------------------------------


def pad_crop_normalise(
    images: torch.Tensor,
    top: torch.Tensor,
    left: torch.Tensor,
    flip: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    pad: int,
    side: int,
    border: str = "mirror",
) -> torch.Tensor:
    """Flip some pictures, pad all, cut a window out of each, at a place of its own, and normalise.

    images: uint8 (B, 3, H, W); top, left: int64 (B,), in the padded picture; flip: bool (B,);
    scale, shift: float (3,), ``1 / (255 · std)`` and ``mean / std``. Returns (B, 3, side, side).

    ``normalise(crop(…))`` gives the same bits about three times as fast: 256 pictures of 64 px, one
    thread, the two in turn in one process (figures/results/benchmarks/crop.json).
    """
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = F.pad(images.float(), (pad,) * 4, mode=BORDERS[border])  # GPUs mirror floats only
    windows = [
        picture[:, y : y + side, x : x + side]  # (3, side, side)
        for picture, y, x in zip(padded, top.tolist(), left.tolist(), strict=True)
    ]
    return torch.stack(windows) * scale[:, None, None] - shift[:, None, None]


# --- the same, fast -------------------------------------------------------------------------------


def crop(
    images: torch.Tensor,
    top: torch.Tensor,
    left: torch.Tensor,
    flip: torch.Tensor,
    pad: int,
    side: int,
    border: str = "mirror",
) -> torch.Tensor:
    """The windows alone: uint8 (B, 3, H, W) → (B, 3, side, side).

    top, left, flip: as in ``pad_crop_normalise``.

    In a strip that holds a padded picture and its mirror image every crop, flipped or not, is a
    window, so that nothing is turned and only the windows that are drawn get copied, as uint8.
    """
    make_strip = mirrored if border == "mirror" else blackened
    strip, apart = make_strip(images, pad)
    left = left + flip * apart  # a flipped crop lies in the mirror image

    rows = strip.permute(0, 2, 3, 1).flatten(2)  # (B, H + 2·pad, length·3), as it lies in memory
    # a window begins at every row, and at every pixel, which is three numbers wide
    windows = rows.unfold(1, side, 1).unfold(2, side * 3, 3)  # (B, tops, lefts, side, side·3)
    drawn = take(windows, torch.arange(len(images)), top, left)  # (B, side, side·3)

    return drawn.unflatten(2, (side, 3)).permute(0, 3, 1, 2)  # (B, 3, side, side), channels_last


def mirrored(images: torch.Tensor, pad: int) -> tuple[torch.Tensor, int]:
    """The strip (B, 3, H + 2·pad, 2·W + 2·pad - 1), and how far the mirror image lies to the right.

    A mirrored border is what the mirror image goes on with, so that the two overlap by a column. Of
    a row ``abcd``, with pad 1: ``b abcd cba b``, where ``dcba`` begins at the ``d`` of ``abcd``.
    """
    height, width = images.shape[2:]

    above = images[:, :, 1 : pad + 1].flip(2)
    below = images[:, :, height - 1 - pad : -1].flip(2)
    tall = torch.cat([above, images, below], 2)  # (B, 3, H + 2·pad, W)

    turned = tall.flip(3)
    before, after = turned[..., width - 1 - pad : -1], tall[..., 1 : pad + 1]
    strip = torch.cat([before, tall, turned[..., 1:], after], 3)

    return strip, width - 1


def blackened(images: torch.Tensor, pad: int) -> tuple[torch.Tensor, int]:
    """The strip (B, 3, H + 2·pad, 2·W + 3·pad) with a black border, and the same distance.

    The picture and its mirror image share the border in the middle.
    """
    padded = F.pad(images, (pad,) * 4)
    strip = torch.cat([padded, padded.flip(3)[..., pad:]], 3)

    return strip, images.shape[3] + pad


def normalise(
    images: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, at_once: int = IN_CACHE
) -> torch.Tensor:
    """``images * scale - shift``: (B, 3, H, W) in 0..255 → float32 (B, 3, H, W), channels_last.

    scale, shift: float (3,), ``1 / (255 · std)`` and ``mean / std``. at_once: numbers at a time,
    on a CPU; a GPU takes them all.
    """
    width = images.shape[-1]
    rows = images.permute(0, 2, 3, 1).flatten(2)  # (B, H, W·3), as they lie in memory
    x = torch.empty_like(rows, dtype=torch.float32)

    # As many numbers as a row of the picture has: three at a time would be slow.
    scale, shift = scale.repeat(width), shift.repeat(width)  # (W·3,)

    lines, out = rows.flatten(0, 1), x.flatten(0, 1)  # (B·H, W·3), views
    step = max(1, at_once // (3 * width)) if images.device.type == "cpu" else len(lines)
    for part, place in zip(lines.split(step), out.split(step), strict=True):
        place.copy_(part).mul_(scale).sub_(shift)

    return x.unflatten(2, (-1, 3)).permute(0, 3, 1, 2)


def take(array: torch.Tensor, *index: torch.Tensor) -> torch.Tensor:
    """``array[index]``; on the CPU by numpy, which copies rows where torch copies bytes."""
    if array.device.type == "cpu":
        return torch.from_numpy(array.numpy()[tuple(i.numpy() for i in index)])

    return array[tuple(copy_to(i, array.device) for i in index)]


def copy_to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A GPU copies out of pinned memory while the CPU goes on; for other memory it would wait."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)

    return tensor.to(device)


# --- resized crops --------------------------------------------------------------------------------


def draw_boxes(shape: torch.Size, share: tuple[float, float], rng: BatchRandom) -> torch.Tensor:
    """Top, left, height, width in pixels, int64 (4, B): area and log of the aspect are uniform."""
    full_height, full_width = shape[2:]

    area = rng.uniform(*share) * full_height * full_width
    stretch = rng.uniform(-1, 1).mul(math.log(LONGEST) / 2).exp()  # the root of the aspect
    height = (area.sqrt() / stretch).round().long().clamp(1, full_height)
    width = (area.sqrt() * stretch).round().long().clamp(1, full_width)

    top = (rng.uniform(0, 1) * (full_height - height + 1)).long()
    left = (rng.uniform(0, 1) * (full_width - width + 1)).long()

    return torch.stack([top, left, height, width])


def resize_boxes(
    images: torch.Tensor, boxes: torch.Tensor, flip: torch.Tensor, size: int
) -> torch.Tensor:
    """Stretch a box of each picture to ``size`` × ``size``, antialiased, and flip some.

    uint8 (B, 3, H, W) → float (B, 3, size, size), in 0..255. A resize is linear in rows and in
    columns: two matrix products for a batch in which every box differs.
    """
    height, width = images.shape[2:]
    top, left, box_height, box_width = copy_to(boxes, images.device)

    down = resampling(top, box_height, size, height)  # (B, size, H)
    across = resampling(left, box_width, size, width)  # (B, size, W)

    flip = copy_to(flip, images.device)[:, None, None]
    across = torch.where(flip, across.flip(1), across)

    # a CPU takes a few pictures at a time, for as floats a whole batch does not fit into its cache
    few = RESIZED_AT_ONCE if images.device.type == "cpu" else len(images)
    parts = zip(images.split(few), down.split(few), across.split(few), strict=True)
    return torch.cat([stretch(*part) for part in parts])


def stretch(images: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """Rows by ``down`` (B, h, H), columns by ``across`` (B, w, W): (B, 3, H, W) → (B, 3, h, w)."""
    lines = images.permute(0, 2, 3, 1).float()  # (B, H, W, 3), as they lie in memory
    lines = down @ lines.flatten(2)  # (B, h, W·3)

    columns = lines.unflatten(2, (-1, 3)).transpose(1, 2)  # (B, W, h, 3)
    columns = across @ columns.flatten(2)  # (B, w, h·3)

    return columns.unflatten(2, (-1, 3)).permute(0, 3, 2, 1)


def resampling(start: torch.Tensor, length: torch.Tensor, size: int, full: int) -> torch.Tensor:
    """Matrices (B, size, full): from ``length`` of ``full`` pixels, from ``start`` on, to ``size``.

    Triangle weights, widened where the picture shrinks, as ``F.interpolate(…, antialias=True)``.
    """
    start, step = start[:, None, None], (length / size)[:, None, None]  # (B, 1, 1)
    pixel = torch.arange(full, device=start.device)  # (full,)
    target = torch.arange(size, device=start.device)[:, None]  # (size, 1)

    centre = start + (target + 0.5) * step - 0.5  # (B, size, 1)
    weight = (1 - (pixel - centre).abs() / step.clamp(min=1)).clamp(min=0)  # (B, size, full)
    weight *= (pixel >= start) & (pixel < start + length[:, None, None])  # nothing from outside

    return weight / weight.sum(2, keepdim=True)


# --- squares, checks ------------------------------------------------------------------------------


def draw_squares(size: int, share: float, rng: BatchRandom) -> torch.Tensor:
    """bool (B, 1, S, S), S = ``size``: True in one square a picture, wholly inside.

    share: of S, the side of the square.
    """
    side = round(share * size)
    top = rng.integers(size - side + 1)[:, None]  # (B, 1)
    left = rng.integers(size - side + 1)[:, None]

    pixel = torch.arange(size)
    rows = (pixel >= top) & (pixel < top + side)  # (B, S)
    columns = (pixel >= left) & (pixel < left + side)

    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _check(augment: Augment) -> None:
    """Raises CourseError for what is out of range."""
    least, most = augment.resized_crop or (1, 1)

    expect("flip", augment.flip, augment.flip in FLIPS, f"one of {', '.join(FLIPS)}")
    expect("border", augment.border, augment.border in BORDERS, f"one of {', '.join(BORDERS)}")
    expect("pad", augment.pad, augment.pad >= 0, "0 or more pixels")
    expect("min_area", augment.min_area, 0 < augment.min_area <= 1, "a share above 0, at most 1")
    expect("resized_crop", augment.resized_crop, 0 < least <= most <= 1, "0 < least <= most <= 1")
    expect("cutout", augment.cutout, 0 <= augment.cutout < 1, "a share of the side below 1")
    expect("brightness", augment.brightness, augment.brightness >= 0, "a share, 0 or more")
    expect("contrast", augment.contrast, augment.contrast >= 0, "a share, 0 or more")
