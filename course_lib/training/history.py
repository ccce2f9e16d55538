"""What a training leaves behind: a row per epoch, and the loss and learning rate along the way."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course_lib.files import CourseError, writable

COLUMNS = (
    "epoch",
    "picture_size",  # pixels; None: as the loader gives them
    "train_loss",
    "train_top1",  # accuracies are fractions
    "val_loss",
    "val_top1",
    "lr",  # of the epoch's last step
    "seconds",  # of training
    "eval_seconds",  # of looking at the held-out pictures, and of ``Callbacks.measure``
)


@dataclass
class History:
    """rows: a dict per epoch, with the keys COLUMNS and those of ``Callbacks.measure``.

    steps: [step, lr, loss] every tenth step.
    """

    rows: list[dict] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def last(self) -> dict:
        return self.rows[-1]

    def column(self, name: str) -> list:
        """One value per epoch. Raises KeyError with the names there are."""
        known = self.rows[0] if self.rows else COLUMNS
        if name not in known:
            raise KeyError(f"no column {name!r}: expected one of {', '.join(known)}")
        return [row[name] for row in self.rows]

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict) -> "History":
        return cls(list(state["rows"]), list(state["steps"]))


@dataclass
class EpochSoFar:
    """Sums over an epoch, which may have been stopped between two batches."""

    batches: int = 0
    images: int = 0
    loss: float = 0.0  # summed over pictures
    right: float = 0.0
    seconds: float = 0.0
    lr: float = 0.0  # of the last step
    stopped: bool = False


def curves(folder: Path | None) -> Callable[[History], None]:
    """A callback for ``after_epoch`` that shows the rows in TensorBoard, each once.

    Without a folder it does nothing. Raises CourseError where TensorBoard is not installed, or the
    folder cannot be written.
    """
    if not folder:
        return lambda history: None

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise CourseError("TensorBoard is not installed: pip install tensorboard") from error

    if not writable(folder):
        raise CourseError(f"cannot write TensorBoard's curves to {folder}: choose another folder")
    # What an earlier process wrote there is passed over, for a training that goes on shows its
    # first epochs, too.
    writer = SummaryWriter(folder, purge_step=1)
    shown = 0

    def write(history: History) -> None:
        nonlocal shown
        try:
            for row in history.rows[shown:]:  # more than one, where a training goes on
                for name, value in row.items():
                    if value is not None:
                        writer.add_scalar(name, value, row["epoch"])
            writer.flush()
        except OSError as error:  # also one of the write before, raised at the next
            raise CourseError(
                f"cannot write TensorBoard's curves to {folder} ({error.strerror or error}). Make "
                "room, or leave them out, and run again: what was trained is kept."
            ) from error

        shown = len(history.rows)

    return write
