"""Rules that every committed notebook keeps: each takes a notebook and its path, yields faults."""

import ast
import importlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import nbformat
from prose import faults
from runner import run

from course_lib.addresses import BADGES, REPOSITORY
from course_lib.exercises import EXERCISES, exercise

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[nbformat.NotebookNode, Path], Iterator[str]]
RULES: list[Rule] = []

MAX_BYTES = 2_000_000
MIN_COMPARED = 0.4  # of the cells with output
MIN_ALT = 15  # characters

GPU = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kaggle": {"accelerator": "nvidiaTeslaT4", "isInternetEnabled": True, "isGpuEnabled": True},
}

BASE64 = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+")
MACHINE_PATH = re.compile(
    r"(?<![\w.~-])/(?:home|root|tmp|work|Users|usr|opt|mnt)/\S*|\bC:\\[A-Z]\S*"
)
LAYER = re.compile(r"\bBatchNorm2d\(")  # torch 2.15 prints one setting more than torch 2.11
TIME = re.compile(
    r"\d\s?(?:s|ms|µs|min|minutes?|seconds?|hours?)\b|(?:pictures|images|img)\s?/\s?s\b"
)
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


# --- what a notebook holds ----------------------------------------------------------------------


def read(path: Path) -> nbformat.NotebookNode:
    """As it lies on disk: ``nbformat.read`` would mend missing ids in passing."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def code_cells(nb) -> list[tuple[int, nbformat.NotebookNode]]:
    """(number, cell) from 1 on, of the cells that hold code."""
    return list(enumerate((cell for _, cell in run.code_cells(nb)), 1))


def with_output(nb) -> list[tuple[int, nbformat.NotebookNode]]:
    return [(n, cell) for n, cell in code_cells(nb) if cell.outputs]


def markdown(nb) -> str:
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def is_compared(cell) -> bool:
    """Whether nbval compares the output of this cell."""
    if {"nbval-ignore-output", "nbval-skip"} & set(tags(cell)):
        return False
    return not re.search(r"#\s*NBVAL_(IGNORE_OUTPUT|SKIP)", cell.source)


def mimes(cell) -> list[str]:
    return [mime for out in cell.outputs for mime in out.get("data", {})]


def output_texts(cell) -> list[str]:
    """What the outputs say, without the bytes of pictures."""
    texts = []
    for out in cell.outputs:
        if out.output_type == "stream":
            texts.append(out.text)
        texts += [text for mime, text in out.get("data", {}).items() if mime.startswith("text/")]
    return [BASE64.sub("", text) for text in texts]


def has_picture(cell) -> bool:
    is_image = any(mime.startswith("image/") for mime in mimes(cell))
    return is_image or any("<img" in text for text in output_texts(cell))


class Images(HTMLParser):
    """``alts``: the alt text of every <img>, "" where it has none."""

    def __init__(self, html: str):
        super().__init__()
        self.alts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            alt = dict(attributes).get("alt") or ""
            self.alts.append(alt.strip())


# --- the file -----------------------------------------------------------------------------------


@rule
def is_valid(nb, path):
    if (nb.nbformat, nb.nbformat_minor) != (4, 5):
        yield f"nbformat {nb.nbformat}.{nb.nbformat_minor}, expected 4.5"

    ids = Counter(cell.get("id") for cell in nb.cells)
    if wrong := [i for i, n in ids.items() if n > 1 or i is None]:
        yield f"cell ids that are missing or occur twice: {wrong}"
        return  # the validator would warn, and mend them

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
        if any("widget" in mime for mime in mimes(cell)):
            yield f"code cell {n}: a widget as output"


@rule
def asks_for_a_gpu(nb, path):
    for key, value in GPU.items():
        found = nb.metadata.get(key)
        expected = found | value if isinstance(found, dict) else value  # more keys do no harm
        if found != expected:
            yield f"metadata.{key} is {found!r}, expected {value!r}"


# --- the run ------------------------------------------------------------------------------------


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
    found = [cell for _, cell in code_cells(nb) if run.is_headline(cell)]
    if len(found) != 1:
        yield f"{len(found)} cells tagged headline, expected one"
        return

    headline = run.read_headline(found[0].outputs)
    if headline == run.NO_HEADLINE:
        yield "the last line of the headline cell is not 'HEADLINE | data | result'"
    elif not re.search(r"\breal\b", headline.data):
        yield f"the committed outputs are not of real data: {headline.data!r}"


@rule
def compares_only_what_stays(nb, path):
    """Pictures and times differ from run to run, printed layers from one torch to the next.

    ``nbval-check-output`` vouches for one that does not.
    """
    for n, cell in with_output(nb):
        if not is_compared(cell) or "nbval-check-output" in tags(cell):
            continue

        text = "\n\n".join(output_texts(cell))
        if has_picture(cell):
            yield f"code cell {n} shows a picture: tag it nbval-ignore-output"
        elif found := TIME.search(text):
            yield f"code cell {n} prints a time ({found[0]}): tag it nbval-ignore-output"
        elif LAYER.search(text):
            yield (
                f"code cell {n} prints layers as this torch writes them: tag it nbval-ignore-output"
            )


@rule
def compares_enough(nb, path):
    cells = [is_compared(cell) for _, cell in with_output(nb)]
    if not cells or sum(cells) < MIN_COMPARED * len(cells):
        yield f"nbval compares {sum(cells)} of {len(cells)} cells with output"


# --- what a reader sees -------------------------------------------------------------------------


@rule
def opens_with_title_and_badges(nb, path):
    is_text = nb.cells and nb.cells[0].cell_type == "markdown"
    first = nb.cells[0].source if is_text else ""

    number = int(path.name[:2])
    if not re.match(rf"# .*\b0?{number}\b", first):
        yield f"the first cell does not open with '# …' and the number of the session, {number}"

    for name, (link, image) in BADGES.items():
        if f"[![{name}]({image})]({link}{path.name})" not in first:
            yield f"the first cell has no badge {image} that links to {link}{path.name}"


@rule
def describes_its_pictures(nb, path):
    for n, cell in with_output(nb):
        if any(mime.startswith("image/") for mime in mimes(cell)):
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
            yield from (f"cell {number}: {fault}" for fault in faults(cell.source, path))


@rule
def closes_its_details(nb, path):
    for number, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "markdown":
            opened = cell.source.count("<details")
            closed = cell.source.count("</details>")
            if opened != closed:
                yield f"cell {number}: {opened} <details>, {closed} </details>"


@rule
def links_to_what_exists(nb, path):
    text = markdown(nb)
    targets = re.findall(r"\]\(\s*([^)\s]+)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)

    for target in targets:
        inside = unquote(target.split("#")[0])
        is_address = re.match(r"[a-z]+:", inside)
        if inside and not is_address and not (path.parent / inside).exists():
            yield f"a link to {target}, which does not exist"

    # Addresses of files of this repository.
    ours = rf"github(?:\.com)?/{re.escape(REPOSITORY)}/(?:blob|tree|raw)/[\w.-]+/([^)\s\"#]+)"
    for target in set(re.findall(ours, text)) - {f"notebooks/{path.name}"}:
        if not (ROOT / unquote(target)).exists():
            yield f"a link to {target} in this repository, which does not exist"


@rule
def names_no_machine_path(nb, path):
    for number, cell in enumerate(nb.cells, 1):
        texts = [BASE64.sub("", cell.source)]
        if cell.cell_type == "code":
            texts += output_texts(cell)

        found = {hit for text in texts for hit in MACHINE_PATH.findall(text)}
        for hit in sorted(found):
            yield f"cell {number}: a path of one machine: {hit}"


# --- exercises ----------------------------------------------------------------------------------


@rule
def has_an_exercise(nb, path):
    if not any('exercise("' in cell.source for _, cell in code_cells(nb)):
        yield "no cell calls exercise(…)"


@rule
def shows_its_solutions(nb, path):
    """Below each exercise stands a solution that the checker takes, for the same stub."""
    number = {id(cell): n for n, cell in code_cells(nb)}

    for cell, below in pairwise([*nb.cells, nbformat.v4.new_markdown_cell()]):
        called = re.search(r'\bexercise\("(\w+)"', cell.source)
        if id(cell) not in number or not called:
            continue

        at, name = f"code cell {number[id(cell)]}", called[1]
        shown = SOLUTION.search(below.source)
        if name not in EXERCISES:
            yield f"{at}: there is no exercise {name}"
        elif not shown:
            yield f"{at}: no solution in the cell below"
        elif _interface(cell.source, _written(name)) != _interface(shown[1], _written(name)):
            yield f"{at}: stub and solution of {name} differ in signature or docstring"
        elif said := _refused(name, shown[1]):
            yield f"{at}: its solution is refused: {said}"


def _written(name: str) -> str:
    """The function or class of an exercise, as it stands in the cell."""
    return EXERCISES[name].reference.__name__


def _interface(source: str, name: str) -> tuple:
    """The arguments of a function, or of a class's ``__init__``, and the docstring."""
    (definition,) = (node for node in ast.parse(source).body if getattr(node, "name", None) == name)
    inits = [node for node in definition.body if getattr(node, "name", None) == "__init__"]

    functions = [node for node in (definition, *inits) if isinstance(node, ast.FunctionDef)]
    arguments = [ast.unparse(node.args) for node in functions]
    return arguments, ast.get_docstring(definition)


