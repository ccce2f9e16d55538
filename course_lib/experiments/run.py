"""Train a recipe: ``run`` is the main path, from the pictures to the record."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from course_lib import runtime
from course_lib.data import BatchLoader, ImageStore
from course_lib.experiments import price
from course_lib.experiments import record as records
from course_lib.experiments.catalogue import find_recipe
from course_lib.experiments.kept import Kept, KeptNowhere
from course_lib.experiments.recipe import Recipe, Sweep
from course_lib.files import CourseError, runs_home
from course_lib.models import whiten_stem
from course_lib.runtime import Runtime
from course_lib.training import (
    Callbacks,
    Checkpoint,
    History,
    curves,
    evaluate,
    fit,
    processes,
)
from course_lib.training.loop import do_nothing


@dataclass
class Run:
    """A finished training: the network, its history and the record that is kept."""

    model: nn.Module
    history: History
    record: dict

    @property
    def price(self) -> float | None:
        return price.price(self.record)


def run(
    recipe: Recipe | str,
    rt: Runtime,
    *,
    seed: int | None = None,
    resume: bool = True,
    folder: Path | str | None = None,
    tensorboard: Path | str | None = None,
    quiet: bool = False,
    priced: bool = True,
) -> Run:
    """Train ``recipe`` on as much data as the profile asks for, then look at the official split.

    That is looked at once, and by a trial never. seed: by default that of ``rt``. resume: an
    interrupted run goes on and a finished one is reused, from ``folder`` (default: ``runs`` beside
    the data); False trains from the start. Smoke runs are kept nowhere. tensorboard: a folder for
    curves. priced: time the reference network before and after, which takes minutes; a run of
    minutes can do without. Of several processes (torchrun) the first one writes and prints.

    Raises CourseError for an unknown recipe, a sweep, data that cannot be had, a loss that is no
    number, a checkpoint of another training, a folder that cannot be written and a full disk.
    """
    recipe = _one_training(recipe)
    rt = rt if seed is None else replace(rt, seed=seed)
    commit = records.commit()  # of the code that runs, not of what the hour brings
    callbacks = _callbacks(f"{recipe.name}-seed{rt.seed}", tensorboard, quiet)

    # all before the training: what is missing is told before the hour, not after it
    train, tune = recipe.load("train", rt.profile), recipe.load("tune", rt.profile)
    val = None if recipe.is_trial else recipe.load("val", rt.profile)

    # an hour on toy shapes would teach nothing more than half a minute
    if rt.profile == "smoke" or not train.is_real:
        recipe, kept = recipe.for_smoke(), KeptNowhere()
        train, tune = _about(500, train), _about(100, tune)
        if val is not None:
            val = _about(100, val)
    else:
        kept = Kept(Path(folder or runs_home()), recipe, rt)

    with kept.alone():
        kept.begin(resume, callbacks.report)
        record = kept.finished()

        # the reference network is timed before a run and after it, and not for one that is over
        rate = None
        if priced and not record:
            rate = kept.rate_at_the_start(rt, callbacks.report)
        if rate:
            callbacks.report(price.forecast(recipe.name, rt.profile, rate))
        elif kept.checkpoint and not record:
            callbacks.report(price.took(recipe.name, rt.profile))

        model, history = _train(recipe, rt, train, tune, kept.checkpoint, callbacks)
        callbacks.after_epoch(history)  # a run that was reused has curves, too

        if not record:
            look = (None, 0.0)  # what was seen, and the seconds that it took
            if val is not None:
                look = _look_once(rt, model, val, recipe.sizes[-1])

            rates = [rate, price.rate_of_all(rt)] if rate else None
            record = records.make_record(
                recipe, rt, train, val, history, rates=rates, look=look, commit=commit
            )
            kept.write_record(record)

    return Run(model, history, record)


def _one_training(recipe: Recipe | str) -> Recipe:
    """Raises CourseError for a name that is none, and for a sweep."""
    found = find_recipe(recipe) if isinstance(recipe, str) else recipe

    if isinstance(found, Sweep):
        raise CourseError(
            f"{found.name} is a sweep, {len(found.rates)} trainings at as many rates: expected a "
            f'recipe. Train them all with run_sweep(SWEEPS["{found.name}"], rt), or one of them '
            f'with run(SWEEPS["{found.name}"].at({found.rates[0]:g}), rt)'
        )
    return found


def _about(count: int, store: ImageStore) -> ImageStore:
    """At least ``count`` pictures, fewer than twice as many, the same share of each class.

    All where there are fewer.
    """
    return store.every_of_each_class(max(1, len(store) // count))


def beginning(recipe: Recipe, rt: Runtime, train: ImageStore) -> tuple[nn.Module, BatchLoader]:
    """The network and the batches that every training of a recipe begins with.

    They follow from the seed, whatever was drawn before: the timing draws numbers, too.
    """
    runtime.seed_everything(rt.seed)
    model = recipe.build_model(len(train.classes), rt.device)

    if recipe.whiten:
        pictures = sample(train, recipe.whiten_pictures, recipe.sizes[0], rt.device, rt.seed)
        whiten_stem(model, pictures, recipe.whiten_floor)

    return model, recipe.build_loader(train, rt.device, rt.seed)


def _train(
    recipe: Recipe,
    rt: Runtime,
    train: ImageStore,
    tune: ImageStore,
    checkpoint: Checkpoint | None,
    callbacks: Callbacks,
) -> tuple[nn.Module, History]:
    """Every epoch of the recipe, judged on tune; from the checkpoint where there is one."""
    model, train_loader = beginning(recipe, rt, train)
    val_loader = BatchLoader(tune, 500, augment=False, device=rt.device)

    optimizer = recipe.build_optimizer(model)
    scheduler = recipe.build_schedule(optimizer, len(train_loader))

    # each process drops out other units than the first
    if processes.rank():
        runtime.seed_everything(rt.seed + 1_000_000 * processes.rank())

    history = fit(
        model,
        _shared(train_loader),
        _shared(val_loader),
        sizes=recipe.sizes,
        optimizer=optimizer,
        scheduler=scheduler,
        loss=recipe.build_loss(),
        precision=rt.precision,
        extras=recipe.extras,
        checkpoint=checkpoint,
        callbacks=replace(callbacks, measure=recipe.build_measure(train, rt.precision)),
    )
    return model, history


def _look_once(rt: Runtime, model: nn.Module, val: ImageStore, size: int) -> tuple[dict, float]:
    """The official validation set at the size of the last epoch, and the seconds that it took.

    Loss, top-1 and top-5 of the last weights; and, apart, the top-1 of the mean over each picture
    and its mirror image, at twice the work.
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


