"""What a network is made of, and what a picture costs in it."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib.models.lambda_layer import LambdaLayer


@dataclass(frozen=True)
class Layer:
    name: str
    kind: str
    shape: tuple[int, ...]  # of the output, without the batch
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """A table of layers when printed. The totals are of the whole network, shown layers or not."""

    layers: list[Layer]
    parameters: int
    multiply_adds: int

    def __str__(self) -> str:
        lines = [("layer", "kind", "output", "parameters", "million multiply-adds")]
        lines += [
            (
                each.name,
                each.kind,
                " × ".join(map(str, each.shape)),
                f"{each.parameters:,}",
                f"{each.multiply_adds / 1e6:,.1f}",
            )
            for each in self.layers
        ]
        lines.append(("sum", "", "", f"{self.parameters:,}", f"{self.multiply_adds / 1e6:,.1f}"))
        wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                [
                    cells[0].ljust(wide[0]),
                    cells[1].ljust(wide[1]),
                    *(cell.rjust(w) for cell, w in zip(cells[2:], wide[2:], strict=True)),
                ]
            )
            for cells in lines
        )


def summary(model: nn.Module, size: int, depth: int = 1) -> Summary:
    """Layers, output shapes, parameters and multiply-adds for one picture of ``size`` × ``size`` pixels.

    depth: how far to look into the network; 1 shows its stages, 2 their blocks, a large number every convolution.
    A lambda layer is one row. Layers that hold no weight and keep the shape (ReLU, dropout) are left out.
    Multiply-adds are those of the convolutions and matrix products that are run, half of what torch counts as
    operations. A model on the device ``meta`` is summed up without being computed.
    """
    rows: list[tuple[str, nn.Module, torch.Size]] = []

    def note(name: str):
        def hook(module, inputs, output):
            if any(True for _ in module.parameters()) or output.shape != inputs[0].shape:
                rows.append((name, module, output.shape))

        return hook

    inside = {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if isinstance(module, LambdaLayer)
        for part, _ in module.named_modules()
    }  # a lambda layer reads its convolutions and never calls them
    shown = [
        (name, module)
        for name, module in model.named_modules()
        if name
        and name not in inside
        and (
            name.count(".") == depth - 1
            or name.count(".") < depth - 1
            and (isinstance(module, LambdaLayer) or not any(module.children()))
        )
    ]
    hooks = [module.register_forward_hook(note(name)) for name, module in shown]
    modes = {module: module.training for module in model.modules()}
    weight = next(model.parameters())  # of the first convolution: (D, C, k, k)
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.eval()(
                torch.zeros(
                    1, weight.shape[1], size, size, device=weight.device, dtype=weight.dtype
                )
            )
    finally:
        for module, training in modes.items():
            module.training = training
        for hook in hooks:
            hook.remove()
    counts = counter.get_flop_counts()
    work = {name: sum(ops.values()) // 2 for name, ops in counts.items()}
    layers = [
        Layer(
            name,
            type(module).__name__,
            tuple(shape[1:]),
            _parameters(module),
            work.get(f"{type(model).__name__}.{name}", 0),
        )
        for name, module, shape in rows
    ]
    return Summary(layers, _parameters(model), work["Global"])


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
