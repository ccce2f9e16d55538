"""Settings that are out of range are refused when they are given."""

import math

import numpy as np
import pytest

from course_lib.checks import whole
from course_lib.files import CourseError


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3)])
def test_a_whole_number_of_any_kind_comes_as_pythons(value):
    found = whole("parts", value)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("value", [0, -1, 2.5, 11, math.nan, math.inf])
def test_what_is_not_whole_or_out_of_range_is_refused_in_words(value):
    with pytest.raises(CourseError, match=f"^parts is {value}: expected 1 to 10 parts$"):
        whole("parts", value, 1, 10, "1 to 10 parts")


def test_without_an_end_an_infinite_number_is_refused_too():
    with pytest.raises(CourseError, match="^parts is inf: expected a whole number from 1 on$"):
        whole("parts", math.inf)
