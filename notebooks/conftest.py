"""For ``pytest --nbval notebooks``: the smoke profile, patience with quiet cells, and the headlines at the end."""

import os

from run import last_headline

OUTPUT_TIMEOUT = 120  # seconds; nbval's own 5 are too few for a loaded machine
HEADLINES = {}  # notebook -> what its headline cell printed now

os.environ.setdefault("COURSE_PROFILE", "smoke")  # kernels inherit both
os.environ.setdefault("TQDM_DISABLE", "1")


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = OUTPUT_TIMEOUT


def pytest_runtest_teardown(item):
    if "headline" in item.cell.metadata.get("tags", []):
        HEADLINES[item.path.stem] = last_headline(item.test_outputs or [])


def pytest_terminal_summary(terminalreporter):
    """Which data the notebooks ran on: nbval hides the outputs of cells that pass."""
    for notebook, (data, result) in HEADLINES.items():
        terminalreporter.write_line(f"{notebook} ran on {data}: {result}")
