"""Which class activation maps lie on the object? Every method over the same pictures.

Maps are made for the *true* class: that is what the box or the mask is drawn around, whatever the
network takes the picture for. ``python -m course_lib.localize`` makes the records.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from course_lib.data import Augment, BatchLoader, ImageStore, tiny_imagenet, toy_shapes
from course_lib.experiments.kept import run_name
from course_lib.experiments.record import commit, versions
from course_lib.explain import (
    best_threshold,
    deletion,
    energy_in_box,
    enlarge_objects,
    explain,
    insertion,
    iou,
    middle_spot,
    pointing_game,
    score,
)
from course_lib.files import CourseError, read_json, runs_home, write_json
from course_lib.models import create_model, weights_card
from course_lib.models.modes import in_eval_mode
from course_lib.runtime import Runtime, seed_everything
from course_lib.training import Callbacks, Checkpoint, fit, optim, schedules

Report = Callable[[str], None]
Values = dict[str, np.ndarray]  # grade → one number for each picture

# --- what is compared -----------------------------------------------------------------------------

# What a map asks for, from little to much.
ONE_PASS, EVERY_LAYER = "one pass", "one pass with every layer's gradient"
PART_BY_CHANNEL, PASS_BY_CHANNEL = "a part of a pass for each channel", "a pass for each channel"


class Way(NamedTuple):
    """A way to make maps: a method of ``explain``, and what it looks at."""

    words: str
    method: str
    stages: tuple[int, ...] = (-1,)  # of the network, counted from the end; their maps are averaged
    work: str = ONE_PASS


WAYS = {
    "gradcam": Way("Grad-CAM", "gradcam"),
    "gradcam++": Way("Grad-CAM++", "gradcam++"),
    "hirescam": Way("HiResCAM", "hirescam"),
    "xgradcam": Way("XGradCAM", "xgradcam"),
    "layercam": Way("LayerCAM", "layercam"),
    "layercam_earlier": Way("LayerCAM, two stages earlier", "layercam", (-3,)),
    "layercam_three": Way("LayerCAM, three stages", "layercam", (-3, -2, -1)),
    "eigencam": Way("EigenCAM", "eigencam"),
    "fullgrad": Way("FullGrad", "fullgrad", (), work=EVERY_LAYER),
    "ablationcam": Way("AblationCAM", "ablationcam", work=PART_BY_CHANNEL),
    "scorecam": Way("ScoreCAM", "scorecam", work=PASS_BY_CHANNEL),
}

# They know nothing of the picture: (N, H, W) → maps.
BASELINES: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
    "chance": lambda shape: np.ones(shape, np.float32),
    "middle": middle_spot,
}

IN_WORDS = {"chance": "chance", "middle": "spot in the middle"} | {
    key: way.words for key, way in WAYS.items()
}


class Pictures(NamedTuple):
    """How many pictures are graded, by what a map of them asks for; 0 leaves a method out."""

    one_pass: int
    every_layer: int
    part_by_channel: int
    pass_by_channel: int
    by_pixels: int  # by deletion and insertion, of methods of one pass
    predicted: int  # to see what the network gets right

    def of(self, key: str) -> int:
        return {
            ONE_PASS: self.one_pass,
            EVERY_LAYER: self.every_layer,
            PART_BY_CHANNEL: self.part_by_channel,
            PASS_BY_CHANNEL: self.pass_by_channel,
        }[_work(key)]


def _work(key: str) -> str:
    return WAYS[key].work if key in WAYS else ONE_PASS


PICTURES = {  # by their side in pixels: with four times the pixels all takes four times as long
    64: Pictures(
        one_pass=10_000,
        every_layer=10_000,
        part_by_channel=100,
        pass_by_channel=16,
        by_pixels=60,
        predicted=500,
    ),
    128: Pictures(
        one_pass=1000,
        every_layer=250,
        part_by_channel=0,
        pass_by_channel=0,
        by_pixels=0,
        predicted=250,
    ),
}
TUNE = 500  # pictures at most that a threshold is chosen on
TIMED = 4  # batches that a method is timed on where it could be given what another found
STEPS = 8  # of deletion and insertion
SMALL = 0.25  # of the picture: an object that covers less can be missed by a spot in the middle
BATCH = 50

# --- one network, one size of picture -------------------------------------------------------------


class Predicted(NamedTuple):
    """What the network says of some pictures, and some of those that it gets right."""

    top1: float
    x: torch.Tensor  # (N, 3, S, S); empty where none is asked for
    labels: torch.Tensor  # (N,), true and predicted


@dataclass(frozen=True)
class Study:
    """A network, and the pictures that its maps are graded on."""

    model: nn.Module  # in eval mode, on its device
    val: ImageStore  # graded
    tune: ImageStore  # thresholds are chosen on these
    size: int  # pixels a side, a multiple of the pictures' own
    about: dict  # what the record says of the network; "weights" names it
    pictures: Pictures

    @property
    def name(self) -> str:
        """Of its record."""
        return f"{self.about['weights']}-{self.size}px"

    @property
    def keys(self) -> list[str]:
        """Baselines and ways, without those that would take hours."""
        return [key for key in IN_WORDS if self.pictures.of(key)]

    def batches(self, store: ImageStore) -> Iterator[tuple[torch.Tensor, torch.Tensor, np.ndarray]]:
        """Pictures (B, 3, S, S), true classes (B,), and where the objects are."""
        device = next(self.model.parameters()).device
        loader = BatchLoader(store, BATCH, augment=False, device=device)
        loader.picture_size = self.size
        objects = self.objects(store)

        for number, (x, labels) in enumerate(loader):
            yield x, labels, objects[number * BATCH : (number + 1) * BATCH]

    def objects(self, store: ImageStore) -> np.ndarray:
        """Masks where there are any, else boxes, in pictures of ``size``."""
        where = store.boxes if store.masks is None else store.masks
        return enlarge_objects(where, self.size // store.images.shape[1])

    @cached_property
    def last_stage(self) -> "LastStage":
        return LastStage(self.model)

    @cached_property
    def middle_threshold(self) -> float:
        shape = (len(self.tune), self.size, self.size)
        return best_threshold(middle_spot(shape), self.objects(self.tune))

    @cached_property
    def predicted(self) -> Predicted:
        asked, wanted = self.pictures.predicted, self.pictures.by_pixels
        hits, right, classes = [], [], []  # of all; of those that the network gets right
        with in_eval_mode(self.model), torch.no_grad():
            for x, labels, _ in self.batches(self.val.about(asked)):
                hit = self.model(x).argmax(dim=1) == labels  # (B,)
                hits.append(hit)

                if sum(map(len, right)) < wanted:
                    right.append(x[hit])
                    classes.append(labels[hit])

        top1 = torch.cat(hits).float().mean().item()
        if not right:
            return Predicted(top1, torch.empty(0), torch.empty(0))
        return Predicted(top1, torch.cat(right)[:wanted], torch.cat(classes)[:wanted])

    @cached_property
    def middle_by_pixels(self) -> Values:
        _, x, labels = self.predicted
        return _by_pixels(self.model, x, labels, middle_spot((len(x), self.size, self.size)))


def localize(
    study: Study, rt: Runtime, path: Path, *, resume: bool = True, report: Report = print
) -> dict:
    """Grade every way to make maps, each kept in ``path`` as soon as it is graded: the record.

    resume: a record that is there goes on; False begins afresh. Raises CourseError for one that was
    made with other weights, pictures, versions or on another machine, and for a full disk.
    """
    facts = _facts(study, rt)
    record = _begun(path, facts) if resume else {}
    record = record or facts | {"commit": commit(), "maps": {}}

    for key in study.keys:
        if key in record["maps"]:
            continue

        if "top1" not in record:
            record["top1"] = study.predicted.top1

        record["maps"][key] = graded(study, key)
        write_json(path, record, "the methods that were graded before are kept")
        report(in_words(key, record["maps"][key]))

    return record


def graded(study: Study, key: str) -> dict:
    """One way to make maps, as it stands in the record.

    Mean and standard error of each grade, also of the *difference* to the middle spot on the same
    pictures; the same of small objects alone; and the seconds that the maps alone took, of the
    pictures ``timed``.
    """
    store = study.val.about(study.pictures.of(key))
    threshold, tune_images = choose_threshold(study, key)

    seconds, timed = 0.0, 0
    ours, middles, shares = [], [], []
    for number, (x, labels, where) in enumerate(study.batches(store)):
        with study.last_stage.shared(key, number) as is_spared:
            started = time.perf_counter()
            maps = maps_of(study.model, key, x, labels)
            if not is_spared:
                seconds += time.perf_counter() - started
                timed += len(x)

        ours.append(_values(maps, where, threshold))
        middles.append(_values(middle_spot(maps.shape), where, study.middle_threshold))
        shares.append(energy_in_box(np.ones_like(maps), where))

    ours, middles = _joined(ours), _joined(middles)
    is_small = np.concatenate(shares) < SMALL

    return {
        "words": IN_WORDS[key],
        "n": len(store),
        "seconds": seconds,
        "timed": timed,
        "threshold": threshold,
        "tune_images": tune_images,
        **_compared(ours, middles),
        "small": _of_small_objects(ours, middles, is_small),
        "by_pixels": graded_by_pixels(study, key),
    }


def choose_threshold(study: Study, key: str) -> tuple[float, int]:
    """The threshold of IoU, chosen on tune; and on how many pictures.

    They are a quarter as many as are graded, since a map of them takes as long.
    """
    if key == "middle":
        return study.middle_threshold, len(study.tune)

    store = study.tune.about(min(study.pictures.of(key) // 4, TUNE))
    maps = [maps_of(study.model, key, x, labels) for x, labels, _ in study.batches(store)]
    return best_threshold(np.concatenate(maps), study.objects(store)), len(store)


def graded_by_pixels(study: Study, key: str) -> dict | None:
    """Deletion and insertion, on pictures that the network gets right; None where left out.

    There the network has a probability to lose, and true and predicted class are the same.
    """
    _, x, labels = study.predicted
    if len(x) < 2 or _work(key) in (PART_BY_CHANNEL, PASS_BY_CHANNEL):
        return None

    maps = [
        maps_of(study.model, key, *part)
        for part in zip(x.split(BATCH), labels.split(BATCH), strict=True)
    ]
    ours = _by_pixels(study.model, x, labels, np.concatenate(maps))
    return {"n": len(x), "steps": STEPS, **_compared(ours, study.middle_by_pixels)}


def maps_of(model: nn.Module, key: str, x: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """(B, 3, S, S), (B,) → maps of these classes, (B, S, S)."""
    if key in BASELINES:
        return BASELINES[key]((len(x), *x.shape[2:]))

    way = WAYS[key]
    names = list(model.stages)
    layers = [names[position] for position in way.stages] or None  # FullGrad looks at all
    return explain(model, x, labels, way.method, layers)


class LastStage:
    """What the last stage gives for the pictures that are graded: five methods look at no other.

    The first of them asks the whole network; for the others the stages in front are left out, but
    in the first batches, which tell how long they take by themselves.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.module = list(model.stages.values())[-1]
        self.given: dict[int, list[torch.Tensor]] = {}  # batch → (B, C, h, w), part by part

    @contextmanager
    def shared(self, key: str, batch: int) -> Iterator[bool]:
        """Whether maps that are made within are spared the stages in front."""
        looks_here = key in WAYS and WAYS[key].stages == (-1,) and WAYS[key].work == ONE_PASS
        is_spared = looks_here and batch in self.given and batch >= TIMED

        if is_spared:
            inside = self._given_again(batch)
        elif looks_here:
            inside = self._kept(batch)
        else:
            inside = nullcontext()
        with inside:
            yield is_spared

    @contextmanager
    def _kept(self, batch: int) -> Iterator[None]:
        parts = []
        hook = self.module.register_forward_hook(
            lambda module, inputs, output: parts.append(output.detach().clone())
        )
        with hook:
            yield
        self.given[batch] = parts

    @contextmanager
    def _given_again(self, batch: int) -> Iterator[None]:
        """The network, whose ``features`` end in its last stage, begins with what that gave."""
        parts = iter(self.given[batch])
        self.model.features = lambda x: self.module(x)
        self.module.forward = lambda x: next(parts)
        try:
            yield
        finally:
            del self.model.features, self.module.forward


