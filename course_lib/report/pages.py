"""``python -m course_lib.report``: draw pages, notebooks and figures afresh from the records.

Drawn is what stands between ``<!-- table: … -->``, ``<!-- figure: … -->`` or ``<!-- run: … -->``
and ``<!-- end -->``; ``figures/results/README.md`` says how. Only runs on real data are shown.
Written besides, from ``course_lib/addresses.py``: where badges lead, and what the first cell of a
notebook fetches.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from course_lib import addresses
from course_lib.files import REPO, CourseError, written_whole
from course_lib.report.figures import (
    Recorded,
    draw_figures,
    figure,
    recorded,
    stale_figures,
)
from course_lib.report.numbers import number
from course_lib.report.tables import table

MARKED = re.compile(
    r"(?P<marker><!-- (?P<kind>table|figure|run): (?P<asked>[^>]*?) -->)"
    r"(?:(?!<!--).)*"  # what was drawn last time: anything but another marker
    r"<!-- end -->",
    re.DOTALL,
)
OPENED = re.compile(r"<!-- (?:table|figure|run): [^>]*-->")


def _of_any_repository(link: str) -> re.Pattern:
    """Where a badge leads, up to the name of the notebook, whosever repository and tag it names."""
    ours = f"{addresses.REPOSITORY}/blob/{addresses.TAG}/"
    return re.compile(re.escape(link).replace(re.escape(ours), r"[\w.-]+/[\w.-]+/blob/[^/\s]+/"))


COLAB, KAGGLE = map(_of_any_repository, (addresses.COLAB, addresses.KAGGLE))
RECORDED = re.compile(r'^recorded\("(\w+)"\)$')
FETCHED = re.compile(r'^ADDRESS, TAG = ".*", ".*"$', re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 1 for an error, and for ``--check`` out of date."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.report", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if anything is out of date"
    )
    check = parser.parse_args(arguments).check

    try:
        found = out_of_date() if check else bring_up_to_date()
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    for path in found:
        print(f"{'out of date' if check else 'redrawn'}: {path.relative_to(REPO)}")
    return 1 if check and found else 0


def out_of_date() -> list[Path]:
    """The figures and pages that are not as they should be. Raises CourseError as ``redrawn``."""
    return stale_figures() + [page for page in pages() if redrawn(page) != _read(page)]


def bring_up_to_date() -> list[Path]:
    """The figures and pages that have changed, drawn afresh, each whole or not at all.

    A fault in one leaves all as they were.
    """
    out_of_date()  # finds the faults

    changed = draw_figures()  # before the pages, which quote their texts

    for page in pages():
        text = redrawn(page)
        if text != _read(page):
            _write(page, text)
            changed.append(page)
    return changed


def pages() -> list[Path]:
    """The files that hold markers."""
    written = [REPO / "README.md", REPO / "figures" / "results" / "trials.md"]
    found = [*written, *sorted((REPO / "notebooks").glob("*.ipynb"))]
    return [page for page in found if page.exists()]


def redrawn(page: Path) -> str:
    """The text of a page as it should be. Raises CourseError as ``fill`` does, with its name."""
    text = _read(page)
    try:
        return fill_notebook(text) if page.suffix == ".ipynb" else fill(text)
    except CourseError as error:
        raise CourseError(f"{page.relative_to(REPO)}: {error}") from error


def fill(text: str, root: str = "") -> str:
    """``text`` with all that is marked drawn afresh, and badges that lead to this repository.

    root: leads from the page to the repo.
    Raises CourseError for what is not known, and for a marker without its end.
    """
    closed = {match.start() for match in MARKED.finditer(text)}
    for marker in OPENED.finditer(text):
        if marker.start() not in closed:
            raise CourseError(f"{marker[0]} has no <!-- end --> before the next marker")

    text = COLAB.sub(addresses.COLAB, text)
    text = KAGGLE.sub(addresses.KAGGLE, text)
    return MARKED.sub(lambda match: _draw(match, root), text)


def fill_notebook(text: str) -> str:
    """The same for the markdown cells of a notebook file, the address in its set-up cell, and the
    figures that its cells show.

    Every other byte stays as it is.
    """
    try:
        notebook = json.loads(text)
        cells = notebook["cells"]
    except (ValueError, LookupError, TypeError) as error:
        raise CourseError(f"not a notebook ({error!r})") from error

    fetched = f'ADDRESS, TAG = "{addresses.CLONE}", "{addresses.TAG}"'
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            filled = fill(source, root="../")
        else:
            filled = FETCHED.sub(fetched, source)
        cell["source"] = filled.splitlines(keepends=True)
        if shown := RECORDED.match(source):
            cell["outputs"] = [_output(recorded(shown[1]), cell["execution_count"])]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _output(shown: Recorded, count: int | None) -> dict:
    """What a cell that ends in ``shown`` leaves in the file."""
    data = {"text/html": shown._repr_html_(), "text/plain": repr(shown)}
    return {
        "data": {kind: text.splitlines(keepends=True) for kind, text in data.items() if text},
        "execution_count": count,
        "metadata": {},
        "output_type": "execute_result",
    }


def _read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f"{page} cannot be read ({error})") from error


def _write(page: Path, text: str) -> None:
    try:
        with written_whole(page) as aside:
            aside.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise CourseError(f"cannot write {page} ({error.strerror or error})") from error


def _draw(match: re.Match, root: str) -> str:
    """The marker, what it asks for, and the end; only a number stands within a line."""
    asked = match["asked"]
    if match["kind"] == "run":
        drawn = number(asked)
    elif match["kind"] == "table":
        drawn = f"\n{table(asked)}\n"
    else:
        drawn = f"\n{figure(asked, root)}\n"
    return f"{match['marker']}{drawn}<!-- end -->"
