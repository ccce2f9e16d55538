"""For ``pytest --nbval notebooks``: the smoke profile, quiet and patient, and the headlines."""

import os
from pathlib import Path

from run import is_headline, read_headline

OUTPUT_TIMEOUT = 120  # seconds; nbval's own 5 are too few for a loaded machine
HEADLINES: set[str] = set()  # what the headline cells printed now

# Kernels inherit these.
os.environ.setdefault("COURSE_PROFILE", "smoke")
os.environ.setdefault("TQDM_DISABLE", "1")
if os.environ["COURSE_PROFILE"] == "smoke":  # which never reaches out
    no_network = Path(__file__).resolve().parents[1] / "tests" / "notebooks" / "no_network"
    searched = [str(no_network), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, searched))


def at_once() -> int:
    """How many notebooks run at the same time: one in each of pytest-xdist's workers."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    notebooks = len(list(Path(__file__).parent.glob("*.ipynb")))
    return min(workers, notebooks)


if at_once() > 1:  # each has its share of the cores
    threads = max(1, (os.cpu_count() or 1) // at_once())
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = OUTPUT_TIMEOUT


def pytest_runtest_teardown(item):
    """A worker sends its reports to the process that prints, and the headline with them."""
    if is_headline(item.cell):
        found = read_headline(item.test_outputs or [])
        line = f"{item.path.stem} ran on {found.data}: {found.result}"
        item.user_properties.append(("headline", line))


def pytest_runtest_logreport(report):
    HEADLINES.update(line for name, line in report.user_properties if name == "headline")


def pytest_terminal_summary(terminalreporter):
    """Which data the notebooks ran on: nbval hides the outputs of cells that pass."""
    for line in sorted(HEADLINES):
        terminalreporter.write_line(line)
