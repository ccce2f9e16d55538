"""Tables and figures from the records: ``python -m course_lib.report`` redraws README, notebooks and figures.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; whatever stood there is replaced. Only
runs on real data are shown.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from course_lib.recipes import RECIPES
from course_lib.runtime import CourseError
from course_lib.train import REPOSITORY, price, results

MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# The session that this one grew from, by its own log: last epoch, one run, fifty epochs of the reference network.
ORIGINAL = {"top1": 0.4990, "epochs": 50, "minutes": 349, "device": "Tesla T4"}


def measured(name: str) -> list[dict]:
    """The committed records of a recipe that are worth a row: real data, a rate, not smoke."""
    return [r for r in results(name) if r["is_real"] and r["reference_rate"] and r["profile"] != "smoke"]


def tiny_imagenet_table() -> str:
    """Both recipes and the original: accuracy of the last epoch on official val, price, minutes, machine."""
    rows = [("run", "epochs", "top-1", "top-5", "n", "price", "minutes", "machine")]
    for name in ("tiny_imagenet", "tiny_imagenet_quick"):
        for group in _by_machine(measured(name)):
            rows.append((f"`{name}`", group[0]["epochs"], _percent([r["final"]["val_top1"] for r in group]),
                         _percent([r["final"]["val_top5"] for r in group]), len(group),
                         _spread([price(r) for r in group], ".2f"),
                         _spread([r["seconds"] / 60 for r in group], ".0f"), group[0]["device"]))
    rows.append(("the original session, by its log", ORIGINAL["epochs"], _percent([ORIGINAL["top1"]]), "–", 1,
                 f"{ORIGINAL['epochs']:.0f}", ORIGINAL["minutes"], ORIGINAL["device"]))
    return _markdown(rows)


def minutes_table() -> str:
    """What the real runs of session 2 took, by machine."""
    rows = [("machine", *RECIPES_TIMED)]
    devices = dict.fromkeys(r["device"] for name in RECIPES_TIMED for r in measured(name))
    for device in devices:
        cells = []
        for name in RECIPES_TIMED:
            minutes = [r["seconds"] / 60 for r in measured(name) if r["device"] == device]
            cells.append(f"{_spread(minutes, '.0f')} min" if minutes else "–")
        rows.append((device, *cells))
    return _markdown(rows)


RECIPES_TIMED = [name for name in ("tiny_imagenet_quick", "tiny_imagenet") if name in RECIPES]
TABLES: dict[str, Callable[[], str]] = {"tiny_imagenet": tiny_imagenet_table, "minutes": minutes_table}


def _by_machine(records: list[dict]) -> list[list[dict]]:
    groups: dict[str, list[dict]] = {}
    for record in records:
        groups.setdefault(record["device"], []).append(record)
    return list(groups.values())


def _spread(values: list[float], form: str) -> str:
    """Mean, and the standard deviation where there is more than one value."""
    mean = format(statistics.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)}"


def _percent(fractions: list[float]) -> str:
    return _spread([100 * f for f in fractions], ".1f") + " %"


def _markdown(rows: list[tuple]) -> str:
    head, *body = [[str(cell) for cell in row] for row in rows]
    lines = [head, ["---"] + ["--:"] * (len(head) - 2) + ["---"] if len(head) > 3 else ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill(text: str) -> str:
    """``text`` with every marked table drawn afresh. Raises CourseError for a name that is not known."""
    def draw(match: re.Match) -> str:
        start, name, end = match.groups()
        if name not in TABLES:
            raise CourseError(f"unknown table {name!r}: expected one of {', '.join(TABLES)}")
        return f"{start}{TABLES[name]()}\n{end}"

    return MARKED.sub(draw, text)


def fill_notebook(text: str) -> str:
    """The same for the markdown cells of a notebook file; every other byte stays as it is."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = fill("".join(cell["source"])).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def draw_figures() -> None:
    """``figures/tiny_imagenet.png``: the curves of both recipes, first seed."""
    from course_lib import plots
    from course_lib.training import History

    runs = {name: measured(name)[:1] for name in RECIPES_TIMED}
    curves = {name: History(found[0]["history"], found[0]["steps"]) for name, found in runs.items() if found}
    if curves:
        plots.history(curves).save(REPOSITORY / "figures" / "tiny_imagenet.png")


def pages() -> list[Path]:
    """The files that hold tables."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "notebooks").glob("*.ipynb"))]


def redrawn(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return fill_notebook(text) if page.suffix == ".ipynb" else fill(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m course_lib.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is out of date")
    check = parser.parse_args(arguments).check
    stale = [page for page in pages() if page.exists() and redrawn(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(f"{'out of date' if check else 'redrawn'}: {page.relative_to(REPOSITORY)}")
        if not check:
            page.write_text(redrawn(page), encoding="utf-8")
    if not check:
        draw_figures()
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
