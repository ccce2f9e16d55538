"""Maps graded: do they lie on the object, and does the network need what they point at?

Every grade stands beside two maps that know nothing of the picture. "chance" is the same
everywhere: its grade is the mean share of the picture that the objects cover, and with ties broken
at random it removes pixels in a random order. "middle" is a spot in the middle, where photographers
put their objects. A method that does not beat the second has shown nothing.

Two maps are compared picture by picture, ``score(values - others)``: what makes a picture easy for
both, such as a large object, then counts for neither.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from course_lib.explain.checks import check_finite, check_input, check_targets, find_classes
from course_lib.files import CourseError
from course_lib.models.modes import in_eval_mode

BATCH = 64  # pictures that the network sees at once
REACH = 1.96  # standard errors on either side hold the truth in 95 of 100 cases
THRESHOLDS = tuple(step / 20 for step in range(1, 20))  # 0.05 to 0.95 of a map's maximum


@dataclass(frozen=True)
class Score:
    """A mean over n pictures with its 95 % interval: mean ± 1.96 standard errors (normal)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return (self.high - self.low) / (2 * REACH)

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n})"


def score(values: np.ndarray) -> Score:
    """The mean of one value per picture; of differences between two maps, how far one is ahead.

    values: float (N,), N at least 2. Raises CourseError for fewer.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise CourseError(
            f"values: expected one for each of at least two pictures, got {values.shape}"
        )

    mean = values.mean()
    reach = REACH * values.std(ddof=1) / math.sqrt(len(values))
    return Score(float(mean), float(mean - reach), float(mean + reach), len(values))


# --- where the map lies ---------------------------------------------------------------------------
#
# maps: float (N, H, W), from zero up. where: boxes, int (N, 4), as x0, y0, x1, y1 with both ends
# inside, or masks, bool (N, H, W). All return float64 (N,), 0..1, and zero for a map that is zero
# everywhere: it points nowhere. All raise CourseError for shapes, boxes or values that do not fit.


def pointing_game(maps: np.ndarray, where: np.ndarray) -> np.ndarray:
    """1 where the brightest pixel lies inside, else 0; of several, the share that lies inside.

    Source: Zhang et al. 2016, arXiv:1608.00507, hits / (hits + misses), without their margin of
    15 pixels.
    """
    inside = _inside(maps, where)
    highest = maps.max(axis=(1, 2), keepdims=True)
    brightest = (maps == highest) & (highest > 0)  # (N, H, W)

    return _share((brightest & inside).sum((1, 2)), brightest.sum((1, 2)))


def energy_in_box(maps: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The share of the map's sum that lies inside.

    Source: Wang et al. 2020, Score-CAM, arXiv:1910.01279: Σ inside / (Σ inside + Σ outside).
    """
    inside = _inside(maps, where)
    energy = (maps * inside).sum((1, 2), dtype=np.float64)

    return _share(energy, maps.sum((1, 2), dtype=np.float64))


