"""Settings that are out of range are refused when they are given, and not after an hour."""

from numbers import Integral

from course_lib.files import CourseError


def expect(name: str, value, holds: bool, expected: str, error: type = CourseError) -> None:
    """Raise ``error`` where ``holds`` is false."""
    if not holds:
        raise error(f"{name} is {value!r}: expected {expected}")


def check_whole(**values: int) -> None:
    """Raise ValueError, as torch's layers do, unless each value is a whole number from 1 on."""
    for name, value in values.items():
        is_whole = isinstance(value, Integral) and value >= 1
        expect(name, value, is_whole, "a whole number from 1 on", ValueError)
