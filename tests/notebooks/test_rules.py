"""The rules over notebooks/*.ipynb; and for each rule, a made-up notebook that it refuses."""

import ast
import inspect
from copy import deepcopy
from functools import cache

import nbformat.v4 as v4
import pytest
from cells import NOTEBOOKS
from rules import BADGES, GPU, REPOSITORY, ROOT, RULES, read

from course_lib.exercises import EXERCISES

MADE_UP = ROOT / "notebooks" / "02_made_up.ipynb"
ALT = "two crossing lines, loss over epochs"

read_once = cache(read)


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps(path, rule):
    faults = list(rule(read_once(path), path))
    assert not faults, "\n".join([path.name, *faults])


# --- a notebook that keeps every rule -----------------------------------------------------------

NAME = "top_k_accuracy"
SOLUTION = inspect.getsource(EXERCISES[NAME].reference)


def with_body(statement):
    """Signature and docstring of the solution, with another body."""
    (definition,) = ast.parse(SOLUTION).body
    definition.body = [definition.body[0], *ast.parse(statement).body]
    return ast.unparse(definition)


STUB = with_body("raise NotImplementedError")
WRONG = with_body("return -1.0")
DOCSTRING = inspect.getdoc(EXERCISES[NAME].reference).splitlines()[0]


def stdout(text, name="stdout"):
    return v4.new_output("stream", name=name, text=text)


def html(text):
    return v4.new_output("display_data", data={"text/html": text})


def code(source, *outputs, tags=()):
    return v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def badges(name):
    return " ".join(
        f"[![{title}]({image})]({link}{name})" for title, (link, image) in BADGES.items()
    )


def solution(source):
    return f"<details>\n<summary>Solution</summary>\n\n```python\n{source}```\n\n</details>"


FIRST, STUBBED, SOLVED, SHOW, HEADLINE, LAST = 1, 2, 3, 4, 5, -1  # cells of the good notebook


@pytest.fixture
def good():
    """The smallest notebook that keeps every rule."""
    picture = f'<img alt="{ALT}" src="data:image/png;base64,AA/tmp/AA==">'
    headline = "text\nHEADLINE | Tiny, real, 10 pictures | 60.1 %\n"
    cells = [
        v4.new_markdown_cell(f"# Session 2: made up\n{badges(MADE_UP.name)}"),
        code("from course_lib.runtime import setup\nsetup()", stdout("smoke\n")),
        code(f'{STUB}\n\ntop = exercise("{NAME}", {NAME})', stdout("right\n")),
        v4.new_markdown_cell(solution(SOLUTION)),
        code("show()", html(picture), tags=["nbval-ignore-output"]),
        code("headline()", stdout(headline), tags=["headline", "nbval-ignore-output"]),
        v4.new_markdown_cell("[data](../data/README.md#tinyimagenet) [web](https://x.org/tmp/a)"),
    ]
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = count
    return v4.new_notebook(cells=cells, metadata=deepcopy(GPU))


def test_a_good_notebook_keeps_every_rule(good):
    for rule in RULES:
        assert list(rule(good, MADE_UP)) == [], rule.__name__


# --- ways to spoil it ---------------------------------------------------------------------------


def set_source(index, text):
    return lambda nb: nb.cells[index].update(source=text)


def add_source(index, text):
    return lambda nb: nb.cells[index].update(source=nb.cells[index].source + text)


def change(index, old, new):
    return lambda nb: nb.cells[index].update(source=nb.cells[index].source.replace(old, new))


def set_output(index, output):
    return lambda nb: nb.cells[index].update(outputs=[output])


def set_tags(index, *tags):
    return lambda nb: nb.cells[index].metadata.update(tags=list(tags))


def set_id(nb):
    nb.cells[3].id = nb.cells[4].id


def drop_id(nb):
    del nb.cells[3]["id"]


PICTURE = v4.new_output("display_data", data={"image/png": "AAAA", "text/plain": "<Figure>"})
WIDGET = v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}})
ERROR = v4.new_output("error", ename="ValueError", evalue="no", traceback=[])

