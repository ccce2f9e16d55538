"""Several processes, one training: the same losses as in one, nobody left waiting, one writer."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.data import AlbumentationsLoader, Augment, BatchLoader, pipelines, toy_shapes
from course_lib.files import CourseError
from course_lib.runtime import Precision, seed_everything
from course_lib.training import (
    Callbacks,
    Checkpoint,
    CrossEntropy,
    Extras,
    Trainer,
    checkpoint,
    evaluate,
    fit,
    optim,
    processes,
    schedules,
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are forked from a server, and speak gloo"
)
BATCHES, EPOCHS = 6, 2


def no_norm():
    """Without BatchNorm: the pictures of a batch do not know of each other, and it can be cut."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 5)
    return model


def with_norms():
    """Each process sees other pictures, so that the running statistics drift apart."""
    model = no_norm()
    return nn.Sequential(model[0], nn.BatchNorm2d(8), *model[1:])


def training(folder: Path | None = None, at_step=lambda steps: None, make=no_norm, **extras):
    """Two epochs with this process's part of every batch: model, history and each step's loss."""
    seed_everything(0)
    loader = BatchLoader(
        toy_shapes("train", size=16, count=120), 20, augment=Augment(pad=2, cutout=0.3), seed=3
    )
    tune = toy_shapes("tune", size=16, count=41)  # a last batch of one picture
    val_loader = BatchLoader(tune, 20, augment=False)
    loader.shard = val_loader.shard = (processes.rank(), processes.count())
    model, losses = make(), []
    agree, step = processes.agree, Trainer.step

    def noted(loss, stop):
        value, asked = agree(loss, stop)
        losses.append(value)
        return value, asked

    def watched(self, *batch):
        at_step(self.steps)
        return step(self, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "agree", noted)
        patch.setattr(Trainer, "step", watched)
        optimizer = optim.sgd(model, 0.1)
        history = fit(
            model,
            loader,
            val_loader,
            sizes=(16,) * EPOCHS,
            optimizer=optimizer,
            extras=Extras(**extras),
            scheduler=schedules.one_cycle(optimizer, 0.1, EPOCHS * BATCHES),
            loss=CrossEntropy(0.1),
            checkpoint=folder and Checkpoint(folder / "training.pt"),
            callbacks=Callbacks(report=lambda line: None),
        )
    losses.pop()  # behind the end: only asks whether to stop
    return SimpleNamespace(model=model, losses=losses, history=history)


# --- what the processes do ------------------------------------------------------------------------


def start(rank, world, port, work, folder):
    """As torchrun would start it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
        GLOO_SOCKET_IFNAME="lo",
        CUDA_VISIBLE_DEVICES="",
    )
    with processes.together():
        work(folder)


def train_and_note(folder, **how):
    found = training(folder, **how)
    row = {key: value for key, value in found.history.last.items() if "seconds" not in key}
    checkpoint.save(
        folder / f"end{processes.rank()}.pt",
        {"losses": found.losses, "row": row, "weights": found.model.state_dict()},
    )


def train_with_extras(folder):
    train_and_note(folder, accumulate=2, clip_norm=0.5, averaging=0.5)


def train_with_norms(folder):
    train_and_note(folder, make=with_norms)


def train_with_ctrl_c(folder):
    if processes.rank() == 1:
        train_and_note(
            folder, at_step=lambda steps: steps == 8 and signal.raise_signal(signal.SIGINT)
        )
    train_and_note(folder)


def train_with_ctrl_c_at_the_end(folder):
    train_and_note(
        folder,
        at_step=lambda steps: (
            processes.rank() == 1
            and steps == EPOCHS * BATCHES - 1
            and signal.raise_signal(signal.SIGINT)
        ),
    )


def train_and_die(folder):
    train_and_note(
        folder, at_step=lambda steps: processes.rank() == 1 and steps == 4 and os._exit(3)
    )


def look(folder):
    loader = BatchLoader(toy_shapes("tune", size=16, count=41), 20, augment=False)
    loader.shard = (processes.rank(), processes.count())
    found = evaluate(no_norm(), loader)
    (folder / f"{processes.rank()}.json").write_text(
        json.dumps([found.loss, found.top1, found.top5, found.images])
    )


@pytest.fixture(scope="module")
def together():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["albumentations", "course_lib.training", "course_lib.data", "torch.distributed"]
    )

    def together(work, folder, world=2, patience=120):
        """``work`` in each of the processes: their exit codes.

        Whoever waits longer than ``patience`` hangs.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        running = [
            context.Process(target=start, args=(rank, world, port, work, folder))
            for rank in range(world)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join(patience)
            assert not process.is_alive(), "a process hangs"
        return [process.exitcode for process in running]

    yield together
    for process in multiprocessing.active_children():
        process.kill()


# --- the same training ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "work, extras",
    [
        (train_and_note, {}),
        (train_with_extras, {"accumulate": 2, "clip_norm": 0.5, "averaging": 0.5}),
    ],
)
def test_two_processes_have_the_losses_of_one_step_by_step(together, tmp_path, work, extras):
    alone = training(**extras)
    assert together(work, tmp_path) == [0, 0]
    for rank in (0, 1):
        found = checkpoint.load(tmp_path / f"end{rank}.pt")
        assert len(found["losses"]) == EPOCHS * BATCHES
        np.testing.assert_allclose(found["losses"], alone.losses, rtol=0, atol=1e-5)
        for key, value in alone.model.state_dict().items():
            assert torch.allclose(found["weights"][key], value, atol=1e-5), key
        for key, value in found["row"].items():
            assert value == pytest.approx(alone.history.last[key], abs=1e-5), key


