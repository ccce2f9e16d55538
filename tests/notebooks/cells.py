"""The notebooks; their cells, found by a text in them, and what they define."""

import ast
from pathlib import Path

from rules import ROOT, read

from course_lib.exercises import EXERCISES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cell_with(text: str, notebook: Path) -> str:
    """The source of the one cell that holds this text."""
    (source,) = [cell.source for cell in read(notebook).cells if text in cell.source]
    return source


def definitions(notebook: Path, texts: tuple[str, ...], names: dict) -> dict:
    """The functions and classes of these cells, and no more of them, run among ``names``.

    The exercises stand for their references.
    """
    names = names | {name: task.reference for name, task in EXERCISES.items()}
    for text in texts:
        cell = ast.parse(cell_with(text, notebook))
        cell.body = [part for part in cell.body if isinstance(part, ast.FunctionDef | ast.ClassDef)]
        exec(compile(cell, text, "exec"), names)
    return names
