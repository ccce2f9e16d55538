"""What a training leaves behind: one row per epoch, and the loss and learning rate along the way."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course_lib.files import CourseError

COLUMNS = (
    "epoch",
    "picture_size",
    "train_loss",
    "train_top1",
    "val_loss",
    "val_top1",
    "lr",
    "seconds",
    "eval_seconds",
)


@dataclass
class History:
    """rows: a dict per epoch (COLUMNS; accuracies are fractions, ``lr`` where the epoch left it, ``seconds`` of
    training, ``eval_seconds`` of looking at the held-out pictures); steps: [step, lr, loss] every tenth step."""

    rows: list[dict] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def last(self) -> dict:
        return self.rows[-1]

    def column(self, name: str) -> list:
        """One value per epoch. Raises KeyError with the names there are."""
        if name not in COLUMNS:
            raise KeyError(f"no column {name!r}: expected one of {', '.join(COLUMNS)}")
        return [row[name] for row in self.rows]

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict) -> "History":
        return cls(list(state["rows"]), list(state["steps"]))


def curves(folder: Path | None) -> Callable[[History], None]:
    """What ``fit`` calls after each epoch to show its rows in TensorBoard, each once; does nothing without a folder.

    Raises CourseError where TensorBoard is not installed.
    """
    if not folder:
        return lambda history: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise CourseError("TensorBoard is not installed: pip install tensorboard") from error
    writer, shown = SummaryWriter(folder), 0

    def write(history: History) -> None:
        nonlocal shown
        for row in history.rows[shown:]:  # all, where a training goes on
            for name, value in row.items():
                if value is not None:
                    writer.add_scalar(name, value, row["epoch"])
        shown = len(history.rows)
        writer.flush()

    return write
