"""Run a recipe and leave its result as data: ``python -m course_lib.train RECIPE``."""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from course_lib import runtime
from course_lib.data import BatchLoader, ImageStore
from course_lib.data.sources import data_home
from course_lib.models import create_model, whiten_stem
from course_lib.recipes import DATASETS, RECIPES, Recipe, find_recipe
from course_lib.runtime import CourseError, Runtime
from course_lib.training import History, Trainer, curves, evaluate, fit, optim, parallel

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "figures" / "results"
REFERENCE_IMAGES = 100_000  # one epoch over TinyImageNet


@dataclass
class Run:
    """A finished training: the network, its history and the record that is kept."""

    model: nn.Module
    history: History
    record: dict

    @property
    def price(self) -> float | None:
        return price(self.record)


def price(record: dict) -> float | None:
    """What a run cost, in epochs of the reference network: seconds × reference_rate / 100,000.

    Minutes differ from one machine to the next; this unit holds. None where no rate was timed.
    """
    rate = record["reference_rate"]
    return None if rate is None else record["seconds"] * rate / REFERENCE_IMAGES


def run(recipe: Recipe | str, rt: Runtime, *, seed: int = 0, anew: bool = False, folder: Path | None = None,
        tensorboard: Path | None = None, quiet: bool = False) -> Run:
    """Train ``recipe`` on the size of data that the profile asks for, and look at the official validation set once.

    The checkpoint and the record lie in ``folder`` (default: ``runs`` beside the data): an interrupted run goes on
    there, a finished one is reused, ``anew=True`` trains again. Smoke runs are kept nowhere. ``tensorboard``: a folder
    for curves. Of several processes (torchrun) the first one writes and prints.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    first = parallel.rank() == 0
    report = print if first and not quiet else (lambda line: None)
    after_epoch = curves(tensorboard and first and tensorboard / f"{recipe.name}-seed{seed}")
    load = DATASETS[recipe.dataset]
    train, tune, val = (load(split, profile=rt.profile, **recipe.data_options) for split in ("train", "tune", "val"))
    smoke = rt.profile == "smoke" or not train.is_real  # an hour on toy shapes would teach nothing more
    if smoke:
        recipe = recipe.for_smoke()
    files = None if smoke else _Files(folder or data_home() / "runs", f"{recipe.name}-{rt.profile}-seed{seed}")
    commit = _commit()  # of the code that runs, not of what the hour brings
    runtime.seed_everything(seed)
    model = recipe.build_model(len(train.classes), rt.device)
    with files.alone() if files and first else contextlib.nullcontext():
        rate = _reference_rate(rt, files, anew) if files else None
        if rate:
            report(forecast(recipe.name, rate))
        history = _train(recipe, rt, model, train, tune, seed, files, anew, report, after_epoch)
        record = _read_json(files.record) if files else {}
        if record.get("history") != history.rows:  # else reused as a whole: validation data is looked at once
            record = _record(recipe, rt, train, val, seed, history, rate, model) | {"commit": commit}
        if files and first:
            write_json(files.record, record)
    return Run(model, history, record)


class _Files:
    """What a run keeps: the checkpoint, the record, and the reference rate."""

    def __init__(self, folder: Path, name: str) -> None:
        self.checkpoint, self.record, self.rate, self.lock = (
            folder / f"{name}{ending}" for ending in (".pt", ".json", ".rate.json", ".lock"))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Two processes on one checkpoint would overwrite each other's epochs."""
        lock, folder = FileLock(self.lock, timeout=0), self.lock.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise CourseError(f"another process is training {self.checkpoint.stem} in {folder}: wait for it, or stop "
                              "it") from None
        except OSError as error:
            raise CourseError(f"cannot write to {folder} ({error.strerror or error}): choose another folder") from error
        try:
            yield
        finally:
            lock.release()


