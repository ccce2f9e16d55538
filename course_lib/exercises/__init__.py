"""The checks behind the exercise cells of the notebooks.

An exercise cell ends in ``top_k_accuracy = exercise("top_k_accuracy", top_k_accuracy)``: the notebook
goes on with the student's code where it is right, and with the reference where it is not.
"""

from collections.abc import Callable

from course_lib.exercises import onecycle_checks
from course_lib.exercises.checker import check
from course_lib.runtime import CourseError

EXERCISES = {**onecycle_checks.EXERCISES}

__all__ = ["EXERCISES", "exercise"]


def exercise(name: str, answer: Callable) -> Callable:
    """Check an answer, say in words what came out, and return what the notebook goes on with.

    Right: the answer itself. Not attempted (a bare NotImplementedError, None or ``...``) or wrong: the
    reference. Random numbers stand afterwards where they stood. Raises CourseError for an unknown name.
    """
    if name not in EXERCISES:
        raise CourseError(f"unknown exercise {name!r}, expected one of {', '.join(EXERCISES)}")
    task = EXERCISES[name]
    verdict = check(task, answer)
    if verdict == "right":
        print(f"✓ {name}: right. Your code is used from here on.")
        return answer
    if verdict == "not attempted":
        print(f"– {name}: not attempted yet, so the reference is used. Hint: {task.hint}")
    else:
        print(f"✗ {name}: wrong, so the reference is used.\n{verdict}")
    return task.reference
