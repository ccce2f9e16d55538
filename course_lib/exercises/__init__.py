"""The checks behind the exercise cells of the notebooks.

An exercise cell ends in ``top_k_accuracy = exercise("top_k_accuracy", top_k_accuracy)``: the notebook
goes on with the student's code where it is right, and with the reference where it is not.
"""

from collections.abc import Callable

from course_lib.exercises import session2
from course_lib.exercises.checker import check
from course_lib.files import CourseError

EXERCISES = {task.reference.__name__: task for task in [*session2.EXERCISES]}

__all__ = ["EXERCISES", "exercise"]


def exercise(name: str, answer: Callable) -> Callable:
    """Check an answer, say in words what came out, and return what the notebook goes on with.

    Right: the answer itself. Not attempted (a bare NotImplementedError, None or ``...``) or wrong: the
    reference. Random numbers stand afterwards where they stood. Raises CourseError for an unknown name.
    """
    if name not in EXERCISES:
        raise CourseError(f"unknown exercise {name!r}, expected one of {', '.join(EXERCISES)}")
    verdict = check(EXERCISES[name], answer)
    print(verdict)
    return answer if verdict.startswith("✓") else EXERCISES[name].reference
