"""Kill -9 and full disks: a training that goes on ends like the one left alone, to the last bit.

Every training here runs in a process of its own. The default run kills a few; ``-m slow`` kills
each ten times.
"""

import functools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import rows, small_net

from course_lib.data import AlbumentationsLoader, BatchLoader, pipelines, toy_shapes
from course_lib.runtime import seed_everything
from course_lib.training import (
    Callbacks,
    Checkpoint,
    CheckpointError,
    Extras,
    checkpoint,
    fit,
    optim,
    schedules,
)

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="a signal that cannot be caught is POSIX"
)
EPOCHS = 4


def whole_batches(store):
    return BatchLoader(store, 20, seed=3)


def albumentations(store, workers):
    pipeline = pipelines.pad_crop_flip(16, 2)
    return AlbumentationsLoader(store, pipeline, 20, seed=3, workers=workers)


LOADERS = {
    "whole batches": whole_batches,
    "albumentations, 0 workers": functools.partial(albumentations, workers=0),
    "albumentations, 2 workers": functools.partial(albumentations, workers=2),
}


def toy_run(folder: Path, kind: str, damage=None) -> None:
    """Four epochs with all that a checkpoint has to hold; the end lies in ``end.pt``."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # workers need not import all again
    seed_everything(os.getpid())  # nothing may depend on where a process begins but the weights

    loader = LOADERS[kind](toy_shapes("train", size=16, count=120))
    val_loader = BatchLoader(toy_shapes("tune", size=16, count=40), 20, augment=False)

    generator = torch.Generator().manual_seed(5)
    model = small_net(dropout=0.3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 5)

    if not (folder / "training.pt").exists():
        seed_everything(7)  # as a run begins
    if damage:
        damage(folder)

    optimizer = optim.sgd(model, 0.1)
    (folder / "started").touch()
    history = fit(
        model,
        loader,
        val_loader,
        sizes=(16, 16, 12, 16),
        optimizer=optimizer,
        scheduler=schedules.cosine(optimizer, EPOCHS, len(loader), warm_up=1),
        extras=Extras(averaging=0.9, clip_norm=1.0, mixup=0.2),
        checkpoint=Checkpoint(folder / "training.pt"),
        callbacks=Callbacks(report=lambda line: None),
    )
    end = {"weights": model.state_dict(), "rows": rows(history), "steps": history.steps}
    checkpoint.save(folder / "end.pt", end)


@pytest.fixture(scope="module")
def processes():
    """Processes that have imported everything already, and share nothing else with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["albumentations", "torchvision.transforms.v2", "course_lib.training", "course_lib.data"]
    )
    return context


@pytest.fixture(scope="module")
def run(processes):
    def run(folder, *arguments, kill_after=None, since="started"):
        """``toy_run`` in a process, killed so many seconds after the file ``since`` came to be.

        Returns its exit code.
        """
        process = processes.Process(target=toy_run, args=(folder, *arguments))
        process.start()
        wait_for(folder / (since if kill_after else "started"), process)
        process.join(kill_after)
        process.kill()
        process.join()
        (folder / "started").unlink()
        return process.exitcode

    return run


def wait_for(path, process):
    while not path.exists():
        assert process.is_alive()
        time.sleep(0.001)


def same_end(folder, other):
    first, second = (checkpoint.load(each / "end.pt") for each in (folder, other))
    ours, theirs = first["weights"], second["weights"]
    assert ours.keys() == theirs.keys() and len(first["rows"]) == EPOCHS
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert first["rows"] == second["rows"] and first["steps"] == second["steps"]


@pytest.fixture(scope="module")
def undisturbed(run, tmp_path_factory):
    """The end of a run that nobody disturbs, and the seconds that its training takes."""

    @functools.cache
    def undisturbed(kind):
        folder = tmp_path_factory.mktemp("undisturbed")
        assert run(folder, kind) == 0
        _, *later = checkpoint.load(folder / "training.pt")["history"]["rows"]  # the first is slow
        seconds = np.mean([row["seconds"] + row["eval_seconds"] for row in later])
        return folder, EPOCHS * seconds

    return undisturbed


