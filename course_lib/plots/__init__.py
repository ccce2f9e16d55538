"""Every picture of the course, drawn from histories, arrays and stores.

Each function returns a :class:`Picture`, which carries a text of what it shows, built from the numbers
themselves. pyplot is never touched: no figure stays open, and none appears twice in a notebook.
"""

from .charts import accuracy_by_price, confusions, history, lr_range, per_class, schedules
from .galleries import augmentation_gallery, cam_grid, gallery, wrong
from .picture import Picture

__all__ = [
    "Picture",
    "accuracy_by_price",
    "augmentation_gallery",
    "cam_grid",
    "confusions",
    "gallery",
    "history",
    "lr_range",
    "per_class",
    "schedules",
    "wrong",
]
