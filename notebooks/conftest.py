"""For ``pytest --nbval notebooks``: the smoke profile, quiet and patient, and the headlines."""

import os

from run import Headline, is_headline, read_headline

OUTPUT_TIMEOUT = 120  # seconds; nbval's own 5 are too few for a loaded machine
HEADLINES: dict[str, Headline] = {}  # notebook → what its headline cell printed now

os.environ.setdefault("COURSE_PROFILE", "smoke")  # kernels inherit both
os.environ.setdefault("TQDM_DISABLE", "1")


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = OUTPUT_TIMEOUT


def pytest_runtest_teardown(item):
    if is_headline(item.cell):
        HEADLINES[item.path.stem] = read_headline(item.test_outputs or [])


def pytest_terminal_summary(terminalreporter):
    """Which data the notebooks ran on: nbval hides the outputs of cells that pass."""
    for notebook, found in HEADLINES.items():
        terminalreporter.write_line(f"{notebook} ran on {found.data}: {found.result}")
