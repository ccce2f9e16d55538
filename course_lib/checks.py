"""Settings that are out of range are refused when they are given, and not after an hour."""

import math
from numbers import Integral

from course_lib.files import CourseError


def expect(name: str, value, holds: bool, expected: str, error: type = CourseError) -> None:
    """Raise ``error`` where ``holds`` is false: "``name`` is ``value``: expected ``expected``"."""
    if not holds:
        raise error(f"{name} is {value!r}: expected {expected}")


def whole(
    name: str,
    value,
    low: int = 1,
    high: float = math.inf,
    expected: str = "a whole number from 1 on",
) -> int:
    """``value`` as Python's int, also where it came as 5.0 or as numpy's.

    Raises CourseError for one that is not whole, or not from ``low`` to ``high``.
    """
    expect(name, value, low <= value <= high and value % 1 == 0, expected)
    return int(value)


def check_whole(**values: int) -> None:
    """Raise ValueError, as torch's layers do, unless each value is a whole number from 1 on."""
    for name, value in values.items():
        is_whole = isinstance(value, Integral) and value >= 1
        expect(name, value, is_whole, "a whole number from 1 on", ValueError)
