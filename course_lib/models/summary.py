"""What a network is made of, and what a picture costs in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib.checks import check_whole
from course_lib.models.lambda_layer import LambdaLayer
from course_lib.models.modes import in_eval_mode

TITLES = ("layer", "kind", "output", "params", "MACs")


@dataclass(frozen=True)
class Layer:
    name: str
    kind: str
    shape: tuple[int, ...]  # of the output, without the batch
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """A table of layers when printed. The totals are of the whole network, shown layers or not.

    MACs are multiply-adds, M a million of them. A narrow window need not break the table's lines.
    """

    layers: list[Layer]
    parameters: int
    multiply_adds: int

    def __str__(self) -> str:
        rows = [TITLES]
        for each in self.layers:
            kind = each.kind.removeprefix("Adaptive")  # the output tells the shape it aims at
            shape = "×".join(map(str, each.shape))
            rows.append((each.name, kind, shape, *_numbers(each)))
        rows.append(("sum", "", "", *_numbers(self)))

        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for name, kind, *rest in rows:
            cells = [name.ljust(widths[0]), kind.ljust(widths[1])]
            cells += [cell.rjust(width) for cell, width in zip(rest, widths[2:], strict=True)]
            lines.append(" ".join(cells))
        return "\n".join(lines)


def summary(model: nn.Module, size: int, depth: int = 1) -> Summary:
    """Layers, output shapes, parameters and multiply-adds for one picture of ``size`` × ``size``.

    depth: how far to look into the network; 1 shows its stages, 2 their blocks, a large number
        every convolution. A lambda layer is one row. Layers that hold no weight and keep the shape
        (ReLU, dropout) are left out.
    Multiply-adds are those of the convolutions and matrix products that are run, half of what torch
    counts as operations. A model on the device ``meta`` is summed up without being computed.
    Raises ValueError for a size or depth below 1, and for a network without weights.
    """
    check_whole(size=size, depth=depth)
    picture = _empty_picture(model, size)  # (1, C, H, W)

    counter = FlopCounterMode(display=False)
    shown = _shown(model, depth)
    with in_eval_mode(model), torch.no_grad(), _outputs_noted(shown) as seen, counter:
        model(picture)
    operations = counter.get_flop_counts()

    def multiply_adds(name: str) -> int:
        return sum(operations.get(name, {}).values()) // 2

    layers = []
    for name, shape in seen:
        module = shown[name]
        layers.append(
            Layer(
                name=name,
                kind=type(module).__name__,
                shape=tuple(shape[1:]),
                parameters=_parameters(module),
                multiply_adds=multiply_adds(f"{type(model).__name__}.{name}"),
            )
        )
    return Summary(layers, _parameters(model), multiply_adds("Global"))


def _empty_picture(model: nn.Module, size: int) -> torch.Tensor:
    """As the first layer with weights takes it: (1, C, size, size)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            channels = module.weight.shape[1]
            if isinstance(module, nn.Conv2d):
                channels *= module.groups
            return module.weight.new_zeros(1, channels, size, size)

    raise ValueError(
        f"{type(model).__name__} has no convolution and no linear layer: nothing tells how many "
        "channels its pictures have"
    )


def _shown(model: nn.Module, depth: int) -> dict[str, nn.Module]:
    """The modules that lie so deep, and those above that have nothing inside."""
    shown = {}
    inside: tuple[str, ...] = ()  # beginnings of names within lambda layers

    for name, module in model.named_modules():
        if not name or name.startswith(inside):
            continue

        whole = isinstance(module, LambdaLayer) or not any(module.children())
        level = name.count(".") + 1
        if level == depth or (level < depth and whole):
            shown[name] = module

        if isinstance(module, LambdaLayer):
            inside += (f"{name}.",)
    return shown


@contextmanager
def _outputs_noted(shown: dict[str, nn.Module]) -> Iterator[list[tuple[str, torch.Size]]]:
    """Name and output shape of each module, in the order in which they run."""
    seen: list[tuple[str, torch.Size]] = []

    def hook_for(name: str):
        def hook(module, inputs, output):
            if _parameters(module) or output.shape != inputs[0].shape:
                seen.append((name, output.shape))

        return hook

    hooks = [module.register_forward_hook(hook_for(name)) for name, module in shown.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _numbers(row: Layer | Summary) -> tuple[str, str]:
    millions = f"{row.multiply_adds / 1e6:,.1f}M" if row.multiply_adds else "0"
    return f"{row.parameters:,}", millions
