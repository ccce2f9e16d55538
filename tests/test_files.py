"""Files: whole or not at all, patience on Windows, and errors that name the file."""

import errno
import os
import re
import shutil
import subprocess
import sys
from unittest.mock import Mock

import pytest

from course_lib import files
from course_lib.files import CourseError, DataError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- whole or not at all ------------------------------------------------------------------------


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "result.json"
    with files.written_whole(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        aside.write_text("whole")

    assert path.read_text() == "whole"
    assert names(path.parent) == ["result.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside(tmp_path, error):
    path = tmp_path / "result.json"
    path.write_text("old")

    with pytest.raises(error):
        with files.written_whole(path) as aside:
            aside.write_text("half")
            raise error

    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


@pytest.mark.skipif(os.name == "nt", reason="on Windows nobody may ask whether a process runs")
def test_what_a_killed_process_left_is_swept_away_and_a_living_ones_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = os.getppid()
    for process in (dead.pid, alive):
        (tmp_path / f"result.json.partial-{process}").touch()
    (tmp_path / f"other.json.partial-{dead.pid}").touch()

    files.write_json(tmp_path / "result.json", {})
    assert names(tmp_path) == [
        f"other.json.partial-{dead.pid}",
        "result.json",
        f"result.json.partial-{alive}",
    ]


def test_what_was_written_is_read_and_what_cannot_be_read_is_empty(tmp_path):
    path = tmp_path / "record.json"
    assert files.read_json(path) == {}

    files.write_json(path, {"top1": 0.5, "device": "µ"})
    assert files.read_json(path) == {"top1": 0.5, "device": "µ"}

    for broken in ('{"top1": 0.', "[1, 2]"):
        path.write_text(broken)
        assert files.read_json(path) == {}


def test_a_disk_that_refuses_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "record.json"  # a file is no folder
    with pytest.raises(CourseError, match=r"cannot write .*record\.json .*Make room"):
        files.write_json(path, {})


@pytest.mark.parametrize(
    "kept, end", [("", "run again."), ("the rest is kept", "the rest is kept.")]
)
def test_a_disk_that_refuses_tells_what_is_kept_where_something_is(tmp_path, kept, end):
    (tmp_path / "file").touch()
    with pytest.raises(CourseError) as caught:
        files.write_json(tmp_path / "file" / "record.json", {}, kept)
    assert str(caught.value).endswith(end)


# --- disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "free, words",
    [
        (60e6, "needs 11 MB .* 60 are free, but no more files fit .*inodes"),
        (5e6, ".* 5 are free. Make"),
    ],
)
def test_a_disk_that_is_full_of_files_is_told_from_one_that_is_full_of_bytes(
    tmp_path, monkeypatch, free, words
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage._replace(free=free))
    said = files.full_disk("the set", tmp_path, 11e6)
    assert re.search(f"disk is full: the set {words}.*COURSE_DATA", said)
    assert str(tmp_path) in said


def test_a_refusal_is_told_with_the_file_where_there_is_one():
    assert files.reason(OSError(errno.EIO, "Input/output error", "/x/y")) == (
        "Input/output error: /x/y"
    )
    assert files.reason(OSError(errno.EIO, "Input/output error")) == "Input/output error"
    assert files.reason(OSError("odd")) == "odd"


@pytest.mark.parametrize(
    "error, line",
    [
        (RuntimeError("\nout of memory\nat 0x7f"), "out of memory"),
        (RuntimeError("one line"), "one line"),
        (OSError(), "OSError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_an_error_is_told_in_one_line_even_where_it_says_nothing(error, line):
    assert files.first_line(error) == line


def test_a_link_to_nothing_is_refused_and_others_are_not(tmp_path):
    (tmp_path / "there").touch()
    for name, target in (("whole", "there"), ("broken", "gone")):
        (tmp_path / name).symlink_to(tmp_path / target)

    for fine in ("there", "whole", "nothing"):
        files.refuse_dangling(tmp_path / fine)
    with pytest.raises(DataError, match=f"broken is a link to {tmp_path / 'gone'}, .* not there"):
        files.refuse_dangling(tmp_path / "broken")


# --- where things lie ---------------------------------------------------------------------------


@pytest.mark.parametrize("works_in", ["", "notebooks", "tests/notebooks"])
def test_a_relative_course_data_is_one_folder_in_a_shell_and_in_a_notebook(
    tmp_path, monkeypatch, works_in
):
    """``make run`` is given it in the repository, and its kernels work in notebooks/."""
    repo = tmp_path / "repo"
    for folder in ("sets", works_in, f"{works_in}/sets"):
        (repo / folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(files, "REPO", repo)
    monkeypatch.setenv("COURSE_DATA", "sets")
    monkeypatch.chdir(repo / works_in)
    assert files.search_roots()[0] == files.data_home() == repo / "sets"


def test_elsewhere_a_relative_course_data_counts_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "sets").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", "sets")
    assert files.search_roots()[0] == tmp_path / "sets"


def test_a_course_data_that_is_not_there_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", "stes")
    with pytest.raises(DataError, match=f"COURSE_DATA is 'stes', but {tmp_path / 'stes'} is no"):
        files.search_roots()


# --- Windows ------------------------------------------------------------------------------------

REFUSED = PermissionError(13, "Access is denied")


@pytest.fixture
def replace(monkeypatch):
    """In place of os.replace; a second passes between two tries."""
    clock = iter(range(100))
    monkeypatch.setattr(files.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)

    mock = Mock()
    monkeypatch.setattr(files.os, "replace", mock)
    return mock


def test_windows_is_asked_again_while_a_scanner_holds_a_file(monkeypatch, replace, tmp_path):
    monkeypatch.setattr(files, "WINDOWS", True)
    replace.side_effect = [REFUSED, REFUSED, REFUSED, None]
    files.move_into_place(tmp_path / "aside", tmp_path / "there")
    assert replace.call_count == 4


def test_windows_is_given_up_on_after_ten_seconds(monkeypatch, replace, tmp_path):
    monkeypatch.setattr(files, "WINDOWS", True)
    replace.side_effect = REFUSED
    with pytest.raises(PermissionError):
        files.move_into_place(tmp_path / "aside", tmp_path / "there")
    assert replace.call_count == 10


def test_elsewhere_a_refusal_is_one(monkeypatch, replace, tmp_path):
    monkeypatch.setattr(files, "WINDOWS", False)
    replace.side_effect = REFUSED
    with pytest.raises(PermissionError):
        files.move_into_place(tmp_path / "aside", tmp_path / "there")
    assert replace.call_count == 1
