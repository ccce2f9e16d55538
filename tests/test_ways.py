"""``tests/platforms/ways.py``: a lone notebook, in each way in which a reader gets the course."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import addresses
from course_lib.experiments import record as records
from course_lib.report.tables import table

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT / "tests" / "platforms"))
import drift  # noqa: E402
import ways  # noqa: E402

ABOUT = {"date": "2026-05-14", "source": "a log"}
VERSIONS = dict.fromkeys(("python", *drift.SHOWN), "1.0")


def own_root(*more: str) -> list[str]:
    return ["unshare", "--user", "--map-root-user", "--mount", "--net", *more]


def has_name_spaces() -> bool:
    try:
        made = subprocess.run(own_root("mount", "-t", "tmpfs", "none", "/mnt"), capture_output=True)
    except FileNotFoundError:
        return False
    return made.returncode == 0


needs_name_spaces = pytest.mark.skipif(not has_name_spaces(), reason="needs Linux's unshare")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``machine(platform, way)``: it has a course with one notebook, and a data set."""
    (tmp_path / "data" / ways.SETS[0]).mkdir(parents=True)
    (tmp_path / "data" / ways.SETS[1]).mkdir()

    checkout = tmp_path / "a course"
    (checkout / "notebooks").mkdir(parents=True)
    (checkout / "course_lib").mkdir()
    (checkout / "course_lib" / "__init__.py").touch()
    (checkout / "notebooks" / "01_one.ipynb").write_text(addresses.CLONE)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(checkout)]
    for step in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *step], check=True)

    monkeypatch.setattr(ways, "change_packages", lambda python, install: None)
    monkeypatch.setattr(drift, "REPO", checkout)
    published = ways.publish(tmp_path)

    def make(platform, way):
        home = tmp_path / platform
        made = ways.Machine(platform, way, home, sys.executable, published, tmp_path / "data")
        made.begin()
        return made

    return make


def told(machine, script: str) -> list[str]:
    """The lines that it prints there."""
    done = subprocess.run(
        machine.entered(["sh", "-c", script]),
        env=machine.environment(),
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_name_spaces
@pytest.mark.parametrize("platform, folder", ways.HOMES.items())
def test_the_notebook_lies_alone_in_the_platforms_folder_and_can_fetch_the_course(
    machine, platform, folder
):
    alone = machine(platform, "cloned")
    fetch = f"git clone -q --depth 1 -b {addresses.TAG} https://github.com/{ways.FORK} course"
    seen = told(alone, f"pwd; ls; {fetch}; ls course")
    assert seen == [folder, "01_one.ipynb", "course_lib", "notebooks"]
    assert not Path(folder).exists(), "nothing stays on this machine"

    again = machine(platform, "again")
    assert "course" in told(again, "ls"), "a restart finds what was fetched"
    seen = told(again, f"rm -r course; {fetch} 2>&1 || ls")
    assert "unable to access" in " ".join(seen) and "course" not in seen, "and can fetch nothing"
    assert "course" not in told(machine(platform, "cloned"), "ls"), "and a new session does not"


@needs_name_spaces
@pytest.mark.parametrize("way, below", [("old", ""), ("new", "datasets/someone/")])
def test_inputs_can_be_read_and_not_written_and_there_is_no_network(machine, way, below):
    attached = machine("kaggle", way) if way == "old" else None
    attached = attached or (machine("kaggle", "old"), machine("kaggle", way))[1]
    course = f"/kaggle/input/{below}vision-course/vision-course-0.1.0"
    data = f"/kaggle/input/{below}tiny/tiny-imagenet-200/tiny-imagenet-200"
    written = f"for each in {course} {data} /kaggle/input .; do touch $each/x && echo $each; done"
    seen = told(attached, f"{written}; ls {course}; ip -o link | wc -l")
    assert seen == [".", "course_lib", "notebooks", "1"]


def test_its_variables_are_the_platforms(machine, monkeypatch):
    for name in ("COURSE_PROFILE", "COURSE_DATA", "KAGGLE_KERNEL_RUN_TYPE", "PYTHONPATH"):
        monkeypatch.setenv(name, "x")
    there = machine("colab", "cloned").environment()
    assert "COLAB_RELEASE_TAG" in there
    assert not any(name.startswith(("COURSE_", "KAGGLE_", "PYTHON")) for name in there)
    assert "KAGGLE_KERNEL_RUN_TYPE" in machine("colab", "old").environment(), "inputs are Kaggle's"


@needs_name_spaces
def test_data_that_cannot_be_attached_are_named_before_anything_runs(tmp_path, capsys):
    (tmp_path / ways.SETS[0]).mkdir()
    with pytest.raises(SystemExit):
        ways.main(["kaggle", "--data", str(tmp_path)])
    assert f"lacks {ways.SETS[1]}" in capsys.readouterr().err


def test_the_ways_that_attach_data_ask_for_its_folder(capsys):
    with pytest.raises(SystemExit):
        ways.main(["kaggle", "--way", "old"])
    assert "--data" in capsys.readouterr().err


# --- what is remembered ---------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(drift, "RECORD", tmp_path / "platforms.json")
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return lambda: json.loads(drift.RECORD.read_text())


def test_a_notebook_that_stops_is_no_longer_among_those_that_reached_their_end(record):
    for notebook, failure in (("01_one", ""), ("02_two", ""), ("01_one", "cell 3 of 9 failed: x")):
        ways.note("kaggle", ABOUT, VERSIONS, "old", notebook, 60, failure)
    assert record()["kaggle"]["ways"]["old"]["seconds"] == {"02_two": 60}


def test_what_was_seen_on_an_older_list_is_forgotten(record):
    ways.note("kaggle", ABOUT, VERSIONS, "old", "01_one", 60, "")
    drift.write_record("kaggle", ABOUT, VERSIONS, minutes={"01_one": 1.0})
    assert {"minutes", "ways", "verified"} <= record()["kaggle"].keys()

    ways.note("kaggle", ABOUT | {"date": "2026-11-01"}, VERSIONS, "new", "01_one", 60, "")
    assert record()["kaggle"]["ways"].keys() == {"new"} and "minutes" not in record()["kaggle"]


def test_the_table_names_the_notebooks_of_each_way(record):
    assert table("ways") == "Not verified yet: `make drift`."
    for number in (1, 2, 3, 5):
        ways.note("kaggle", ABOUT, VERSIONS, "old", f"0{number}_name", 60, "")
    head, _, row = table("ways").splitlines()
    assert row.startswith("| Kaggle |") and "1 to 3, 5" in row and "| – |" in row