def in_words(key: str, found: dict) -> str:
    point, energy = found["pointing game"], found["energy"]
    return (
        f"{IN_WORDS[key]}, {found['n']:,} pictures: pointing game {point['mean']:.1%} "
        f"({errors_over_middle(point):+.1f} standard errors over the middle spot), energy "
        f"{energy['mean']:.1%} ({errors_over_middle(energy):+.1f}); "
        f"{1000 * found['seconds'] / found['timed']:.1f} ms a picture"
    )


def errors_over_middle(found: dict) -> float:
    """How far a grade lies over that of the middle spot, in standard errors of the difference."""
    error = found["over_middle_error"]
    return found["over_middle"] / error if error > 0 else 0.0


# --- helpers --------------------------------------------------------------------------------------


def _values(maps: np.ndarray, where: np.ndarray, threshold: float) -> Values:
    return {
        "pointing game": pointing_game(maps, where),
        "energy": energy_in_box(maps, where),
        "IoU": iou(maps, where, threshold),
    }


def _by_pixels(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, maps: np.ndarray) -> Values:
    return {
        "deletion": deletion(model, x, maps, labels, STEPS),
        "insertion": insertion(model, x, maps, labels, STEPS),
    }


def _joined(parts: list[Values]) -> Values:
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def _compared(ours: Values, middle: Values) -> dict[str, dict[str, float]]:
    """Mean and standard error, of the values and of their difference picture by picture."""
    found = {}
    for column, values in ours.items():
        grade, lead = score(values), score(values - middle[column])
        found[column] = {
            "mean": grade.mean,
            "error": grade.error,
            "over_middle": lead.mean,
            "over_middle_error": lead.error,
        }
    return found


