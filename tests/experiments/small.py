"""Small things to test with: a network of one convolution, two epochs, what a record holds."""

import importlib

import pytest
import torch
from torch import nn

from course_lib.experiments import Recipe
from course_lib.models import Classifier
from course_lib.runtime import Precision, Runtime
from course_lib.training import Trainer

CPU = torch.device("cpu")
SMOKE = Runtime("local", "smoke", "asked for", CPU, Precision(CPU), 0)

# The package's name ``run`` is the function; this is the file.
running = importlib.import_module("course_lib.experiments.run")


class SmallNet(Classifier):
    """What a run does around its network needs no large one."""

    def __init__(self, num_classes: int, *, width: int = 16, logit_scale: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        self.logit_scale = logit_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x)).relu()  # (B, width, H/2, W/2)
        return self.fc(x.mean((2, 3))) * self.logit_scale


TINY = Recipe(
    "tiny",
    "two epochs of very little",
    sizes=(16, 16),
    batch_size=32,
    lr=0.05,
    model_options={"logit_scale": 0.5},
)
STEPS = 8  # of TINY on the 128 pictures of ``drawn``

FIELDS = {
    "recipe",
    "settings",
    "seed",
    "profile",
    "dataset",
    "is_real",
    "train_images",
    "val_images",
    "device",
    "processes",
    "versions",
    "epochs",
    "seconds",
    "reference_rate",
    "history",
    "final",
    "commit",
}
ROW = {"train_loss", "train_top1", "val_loss", "val_top1", "lr", "seconds"}
FINAL = {"val_loss", "val_top1", "val_top5"}


def check_record(found: dict) -> None:
    """What design and tables rely on in every record of a recipe."""
    check_rows(found)
    assert FINAL <= set(found["final"])
    assert found["final"]["val_top1"] <= found["final"]["val_top5"]


def check_rows(found: dict) -> None:
    """The same of a trial or study, which never looks at the official split."""
    assert FIELDS <= set(found)
    assert all(ROW <= set(row) for row in found["history"])
    assert found["epochs"] == len(found["history"])

    for row in [*found["history"], found["final"] or {}]:
        shares = [value for key, value in row.items() if key.endswith(("top1", "top5"))]
        assert all(0 <= share <= 1 for share in shares)

    assert found["seconds"] >= sum(row["seconds"] for row in found["history"])


OF_SWEEP = {
    "sweep",
    "settings",
    "seed",
    "profile",
    "dataset",
    "is_real",
    "train_images",
    "device",
    "precision",
    "processes",
    "versions",
    "commit",
    "range_test",
    "runs",
}


def check_sweep(found: dict) -> None:
    """What tables, pictures and lesson rely on in the record of a sweep."""
    assert found.keys() == OF_SWEEP
    test = found["range_test"]
    assert test.keys() == {"start", "end", "lrs", "losses"}
    assert len(test["lrs"]) == len(test["losses"]) >= 17
    assert (
        test["lrs"][0] == pytest.approx(test["start"]) and max(test["lrs"]) <= 1.001 * test["end"]
    )

    for trained in found["runs"]:
        assert trained.keys() == {"lr", "ended", "history"}
        assert bool(trained["history"]) == (trained["ended"] is None)
        assert all(ROW <= set(row) for row in trained["history"])
        assert len(trained["history"]) in (0, len(found["settings"]["sizes"]))


OF_LOCALIZATION = {
    "study",
    "network",
    "weights",
    "weights_sha256",
    "recipe",
    "seed",
    "official_top1",
    "dataset",
    "is_real",
    "picture_size",
    "val_images",
    "tune_images",
    "truth",
    "target",
    "profile",
    "device",
    "precision",
    "processes",
    "versions",
    "commit",
    "top1",
    "maps",
}
OF_A_MAP = {"words", "n", "seconds", "timed", "threshold", "tune_images", "small", "by_pixels"}
BY_PIXELS = {"deletion", "insertion"}
GRADES = {"pointing game", "energy", "IoU"}
GRADED = {"mean", "error", "over_middle", "over_middle_error"}


def check_localization(found: dict) -> None:
    """What tables, pictures and lesson rely on in the record of graded maps."""
    assert found.keys() - {"trained"} == OF_LOCALIZATION
    assert found["study"] == "localization" and found["target"] == "the true class"
    assert len(found["weights_sha256"]) == 64 and 0 <= found["top1"] <= 1

    for each in found["maps"].values():
        assert each.keys() == OF_A_MAP | GRADES
        assert 2 <= each["n"] <= found["val_images"] and 0 < each["threshold"] < 1
        check_grades(each, GRADES)
        if each["small"]:
            assert each["small"].keys() == {"n"} | GRADES and each["small"]["n"] <= each["n"]
            check_grades(each["small"], GRADES)
        if each["by_pixels"]:
            assert each["by_pixels"].keys() == {"n", "steps"} | BY_PIXELS
            check_grades(each["by_pixels"], BY_PIXELS)


def check_grades(each: dict, columns: set[str]) -> None:
    for column in columns:
        assert each[column].keys() == GRADED
        assert 0 <= each[column]["mean"] <= 1 and each[column]["error"] >= 0


def count_steps(monkeypatch) -> list:
    """Grows by one with each step that is trained from now on."""
    step, steps = Trainer.step, []
    monkeypatch.setattr(Trainer, "step", lambda self, *batch: steps.append(1) or step(self, *batch))
    return steps
