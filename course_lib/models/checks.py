"""Numbers that no network can be built with, refused in words."""

from numbers import Integral


def check_whole(**values: int) -> None:
    """ValueError unless each value is a whole number from 1 on."""
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}: expected a whole number from 1 on")