def _train(recipe, rt, model, train, tune, seed, files, anew, report, after_epoch) -> History:
    loader = _shared(BatchLoader(train, recipe.batch_size, augment=recipe.augment_at(0), device=rt.device, seed=seed))
    watch = _shared(BatchLoader(tune, 500, augment=False, device=rt.device))
    if recipe.whiten:
        whiten_stem(model, sample(train, 2000, recipe.sizes[0], rt.device, seed))
    optimizer = recipe.build_optimizer(model)

    def before_epoch(epoch: int) -> None:
        loader.augment = recipe.augment_at(epoch)

    if parallel.rank():
        runtime.seed_everything(seed + 1_000_000 * parallel.rank())  # each process drops out others
    return fit(model, loader, watch, sizes=recipe.sizes, optimizer=optimizer,
               scheduler=recipe.build_schedule(optimizer, len(loader)), precision=rt.precision,
               label_smoothing=recipe.label_smoothing, extras=recipe.extras, checkpoint=files and files.checkpoint,
               anew=anew, settings=_plain(recipe), before_epoch=before_epoch, after_epoch=after_epoch,
               report=report)


def _shared(loader: BatchLoader) -> BatchLoader:
    """Each process takes its part of every batch."""
    if loader.shuffle and loader.batch_size % parallel.processes():
        raise CourseError(f"batch size {loader.batch_size} cannot be shared out evenly to {parallel.processes()} "
                          "processes: start another number of them")
    loader.shard = (parallel.rank(), parallel.processes())
    return loader


def sample(store: ImageStore, count: int, size: int, device: torch.device, seed: int = 0) -> torch.Tensor:
    """``count`` pictures at random (fewer where there are fewer), as the network sees them, not augmented."""
    loader = BatchLoader(store, min(count, len(store)), augment=False, shuffle=True, device=device, seed=seed)
    loader.picture_size = size
    return next(iter(loader))[0]


def _plain(recipe: Recipe) -> dict:
    """The recipe as it comes back from JSON, without its description."""
    return json.loads(json.dumps({key: value for key, value in asdict(recipe).items() if key != "about"}))


def _look_once(rt: Runtime, model: nn.Module, val: ImageStore, size: int) -> tuple[dict, float]:
    """The official validation set at the size of the last epoch: loss, top-1 and top-5 of its weights.

    And, apart, the top-1 of the mean over each picture and its mirror image, at twice the work.
    """
    started = time.perf_counter()
    loader = _shared(BatchLoader(val, 500, augment=False, device=rt.device))
    loader.picture_size = size
    metrics = evaluate(model, loader, precision=rt.precision)
    mirrored = evaluate(model, loader, precision=rt.precision, mirrored=True)
    final = {"val_loss": metrics.loss, "val_top1": metrics.top1, "val_top5": metrics.top5,
             "val_top1_mirrored": mirrored.top1}
    return final, time.perf_counter() - started


def _record(recipe, rt, train, val, seed, history, rate, model) -> dict:
    """The run as data; ``figures/results/README.md`` explains the fields."""
    final, last_look = _look_once(rt, model, val, recipe.sizes[-1])
    epochs = sum(history.column("seconds") + history.column("eval_seconds"))
    return {
        "recipe": recipe.name, "settings": asdict(recipe), "seed": seed, "profile": rt.profile,
        "dataset": train.name, "is_real": train.is_real, "train_images": len(train), "val_images": len(val),
        "noise": recipe.data_options.get("noise", 0),
        "device": rt.machine, "precision": rt.precision.name,
        "processes": parallel.processes(),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__},
        "epochs": len(history), "seconds": train.prepare_seconds + val.prepare_seconds + epochs + last_look,
        "reference_rate": rate, "history": history.rows, "steps": history.steps, "final": final,
    }


def _reference_rate(rt: Runtime, files: _Files, anew: bool) -> float:
    """Timed once per run and machine, and kept beside the checkpoint: a run that goes on has one rate.

    Of several processes, all that they do at the same time.
    """
    kept = {} if anew else _read_json(files.rate)
    here = {"device": rt.machine, "processes": parallel.processes()}
    if not here.items() <= kept.items():
        rate = torch.tensor(reference_rate(rt), dtype=torch.float64, device=rt.device)
        kept = here | {"rate": parallel.total(rate).item()}
        if parallel.rank() == 0:
            write_json(files.rate, kept)
    return kept["rate"]


