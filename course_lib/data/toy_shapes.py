"""Toy shapes: pictures that the course draws itself, with boxes and masks known to the pixel.

A class is a shape, a texture and a colour, such as "striped red triangle". Place, size, tilt, tint
and light vary, and soft blotches of the same colours lie in the background, so that colour alone
does not tell the class. A picture depends on its class and on (seed, split, index), not on how many
are drawn.
"""

import math

import numpy as np

from course_lib.data.store import ImageStore
from course_lib.files import DataError

PER_CLASS = {"train": 200, "tune": 40, "val": 40}
SMALLEST = 16  # pixels; below that no texture can be seen
MEAN, STD = (0.4302, 0.4095, 0.4046), (0.1865, 0.1650, 0.1816)  # ten classes, 64 pixels


def _box(x, y, half_width, half_height):
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _star(x, y, notch=0.45):
    """Folded into a tenth of the turn, the outline is one edge, from the tip at 1 to the notch."""
    tenth = math.pi / 5
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    angle = np.abs((angle + tenth) % (2 * tenth) - tenth)
    along, across = radius * np.cos(angle), radius * np.sin(angle)

    run, rise = 1 - notch * math.cos(tenth), notch * math.sin(tenth)
    return ((along - 1) * rise + across * run) / math.hypot(run, rise)


def _heart(x, y):
    """Two discs on a square that stands on its corner."""
    x, y = np.abs(x) * 0.64, 0.6 - y * 0.64
    discs = np.hypot(x - 0.25, y - 0.75) - 0.354
    return np.minimum(discs, (x + np.abs(y - 0.5) - 0.5) * 0.707) / 0.64


def _arrow(x, y):
    head = np.maximum(y, np.abs(x) * 0.762 - y * 0.648 - 0.648)
    return np.minimum(head, _box(x, y - 0.45, 0.26, 0.5))


def _wave(phase):
    return np.sin(2 * math.pi * phase)


# Signed distance to the outline, negative inside. The circle around the shape has radius 1, y is
# down.
SHAPES = {
    "circle": lambda x, y: np.hypot(x, y) - 0.95,
    "square": lambda x, y: _box(x, y, 0.7, 0.7),
    "triangle": lambda x, y: np.maximum(y - 0.5, np.abs(x) * 0.866 - y * 0.5 - 0.5),
    "star": _star,
    "cross": lambda x, y: np.minimum(_box(x, y, 0.93, 0.33), _box(x, y, 0.33, 0.93)),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.69) - 0.29,
    "heart": _heart,
    "moon": lambda x, y: np.maximum(np.hypot(x, y) - 1, 0.75 - np.hypot(x - 0.5, y)),
    "diamond": lambda x, y: (np.abs(x) / 0.6 + np.abs(y) - 1) * 0.514,
    "arrow": _arrow,
}

# Positive where the dark tone goes; x, y as above, d the signed distance to the outline.
TEXTURES = {
    "plain": lambda x, y, d: np.full_like(d, -9),
    "striped": lambda x, y, d: _wave(2 * y),
    "checkered": lambda x, y, d: 2 * _wave(1.3 * x) * _wave(1.3 * y),
    "dotted": lambda x, y, d: _wave(1.8 * x) + _wave(1.8 * y) - 0.8,
    "ringed": lambda x, y, d: _wave(2 * np.hypot(x, y)),
    "rayed": lambda x, y, d: np.sin(7 * np.arctan2(y, x)),
    "wavy": lambda x, y, d: _wave(1.7 * y + 0.3 * _wave(1.2 * x)),
    "gridded": lambda x, y, d: np.maximum(_wave(2 * x), _wave(2 * y)) - 0.6,
    "halved": lambda x, y, d: 6 * (x + y),
    "rimmed": lambda x, y, d: 12 * (d + 0.16),
}

COLOURS = {
    "red": (0.90, 0.12, 0.14),
    "blue": (0.15, 0.33, 0.95),
    "yellow": (1.00, 0.86, 0.10),
    "green": (0.12, 0.68, 0.22),
    "purple": (0.56, 0.18, 0.78),
    "orange": (1.00, 0.50, 0.05),
    "cyan": (0.10, 0.82, 0.90),
    "pink": (1.00, 0.52, 0.74),
    "brown": (0.58, 0.33, 0.14),
    "white": (0.98, 0.98, 0.98),
}


def toy_shapes(
    split: str, *, num_classes: int = 10, size: int = 64, count: int | None = None, seed: int = 0
) -> ImageStore:
    """Draw ``count`` pictures of ``size`` × ``size`` pixels, with boxes and masks.

    split: "train", "tune" or "val", which share no picture. count: pictures in all; by default 200
    a class for train, 40 for tune and val. Labels are balanced and in a fixed mixed order: each run
    of ``num_classes`` pictures holds every class once. The first ten classes differ from each other
    in shape, texture and colour at once; with more, some differ in one only. Raises DataError for
    arguments out of range.
    """
    _check(split, num_classes, size, count)
    classes = _classes(num_classes)
    if count is None:
        count = PER_CLASS[split] * num_classes

    stream = (seed, list(PER_CLASS).index(split))
    labels = _labels(count, num_classes, stream)

    images = np.empty((count, size, size, 3), np.uint8)
    masks = np.empty((count, size, size), bool)
    for index, label in enumerate(labels):
        rng = np.random.default_rng((*stream, index))
        images[index], masks[index] = _draw(rng, *classes[label], size)

    names = [f"{texture} {colour} {shape}" for shape, texture, colour in classes]
    return ImageStore(
        "toy shapes",
        split,
        images,
        labels,
        names,
        MEAN,
        STD,
        is_real=False,
        boxes=_boxes(masks),
        masks=masks,
    )


