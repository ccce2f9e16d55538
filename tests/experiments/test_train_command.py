"""``python -m course_lib.train``: what it takes, what it prints and what it writes."""

import argparse
import errno
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from made_up import record
from small import TINY, check_record, check_sweep, running
from torch import nn

from course_lib import files, runtime
from course_lib import train as command
from course_lib.experiments import GRID, RECIPES, STUDIES, SWEEPS, TRIALS, Recipe, Run, Sweep
from course_lib.experiments.recipe import trial
from course_lib.files import CourseError
from course_lib.localize import main as localize
from course_lib.publish import main as publish
from course_lib.report.pages import main as report
from course_lib.runtime import Runtime
from course_lib.training import Trainer

pytestmark = pytest.mark.usefixtures("world")

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def tiny(monkeypatch):
    """A recipe and a trial of it that the command knows, quick in smoke too."""
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    monkeypatch.setitem(TRIALS, "tiny.slow", trial(TINY, "slow", "a lower rate", lr=0.01))
    monkeypatch.setattr(Recipe, "for_smoke", lambda self: self)


@pytest.fixture
def here(real, tiny, monkeypatch):
    """The command on a machine in the profile cpu, with pictures that pass for real."""
    monkeypatch.setattr(runtime, "setup", lambda profile, seed: replace(real.rt, seed=seed))
    return real


# --- what it takes --------------------------------------------------------------------------------


def test_without_a_recipe_the_command_lists_them_all(capsys):
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    every = RECIPES | TRIALS | STUDIES | GRID | SWEEPS
    assert [line.split()[0] for line in lines] == list(every)
    assert all(recipe.about in line for recipe, line in zip(every.values(), lines, strict=True))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["tiny_imagent"], "nearest names are tiny_imagenet"),
        (["tiny_imagenet", "--profile", "gpu"], "no CUDA GPU"),
    ],
)
def test_a_wrong_wish_ends_with_code_1_and_one_line(capsys, arguments, said):
    assert command.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "main, order",
    [
        (command.main, ["tiny_imagenet"]),
        (publish, ["tiny_imagenet"]),
        (localize, ["--only", "toy_shapes"]),
    ],
    ids=["train", "publish", "localize"],
)
@pytest.mark.parametrize("seed", ["-1", "1.5", "x", "", "9223372036854775808"])
def test_a_seed_that_is_none_is_refused_with_the_range(capsys, main, order, seed):
    with pytest.raises(SystemExit):
        main([*order, "--seed", seed])
    assert f"'{seed}' is not a whole number from 0 to 2^63 - 1" in capsys.readouterr().err


def test_an_unknown_profile_in_the_variable_ends_with_code_1(capsys, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    assert command.main(["tiny_imagenet"]) == 1
    assert "smoke, cpu, gpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    "main, options",
    [
        (
            command.main,
            ["recipe", "--profile", "--seed", "--out", "--resume", "--price", "--tensorboard"],
        ),
        (report, ["--check"]),
    ],
)
def test_help_mentions_every_option(capsys, monkeypatch, main, options):
    made = []
    add = argparse.ArgumentParser.add_argument
    monkeypatch.setattr(
        argparse.ArgumentParser,
        "add_argument",
        lambda self, *names, **more: made.append(names[-1]) or add(self, *names, **more),
    )
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0

    said = capsys.readouterr().out
    assert set(made) - {"--help"} == set(options) and all(name in said for name in made)


@pytest.mark.parametrize(
    "argument, resume", [([], True), (["--resume"], True), (["--no-resume"], False)]
)
def test_the_command_goes_on_unless_told_not_to(monkeypatch, argument, resume):
    run = Mock(return_value=Run(nn.Identity(), None, record()))
    monkeypatch.setattr(command, "run", run)

    asked = ["tiny_imagenet", "--profile", "smoke", "--tensorboard", "curves", *argument]
    assert command.main(asked) == 0
    assert run.call_args.kwargs == {
        "resume": resume,
        "tensorboard": Path("curves"),
        "priced": True,
    }