def iou(maps: np.ndarray, where: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """Intersection over union of the object and the pixels above a share of the map's maximum.

    threshold: the share, above 0 and at most 1.
    Source: the threshold of Zhou et al. 2016, arXiv:1512.04150 (20 % of the maximum).
    """
    if not 0 < threshold <= 1:
        raise CourseError(f"threshold: expected a share above 0 and at most 1, got {threshold}")

    inside = _inside(maps, where)
    highest = maps.max(axis=(1, 2), keepdims=True)
    bright = (maps >= threshold * highest) & (highest > 0)

    return _share((bright & inside).sum((1, 2)), (bright | inside).sum((1, 2)))


def best_threshold(maps: np.ndarray, where: np.ndarray) -> float:
    """Of ``THRESHOLDS``, the one with the largest mean ``iou``; of equals, the lowest.

    Each method has its own, for maps differ in how fast they fall off. To be chosen on other
    pictures than those that are graded with it.
    """
    means = [iou(maps, where, threshold).mean() for threshold in THRESHOLDS]
    return THRESHOLDS[int(np.argmax(means))]


GRADES = {"pointing game": pointing_game, "energy": energy_in_box, "IoU": iou}


def grade(maps: Mapping[str, np.ndarray], where: np.ndarray) -> dict[str, dict[str, Score]]:
    """A table: a row for "chance", "middle" and each map by name; a column for each of ``GRADES``.

    maps: float (N, H, W) each, by name. where: see above.
    """
    table = {}
    for name, each in _with_baselines(maps).items():
        values = {column: graded(each, where) for column, graded in GRADES.items()}  # (N,) each
        table[name] = {column: score(found) for column, found in values.items()}
    return table


# --- what the network needs -----------------------------------------------------------------------


def deletion(
    model: nn.Module, images: torch.Tensor, maps: np.ndarray, targets=None, steps: int = 16
) -> np.ndarray:
    """How sure of the class the network stays while pixels are taken away, brightest first.

    images: normalised float (N, 3, H, W). maps: float (N, H, W). targets: class indices (N,), by
    default the classes predicted for the whole pictures. steps: equal parts in which the pixels go,
    to zero, the mean colour; those of the same brightness in random order, always the same one.
    Returns float64 (N,): the area under the curve of the class's probability over the share of
    pixels, 0..1, the lower the better. Leaves the model as it was. Raises CourseError for shapes
    that do not fit.
    Source: Petsiuk et al. 2018, RISE, arXiv:1806.07421.
    """
    return _area(model, images, maps, targets, steps, start=lambda x: x, end=torch.zeros_like)


def insertion(
    model: nn.Module, images: torch.Tensor, maps: np.ndarray, targets=None, steps: int = 16
) -> np.ndarray:
    """How soon the network is sure of the class as pixels come into a blurred picture.

    As ``deletion``, the higher the better. The blur is RISE's: 11 pixels wide, σ = 5 pixels, so
    that pictures need sides of 6 pixels or more.
    """

    def blurred(x: torch.Tensor) -> torch.Tensor:
        _check_blur(x)
        return gaussian_blur(x, [11, 11], [5.0, 5.0])

    return _area(model, images, maps, targets, steps, start=blurred, end=lambda x: x)


def grade_by_pixels(
    model: nn.Module,
    images: torch.Tensor,
    maps: Mapping[str, np.ndarray],
    targets=None,
    steps: int = 16,
) -> dict[str, dict[str, Score]]:
    """As ``grade``, with the columns "deletion" (lower is better) and "insertion" (higher)."""
    table = {}
    for name, each in _with_baselines(maps).items():
        table[name] = {
            "deletion": score(deletion(model, images, each, targets, steps)),
            "insertion": score(insertion(model, images, each, targets, steps)),
        }
    return table


def _area(
    model: nn.Module,
    images: torch.Tensor,
    maps: np.ndarray,
    targets,
    steps: int,
    start: Callable[[torch.Tensor], torch.Tensor],
    end: Callable[[torch.Tensor], torch.Tensor],
) -> np.ndarray:
    """The area under the class's probability on the way from one picture to the other: (N,)."""
    device = check_input(model, images)
    _check_maps(maps, (len(images), *images.shape[2:]))
    pixels = maps[0].size
    if not 1 <= steps <= pixels:
        raise CourseError(f"steps: expected 1 to {pixels}, as many as pixels, got {steps}")
    if targets is not None:
        targets = torch.as_tensor(targets)
        check_targets(targets, len(images))

    rng = np.random.default_rng(0)
    areas = []

    with in_eval_mode(model), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for first in range(0, len(images), BATCH):
            part = slice(first, first + BATCH)
            x = images[part].to(device, torch.float32)  # (B, 3, H, W)
            turn = torch.from_numpy(_turns(maps[part], rng))[:, None].to(device)  # (B, 1, H, W)

            asked = None if targets is None else targets[part]
            # a copy, for the first layer may work in place, and x may be the caller's own
            classes = find_classes(model(x.clone()), asked)
            before, after = start(x), end(x)

            curve = []
            for step in range(steps + 1):
                changed = turn < round(pixels * step / steps)
                logits = model(torch.where(changed, after, before))
                check_finite(logits)
                curve.append(logits.softmax(1).gather(1, classes[:, None])[:, 0])

            curve = torch.stack(curve).cpu().double()  # (steps + 1, B)
            areas.append(torch.trapezoid(curve, dx=1 / steps, dim=0).numpy())

    return np.concatenate(areas)


def _turns(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """When each pixel's turn comes, 0 for the brightest: int64 (N, H, W). Ties at random."""
    flat = maps.reshape(len(maps), -1)
    shuffled = rng.permuted(np.broadcast_to(np.arange(flat.shape[1]), flat.shape), axis=1)

    # Brightest first; a stable sort leaves equals in their shuffled order.
    order = np.argsort(-np.take_along_axis(flat, shuffled, 1), axis=1, kind="stable")
    pixels = np.take_along_axis(shuffled, order, 1)  # by turn

    turns = np.empty_like(pixels)
    np.put_along_axis(turns, pixels, np.arange(flat.shape[1])[None], 1)
    return turns.reshape(maps.shape)


# --- the two maps that know nothing ---------------------------------------------------------------


def middle_spot(shape: tuple[int, int, int]) -> np.ndarray:
    """A centred Gaussian, σ a quarter of each side: float32 (N, H, W), its maximum near 1."""
    count, height, width = shape
    y = np.linspace(-1, 1, 2 * height + 1)[1::2]  # pixel centres
    x = np.linspace(-1, 1, 2 * width + 1)[1::2]

    spot = np.exp(-2 * (y[:, None] ** 2 + x**2))  # half a side is 1, so σ is 1/2
    return np.broadcast_to(spot.astype(np.float32), (count, height, width))


def _with_baselines(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not maps:
        raise CourseError("maps: expected at least one, by name")

    shape = getattr(next(iter(maps.values())), "shape", ())
    for name, each in maps.items():
        _check_maps(each, shape, name)
    return {"chance": np.ones(shape, np.float32), "middle": middle_spot(shape), **maps}


# --- objects in larger pictures -------------------------------------------------------------------


def enlarge_objects(where: np.ndarray, factor: int) -> np.ndarray:
    """Boxes (N, 4) or masks (N, H, W) of pictures that are shown ``factor`` times as large.

    factor: a whole number, so that every pixel becomes a square of pixels.
    """
    if where.dtype == bool:
        return where.repeat(factor, axis=1).repeat(factor, axis=2)

    boxes = where.astype(np.int64) * factor
    boxes[:, 2:] += factor - 1  # both ends lie inside
    return boxes


# --- regions, shares, checks ----------------------------------------------------------------------


def _inside(maps: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Boxes or masks as masks: bool (N, H, W)."""
    _check_maps(maps, getattr(maps, "shape", ()))
    count, height, width = maps.shape
    where = np.asarray(where)

    if where.dtype == bool and where.shape == maps.shape:
        return where
    if where.shape != (count, 4) or not np.issubdtype(where.dtype, np.integer):
        raise CourseError(
            f"where: expected boxes, int ({count}, 4), or masks, bool {maps.shape}, "
            f"got {where.dtype} {where.shape}"
        )

    x0, y0, x1, y1 = where.T[..., None].astype(np.int64)  # (N, 1) each
    fits = (x0 >= 0) & (x0 <= x1) & (x1 < width) & (y0 >= 0) & (y0 <= y1) & (y1 < height)
    if not fits.all():
        index = int(np.argmin(fits))
        raise CourseError(
            f"where: expected boxes x0, y0, x1, y1 inside {width} × {height} pixels, "
            f"number {index} is {where[index].tolist()}"
        )

    x, y = np.arange(width), np.arange(height)
    columns, rows = (x0 <= x) & (x <= x1), (y0 <= y) & (y <= y1)  # (N, W), (N, H)
    return rows[:, :, None] & columns[:, None, :]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and zero of nothing."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _check_blur(x: torch.Tensor) -> None:
    height, width = x.shape[2:]
    if min(height, width) < 6:  # at an edge, the 5 pixels behind the outermost are mirrored
        raise CourseError(
            f"images: expected sides of 6 pixels or more, got {height} × {width}: the blur that "
            "insertion begins with is 11 pixels wide"
        )


def _check_maps(maps: np.ndarray, shape: tuple[int, ...], name: str = "maps") -> None:
    if not isinstance(maps, np.ndarray):
        raise CourseError(
            f"{name}: expected a numpy array (N, H, W), got a {type(maps).__name__}: "
            "np.asarray makes one of it"
        )
    if maps.ndim != 3 or maps.shape != shape:
        expected = shape if len(shape) == 3 else "(N, H, W)"
        raise CourseError(f"{name}: expected an array {expected}, got {maps.shape}")
    if maps.size == 0 or not np.issubdtype(maps.dtype, np.floating):
        raise CourseError(f"{name}: expected float values, got {maps.dtype} {maps.shape}")
    if not (np.isfinite(maps).all() and maps.min() >= 0):
        raise CourseError(f"{name}: expected finite values from 0 on")