def test_all_processes_evaluate_with_the_same_statistics(together, tmp_path):
    assert together(train_with_norms, tmp_path) == [0, 0]
    first, second = (checkpoint.load(tmp_path / f"end{rank}.pt") for rank in (0, 1))
    assert [
        key
        for key, value in first["weights"].items()
        if not torch.equal(value, second["weights"][key])
    ] == []
    model = with_norms()
    model.load_state_dict(first["weights"])
    alone = evaluate(model, BatchLoader(toy_shapes("tune", size=16, count=41), 20, augment=False))
    assert first["row"]["val_loss"] == pytest.approx(alone.loss, rel=1e-6)


def test_an_evaluation_shared_out_counts_every_picture_once(together, tmp_path):
    alone = evaluate(
        no_norm(), BatchLoader(toy_shapes("tune", size=16, count=41), 20, augment=False)
    )
    assert together(look, tmp_path) == [0, 0]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(
            [alone.loss, alone.top1, alone.top5, 41], rel=1e-6
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda store: BatchLoader(store, 20, seed=3),
        lambda store: AlbumentationsLoader(store, pipelines.evaluation(), 20, workers=0, seed=3),
    ],
)
@pytest.mark.parametrize("world", [2, 4])
def test_the_parts_of_a_batch_make_up_the_batch(make, world):
    loader = make(toy_shapes("train", size=16, count=70))
    whole, parts = loader.batches(), []
    for rank in range(world):
        loader.shard = (rank, world)
        assert len(loader) == 3 and loader.images == 60, "of all together"
        assert {len(labels) for _, labels in loader} == {20 // world}
        parts.append(loader.batches())
    for number, batch in enumerate(whole):
        assert sorted(np.concatenate([part[number] for part in parts])) == sorted(batch)


@pytest.mark.parametrize(
    "how",
    [
        {"cutout": 0.3, "brightness": 0.2, "contrast": 0.3, "min_area": 0.5},
        {"resized_crop": (0.3, 1.0)},
        {"flip": "alternating", "border": "zeros", "pad": 2},
    ],
)
def test_a_picture_is_augmented_alike_however_many_processes_share_its_batch(how):
    loader = BatchLoader(toy_shapes("train", size=16, count=40), 20, seed=3, augment=Augment(**how))
    whole, parts = list(loader), []
    for rank in (0, 1):
        loader.shard = (rank, 2)
        parts.append(list(loader))
    for (x, labels), first, second in zip(whole, *parts, strict=True):
        for rank, part in enumerate((first, second)):
            assert torch.allclose(part[0], x[rank::2], atol=1e-5) and torch.equal(
                part[1], labels[rank::2]
            )


# --- nobody is left waiting -----------------------------------------------------------------------


def test_ctrl_c_in_one_process_during_the_last_batch_ends_both_and_nothing_is_lost(
    together, tmp_path
):
    assert together(train_with_ctrl_c_at_the_end, tmp_path) == [1, 1]
    assert len(checkpoint.load(tmp_path / "training.pt")["history"]["rows"]) == EPOCHS
    assert together(train_and_note, tmp_path) == [0, 0]
    assert checkpoint.load(tmp_path / "end0.pt")["losses"] == [], "reused"


def test_ctrl_c_in_one_process_stops_both_at_one_batch_and_they_go_on_there(together, tmp_path):
    assert together(train_with_ctrl_c, tmp_path) == [1, 1]
    saved = checkpoint.load(tmp_path / "training.pt")
    assert len(saved["history"]["rows"]) == 1 and saved["so_far"]["batches"] == 3
    assert together(train_and_note, tmp_path) == [0, 0]
    found, alone = checkpoint.load(tmp_path / "end0.pt"), training()
    np.testing.assert_allclose(found["losses"], alone.losses[9:], rtol=0, atol=1e-5)
    assert found["row"]["train_loss"] == pytest.approx(alone.history.last["train_loss"], abs=1e-5)


def test_a_process_that_dies_takes_the_other_with_it(together, tmp_path):
    first, second = together(train_and_die, tmp_path, patience=60)
    assert second == 3 and first not in (0, None)


# --- torchrun -------------------------------------------------------------------------------------

SCRIPT = """
import sys
from dataclasses import replace

from course_lib import train
from course_lib.data import toy_shapes
from course_lib.experiments import DATASETS, RECIPES, Recipe, price


def drawn(split, *, profile, held_out=25):
    return replace(toy_shapes(split, count=60, size=32), is_real=True)


RECIPES["tiny"] = Recipe("tiny", "", sizes=(16, 16), batch_size=30, model="resnet20")
DATASETS["tiny_imagenet"] = drawn
price.reference_rate = lambda rt: 50.0
sys.exit(train.main(sys.argv[1:]))
"""


def torchrun(tmp_path, *arguments, processes=2):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {
        "COURSE_DATA": str(tmp_path),
        "GLOO_SOCKET_IFNAME": "lo",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            str(tmp_path / "script.py"),
            *arguments,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_torchrun_leaves_one_record_that_says_how_many_processes_ran(tmp_path):
    done = torchrun(tmp_path, "tiny", "--profile", "cpu", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "tiny" / "cpu-seed0.json").read_text())
    assert found["processes"] == 2 and found["reference_rate"] == 100, "both together"
    assert (
        done.stdout.count("epoch  2/2") == 1 and done.stdout.count("official validation set") == 1
    )
    assert sorted(path.suffix for path in (tmp_path / "runs").iterdir()) == [
        ".json",
        ".json",
        ".lock",
        ".pt",
    ]


def test_a_process_without_a_gpu_of_its_own_is_told_how_many_there_are(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(processes, "usable_gpu", lambda: (True, "a card"))
    with (
        pytest.raises(CourseError, match="more processes than GPUs: start at most 1"),
        processes.together(),
    ):
        pass


def test_a_batch_that_cannot_be_shared_out_evenly_is_an_error_with_a_cure(monkeypatch):
    from course_lib.experiments.run import _shared

    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(
        CourseError, match="batch size 20 cannot be shared out evenly to 3 processes"
    ):
        _shared(BatchLoader(toy_shapes("train", size=16, count=40), 20))


def test_alone_everything_passes_through():
    sums = torch.tensor([1.0, 2.0])
    assert processes.count() == 1 and processes.rank() == 0 and processes.total(sums) is sums
    assert processes.agree(torch.tensor(0.5), False) == (0.5, False) and processes.gather(
        {"a": 1}
    ) == [{"a": 1}]
    model = no_norm()
    assert processes.network(model, False, print) is model
    with processes.together():
        assert processes.count() == 1
    assert Trainer(model, None, None, Precision(torch.device("cpu"))).network is model
