"""Pictures of pictures: galleries, augmentations, mistakes and class activation maps."""

from math import ceil, sqrt
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from course_lib.explain import overlay
from course_lib.plots import words
from course_lib.plots.picture import DPI, POINTS, WIDTH, Picture, house_style, note

MIN_TILE, MAX_TILE = 80, 160  # shown width of a small picture, in pixels on the page
GAP, LINE = 8, 14  # between two tiles; a line of text
PIXEL_BUDGET = 230_000  # of all pictures in one figure; a pixel costs about a byte of PNG
FINE = DPI // POINTS  # pixels of the figure to one on the page


@house_style
def gallery(images, titles=None, columns=8, alt=None, boxes=None, masks=None) -> Picture:
    """Small pictures in a grid, in the order given, with short names above.

    images: uint8 (N, H, W, 3); titles: N names; boxes: (N, 4) x0, y0, x1, y1 in pixels, inclusive;
    masks: bool (N, H, W). Raises ValueError for other shapes.
    """
    names = list(titles) if titles is not None else [""] * len(images)
    heads = [fill(words.short(name, 32), 16, break_on_hyphens=False) for name in names]
    figure = _mosaic(images, columns, heads, boxes, masks)

    distinct = dict.fromkeys(words.short(name, 40) for name in names if name)
    listed = words.listing(list(distinct), 8) or "without names"
    return Picture(figure, alt or f"{words.count(images, 'picture')}: {listed}")


