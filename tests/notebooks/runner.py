"""``notebooks/run.py`` as a module: it lies beside the notebooks, in no package."""

import importlib.util
from pathlib import Path

RUN = Path(__file__).resolve().parents[2] / "notebooks" / "run.py"

_spec = importlib.util.spec_from_file_location("run_notebooks", RUN)
run = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run)
