"""Numbers in prose: those of a run are drawn from its record, all others are known here, with their reason."""

import re
from collections.abc import Iterator

# What stands there, word for word but without `code` → where it comes from. Phrases, so that they fit one place only.
FACTS = {
    "Python 3.11 to 3.14": "the versions that torch's packages are made for, from the oldest that is supported on",
    "an array of 1.4 GB": "110,000 pictures × 64 × 64 × 3 bytes",
    "The original spent 50 for 49.9 %": "the log of the original session, fifty epochs at a price of 1 each",
    "fifty epochs, 49.9 % by its own log": "the same log",
    "fifty times the unit, for 49.9 %": "the same log",
    "its best epoch, 52.26 %": "the same log",
    "suggested 0.0735; it trained at 0.90": "the same log",
    "sees one class, and reports 0.5 %": "one class of 200",
    "0.5 % for top-1, 2.5 % for top-5": "1 and 5 of 200 classes",
    "asks for 90 % on the right class": "one minus the smoothing, 0.1",
    "its floor is 0.85": "the entropy of the smoothed label, computed in the notebook from 200 and 0.1",
    "at 50 %, one standard error is 7 points": "√(½ · ½ / 50)",
    "A network that says 80 % should": "an example",
    "With 250 pictures one standard error is about 3 points": "√(½ · ½ / 250)",
    "about 65 % in a hundred epochs": "public trainings of a ResNet-18 at 64 px, pad-crop and flip: 65.0 to 65.5",
    "65 to 69 % in longer trainings": "the papers on CutMix, SAMix and AdAutoMix: 65.5, 68.9 and 69.2",
    "its standard error is about 0.7 points": "√(2 · 0.57 · 0.43 / 10,000), were the two runs independent",
    "on 1,000 pictures two points are noise": "one standard error is 1.6 points",
    "one standard error: 1.6 points": "√(0.57 · 0.43 / 1,000)",
    "one standard error is 0.7 points": "√(0.52 · 0.48 / 5,000)",
    "94 % on CIFAR-10 in 3.29 seconds": "the title of a paper",
}

DRAWN = re.compile(r"<!-- (?:table|figure|run): .*?<!-- end -->", re.DOTALL)
NO_PROSE = re.compile(
    r"```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)\s]+\)|</?[a-z][^>]*>|arXiv:[\d.]+"
    r"|^\*Difficulty [^\n]*\*$",
    re.DOTALL | re.MULTILINE,
)
UNITS = (
    r"%|‰|×(?!\s?\d)|(?:percentage )?points?\b|times\b|min(?:ute)?s?\b|hours?\b|(?:milli)?seconds?\b|m?s\b"
    r"|(?:original|reference) epochs?\b|(?:pictures|images|img) ?(?:/ ?s\b|(?:a|per) second)"
)
MEASURED = re.compile(
    rf"(?<![\w.,×-])(?:\d[\d,]*(?:\.\d+)?(?:\s?±\s?[\d.]+)?\s?(?:{UNITS})|\d+\.\d+(?![\w.]))"
)
AT_THE_START = re.compile(r"^[ \t]*(?:(?:[-*+>]|\d+\.)[ \t]+)*<!-- run: ([^>]*) -->", re.MULTILINE)


def prose(markdown: str) -> str:
    """Without what is drawn, code, formulas, targets of links and tags; on one line."""
    return " ".join(NO_PROSE.sub(" ", DRAWN.sub("…", markdown)).split())


def faults(markdown: str) -> Iterator[str]:
    """Decimals and numbers with a unit of measurement that are neither drawn from a record nor known facts."""
    text = prose(markdown)
    for fact in FACTS:
        text = text.replace(fact, "…")
    for found in MEASURED.finditer(text):
        around = text[max(0, found.start() - 40) : found.end() + 20]
        yield f"'{found[0]}' in '…{around}…': draw it from a run (figures/results/README.md), or name it in FACTS"
    for asked in AT_THE_START.findall(markdown):
        yield f"the marker 'run: {asked}' begins a line, which Markdown then takes for HTML: put a word before it"
