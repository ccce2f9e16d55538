"""Records of runs that nobody made, to draw tables, prices and forecasts from."""

import numpy as np

from course_lib.experiments import record as records
from course_lib.files import write_json


def record(top1=0.5, seconds=2000.0, rate=50.0, **changes):
    """Of two epochs; top-1 on tune is 0.02 below that on the official set."""
    rows = [
        {
            "epoch": epoch,
            "picture_size": 32,
            "train_loss": 3.0,
            "train_top1": 0.3,
            "val_loss": 2.5,
            "val_top1": tune,
            "lr": 0.1,
            "seconds": 0.4 * seconds,
            "eval_seconds": 1.0,
        }
        for epoch, tune in ((1, top1 / 2), (2, top1 - 0.02))
    ]
    return {
        "recipe": "tiny_imagenet",
        "seed": 0,
        "profile": "cpu",
        "dataset": "TinyImageNet",
        "is_real": True,
        "settings": {"about": "ten epochs"},
        "train_images": 95_000,
        "val_images": 10_000,
        "device": "a laptop",
        "precision": "bf16",
        "processes": 1,
        "versions": {},
        "epochs": 2,
        "seconds": seconds,
        "reference_rate": rate,
        "history": rows,
        "steps": [],
        "final": {"val_loss": 2.5, "val_top1": top1, "val_top5": top1 + 0.2},
        "commit": None,
    } | changes


def sweep(reached=None, losses=None, **changes):
    """A made-up sweep: peak rate → tune top-1, None where it diverged. Its range test doubles the
    rate at every step; the loss is level, falls from step 10 to step 39 and rises. The tune loss is
    1 - top-1.
    """
    if losses is None:
        falling = 5 - 0.1 * np.arange(1, 31)
        losses = [*np.full(10, 5.0), *falling, *(2 + 0.3 * np.arange(1, 21))]

    runs = []
    for rate, top1 in (reached or {0.1: 0.5, 0.2: 0.6, 0.4: 0.3}).items():
        row = {"epoch": 1, "train_loss": 1.0, "val_top1": top1}
        history = [] if top1 is None else [row | {"val_loss": 1 - top1}]
        runs.append(
            {"lr": rate, "ended": None if history else "the loss is nan", "history": history}
        )

    made = record()
    shared = ("seed", "profile", "dataset", "is_real", "train_images", "device", "processes")
    return {
        "sweep": "sweeps.sgd_imagenette",
        "settings": {"sizes": [32]},
        **{key: made[key] for key in shared},
        "range_test": {
            "start": 1.0,
            "end": 2.0**59,
            "lrs": [2.0**step for step in range(len(losses))],
            "losses": [float(loss) for loss in losses],
        },
        "runs": runs,
    } | changes


def a_grade(mean, error=0.01, over_middle=0.0, over_middle_error=0.005):
    return {
        "mean": mean,
        "error": error,
        "over_middle": over_middle,
        "over_middle_error": over_middle_error,
    }


def a_map(words, point=0.5, energy=0.4, n=1000, seconds=3.0, by_pixels=None, small=None, **grade):
    return {
        "words": words,
        "n": n,
        "seconds": seconds,
        "timed": n,
        "threshold": 0.5,
        "tune_images": 250,
        "pointing game": a_grade(point, **grade),
        "energy": a_grade(energy, **grade),
        "IoU": a_grade(0.3, **grade),
        "small": small,
        "by_pixels": by_pixels,
    }


def graded_maps(maps, **changes):
    """A made-up record of maps over TinyImageNet: the same n, errors and leads in all grades."""
    return {
        "study": "localization",
        "network": "session_resnet",
        "weights": "session_resnet_tinyimagenet",
        "profile": "cpu",
        "dataset": "TinyImageNet",
        "is_real": True,
        "picture_size": 64,
        "device": "a laptop",
        "maps": maps,
    } | changes


def commit_results(name, *runs):
    """As if these runs lay in figures/results."""
    for seed, content in enumerate(runs):
        write_json(records.RESULTS / name / f"{content['profile']}-seed{seed}.json", content)
