"""Rules that every committed notebook keeps. Each takes a notebook and its path and yields faults."""

import ast
import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from statistics import median
from urllib.parse import unquote

import nbformat
from prose import faults

from course_lib.exercises import EXERCISES
from course_lib.exercises.checker import check

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[nbformat.NotebookNode, Path], Iterator[str]]
RULES: list[Rule] = []

CELLS, MEDIAN_LINES, MAX_LINES, MAX_BYTES = (50, 90), (4, 10), 40, 2_000_000
MIN_COMPARED, MIN_EXERCISES, MIN_ALT = 0.4, 5, 15
GPU = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kaggle": {"accelerator": "nvidiaTeslaT4", "isInternetEnabled": True, "isGpuEnabled": True},
}
COLAB = "https://colab.research.google.com/github/"
KAGGLE = "https://kaggle.com/kernels/welcome?src=https://github.com/"
BADGES = {
    COLAB: "https://colab.research.google.com/assets/colab-badge.svg",
    KAGGLE: "https://kaggle.com/static/images/open-in-kaggle.svg",
}
BASE64 = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+")
MACHINE_PATH = re.compile(
    r"(?<![\w.~-])/(?:home|root|tmp|work|Users|usr|opt|mnt)/\S*|\bC:\\[A-Z]\S*"
)
LAYER = re.compile(r"\bBatchNorm2d\(")  # torch 2.15 prints one setting more than torch 2.11
TIME = re.compile(
    r"\d\s?(?:s|ms|µs|min|minutes?|seconds?|hours?)\b|(?:pictures|images|img)\s?/\s?s\b"
)


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


