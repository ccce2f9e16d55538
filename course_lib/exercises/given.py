"""Inputs that know what they were given as: an answer is not to change them."""

from collections.abc import Iterable

import torch

from course_lib.exercises.checker import Unreadable


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
