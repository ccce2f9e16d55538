"""Diagrams of blocks and networks, drawn from the modules themselves: they cannot differ from them.

A block is recorded by torch.fx and read as a main path with side paths (``Wiring``); a network is
read stage by stage. Both become boxes, lines and labels at places of a page (``Layout``).
"""

import operator
import re
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import sqrt
from textwrap import fill, wrap

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch
from matplotlib.textpath import text_to_path
from torch import fx, nn
from torchvision.ops import SqueezeExcitation, StochasticDepth

from course_lib.checks import check_whole
from course_lib.files import first_line
from course_lib.models import LambdaLayer, summary
from course_lib.models.modes import in_eval_mode
from course_lib.models.summary import Layer
from course_lib.models.variants import NoShortcut, PadChannels
from course_lib.plots.charts import COLOURS, INK
from course_lib.plots.picture import POINTS, Picture, house_style, note
from course_lib.plots.words import cut

# Border of a box; inside it has a tint of the same colour.
KINDS = {
    "map": INK,
    "sum": INK,
    "conv": COLOURS[0],
    "norm": COLOURS[3],
    "activation": COLOURS[1],
    "pool": COLOURS[2],
    "attention": COLOURS[5],
    "linear": COLOURS[4],
    "other": COLOURS[6],
}

# Sizes in pixels on the page.
FONT, SMALL, LINE = 12, 11, 15  # text; shapes and footnotes; from one line of text to the next
MARGIN, PAD = 14, 8  # around the page; around the words in a box
STEP = 15  # an arrow between two boxes
LABEL = 19  # a shape on the way
FORK = 9  # from a box or a shape down to where the shortcut leaves
RADIUS = 11  # of a plus
LANE = 14  # between the main path and the shortcut
LEAST = 240  # width of a page
NARROWEST = 150  # of several columns on it, for their titles

# Footnotes, a line each.
SHAPES = ["maps: channels × height × width"]
ROOTS = [
    "maps: channels × height × width",
    "a box is as high as the map's side, as wide as its channels (square roots)",
]


# --- what is drawn --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """Words in a frame, around their centre; a sum is a circle."""

    kind: str
    lines: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Label:
    """Words without a frame; ``align``: which end of them stands at x."""

    text: str
    x: float
    y: float
    align: str = "center"
    size: float = SMALL
    weight: str = "normal"


@dataclass
class Layout:
    """Where everything stands, in pixels, y downwards. A line is a list of its corners."""

    width: float = 0
    height: float = 0
    boxes: list[Box] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    lines: list[list[tuple[float, float]]] = field(default_factory=list)


def draw_page(layouts: list[Layout], alt: str, footnotes: list[str]) -> Picture:
    """Side by side, on one scale, with ``footnotes`` below them all."""
    inner = sum(layout.width for layout in layouts)
    below = max(layout.height for layout in layouts) + LINE
    width = max(inner, LEAST)
    height = below + LINE * len(footnotes) + MARGIN / 2

    figure = Figure(figsize=(width / POINTS, height / POINTS))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()

    left = (width - inner) / 2
    for layout in layouts:
        for corners in layout.lines:
            _draw_line(ax, corners, left)
        for box in layout.boxes:
            _draw_box(ax, box, left)
        for label in layout.labels:
            _draw_label(ax, label, left)
        left += layout.width

    for number, line in enumerate(footnotes):
        _draw_label(ax, Label(line, width / 2, below + LINE * number), left=0)
    return Picture(figure, alt)


def _draw_line(ax: Axes, corners: list[tuple[float, float]], left: float) -> None:
    """With an arrow's head at its end."""
    places = [(left + x, y) for x, y in corners]
    ax.plot(*zip(*places, strict=True), color=INK, linewidth=1.3, zorder=1)

    head = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.3}
    ax.annotate("", places[-1], places[-2], arrowprops=head, zorder=1)