@house_style
def augmentation_gallery(rows: dict[str, np.ndarray], alt=None) -> Picture:
    """A labelled row of pictures for each pipeline: name → uint8 (N, H, W, 3), all of one shape.

    Raises ValueError for rows of several shapes, or none.
    """
    shapes = {name: np.shape(images) for name, images in rows.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(
            f"augmentation_gallery(): expected rows of one shape (N, H, W, 3), got {shapes}"
        )

    tiles = np.concatenate(list(rows.values()))
    columns = len(tiles) // len(rows)

    titles = []  # the name stands above the first picture of its row
    for name in rows:
        titles += [name] + [""] * (columns - 1)
    figure = _mosaic(tiles, columns, titles)

    count = words.count(range(columns), "picture")
    listed = words.listing(list(rows), 8, "; ")
    return Picture(figure, alt or f"{count} for each augmentation, one row each: {listed}")


@house_style
def wrong(images, true_names, predicted_names, confidences, columns=5) -> Picture:
    """Pictures that the model got wrong: what it said, how sure it was (0..1), and what it is.

    images: uint8 (N, H, W, 3); the others: N each. Raises ValueError for other numbers.
    """
    if len(images) == 0:
        return note("No wrong prediction to show: every picture was named rightly.")
    if len({len(images), len(true_names), len(predicted_names), len(confidences)}) > 1:
        raise ValueError(
            f"wrong(): {len(true_names)} true names, {len(predicted_names)} predicted ones and "
            f"{len(confidences)} confidences for {len(images)} pictures: expected as many of each"
        )

    titles, cases = [], []
    for true, said, confidence in zip(true_names, predicted_names, confidences, strict=True):
        sure = f"{100 * confidence:.0f} %"
        titles.append(f"said {words.short(said)} ({sure})\nis {words.short(true, 24)}")
        cases.append(f"{words.short(true, 40)} taken for {words.short(said, 40)} ({sure})")

    count = words.count(cases, "wrong prediction")
    return Picture(_mosaic(images, columns, titles), f"{count}: {words.listing(cases, 6)}")


@house_style
def cam_grid(images, cams: dict[str, np.ndarray], titles: list[str], boxes=None) -> Picture:
    """A row per picture: the picture (with its box), then the map of every layer laid over it.

    images: uint8 (N, H, W, 3); cams: layer → (N, H, W), 0..1, NaN counts as 0; boxes as in
    ``gallery``. Raises ValueError for numbers and shapes that do not fit, CourseError for other
    types and ranges.
    """
    images = np.asarray(images)
    shapes = {layer: np.shape(maps) for layer, maps in cams.items()}
    if set(shapes.values()) != {images.shape[:3]} or len(titles) != len(images) or not len(images):
        raise ValueError(
            f"cam_grid(): {len(titles)} titles and maps {shapes} for pictures {images.shape}; "
            f"expected at least one picture, and as many titles and maps of its shape"
        )

    tiles, heads, outlines = [], [], []
    for i, image in enumerate(images):
        tiles.append(image)
        heads.append("\n".join(fill(line, 27) for line in str(titles[i]).splitlines()))
        outlines.append(None if boxes is None else boxes[i])

        for layer, maps in cams.items():
            cam = np.nan_to_num(np.asarray(maps[i], float))  # (H, W)
            tiles.append(overlay(image, cam))
            heads.append(layer)
            outlines.append(None)

    figure = _mosaic(np.stack(tiles), 1 + len(cams), heads, outlines, foot=LINE + GAP)
    figure.text(
        GAP / POINTS / figure.get_figwidth(),
        GAP / POINTS / figure.get_figheight(),
        "from dark violet, 0: ignored, to yellow, 1: counts most",
    )

    count = words.count(images, "picture")
    listed = words.listing(list(titles), 6, "; ")
    return Picture(
        figure,
        f"Class activation maps of {count}, half laid over each, at {', '.join(cams)}: {listed}",
    )


def _mosaic(
    images, columns: int, titles: list[str], boxes=None, masks=None, foot: int = 0
) -> Figure:
    """Pictures in rows, without resampling: each of their pixels is a square of the figure's.

    ``foot``: room for text below, in pixels on the page, as are all lengths in here.
    """
    images = np.asarray(images)
    _refuse_other_shapes(images, columns, titles, boxes, masks)

    small, scale = _fit(images, columns)
    columns = min(columns, len(images))
    rows = ceil(len(images) / columns)

    # A tile: its title, the picture, and a gap to the right and below.
    width = scale * small.shape[2] / FINE
    height = scale * small.shape[1] / FINE
    lines = max(title.count("\n") + 1 for title in titles)
    head = LINE * lines + 4 if any(titles) else 0
    across = width + GAP
    down = head + height + GAP

    page_width = columns * across + GAP
    page_height = rows * down + GAP + foot
    figure = Figure(figsize=(page_width / POINTS, page_height / POINTS))

    # Boxes and masks count in pixels of the picture as it came, also where it was made smaller.
    extent = (-0.5, images.shape[2] - 0.5, images.shape[1] - 0.5, -0.5)

    for i, (image, title) in enumerate(zip(small, titles, strict=True)):
        row, column = divmod(i, columns)
        left = GAP + column * across
        bottom = page_height - (row + 1) * down
        ax = figure.add_axes(
            (
                left / page_width,
                bottom / page_height,
                width / page_width,
                height / page_height,
            )
        )
        ax.set_axis_off()
        ax.imshow(image, extent=extent, interpolation="nearest")
        ax.set_title(title, fontsize=10.5, pad=4)

        if boxes is not None and boxes[i] is not None:
            _outline_box(ax, boxes[i])
        if masks is not None:
            _outline_mask(ax, masks[i])
    return figure


def _refuse_other_shapes(images: np.ndarray, columns: int, titles, boxes, masks) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise ValueError(
            f"expected at least one picture, uint8 (N, H, W, 3), got {images.dtype} {images.shape}"
        )
    if columns < 1:
        raise ValueError(f"{columns} columns: expected at least 1")

    for name, values in (("titles", titles), ("boxes", boxes), ("masks", masks)):
        if values is not None and len(values) != len(images):
            raise ValueError(f"{len(values)} {name} for {len(images)} pictures: expected one each")

    if masks is not None and np.shape(masks) != images.shape[:3]:
        raise ValueError(f"masks of {np.shape(masks)} for pictures of {images.shape}")


def _fit(images: np.ndarray, columns: int) -> tuple[np.ndarray, int]:
    """The pictures, made smaller if need be, and how many figure pixels one of theirs takes."""
    tile = (WIDTH - GAP) // columns - GAP
    room = FINE * max(MIN_TILE, min(MAX_TILE, tile))  # width of a tile, in pixels of the figure
    number, height, width = images.shape[:3]

    # The widest that fits into the tile, and with which all pictures together stay in the budget.
    limit = min(room, sqrt(PIXEL_BUDGET / number * width / height))
    if width > limit:
        smaller = room // ceil(room / limit)  # divides the room, so that the tile is filled
        height, width = round(height * smaller / width), smaller
        images = np.stack([Image.fromarray(image).resize((width, height)) for image in images])

    scale = max(room // width, ceil(FINE * MIN_TILE / width))
    return images, scale


# White within black, to be seen on any picture.
OUTLINE = (("black", 3.5), ("white", 1.5))


def _outline_box(ax: Axes, box) -> None:
    """x0, y0, x1, y1 are the first and last pixels inside: the box goes around them."""
    if len(box) != 4:
        raise ValueError(f"boxes of {len(box)} numbers: expected x0, y0, x1, y1")
    x0, y0, x1, y1 = (float(side) for side in box)
    for colour, width in OUTLINE:
        ax.add_patch(
            Rectangle(
                (x0 - 0.5, y0 - 0.5),
                width=x1 - x0 + 1,
                height=y1 - y0 + 1,
                fill=False,
                edgecolor=colour,
                linewidth=width,
            )
        )


def _outline_mask(ax: Axes, mask: np.ndarray) -> None:
    """An empty or full mask has no outline."""
    if not 0 < np.mean(mask) < 1:
        return
    for colour, width in OUTLINE:
        ax.contour(mask, [0.5], colors=colour, linewidths=width)
