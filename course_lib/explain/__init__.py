"""Where does a network look? Class activation maps, pictures of them, and grades for them."""

from course_lib.explain.grad_cam import grad_cam, overlay
from course_lib.explain.localization import (
    Score,
    best_threshold,
    deletion,
    energy_in_box,
    enlarge_objects,
    grade,
    grade_by_pixels,
    insertion,
    iou,
    middle_spot,
    pointing_game,
    score,
)
from course_lib.explain.methods import METHODS, explain

__all__ = [
    "METHODS",
    "Score",
    "best_threshold",
    "deletion",
    "energy_in_box",
    "enlarge_objects",
    "explain",
    "grad_cam",
    "grade",
    "grade_by_pixels",
    "insertion",
    "iou",
    "middle_spot",
    "overlay",
    "pointing_game",
    "score",
]