@pytest.mark.parametrize(
    "message, said",
    [("stopped after batch 3; run again", "stopped after batch 3; run again"), ("", "stopped")],
)
def test_ctrl_c_ends_the_command_with_code_130_and_a_word(monkeypatch, capsys, message, said):
    stop = KeyboardInterrupt(*filter(None, [message]))
    monkeypatch.setattr(command, "run", Mock(side_effect=stop))
    assert command.main(["tiny_imagenet", "--profile", "smoke"]) == 130
    assert capsys.readouterr().err.strip() == said


# --- what it writes -------------------------------------------------------------------------------


def test_the_command_trains_prints_the_result_and_writes_the_record_where_it_was_asked_to(
    here, tmp_path, capsys
):
    out = tmp_path / "out"
    assert command.main(["tiny", "--seed", "5", "--out", str(out)]) == 0
    (path,) = out.rglob("*.json")
    assert path == out / "tiny" / "cpu-seed5.json"

    found = json.loads(path.read_text())
    check_record(found)
    assert found["seed"] == 5

    said = capsys.readouterr().out
    assert "profile cpu" in said and f"top-1 {found['final']['val_top1']:.2%}" in said
    assert f"price {found['seconds'] * 50 / 100_000:.3f}" in said


def test_a_trial_is_judged_on_the_tune_split_and_written_among_the_ablations(
    here, tmp_path, capsys, monkeypatch
):
    looked = Mock(side_effect=AssertionError("official data was looked at"))
    monkeypatch.setattr(running, "_look_once", looked)
    assert command.main(["tiny.slow", "--out", str(tmp_path / "out")]) == 0

    path = tmp_path / "out" / "ablations" / "tiny.slow" / "cpu-seed0.json"
    found = json.loads(path.read_text())
    assert found["final"] is None and found["recipe"] == "tiny.slow"
    tune = found["history"][-1]["val_top1"]
    assert f"tune split, last epoch: top-1 {tune:.2%}" in capsys.readouterr().out


def test_a_sweep_is_written_among_the_sweeps_and_said_rate_by_rate(
    here, tmp_path, capsys, monkeypatch
):
    sweep = Sweep(replace(TINY, name="sweeps.tiny"), (0.01, 0.1), 1e-3, 1.0)
    monkeypatch.setitem(SWEEPS, "sweeps.tiny", sweep)
    assert command.main(["sweeps.tiny", "--seed", "5", "--out", str(tmp_path / "out")]) == 0

    (path,) = (tmp_path / "out").rglob("*.json")
    assert path == tmp_path / "out" / "sweeps" / "sweeps.tiny" / "cpu-seed5.json"
    found = json.loads(path.read_text())
    check_sweep(found)
    assert found["seed"] == 5 and [each["lr"] for each in found["runs"]] == [0.01, 0.1]

    said = capsys.readouterr().out
    top1 = found["runs"][1]["history"][-1]["val_top1"]
    assert "sweeps.tiny: tune split, last epoch, top-1 by peak rate: 0.01: " in said
    assert f"0.1: {top1:.1%}" in said


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_what_was_measured_on_toy_shapes_never_lies_among_results(
    small, tiny, tmp_path, capsys, profile
):
    """The training succeeds, and its numbers are shown; the wish for a record cannot be met."""
    out = tmp_path / "out"
    assert command.main(["tiny", "--profile", profile, "--out", str(out)]) == 1

    said = capsys.readouterr()
    assert "official validation set, last epoch" in said.out and "price" not in said.out
    assert "was not written: these pictures were toy shapes" in said.err
    assert not list(out.rglob("*.json"))