def _of_small_objects(ours: Values, middle: Values, is_small: np.ndarray) -> dict | None:
    count = int(is_small.sum())
    if count < 2:
        return None

    ours, middle = (
        {column: values[is_small] for column, values in each.items()} for each in (ours, middle)
    )
    return {"n": count, **_compared(ours, middle)}


def _facts(study: Study, rt: Runtime) -> dict:
    """What makes two records comparable, map by map."""
    return {
        "study": "localization",
        **study.about,
        # on what
        "dataset": study.val.name,
        "is_real": study.val.is_real,
        "picture_size": study.size,
        "val_images": len(study.val),
        "tune_images": len(study.tune),
        "truth": "boxes" if study.val.masks is None else "masks",
        "target": "the true class",
        # where
        "profile": rt.profile,
        "device": rt.machine,
        "precision": "fp32",
        "processes": 1,
        "versions": versions(),
    }


def _begun(path: Path, facts: dict) -> dict:
    """The record that is there, empty if none. Raises CourseError for one of other facts."""
    record = read_json(path)
    differ = [key for key, value in facts.items() if record.get(key) != value]
    if record and (differ or "maps" not in record):
        raise CourseError(
            f"{path} was made with another {', '.join(differ) or 'program'}, and maps of both "
            "cannot stand side by side: name another folder with --out, or begin afresh with "
            "--no-resume"
        )
    return record


