"""Tables, figures and numbers from the records: ``python -m course_lib.report`` redraws README, notebooks, figures.

Drawn is what stands between ``<!-- table: … -->``, ``<!-- figure: … -->`` or ``<!-- run: … -->`` and
``<!-- end -->``; ``figures/results/README.md`` says how. Only runs on real data are shown.
"""

import argparse
import hashlib
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

from PIL import Image

from course_lib.experiments import record as records
from course_lib.experiments.record import price, results
from course_lib.files import REPO as REPOSITORY
from course_lib.files import CourseError

MARKED = re.compile(
    r"(<!-- (table|figure|run): ([^>]*?) -->)((?:(?!<!--).)*)<!-- end -->", re.DOTALL
)
OPENED = re.compile(r"<!-- (?:table|figure|run): [^>]*-->")
# What others measured, by their own log: last epoch, one run.
LOGGED = {
    "tiny_imagenet_original": (
        "the original session, by its log",
        50,
        "49.9 %",
        "–",
        1,
        50,
        349,
        "Tesla T4",
    )
}
FIGURES = {"tiny_imagenet": ("tiny_imagenet", "tiny_imagenet_quick")}  # file → recipes


def measured(name: str) -> list[dict]:
    """The committed records of a recipe that are worth a row: real data, a rate, not smoke."""
    return [record for record in results(name) if _counts(record)]


def _counts(record: dict) -> bool:  # a benchmark has none of the three
    return bool(
        record.get("is_real", True)
        and record.get("reference_rate", 1)
        and record.get("profile") != "smoke"
    )


VALUES: dict[str, tuple[Callable[[dict], float], str]] = {
    "top1": (lambda record: record["final"]["val_top1"], ".1%"),
    "top5": (lambda record: record["final"]["val_top5"], ".1%"),
    "tune": (lambda record: record["history"][-1]["val_top1"], ".1%"),
    "price": (price, ".2f"),
    "minutes": (lambda record: record["seconds"] / 60, ".0f"),
    "epochs": (lambda record: record["epochs"], ".0f"),
    "pictures": (lambda record: record["train_images"], ",.0f"),
}


def number(asked: str) -> str:
    """``SOURCE VALUE`` or ``SOURCE PATH FORMAT``: the mean over the runs of the source, ± their standard deviation.

    Raises CourseError for a source without runs, or with runs on several machines, and for an unknown value.
    """
    source, _, value = asked.partition(" ")
    machines = _by_machine(_records(source))
    if len(machines) != 1:
        raise CourseError(
            f"run: {asked}: expected runs on one machine in figures/results/{source}, found "
            f"{', '.join(machines) or 'none'}; RECIPE/PROFILE names those of one profile"
        )
    try:
        return _mean(*machines.values(), value)
    except (LookupError, TypeError, ValueError) as error:
        raise CourseError(
            f"run: {asked}: expected one of {', '.join(VALUES)}, or a path and a format, such as "
            f"history.8.val_top1 .1% ({error!r})"
        ) from None


def _records(source: str) -> list[dict]:
    """Of RECIPE, RECIPE/PROFILE, or the path of one file without its ending, under ``figures/results``."""
    paths = [
        path
        for end in ("", "/*", "-seed*")
        for path in sorted(records.RESULTS.glob(f"{source}{end}.json"))
    ]
    return [
        record for record in (json.loads(path.read_text()) for path in paths) if _counts(record)
    ]


def _mean(records: list[dict], value: str) -> str:
    path, _, form = value.rpartition(" ")
    find, form = VALUES.get(value) or (lambda record: _at(record, path), form)
    return _spread([find(record) for record in records], form)


def _at(record: dict, path: str) -> float:
    """A number by its keys, joined by dots. Rows count from 1, as epochs do; -1 is the last."""
    for key in path.split("."):
        record = record[int(key) - (int(key) > 0)] if isinstance(record, list) else record[key]
    return record


def _spread(values: list[float], form: str) -> str:
    """Mean, and the standard deviation where values differ; a ``%`` in the format asks for percent."""
    if form.endswith("%"):
        return _spread([100 * value for value in values], form[:-1] + "f") + " %"
    mean = format(statistics.mean(values), form)
    return mean if len(set(values)) == 1 else f"{mean} ± {format(statistics.stdev(values), form)}"


def _by_machine(records: list[dict]) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for record in records:
        machine, processes = record.get("device") or record["machine"], record.get("processes", 1)
        groups.setdefault(
            machine if processes == 1 else f"{machine}, {processes} processes", []
        ).append(record)
    return groups


def runs_table(*recipes: str) -> str:
    """Accuracy of the last epoch on official val, price, minutes, machine; n runs in a row."""
    rows = [("run", "epochs", "top-1", "top-5", "n", "price", "minutes", "machine")]
    for name in recipes:
        rows += [
            *_rows(f"`{name}`", measured(name), "top1", "top5"),
            *([LOGGED[name]] if name in LOGGED else []),
        ]
    return _markdown(rows)


def ablations_table(recipe: str) -> str:
    """A recipe and its variants, ``ablations/RECIPE`` and ``ablations/RECIPE.*``, judged on the tune split."""
    rows = [("variant", "epochs", "pictures", "tune top-1", "n", "price", "minutes", "machine")]
    rows += _rows(f"`{recipe}` as it stands", measured(recipe), "pictures", "tune")
    folders = sorted((records.RESULTS / "ablations").glob(f"{recipe}*"))
    for name in (folder.name for folder in folders if f"{folder.name}.".startswith(f"{recipe}.")):
        runs = measured(f"ablations/{name}")
        rows += _rows(runs[0]["settings"]["about"] if runs else name, runs, "pictures", "tune")
    return _markdown(rows)


