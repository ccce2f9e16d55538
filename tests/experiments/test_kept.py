"""What a run keeps: interrupted it goes on, finished it is reused, changed it is another."""

import json
import re
import subprocess
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from filelock import FileLock
from made_up import commit_results, record
from small import STEPS, TINY, SmallNet, count_steps, running

from course_lib.data import Augment
from course_lib.experiments import price, run
from course_lib.experiments import record as records
from course_lib.experiments.kept import Kept
from course_lib.files import CourseError
from course_lib.runtime import Runtime
from course_lib.training import Extras, Trainer


def as_from_json(record):
    return json.loads(json.dumps(record))


def no_step(monkeypatch):
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=AssertionError("a step was trained")))


def stop_at_step(number, monkeypatch, real):
    step, steps = Trainer.step, []

    def interrupted(self, *batch):
        steps.append(1)
        if len(steps) == number:
            raise KeyboardInterrupt
        return step(self, *batch)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(TINY, real.rt)


IN_THE_SECOND_EPOCH = STEPS // 2 + 2


# --- a finished run -------------------------------------------------------------------------------


def test_a_run_on_real_pictures_keeps_checkpoint_and_record_and_prints_its_forecast(real, capsys):
    found = run(TINY, real.rt, seed=4)
    paths = {path.name.partition(".")[2]: path for path in real.folder.glob("tiny-cpu-seed4-*")}
    assert set(paths) == {"pt", "json", "rate.json", "lock"}

    kept = json.loads(paths["json"].read_text())
    assert kept == as_from_json(found.record)
    assert kept["is_real"] and kept["reference_rate"] == 50
    assert found.price == pytest.approx(kept["seconds"] * 50 / 100_000)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny: no run measured yet") and "epoch  2/2" in lines[-1]


