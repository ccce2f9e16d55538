"""Pictures of pictures: galleries, augmentations, mistakes and class activation maps."""

from math import ceil, sqrt
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from course_lib.explain import overlay

from .picture import GAP, LINE, WIDTH, Picture, _count, _house_style, _listing, _note, _short

MIN_TILE, MAX_TILE = 80, 160  # shown width of a small picture, in pixels
PIXEL_BUDGET = 230_000  # of all pictures in one figure; a pixel costs about a byte of PNG


@_house_style
def gallery(images, titles=None, columns=8, alt=None, boxes=None, masks=None) -> Picture:
    """Small pictures in a grid, in the order given, with short names above.

    images: uint8 (N, H, W, 3); titles: N names; boxes: (N, 4) x0, y0, x1, y1 in pixels, inclusive;
    masks: bool (N, H, W). Raises ValueError for other shapes.
    """
    names = list(titles) if titles is not None else [""] * len(images)
    figure = _mosaic(images, columns, [_short(name) for name in names], boxes, masks)
    distinct = list(dict.fromkeys(_short(name, 40) for name in names if name))
    return Picture(
        figure, alt or f"{_count(images, 'picture')}: {_listing(distinct, 8) or 'without names'}"
    )


@_house_style
def augmentation_gallery(rows: dict[str, np.ndarray], alt=None) -> Picture:
    """One labelled row of pictures per pipeline: name -> uint8 (N, H, W, 3), all of one shape."""
    shapes = {name: np.shape(images) for name, images in rows.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(
            f"augmentation_gallery(): expected rows of one shape (N, H, W, 3), got {shapes}"
        )
    columns = len(next(iter(rows.values())))
    titles = [title for name in rows for title in [name] + [""] * (columns - 1)]
    figure = _mosaic(np.concatenate(list(rows.values())), columns, titles)
    return Picture(
        figure,
        alt
        or f"{_count(range(columns), 'picture')} for each augmentation, one row each: "
        f"{_listing(list(rows), 8, '; ')}",
    )


@_house_style
def wrong(images, true_names, predicted_names, confidences, columns=5) -> Picture:
    """Pictures that the model got wrong: what it said, how sure it was (0..1), and what it is."""
    if len(images) == 0:
        return _note("No wrong prediction to show: every picture was named rightly.")
    if len({len(images), len(true_names), len(predicted_names), len(confidences)}) > 1:
        raise ValueError(
            f"wrong(): {len(true_names)} true names, {len(predicted_names)} predicted ones and "
            f"{len(confidences)} confidences for {len(images)} pictures: expected as many of each"
        )
    cases = list(
        zip(true_names, predicted_names, [f"{100 * c:.0f} %" for c in confidences], strict=True)
    )
    titles = [f"said {_short(said)} ({sure})\nis {_short(true, 24)}" for true, said, sure in cases]
    named = [
        f"{_short(true, 40)} taken for {_short(said, 40)} ({sure})" for true, said, sure in cases
    ]
    return Picture(
        _mosaic(images, columns, titles),
        f"{_count(cases, 'wrong prediction')}: {_listing(named, 6)}",
    )


@_house_style
def cam_grid(images, cams: dict[str, np.ndarray], titles: list[str], boxes=None) -> Picture:
    """A row per picture: the picture (with its box), then the map of every layer laid over it.

    images: uint8 (N, H, W, 3); cams: layer -> (N, H, W), 0..1; boxes as in ``gallery``. Raises ValueError for
    numbers and shapes that do not fit, CourseError for other types and ranges.
    """
    images, shapes = np.asarray(images), {layer: np.shape(cam) for layer, cam in cams.items()}
    if set(shapes.values()) != {images.shape[:3]} or len(titles) != len(images) or not len(images):
        raise ValueError(
            f"cam_grid(): {len(titles)} titles and maps {shapes} for pictures {images.shape}; "
            f"expected at least one picture, and as many titles and maps of its shape"
        )
    heat = [
        list(map(overlay, images, np.nan_to_num(np.asarray(cam, float)))) for cam in cams.values()
    ]
    tiles = np.stack([images, *heat], axis=1)
    heads = ["\n".join(fill(line, 27) for line in str(title).splitlines()) for title in titles]
    outlined = (
        None if boxes is None else [each for box in boxes for each in [box] + [None] * len(cams)]
    )
    figure = _mosaic(
        tiles.reshape(-1, *images.shape[1:]),
        1 + len(cams),
        [text for head in heads for text in [head, *cams]],
        outlined,
        foot=LINE + GAP,
    )
    figure.text(
        GAP / 72 / figure.get_figwidth(),
        GAP / 72 / figure.get_figheight(),
        "from dark violet, 0: ignored, to yellow, 1: counts most",
    )
    return Picture(
        figure,
        f"Class activation maps of {_count(images, 'picture')}, half laid over each, at "
        f"{', '.join(cams)}: {_listing(list(titles), 6, '; ')}",
    )


def _mosaic(
    images, columns: int, titles: list[str], boxes=None, masks=None, foot: int = 0
) -> Figure:
    """Pictures in rows, each pixel of a picture a whole number of pixels of the figure."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise ValueError(
            f"expected at least one picture, uint8 (N, H, W, 3), got {images.dtype} {images.shape}"
        )
    for name, values in (("titles", titles), ("boxes", boxes), ("masks", masks)):
        if values is not None and len(values) != len(images):
            raise ValueError(f"{len(values)} {name} for {len(images)} pictures: expected one each")
    small, scale = _fit(images, columns)
    columns, lines = min(columns, len(images)), max(title.count("\n") + 1 for title in titles)
    head = LINE * lines + 4 if any(titles) else 0
    width, height = scale * small.shape[2] / 2, scale * small.shape[1] / 2
    across, down = width + GAP, head + height + GAP
    page = columns * across + GAP, ceil(len(images) / columns) * down + GAP + foot
    figure = Figure(figsize=(page[0] / 72, page[1] / 72))
    extent = (-0.5, images.shape[2] - 0.5, images.shape[1] - 0.5, -0.5)
    for i, (image, title) in enumerate(zip(small, titles, strict=True)):
        left, bottom = GAP + i % columns * across, page[1] - (i // columns + 1) * down
        ax = figure.add_axes((left / page[0], bottom / page[1], width / page[0], height / page[1]))
        ax.set_axis_off()
        ax.imshow(image, extent=extent, interpolation="nearest")
        ax.set_title(title, fontsize=10.5, pad=4)
        _outline(ax, None if boxes is None else boxes[i], None if masks is None else masks[i])
    return figure


def _fit(images: np.ndarray, columns: int) -> tuple[np.ndarray, int]:
    """The pictures, made smaller if they must be, and how many figure pixels one of theirs takes."""
    room = 2 * max(MIN_TILE, min(MAX_TILE, (WIDTH - GAP) // columns - GAP))
    number, height, width = images.shape[:3]
    limit = min(room, sqrt(PIXEL_BUDGET / number * width / height))
    if width > limit:
        smaller = room // ceil(room / limit)
        height, width = round(height * smaller / width), smaller
        images = np.stack([Image.fromarray(image).resize((width, height)) for image in images])
    return images, max(room // width, ceil(2 * MIN_TILE / width))


def _outline(ax, box, mask) -> None:
    """White within black, to be seen on any picture."""
    for colour, line in (("black", 3.5), ("white", 1.5)):
        if box is not None:
            x0, y0, x1, y1 = (float(side) for side in box)
            ax.add_patch(
                Rectangle(
                    (x0 - 0.5, y0 - 0.5),
                    x1 - x0 + 1,
                    y1 - y0 + 1,
                    fill=False,
                    edgecolor=colour,
                    linewidth=line,
                )
            )
        if mask is not None and 0 < np.mean(mask) < 1:
            ax.contour(mask, [0.5], colors=colour, linewidths=line)
