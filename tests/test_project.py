"""The house and its rooms: who imports whom and what is declared; make and README."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
LIBRARY = sorted((ROOT / "course_lib").rglob("*.py"))

# From the ground up. A room may import those of lower floors, and none of its own.
FLOORS = [
    {"addresses", "memory"},
    {"setup"},
    {"files"},
    {"checks", "runtime"},
    {"models"},
    {"data", "training", "explain"},
    {"experiments", "plots", "exercises"},
    {"train", "publish", "localize", "report"},
]
BELOW = {
    room: set().union(*FLOORS[:number]) for number, rooms in enumerate(FLOORS) for room in rooms
}

# A GPU machine without these can still train.
NOT_FOR_THE_CORE = [
    "albumentations",
    "cv2",
    "IPython",
    "matplotlib",
    "pytorch_grad_cam",
    "safetensors",
    "sklearn",
    "torch_lr_finder",
]
NEEDS_MORE = {"plots", "data.pipelines"}  # matplotlib, Albumentations

# What comes along with a requirement, by import name.
COMES_WITH = {
    "cv2": "albumentations",
    "sklearn": "grad-cam",
    "nbformat": "jupyter",
    "nbclient": "jupyter",
    "ipykernel": "jupyter",
    "jupyter_client": "jupyter",
    "jupyter_core": "jupyter",
    "IPython": "jupyter",
    "packaging": "pytest",
}


@cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Absolute dotted names of everything that the file imports, wherever in the file."""
    package = module_name(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


# --- rooms ----------------------------------------------------------------------------------------


def room_of(name):
    """``course_lib.data.store`` → ``data``; the package itself is in no room."""
    return (name.split(".") + [""])[1]


@pytest.mark.parametrize("path", LIBRARY, ids=module_name)
def test_a_room_imports_only_rooms_of_lower_floors(path):
    room = room_of(module_name(path))
    rooms = {room_of(name) for name in imports(path) if name.split(".")[0] == "course_lib"}
    rooms -= {"__version__"}  # of the package itself
    allowed = BELOW.get(room, set())
    assert rooms - {room} <= allowed, f"{room or 'the package'} may import {sorted(allowed)}"


def test_every_room_has_its_floor():
    assert {room_of(module_name(path)) for path in LIBRARY} == {"", *BELOW}


def test_the_core_imports_without_what_only_pictures_and_peers_need():
    modules = [path for path in LIBRARY if not path.stem.startswith("__")]
    names = [module_name(path).removeprefix("course_lib.") for path in modules]
    core = [name for name in names if not NEEDS_MORE & {name, name.split(".")[0]}]
    assert "train" in core and "data.loader" in core

    script = "\n".join(
        [
            "import importlib, sys",
            f"sys.modules.update(dict.fromkeys({NOT_FOR_THE_CORE}))",  # None: the import raises
            f"for name in {core}:",
            "    importlib.import_module(f'course_lib.{name}')",
        ]
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- requirements ---------------------------------------------------------------------------------


def requirements(name):
    """{name: Requirement} of a requirements file, with those of the files that it includes."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("-r "):
            found |= requirements(line[3:].strip())
        elif line:
            requirement = Requirement(line)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def test_the_package_asks_for_what_the_learner_has():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    learner = requirements("requirements.txt")
    for requirement in map(Requirement, project["dependencies"]):
        assert str(requirement) == str(learner[canonicalize_name(requirement.name)])


def test_a_filelock_that_dead_processes_go_on_holding_is_not_asked_for():
    """Up to 3.29 a forked worker inherits the lock of its parent, and outlives it."""
    asked = requirements("requirements.txt")["filelock"].specifier
    assert "3.29" not in asked and "3.31" in asked


@pytest.mark.parametrize(
    "folder, file",
    [
        ("course_lib", "requirements.txt"),
        ("notebooks", "requirements.txt"),
        ("tests", "requirements-dev.txt"),
    ],
)
def test_every_import_is_declared(folder, file):
    paths = sorted((ROOT / folder).rglob("*.py"))
    ours = {"course_lib", *(name for p in paths for name in (p.stem, p.parent.name))}
    names = {name.split(".")[0] for path in paths for name in imports(path)}
    declared, provided = set(requirements(file)), packages_distributions()
    for name in sorted(names - set(sys.stdlib_module_names) - ours):
        owners = {COMES_WITH.get(name), *provided.get(name, [name])} - {None}
        assert {canonicalize_name(owner) for owner in owners} & declared, f"{name}: not in {file}"


# --- make and README ------------------------------------------------------------------------------

TARGETS = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()


def test_readme_names_the_make_targets_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", readme, re.DOTALL))
    named = set(re.findall(r"\bmake ([a-z]+)\b", code))
    assert named <= set(TARGETS), f"no such target: {named - set(TARGETS)}"
    assert {"run", "test", "lab", "bench"} <= named
    assert "notebooks/run.py" in code, "the plain command, for machines without make"


def test_the_code_in_readme_trains():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(source, shown := {})
    assert len(shown["history"]) == 2 and shown["history"].last["train_loss"] > 0


def test_readme_sends_nobody_to_a_file_that_is_not_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", readme)
    assert targets and [target for target in targets if not (ROOT / target).exists()] == []


def test_readme_counts_the_exercises_and_gives_the_hours_of_each_plan():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    hours = re.findall(r"^\| \[\d · .*? \| (\d)([½¾]?) \| \[!\[", readme, re.MULTILINE)
    pages = [path.read_text(encoding="utf-8") for path in NOTEBOOKS]

    exercises = sum(len(re.findall(r'= exercise\(\\"', page)) for page in pages)
    assert f"{exercises} exercises" in readme

    for (whole, part), page in zip(hours, pages, strict=True):
        said = 60 * (int(whole) + {"": 0, "½": 0.5, "¾": 0.75}[part])
        minutes = re.search(r"\| together \| \d+ \| (\d+) \|", page)
        planned = int(minutes[1]) if minutes else 300  # session 1: about five hours
        assert abs(said - planned) <= 15 and (minutes or "about five hours" in page)


def test_the_page_of_weights_has_a_row_for_each_card():
    page = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| `"(\w+)", weights="(\w+)"` \| .*?, (\d+) px \| (.*?) % ', page, re.M)

    cards = [json.loads(path.read_text()) for path in (ROOT / "data" / "weights").glob("*.json")]
    found = {
        (card["model"], card["dataset"].lower(), str(card["picture_size"])): card for card in cards
    }
    assert {row[:3] for row in rows} == set(found)
    for *name, top1 in rows:
        assert top1 == f"{100 * found[tuple(name)]['official_top1']:.1f}"


FAKE = """#!/bin/sh
case "$*" in *"$REFUSE"*) [ -n "$REFUSE" ] && exit 1;; esac
echo "$*" >> log
"""
needs_make = pytest.mark.skipif(not shutil.which("make") or os.name == "nt", reason="needs make")


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose path has a space, with an environment that only writes down its orders."""
    folder = tmp_path / "my course"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(FAKE)
    python.chmod(0o755)

    def make(*arguments, refuse=""):
        """(exit code, what the environment's Python was asked to do, everything printed)."""
        (folder / "log").unlink(missing_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(
            ["make", *arguments],
            cwd=folder,
            text=True,
            capture_output=True,
            env=environment | {"REFUSE": refuse},
        )
        log = (folder / "log").read_text() if (folder / "log").exists() else ""
        return done.returncode, log, done.stdout + done.stderr

    make.folder = folder
    return make


@needs_make
def test_make_installs_once_and_again_when_requirements_change(checkout):
    code, log, _ = checkout("run", "NOTEBOOK=02", "PROFILE=cpu")
    assert code == 0
    assert "pip install -r requirements.txt\n" in log
    assert log.endswith("notebooks/run.py --profile cpu --notebook 02\n")
    assert "install" not in checkout("run")[1]

    later = (checkout.folder / ".venv" / "run.stamp").stat().st_mtime + 10
    os.utime(checkout.folder / "requirements.txt", (later, later))
    assert "install" in checkout("lab")[1]


@needs_make
@pytest.mark.parametrize("target", ["run", "test"])
def test_a_failed_install_is_tried_again(checkout, target):
    code, log, _ = checkout(target, refuse="install -r")
    assert code != 0 and "notebooks" not in log
    code, log, _ = checkout(target)
    assert code == 0 and "install -r" in log


@needs_make
def test_make_test_lints_then_tests_and_compares_the_notebooks_at_once(checkout):
    log = checkout("test")[1]
    names = ("requirements-dev.txt", "ruff check", "ruff format --check")
    steps = [log.index(name) for name in names]
    assert steps == sorted(steps)
    assert all(steps[-1] < log.index(name) for name in ("tests/bench", "--nbval"))


@needs_make
def test_readme_gives_the_plain_commands_that_make_runs(checkout):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `make ([^`]+)` \| (.*) \|$", readme, re.MULTILINE)
    assert {"run", "test", "lab", "bench"} <= {target for target, _ in rows}
    for target, plain in rows:
        log = checkout(*target.split())[1].replace(" --allow-root", "").splitlines()
        orders = [f"python {line}" for line in log if not line.startswith(("-c ", "-m pip "))]
        assert sorted(re.findall(r"`([^`]+)`", plain)) == sorted(orders)


@needs_make
def test_the_executed_notebooks_go_where_they_are_wanted(checkout):
    """Out of a checkout that cannot be written, into a folder with a space in its name."""
    log = checkout("run", "OUT=/tmp/my folder")[1]
    assert log.endswith("notebooks/run.py --out /tmp/my folder\n")


@needs_make
def test_the_links_are_asked_with_what_a_learner_has(checkout):
    log = checkout("links")[1]
    assert "install -r requirements.txt" in log and log.endswith("-m course_lib.data.links\n")


def test_systems_without_make_are_tested_with_the_plain_commands_of_readme():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "windows-latest" in workflow and "macos-latest" in workflow

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in ("run", "test"):
        (plain,) = re.findall(rf"^\| `make {target}` \| (.*) \|$", readme, re.MULTILINE)
        for command in re.findall(r"`([^`]+)`", plain):
            assert "ruff" in command or f"- run: {command}\n" in workflow, command


@needs_make
def test_make_stops_at_the_first_failing_step(checkout):
    code, log, _ = checkout("test", refuse="ruff check")
    assert code != 0 and "pytest" not in log


@needs_make
def test_a_python_that_is_too_old_or_too_new_is_named(checkout, tmp_path):
    unfit = tmp_path / "python3.9"
    unfit.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\n[ -z "$2" ]\n')
    unfit.chmod(0o755)
    shutil.rmtree(checkout.folder / ".venv")
    code, _, text = checkout("run", f"PYTHON={unfit}")
    assert code != 0 and "needs Python 3.11 to 3.14" in text and "this is Python 3.9.2" in text
    for condition in set(
        re.findall(r"sys.exit\((.*?)\)['\n]", (ROOT / "Makefile").read_text(encoding="utf-8"))
    ):
        for version, refused in {
            (3, 10, 9): True,
            (3, 11, 0): False,
            (3, 14, 2): False,
            (3, 15, 0): True,
        }.items():
            assert eval(condition, {"sys": SimpleNamespace(version_info=version)}) is refused
    code, _, text = checkout("run", "PYTHON=no-such-python")
    assert code != 0 and "No Python at 'no-such-python'" in text
