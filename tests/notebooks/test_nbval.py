"""notebooks/conftest.py: what ``make nbval`` runs the notebooks with."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat.v4 as v4
from runner import RUN, run

NAMES = ("COURSE_PROFILE", "TQDM_DISABLE")
CONFTEST = RUN.with_name("conftest.py")
NO_NETWORK = Path(__file__).with_name("no_network")
OPTIONS = ["-n", "1", "--dist", "loadscope", "--nbval", "--nbval-current-env"]


ASK = """
import socket

socket.create_server(("127.0.0.1", 0)).close()
for ask in (socket.getaddrinfo, lambda *address: socket.socket().connect(address)):
    try:
        ask("192.0.2.1", 80)
    except RuntimeError as error:
        print(error)
"""


def test_kernels_run_quietly_and_offline_in_the_smoke_profile_and_the_headline_is_told(tmp_path):
    """From the worker that runs the notebook it comes to the process that prints."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(RUN, folder)
    shutil.copy(CONFTEST, folder)
    shutil.copytree(NO_NETWORK, tmp_path / "tests" / "notebooks" / "no_network")
    quiet = v4.new_code_cell(
        f"import os\nprint(*map(os.environ.get, {NAMES}))",
        execution_count=1,
        outputs=[v4.new_output("stream", text="smoke 1\n")],
    )
    refused = "asked for the network (192.0.2.1): the profile smoke never does\n"
    offline = v4.new_code_cell(
        ASK, execution_count=2, outputs=[v4.new_output("stream", text=2 * refused)]
    )
    headline = v4.new_code_cell(
        "print('HEADLINE | toy shapes, 10 pictures | 60.1 %')",
        metadata={"tags": ["headline", "nbval-ignore-output"]},
    )
    notebook = v4.new_notebook(cells=[quiet, offline, headline])
    (folder / "01_short.ipynb").write_text(v4.writes(notebook))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, str(folder)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in NAMES},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout
    assert "\n01_short ran on toy shapes, 10 pictures: 60.1 %\n" in done.stdout


def test_a_profile_that_is_asked_for_stays(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "cpu")
    monkeypatch.setenv("TQDM_DISABLE", "0")
    monkeypatch.delenv("PYTHONPATH", raising=False)

    monkeypatch.setitem(sys.modules, "run", run)  # it lies beside it
    runpy.run_path(str(CONFTEST))
    assert [os.environ[name] for name in NAMES] == ["cpu", "0"]
    assert "PYTHONPATH" not in os.environ, "that profile downloads data"