def _draw_box(ax: Axes, box: Box, left: float) -> None:
    x, colour = left + box.x, KINDS[box.kind]
    filled = "white" if colour == INK else _tint(colour)
    style = {"facecolor": filled, "edgecolor": colour, "linewidth": 1.3, "zorder": 2}

    if box.kind == "sum":
        ax.add_patch(Circle((x, box.y), RADIUS, **style))
        ax.text(x, box.y, "+", size=1.4 * FONT, ha="center", va="center_baseline", color=INK)
        return

    corner = x - box.width / 2, box.y - box.height / 2
    rounded = "round,pad=0,rounding_size=3"
    ax.add_patch(FancyBboxPatch(corner, box.width, box.height, boxstyle=rounded, **style))
    ax.text(x, box.y, "\n".join(box.lines), size=FONT, ha="center", va="center", color=INK)


def _draw_label(ax: Axes, label: Label, left: float) -> None:
    ax.text(
        left + label.x,
        label.y,
        label.text,
        size=label.size,
        weight=label.weight,
        ha=label.align,
        va="center",
        color=INK,
        bbox={"facecolor": "white", "linewidth": 0, "pad": 1},  # a line passes behind it
    )


def _tint(colour: str) -> tuple[float, ...]:
    """Three quarters white, so that dark text can be read on it."""
    return tuple(0.25 * channel + 0.75 for channel in to_rgb(colour))


def _text_width(text: str, size: float = FONT) -> float:
    font = FontProperties(size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return width


# --- words of a layer -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    kind: str  # one of KINDS
    name: str  # "3×3 conv"
    details: tuple[str, ...] = ()  # "64 → 128", "stride 2"
    said: str = ""  # in the text of the picture, if more than the name


TIED = "\N{NO-BREAK SPACE}"  # never at the end of a line

POOLS = (nn.MaxPool2d, nn.AvgPool2d)
ADAPTIVE_POOLS = (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ReLU6, nn.Sigmoid, nn.Hardswish)


def _layer_words(layer: nn.Module) -> Words:
    match layer:
        case nn.Conv2d():
            return _conv_words(layer)
        case nn.Linear():
            sizes = layer.in_features, layer.out_features
            said = "linear layer from {} to {} numbers".format(*sizes)
            return Words("linear", "linear layer", ("{} → {}".format(*sizes),), said)
        case SqueezeExcitation():
            return Words("attention", "squeeze and excitation")
        case LambdaLayer():
            reach = "global" if layer.r is None else f"r = {layer.r}"
            return Words("attention", "lambda layer", (reach,), f"lambda layer, {reach}")
        case StochasticDepth() | nn.Dropout():
            name = "dropout" if isinstance(layer, nn.Dropout) else "drop path"
            return Words("other", name, (f"p = {layer.p:g}",), f"{name} with p = {layer.p:g}")
        case PadChannels():
            pixels = "" if layer.stride == 1 else f"every {_nth(layer.stride)} pixel, "
            return Words("other", f"{pixels}zeros for new channels")

    if isinstance(layer, NORMS):
        return Words("norm", "norm")
    if isinstance(layer, ACTIVATIONS):
        return Words("activation", type(layer).__name__)
    if isinstance(layer, POOLS + ADAPTIVE_POOLS):
        return _pool_words(layer)
    return Words("other", _class_words(layer))


def _conv_words(conv: nn.Conv2d) -> Words:
    kernel = "×".join(map(str, conv.kernel_size))
    channels = conv.in_channels, conv.out_channels
    details = ["{} → {}".format(*channels)]
    said = "{} convolution from {} to {} channels".format(kernel, *channels)

    if conv.stride != (1, 1):
        details.append(f"stride {conv.stride[0]}")
        said += f" with stride {conv.stride[0]}"
    if conv.groups > 1:
        details.append(f"{conv.groups} groups")
        said += f" in {conv.groups} groups"
    return Words("conv", f"{kernel}{TIED}conv", tuple(details), said)


def _pool_words(pool: nn.Module) -> Words:
    name = "max-pool" if "Max" in type(pool).__name__ else "average pool"
    if isinstance(pool, ADAPTIVE_POOLS):
        side = pool.output_size
        return Words("pool", f"global {name}ing" if side in (1, (1, 1)) else f"{name} to {side}")

    side, stride = pool.kernel_size, pool.stride
    if isinstance(side, int):
        side = (side, side)
    words = Words("pool", f"{side[0]}×{side[1]}{TIED}{name}")

    if stride in (side, side[0]):
        return words
    return replace(words, details=(f"stride {stride}",), said=f"{words.name} with stride {stride}")


def _class_words(layer: nn.Module) -> str:
    """``ResidualPair`` → "residual pair"."""
    name = type(layer).__name__.removeprefix("General").replace("PreAct", "Pre-activation")
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).split()
    return " ".join(part if part.isupper() else part.lower() for part in parts)