def test_a_finished_run_is_reused_as_it_was_without_timing_training_or_looking_again(
    real, monkeypatch, capsys
):
    first = run(TINY, real.rt)
    timings = real.timed.call_count

    no_step(monkeypatch)
    looked = Mock(side_effect=AssertionError("official data was looked at again"))
    monkeypatch.setattr(running, "_look_once", looked)
    monkeypatch.setattr(records, "commit", lambda: "another revision")

    again = run(TINY, real.rt)
    assert real.timed.call_count == timings
    assert again.record == as_from_json(first.record)
    assert "already finished" in capsys.readouterr().out

    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize("ending", ["json", "rate.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_damaged_note_is_written_again_and_costs_no_training(real, monkeypatch, ending, content):
    first = run(TINY, real.rt).record
    (path,) = [each for each in real.folder.iterdir() if each.name.partition(".")[2] == ending]
    path.write_text(content)

    no_step(monkeypatch)
    again = run(TINY, real.rt).record
    assert again["history"] == first["history"] and again["final"] == first["final"]
    assert again["reference_rate"] == 50


def test_without_resume_it_is_timed_trained_and_looked_at_again(real):
    run(TINY, real.rt)
    timings = real.timed.call_count
    again = run(TINY, real.rt, resume=False)
    assert real.timed.call_count == 2 * timings and again.record["epochs"] == 2


def test_a_new_start_that_dies_at_once_leaves_nothing_of_the_old_run(real, monkeypatch):
    run(TINY, real.rt)
    with monkeypatch.context() as context:
        context.setattr(Trainer, "step", Mock(side_effect=RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            run(TINY, real.rt, resume=False)

    real.timed.return_value = 20.0
    steps = count_steps(monkeypatch)
    rates = run(TINY, real.rt).record["reference_rates"]
    assert rates == [50, 20], "the first was timed when the new run began"
    assert len(steps) == STEPS, "two epochs from the start"


# --- an interrupted run ---------------------------------------------------------------------------


def test_a_run_without_a_price_is_told_what_it_took_elsewhere(real, capsys):
    commit_results("tiny", record(seconds=600))
    found = run(TINY, real.rt, priced=False)
    assert "tiny: took 10 minutes at best on a laptop" in capsys.readouterr().out
    assert found.price is None and found.record["reference_rates"] is None
    assert real.timed.call_count == 0


def test_an_interrupted_run_goes_on_with_the_rate_that_was_timed_first(real, monkeypatch):
    stop_at_step(IN_THE_SECOND_EPOCH, monkeypatch, real)

    real.timed.return_value = 20.0
    steps = count_steps(monkeypatch)
    found = run(TINY, real.rt).record
    assert found["reference_rates"] == [50, 20] and real.timed.call_count == 2
    assert len(steps) == STEPS // 2, "the first epoch was not trained again"


def test_a_run_without_its_old_checkpoint_that_was_stopped_and_goes_on_has_a_record_of_its_own(
    real, monkeypatch
):
    """The record of the run before it must not be taken for its own."""
    run(TINY, real.rt)
    for checkpoint in real.folder.glob("*.pt"):
        checkpoint.unlink()  # as a message advises where it cannot be read

    stop_at_step(IN_THE_SECOND_EPOCH, monkeypatch, real)
    real.timed.return_value = 20.0
    found = run(TINY, real.rt).record
    assert found["reference_rates"] == [50, 20] and len(found["history"]) == 2


def test_a_run_that_goes_on_elsewhere_has_no_price_and_says_so(real, monkeypatch, capsys):
    """Its seconds are those of two machines. A finished one is reused with the price it had."""
    stop_at_step(IN_THE_SECOND_EPOCH, monkeypatch, real)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(Runtime, "machine", property(lambda self: "another machine"))
        assert run(TINY, real.rt).price is None and real.timed.call_count == 1
        assert "begun on another machine" in capsys.readouterr().out

    whole = run(TINY, real.rt, seed=1).price
    monkeypatch.setattr(Runtime, "machine", property(lambda self: "another machine"))
    assert run(TINY, real.rt, seed=1).price == whole
    assert "begun" not in capsys.readouterr().out


def test_a_run_goes_on_where_it_was_begun_under_the_older_name_of_the_machine(
    real, monkeypatch, capsys
):
    """Older code said "1 threads"."""
    monkeypatch.setattr(Runtime, "machine", property(lambda self: "a laptop, 1 threads"))
    stop_at_step(IN_THE_SECOND_EPOCH, monkeypatch, real)

    monkeypatch.setattr(Runtime, "machine", property(lambda self: "a laptop, 1 thread"))
    assert run(TINY, real.rt).price is not None
    assert "begun on another machine" not in capsys.readouterr().out


def test_the_timing_changes_no_number_of_the_training(real):
    """Killed in its first epoch, a run has its rate but no checkpoint: it is not timed again."""
    mixed = replace(TINY, sizes=(16,), extras=Extras(mixup=0.5))
    price.reference_rate.side_effect = lambda rt: float(torch.rand(1)) + 50

    first = run(mixed, real.rt)
    next(real.folder.glob("*.pt")).unlink()
    again = run(mixed, real.rt)

    assert again.history.last["train_loss"] == first.history.last["train_loss"]
    assert again.record["reference_rates"][0] == first.record["reference_rates"][0]


# --- other settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.1},
        {"sizes": (16, 24)},
        {"batch_size": 64},
        {"label_smoothing": 0.0},
        {"schedule": "cosine"},
        {"warm_up": 0.4},
        {"whiten": True},
        {"bias_lr": 4.0},
        {"model_options": {"logit_scale": 0.5, "width": 8}},
        {"model_options": {}},
        {"augment": Augment(pad=0)},
        {"extras": Extras(clip_norm=0.1)},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_recipe_that_was_changed_is_another_run_and_the_old_one_stays(real, change, monkeypatch):
    first = run(TINY, real.rt)
    other = run(replace(TINY, **change), real.rt)
    assert other.history.last["train_loss"] != first.history.last["train_loss"]

    no_step(monkeypatch)
    assert run(TINY, real.rt).record == as_from_json(first.record)


def test_a_default_that_changed_since_is_another_run_and_that_is_said(real, monkeypatch, capsys):
    """Of the network here; tests/experiments/test_recipes.py goes through every kind."""
    run(TINY, real.rt)
    (old,) = real.folder.glob("*.pt")
    content = old.read_bytes()
    capsys.readouterr()

    monkeypatch.setitem(SmallNet.__init__.__kwdefaults__, "width", 8)
    steps = count_steps(monkeypatch)
    run(TINY, real.rt)

    assert len(steps) == STEPS, "trained from the start"
    said = re.findall(f"^.*{old.name}.*$", capsys.readouterr().out, re.MULTILINE)
    assert len(said) == 1 and "other settings, or by older code, and stays as it is" in said[0]
    assert old.read_bytes() == content

    run(TINY, real.rt)
    assert "other settings" not in capsys.readouterr().out, "this one is finished now, and reused"


def test_a_run_that_older_code_left_is_named_and_stays_as_it_is(real, capsys):
    real.folder.mkdir()
    old = real.folder / "tiny-cpu-seed0-0abcde.pt"
    old.write_text("whatever it held")
    other_seed = real.folder / "tiny-cpu-seed01-0abcde.pt"
    other_seed.write_text("no business of this run")

    run(TINY, real.rt)
    said = capsys.readouterr().out
    assert f"{old.name} was made with other settings" in said and other_seed.name not in said
    assert old.read_text() == "whatever it held"


def test_another_description_is_no_other_recipe(real, monkeypatch):
    run(TINY, real.rt)
    no_step(monkeypatch)
    run(replace(TINY, about="the same in other words"), real.rt)


# --- the folder -----------------------------------------------------------------------------------


def test_two_processes_do_not_train_the_same_run(real):
    run(TINY, real.rt)
    lock = Kept(real.folder, TINY, real.rt).lock
    with (
        FileLock(lock),
        pytest.raises(CourseError, match="another process is training tiny-cpu-seed0"),
    ):
        run(TINY, real.rt)

    assert run(TINY, real.rt).record["epochs"] == 2, "once it is over, the next may"


def test_folders_may_be_given_as_text(real, tmp_path):
    pytest.importorskip("torch.utils.tensorboard")
    (tmp_path / "here").mkdir()
    run(TINY, real.rt, folder=str(tmp_path / "here"), tensorboard=str(tmp_path / "curves"))
    assert list((tmp_path / "here").glob("tiny-*.pt")) and list(tmp_path.glob("curves/*/*"))


def test_a_folder_whose_drive_is_not_there_is_not_made_in_its_place(real, tmp_path):
    with pytest.raises(
        CourseError, match="cannot write to .*no drive/runs .*make that folder, or choose another"
    ):
        run(TINY, real.rt, folder=tmp_path / "no drive" / "runs")
    assert not (tmp_path / "no drive").exists()


# --- the revision ---------------------------------------------------------------------------------


def test_installed_in_somebody_elses_project_the_course_tells_no_revision(tmp_path, monkeypatch):
    """As in a virtual environment inside it: git looks in the folders above, too."""
    git = ["git", "-c", "user.name=somebody", "-c", "user.email=s@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)

    monkeypatch.setattr(records, "REPO", tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", records.commit())

    installed = tmp_path / "env" / "site-packages"
    installed.mkdir(parents=True)
    monkeypatch.setattr(records, "REPO", installed)
    assert records.commit() is None
