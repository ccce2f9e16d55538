"""Where does a network look? Class activation maps, and pictures of them."""

from course_lib.explain.grad_cam import grad_cam, overlay

__all__ = ["grad_cam", "overlay"]
