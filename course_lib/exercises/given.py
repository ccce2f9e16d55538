"""Inputs that know what they were given as: an answer is not to change them."""

from collections.abc import Iterable
from typing import Any

import torch

from course_lib.exercises.checker import Unreadable

CUTS_IT_OFF = ".item(), .detach(), torch.tensor(…), numpy and torch.no_grad() cut it off"


class Given(list):
    """A list that remembers its values."""

    def __init__(self, values: Iterable) -> None:
        super().__init__(values)
        self.at_first = tuple(self)


Given.__name__ = "list"  # as an error that an answer raises shall call it


def given(values) -> torch.Tensor:
    """``values``, a tensor or numbers that make one, as a tensor that remembers them."""
    tensor = torch.as_tensor(values)
    tensor.at_first = tensor.detach().clone()  # goes along when the tensor is copied for a call
    return tensor


def expect_unchanged(values: Given | torch.Tensor, name: str) -> None:
    """Raises Unreadable where an answer has changed the list or tensor that it was given."""
    is_list = isinstance(values, Given)
    same = tuple(values) == values.at_first if is_list else torch.equal(values, values.at_first)
    if not same:
        kind = "list" if is_list else "tensor"
        raise Unreadable(
            f"it changes the {kind} `{name}`, needed again as it was; make a new one instead"
        )


def expect_gradient(result: Any, args: list) -> None:
    """Raises Unreadable where an input asks for a gradient and none leads back to it."""
    wanted = any(isinstance(each, torch.Tensor) and each.requires_grad for each in args)
    if wanted and isinstance(result, torch.Tensor) and not result.requires_grad:
        raise Unreadable(f"no gradient leads back from the result to its inputs: {CUTS_IT_OFF}")
