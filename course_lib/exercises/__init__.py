"""The checks behind the exercise cells of the notebooks.

An exercise cell ends in ``top_k_accuracy = exercise("top_k_accuracy", top_k_accuracy)``: the
notebook goes on with the student's code where it is right, and with the reference where it is not.

To add an exercise, add it to the file of its session, ``session<number>.py``, and to the list
``EXERCISES`` at its end. A new file of that name is found by itself.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable

from course_lib.exercises.checker import Exercise, check
from course_lib.files import CourseError, speak_utf8

__all__ = ["EXERCISES", "exercise", "is_yours", "whose"]


def exercise(name: str, answer: Callable) -> Callable:
    """Check an answer, say in words what came out, and return what the notebook goes on with.

    Right: the answer itself. Not attempted, or wrong: the reference. Random numbers of torch stand
    afterwards where they stood. Raises CourseError for an unknown name.
    """
    if name not in EXERCISES:
        raise CourseError(f"unknown exercise {name!r}, expected one of {', '.join(EXERCISES)}")

    verdict = check(EXERCISES[name], answer)
    speak_utf8()  # a script, with its output in a file
    if verdict.printed:
        print(verdict.printed.rstrip("\n"))
    print(verdict.text)

    return answer if verdict.right else EXERCISES[name].reference


def is_yours(function: Callable) -> bool:
    """Whether ``exercise`` gave back the student's own code, and not a reference."""
    return all(function is not task.reference for task in EXERCISES.values())


def whose(function: Callable) -> str:
    """For titles and printed lines: "your code" or "the reference"."""
    return "your code" if is_yours(function) else "the reference"


def _by_name(tasks: Iterable[Exercise]) -> dict[str, Exercise]:
    named = {}
    for task in tasks:
        if task.name in named:
            raise CourseError(f"two exercises are called {task.name}: rename one of them")
        named[task.name] = task
    return named


def _of_all_sessions() -> Iterable[Exercise]:
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("session"):
            yield from importlib.import_module(f"{__name__}.{module.name}").EXERCISES


EXERCISES = _by_name(_of_all_sessions())