def _nth(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


FUNCTIONS = {
    "relu": Words("activation", "ReLU"),
    "relu_": Words("activation", "ReLU"),
    "add": Words("sum", "+", said="both are added"),
    "iadd": Words("sum", "+", said="both are added"),
    "add_": Words("sum", "+", said="both are added"),
    "mul": Words("other", "×", said="both are multiplied"),
    "cat": Words("other", "join channels", said="both are joined"),
    "pad": Words("other", "padded with zeros"),
    "max_pool2d": Words("pool", "max-pool"),
    "avg_pool2d": Words("pool", "average pool"),
    "adaptive_avg_pool2d": Words("pool", "global average pooling"),
}


def _name(node: fx.Node) -> str:
    """Of the function, method or layer that a node calls."""
    return node.target if isinstance(node.target, str) else node.target.__name__


def _function_words(node: fx.Node) -> Words:
    name = _name(node)
    if node.target is operator.getitem and isinstance(node.args[1], tuple):
        steps = [each.step for each in node.args[1] if isinstance(each, slice) and each.step]
        if steps:
            return Words("other", f"every {_nth(steps[-1])} pixel")

    words = FUNCTIONS.get(name, Words("other", name.strip("_").replace("_", " ")))
    constants = [each for each in node.args if isinstance(each, int | float)]
    if words.name in ("+", "×") and constants:
        return Words("other", f"{words.name} {constants[0]:g}")
    return words


# --- a block as it is wired -----------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A layer or a sum; ``shape``: of what comes out, without the batch, where it changes it."""

    kind: str
    lines: tuple[str, ...]
    said: str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Side:
    """A path that leaves behind ``main[start]`` and comes back at ``main[end]``."""

    start: int
    end: int
    parts: list[Part]
    name: str
    lane: int  # the column it stands in, counted from the main path


@dataclass(frozen=True)
class Wiring:
    main: list[Part]  # from the input to the output
    sides: list[Side]


WHOLE = (SqueezeExcitation, StochasticDepth, LambdaLayer)  # one box each, whatever is inside
ZEROS = ("new_zeros", "zeros_like")  # made from a map, but not of what is in it


class _Tracer(fx.Tracer):
    """Records down to the modules that have no others inside."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, WHOLE) or not any(module.children())


class _Shapes(fx.Interpreter):
    """Runs a graph and notes the shape of every tensor."""

    def run_node(self, node: fx.Node) -> object:
        result = super().run_node(node)
        if isinstance(result, torch.Tensor):
            node.meta["shape"] = tuple(result.shape[1:])
        return result


def _wiring(block: nn.Module, shape: tuple[int, int, int]) -> Wiring:
    """ValueError for paths within paths; whatever the block itself raises, if it does not run."""
    graph = _recorded(block, shape)
    inputs, last = _inputs(graph)
    path = _longest_path(inputs, last)
    place = {node: index for index, node in enumerate(path)}

    def parts(nodes: list[fx.Node]) -> list[Part]:
        return [_part(graph, node, inputs[node]) for node in nodes]

    given, given_back = _shape_words(shape), _shape_words(last.meta["shape"])
    first = Part("map", ("input", given), given)
    output = Part("map", ("output", given_back), given_back)
    main = [first, *parts(path[1:]), output]

    off_path = []  # where it starts, where it ends, what lies between
    for end, node in enumerate(path[1:], start=1):
        for source in inputs[node]:
            if source is not path[end - 1]:
                nodes = _back_to_main(source, place, inputs)
                start = inputs[nodes[0]][0] if nodes else source
                off_path.append((place[start], end, nodes))

    # Short ones stand next to the main path, and none over another.
    sides: list[Side] = []
    for start, end, nodes in sorted(off_path, key=lambda each: each[1] - each[0]):
        taken = {side.lane for side in sides if side.start < end and start < side.end}
        lane = next(lane for lane in range(len(off_path)) if lane not in taken)
        name = "shortcut" if main[end].kind == "sum" else "side path"
        sides.append(Side(start, end, parts(nodes), name, lane))
    return Wiring(main, sides)


def _recorded(block: nn.Module, shape: tuple[int, int, int]) -> fx.GraphModule:
    """The block as a graph whose nodes know their shapes."""
    weight = next(block.parameters(), torch.empty(0))

    with in_eval_mode(block), torch.no_grad():
        graph = fx.GraphModule(block, _Tracer().trace(block))
        _Shapes(graph).run(weight.new_zeros(1, *shape))
    return graph


def _inputs(graph: fx.GraphModule) -> tuple[dict[fx.Node, list[fx.Node]], fx.Node]:
    """Of each node that makes a map from the picture, those it makes it from; and the last one.

    Left out is what does nothing, such as Identity, and what is zero, such as a missing shortcut.
    """
    inputs: dict[fx.Node, list[fx.Node]] = {}
    stands_for: dict[fx.Node, fx.Node] = {}  # itself, or what it hands on as it is

    for node in graph.graph.nodes:
        sources = list(
            dict.fromkeys(stands_for[n] for n in node.all_input_nodes if n in stands_for)
        )
        if node.op == "output" and len(sources) == 1:
            return inputs, sources[0]

        if node.op == "placeholder":
            inputs[node], stands_for[node] = [], node
        elif not sources or "shape" not in node.meta or _is_zero(graph, node):
            continue
        elif _does_nothing(graph, node):
            stands_for[node] = sources[0]
        else:
            inputs[node], stands_for[node] = sources, node

    raise ValueError("expected one map that comes out, made from the one that goes in")


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(node.target) if node.op == "call_module" else None


def _is_zero(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(_module(graph, node), NoShortcut) or _name(node) in ZEROS


def _does_nothing(graph: fx.GraphModule, node: fx.Node) -> bool:
    layer = _module(graph, node)
    if layer is None:
        added = _function_words(node).kind == "sum"
        return added and any(_is_zero(graph, each) for each in node.all_input_nodes)

    switched_off = isinstance(layer, nn.Dropout | StochasticDepth) and layer.p == 0
    empty = isinstance(layer, nn.Sequential) and len(layer) == 0
    return switched_off or empty or isinstance(layer, nn.Identity)


def _longest_path(inputs: dict[fx.Node, list[fx.Node]], last: fx.Node) -> list[fx.Node]:
    """From the input to ``last``, by way of as many others as there are."""
    length: dict[fx.Node, int] = {}
    before: dict[fx.Node, fx.Node | None] = {}
    for node, sources in inputs.items():  # in the order in which they run
        before[node] = max(sources, key=length.__getitem__, default=None)
        length[node] = 1 + length.get(before[node], 0)

    path = []
    node: fx.Node | None = last
    while node is not None:
        path.insert(0, node)
        node = before[node]
    return path


def _back_to_main(
    node: fx.Node, place: dict[fx.Node, int], inputs: dict[fx.Node, list[fx.Node]]
) -> list[fx.Node]:
    """The nodes of a side path that ends in ``node``, in order."""
    nodes = []
    while node not in place:
        if len(inputs[node]) != 1:
            raise ValueError("a path beside the main one divides once more")
        nodes.insert(0, node)
        node = inputs[node][0]
    return nodes


def _part(graph: fx.GraphModule, node: fx.Node, sources: list[fx.Node]) -> Part:
    layer = _module(graph, node)
    words = _function_words(node) if layer is None else _layer_words(layer)
    if _name(node) == "cat" and any(_is_zero(graph, each) for each in node.all_input_nodes):
        words = FUNCTIONS["pad"]
    lines = (*wrap(words.name, 13), *words.details)

    shape = node.meta["shape"]
    changes = any(shape != source.meta["shape"] for source in sources)
    return Part(words.kind, lines, words.said or words.name, shape if changes else None)


def _shape_words(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} numbers" if len(shape) == 1 else "×".join(map(str, shape))


def _wiring_words(name: str, wiring: Wiring) -> str:
    """The text of the picture, along the main path."""
    first, *layers, output = wiring.main
    said = f"{name[0].upper()}{name[1:]}, {first.said} → {output.said}: "
    before = ""  # what stands between two parts

    for index, part in enumerate(layers, start=1):
        for side in wiring.sides:
            if side.end == index:
                behind = wiring.main[side.start].said
                source = "the input" if side.start == 0 else f"what comes out of {behind}"
                along = ", ".join(part.said for part in side.parts)
                said += f"; the {side.name}: {source}, {along or 'unchanged'}"
                before = "; "

        said += before + part.said
        before = ", then " if part.kind == "sum" else ", "
    return said if layers else f"{said}unchanged"


# --- a block on the page --------------------------------------------------------------------------


@house_style
def block_diagram(block: nn.Module, shape: tuple[int, int, int], title: str = "") -> Picture:
    """A residual block, or any small module, from top to bottom, its shortcut beside it.

    shape: (C, H, W) of the map it is given. What torch.fx cannot record, or what does not run with
    that shape, is answered by a sentence. Raises ValueError for another shape, and for no module.
    """
    return block_diagrams({title: (block, shape)})


@house_style
def block_diagrams(blocks: dict[str, tuple[nn.Module, tuple[int, int, int]]]) -> Picture:
    """Several of them side by side, on one scale: title → (block, shape)."""
    if not blocks:
        raise ValueError("block_diagrams(): expected at least one block")
    for block, shape in blocks.values():
        _check(block, shape)

    layouts, texts = [], []
    for title, (block, shape) in blocks.items():
        name = title or _layer_words(block).name
        try:
            wiring = _wiring(block, shape)
        except Exception as error:  # whatever the reader's own code raises
            return _no_diagram(block, shape, error)

        layouts.append(_block_layout(wiring, title))
        texts.append(_wiring_words(name, wiring))
    return draw_page(layouts, ". ".join(texts), SHAPES)


def _check(block: nn.Module, shape: tuple[int, int, int]) -> None:
    if not isinstance(block, nn.Module):
        raise ValueError(f"block_diagram(): {block!r:.60} is no nn.Module: expected a block")

    whole = all(isinstance(side, int) and side > 0 for side in shape)
    if len(shape) != 3 or not whole:
        raise ValueError(f"block_diagram(): shape is {shape}, expected (channels, height, width)")


def _no_diagram(block: nn.Module, shape: tuple[int, ...], error: Exception) -> Picture:
    what = f"{type(block).__name__} for a map of {_shape_words(shape)}"
    sentence = f"No diagram of {what}: {first_line(error)}"
    return note(fill(cut(sentence, 200), 70))


def _block_layout(wiring: Wiring, title: str) -> Layout:
    layout = Layout()
    main_width = max(map(_width, wiring.main))
    lanes = _lane_widths(wiring.sides)
    inner = main_width + sum(LANE + width for width in lanes)
    layout.width = max(inner + 2 * MARGIN, NARROWEST)

    left = (layout.width - inner) / 2
    x = left + main_width / 2
    y = _place_title(layout, title)
    above = y  # lower edge of the box before
    forks: dict[int, float] = {}  # where side paths leave, by the part they leave behind

    for index, part in enumerate(wiring.main):
        height = _height(part)
        returning = [side for side in wiring.sides if side.end == index]
        for side in returning:  # it may be longer than the main path
            y = max(y, forks[side.start] + _side_height(side) - height / 2)

        if index > 0:
            layout.lines.append([(x, above), (x, y)])
        width = 2 * RADIUS if part.kind == "sum" else main_width
        middle = y + height / 2
        layout.boxes.append(Box(part.kind, part.lines, x, middle, width, height))

        for side in returning:
            side_x = left + main_width + sum(LANE + width for width in lanes[: side.lane])
            side_x += LANE + lanes[side.lane] / 2
            fork, joint = (x, forks[side.start]), (x + width / 2, middle)
            _place_side(layout, side, side_x, fork, joint)

        above = y + height
        y = _place_shape(layout, part, x, above)
        if any(side.start == index for side in wiring.sides):
            y += FORK
            forks[index] = y
        y += STEP

    layout.height = y
    return layout


def _place_title(layout: Layout, title: str) -> float:
    """Where what follows begins."""
    y = MARGIN
    if not title:
        return y

    for line in wrap(title, int(layout.width / 8), break_on_hyphens=False):
        layout.labels.append(Label(line, layout.width / 2, y + 8, size=FONT, weight="bold"))
        y += LINE + 2
    return y + 8


def _place_shape(layout: Layout, part: Part, x: float, y: float) -> float:
    """The shape that leaves a part, if it is a new one; where what follows begins."""
    if part.shape is None:
        return y
    layout.labels.append(Label(_shape_words(part.shape), x, y + LABEL - 5))
    return y + LABEL


def _place_side(
    layout: Layout, side: Side, x: float, fork: tuple[float, float], joint: tuple[float, float]
) -> None:
    """Out of the main path, down, and back; with its boxes halfway."""
    top, bottom = fork[1], joint[1]
    layout.lines.append([fork, (x, top), (x, bottom), joint])

    y = top + (bottom - top - _side_height(side)) / 2 + FORK
    layout.labels.append(Label(side.name, x, y + LABEL / 2))
    y += LABEL

    width = max(map(_width, side.parts), default=0)
    for part in side.parts:
        layout.lines.append([(x, y), (x, y + STEP)])
        y += STEP
        height = _height(part)
        layout.boxes.append(Box(part.kind, part.lines, x, y + height / 2, width, height))
        y = _place_shape(layout, part, x, y + height)


def _side_height(side: Side) -> float:
    height = FORK + LABEL + FORK
    for part in side.parts:
        height += STEP + _height(part)
        if part.shape is not None:
            height += LABEL
    return height


def _lane_widths(sides: list[Side]) -> list[float]:
    widths = [0.0] * len({side.lane for side in sides})
    for side in sides:
        own = [_text_width(side.name, SMALL), *map(_width, side.parts)]
        widths[side.lane] = max(widths[side.lane], *own)
    return widths


def _width(part: Part) -> float:
    """Of a box with these words, and of the shape below it."""
    words = max(map(_text_width, part.lines)) + 2 * PAD
    shape = 0 if part.shape is None else _text_width(_shape_words(part.shape), SMALL) + 6
    return max(words, shape)


def _height(part: Part) -> float:
    return 2 * RADIUS if part.kind == "sum" else LINE * len(part.lines) + PAD


# --- a network ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A step of a network. A shape of one number is a vector."""

    kind: str
    name: str  # as the code has it
    inside: str  # "2 × basic block"
    shape: tuple[int, ...]
    parameters: int = 0


PAGE = 480  # width
WIDEST, TALLEST = 160, 96  # of the boxes: as many channels, and as large a map, as there are
THINNEST = 6


@house_style
def network_diagram(model: nn.Module, size: int) -> Picture:
    """A network from top to bottom: picture, stem, stages, pooling, linear layer.

    size: height and width of the pictures. A box is as high as the square root of the side of the
    map that comes out, as wide as that of its channels. Of a network without ``stages``, the stages
    are what holds several blocks. One that does not run is answered by a sentence. Raises
    ValueError for a size below 1, and for a network without a convolution.
    """
    check_whole(size=size)
    picture = Row("map", "picture", "", (_channels(model), size, size))
    try:
        rows = [picture, *_rows(model, size)]
    except Exception as error:  # whatever the reader's own code raises
        return _no_diagram(model, (size, size), error)

    total = sum(parameter.numel() for parameter in model.parameters())
    title = f"{type(model).__name__}: {total:,} parameters"
    steps = [f"{row.name}: {', '.join(_row_words(row))}" for row in rows]
    return draw_page([_network_layout(rows, title)], f"{title}. {'; '.join(steps)}", ROOTS)


def _rows(model: nn.Module, size: int) -> list[Row]:
    """Stem, stages, and what follows them."""
    layers = summary(model, size).layers
    children = dict(model.named_children())
    stages = getattr(model, "stages", None) or _stages_of(children)

    names = [layer.name for layer in layers]
    first = min((names.index(name) for name in stages if name in names), default=0)
    rows = []
    if first > 0:
        rows.append(_stem(layers[:first], children, next(iter(stages))))

    for layer in layers[first:]:
        module = children[layer.name]
        kind = "conv" if layer.name in stages else _layer_words(module).kind
        if kind == "linear" and rows and rows[-1].kind == "conv":
            rows.append(Row("pool", "pooling", "from a map to a vector", (module.in_features,)))
        rows.append(Row(kind, layer.name, _inside(module), layer.shape, layer.parameters))

    if rows[-1].kind == "linear":
        rows[-1] = replace(rows[-1], inside="linear layer: a logit for each class")
    return rows


def _channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise ValueError(f"network_diagram(): {type(model).__name__} has no convolution")


def _stages_of(children: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Of a network that does not name its stages: what holds modules that hold others."""
    return {
        name: child
        for name, child in children.items()
        if isinstance(child, nn.Sequential) and any(any(each.children()) for each in child)
    }


def _stem(layers: list[Layer], children: dict[str, nn.Module], first_stage: str) -> Row:
    """All that comes before the first stage, ReLU included, which ``summary`` leaves out."""
    names = list(children)
    before = [children[name] for name in names[: names.index(first_stage)]]
    parameters = sum(layer.parameters for layer in layers)
    return Row("norm", "stem", _inside(nn.Sequential(*before)), layers[-1].shape, parameters)


def _inside(module: nn.Module) -> str:
    """``3×3 conv, norm, ReLU`` or ``3 × bottleneck``: what it holds, in order."""
    said = []
    for name, equal in groupby(_names(module)):
        number = len(list(equal))
        said.append(name if number == 1 else f"{number} × {name}")
    return ", ".join(said)


def _names(module: nn.Module) -> list[str]:
    if isinstance(module, nn.Identity):
        return []
    if isinstance(module, nn.Sequential):
        return [name for each in module for name in _names(each)]

    words = _layer_words(module)
    extra = [detail for detail in words.details if detail.startswith("stride")]

    inner = list(module.modules())[1:]
    if any(isinstance(each, LambdaLayer) for each in inner):
        extra.append("lambda layer")
    if any(isinstance(each, SqueezeExcitation) for each in inner):
        extra.append("squeeze and excitation")
    return [f"{words.name} with {' and '.join(extra)}" if extra else words.name]


def _row_words(row: Row) -> list[str]:
    """What is inside, the shape, the parameters; without what is missing."""
    parameters = f"{row.parameters:,} parameters" if row.parameters else ""
    return [each for each in (row.inside, _shape_words(row.shape), parameters) if each]


def _network_layout(rows: list[Row], title: str) -> Layout:
    layout = Layout(width=PAGE)
    y = _place_title(layout, title)

    x, words_x = MARGIN + WIDEST / 2, MARGIN + WIDEST + MARGIN
    widest = max(row.shape[0] for row in rows)
    tallest = rows[0].shape[-1]
    above = None  # the lower edge of the box before

    for row in rows:
        side = row.shape[-1] if len(row.shape) == 3 else 1
        width = max(WIDEST * sqrt(row.shape[0] / widest), THINNEST)
        height = max(TALLEST * sqrt(side / tallest), THINNEST)

        numbers = _row_words(replace(row, inside=""))
        words = [*wrap(row.inside, 40, break_on_hyphens=False), " · ".join(numbers)]
        text_height = LINE * (1 + len(words))
        room = max(height, text_height)
        middle = y + room / 2

        if above is not None:
            layout.lines.append([(x, above), (x, middle - height / 2)])
        layout.boxes.append(Box(row.kind, (), x, middle, width, height))

        line_y = middle - text_height / 2 + LINE / 2
        layout.labels.append(Label(row.name, words_x, line_y, "left", FONT, "bold"))
        for line in words:
            line_y += LINE
            layout.labels.append(Label(line, words_x, line_y, "left", FONT))

        above = middle + height / 2
        y += room + STEP

    layout.height = y
    return layout