def reference_rate(rt: Runtime, steps: int = 4) -> float:
    """Pictures per second that this machine trains the reference network at: ``resnet18_small``, 200 classes,
    64 px, batch 64, in this run's precision and memory format. The median of ``steps``, after one to warm up."""
    model = create_model("resnet18_small", 200).to(rt.device, memory_format=torch.channels_last)
    optimizer = optim.sgd(model, 0.01)
    trainer = Trainer(model.train(), optimizer, optim.constant(optimizer), rt.precision)
    x = torch.randn(64, 3, 64, 64, device=rt.device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(64, dtype=torch.int64, device=rt.device)
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        trainer.step(x, labels)[0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 64 / float(np.median(seconds[1:]))


def forecast(name: str, rate: float) -> str:
    """How long a recipe will take at ``rate``, from the prices of its committed runs."""
    prices = [p for p in map(price, results(name)) if p]
    if not prices:
        return f"{name}: no run measured yet, so no forecast; this machine trains {rate:,.0f} reference pictures/s"
    cost = float(np.mean(prices))
    minutes = cost * REFERENCE_IMAGES / rate / 60
    return f"{name}: price {cost:.2f}, at {rate:,.0f} reference pictures/s about {minutes:,.0f} minutes here"


def results(name: str, root: Path | None = None) -> list[dict]:
    """The committed records of a recipe, in order of file name."""
    return [json.loads(path.read_text()) for path in sorted(((root or RESULTS) / name).glob("*.json"))]


def write_json(path: Path, content: dict) -> None:
    """Whole or not at all. Raises CourseError for a disk that is full or cannot be written."""
    try:
        with runtime.written_whole(path) as aside:
            aside.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise CourseError(f"cannot write {path} ({error.strerror or error}). Make room and run again: the training "
                          "itself is kept.") from error


def _read_json(path: Path) -> dict:
    """What ``write_json`` wrote; empty where there is nothing, or nothing readable."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _commit() -> str | None:
    """The revision of the code, with a + where it was changed since; None outside git."""
    try:
        found = subprocess.run(["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"], text=True,
                               cwd=REPOSITORY, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.train", description=__doc__, epilog="On several GPUs or processes: torchrun "
        "--nproc-per-node N -m course_lib.train RECIPE. Each batch is shared out; the first process writes.")
    parser.add_argument("recipe", nargs="?", help="without it: the list of recipes")
    parser.add_argument("--profile", choices=runtime.PROFILES, help="default: COURSE_PROFILE, else by the machine")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the record, e.g. figures/results")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True,
                        help="go on with, or reuse, the run on disk (default); --no-resume trains anew")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="folder for TensorBoard's curves")
    asked = parser.parse_args(arguments)
    if asked.recipe is None:
        width = max(map(len, RECIPES)) + 2
        print("\n".join(f"{recipe.name:{width}}{recipe.about}" for recipe in RECIPES.values()))
        return 0
    try:
        with parallel.together():
            return _main(find_recipe(asked.recipe), asked)
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return 130


def _main(recipe: Recipe, asked: argparse.Namespace) -> int:
    rt = runtime.setup(asked.profile, asked.seed)
    if parallel.rank() == 0:
        print(rt.banner())
    finished = run(recipe, rt, seed=asked.seed, anew=not asked.resume, tensorboard=asked.tensorboard)
    if parallel.rank():
        return 0
    final = finished.record["final"]
    cost = "" if finished.price is None else f", price {finished.price:.3f}"
    print(f"{recipe.name}: official validation set, last epoch: top-1 {final['val_top1']:.2%}, "
          f"top-5 {final['val_top5']:.2%}; {finished.record['seconds'] / 60:.1f} minutes{cost}")
    if asked.out and not finished.record["is_real"] and rt.profile != "smoke":
        print("not written to --out: these pictures were toy shapes", file=sys.stderr)
    elif asked.out:
        write_json(asked.out / recipe.name / f"{rt.profile}-seed{asked.seed}.json", finished.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
