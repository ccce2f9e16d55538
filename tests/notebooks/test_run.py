"""notebooks/run.py, on notebooks of two or three cells."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import nbformat
import nbformat.v4 as v4
import pytest
from rules import read
from runner import RUN, run

from course_lib.runtime import PROFILES


def make_notebook(folder, name, *sources, tags=()):
    """``tags`` are those of the last cell."""
    cells = [v4.new_code_cell(source) for source in sources]
    cells[-1].metadata["tags"] = list(tags)

    notebook = v4.new_notebook(cells=cells, metadata={"widgets": {}, "accelerator": "GPU"})
    (folder / f"{name}.ipynb").write_text(v4.writes(notebook))


def printed(notebook):
    return "".join(out.text for cell in notebook.cells for out in cell.outputs if "text" in out)


# --- the command --------------------------------------------------------------------------------


def test_the_profiles_are_those_of_the_course():
    assert run.PROFILES == PROFILES


@pytest.mark.parametrize("arguments, environment", [(["--profile", "huge"], ""), ([], "huge")])
def test_an_unknown_profile_is_refused_with_those_that_exist(
    capsys, monkeypatch, arguments, environment
):
    monkeypatch.setenv("COURSE_PROFILE", environment)
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)

    text = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "huge" in text and all(profile in text for profile in PROFILES)


def test_an_unknown_notebook_is_refused_with_those_that_exist(tmp_path):
    make_notebook(tmp_path, "03_some_session", "1")
    for asked in ("9", "some_session", "03_some"):
        with pytest.raises(SystemExit, match=f"no notebook {asked} in .*03_some_session"):
            run.main(["--notebook", asked], folder=tmp_path)


@pytest.mark.parametrize(
    "asked", ["2", "02", "02_second", "02_second.ipynb", "notebooks/02_second.ipynb"]
)
def test_one_notebook_is_chosen_by_its_number_or_name(tmp_path, asked):
    make_notebook(tmp_path, "01_first", "1")
    make_notebook(tmp_path, "02_second", "1")
    assert run.choose(tmp_path, asked) == [tmp_path / "02_second.ipynb"]


# --- before the first cell ----------------------------------------------------------------------


@pytest.fixture
def no_cell(monkeypatch):
    monkeypatch.setattr(run, "execute", Mock(side_effect=AssertionError("a cell was run")))


@pytest.mark.usefixtures("no_cell")
@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_told_before_the_first_cell(tmp_path, out):
    make_notebook(tmp_path, "01_first", "1")
    (tmp_path / "file").write_text("a file stands there")
    with pytest.raises(SystemExit, match=f"cannot write to .*{out} .*--out"):
        run.main(["--out", str(tmp_path / out)], folder=tmp_path)


@pytest.mark.usefixtures("no_cell")
def test_in_place_the_folder_of_the_notebooks_is_tried_too(tmp_path, monkeypatch):
    folder = tmp_path / "read only"
    folder.mkdir()
    make_notebook(folder, "01_first", "1")

    touch = Path.touch

    def refused(path):
        if path.parent == folder:
            raise PermissionError(errno.EACCES, "Permission denied")
        touch(path)

    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(SystemExit, match=r"cannot write to .*read only \(Permission denied\)"):
        run.main(["--out", str(tmp_path / "out"), "--inplace"], folder=folder)


@pytest.mark.usefixtures("no_cell")
@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"nbformat": 9}', b"\xff\xfe"])
def test_a_file_that_is_no_notebook_is_named_before_the_first_cell_of_any(tmp_path, content):
    make_notebook(tmp_path, "01_first", "1")
    bad = tmp_path / "02_bad.ipynb"
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit, match=r"02_bad\.ipynb cannot be read as a notebook \(.+\)"):
        run.main(["--out", str(tmp_path / "out")], folder=tmp_path)


# --- after the last one -------------------------------------------------------------------------


def executed(notebook, folder, profile):
    notebook.cells[0].outputs = [v4.new_output("stream", text="an hour's work\n")]


@pytest.fixture
def full(tmp_path, monkeypatch):
    """A disk without room for what is written below ``tmp_path``, where its notebook lies."""
    make_notebook(tmp_path, "01_first", "1")
    spare = tmp_path.with_name(f"{tmp_path.name} spare")
    spare.mkdir()
    no_room = [tmp_path]

    write = nbformat.write

    def half(notebook, path):
        if any(path.is_relative_to(folder) for folder in no_room):
            path.write_text("half a noteb")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(notebook, path)

    monkeypatch.setattr(run, "execute", executed)
    monkeypatch.setattr(nbformat, "write", half)
    monkeypatch.setattr(run.tempfile, "gettempdir", lambda: str(spare))
    return SimpleNamespace(spare=spare, no_room=no_room)


@pytest.mark.parametrize("inplace", [[], ["--inplace"]])
def test_with_a_full_disk_the_outputs_go_elsewhere_and_the_notebook_stays(
    full, tmp_path, capsys, inplace
):
    before = (tmp_path / "01_first.ipynb").read_text()
    out = tmp_path / "out"
    assert run.main(["--out", str(out), *inplace], folder=tmp_path) == 1

    (kept,) = full.spare.iterdir()
    said = capsys.readouterr().out
    assert printed(read(kept)) == "an hour's work\n"
    assert "(No space left on device)" in said and f"written: {kept}" in said

    assert (tmp_path / "01_first.ipynb").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01_first.ipynb", "out"]
    assert not list(out.iterdir())


def test_outputs_that_find_no_room_anywhere_are_not_lost_without_a_word(full, tmp_path, capsys):
    full.no_room.append(full.spare)
    assert run.main(["--out", str(tmp_path / "out")], folder=tmp_path) == 1
    assert "the outputs are lost" in capsys.readouterr().out
    assert not list(full.spare.iterdir())


# --- the notebook itself ------------------------------------------------------------------------


def test_inplace_writes_whole_runs_into_the_notebook_and_others_beside(tmp_path, monkeypatch):
    def execute(notebook, folder, profile):
        notebook.cells[0].outputs = [v4.new_output("stream", text="ran\n")]
        return "cell 1 failed" if "broken" in notebook.cells[0].source else None

    monkeypatch.setattr(run, "execute", execute)
    make_notebook(tmp_path, "01_broken", "broken")
    make_notebook(tmp_path, "02_good", "good")
    assert run.main(["--out", str(tmp_path / "out"), "--inplace"], folder=tmp_path) == 1

    assert printed(read(tmp_path / "01_broken.ipynb")) == ""
    assert printed(read(tmp_path / "out" / "01_broken.ipynb")) == "ran\n"
    assert printed(read(tmp_path / "02_good.ipynb")) == "ran\n"
    assert not (tmp_path / "out" / "02_good.ipynb").exists()


# --- with kernels -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A broken notebook and a good one, run once: (folder, exit code, what was printed)."""
    folder = tmp_path_factory.mktemp("notebooks")
    make_notebook(folder, "01_broken", "print('so far')", "\n1 / 0", "print('never')")
    make_notebook(
        folder,
        "02_good",
        "import os\nprint(os.environ['COURSE_PROFILE'], os.path.basename(os.getcwd()))",
        "print('x')\nprint('HEADLINE | Tiny, real, 10 pictures | 60.1 % top-1')",
        tags=["headline"],
    )
    before = {path.name: path.read_text() for path in folder.glob("*.ipynb")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", said := io.StringIO())
        code = run.main(["--profile", "cpu", "--out", str(folder / "out")], folder=folder)

    after = {path.name: path.read_text() for path in folder.glob("*.ipynb")}
    assert after == before, "the notebooks themselves stay as they are"
    return folder, code, said.getvalue()


def test_a_run_gives_an_executed_copy_and_the_headline_table(both):
    folder, _, said = both

    copy = read(folder / "out" / "02_good.ipynb")
    assert printed(copy).startswith(f"cpu {folder.name}\n")
    assert [cell.execution_count for cell in copy.cells] == [1, 2]
    assert "widgets" not in copy.metadata and copy.metadata.accelerator == "GPU"
    assert copy.metadata.language_info.name == "python"
    assert not any("execution" in cell.metadata for cell in copy.cells)

    header, _, row = said.strip().splitlines()[-3:]
    assert header.split() == ["notebook", "data", "minutes", "result"]
    assert row.startswith("02_good    Tiny, real, 10 pictures  0.")
    assert row.endswith("60.1 % top-1")


def test_a_broken_notebook_is_named_and_the_others_run(both):
    folder, code, said = both
    assert code == 1
    assert "cell 2 of 3 failed: ZeroDivisionError: division by zero" in said
    assert "01_broken  —" in said

    copy = read(folder / "out" / "01_broken.ipynb")
    assert printed(copy) == "so far\n"
    assert copy.cells[1].outputs[0].ename == "ZeroDivisionError"
    assert copy.cells[2].execution_count is None


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_the_kernel_and_keeps_what_was_executed(tmp_path):
    make_notebook(
        tmp_path,
        "04_slow",
        "import os\nprint(os.getpid())",
        "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(60)",
    )
    script = f"""
import signal, sys
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with & ignores it
sys.path.insert(0, {str(RUN.parent)!r})
import run

sys.exit(run.main(["--out", "out"], folder=Path({str(tmp_path)!r})))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    for _ in range(600):  # a minute, until the second cell runs
        if (tmp_path / "started").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)

    assert process.returncode == 130, text
    assert "Traceback" not in text
    kernel = int(read(tmp_path / "out" / "04_slow.ipynb").cells[0].outputs[0].text)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
