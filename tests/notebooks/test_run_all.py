"""Every notebook reaches its end, whatever became of its exercises: not attempted, right, wrong."""

import ast
import re
from itertools import pairwise

import nbformat.v4 as v4
import pytest
from cells import NOTEBOOKS
from rules import SOLUTION, code_cells, output_texts, read
from runner import run

CALL = re.compile(r'^(\w+) = exercise\("(\w+)", \w+\)$', re.MULTILINE)

SAID = {"not attempted": "not attempted yet", "right": ": right.", "wrong": ": wrong, so"}


def exercises(notebook):
    """(cell, key) of every exercise, in order."""
    found = [(cell, CALL.search(cell.source)) for _, cell in code_cells(notebook)]
    return [(cell, call[2]) for cell, call in found if call]


def solve(notebook):
    """The solution that stands below each exercise takes the place of its stub."""
    for cell, below in pairwise(notebook.cells):
        call = CALL.search(cell.source) if cell.cell_type == "code" else None
        if call:
            cell.source = f"{SOLUTION.search(below.source)[1]}\n\n{call[0]}"


def spoil(notebook):
    """Every function returns a word, and every module what it is given."""
    for cell, _ in exercises(notebook):
        definition, call = ast.parse(cell.source).body

        if isinstance(definition, ast.ClassDef):
            for method in definition.body[1:]:
                is_init = method.name == "__init__"
                method.body = ast.parse("super().__init__()" if is_init else "return x").body
        else:
            definition.body = [definition.body[0], *ast.parse("return 'wrong'").body]
        cell.source = f"{ast.unparse(definition)}\n\n\n{ast.unparse(call)}".replace("'", '"')


CHANGES = {"not attempted": lambda notebook: None, "right": solve, "wrong": spoil}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("became", CHANGES)
def test_the_changes_reach_every_exercise(path, became):
    notebook = read(path)
    before = [cell.source for cell, _ in exercises(notebook)]

    CHANGES[became](notebook)
    after = [cell.source for cell, _ in exercises(notebook)]

    assert before and len(after) == len(before)
    same = [one == other for one, other in zip(before, after, strict=True)]
    assert all(same) if became == "not attempted" else not any(same)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("became", CHANGES)
def test_run_all_reaches_the_end_and_says_which(path, became, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))  # toy shapes: no data, no network
    notebook = read(path)
    CHANGES[became](notebook)

    assert run.execute(notebook, path.parent, "smoke") is None
    assert run.headline(notebook) != run.NO_HEADLINE

    for cell, key in exercises(notebook):
        said = "".join(output_texts(v4.new_code_cell(outputs=cell.outputs)))
        assert key in said and SAID[became] in said, f"{key}: {said}"
