"""notebooks/conftest.py: what ``pytest --nbval --nbval-current-env notebooks`` runs with, on a notebook of one cell."""

import os
import shutil
import subprocess
import sys

import nbformat.v4 as v4
import pytest
from rules import ROOT

NAMES = ("COURSE_PROFILE", "TQDM_DISABLE")


@pytest.mark.parametrize(
    "given, seen", [({}, "smoke 1"), ({"COURSE_PROFILE": "cpu", "TQDM_DISABLE": "0"}, "cpu 0")]
)
def test_kernels_run_quietly_in_the_smoke_profile_unless_told_otherwise(tmp_path, given, seen):
    for name in ("conftest.py", "run.py"):
        shutil.copy(ROOT / "notebooks" / name, tmp_path)
    cell = v4.new_code_cell(
        f"import os\nprint(*map(os.environ.get, {NAMES}))",
        execution_count=1,
        outputs=[v4.new_output("stream", text=f"{seen}\n")],
    )
    (tmp_path / "01_short.ipynb").write_text(v4.writes(v4.new_notebook(cells=[cell])))
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | given
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", str(tmp_path)],
        text=True,
        cwd=tmp_path,
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
