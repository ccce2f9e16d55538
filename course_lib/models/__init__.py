"""The networks of the course."""

from course_lib.models.classifier import Classifier
from course_lib.models.lambda_layer import LambdaLayer
from course_lib.models.lambda_resnet import LambdaResNet
from course_lib.models.registry import create_model, list_models, model_options
from course_lib.models.resnet import ResNet
from course_lib.models.session_resnet import SessionResNet
from course_lib.models.summary import Summary, summary
from course_lib.models.weights import weights_card
from course_lib.models.whitening import whiten_stem

__all__ = [
    "Classifier",
    "LambdaLayer",
    "LambdaResNet",
    "ResNet",
    "SessionResNet",
    "Summary",
    "create_model",
    "list_models",
    "model_options",
    "summary",
    "weights_card",
    "whiten_stem",
]