def minutes_table(*recipes: str) -> str:
    """What runs took, by machine."""
    runs = [_by_machine(measured(name)) for name in recipes]
    rows = [
        (
            machine,
            *(
                _mean(groups[machine], "minutes") + " min" if machine in groups else "–"
                for groups in runs
            ),
        )
        for machine in dict.fromkeys(machine for groups in runs for machine in groups)
    ]
    return _markdown([("machine", *recipes), *rows])


def _rows(label: str, records: list[dict], *values: str) -> Iterator[tuple]:
    for machine, group in _by_machine(records).items():
        cells = [_mean(group, value) for value in ("epochs", *values, "price", "minutes")]
        yield label, *cells[:-2], len(group), *cells[-2:], machine


def _markdown(rows: list[tuple]) -> str:
    head, *body = [[str(cell) for cell in row] for row in rows]
    lines = [
        head,
        ["---"] + ["--:"] * (len(head) - 2) + ["---"] if len(head) > 3 else ["---"] * len(head),
        *body,
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES: dict[str, Callable[..., str]] = {
    "runs": runs_table,
    "ablations": ablations_table,
    "minutes": minutes_table,
}


def table(asked: str) -> str:
    name, *arguments = asked.split()
    if name not in TABLES:
        raise CourseError(f"unknown table {name!r}: expected one of {', '.join(TABLES)}")
    return f"\n{TABLES[name](*arguments)}\n"


def figure(name: str, root: str = "") -> str:
    """The line that shows a figure, with the text that was drawn with it."""
    return f"\n![{_kept(name).get('Description', name)}]({root}figures/{name}.png)\n"


def draw_figures() -> None:
    """Tune accuracy against price, one curve for each recipe and machine, with a digest of the records inside."""
    from course_lib import plots

    for name, recipes in FIGURES.items():
        curves = {
            f"{recipe}, {machine}": [_by_price(record) for record in group]
            for recipe in recipes
            for machine, group in _by_machine(measured(recipe)).items()
        }
        if curves:
            plots.accuracy_by_price(curves).save(_file(name), Digest=_digest(name))
        else:
            _file(name).unlink(missing_ok=True)


def stale_figures() -> list[Path]:
    """Those that were drawn from other records than there are now, by the digest that they carry."""
    return [_file(name) for name in FIGURES if _kept(name).get("Digest") != _digest(name)]


def _by_price(record: dict) -> list[tuple[float, float]]:
    """(price so far, tune top-1) after each epoch; decoding and the last look come before the first."""
    taken = [row["seconds"] + row["eval_seconds"] for row in record["history"]]
    spent = list(accumulate(taken, initial=record["seconds"] - sum(taken)))[1:]
    return [
        (price(record | {"seconds": seconds}), row["val_top1"])
        for seconds, row in zip(spent, record["history"], strict=True)
    ]


def _digest(name: str) -> str | None:
    """Of the records, not of pixels, which differ from one matplotlib to the next. None where there are none."""
    records = [measured(recipe) for recipe in FIGURES[name]]
    return (
        hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()
        if any(records)
        else None
    )


def _kept(name: str) -> dict[str, str]:
    """The texts that a figure carries; empty where there is none."""
    if not _file(name).exists():
        return {}
    with Image.open(_file(name)) as image:
        return dict(image.text)


def _file(name: str) -> Path:
    return REPOSITORY / "figures" / f"{name}.png"


def fill(text: str, root: str = "") -> str:
    """``text`` with all that is marked drawn afresh; ``root`` leads from the page to the repository.

    Raises CourseError for what is not known, and for a marker without its end.
    """
    draw = {"table": table, "figure": lambda name: figure(name, root), "run": number}
    closed = {match.start() for match in MARKED.finditer(text)}
    if unclosed := [match[0] for match in OPENED.finditer(text) if match.start() not in closed]:
        raise CourseError(f"{unclosed[0]} has no <!-- end --> before the next marker")
    return MARKED.sub(lambda match: f"{match[1]}{draw[match[2]](match[3])}<!-- end -->", text)


def fill_notebook(text: str) -> str:
    """The same for the markdown cells of a notebook file; every other byte stays as it is."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = fill("".join(cell["source"]), "../").splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def pages() -> list[Path]:
    """The files that hold tables."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "notebooks").glob("*.ipynb"))]


def redrawn(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return fill_notebook(text) if page.suffix == ".ipynb" else fill(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m course_lib.report", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if anything is out of date"
    )
    check = parser.parse_args(arguments).check
    stale = stale_figures()
    try:
        if not check:
            draw_figures()  # before the pages, which quote them
        texts = {page: redrawn(page) for page in pages() if page.exists()}
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for page, text in texts.items():
        if text != page.read_text(encoding="utf-8"):
            stale.append(page)
            if not check:
                page.write_text(text, encoding="utf-8", newline="\n")
    for path in stale:
        print(f"{'out of date' if check else 'redrawn'}: {path.relative_to(REPOSITORY)}")
    return 1 if check and stale else 0
