"""What another system would stumble over: text without encoding, signs, links, forked workers."""

import ast
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib import files
from course_lib.data import toy_shapes
from course_lib.data.loader import AlbumentationsLoader, _AugmentedBatches
from course_lib.data.pipelines import pad_crop_flip
from course_lib.exercises import exercise

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
CODE = [
    *sorted((ROOT / "course_lib").rglob("*.py")),
    *sorted((ROOT / "notebooks").glob("*.py")),
    *sorted((ROOT / "tests" / "platforms").glob("*.py")),
]


def sources():
    """(where, its code) of library, tools and notebook cells."""
    for path in CODE:
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for number, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                lines = [line for line in cell["source"] if not line.startswith(("!", "%"))]
                yield f"{path.name}, cell {number}", "".join(lines)


def calls(code):
    """(name, call) of every call, by its last name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
            yield name, node


# --- text -----------------------------------------------------------------------------------------


def opens_text_as_the_system_likes(name, call):
    """Whether Windows would read or write it as cp1252."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given or None in given:
        return False

    if name == "open" and isinstance(call.func, ast.Name):
        mode = call.args[1] if len(call.args) > 1 else given.get("mode")
        return not (isinstance(mode, ast.Constant) and "b" in mode.value)
    if name in ("run", "Popen", "check_output"):
        return "text" in given and "errors" not in given  # others print as the system likes
    return name in ("read_text", "write_text", "fdopen", "NamedTemporaryFile", "TextIOWrapper")


@pytest.mark.parametrize(
    "code, found",
    [
        ("open(path)", True),
        ('open(path, "w")', True),
        ('open(path, "rb")', False),
        ('open(path, mode="wb")', False),
        ('open(path, encoding="utf-8")', False),
        ("Image.open(path)", False),
        ("path.read_text()", True),
        ('path.write_text(text, encoding="utf-8")', False),
        ("subprocess.run(command, text=True)", True),
        ('subprocess.run(command, text=True, errors="replace")', False),
        ("subprocess.run(command)", False),
    ],
)
def test_text_without_its_encoding_is_found(code, found):
    assert any(opens_text_as_the_system_likes(*call) for call in calls(code)) is found


def test_every_text_is_read_and_written_with_its_encoding():
    faults = [
        f"{where}: line {call.lineno}, {name}"
        for where, code in sources()
        for name, call in calls(code)
        if opens_text_as_the_system_likes(name, call)
    ]
    assert faults == []


# --- signs ----------------------------------------------------------------------------------------


def test_a_tick_is_printed_where_windows_has_none(monkeypatch):
    written = io.BytesIO()  # stdout as Windows opens it where it is no console
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    with pytest.raises(UnicodeEncodeError):
        print("✓")

    exercise("standard_error", lambda values: float(np.std(values, ddof=1) / len(values) ** 0.5))
    sys.stdout.flush()
    assert "✓" in written.getvalue().decode("utf-8")


@pytest.mark.parametrize("module", ["train", "report", "publish", "localize", "data.links"])
def test_every_command_asks_for_utf_8_before_its_first_word(module):
    name = f"course_lib/{module.replace('.', '/')}"
    path = ROOT / f"{name}.py"
    path = path if path.exists() else ROOT / name / "__main__.py"

    code = path.read_text(encoding="utf-8")
    assert "sys.exit(main())" in code
    assert code.index("    speak_utf8()" if path.stem != "__main__" else "\nspeak_utf8()") < (
        code.index("sys.exit(main())")
    )


@pytest.mark.slow
def test_the_list_of_recipes_is_printed_into_a_windows_pipe():
    as_there = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "course_lib.train"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | as_there, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "tiny_imagenet" in done.stdout.decode("utf-8")


def test_streams_that_take_every_sign_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream := io.StringIO())
    files.speak_utf8()
    print("✓")
    assert stream.getvalue() == "✓\n"


def test_each_line_is_shown_when_it_is_printed_also_in_a_pipe(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))
    files.show_each_line()
    print("epoch 1")
    assert written.getvalue() == b"epoch 1" + os.linesep.encode()


# --- links, processes -----------------------------------------------------------------------------


def test_nothing_needs_links_or_forks():
    """Windows gives links to administrators alone, and forks nobody."""
    needed = {"symlink", "symlink_to", "hardlink_to", "link", "fork", "set_start_method", "mkfifo"}
    found = [(where, name) for where, code in sources() for name, _ in calls(code)]
    assert [fault for fault in found if fault[1] in needed] == []


def batches(loader):
    return [(images.clone(), labels.clone()) for images, labels in loader]


def same(one, other):
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


@pytest.fixture
def store():
    return toy_shapes("val", count=12, size=16)


def test_what_a_worker_is_sent_can_be_sent(store):
    """A worker that is not forked gets its data set and its first function as bytes."""
    dataset = _AugmentedBatches(store, pad_crop_flip(16), seed=1, epoch=2)
    sent = pickle.loads(pickle.dumps(dataset))
    rows = np.arange(4)
    assert same([dataset[rows]], [sent[rows]])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_give_the_same_pictures(store, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not here")

    def loader(workers):
        return AlbumentationsLoader(store, pad_crop_flip(16), 4, seed=3, workers=workers)

    expected = batches(loader(0))
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        assert same(batches(loader(2)), expected)
    finally:
        multiprocessing.set_start_method(before, force=True)