def read(path: Path) -> nbformat.NotebookNode:
    """As it lies on disk: ``nbformat.read`` would mend missing ids in passing."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def code_cells(nb) -> list[tuple[int, nbformat.NotebookNode]]:
    """(number, cell) from 1 on, of the cells that hold code."""
    code = (c for c in nb.cells if c.cell_type == "code" and c.source.strip())
    return list(enumerate(code, 1))


def markdown(nb) -> str:
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def with_output(nb) -> list[tuple[int, nbformat.NotebookNode]]:
    return [(n, cell) for n, cell in code_cells(nb) if cell.outputs]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def is_compared(cell) -> bool:
    """Whether nbval compares the output of this cell."""
    ignored = {"nbval-ignore-output", "nbval-skip"} & set(tags(cell))
    return not ignored and not re.search(r"#\s*NBVAL_(IGNORE_OUTPUT|SKIP)", cell.source)


def output_texts(cell) -> list[str]:
    """What the outputs say, without the bytes of pictures."""
    texts = [out.text for out in cell.outputs if out.output_type == "stream"]
    for data in (out.get("data", {}) for out in cell.outputs):
        texts += [text for mime, text in data.items() if mime.startswith("text/")]
    return [BASE64.sub("", text) for text in texts]


class Images(HTMLParser):
    """``alts``: the alt text of every <img>, "" where it has none."""

    def __init__(self, html: str):
        super().__init__()
        self.alts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.alts.append((dict(attributes).get("alt") or "").strip())


def has_picture(cell) -> bool:
    mimes = [mime for out in cell.outputs for mime in out.get("data", {})]
    return any(m.startswith("image/") for m in mimes) or any(
        "<img" in t for t in output_texts(cell)
    )


@rule
def is_valid(nb, path):
    if (nb.nbformat, nb.nbformat_minor) != (4, 5):
        yield f"nbformat {nb.nbformat}.{nb.nbformat_minor}, expected 4.5"
    ids = Counter(cell.get("id") for cell in nb.cells)
    if wrong := [i for i, n in ids.items() if n > 1 or i is None]:
        yield f"cell ids that are missing or occur twice: {wrong}"
        return
    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        yield f"invalid: {error.message}"


@rule
def is_small(nb, path):
    size = len(nbformat.writes(nb).encode())
    if size >= MAX_BYTES:
        yield f"{size:,} bytes, expected under {MAX_BYTES:,}"


@rule
def holds_no_widgets(nb, path):
    if "widgets" in nb.metadata:
        yield "metadata.widgets: GitHub will not render the notebook"
    for n, cell in code_cells(nb):
        if any("widget" in mime for out in cell.outputs for mime in out.get("data", {})):
            yield f"code cell {n}: a widget as output"


@rule
def asks_for_a_gpu(nb, path):
    for key, value in GPU.items():
        found = nb.metadata.get(key)
        if found != (found | value if isinstance(found, dict) else value):  # more keys do no harm
            yield f"metadata.{key} is {found!r}, expected {value!r}"


@rule
def has_the_right_size(nb, path):
    if not CELLS[0] <= len(nb.cells) <= CELLS[1]:
        yield f"{len(nb.cells)} cells, expected {CELLS[0]} to {CELLS[1]}"
    lines = {n: len(cell.source.splitlines()) for n, cell in code_cells(nb)}
    if lines and not MEDIAN_LINES[0] <= median(lines.values()) <= MEDIAN_LINES[1]:
        yield (
            f"the median code cell has {median(lines.values())} lines, "
            f"expected {MEDIAN_LINES[0]} to {MEDIAN_LINES[1]}"
        )
    yield from (f"code cell {n}: {k} lines" for n, k in lines.items() if k > MAX_LINES)


@rule
def ran_in_order(nb, path):
    for n, cell in code_cells(nb):
        if cell.execution_count != n:
            yield f"code cell {n} has the execution count {cell.execution_count}"


@rule
def ran_without_errors(nb, path):
    for n, cell in with_output(nb):
        if any(out.output_type == "error" for out in cell.outputs):
            yield f"code cell {n}: an error as output"
        if any(out.get("name") == "stderr" for out in cell.outputs):
            yield f"code cell {n}: text on stderr"


@rule
def ran_on_real_data(nb, path):
    """The cell tagged ``headline`` says so in its last line: ``HEADLINE | data | result``."""
    found = [cell for _, cell in code_cells(nb) if "headline" in tags(cell)]
    if len(found) != 1:
        yield f"{len(found)} cells tagged headline, expected one"
        return
    last = "\n".join(output_texts(found[0])).strip().split("\n")[-1]
    parts = [part.strip() for part in last.split("|", 2)]
    if len(parts) < 3 or parts[0] != "HEADLINE":
        yield f"the headline is {last!r}, expected 'HEADLINE | data | result'"
    elif not re.search(r"\breal\b", parts[1]):
        yield f"the committed outputs are not of real data: {parts[1]!r}"


@rule
def compares_only_what_stays(nb, path):
    """Pictures and times differ from run to run, printed layers from one torch to the next.

    ``nbval-check-output`` vouches for one that does not.
    """
    for n, cell in with_output(nb):
        if not is_compared(cell) or "nbval-check-output" in tags(cell):
            continue
        if has_picture(cell):
            yield f"code cell {n} shows a picture: tag it nbval-ignore-output"
        elif found := next(filter(None, map(TIME.search, output_texts(cell))), None):
            yield f"code cell {n} prints a time ({found[0]}): tag it nbval-ignore-output"
        elif any(map(LAYER.search, output_texts(cell))):
            yield f"code cell {n} prints layers as this torch writes them: tag it nbval-ignore-output"


@rule
def compares_enough(nb, path):
    cells = [is_compared(cell) for _, cell in with_output(nb)]
    if sum(cells) < MIN_COMPARED * len(cells) or not cells:
        yield f"nbval compares {sum(cells)} of {len(cells)} cells with output"


@rule
def opens_with_title_and_badges(nb, path):
    first = nb.cells[0].source if nb.cells and nb.cells[0].cell_type == "markdown" else ""
    number = int(path.name[:2])
    if not re.match(rf"# .*\b0?{number}\b", first):
        yield f"the first cell does not open with '# …' and the number of the session, {number}"
    for link, image in BADGES.items():
        target = rf"{re.escape(link)}[\w.-]+/[\w.-]+/blob/[\w.-]+/notebooks/{re.escape(path.name)}"
        if not re.search(target, first) or image not in first:
            yield f"the first cell has no badge {image} that links to {link}…/{path.name}"


@rule
def describes_its_pictures(nb, path):
    for n, cell in with_output(nb):
        if any(m.startswith("image/") for out in cell.outputs for m in out.get("data", {})):
            yield f"code cell {n}: a bare picture; show it as text/html <img alt=…>"
        for alt in Images("\n".join(output_texts(cell))).alts:
            if len(alt) < MIN_ALT:
                yield f"code cell {n}: alt text {alt!r} does not say what the picture shows"
    text = markdown(nb)
    missing = len(re.findall(r"!\[\s*\]\(", text)) + Images(text).alts.count("")
    if missing:
        yield f"{missing} pictures in markdown without alt text"


@rule
def draws_the_numbers_of_runs(nb, path):
    for number, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "markdown":
            yield from (f"cell {number}: {fault}" for fault in faults(cell.source))


@rule
def closes_its_details(nb, path):
    for number, cell in enumerate(nb.cells, 1):
        opened, closed = (cell.source.count(tag) for tag in ("<details", "</details>"))
        if cell.cell_type == "markdown" and opened != closed:
            yield f"cell {number}: {opened} <details>, {closed} </details>"


@rule
def has_exercises(nb, path):
    found = sum('exercise("' in cell.source for _, cell in code_cells(nb))
    if found < MIN_EXERCISES:
        yield f"{found} exercise cells, expected at least {MIN_EXERCISES}"


@rule
def shows_its_solutions(nb, path):
    """Below each exercise stands a solution that the checker takes, for the same stub in its exercise cell."""
    below = {id(cell): after.source for cell, after in pairwise(nb.cells)}
    for n, cell in code_cells(nb):
        if not (called := re.search(r'exercise\("(\w+)"', cell.source)):
            continue
        shown = re.search(
            r"<summary>Solution</summary>\s*```python\n(.*?)```", below.get(id(cell), ""), re.DOTALL
        )
        if called[1] not in EXERCISES:
            yield f"code cell {n}: there is no exercise {called[1]}"
        elif not shown:
            yield f"code cell {n}: no solution in the cell below"
        elif _interface(cell.source, called[1]) != _interface(shown[1], called[1]):
            yield f"code cell {n}: stub and solution of {called[1]} differ in signature or docstring"
        elif found := _refused(called[1], shown[1]):
            yield f"code cell {n}: its solution is refused: {found}"


def _interface(source: str, name: str) -> tuple:
    """The arguments of a function, or of a class's ``__init__``, and the docstring."""
    (definition,) = (node for node in ast.parse(source).body if getattr(node, "name", None) == name)
    makers = [
        definition,
        *(node for node in definition.body if getattr(node, "name", None) == "__init__"),
    ]
    arguments = [ast.unparse(node.args) for node in makers if isinstance(node, ast.FunctionDef)]
    return arguments, ast.get_docstring(definition)


