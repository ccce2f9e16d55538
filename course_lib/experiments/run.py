"""Run a recipe and leave its result as data: ``python -m course_lib.train RECIPE``."""

import contextlib
import hashlib
import json
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
from course_lib.experiments import record as records
from course_lib.experiments.recipe import DATASETS, Recipe, find_recipe
from course_lib.files import CourseError, read_json, runs_home, write_json
from course_lib.models import create_model, whiten_stem
from course_lib.runtime import Runtime
from course_lib.training import (
    Callbacks,
    Checkpoint,
    CrossEntropy,
    History,
    Trainer,
    curves,
    evaluate,
    fit,
    loop,
    optim,
    processes,
    schedules,
)


@dataclass
class Run:
    """A finished training: the network, its history and the record that is kept."""

    model: nn.Module
    history: History
    record: dict

    @property
    def price(self) -> float | None:
        return records.price(self.record)


def run(
    recipe: Recipe | str,
    rt: Runtime,
    *,
    seed: int | None = None,
    anew: bool = False,
    folder: Path | None = None,
    tensorboard: Path | None = None,
    quiet: bool = False,
) -> Run:
    """Train ``recipe`` on the size of data that the profile asks for, and look at the official validation set once,
    or, for a variant that is only tried, not at all.

    The checkpoint and the record lie in ``folder`` (default: ``runs`` beside the data): an interrupted run goes on
    there, a finished one is reused, ``anew=True`` trains again. Smoke runs are kept nowhere. seed: by default that of
    ``rt``. ``tensorboard``: a folder for curves. Of several processes (torchrun) the first one writes and prints.
    Raises CourseError for an unknown recipe, data that cannot be had, a loss that is no number, a checkpoint of
    another training and a full disk.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    seed, first = rt.seed if seed is None else seed, processes.rank() == 0
    report = print if first and not quiet else (lambda line: None)
    after_epoch = curves(
        tensorboard / f"{recipe.name}-seed{seed}" if tensorboard and first else None
    )
    load = DATASETS[recipe.dataset]
    train, tune, val = (
        load(split, profile=rt.profile, **recipe.data_options) for split in ("train", "tune", "val")
    )
    smoke = (
        rt.profile == "smoke" or not train.is_real
    )  # an hour on toy shapes would teach nothing more
    if smoke:
        recipe = recipe.for_smoke()
    files = None if smoke else _Files(folder or runs_home(), recipe, rt.profile, seed)
    commit = records.commit()  # of the code that runs, not of what the hour brings
    with files.alone() if files and first else contextlib.nullcontext():
        if files and anew:
            files.forget()
        record = files.finished() if files else {}
        rate = _reference_rate(rt, files, report) if files and not record else None
        if rate:
            report(records.forecast(recipe.name, rt.profile, rate))
        runtime.seed_everything(
            seed
        )  # behind the timing, which draws numbers and is not always needed
        model = recipe.build_model(len(train.classes), rt.device)
        history = _train(recipe, rt, model, train, tune, seed, files, anew, report, after_epoch)
        after_epoch(history)  # a run that was reused has curves, too
        if (
            record.get("history") != history.rows
        ):  # else reused as a whole: validation data is looked at once
            if (
                record
            ):  # of a run before this one, which was stopped and went on: its rate is on disk
                rate = _reference_rate(rt, files, report)
            record = _record(recipe, rt, train, val, seed, history, rate, model) | {
                "commit": commit
            }
        if files and first:
            write_json(files.record, record)
    return Run(model, history, record)


class _Files:
    """What a run keeps: the checkpoint, the record, and the reference rate.

    A changed recipe is another run, in files of another name: what the old one left stays.
    """

    def __init__(self, folder: Path, recipe: Recipe, profile: str, seed: int) -> None:
        digest = hashlib.sha256(json.dumps(_plain(recipe), sort_keys=True).encode()).hexdigest()[:6]
        name = f"{recipe.name}-{profile}-seed{seed}-{digest}"
        self.checkpoint, self.record, self.rate, self.lock = (
            folder / f"{name}{ending}" for ending in (".pt", ".json", ".rate.json", ".lock")
        )

    def finished(self) -> dict:
        """The record of a run that has ended; empty if it has not."""
        return read_json(self.record) if self.checkpoint.exists() else {}

    def forget(self) -> None:
        """What is there is of a run that is not wanted any more; none of it may pass for the next one's."""
        if processes.rank() == 0:
            for path in (self.checkpoint, self.record, self.rate):
                path.unlink(missing_ok=True)
        processes.wait()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Two processes on one checkpoint would overwrite each other's epochs."""
        lock, folder = FileLock(self.lock, timeout=0), self.lock.parent
        try:
            folder.mkdir(
                exist_ok=True
            )  # no parents: a drive that is not mounted must not become a folder
            lock.acquire()
        except Timeout:
            raise CourseError(
                f"another process is training {self.checkpoint.stem} and holds {self.lock}: wait for "
                "it, or stop it"
            ) from None
        except OSError as error:
            raise CourseError(
                f"cannot write to {folder} ({error.strerror or error}): make that folder, or choose "
                "another one"
            ) from error
        try:
            yield
        finally:
            lock.release()


