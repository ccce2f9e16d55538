"""Every picture of the course, drawn from histories, arrays and stores.

Each function returns a :class:`Picture`, which carries a text of what it shows, built from the
numbers themselves. pyplot is never touched: no figure stays open, and none appears twice.

- ``charts.py``: curves and bars
- ``descent.py``: one weight on a parabola
- ``diagrams.py``: blocks and networks, from the modules themselves
- ``galleries.py``: pictures of pictures
- ``lambdas.py``: lambda layers: wiring, costs, and what they listen to
- ``localization.py``: class activation maps, graded
- ``maps.py``: class activation maps as numbers
- ``noise.py``: wrong labels: accuracy, and what is learned by heart
- ``rates.py``: range tests, and sweeps over learning rates
- ``picture.py``: the style, and the PNG with its text
- ``words.py``: numbers and names as they are written
"""

from course_lib.plots.charts import (
    accuracy_by_price,
    confusions,
    depth,
    gradient_norms,
    history,
    lr_range,
    per_class,
    schedules,
    training_curves,
)
from course_lib.plots.descent import descents
from course_lib.plots.diagrams import block_diagram, block_diagrams, network_diagram
from course_lib.plots.galleries import augmentation_gallery, cam_grid, gallery, wrong
from course_lib.plots.lambdas import costs, lambda_diagram, listens_to, position_kernels
from course_lib.plots.localization import localization
from course_lib.plots.maps import agreement, evidence, grades
from course_lib.plots.noise import memorised, noise
from course_lib.plots.picture import Picture
from course_lib.plots.rates import range_curves, sweeps

__all__ = [
    "Picture",
    "accuracy_by_price",
    "agreement",
    "augmentation_gallery",
    "block_diagram",
    "block_diagrams",
    "cam_grid",
    "confusions",
    "costs",
    "depth",
    "descents",
    "evidence",
    "gallery",
    "grades",
    "gradient_norms",
    "history",
    "lambda_diagram",
    "listens_to",
    "localization",
    "lr_range",
    "memorised",
    "network_diagram",
    "noise",
    "per_class",
    "position_kernels",
    "range_curves",
    "schedules",
    "sweeps",
    "training_curves",
    "wrong",
]
