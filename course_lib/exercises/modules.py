"""Networks beside each other: the same weights, the same pictures, and what comes out."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from course_lib.exercises.checker import Unreadable

LISTED = 3  # names in a sentence; of the others the number is told


def reader(build: Callable[..., nn.Module], pictures: Callable[..., torch.Tensor]) -> Callable:
    """For exercises whose answer makes a module: reads what the module does.

    build, pictures: called with the inputs of a case. A module by the reference, of which only
    names and shapes are looked at, and the pictures (B, C, H, W) that the answer's is tried on.
    """

    @lru_cache(maxsize=8)
    def state(*args) -> dict[str, torch.Tensor]:
        with torch.device("meta"):  # names and shapes alone
            return random_state(build(*args))

    def read(module: Any, args: list) -> dict[str, torch.Tensor]:
        if not isinstance(module, nn.Module):
            kind = "a class" if isinstance(module, type) else f"a {type(module).__name__}"
            raise Unreadable(f"it makes {kind}, expected an nn.Module")

        load(module, state(*args))
        return behaviour(module, pictures(*args))

    return read


def random_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and running statistics, the same at every call, with no zeros and ones among them."""
    generator = torch.Generator("cpu").manual_seed(0)
    state = {}

    for name, like in model.state_dict().items():
        values = torch.randn(like.shape, generator=generator, device="cpu")

        if like.ndim > 1:  # weights of a convolution or a linear layer: keep the size of the map
            state[name] = values * (2 / like[0].numel()) ** 0.5
        elif name.endswith(("weight", "running_var")):  # factors of a norm
            state[name] = values.abs() + 0.5
        elif not name.endswith("num_batches_tracked"):
            state[name] = values
    return state


def load(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Raises Unreadable where names or shapes differ."""
    own = {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if not own:
        raise Unreadable(
            "it has no parameters: layers have to be attributes of the module; those in a list "
            "need nn.Sequential or nn.ModuleList"
        )

    missing = [name for name in state if name not in own]
    unexpected = [name for name in own if name not in state]
    if missing or unexpected:
        faults = {"missing": missing, "unexpected": unexpected}
        listed = "; ".join(f"{fault}: {_list(names)}" for fault, names in faults.items() if names)
        raise Unreadable(f"the names of its parameters are not the expected ones. {listed}")

    for name, value in state.items():
        if own[name].shape != value.shape:
            got, expected = tuple(own[name].shape), tuple(value.shape)
            raise Unreadable(f"{name} has shape {got}, expected {expected}")

    model.load_state_dict(state, strict=False)  # not strict: a count of batches may stay


def _list(names: list[str]) -> str:
    shown, more = names[:LISTED], len(names) - LISTED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def behaviour(model: nn.Module, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a module gives in both modes, and the gradient that it hands back."""
    leaf = pictures.clone().requires_grad_()
    x = leaf * 1  # as inside a network: an operation in place is possible, and spoils it

    output = _tensor(model.train()(x))
    if not torch.equal(x, pictures):
        raise Unreadable("it changes x in place, which the shortcut and the gradients still need")

    towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    output.backward(towards)

    with torch.no_grad():
        evaluated = _tensor(model.eval()(pictures.clone()))

    return {
        "output in train mode": output.detach(),
        "output in eval mode": evaluated,
        "gradient of the input": torch.zeros_like(leaf) if leaf.grad is None else leaf.grad,
    }


def _tensor(output: Any) -> torch.Tensor:
    if output is None:
        raise Unreadable("its forward returns nothing: a return is missing")
    if not isinstance(output, torch.Tensor):
        raise Unreadable(f"its forward returns a {type(output).__name__}, expected a tensor")
    return output