def sample(
    store: ImageStore, count: int, size: int, device: torch.device, seed: int = 0
) -> torch.Tensor:
    """Pictures at random, as the network sees them, not augmented: (count, 3, size, size).

    Fewer where the store has fewer.
    """
    count = min(count, len(store))
    loader = BatchLoader(store, count, augment=False, shuffle=True, device=device, seed=seed)

    rows = loader.batches()[0]
    images = torch.from_numpy(store.images[rows])  # (count, H, W, 3), without the rest of the store
    return loader.to_input(images.permute(0, 3, 1, 2), size)


def _shared(loader: BatchLoader) -> BatchLoader:
    """Each process takes its part of every batch."""
    if loader.shuffle and loader.batch_size % processes.count():
        raise CourseError(
            f"batch size {loader.batch_size} cannot be shared out evenly to {processes.count()} "
            "processes: start another number of them"
        )

    loader.shard = (processes.rank(), processes.count())
    return loader


def _callbacks(name: str, tensorboard: Path | str | None, quiet: bool) -> Callbacks:
    """Who hears a line, and who draws an epoch: of several processes the first one alone."""
    is_first = processes.rank() == 0

    report = print if is_first and not quiet else do_nothing
    folder = Path(tensorboard, name) if tensorboard and is_first else None
    return Callbacks(after_epoch=curves(folder), report=report)
