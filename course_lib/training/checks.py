"""Settings that are out of range are refused when they are given, and not after an hour."""

from course_lib.files import CourseError


def expect(name: str, value, holds: bool, expected: str) -> None:
    """Raise CourseError where ``holds`` is false."""
    if not holds:
        raise CourseError(f"{name} is {value}: expected {expected}")
