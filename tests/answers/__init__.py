"""Answers as students write them: the right ones, and the wrong ones with words of their cause.

One file for each session. The library has the same mistakes beside each exercise, in its own
words; what stands here is written differently, so that a cause is found in code of any style.
"""

from collections import defaultdict
from collections.abc import Callable

RIGHT: dict[str, list[Callable]] = defaultdict(list)
WRONG: dict[str, list[tuple[Callable, str]]] = defaultdict(list)


def right(exercise: str) -> Callable:
    """The checker has to take this answer."""

    def note(answer: Callable) -> Callable:
        RIGHT[exercise].append(answer)
        return answer

    return note


def wrong(exercise: str, cause: str) -> Callable:
    """The checker has to refuse this answer, and these words stand in the cause it gives."""

    def note(answer: Callable) -> Callable:
        WRONG[exercise].append((answer, cause))
        return answer

    return note