def _train(recipe, rt, model, train, tune, seed, files, anew, report, after_epoch) -> History:
    loader = _shared(
        BatchLoader(
            train, recipe.batch_size, augment=recipe.augment_at(0), device=rt.device, seed=seed
        )
    )
    watch = _shared(BatchLoader(tune, 500, augment=False, device=rt.device))
    if recipe.whiten:
        whiten_stem(model, sample(train, 2000, recipe.sizes[0], rt.device, seed))
    optimizer = recipe.build_optimizer(model)

    def before_epoch(epoch: int) -> None:
        loader.augment = recipe.augment_at(epoch)

    if processes.rank():
        runtime.seed_everything(
            seed + 1_000_000 * processes.rank()
        )  # each process drops out others
    return fit(
        model,
        loader,
        watch,
        sizes=recipe.sizes,
        optimizer=optimizer,
        scheduler=recipe.build_schedule(optimizer, len(loader)),
        precision=rt.precision,
        loss=CrossEntropy(recipe.label_smoothing),
        extras=recipe.extras,
        checkpoint=files and Checkpoint(files.checkpoint, not anew, _plain(recipe)),
        callbacks=Callbacks(before_epoch, after_epoch, report),
    )


def _shared(loader: BatchLoader) -> BatchLoader:
    """Each process takes its part of every batch."""
    if loader.shuffle and loader.batch_size % processes.count():
        raise CourseError(
            f"batch size {loader.batch_size} cannot be shared out evenly to {processes.count()} "
            "processes: start another number of them"
        )
    loader.shard = (processes.rank(), processes.count())
    return loader


def sample(
    store: ImageStore, count: int, size: int, device: torch.device, seed: int = 0
) -> torch.Tensor:
    """``count`` pictures at random (fewer where there are fewer), as the network sees them, not augmented."""
    loader = BatchLoader(
        store, min(count, len(store)), augment=False, shuffle=True, device=device, seed=seed
    )
    images = torch.from_numpy(
        store.images[loader.batches()[0]]
    )  # (count, H, W, 3), without the rest of the store
    return loader.to_input(images.permute(0, 3, 1, 2), size)


def _plain(recipe: Recipe) -> dict:
    """What the recipe sets, as it comes back from JSON: without its description, and without what is at its default,
    so that a setting which is added later changes no training of before."""
    usual = asdict(Recipe(recipe.name, "", ()))
    return json.loads(
        json.dumps(
            {
                key: value
                for key, value in asdict(recipe).items()
                if key != "about" and (key == "name" or value != usual[key])
            }
        )
    )


