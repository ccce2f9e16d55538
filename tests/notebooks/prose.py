"""Numbers in prose: those of a run are drawn from its record, the others are known facts.

The facts of a page stand in ``facts/readme.py``, ``facts/trials.py``, ``facts/session2.py`` and so
on, with their reason: phrases, word for word but without `code`, so that each fits one place only.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRIALS = ROOT / "figures" / "results" / "trials.md"
PAGES = [ROOT / "README.md", TRIALS, *sorted((ROOT / "notebooks").glob("*.ipynb"))]

DRAWN = re.compile(r"<!-- (?:table|figure|run): .*?<!-- end -->", re.DOTALL)

NO_PROSE = re.compile(
    r"```.*?```|`[^`\n]+`"  # code
    r"|\$\$.*?\$\$|\$[^$\n]+\$"  # formulas
    r"|\]\([^)\s]+\)"  # targets of links
    r"|</?[a-z][^>]*>"  # tags
    r"|arXiv:[\d.]+"
    r"|^\*Difficulty [^\n]*\*$",
    re.DOTALL | re.MULTILINE,
)

UNITS = (
    r"%|‰|×(?!\s?\d)"
    r"|(?:percentage )?points?\b|times\b"
    r"|min(?:ute)?s?\b|hours?\b|(?:milli)?seconds?\b|m?s\b"
    r"|(?:original|reference) epochs?\b"
    r"|(?:pictures|images|img) ?(?:/ ?s\b|(?:a|per) second)"
)
WITH_A_UNIT = rf"\d[\d,]*(?:\.\d+)?(?:\s?±\s?[\d.]+)?\s?(?:{UNITS})"
DECIMAL = r"\d+\.\d+(?![\w.])"
MEASURED = re.compile(rf"(?<![\w.,×-])(?:{WITH_A_UNIT}|{DECIMAL})")

AT_THE_START = re.compile(r"^[ \t]*(?:(?:[-*+>]|\d+\.)[ \t]+)*<!-- run: ([^>]*) -->", re.MULTILINE)


def facts_of(page: Path) -> dict[str, str]:
    """Phrase → where its number comes from; a page may have none."""
    name = f"facts.{_facts_file(page)}"
    return import_module(name).FACTS if find_spec(name) else {}


def _facts_file(page: Path) -> str:
    if page.suffix == ".md":
        return page.stem.lower()
    return f"session{int(page.name[:2])}"


def prose(markdown: str) -> str:
    """Without what is drawn, code, formulas, targets of links and tags; on one line."""
    return " ".join(NO_PROSE.sub(" ", DRAWN.sub("…", markdown)).split())


def faults(markdown: str, page: Path) -> Iterator[str]:
    """Numbers that are neither drawn from a record nor facts of that page.

    Meant are decimals, and numbers with a unit of measurement.
    """
    text = prose(markdown)
    for fact in facts_of(page):
        text = text.replace(fact, "…")

    for found in MEASURED.finditer(text):
        around = text[max(0, found.start() - 40) : found.end() + 20]
        yield (
            f"'{found[0]}' in '…{around}…': draw it from a run (figures/results/README.md), or "
            f"name it in tests/notebooks/facts/{_facts_file(page)}.py"
        )
    for asked in AT_THE_START.findall(markdown):
        yield (
            f"the marker 'run: {asked}' begins a line, which Markdown then takes for HTML: put a "
            "word before it"
        )