def _refused(name: str, solution: str) -> str:
    """What the checker says against a solution, "" where it is right."""
    task = EXERCISES[name]
    exec(solution, names := dict(vars(importlib.import_module(task.reference.__module__))))
    verdict = check(task, names[name])
    return "" if verdict.right else verdict.text


@rule
def links_to_what_exists(nb, path):
    text = markdown(nb)
    targets = re.findall(r"\]\(\s*([^)\s]+)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for target in targets:
        inside = unquote(target.split("#")[0])
        if inside and not re.match(r"[a-z]+:", inside) and not (path.parent / inside).exists():
            yield f"a link to {target}, which does not exist"
    if badge := re.search(rf"{re.escape(COLAB)}([\w.-]+/[\w.-]+)/blob/[\w.-]+/", text):
        ours = rf"github(?:\.com)?/{re.escape(badge[1])}/(?:blob|tree|raw)/[\w.-]+/([^)\s\"#]+)"
        for target in set(re.findall(ours, text)) - {f"notebooks/{path.name}"}:
            if not (ROOT / unquote(target)).exists():
                yield f"a link to {target} in this repository, which does not exist"


@rule
def names_no_machine_path(nb, path):
    for number, cell in enumerate(nb.cells, 1):
        texts = [
            BASE64.sub("", cell.source),
            *(output_texts(cell) if cell.cell_type == "code" else []),
        ]
        for found in sorted({hit for text in texts for hit in MACHINE_PATH.findall(text)}):
            yield f"cell {number}: a path of one machine: {found}"


@rule
def installs_no_requirements_file(nb, path):
    for n, cell in code_cells(nb):
        if re.search(r"pip3?\W+install\b.*-r\b", cell.source):
            yield f"code cell {n} installs a requirements file: on Colab that can replace torch"


@rule
def imports_what_exists(nb, path):
    for n, cell in code_cells(nb):
        try:
            tree = ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", cell.source, flags=re.MULTILINE))
        except SyntaxError as error:
            yield f"code cell {n} does not parse: {error}"
            continue
        for module, name in course_imports(tree):
            if not _exists(module, name):
                yield f"code cell {n}: there is no {'.'.join(filter(None, (module, name)))}"


def course_imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import from course_lib; the name is None for ``import module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.name, None) for a in node.names if a.name.split(".")[0] == "course_lib")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "course_lib":
            yield from ((node.module, alias.name) for alias in node.names)


def _exists(module: str, name: str | None) -> bool:
    try:
        if name is None or not hasattr(importlib.import_module(module), name):
            importlib.import_module(".".join(filter(None, (module, name))))
    except ImportError:
        return False
    return True