def _refused(name: str, solution: str) -> str:
    """What the checker says against a solution, "" where it goes on with it."""
    module = importlib.import_module(EXERCISES[name].reference.__module__)
    names = dict(vars(module))
    exec(solution, names)
    answer = names[_written(name)]

    with redirect_stdout(io.StringIO()) as said:
        used = exercise(name, answer)
    return "" if used is answer else said.getvalue()


# --- code ---------------------------------------------------------------------------------------


@rule
def installs_no_requirements_file(nb, path):
    for n, cell in code_cells(nb):
        if re.search(r"pip3?\W+install\b.*-r\b", cell.source):
            yield f"code cell {n} installs a requirements file: on Colab that can replace torch"


@rule
def imports_what_exists(nb, path):
    for n, cell in code_cells(nb):
        without_magics = re.sub(r"^(\s*)[!%].*$", r"\1pass", cell.source, flags=re.MULTILINE)
        try:
            tree = ast.parse(without_magics)
        except SyntaxError as error:
            yield f"code cell {n} does not parse: {error}"
            continue

        for module, name in course_imports(tree):
            if not _exists(module, name):
                yield f"code cell {n}: there is no {'.'.join(filter(None, (module, name)))}"


def course_imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import from course_lib; the name is None for ``import module``."""

    def is_ours(module: str | None) -> bool:
        return (module or "").split(".")[0] == "course_lib"

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and is_ours(node.module):
            yield from ((node.module, alias.name) for alias in node.names)


def _exists(module: str, name: str | None) -> bool:
    """``name`` may be something in the module, or a module of its own."""
    try:
        found = importlib.import_module(module)
        if name is not None and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ImportError:
        return False
    return True