def test_a_smoke_run_of_real_pictures_is_written_and_says_what_it_is(
    real, tiny, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    assert command.main(["tiny", "--profile", "smoke", "--out", str(out)]) == 0
    found = json.loads((out / "tiny" / "smoke-seed0.json").read_text())
    assert found["profile"] == "smoke" and found["is_real"] and found["reference_rate"] is None


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(command, "run", Mock(side_effect=AssertionError("it was trained")))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("option", ["out", "out/a/b", "out/tiny"])
def test_a_folder_that_cannot_be_written_is_told_before_the_training(
    here, tmp_path, capsys, option
):
    """A file stands where the folder, its parent or the recipe's own should be."""
    (tmp_path / "out").write_text("a file")
    asked = tmp_path / option
    if option == "out/tiny":
        (tmp_path / "out").unlink()
        (tmp_path / "out").mkdir()
        asked.write_text("a file")
        asked = asked.parent

    assert command.main(["tiny", "--out", str(asked)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: cannot write to {asked / 'tiny'}: ") and error.count("\n") == 1


def test_a_folder_for_curves_that_cannot_be_written_is_told_before_the_training(
    here, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=AssertionError("it was trained")))
    (tmp_path / "curves").write_text("a file")
    assert command.main(["tiny", "--tensorboard", str(tmp_path / "curves")]) == 1
    assert "error: cannot write TensorBoard's curves to" in capsys.readouterr().err


def test_curves_for_which_the_disk_has_no_room_end_in_a_sentence_and_the_training_is_kept(
    here, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("torch.utils.tensorboard")
    with monkeypatch.context() as context:
        context.setattr("torch.utils.tensorboard.SummaryWriter.flush", Mock(side_effect=FULL))
        assert command.main(["tiny", "--tensorboard", str(tmp_path / "curves")]) == 1
    assert "tiny-seed0 (No space left on device). Make room" in capsys.readouterr().err

    assert command.main(["tiny"]) == 0
    assert "going on after epoch 1" in capsys.readouterr().out


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    "change, said",
    [({"device": "a phone"}, "a phone; processes: 1"), ({"processes": 2}, "processes: 2")],
)
def test_a_record_of_another_machine_is_told_before_the_training_and_stays(
    here, tmp_path, capsys, change, said
):
    path = tmp_path / "out" / "tiny" / "cpu-seed0.json"
    files.write_json(path, record(device=here.rt.machine) | change)
    kept = path.read_text()

    assert command.main(["tiny", "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err and path.read_text() == kept


def test_a_record_of_this_machine_under_its_older_name_is_written_anew(here, tmp_path, monkeypatch):
    """Older ones say "1 threads"."""
    monkeypatch.setattr(Runtime, "machine", property(lambda self: "a laptop, 1 thread"))
    path = tmp_path / "out" / "tiny" / "cpu-seed0.json"
    files.write_json(path, record(device="a laptop, 1 threads"))

    assert command.main(["tiny", "--out", str(tmp_path / "out")]) == 0
    assert json.loads(path.read_text())["device"] == "a laptop, 1 thread"


def test_for_a_record_that_cannot_be_written_the_training_is_kept_and_that_is_said(
    here, tmp_path, capsys, monkeypatch
):
    write = command.write_json

    def refused(path, *content):
        monkeypatch.setattr(files.os, "replace", Mock(side_effect=FULL))
        write(path, *content)

    with monkeypatch.context() as context:
        context.setattr(command, "write_json", refused)
        assert command.main(["tiny", "--out", str(tmp_path / "out")]) == 1
    assert "run again: the training itself is kept." in capsys.readouterr().err


def test_a_record_that_cannot_be_written_is_an_error_that_leaves_the_older_one(
    tmp_path, monkeypatch
):
    path = tmp_path / "results" / "tiny" / "cpu-seed0.json"
    files.write_json(path, {"seed": 1})

    with monkeypatch.context() as context:
        context.setattr(files.os, "replace", Mock(side_effect=FULL))
        with pytest.raises(CourseError, match="No space left on device") as caught:
            files.write_json(path, {"seed": 2})

    assert str(path) in str(caught.value)
    assert json.loads(path.read_text()) == {"seed": 1} and list(path.parent.iterdir()) == [path]