def _look_once(rt: Runtime, model: nn.Module, val: ImageStore, size: int) -> tuple[dict, float]:
    """The official validation set at the size of the last epoch: loss, top-1 and top-5 of its weights.

    And, apart, the top-1 of the mean over each picture and its mirror image, at twice the work.
    """
    started = time.perf_counter()
    loader = _shared(BatchLoader(val, 500, augment=False, device=rt.device))
    loader.picture_size = size
    metrics = evaluate(model, loader, precision=rt.precision)
    mirrored = evaluate(model, loader, precision=rt.precision, mirrored=True)
    final = {
        "val_loss": metrics.loss,
        "val_top1": metrics.top1,
        "val_top5": metrics.top5,
        "val_top1_mirrored": mirrored.top1,
    }
    return final, time.perf_counter() - started


def _record(recipe, rt, train, val, seed, history, rate, model) -> dict:
    """The run as data; ``figures/results/README.md`` explains the fields."""
    final, last_look = (
        (None, 0.0) if recipe.is_variant else _look_once(rt, model, val, recipe.sizes[-1])
    )
    epochs = sum(history.column("seconds") + history.column("eval_seconds"))
    rates = (
        None if rate is None else [rate, _rate_of_all(rt)]
    )  # other work may have slowed the machine meanwhile
    return {
        "recipe": recipe.name,
        "settings": asdict(recipe),
        "seed": seed,
        "profile": rt.profile,
        "dataset": train.name,
        "is_real": train.is_real,
        "train_images": len(train),
        "val_images": len(val),
        "noise": recipe.data_options.get("noise", 0),
        "device": rt.machine,
        "precision": rt.precision.name,
        "processes": processes.count(),
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "epochs": len(history),
        "seconds": train.prepare_seconds + val.prepare_seconds + epochs + last_look,
        "reference_rate": rates and sum(rates) / 2,
        "reference_rates": rates,
        "history": history.rows,
        "steps": history.steps,
        "final": final,
    }


def _reference_rate(rt: Runtime, files: _Files, report) -> float | None:
    """Timed when a run begins, and kept beside the checkpoint: one that goes on does not begin again.

    None for one that goes on elsewhere: its seconds are of two machines.
    """
    kept, here = read_json(files.rate), {"device": rt.machine, "processes": processes.count()}
    kept, known = processes.gather((kept, here.items() <= kept.items()))[
        0
    ]  # all do what the first one does
    if not known:
        if kept and files.checkpoint.exists():
            report(f"begun on another machine ({kept.get('device')}): there will be no price")
            return None
        kept = here | {"rate": _rate_of_all(rt)}
        if processes.rank() == 0:
            write_json(files.rate, kept)
    return kept["rate"]


def _rate_of_all(rt: Runtime) -> float:
    """Of several processes, all that they do at the same time."""
    return processes.total(
        torch.tensor(reference_rate(rt), dtype=torch.float64, device=rt.device)
    ).item()


def reference_rate(rt: Runtime, rounds: int = 4) -> float:
    """Pictures per second that this machine trains the reference network at: ``resnet18_small``, 200 classes,
    64 px, batch 64, in this run's precision and memory format. The median of ``rounds``, after one to warm up, each
    of as many steps as a training makes between two looks at the loss."""
    model = create_model("resnet18_small", 200).to(rt.device, memory_format=torch.channels_last)
    optimizer = optim.sgd(model, 0.01)
    trainer = Trainer(model.train(), optimizer, schedules.constant(optimizer), rt.precision)
    x = torch.randn(64, 3, 64, 64, device=rt.device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(64, dtype=torch.int64, device=rt.device)
    seconds, steps = [], loop.LOOK_EVERY.get(rt.device.type, 10)
    for _ in range(rounds + 1):
        started = time.perf_counter()
        losses = [trainer.step(x, labels)[0] for _ in range(steps)]
        losses[-1].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 64 * steps / float(np.median(seconds[1:]))