# (rule, what is wrong, how the good notebook is spoiled)
BREAKS = [
    ("is_valid", "duplicate id", set_id),
    ("is_valid", "no id", drop_id),
    ("is_valid", "old format", lambda nb: nb.update(nbformat_minor=4)),
    ("is_valid", "a key the format does not know", lambda nb: nb.cells[1].update(colour="red")),
    ("is_small", "2 MB", set_output(FIRST, stdout("x" * 2_000_000))),
    ("holds_no_widgets", "state", lambda nb: nb.metadata.update(widgets={})),
    ("holds_no_widgets", "view", set_output(FIRST, WIDGET)),
    ("asks_for_a_gpu", "none", lambda nb: nb.metadata.pop("kaggle")),
    ("asks_for_a_gpu", "a TPU", lambda nb: nb.metadata.update(accelerator="TPU")),
    ("ran_in_order", "a gap", lambda nb: nb.cells[FIRST].update(execution_count=2)),
    ("ran_in_order", "not run", lambda nb: nb.cells[FIRST].update(execution_count=None)),
    ("ran_without_errors", "an error", set_output(FIRST, ERROR)),
    ("ran_without_errors", "a warning", set_output(FIRST, stdout("UserWarning", name="stderr"))),
    ("ran_on_real_data", "no headline", set_tags(HEADLINE)),
    ("ran_on_real_data", "two headlines", set_tags(FIRST, "headline")),
    ("ran_on_real_data", "no line", set_output(HEADLINE, stdout("60.1 %\n"))),
    ("ran_on_real_data", "toy", set_output(HEADLINE, stdout("HEADLINE | toy shapes | 99 %\n"))),
    ("compares_only_what_stays", "a picture", set_output(FIRST, html(f'<img alt="{ALT}">'))),
    ("compares_only_what_stays", "a time", set_output(FIRST, stdout("epoch 1: 12.3 s\n"))),
    ("compares_only_what_stays", "a rate", set_output(FIRST, stdout("350 pictures/s\n"))),
    (
        "compares_only_what_stays",
        "a network",
        set_output(FIRST, stdout("(1): BatchNorm2d(64, eps=1e-05)\n")),
    ),
    ("compares_enough", "little", set_tags(FIRST, "nbval-ignore-output")),
    ("compares_enough", "by comment", add_source(FIRST, "\n# NBVAL_IGNORE_OUTPUT")),
    (
        "opens_with_title_and_badges",
        "another session",
        set_source(0, f"# Session 3\n{badges(MADE_UP.name)}"),
    ),
    (
        "opens_with_title_and_badges",
        "another notebook",
        set_source(0, f"# Session 2\n{badges('01_resnet_from_scratch.ipynb')}"),
    ),
    ("opens_with_title_and_badges", "another repository", change(0, REPOSITORY, "you/yours")),
    ("opens_with_title_and_badges", "code first", lambda nb: nb.cells.pop(0)),
    ("describes_its_pictures", "bare", set_output(SHOW, PICTURE)),
    ("describes_its_pictures", "no alt", set_output(SHOW, html('<img src="x">'))),
    ("describes_its_pictures", "a short alt", set_output(SHOW, html('<img alt="a plot" src="x">'))),
    ("describes_its_pictures", "markdown", set_source(LAST, "![](../figures/x.png)")),
    ("describes_its_pictures", "markdown html", set_source(LAST, '<img src="x.png">')),
    ("draws_the_numbers_of_runs", "typed", set_source(LAST, "It reaches 60.1 %.")),
    ("closes_its_details", "open", set_source(LAST, "<details><summary>Hint</summary>")),
    ("has_an_exercise", "none", set_source(STUBBED, "a = 1")),
    ("shows_its_solutions", "none", set_source(SOLVED, "see the library")),
    ("shows_its_solutions", "an unknown exercise", change(STUBBED, f'"{NAME}"', '"nothing"')),
    ("shows_its_solutions", "a wrong one", set_source(SOLVED, solution(WRONG + "\n"))),
    ("shows_its_solutions", "another docstring", change(SOLVED, DOCSTRING, "Another one.")),
    ("shows_its_solutions", "another signature", change(STUBBED, f"{NAME}(", f"{NAME}(x, ")),
    ("links_to_what_exists", "a file", set_source(LAST, "[next](99_nowhere.ipynb)")),
    ("links_to_what_exists", "an image", set_source(LAST, '<img alt="x" src="../figures/no.png">')),
    (
        "links_to_what_exists",
        "our own address",
        set_source(LAST, f"[lib](https://github.com/{REPOSITORY}/blob/main/course_lib/nowhere.py)"),
    ),
    ("names_no_machine_path", "source", add_source(FIRST, '\nopen("/home/me/x")')),
    ("names_no_machine_path", "output", set_output(FIRST, stdout("saved to /tmp/x.pt\n"))),
    ("names_no_machine_path", "markdown", set_source(LAST, r"C:\Users\me\data")),
    (
        "installs_no_requirements_file",
        "shell",
        add_source(FIRST, "\n!pip install -q -r requirements.txt"),
    ),
    (
        "installs_no_requirements_file",
        "call",
        add_source(FIRST, '\nrun(["pip", "install", "-r", "requirements.txt"])'),
    ),
    (
        "imports_what_exists",
        "a name",
        add_source(FIRST, "\nfrom course_lib.runtime import nothing"),
    ),
    ("imports_what_exists", "a module", add_source(FIRST, "\nimport course_lib.nowhere")),
    ("imports_what_exists", "not Python", add_source(FIRST, "\nfor x in")),
]


@pytest.mark.parametrize("name, case, spoil", BREAKS, ids=[f"{b[0]}-{b[1]}" for b in BREAKS])
def test_rule_refuses(good, name, case, spoil):
    spoil(good)
    (rule,) = (rule for rule in RULES if rule.__name__ == name)
    assert list(rule(good, MADE_UP))


def test_a_time_that_is_the_same_in_every_run_can_be_compared(good):
    good.cells[FIRST].update(outputs=[stdout("OneCycle peaks after 3 min\n")])
    good.cells[FIRST].metadata.tags = ["nbval-check-output"]
    (rule,) = (rule for rule in RULES if rule.__name__ == "compares_only_what_stays")
    assert not list(rule(good, MADE_UP))