# --- TinyImageNet ---------------------------------------------------------------------------------


def of_tiny_imagenet(weights: str | Path, network: str, size: int, rt: Runtime) -> Study:
    """Weights by name or path, on the official validation set, whose objects have boxes.

    Raises CourseError for weights that are not there or know other classes, and where there are no
    real pictures.
    """
    card = weights_card(network, weights)
    val = tiny_imagenet("val", profile=rt.profile)
    tune = tiny_imagenet("tune", held_out=5, profile=rt.profile)  # no recipe holds out fewer

    if not val.is_real:
        raise CourseError(
            "TinyImageNet is not here, and toy shapes in its place have other classes: "
            "data/README.md says how to get it"
        )
    if val.classes != card["classes"]:
        raise CourseError(
            f"{weights} knows {card['num_classes']} classes, not the {len(val.classes)} of these "
            f"pictures (profile {rt.profile}): expected weights of TinyImageNet, and the profile "
            "cpu or gpu"
        )

    known = ("recipe", "seed", "official_top1")
    about = {
        "network": network,
        "weights": Path(weights).stem if Path(weights).suffix else f"{network}_{weights}",
        "weights_sha256": card["sha256"],
        **{key: card.get(key) for key in known},
    }
    model = create_model(network, weights=weights).to(rt.device)
    return Study(model, val, tune, size, about, PICTURES[size])