def kill_and_go_on(run, undisturbed, kind, moments, tmp_path, since="started"):
    """Of each run: killed at a moment (a share of its seconds, from ``since`` on), then run on.

    Returns how many epochs had been saved, of all runs together.
    """
    whole, seconds = undisturbed(kind)
    epochs = 0
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()

        exitcode = None
        while exitcode != -signal.SIGKILL:
            exitcode = run(folder, kind, kill_after=moment * seconds, since=since)
            if exitcode == 0:  # it was over before
                moment *= 0.8
                for left in folder.iterdir():
                    left.unlink()

        saved = checkpoint.load(folder / "training.pt")
        epochs += len(saved["history"]["rows"]) if saved else 0
        assert run(folder, kind) == 0
        same_end(folder, whole)
        assert sorted(path.name for path in folder.iterdir()) == ["end.pt", "training.pt"], (
            "nothing is left lying"
        )
    return epochs


@pytest.mark.parametrize("kind", ["whole batches", "albumentations, 2 workers"])
def test_a_killed_run_ends_like_the_one_that_was_left_alone(run, undisturbed, kind, tmp_path):
    moments = np.random.default_rng(len(kind)).uniform(0.1, 0.7, 1)
    one_epoch_is_over = "training.pt"
    epochs = kill_and_go_on(run, undisturbed, kind, moments, tmp_path, since=one_epoch_is_over)
    assert 0 < epochs < EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOADERS)
def test_ten_kills_at_random_moments_change_nothing(run, undisturbed, kind, tmp_path):
    moments = np.random.default_rng(len(kind)).uniform(0.05, 0.95, 10)
    epochs = kill_and_go_on(run, undisturbed, kind, moments, tmp_path)
    assert 3 < epochs < 33, "in the middle, most of them"


# --- in the middle of a save ----------------------------------------------------------------------


def stall_in_the_third_save(folder):
    """Half of the file is written, and then nothing comes any more."""
    save, calls = torch.save, []

    def stalling(state, file):
        save(state, file)
        calls.append(1)
        if len(calls) == 3:
            file.truncate(file.tell() // 2)
            file.flush()
            (folder / "in the middle").touch()
            time.sleep(60)

    torch.save = stalling


def test_a_kill_in_the_middle_of_a_save_leaves_the_older_checkpoint_and_its_rest_is_swept_away(
    processes, run, undisturbed, tmp_path
):
    kind = "whole batches"
    whole, _ = undisturbed(kind)
    process = processes.Process(target=toy_run, args=(tmp_path, kind, stall_in_the_third_save))
    process.start()
    wait_for(tmp_path / "in the middle", process)
    process.kill()
    process.join()
    (left,) = tmp_path.glob("*.partial-*")
    assert left.stat().st_size > 0
    assert len(checkpoint.load(tmp_path / "training.pt")["history"]["rows"]) == 2
    assert run(tmp_path, kind) == 0
    same_end(tmp_path, whole)
    assert list(tmp_path.glob("*.partial-*")) == []


# --- a full disk ----------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_write_that_the_kernel_refuses_leaves_the_older_checkpoint(tmp_path):
    path = tmp_path / "training.pt"
    checkpoint.save(path, {"epoch": 1})
    (tmp_path / f"training.pt.partial-{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(
        CheckpointError, match="the disk is full; the checkpoint of the epoch before is still there"
    ):
        checkpoint.save(path, {"epoch": 2, "weights": torch.zeros(10_000)})
    assert checkpoint.load(path) == {"epoch": 1} and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_run_on_a_full_disk_goes_on_from_its_last_checkpoint_once_there_is_room(
    small_disk, run, undisturbed
):
    kind = "whole batches"
    whole, _ = undisturbed(kind)
    size = (whole / "training.pt").stat().st_size
    room = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(bytes(room - 3 * size // 2))
    assert run(small_disk, kind) == 1
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "training.pt"]
    assert len(checkpoint.load(small_disk / "training.pt")["history"]["rows"]) == 1
    (small_disk / "ballast").unlink()
    assert run(small_disk, kind) == 0
    same_end(small_disk, whole)
