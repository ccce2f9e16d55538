"""What a network remembers of wrong labels, counted on its own training pictures."""

import numpy as np
import torch
from torch import nn

from course_lib.data import BatchLoader, ImageStore
from course_lib.models.modes import in_eval_mode
from course_lib.runtime import Precision


class Memorised:
    """Called with a network and a picture size: three shares of training pictures, 0 to 1.

    * ``wrong_as_given``: wrongly labelled ones that it takes for what their label says: learned by
      heart, for nothing in the picture says so;
    * ``wrong_as_true``: wrongly labelled ones that it takes for what they show;
    * ``right_as_given``: rightly labelled ones.

    None where there is no such picture. They are the same pictures in every run, up to ``count`` of
    each kind, shown as they are, without augmentation. No random number is drawn, so that a
    training that is watched is the same, bit for bit.
    """

    def __init__(self, train: ImageStore, count: int, precision: Precision) -> None:
        is_wrong = train.labels != train.clean_labels
        self.wrong = some_of(train, np.flatnonzero(is_wrong), count)
        self.right = some_of(train, np.flatnonzero(~is_wrong), count)
        self.precision = precision

    def __call__(self, model: nn.Module, size: int | None) -> dict[str, float | None]:
        taken_for = predictions(model, self.wrong, size, self.precision)
        as_given = share(taken_for == self.wrong.labels)
        as_true = share(taken_for == self.wrong.clean_labels)

        taken_for = predictions(model, self.right, size, self.precision)
        right = share(taken_for == self.right.labels)

        return {"wrong_as_given": as_given, "wrong_as_true": as_true, "right_as_given": right}


def some_of(store: ImageStore, rows: np.ndarray, count: int) -> ImageStore:
    """``count`` of these rows, always the same; all where there are fewer. Copied."""
    chosen = np.random.default_rng(0).permutation(rows)[:count]
    return store.rows(np.sort(chosen))


@torch.inference_mode()
def predictions(
    model: nn.Module, store: ImageStore, size: int | None, precision: Precision
) -> np.ndarray:
    """The class of the largest logit of each picture, int64 (N,), at ``size`` pixels a side."""
    loader = BatchLoader(store, 250, augment=False, device=precision.device)
    loader.picture_size = size

    found = [np.empty(0, np.int64)]
    with in_eval_mode(model), precision.autocast():
        for x, _ in loader:
            found.append(model(x).argmax(1).cpu().numpy())
    return np.concatenate(found)


def share(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if len(hits) else None
