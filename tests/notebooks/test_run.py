"""notebooks/run.py, on notebooks of two or three cells."""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import nbformat.v4 as v4
import pytest
from rules import ROOT, read

from course_lib.runtime import PROFILES

RUN = ROOT / "notebooks" / "run.py"


@pytest.fixture(scope="module")
def run():
    spec = importlib.util.spec_from_file_location("run_notebooks", RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_notebook(tmp_path):
    def make(name, *sources, tags=()):
        cells = [v4.new_code_cell(source) for source in sources]
        cells[-1].metadata["tags"] = list(tags)
        notebook = v4.new_notebook(cells=cells, metadata={"widgets": {}, "accelerator": "GPU"})
        (tmp_path / f"{name}.ipynb").write_text(v4.writes(notebook))
        return tmp_path / f"{name}.ipynb"

    return make


def printed(notebook):
    return "".join(o.text for cell in notebook.cells for o in cell.outputs if "text" in o)


def test_the_profiles_are_those_of_the_course(run):
    assert run.PROFILES == PROFILES


@pytest.mark.parametrize("arguments, environment", [(["--profile", "huge"], ""), ([], "huge")])
def test_an_unknown_profile_is_refused_with_those_that_exist(
    run, capsys, monkeypatch, arguments, environment
):
    monkeypatch.setenv("COURSE_PROFILE", environment)
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    text = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "huge" in text and all(profile in text for profile in PROFILES)


def test_an_unknown_notebook_is_refused_with_those_that_exist(run, make_notebook, tmp_path):
    make_notebook("03_some_session", "1")
    with pytest.raises(SystemExit, match="no notebook 9 in .*03_some_session"):
        run.main(["--notebook", "9"], folder=tmp_path)


def test_a_run_gives_an_executed_copy_and_the_headline_table(run, make_notebook, tmp_path, capsys):
    source = make_notebook(
        "02_good",
        "import os\nprint(os.environ['COURSE_PROFILE'], os.path.basename(os.getcwd()))",
        "print('x')\nprint('HEADLINE | Tiny, real, 10 pictures | 60.1 % top-1')",
        tags=["headline"],
    )
    before = source.read_text()
    assert (
        run.main(
            ["--profile", "cpu", "--notebook", "2", "--out", str(tmp_path / "out")], folder=tmp_path
        )
        == 0
    )

    copy = read(tmp_path / "out" / "02_good.ipynb")
    assert printed(copy).startswith(f"cpu {tmp_path.name}\n")
    assert [cell.execution_count for cell in copy.cells] == [1, 2]
    assert "widgets" not in copy.metadata and copy.metadata.accelerator == "GPU"
    assert copy.metadata.language_info.name == "python"
    assert not any("execution" in cell.metadata for cell in copy.cells)
    assert source.read_text() == before
    header, row = capsys.readouterr().out.strip().splitlines()[-2:]
    assert header.split() == ["notebook", "data", "minutes", "result"]
    assert row.startswith("02_good   Tiny, real, 10 pictures  0.")
    assert row.endswith("60.1 % top-1")


def test_a_broken_notebook_is_named_and_the_others_run(run, make_notebook, tmp_path, capsys):
    make_notebook("01_broken", "print('so far')", "\n1 / 0", "print('never')")
    make_notebook("02_good", "print('good')")
    code = run.main(["--out", str(tmp_path / "out"), "--inplace"], folder=tmp_path)

    text = capsys.readouterr().out
    assert code == 1
    assert "cell 2 of 3 failed: ZeroDivisionError: division by zero" in text
    copy = read(tmp_path / "out" / "01_broken.ipynb")
    assert printed(copy) == "so far\n"
    assert copy.cells[1].outputs[0].ename == "ZeroDivisionError"
    assert copy.cells[2].execution_count is None
    assert printed(read(tmp_path / "02_good.ipynb")) == "good\n", "with --inplace"
    assert printed(read(tmp_path / "01_broken.ipynb")) == "", "--inplace writes whole runs only"
    assert "02_good    —" in text


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_the_kernel_and_keeps_what_was_executed(make_notebook, tmp_path):
    make_notebook(
        "04_slow",
        "import os\nprint(os.getpid())",
        "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(60)",
    )
    script = (
        "import signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what a shell starts with & ignores it
        f"sys.path.insert(0, {str(RUN.parent)!r})\n"
        f"import run; sys.exit(run.main(['--out', 'out'], folder=Path({str(tmp_path)!r})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for _ in range(600):
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
