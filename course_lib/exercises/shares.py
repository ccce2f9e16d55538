"""Shares of the way gone after a share of the time, right and wrong: what mistakes are made of."""

import math


def line(part: float) -> float:
    return part


def half_cosine(part: float) -> float:
    return (1 - math.cos(math.pi * part)) / 2


def backwards(part: float) -> float:
    return 1 - part


def squared(part: float) -> float:
    return part**2
