"""What is alike in all notebooks."""

import ast
import importlib
import inspect
import re

import pytest
from cells import NOTEBOOKS, cell_with
from rules import SOLUTION, markdown, read

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def session_of(notebook):
    """The module of its exercises."""
    return importlib.import_module(f"course_lib.exercises.session{int(notebook.stem[:2])}")


@each_notebook
def test_set_up_is_the_same_in_every_session(notebook):
    assert cell_with("find_spec", notebook) == cell_with("find_spec", NOTEBOOKS[0])


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