# --- toy shapes -----------------------------------------------------------------------------------

TOY_SIZES = (32, 32, 32, 32, 64)  # pixels a side, epoch by epoch
TOY_LEARNED, TOY_GRADED = 1000, 500  # pictures


def of_toy_shapes(size: int, rt: Runtime, report: Report = print) -> Study:
    """The session ResNet, trained here, on drawn pictures whose objects are known to the pixel."""
    model, reached = toy_network(rt, report)
    about = {
        "network": "session_resnet",
        "weights": "session_resnet_toyshapes",
        "weights_sha256": _digest(model),
        "recipe": None,
        "seed": rt.seed,
        "official_top1": None,
        "trained": reached,
    }

    val, tune = (toy_shapes(split, count=TOY_GRADED, seed=rt.seed) for split in ("val", "tune"))
    return Study(model, val, tune, size, about, PICTURES[size])


def toy_network(rt: Runtime, report: Report = print) -> tuple[nn.Module, dict]:
    """Trained in about a minute, always the same for a seed and a machine; and what it reaches.

    Kept in ``runs`` beside the data: a second call reuses it.
    """
    seed_everything(rt.seed)
    train = toy_shapes("train", count=TOY_LEARNED, seed=rt.seed)
    tune = toy_shapes("tune", count=100, seed=rt.seed)

    # as the network for TinyImageNet: the same stages, maps of the same size
    options = {"stem": "strided", "logit_scale": 0.125}
    model = create_model("session_resnet", len(train.classes), **options).to(rt.device)

    loader = BatchLoader(train, 32, augment=Augment(pad=4), device=rt.device, seed=rt.seed)
    optimizer = optim.sgd(model, lr=0.1)
    schedule = schedules.one_cycle(optimizer, 0.1, len(TOY_SIZES) * len(loader))

    # with other settings it is another training, in a file of another name
    settings = {"options": options, "sizes": list(TOY_SIZES), "pictures": len(train)}
    name = run_name("localize_toyshapes", rt.profile, rt.seed, settings)
    checkpoint = Checkpoint(runs_home() / f"{name}.pt", settings=settings)

    history = fit(
        model,
        loader,
        BatchLoader(tune, 100, augment=False, device=rt.device),
        sizes=TOY_SIZES,
        optimizer=optimizer,
        scheduler=schedule,
        checkpoint=checkpoint,
        callbacks=Callbacks(report=report),
    )
    return model.eval(), {"epochs": len(history), "tune_top1": history.last["val_top1"]}


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
