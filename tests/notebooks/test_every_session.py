"""What is alike in all notebooks."""

import ast
import importlib
import inspect
import re

import pytest
from cells import NOTEBOOKS, cell_with
from rules import SOLUTION, markdown, read

from course_lib import setup

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def session_of(notebook):
    """The module of its exercises."""
    return importlib.import_module(f"course_lib.exercises.session{int(notebook.stem[:2])}")


SET_UP = "ADDRESS, TAG"
EXTRAS = {"torch_lr_finder": "torch-lr-finder", "pytorch_grad_cam": "grad-cam"}


@each_notebook
def test_set_up_is_the_same_in_every_session_but_for_the_packages_it_compares_with(notebook):
    start, _, asked = cell_with(SET_UP, notebook).rpartition("prepare(TAG")
    assert start == cell_with(SET_UP, NOTEBOOKS[0]).rpartition("prepare(TAG")[0]
    assert set(re.findall(r'"([^"]+)"', asked)) <= set(setup.EXTRAS)


@each_notebook
def test_what_to_do_where_the_set_up_stops_is_the_same_in_every_session(notebook):
    def cures(path):
        return re.search(
            r"<summary>If this cell stops.*?</details>", markdown(read(path)), re.DOTALL
        )[0]

    assert cures(notebook) == cures(NOTEBOOKS[0])


@each_notebook
def test_no_picture_lies_in_a_file_beside_the_notebook(notebook):
    """Alone on Colab there is none, and an executed copy has gone elsewhere."""
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown(read(notebook)))
    assert [link for link in links if not link.startswith("https://")] == []


@each_notebook
def test_cells_that_compare_with_a_package_are_left_out_where_it_is_not_there(notebook):
    """Each says so in its first line, the set-up cell asks for the package."""
    names = {}  # what was imported from a package: the package
    for cell in read(notebook).cells:
        if cell.cell_type != "code":
            continue

        tree = ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", cell.source, flags=re.MULTILINE))
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in EXTRAS:
                package = EXTRAS[node.module.split(".")[0]]
                names |= {alias.asname or alias.name: package for alias in node.names}
                assert f'"{package}"' in cell_with(SET_UP, notebook)
                assert cell.source.startswith(f"# needs {package}\n"), cell.source

        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        for package in {names[name] for name in used & set(names)}:
            assert cell.source.startswith(f"# needs {package}\n"), cell.source


@each_notebook
def test_where_smoke_is_offered_toy_shapes_are_named(notebook):
    (offer,) = [c.source for c in read(notebook).cells if "COURSE_PROFILE=smoke" in c.source]
    assert "toy shapes" in offer and "never downloads" in offer


@each_notebook
def test_each_exercise_of_the_session_stands_in_the_notebook_once_in_order(notebook):
    called = re.findall(r'= exercise\("(\w+)"', "\n".join(c.source for c in read(notebook).cells))
    assert called == [task.name for task in session_of(notebook).EXERCISES]


@each_notebook
def test_the_solutions_shown_are_those_of_the_library(notebook):
    """Word for word, so that what is read is what the checker holds answers against."""
    for source in SOLUTION.findall(markdown(read(notebook))):
        (definition,) = ast.parse(source).body
        reference = getattr(session_of(notebook), definition.name)
        theirs = ast.parse(inspect.getsource(reference)).body[0]
        assert ast.dump(definition) == ast.dump(theirs), definition.name