def _classes(num_classes: int) -> list[tuple[str, str, str]]:
    """(shape, texture, colour) of each class, along diagonals of the cube of all combinations.

    The first ten go through all shapes, textures and colours at once.
    """
    shapes, textures, colours = list(SHAPES), list(TEXTURES), list(COLOURS)
    ten = len(shapes)  # as many as there are textures, and colours

    classes = []
    for number in range(num_classes):
        i, j, k = number % ten, number // ten % ten, number // ten**2
        classes.append((shapes[i], textures[(i + j) % ten], colours[(i + 3 * j + k) % ten]))
    return classes


def _labels(count: int, num_classes: int, stream: tuple[int, int]) -> np.ndarray:
    # The fourth number keeps this generator apart from those of the pictures.
    rng = np.random.default_rng((*stream, 0, 1))

    runs = [rng.permutation(num_classes) for _ in range(math.ceil(count / num_classes))]
    return np.concatenate(runs)[:count].astype(np.int64)


def _draw(
    rng: np.random.Generator, shape: str, texture: str, colour: str, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """One picture, uint8 (size, size, 3), and its mask, bool (size, size)."""
    across = np.arange(size, dtype=np.float32) + 0.5  # pixel centres
    down = across[:, None]
    picture = _background(rng, across / size, down / size)  # (3, size, size), 0..1

    # Place, size and tilt: x, y are the coordinates of the shape's own frame, (size, size) each.
    radius = size * rng.uniform(0.3, 0.7) / 2
    tilt = rng.uniform(-0.25, 0.25)  # radians; more would turn a square into a diamond
    cos, sin = math.cos(tilt) / radius, math.sin(tilt) / radius
    across = across - rng.uniform(radius, size - radius)
    down = down - rng.uniform(radius, size - radius)
    x, y = cos * across + sin * down, cos * down - sin * across

    # Paint the shape over the background.
    distance = SHAPES[shape](x, y)
    dark = np.clip(0.5 + TEXTURES[texture](x, y, distance) * (radius / 8), 0, 1)
    covered = np.clip(0.5 - distance * radius, 0, 1)  # the share of each pixel, for smooth edges
    picture += covered * (_tinted(rng, colour) * (1 - 0.65 * dark) - picture)

    # Light, and the noise of a camera.
    picture *= rng.uniform(0.6, 1.1)
    picture += 0.05 * rng.standard_normal(picture.shape, np.float32)

    return np.clip(picture * 255, 0, 255).astype(np.uint8).transpose(1, 2, 0), distance < 0


def _background(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A gradient between two muted colours with a few soft blotches; x, y in 0..1."""
    start, end = _column(rng.uniform(0.25, 0.75, (2, 1)) + rng.uniform(-0.12, 0.12, (2, 3)))
    angle = rng.uniform(0, 2 * math.pi)
    ramp = 0.5 + 0.7 * (math.cos(angle) * (x - 0.5) + math.sin(angle) * (y - 0.5))
    picture = start + (end - start) * ramp

    for _ in range(4):
        width, height = rng.uniform(0.08, 0.25), rng.uniform(0.08, 0.25)
        far = ((x - rng.uniform()) / width) ** 2 + ((y - rng.uniform()) / height) ** 2
        blotch = np.clip(1 - far, 0, 0.8)
        picture += blotch * (_tinted(rng, rng.choice(list(COLOURS))) - picture)
    return picture


def _tinted(rng: np.random.Generator, colour: str) -> np.ndarray:
    return _column(np.array(COLOURS[colour]) + rng.uniform(-0.1, 0.1, 3))


def _column(colours: np.ndarray) -> np.ndarray:
    """(…, 3) to (…, 3, 1, 1), to be spread over the pixels."""
    return colours.astype(np.float32)[..., None, None]


def _boxes(masks: np.ndarray) -> np.ndarray:
    """Tight boxes of masks (N, H, W): int16 (N, 4), x0, y0, x1, y1, both ends inside."""

    def ends(hit):  # (N, length) -> first and last True
        return hit.argmax(1), hit.shape[1] - 1 - hit[:, ::-1].argmax(1)

    (x0, x1), (y0, y1) = ends(masks.any(1)), ends(masks.any(2))
    return np.stack([x0, y0, x1, y1], 1).astype(np.int16)


def _check(split: str, num_classes: int, size: int, count: int | None) -> None:
    """Raises DataError for arguments out of range."""
    if split not in PER_CLASS:
        raise DataError(f"unknown split {split!r}: expected one of {', '.join(PER_CLASS)}")

    most = len(SHAPES) * len(TEXTURES) * len(COLOURS)
    if not 1 <= num_classes <= most:
        raise DataError(
            f"num_classes is {num_classes}: toy shapes have 1 to {most} classes, shapes × textures "
            "× colours"
        )
    if size < SMALLEST:
        raise DataError(f"size is {size}: toy shapes need at least {SMALLEST} pixels a side")
    if count is not None and count < 1:
        raise DataError(f"count is {count}: expected at least one picture")
