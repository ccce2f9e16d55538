"""The networks of the course."""

from course_lib.models.blocks import Classifier
from course_lib.models.registry import create_model, list_models
from course_lib.models.resnet import ResNet
from course_lib.models.session_resnet import SessionResNet
from course_lib.models.whitening import whiten_stem

__all__ = ["Classifier", "ResNet", "SessionResNet", "create_model", "list_models", "whiten_stem"]
